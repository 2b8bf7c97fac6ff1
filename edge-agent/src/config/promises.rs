//! Settings on which a promise of the agent stands.

use super::document::Mistake;

/// What they have to be, and why; by the one name each has here.
const PROMISES: [(&str, &[&str], &str); 13] = [
    (
        "acks",
        &["all", "-1"],
        "a reading is forgotten only once every in-sync replica has it",
    ),
    (
        "enable.idempotence",
        &["true"],
        "without it retries change the order",
    ),
    (
        "message.timeout.ms",
        &["0"],
        "a reading that times out would be passed by later ones; the queue waits for ever",
    ),
    (
        "message.send.max.retries",
        &["2147483647"],
        "a reading is tried until Kafka has it",
    ),
    (
        "max.in.flight.requests.per.connection",
        &["1", "2", "3", "4", "5"],
        "more would change the order",
    ),
    (
        "partitioner",
        &["murmur2_random"],
        "a gateway stays in one partition, the one every other Kafka client computes",
    ),
    (
        "queue.buffering.max.messages",
        &[],
        "the queue on disk is the buffer; memory stays small",
    ),
    (
        "queue.buffering.max.kbytes",
        &[],
        "the queue on disk is the buffer; memory stays small",
    ),
    ("queuing.strategy", &["fifo"], "order is kept"),
    (
        "transactional.id",
        &[],
        "identities make redelivery harmless; transactions are not used",
    ),
    (
        "delivery.report.only.error",
        &["false"],
        "a reading is forgotten only after its delivery report",
    ),
    (
        "enable.gapless.guarantee",
        &["true"],
        "nothing passes a reading that failed",
    ),
    (
        "allow.auto.create.topics",
        &["false"],
        "a topic made by accident has the wrong retention",
    ),
];

/// Whether a setting would break a promise.
pub fn breaks_promise(name: &str, value: &str) -> Option<Mistake> {
    let (_, allowed, why) = PROMISES.iter().find(|(promised, ..)| *promised == name)?;
    if allowed.contains(&value) {
        return None;
    }
    let message = match allowed.first() {
        Some(fixed) => format!("must be {fixed}: {why}"),
        None => format!("cannot be set: {why}"),
    };
    Some(Mistake::fix(message, "remove the line"))
}
