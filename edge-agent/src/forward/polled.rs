//! A producer and the thread that fetches its reports: rdkafka's `ThreadedProducer`, without the time that one
//! spends waiting.
//!
//! librdkafka waits for whole milliseconds, and the binding asks again and again for what is left below one. Of
//! the 100 ms that its own thread waits at a time it so spins through nearly the last: one percent of a core
//! for each producer of an agent that does nothing.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{Builder, JoinHandle},
    time::Duration,
};

use rdkafka::producer::{BaseProducer, ProducerContext};

/// Longest wait for a report, and for the thread at its end. The little above whole milliseconds is over
/// before the kernel wakes the thread.
const WAIT: Duration = Duration::from_micros(200_020);

/// A producer whose context hears of everything at once.
pub struct Polled<C: ProducerContext + 'static> {
    producer: Arc<BaseProducer<C>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl<C: ProducerContext + 'static> Polled<C> {
    /// # Errors
    /// The system gives no thread.
    pub fn new(producer: BaseProducer<C>) -> io::Result<Self> {
        let producer = Arc::new(producer);
        let ended = Arc::new(AtomicBool::new(false));
        let (polled, until) = (Arc::clone(&producer), Arc::clone(&ended));
        let thread = Builder::new().name("reports".into()).spawn(move || {
            while !until.load(Ordering::Relaxed) {
                polled.poll(WAIT);
            }
        })?;
        Ok(Self {
            producer,
            ended,
            thread: Some(thread),
        })
    }

    /// What it is about.
    pub fn producer(&self) -> &BaseProducer<C> {
        &self.producer
    }
}

/// Afterwards the context hears of nothing any more, and nothing of it goes to Kafka.
impl<C: ProducerContext + 'static> Drop for Polled<C> {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // What made it panic is in the log.
            drop(thread.join());
        }
    }
}
