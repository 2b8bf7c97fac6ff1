//! thin-edge.io measurements.
//!
//! Sources: thin-edge.github.io/thin-edge.io, "Thin Edge JSON format" and "MQTT API" (`te/` topics,
//! service health).
//!
//! | topic | payload | here |
//! |---|---|---|
//! | `te/device/ID///m/TYPE` | `{"time":…,"temperature":25,"current":{"L1":9.5}}` | a reading of `ID` |
//! | `te/device/ID/service/NAME/m/TYPE` | the same | a reading of `ID/NAME` |
//! | `tedge/measurements`, `tedge/measurements/ID` (before 1.0) | the same | of `main`, of `ID` |
//! | `te/…/status/health`, `tedge/health/…` | `{"status":"up"}`, `1`, `0` | link |
//! | `…/m/TYPE/meta`, `/e/`, `/a/`, `/cmd/`, `/twin/`, registration | | nothing |
//!
//! `time` is ISO 8601 or seconds since 1970. The format has no units (they are in `meta` topics, for
//! people), so names are the sender's own. One level is nested (`current_l1`); a deeper one breaks the
//! format but is read the same way. The measurement type is metadata, `type`.

use super::{
    Message, NEITHER, Options, Outcome, availability,
    gather::{Gather, Unit},
    time, tree,
};
use crate::decode::DecodeError;

/// Whom a topic is about, and in which way.
enum About<'t> {
    Measurement(Option<String>, Option<&'t str>),
    Health(Option<String>),
    Other,
}

/// Reads one message.
///
/// # Errors
/// A measurement that is no JSON object.
pub fn decode(message: &Message<'_>, options: &Options) -> Result<Outcome, DecodeError> {
    let (device, kind) = match about(message.topic) {
        About::Measurement(device, kind) => (device, kind),
        About::Health(device) => {
            return match availability(message.payload) {
                Some(online) => Ok(Outcome::link(device.as_deref(), online)),
                None => Err(NEITHER),
            };
        }
        About::Other => return Ok(Outcome::default()),
    };
    let device = device.as_deref().or(message.device);
    tree::read_object(message.payload, |members| {
        let mut gather = Gather::of(device);
        gather.meta("type", kind);
        for (key, node) in members {
            match &**key {
                "time" => {
                    let zone = options.timezone.as_ref();
                    let time = node
                        .word()
                        .and_then(|text| time::written(text, zone, message.at));
                    gather.at(time);
                }
                "type" => gather.meta("type", node.word()),
                _ => gather.node(key, Unit::InName, node)?,
            }
        }
        Ok(Outcome::reading(gather.finish()))
    })
}

fn about(topic: &str) -> About<'_> {
    let levels: Vec<&str> = topic.split('/').collect();
    match levels.as_slice() {
        ["tedge", "measurements"] => About::Measurement(Some("main".into()), None),
        ["tedge", "measurements", child] => About::Measurement(Some((*child).into()), None),
        ["tedge", "health", rest @ ..] => About::Health(Some(rest.join("/"))),
        ["tedge", ..] => About::Other,
        [_, a, b, c, d, "m"] => About::Measurement(entity([a, b, c, d]), None),
        [_, a, b, c, d, "m", kind] => {
            About::Measurement(entity([a, b, c, d]), Some(*kind).filter(|k| !k.is_empty()))
        }
        [_, a, b, c, d, "status", "health"] => About::Health(entity([a, b, c, d])),
        [_, _, _, _, _, _, ..] => About::Other,
        // A registration, or not thin-edge's topic at all: then the payload decides.
        ["te", ..] => About::Other,
        _ => About::Measurement(None, None),
    }
}

/// `device/main//` is `main`; in any other scheme the levels that are there are the name.
fn entity(levels: [&str; 4]) -> Option<String> {
    let kept: Vec<&str> = match levels {
        ["device", id, "service", service] if !service.is_empty() => vec![id, service],
        ["device", id, "", ""] => vec![id],
        other => other.into_iter().filter(|part| !part.is_empty()).collect(),
    };
    let name = kept.join("/");
    (!name.is_empty()).then_some(name)
}
