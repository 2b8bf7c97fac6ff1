//! Calls into sled, whose errors and panics become answers.
//!
//! On a disk that fails, or from damage, sled may panic on the thread that asked. That is an answer like any other:
//! it is told with its words, by whoever asked. The process' panic hook has no part in it: it would print a panic that
//! nobody has to see to, and where `RUST_BACKTRACE` is set, what it reads of the program for that stays in memory for
//! good.

use std::{
    cell::Cell,
    io,
    panic::{self, AssertUnwindSafe, catch_unwind},
    sync::{
        Once,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use super::segment::SegmentError;
use crate::stage;

thread_local! {
    /// This thread is within a call whose panic is an answer.
    static IS_ASKING: Cell<bool> = const { Cell::new(false) };
}

/// Whether sled works in this process; after a panic on one of its threads it does not, for good.
static IS_BROKEN: AtomicBool = AtomicBool::new(false);

/// Whether only a new process can open segments.
pub(super) fn is_broken() -> bool {
    IS_BROKEN.load(Ordering::Acquire)
}

/// Turns sled's errors and panics into ours.
pub(super) fn caught<T>(call: impl FnOnce() -> sled::Result<T>) -> Result<T, SegmentError> {
    match quietly(call) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(judged(error)).inspect_err(|error| {
            if matches!(error, SegmentError::Broken) {
                IS_BROKEN.store(true, Ordering::Release);
            }
        }),
        Err(panic) => {
            let said = stage::said(&*panic);
            Err(SegmentError::Damaged(format!("the store panicked: {said}")))
        }
    }
}

/// What a call returns, or its panic, of which the panic hook hears nothing.
pub(super) fn quietly<T>(call: impl FnOnce() -> T) -> thread::Result<T> {
    static HOOK: Once = Once::new();
    // Whoever panics already may not change the hook; the panic of its destructor is then printed.
    if !thread::panicking() {
        HOOK.call_once(|| {
            let others = panic::take_hook();
            panic::set_hook(Box::new(move |panic| {
                if !IS_ASKING.get() {
                    others(panic);
                }
            }));
        });
    }
    let before = IS_ASKING.replace(true);
    let done = catch_unwind(AssertUnwindSafe(call));
    IS_ASKING.set(before);
    done
}

/// What an error of sled's says of the segment.
pub(super) fn judged(error: sled::Error) -> SegmentError {
    match error {
        sled::Error::Io(error) => match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::NotFound => {
                SegmentError::Damaged(error.to_string())
            }
            // The card cannot read this place: damage like any other.
            _ if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
                SegmentError::Damaged(error.to_string())
            }
            _ => SegmentError::Io(error),
        },
        // Its threads panic where a file that is closed cannot be synced.
        sled::Error::ReportableBug(what)
            if what.starts_with("IO thread") || what.starts_with("threadpool") =>
        {
            SegmentError::Broken
        }
        error => SegmentError::Damaged(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::{env, fs, process::Command, thread};

    use super::caught;

    const NAME: &str =
        "queue::caught::tests::a_panic_of_the_store_is_an_answer_and_nobody_else_hears_of_it";
    const IS_ALONE: &str = "A_STORE_PANICS_HERE";

    fn peak_kib() -> u64 {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|rest| rest.split_whitespace().next());
        kib.unwrap().parse().unwrap()
    }

    #[test]
    fn a_panic_of_the_store_is_an_answer_and_nobody_else_hears_of_it() {
        if env::var_os(IS_ALONE).is_none() {
            // The hook and the memory are a process', so it has one of its own.
            let done = Command::new(env::current_exe().unwrap())
                .args(["--exact", NAME, "--nocapture"])
                .envs([(IS_ALONE, "1"), ("RUST_BACKTRACE", "1")])
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&done.stderr);
            assert!(done.status.success(), "{said}");
            assert!(!said.contains("as sled may"), "{said}");
            assert!(said.contains("by a mistake of ours"), "{said}");
            return;
        }
        let before = peak_kib();
        let answer = caught::<()>(|| panic!("as sled may")).unwrap_err();
        assert!(answer.to_string().ends_with("panicked: as sled may"));
        // A backtrace of an unoptimised program takes 70 MiB and more.
        let grown = peak_kib() - before;
        assert!(grown < 16 << 10, "{grown} KiB more");
        let ours = thread::spawn(|| panic!("by a mistake of ours"));
        ours.join().unwrap_err();
    }
}
