//! The contract between sensors, gateways and the cloud, on one page.
//!
//! A **reading** ([`Reading`]) is what one device measured at one time: named values with the unit in
//! the name. The agent gives each reading an identity ([`RecordId`]: gateway, epoch, sequence) and a
//! [`Digest`] when it becomes durable; both travel unchanged to the document's `_id` and `digest`.
//!
//! ```text
//! device ──frame──▶ agent ──record──▶ Kafka ──record──▶ sink ──▶ MongoDB
//!          frame.rs         record.rs + header.rs (+ schema.rs)
//!                   agent ──fact────▶ Kafka ──fact────▶ sink        control.rs
//! ```
//!
//! Everything here is a promise: each format begins with a version, each version has a file of literal
//! bytes in `tests/`, and a version nobody knows is an error of its own, never "corrupt".
//!
//! The crate does no I/O, reads no clock and needs only `alloc`, so firmware can use it as it is.
#![no_std]

extern crate alloc;

mod as_text;
pub mod control;
mod digest;
pub mod frame;
pub mod header;
mod ids;
mod reading;
pub mod record;
pub mod schema;
mod unit;

pub use digest::Digest;
pub use ids::{BootId, DeviceId, Epoch, GatewayId, IdError, RecordId, Topic};
pub use reading::{
    Clock, FieldError, FieldName, Fields, MAX_FIELDS, MAX_READING_BYTES, MAX_TEXT_BYTES, Metadata,
    Reading, SourceId, TimeError, Timestamp, Value,
};
pub use record::Record;
pub use unit::unit;
