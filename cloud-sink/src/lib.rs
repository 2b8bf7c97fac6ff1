//! Consumes readings from Kafka and writes each to MongoDB exactly once.
//!
//! A reader who follows one record opens these in order: [`kafka`] → [`message`] → [`decode`] →
//! [`batch`] → [`document`] → [`store`], held together by [`pipeline`], with [`tracker`] deciding which
//! offset may be stored. Nothing on that way points back.

pub mod audit;
pub mod batch;
pub mod catalogue;
pub mod checkpoint;
pub mod cli;
mod clock;
pub mod config;
pub mod conservation;
pub mod coverage;
pub mod dead_letter;
pub mod decode;
pub mod document;
mod excerpt;
pub mod kafka;
pub mod latency;
pub mod lease;
pub mod link;
pub mod message;
pub mod outage;
pub mod pipeline;
pub mod run;
pub mod schemas;
pub mod status;
pub mod store;
pub mod telemetry;
pub mod topics;
pub mod tracker;
pub mod unread;
