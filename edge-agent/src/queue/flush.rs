//! Waiting for a flush, on threads of ours.
//!
//! sled's own threads are the wrong place to wait on. There are seven of them for all stores of a process and, once
//! all are at work, no eighth; a flush that waits there for a write waits for what another of them has to do. Seven
//! that wait at once, of several lanes or of one on a disk that stands still for long, wait for ever. Here each has a
//! thread, and idle ones are used again: there are as many as have ever waited at the same time.

use std::{
    future::Future,
    io,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Sender, channel},
    },
    task::{Context, Poll, Wake, Waker},
    thread,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

/// A flush that takes longer may have been forgotten.
const PATIENCE: Duration = Duration::from_millis(250);

type Job = Box<dyn FnOnce() + Send>;

/// The threads that have nothing to do.
static IDLE: Mutex<Vec<Sender<Job>>> = Mutex::new(Vec::new());

/// Waits for the first answer, and asks again while there is none.
pub(super) fn insisted<F: Future>(ask: impl Fn() -> F) -> F::Output {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut first = pin!(ask());
    let begin = Instant::now();
    let mut patience = PATIENCE;
    loop {
        if let Poll::Ready(done) = first.as_mut().poll(&mut context) {
            return done;
        }
        thread::park_timeout(patience.saturating_sub(begin.elapsed()));
        if begin.elapsed() >= patience {
            // One thread each; ever fewer, for a disk may just be slow.
            patience *= 2;
            drop(pin!(ask()).poll(&mut context));
        }
    }
}

/// Begins `work` on a thread of its own, whether or not somebody waits for what it returns.
///
/// # Errors
/// The system refuses a thread, or the work has panicked.
pub(super) fn elsewhere<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> impl Future<Output = io::Result<T>> {
    let (done, result) = oneshot::channel();
    // Nobody waits for one that was only to wake another.
    let begun = begin(Box::new(move || drop(done.send(work()))));
    async move {
        begun?;
        result
            .await
            .map_err(|_| io::Error::other("the work on a thread of its own has panicked"))
    }
}

fn begin(mut job: Job) -> io::Result<()> {
    loop {
        let idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let Some(idle) = idle else { break };
        // One that has ended by a panic is idle no more.
        match idle.send(job) {
            Ok(()) => return Ok(()),
            Err(back) => job = back.0,
        }
    }
    let (own, jobs) = channel::<Job>();
    thread::Builder::new()
        .name("queue-flush".to_owned())
        .spawn(move || {
            job();
            loop {
                let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
                idle.push(own.clone());
                drop(idle);
                match jobs.recv() {
                    Ok(job) => job(),
                    Err(_) => return,
                }
            }
        })
        .map(drop)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Barrier};

    use super::elsewhere;

    #[tokio::test]
    async fn as_many_can_wait_for_each_other_as_there_are() {
        // More than sled has threads; none of them ends before all have begun.
        const MANY: usize = 40;
        for _ in 0..3 {
            let all = Arc::new(Barrier::new(MANY));
            let begin = |number| {
                let all = Arc::clone(&all);
                elsewhere(move || {
                    all.wait();
                    number
                })
            };
            let waiting: Vec<_> = (0..MANY).map(begin).collect();
            for (number, one) in waiting.into_iter().enumerate() {
                assert_eq!(one.await.unwrap(), number);
            }
        }
    }

    #[tokio::test]
    async fn work_that_panics_is_told_and_the_next_is_done() {
        let told = elsewhere(|| -> u32 { panic!("as sled may") }).await;
        told.unwrap_err();
        assert_eq!(elsewhere(|| 7).await.unwrap(), 7);
    }
}
