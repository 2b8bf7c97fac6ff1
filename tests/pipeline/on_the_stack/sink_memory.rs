//! However much waits in Kafka, the sink takes no more of it at a time than it may.

use anyhow::{Result, ensure};
use harness::rig::Rig;
use protocol::{
    Clock, Digest, Epoch, FieldName, Fields, Metadata, Reading, Record, RecordId, Timestamp, Value,
};

/// More than the sink may hold at a time, several times over.
const READINGS: u64 = 40_000;
/// Records that the test's own producer takes at a time.
const SOME: u64 = 20_000;
/// What is said in docs/config-sink.md; an unoptimised build takes some more than a release.
const MOST: u64 = 80 << 20;

fn reading(gateway: &str, sequence: u64) -> Result<Record> {
    let field = |name: &str, value| anyhow::Ok((FieldName::new(name)?, Value::Float(value)));
    let number = f64::from(u32::try_from(sequence)?);
    let reading = Reading {
        device: "press".parse()?,
        time: Timestamp::from_micros(1_795_000_000_000_000)?,
        clock: Clock::Synced,
        fields: Fields::new(vec![field("power_w", number)?, field("voltage_v", 230.5)?])?,
        source: None,
        meta: Metadata::default(),
    };
    let id = RecordId {
        gateway: gateway.parse()?,
        epoch: Epoch::from_random(7),
        sequence,
    };
    let digest = Digest::of(&reading);
    Ok(Record {
        id,
        digest,
        reading,
    })
}

#[test]
fn a_sink_that_catches_up_stays_within_its_memory() -> Result<()> {
    let mut rig = Rig::new(&[])?;
    // Three gateways, so that all partitions are likely to have something.
    let gateways: Vec<String> = (0..3).map(|n| format!("{}-{n}", rig.name())).collect();
    for first in (0..READINGS).step_by(usize::try_from(SOME)?) {
        let records: Vec<Record> = (first..first + SOME)
            .map(|n| reading(&gateways[usize::try_from(n % 3)?], n / 3))
            .collect::<Result<_>>()?;
        rig.kafka.write_readings(&records)?;
    }
    rig.sink.start()?;
    let idle = rig.sink.process()?.peak_memory()?;
    rig.wait_until_stored(READINGS)?;
    let peak = rig.sink.process()?.peak_memory()?;
    let mib = |bytes: u64| bytes >> 20;
    eprintln!("{} MiB at the start, {} MiB at most", mib(idle), mib(peak));
    ensure!(
        peak <= MOST,
        "{} MiB, {} at the start",
        mib(peak),
        mib(idle)
    );
    rig.done()
}
