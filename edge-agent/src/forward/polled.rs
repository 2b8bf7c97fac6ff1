//! A producer and the thread that fetches its reports: rdkafka's `ThreadedProducer`, without the time that one
//! spends waiting.
//!
//! librdkafka waits for whole milliseconds, and the binding asks again and again for what is left below one. Of
//! the 100 ms that its own thread waits at a time it so spins through nearly the last: one percent of a core
//! for each producer of an agent that does nothing. A wait of a little above whole milliseconds does not, but as
//! soon as anything comes in the middle of it, what is left of it has a fraction again. So the thread waits for
//! reports only while a record is under way; else it sleeps until one is sent, and looks now and then for
//! what librdkafka has to say by itself.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, Builder, JoinHandle},
    time::Duration,
};

use rdkafka::{
    error::KafkaError,
    producer::{BaseProducer, BaseRecord, Producer, ProducerContext},
};

/// How late it is heard at most what librdkafka says by itself while nothing is under way: what is wrong with a
/// connection, and statistics.
const REST: Duration = Duration::from_millis(400);
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
                if polled.in_flight_count() > 0 {
                    polled.poll(WAIT);
                } else {
                    thread::park_timeout(REST);
                    take_what_is_there(&polled);
                }
            }
        })?;
        Ok(Self {
            producer,
            ended,
            thread: Some(thread),
        })
    }

    /// Hands a record over and wakes the thread for its report; returns at once.
    ///
    /// # Errors
    /// What librdkafka says at once: its buffer is full, no such topic.
    pub fn send(
        &self,
        record: BaseRecord<'_, str, [u8], C::DeliveryOpaque>,
    ) -> Result<(), KafkaError> {
        self.producer.send(record).map_err(|(error, _)| error)?;
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
        Ok(())
    }

    /// Who hears of everything.
    pub fn context(&self) -> &C {
        self.producer.context()
    }
}

/// Takes what has been said, one after the other, without waiting: each counts as under way until it is taken.
fn take_what_is_there<C: ProducerContext>(producer: &BaseProducer<C>) {
    let mut left = i32::MAX;
    while (1..left).contains(&producer.in_flight_count()) {
        left = producer.in_flight_count();
        producer.poll(Duration::ZERO);
    }
}

/// Afterwards the context hears of nothing any more, and nothing of it goes to Kafka.
impl<C: ProducerContext + 'static> Drop for Polled<C> {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // What made it panic is in the log.
            drop(thread.join());
        }
    }
}
