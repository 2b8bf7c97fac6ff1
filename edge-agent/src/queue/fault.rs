//! The steps at which a disk may fail or a process may die, by name.
//!
//! In the product a step is nothing. In tests a hook of the thread sees each one: it fails it, or copies
//! the directory as a crash at that moment would leave it.

#[cfg(not(test))]
use std::io;

#[cfg(not(test))]
#[inline]
#[expect(clippy::unnecessary_wraps, reason = "the tests' twin fails")]
pub fn step(_name: &'static str) -> io::Result<()> {
    Ok(())
}

/// Whether work of other threads is done by this one, so that its hook sees those steps as well.
#[cfg(not(test))]
pub const fn single_threaded() -> bool {
    false
}

#[cfg(test)]
pub use hooked::{set, single_threaded, step};

#[cfg(test)]
mod hooked {
    use std::{cell::RefCell, io};

    pub type Hook = Box<dyn FnMut(&'static str) -> io::Result<()>>;

    thread_local! {
        static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
    }

    pub fn step(name: &'static str) -> io::Result<()> {
        // Taken out while it runs, so that a hook may open queues itself.
        let Some(mut hook) = HOOK.with_borrow_mut(Option::take) else {
            return Ok(());
        };
        let result = hook(name);
        HOOK.with_borrow_mut(|place| *place = Some(hook));
        result
    }

    pub fn single_threaded() -> bool {
        HOOK.with_borrow(Option::is_some)
    }

    pub fn set(hook: Option<Hook>) {
        HOOK.with_borrow_mut(|place| *place = hook);
    }
}
