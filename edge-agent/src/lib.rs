//! Reads sensors, keeps every reading in a durable queue, forwards to Kafka.
//!
//! A reader who follows one reading opens these in order: [`source`] → [`decode`] → [`process`] →
//! [`ingest`] → [`queue`] → [`forward`]. Nothing on that way points back.

pub mod cli;
pub mod clock;
pub mod config;
pub mod conservation;
pub mod decode;
pub mod devices;
pub mod forward;
pub mod ingest;
pub mod link;
pub mod process;
pub mod quarantine;
pub mod queue;
pub mod reload;
pub mod run;
pub mod source;
pub mod stage;
pub mod status;
pub mod telemetry;
