//! Stages: the threads of the pipeline, of which none may end unnoticed (invariant 9), nor stand still.
//!
//! A call into the store may never come back: the system refused the store a thread that was to do the work,
//! or a disk swallowed a request. The thread that made it cannot tell, so each such call is *watched*
//! ([`Stop::watched`]), and whoever waits for the end of the stage learns when one takes longer than any disk.
//! A new process is all that helps; the queue makes that cheap.

use std::{
    any::Any,
    future::{Future, poll_fn},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    task::{Context, Poll},
    thread::{self, Thread},
    time::{Duration, Instant},
};

use tokio::{sync::oneshot, time::Interval};

/// A watched call that takes longer does not come back. Disks that work were seen to stall for some seconds,
/// cards that collect their garbage for thirty.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running stage. Whoever holds it learns when the thread ends, and how.
#[derive(Debug)]
pub struct Stage {
    name: String,
    thread: Thread,
    stop: Stop,
    ended: oneshot::Receiver<Result<(), String>>,
    patience: Duration,
    /// When to look whether it stands still.
    look: Option<Interval>,
}

/// Asked to end by a moment; shared with the thread.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    deadline: OnceLock<Instant>,
    /// When the watched call began that has not come back.
    watched: Mutex<Option<Instant>>,
}

impl Stop {
    /// By when the stage must have ended, once it was asked to.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.0.deadline.get().copied()
    }

    /// Makes a call that comes back, or the stage has failed.
    pub fn watched<T>(&self, call: impl FnOnce() -> T) -> T {
        self.watch(Some(Instant::now()));
        let done = call();
        self.watch(None);
        done
    }

    fn watch(&self, since: Option<Instant>) {
        *self
            .0
            .watched
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = since;
    }

    /// Since when a watched call has not come back.
    fn standing_still(&self) -> Option<Instant> {
        *self
            .0
            .watched
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
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
                .unwrap_or_else(|panic| Err(format!("panicked: {}", text(&*panic))));
            // Nobody listens any more: the process is already going down.
            drop(tell.send(result));
        })?;
        Ok(Self {
            name: name.into(),
            thread: handle.thread().clone(),
            stop,
            ended,
            patience: PATIENCE,
            look: None,
        })
    }

    /// For logs and the exit message.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Asks the stage to finish what it has and end by `deadline`. The first word counts.
    pub fn stop(&self, deadline: Instant) {
        if self.stop.0.deadline.set(deadline).is_ok() {
            self.thread.unpark();
        }
    }

    /// Resolves when the thread has ended, or stands still; before [`Stage::stop`] that is always a failure.
    /// Cancel safe; not to be called again after it resolved.
    ///
    /// # Errors
    /// What ended it, or the message of its panic, or how long it has stood still.
    pub async fn ended(&mut self) -> Result<(), String> {
        poll_fn(|context| self.poll_ended(context)).await
    }

    fn poll_ended(&mut self, context: &mut Context<'_>) -> Poll<Result<(), String>> {
        if let Poll::Ready(end) = Pin::new(&mut self.ended).poll(context) {
            return Poll::Ready(match end {
                Ok(Ok(())) if self.stop.deadline().is_none() => {
                    Err("ended without being asked".into())
                }
                Ok(result) => result,
                Err(_) => Err("ended without a word".into()),
            });
        }
        let every = self.patience / 8;
        let look = self
            .look
            .get_or_insert_with(|| tokio::time::interval(every));
        while look.poll_tick(context).is_ready() {
            let since = self.stop.standing_still().map(|since| since.elapsed());
            if let Some(since) = since.filter(|since| *since > self.patience) {
                return Poll::Ready(Err(format!(
                    "a call into the queue has not come back for {} s: see to the disk, and to the limits \
                     of tasks and memory (TasksMax, LimitNPROC, LimitAS)",
                    since.as_secs()
                )));
            }
        }
        Poll::Pending
    }
}

fn text(panic: &(dyn Any + Send)) -> &str {
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
    async fn a_stage_whose_call_never_comes_back_has_failed_also_while_it_is_stopped() {
        let (never, blocked) = std::sync::mpsc::channel::<()>();
        let mut stage = Stage::spawn("stuck", move |stop| {
            stop.watched(|| blocked.recv().ok());
            Ok(())
        })
        .unwrap();
        stage.patience = Duration::from_millis(20);
        for _ in 0..2 {
            let reason = stage.ended().await.unwrap_err();
            assert!(reason.contains("has not come back"), "{reason}");
            stage.stop(Instant::now());
        }
        drop(never);
        // Then it did come back after all.
        while stage.ended().await.is_err() {}
    }

    #[test]
    fn only_a_call_that_is_under_way_can_stand_still() {
        let stop = Stop::default();
        assert_eq!(stop.standing_still(), None);
        stop.watched(|| assert!(stop.standing_still().is_some()));
        assert_eq!(stop.standing_still(), None);
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
