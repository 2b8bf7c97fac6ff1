# Sourced by the scripts beside it: makes sure of the programs they call.

# need PROGRAM PACKAGE…   the program must be on the PATH (or in /usr/sbin); else the packages bring it
# need_install            installs what the calls before found missing, or says exactly what to type
missing=()

need() {
    local program=$1
    shift
    command -v "$program" >/dev/null || [ -x "/usr/sbin/$program" ] || missing+=("$@")
}

# want PROGRAM PACKAGE…   as need, but tests do without it and say so: installed where that takes no question
want() {
    if [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; then
        need "$@"
    fi
}

need_rust() {
    export PATH="$HOME/.cargo/bin:$PATH"
    if ! command -v cargo >/dev/null; then
        echo "cargo is missing; install Rust with rustup (https://rustup.rs), then run this again" >&2
        exit 69
    fi
}

# What librdkafka and OpenSSL are compiled with.
need_compiler() {
    need cc build-essential
    need c++ build-essential
    need make build-essential
    need perl perl
}

# What the server with real time series is compiled with, once. Without it its tests are skipped and say so,
# so it is installed where that is possible without a question, and not asked for elsewhere.
want_series() {
    local cache="${STACK_CACHE:-${CARGO_TARGET_DIR:-target}/stack/cache}" wanted=()
    ls "$cache"/secantus-mdb-*/complete >/dev/null 2>&1 && return 0
    command -v mongod >/dev/null && return 0
    command -v cmake >/dev/null || wanted+=(cmake)
    command -v ninja >/dev/null || wanted+=(ninja-build)
    ls /usr/lib/llvm-*/lib/libclang*.so* >/dev/null 2>&1 || wanted+=(libclang-dev)
    if [ ${#wanted[@]} -gt 0 ] && { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }; then
        missing+=("${wanted[@]}")
    fi
}

# The browser that looks at the status pages. Without it its tests are skipped and say so, as above.
want_browser() {
    local name
    for name in chromium chromium-browser google-chrome; do
        command -v "$name" >/dev/null && return 0
    done
    if [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; then
        missing+=(chromium)
    fi
}

# A Python that can make virtual environments; Debian splits it in two.
need_venv() {
    python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3 python3-venv)
}

need_install() {
    [ ${#missing[@]} -gt 0 ] || return 0
    local install="apt-get install -y --no-install-recommends ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    if [ "$(id -u)" = 0 ]; then
        echo "installing ${missing[*]}" >&2
        apt-get update -qq >&2 && $install -qq >&2
    elif sudo -n true 2>/dev/null; then
        echo "installing ${missing[*]}" >&2
        sudo apt-get update -qq >&2 && sudo DEBIAN_FRONTEND=noninteractive $install -qq >&2
    else
        echo "missing: ${missing[*]}; type: sudo $install" >&2
        exit 69
    fi
    missing=()
}
