//! Settings on which a promise of the sink stands.

use super::document::Mistake;
use crate::kafka::FIXED_CONSUMER;

/// Whether a setting would break a promise: those are [`FIXED_CONSUMER`], and what names our group or is
/// the producer's business.
pub fn breaks_promise(name: &str, value: &str) -> Option<Mistake> {
    if name == "group.id" {
        return Some(Mistake::fix(
            "cannot be set here",
            "set kafka.group = \"…\"",
        ));
    }
    if matches!(
        (name, value),
        ("acks", "all" | "-1") | ("enable.idempotence", "true")
    ) {
        return None;
    }
    if PRODUCERS.contains(&name) {
        return Some(Mistake::fix(
            "is for producers: the sink sets it for its dead letters itself",
            "remove the line",
        ));
    }
    let (_, fixed, why) = FIXED_CONSUMER
        .iter()
        .find(|(promised, ..)| *promised == name)?;
    if *fixed == value {
        return None;
    }
    Some(Mistake::fix(
        format!("must be {fixed}: {why}"),
        "remove the line",
    ))
}

const PRODUCERS: [&str; 8] = [
    "acks",
    "enable.idempotence",
    "message.timeout.ms",
    "message.send.max.retries",
    "max.in.flight.requests.per.connection",
    "transactional.id",
    "delivery.report.only.error",
    "partitioner",
];
