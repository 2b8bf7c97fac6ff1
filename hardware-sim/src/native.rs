//! Devices as they are bought: what they say on a serial line, how they answer Modbus, what they publish.
//!
//! They number nothing, so they are no part of the truth: what the pipeline owes them is told by its own audit.
//! Every number is a function of seed, device and time, as everywhere here.

pub mod line;
pub mod modbus;
pub mod publish;

use crate::signal::{Moment, rounded};

/// A value that such a field could have; energies and counters only grow.
#[must_use]
pub fn plausible(field: &str, at: &Moment) -> f64 {
    let channel = field
        .bytes()
        .fold(7u64, |sum, b| sum.wrapping_mul(31).wrapping_add(b.into()));
    let around = |middle: f64, swing: f64| {
        rounded(middle + swing * at.curve(channel, 60_000) + swing * 0.02 * at.noise(channel))
    };
    let hours = at.at_ms() as f64 / 3_600_000.0;
    match field {
        _ if field.contains("voltage") && field.contains("_l1_l2") => around(400.0, 4.0),
        _ if field.contains("voltage") => around(230.0, 3.0),
        _ if field.contains("current") => around(5.0, 3.0),
        _ if field.contains("frequency") => around(50.0, 0.05),
        _ if field.contains("power_factor") => around(0.95, 0.04),
        _ if field.contains("power") => around(1200.0, 800.0),
        _ if field.contains("energy") => rounded(hours % 20_000.0),
        _ if field.contains("temperature") => around(21.5, 3.0),
        _ if field.contains("humidity") => around(45.0, 10.0),
        _ if field.contains("angle") => around(10.0, 8.0),
        _ => around(1.0, 0.5),
    }
}
