//! Ctrl-C as a question to ask, so that what was started is ended in order.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use anyhow::Result;
use tokio::signal::unix::{SignalKind, signal};

/// Whether SIGINT or SIGTERM came since.
#[derive(Debug, Clone)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From now on neither ends this process by itself.
    ///
    /// # Errors
    /// No handler can be set.
    pub fn catch() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let interrupt = Self(Arc::default());
        let (mut int, mut term) = runtime.block_on(async {
            anyhow::Ok((
                signal(SignalKind::interrupt())?,
                signal(SignalKind::terminate())?,
            ))
        })?;
        let came = Arc::clone(&interrupt.0);
        std::thread::Builder::new()
            .name("interrupt".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! { _ = int.recv() => {} _ = term.recv() => {} }
                });
                came.store(true, Ordering::Relaxed);
            })?;
        Ok(interrupt)
    }

    /// Whether it came.
    #[must_use]
    pub fn came(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
