//! The JSON Schema (draft 7) of a topic: what [`crate::record::json`] writes.
//!
//! A declared field is described, with its type and unit, and not held to its type: any field may hold a
//! number, a boolean or a text. A reading may carry a value of another type than usual (the sink keeps
//! it apart), and its record must stay valid; and of two schemas that both let unknown fields in, a
//! registry calls one that says more of a field than the other incompatible. Where types are to be
//! enforced, use Avro.

use alloc::{format, string::String};

use super::{Declaration, Kind};
use crate::unit;

/// `content-type` of a value that begins with a schema id and goes on as JSON.
pub const CONTENT_TYPE: &str = "application/vnd.edge.reading+json-schema";

/// Up to the declared fields. Texts here are part of the schema.
const HEAD: &str = concat!(
    r#"{"$schema":"http://json-schema.org/draft-07/schema#","title":"edge.reading.v1.Reading","description":"What one device measured at one time","type":"object","properties":{"#,
    r#""v":{"const":1},"#,
    r#""gateway":{"type":"string","description":"Box that runs the agent; also the key"},"#,
    r#""device":{"type":"string","description":"Who measured"},"#,
    r#""epoch":{"type":"string","description":"Run of the gateway's queue, 12 hex digits"},"#,
    r#""seq":{"type":"integer","minimum":0,"description":"Counts from 0 within the epoch, without gaps"},"#,
    r#""digest":{"type":"string","description":"64 bits over device, values and source, 16 hex digits"},"#,
    r#""time":{"type":"string","format":"date-time","description":"When it was measured"},"#,
    r#""clock":{"enum":["device","synced","unsynced","corrected"],"description":"What that time is worth"},"#,
    r#""boot":{"type":"string","description":"With clock unsynced: boot of the gateway, 16 hex digits"},"#,
    r#""uptime_us":{"type":"integer","minimum":0,"description":"With clock unsynced: microseconds since that boot"},"#,
    r#""src":{"type":"object","description":"The device's own number of the reading","properties":{"boot":{"type":"integer","minimum":0},"seq":{"type":"integer","minimum":0}},"required":["boot","seq"]},"#,
    r#""fields":{"type":"object","minProperties":1,"properties":{"#,
);
const TAIL: &str = concat!(
    r#"},"additionalProperties":{"type":["number","boolean","string"]}},"#,
    r#""meta":{"type":"object","description":"Model, site and the like","additionalProperties":{"type":"string"}}},"#,
    r#""required":["v","gateway","device","epoch","seq","digest","time","clock","fields"]}"#,
);

/// The schema of a declaration, as it is to be registered.
#[must_use]
pub fn text(declaration: &Declaration) -> String {
    let mut text = String::from(HEAD);
    for (at, (name, kind)) in declaration.iter().enumerate() {
        let comma = if at > 0 { "," } else { "" };
        let usually = match kind {
            Kind::Double => "float",
            Kind::Long => "integer",
            Kind::Bool => "boolean",
            Kind::String => "text",
        };
        let unit = match unit(name.as_str()) {
            Some(unit) => format!(", {unit}"),
            None => String::new(),
        };
        text.push_str(&format!(
            r#"{comma}"{name}":{{"type":["number","boolean","string"],"description":"{usually}{unit}"}}"#
        ));
    }
    text.push_str(TAIL);
    text
}
