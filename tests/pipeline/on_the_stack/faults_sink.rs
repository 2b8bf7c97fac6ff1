//! The sink and its database: killed at the worst moment, with partitions coming and going.

use anyhow::{Result, ensure};
use harness::chaos::{report::Report, sinks};

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
