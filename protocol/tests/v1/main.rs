//! Version 1 of every format, held by literal bytes.
//!
//! **If a test in `frames`, `records`, `facts` or `vectors` fails, do not edit the test: revert the
//! change.** The bytes are in flash of devices, on disks of gateways, in Kafka and in MongoDB; they cannot be
//! made again. A change of a format is a new version beside this one.
//!
//! The bytes here and in `vectors/v1.json` were made by an implementation that shares no code with this
//! crate (Python: struct, zlib, xxhash), so they check the formats' descriptions as well.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod avro;
mod c_header;
mod docs;
mod example_device;
mod facts;
mod frames;
mod hex;
mod properties;
mod records;
mod streams;
mod vectors;
