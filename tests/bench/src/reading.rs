//! The one reading that everything is measured with: a device, a time, four measurements.

use protocol::{
    Clock, DeviceId, Digest, Epoch, FieldName, Fields, GatewayId, Metadata, Reading, Record,
    RecordId, SourceId, Timestamp, Value,
};

/// The gateway of all records.
pub const GATEWAY: &str = "bench";
/// The device of all readings.
pub const DEVICE: &str = "meter-1";
/// First of January 2026, in microseconds.
pub const BEGIN_US: i64 = 1_767_225_600_000_000;
/// The four.
pub const NAMES: [&str; 4] = ["voltage_v", "current_a", "power_w", "energy_kwh"];

/// The four values of reading `number`, different from reading to reading as a meter's are.
#[must_use]
pub fn values(number: u64) -> [f64; 4] {
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let part = |modulus: u64| (number % modulus) as f64;
    #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
    let energy = number as f64;
    [
        (2300.0 + part(97)) / 10.0,
        (1254.0 + part(701)) / 1000.0,
        (2881.0 + part(1009)) / 10.0,
        (120_411.0 + energy) / 100.0,
    ]
}

/// Time of reading `number`: a millisecond after the one before.
#[must_use]
pub fn time_us(number: u64) -> i64 {
    BEGIN_US + i64::try_from(number).unwrap_or(0) * 1000
}

/// As the agent holds it.
///
/// # Errors
/// Never so far.
pub fn reading(number: u64) -> anyhow::Result<Reading> {
    let fields = NAMES
        .iter()
        .zip(values(number))
        .map(|(name, value)| Ok((FieldName::new(*name)?, Value::Float(value))))
        .collect::<anyhow::Result<_>>()?;
    Ok(Reading {
        device: DeviceId::new(DEVICE)?,
        time: Timestamp::from_micros(time_us(number))?,
        clock: Clock::Device,
        fields: Fields::new(fields)?,
        source: Some(SourceId {
            boot: 1,
            sequence: number,
        }),
        meta: Metadata::default(),
    })
}

/// As it travels from the agent on.
///
/// # Errors
/// Never so far.
pub fn record(gateway: &str, number: u64) -> anyhow::Result<Record> {
    let reading = reading(number)?;
    Ok(Record {
        id: RecordId {
            gateway: GatewayId::new(gateway)?,
            epoch: Epoch::from_random(0x1f3a_9c04_d2be),
            sequence: number,
        },
        digest: Digest::of(&reading),
        reading,
    })
}

/// As the device publishes it over MQTT.
pub fn payload(number: u64, time_us: i64, out: &mut Vec<u8>) {
    use std::io::Write;
    let [voltage, current, power, energy] = values(number);
    // Into memory, which takes everything.
    let _taken = write!(
        out,
        r#"{{"boot":1,"seq":{number},"ts":{time_us},"voltage_v":{voltage},"current_a":{current},"power_w":{power},"energy_kwh":{energy}}}"#
    );
}

/// What beside its topic the agent has to know of [`payload`].
pub const ROLES: &str =
    r#"preset = "json", boot = "boot", sequence = "seq", time = "ts", time_format = "unix-micros""#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_differ_from_one_another() {
        let digests: std::collections::BTreeSet<u64> = (0..1000)
            .map(|number| record("g", number).unwrap().digest.0)
            .collect();
        assert_eq!(digests.len(), 1000);
    }

    #[test]
    fn a_payload_is_about_as_long_as_the_one_that_peers_were_measured_with() {
        let mut payload = Vec::new();
        super::payload(123_456, time_us(123_456), &mut payload);
        serde_json::from_slice::<serde_json::Value>(&payload).unwrap();
        assert!((100..150).contains(&payload.len()), "{}", payload.len());
    }
}
