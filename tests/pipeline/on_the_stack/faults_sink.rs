//! The sink and its database: killed at the worst moment, with partitions coming and going.

use anyhow::{Result, ensure};
use harness::{
    chaos::{report::Report, shim::Frozen, sinks},
    rig::{PATIENCE, Rig},
    wait,
};

use crate::{page::skip, supervised::ask};

fn clean(report: &Report) -> Result<()> {
    eprintln!("{report}");
    ensure!(report.is_clean(), "{report}");
    Ok(())
}

/// Rows 33 and 34, short; `dev/chaos --sink-kills` is the same for long.
#[test]
fn a_sink_killed_between_write_and_offset_or_in_a_rebalance_stores_each_reading_once() -> Result<()>
{
    clean(&sinks::run(10, 33, None)?)
}

/// Rows 33 and 35.
#[test]
fn a_sink_killed_while_mongodb_stands_still_reads_again_what_it_had_not_written() -> Result<()> {
    clean(&sinks::killed_while_mongodb_stands_still(None)?)
}

/// Row 33.
#[test]
fn a_checkpoint_never_names_a_record_that_is_not_written() -> Result<()> {
    clean(&sinks::killed_after_checkpoints(None)?)
}

/// Row 6's clone, at the sink.
#[test]
fn one_identity_with_two_contents_is_an_incident_that_keeps_both() -> Result<()> {
    clean(&sinks::one_identity_with_two_contents(None)?)
}

#[test]
fn a_sink_whose_kafka_thread_stands_still_does_not_live_until_it_goes_on() -> Result<()> {
    let mut rig = Rig::new(&[])?;
    let every = ("WATCHDOG_USEC".to_owned(), "2000000".into());
    rig.sink.set_environment(vec![every]);
    rig.sink.start()?;
    rig.wait_sink("partitions", |sink| sink.ready)?;
    let life = format!("{}/livez", rig.sink.url());
    let Some(frozen) = Frozen::thread(rig.sink.process()?, "kafka")? else {
        return skip("this machine lets no process stop another's thread");
    };
    wait::until_true("503", PATIENCE, || {
        let (code, said) = ask(&life)?;
        Ok(code == 503 && said.starts_with("kafka has made no progress for"))
    })?;
    drop(frozen);
    wait::until_true("200", PATIENCE, || Ok(ask(&life)?.0 == 200))?;
    rig.done()
}
