//! No column changes its type, and no reading is lost for it.

use anyhow::{Context, Result, ensure};
use harness::{
    rig::{PATIENCE, Rig},
    wait,
};

use super::sink_dead_letters::foreign;

#[test]
fn a_value_of_another_type_goes_to_raw_and_nothing_is_lost() -> Result<()> {
    let mut rig = Rig::new(&[])?;
    rig.sink.start()?;
    let readings = rig.kafka.readings().to_owned();
    rig.kafka
        .write(&readings, &[foreign(br#"{"device":"tank","level_m":1.5}"#)])?;
    rig.wait_until_stored(1)?;
    let odd = foreign(br#"{"device":"tank","level_m":"full","on":true}"#);
    rig.kafka
        .write(&readings, &(0..20).map(|_| odd).collect::<Vec<_>>())?;
    rig.kafka
        .write(&readings, &[foreign(br#"{"device":"tank","level_m":3}"#)])?;
    rig.wait_until_stored(22)?;

    let documents = rig.documents.readings_by_id()?;
    let raw = documents.iter().filter(|document| {
        let raw = document.get_document("raw");
        raw.is_ok_and(|raw| raw.get_str("level_m").ok() == Some("full"))
    });
    ensure!(raw.count() == 20, "{documents:?}");
    let columns: Vec<f64> = documents
        .iter()
        .filter_map(|document| document.get("level_m"))
        .map(|level| level.as_f64().context("another type in the column"))
        .collect::<Result<_>>()?;
    ensure!(columns.len() == 2, "{columns:?}");

    let fields = rig.documents.all("fields")?;
    let level = fields
        .iter()
        .find(|field| field.get_str("_id").ok() == Some("readings/level_m"))
        .context("no field")?;
    ensure!(level.get_str("type").ok() == Some("double"), "{level}");
    ensure!(level.get_str("unit").ok() == Some("m"), "{level}");
    let incidents = rig.documents.all("incidents")?;
    ensure!(
        incidents.len() == 1,
        "once per field and device: {incidents:?}"
    );
    ensure!(
        incidents[0].get_str("kind").ok() == Some("field_type"),
        "{incidents:?}"
    );

    // Real Kafka tells the retention of the topic.
    wait::until_true("a line with the time to loss", PATIENCE, || {
        let log = std::fs::read_to_string(rig.sink.log())?;
        let mut lines = log.lines().filter(|line| line.contains("msg=written "));
        Ok(lines.any(|line| line.contains(" time_to_loss=") && line.contains(" p99_ms=")))
    })
    .with_context(|| rig.sink.end_of_log())?;

    let stopped = rig.sink.stop(PATIENCE)?;
    ensure!(stopped.success(), "{stopped}");
    let devices = rig.documents.all("devices")?;
    let tank = devices.first().context("no device")?;
    ensure!(tank.get_str("_id").ok() == Some("plant/tank"), "{tank}");
    let level = tank.get_document("fields")?.get_document("level_m")?;
    ensure!(level.get_f64("min").ok() == Some(1.5), "{level}");
    ensure!(level.get_f64("max").ok() == Some(3.0), "{level}");
    rig.done()
}
