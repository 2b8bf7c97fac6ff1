//! `c/edge_frame.h` says and understands the same bytes as this crate.

use std::{
    fmt::Write as _,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::LazyLock,
};

use proptest::{
    prelude::RngCore,
    test_runner::{RngAlgorithm, TestRng},
};
use protocol::{
    Value,
    frame::{Frame, FrameTime, Verdict},
};

use crate::{
    hex::{bytes, hex},
    vectors::{VECTORS, decode, name_of},
};

const C: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/c");

/// Runs the C compiler; that there is none is a failure with its remedy, never a test that did not run.
pub fn compile(arguments: &[&str], source: &Path, output: &str) -> PathBuf {
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    let output = Path::new(env!("CARGO_TARGET_TMPDIR")).join(output);
    // CC may bring arguments of its own, such as `ccache gcc`.
    let mut words = compiler.split_whitespace();
    let done = Command::new(words.next().unwrap_or("cc"))
        .args(words)
        .args([
            "-std=c99",
            "-pedantic",
            "-Wall",
            "-Wextra",
            "-Wconversion",
            "-Werror",
            "-Os",
            "-I",
            C,
        ])
        .args(arguments)
        .arg("-o")
        .args([&output, source])
        .output()
        .unwrap_or_else(|error| {
            panic!("no C compiler `{compiler}` ({error}); install one: apt install gcc, or set CC")
        });
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{compiler} {source:?}: {said}");
    output
}

static DRIVER: LazyLock<PathBuf> = LazyLock::new(|| {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/v1/driver.c");
    compile(&[], Path::new(source), "edge_frame_driver")
});

/// Gives `input` to the driver; returns the lines it prints.
fn drive(mode: &str, capacity: usize, input: Vec<u8>) -> Vec<String> {
    let mut driver = Command::new(&*DRIVER)
        .args([mode, &capacity.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = driver.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let done = driver.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(done.status.success());
    let text = String::from_utf8(done.stdout).unwrap();
    text.lines().map(Into::into).collect()
}

fn word(text: &str) -> String {
    format!("x{}", hex(text.as_bytes()))
}

/// The driver's command for a message; none for what a device never sends.
fn command(frame: &Frame) -> Option<String> {
    Some(match frame {
        Frame::Hello(hello) => format!(
            "hello {} {} {} {} {} {}",
            word(&hello.device),
            word(&hello.model),
            word(&hello.firmware),
            hello.boot,
            hello.time_us.unwrap_or(0),
            u8::from(hello.reply)
        ),
        Frame::Status(status) => format!(
            "status {} {} {} {}",
            status.boot,
            status.uptime_ms,
            status.dropped,
            word(&status.text)
        ),
        Frame::Reading(reading) => {
            let (kind, time) = match reading.time {
                FrameTime::Arrival => (0, 0),
                FrameTime::Unix(us) => (1, us),
                FrameTime::Age(ms) => (2, ms.into()),
            };
            let mut line = format!(
                "reading {} {} {kind} {time} {}",
                reading.boot,
                reading.sequence,
                reading.fields.len()
            );
            for (name, value) in &reading.fields {
                let (kind, value) = match value {
                    Value::Float(number) => ('f', format!("{:x}", number.to_bits())),
                    Value::Int(number) => ('i', number.to_string()),
                    Value::Bool(state) => ('b', u8::from(*state).to_string()),
                    Value::Text(text) => ('t', word(text)),
                };
                write!(line, " {} {kind} {value}", word(name)).unwrap();
            }
            line
        }
        Frame::Ack(_) => return None,
    })
}

/// What the driver prints for what a zero completes.
fn printed(outcome: &Result<Frame, protocol::frame::FrameError>) -> String {
    let body = |frame: &Frame, kind| {
        let mut line = Vec::new();
        frame.encode(&mut line).unwrap();
        let plain = cobs::decode_vec(&line[1..line.len() - 1]).unwrap();
        format!("kind {kind} x{}", hex(&plain[2..plain.len() - 4]))
    };
    match outcome {
        Ok(Frame::Hello(hello)) => format!(
            "hello {} {} {} {} {}:{} {}",
            word(&hello.device),
            word(&hello.model),
            word(&hello.firmware),
            hello.boot,
            u8::from(hello.time_us.is_some()),
            hello.time_us.unwrap_or(0),
            u8::from(hello.reply)
        ),
        Ok(Frame::Ack(ack)) => format!(
            "ack {} {} {}",
            ack.boot,
            ack.sequence,
            u8::from(ack.verdict == Verdict::Rejected)
        ),
        Ok(frame @ Frame::Reading(_)) => body(frame, 2),
        Ok(frame @ Frame::Status(_)) => body(frame, 4),
        Err(error) => name_of(error).into(),
    }
}

#[test]
fn the_header_stands_alone_without_a_library() {
    let source = Path::new(env!("CARGO_TARGET_TMPDIR")).join("alone.c");
    std::fs::write(&source, "#include \"edge_frame.h\"\n").unwrap();
    compile(&["-ffreestanding", "-c"], &source, "alone.o");
}

/// What a compiler may ask of a library by itself, also of a freestanding program: C99 has no say in it.
const MEMORY: [&str; 3] = ["memcpy", "memset", "memmove"];

#[test]
fn no_function_of_the_header_calls_anything_but_memcpy_and_its_like() {
    let header = std::fs::read_to_string(Path::new(C).join("edge_frame.h")).unwrap();
    let functions: Vec<&str> = header
        .lines()
        .filter_map(|line| line.strip_prefix("static inline ")?.split('(').next())
        .filter_map(|declared| declared.rsplit([' ', '*']).next())
        .collect();
    assert!(functions.len() > 20, "{functions:?}");
    // Functions that nobody calls would not be compiled.
    let mut text = String::from("#include \"edge_frame.h\"\nextern void (*const all[])(void);\n");
    text += "void (*const all[])(void) = {\n";
    for function in &functions {
        writeln!(text, "    (void (*)(void)){function},").unwrap();
    }
    text += "};\n";
    let source = Path::new(env!("CARGO_TARGET_TMPDIR")).join("all.c");
    std::fs::write(&source, text).unwrap();
    let object = compile(
        &["-ffreestanding", "-fno-stack-protector", "-c"],
        &source,
        "all.o",
    );
    let symbols = Command::new("nm").arg("-u").arg(object).output().unwrap();
    assert!(symbols.status.success());
    let symbols = String::from_utf8(symbols.stdout).unwrap();
    let called: Vec<&str> = symbols
        .lines()
        .filter_map(|line| line.split_whitespace().next_back())
        .filter(|name| !MEMORY.contains(name) && *name != "_GLOBAL_OFFSET_TABLE_")
        .collect();
    assert!(called.is_empty(), "{called:?}");
}

#[test]
fn the_header_encodes_the_vectors_byte_by_byte() {
    let (commands, frames): (Vec<_>, Vec<_>) = VECTORS
        .valid
        .iter()
        .filter_map(|valid| Some((command(&valid.message())?, &valid.frame)))
        .unzip();
    let input = commands.join("\n") + "\n";
    // A buffer that is too small is an error, and one that is just large enough is not.
    for capacity in (0..300).chain(1020..1032) {
        let lines = drive("encode", capacity, input.clone().into_bytes());
        assert_eq!(lines.len(), frames.len());
        for (line, frame) in lines.iter().zip(&frames) {
            let fits = frame.len() / 2 <= capacity;
            assert_eq!(line, if fits { frame.as_str() } else { "-" }, "{capacity}");
        }
    }
}

#[test]
fn the_header_refuses_a_frame_beyond_the_bound() {
    let Frame::Reading(mut reading) = VECTORS.valid("reading-largest").message() else {
        panic!("no reading");
    };
    reading.fields[0].0.push('x');
    let input = command(&Frame::Reading(reading)).unwrap() + "\n";
    assert_eq!(drive("encode", 1090, input.into_bytes()), ["-"]);
}

#[test]
fn the_header_understands_the_vectors() {
    let mut line = Vec::new();
    let mut expected = Vec::new();
    for valid in &VECTORS.valid {
        line.extend(bytes(&valid.frame));
        expected.push(printed(&Ok(valid.message())));
    }
    for stream in &VECTORS.streams {
        let stream = bytes(&stream.bytes);
        expected.extend(decode(&stream).iter().map(printed));
        line.extend(stream);
    }
    for invalid in &VECTORS.invalid {
        // The header leaves it to the device whether a text is UTF-8, and passes unknown kinds on.
        if invalid.name == "text-not-utf8" {
            continue;
        }
        line.extend(bytes(&invalid.frame));
        expected.push(match invalid.error.as_str() {
            "unknown_kind" => "kind 9 x".to_owned() + &hex(&unknown_body(&invalid.frame)),
            error => error.into(),
        });
    }
    assert_eq!(drive("decode", 1024, line), expected);
}

fn unknown_body(frame: &str) -> Vec<u8> {
    let line = bytes(frame);
    let plain = cobs::decode_vec(&line[1..line.len() - 1]).unwrap();
    plain[2..plain.len() - 4].to_vec()
}

/// Two receivers may differ in which of two true reasons they give for a frame that is both cut and too long.
fn reasons_joined(lines: Vec<String>) -> Vec<String> {
    lines
        .into_iter()
        .map(|line| {
            if line == "too_long" {
                "cobs".into()
            } else {
                line
            }
        })
        .collect()
}

#[test]
fn the_header_and_this_crate_agree_on_damaged_streams() {
    let mut rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut below = |bound: usize| usize::try_from(rng.next_u64() % bound as u64).unwrap();
    let mut line = Vec::new();
    for _ in 0..5000 {
        let mut frame = bytes(&VECTORS.valid[below(VECTORS.valid.len())].frame);
        for _ in 0..below(3) {
            let at = below(frame.len());
            match below(4) {
                0 => frame[at] ^= 1 << below(8),
                1 => drop(frame.remove(at)),
                2 => frame.insert(at, u8::try_from(below(256)).unwrap()),
                _ => frame.truncate(at.max(1)),
            }
        }
        line.extend(frame);
    }
    let expected: Vec<_> = decode(&line).iter().map(printed).collect();
    assert!(
        expected
            .iter()
            .filter(|line| line.starts_with("ack"))
            .count()
            > 200
    );
    let said = drive("decode", 1024, line.clone());
    assert_eq!(reasons_joined(said), reasons_joined(expected.clone()));

    // A device with a small buffer misses what is larger, and nothing else.
    let acks = |lines: Vec<String>| -> Vec<String> {
        lines
            .into_iter()
            .filter(|line| line.starts_with("ack"))
            .collect()
    };
    assert_eq!(acks(drive("decode", 24, line)), acks(expected));
}
