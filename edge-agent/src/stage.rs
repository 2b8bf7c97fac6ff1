//! Stages: the threads of the pipeline, of which none may end unnoticed (invariant 9). That none stands still
//! is the matter of [`protocol_host::supervisor`].

use std::{
    any::Any,
    future::{Future, poll_fn},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    thread::{self, Thread},
    time::Instant,
};

use tokio::sync::oneshot;

/// A running stage. Whoever holds it learns when the thread ends, and how.
#[derive(Debug)]
pub struct Stage {
    name: String,
    thread: Thread,
    stop: Stop,
    ended: oneshot::Receiver<Result<(), String>>,
}

/// Asked to end by a moment; shared with the thread.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<OnceLock<Instant>>);

impl Stop {
    /// By when the stage must have ended, once it was asked to.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.0.get().copied()
    }
}

impl Stage {
    /// Runs `body` on a thread of its own.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn spawn(
        name: &str,
        body: impl FnOnce(Stop) -> Result<(), String> + Send + 'static,
    ) -> io::Result<Self> {
        let (tell, ended) = oneshot::channel();
        let stop = Stop::default();
        let asked = stop.clone();
        let handle = thread::Builder::new().name(name.into()).spawn(move || {
            let result = catch_unwind(AssertUnwindSafe(|| body(asked)))
                .unwrap_or_else(|panic| Err(format!("panicked: {}", said(&*panic))));
            // Nobody listens any more: the process is already going down.
            drop(tell.send(result));
        })?;
        Ok(Self {
            name: name.into(),
            thread: handle.thread().clone(),
            stop,
            ended,
        })
    }

    /// For logs and the exit message.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Asks the stage to finish what it has and end by `deadline`. The first word counts.
    pub fn stop(&self, deadline: Instant) {
        if self.stop.0.set(deadline).is_ok() {
            self.thread.unpark();
        }
    }

    /// Resolves when the thread has ended; before [`Stage::stop`] that is always a failure.
    /// Cancel safe; not to be called again after it resolved.
    ///
    /// # Errors
    /// What ended it, or the message of its panic.
    pub async fn ended(&mut self) -> Result<(), String> {
        poll_fn(|context| self.poll_ended(context)).await
    }

    fn poll_ended(&mut self, context: &mut Context<'_>) -> Poll<Result<(), String>> {
        Pin::new(&mut self.ended)
            .poll(context)
            .map(|end| match end {
                Ok(Ok(())) if self.stop.deadline().is_none() => {
                    Err("ended without being asked".into())
                }
                Ok(result) => result,
                Err(_) => Err("ended without a word".into()),
            })
    }
}

/// The words of a panic.
pub(crate) fn said(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stage_that_panics_says_why() {
        let mut stage = Stage::spawn("doomed", |_| panic!("segment {} is gone", 7)).unwrap();
        assert_eq!(
            stage.ended().await,
            Err("panicked: segment 7 is gone".into())
        );
    }

    #[tokio::test]
    async fn a_stage_that_ends_unasked_has_failed_even_if_it_says_ok() {
        let mut stage = Stage::spawn("lazy", |_| Ok(())).unwrap();
        assert!(stage.ended().await.is_err());
    }

    #[tokio::test]
    async fn a_stage_that_is_asked_ends_well_and_is_woken() {
        let mut stage = Stage::spawn("good", |stop| {
            while stop.deadline().is_none() {
                thread::park();
            }
            Ok(())
        })
        .unwrap();
        stage.stop(Instant::now());
        assert_eq!(stage.ended().await, Ok(()));
    }
}
