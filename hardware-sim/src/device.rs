//! The devices: what they measure, and how one waits for an acknowledgement or speaks.

pub mod framed;
pub mod outbox;
pub mod text;

use protocol::Value;
use serde::{Deserialize, Serialize};

use crate::signal::{Moment, rounded};

/// When the plant went into service, the first of 2024: counters count from there.
const COMMISSIONED_MS: u64 = 1_704_067_200_000;

/// What kind of thing a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Three-phase electricity meter.
    Meter,
    /// Room climate.
    Climate,
    /// Air quality.
    AirQuality,
    /// A machine with states and rare events.
    Machine,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Meter, Self::Climate, Self::AirQuality, Self::Machine];

    /// The word used in scenarios.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Meter => "meter",
            Self::Climate => "climate",
            Self::AirQuality => "air-quality",
            Self::Machine => "machine",
        }
    }

    /// What it is, for people.
    #[must_use]
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Meter => "three-phase electricity meter",
            Self::Climate => "room climate sensor",
            Self::AirQuality => "air quality sensor",
            Self::Machine => "machine with states, a part counter and rare alarms",
        }
    }

    /// What it measures at a moment; the same names in the same order each time.
    #[must_use]
    pub fn measure(self, at: &Moment) -> Vec<(&'static str, Value)> {
        match self {
            Self::Meter => meter(at),
            Self::Climate => vec![
                ("temperature_c", around(at, 1, 21.5, 3.0, 0.02)),
                ("humidity_pct", around(at, 2, 45.0, 12.0, 0.1)),
                ("pressure_hpa", around(at, 3, 1013.0, 9.0, 0.05)),
            ],
            Self::AirQuality => vec![
                ("co2_ppm", around(at, 1, 700.0, 280.0, 4.0)),
                ("pm2_5_ug_m3", around(at, 2, 9.0, 6.0, 0.4)),
                ("pm10_ug_m3", around(at, 3, 18.0, 9.0, 0.6)),
                ("voc_index", around(at, 4, 120.0, 70.0, 1.0)),
            ],
            Self::Machine => machine(at),
        }
    }
}

/// A reading as the device holds it.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// Which start of the device.
    pub boot: u32,
    /// Counts from 0 within it.
    pub sequence: u32,
    /// By the device's clock, in microseconds since 1970.
    pub time_us: u64,
    /// What was measured.
    pub values: Vec<(&'static str, Value)>,
}

fn around(at: &Moment, channel: u64, middle: f64, swing: f64, noise: f64) -> Value {
    let slow = at.curve(channel, 180_000) * 0.8 + at.curve(channel + 100, 20_000) * 0.2;
    Value::Float(rounded(middle + swing * slow + noise * at.noise(channel)))
}

/// Load follows slow and quick curves; energy is the long-term mean times the time, so it only grows.
fn meter(at: &Moment) -> Vec<(&'static str, Value)> {
    const MEAN_KW: f64 = 4.2;
    let mut values = Vec::with_capacity(8);
    let mut power = 0.0;
    let names = [
        ("voltage_l1_v", "current_l1_a"),
        ("voltage_l2_v", "current_l2_a"),
        ("voltage_l3_v", "current_l3_a"),
    ];
    for (channel, (voltage_name, current_name)) in (0_u64..).zip(names) {
        let voltage = rounded(230.0 + 3.0 * at.curve(channel, 90_000) + 0.3 * at.noise(channel));
        let load = at.curve(channel + 10, 30_000);
        let current = rounded((6.1 + 4.0 * load + 0.05 * at.noise(channel + 10)).max(0.0));
        power += voltage * current;
        values.push((voltage_name, Value::Float(voltage)));
        values.push((current_name, Value::Float(current)));
    }
    let hours = at.at_ms().saturating_sub(COMMISSIONED_MS) as f64 / 3_600_000.0;
    values.push(("power_w", Value::Float(rounded(power))));
    values.push(("energy_kwh", Value::Float(rounded(hours * MEAN_KW))));
    values
}

fn machine(at: &Moment) -> Vec<(&'static str, Value)> {
    let activity = at.curve(1, 45_000);
    let alarm = at.noise(9) > 0.99;
    let state = match activity {
        _ if alarm => "alarm",
        x if x > -0.4 => "running",
        x if x > -0.7 => "setup",
        _ => "idle",
    };
    let parts =
        i64::try_from(at.at_ms().saturating_sub(COMMISSIONED_MS) / 3_500).unwrap_or(i64::MAX);
    let speed = if state == "running" {
        1450.0 + 60.0 * activity
    } else {
        0.0
    };
    vec![
        ("running", Value::Bool(state == "running")),
        ("state", Value::Text(state.into())),
        ("parts_total", Value::Int(parts)),
        ("speed_rpm", Value::Float(rounded(speed))),
        ("vibration_mm_s", around(at, 5, 2.1, 1.2, 0.2)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reading_of_a_kind_has_the_same_names_and_other_values() {
        for kind in Kind::ALL {
            let at = |boot, sequence| kind.measure(&Moment::new(7, "d", boot, sequence, 100));
            let names = |values: Vec<(&'static str, Value)>| {
                values.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
            };
            for sequence in 0..500 {
                assert_eq!(names(at(1, 0)), names(at(1, sequence)));
                assert_ne!(at(1, sequence), at(1, sequence + 1), "{kind:?} {sequence}");
                assert_ne!(at(1, sequence), at(2, sequence), "{kind:?} {sequence}");
            }
            assert_eq!(at(3, 4), at(3, 4));
        }
    }

    #[test]
    fn energy_only_grows_also_over_a_reboot() {
        let energy = |boot, sequence| {
            let values = Kind::Meter.measure(&Moment::new(7, "d", boot, sequence, 1000));
            match values.last() {
                Some((_, Value::Float(energy))) => *energy,
                other => panic!("{other:?}"),
            }
        };
        assert!(energy(1_800_000_000, 100) < energy(1_800_000_000, 200));
        assert!(energy(1_800_000_000, 200) <= energy(1_800_000_200, 0));
    }
}
