//! What the processes at both ends of the protocol share.
//!
//! The agent and the sink never see each other: Kafka's bytes connect them, and those are `protocol`'s. But
//! both are processes that an operator configures, at the same cluster, with the same downloaded file, and
//! whose lines land in the same journal. What the operator meets in both has to be the same to the letter,
//! and is therefore written once:
//!
//! - [`config`]: a TOML file read with the place of every mistake, and `client.properties`;
//! - [`secret`]: where a secret is, and reading it when it is needed;
//! - [`log`]: lines, what repeats itself, and the last incidents;
//! - [`page`]: the frame of the status page, [`rate`] how fast its counters go;
//! - [`registry`]: the client of a Schema Registry;
//! - [`scrape`]: the form in which Prometheus and others get the metrics;
//! - [`remedy`]: what to do about what Kafka refuses;
//! - [`supervisor`]: what systemd is told, and its watchdog.
//!
//! **What belongs here**: what an operator meets in both daemons, knows nothing of readings, queues or
//! documents, and would be a mistake to have in two versions. **What does not**: what merely looks alike
//! (conservation, status, links: the ends count different things); a format on a wire or a disk, which is
//! `protocol`'s; anything that names sled, rdkafka, rumqttc, serialport or mongodb. When in doubt, it stays
//! in its daemon.

pub mod config;
pub mod log;
pub mod page;
pub mod rate;
pub mod registry;
pub mod remedy;
pub mod scrape;
pub mod secret;
pub mod supervisor;
