//! The loops of `dev/chaos`, short and from fixed seeds; the loops themselves are the same for long.

use anyhow::{Result, ensure};
use harness::chaos::{
    mixture::{self, End, Fault},
    report::Report,
    rot,
};

fn clean(report: &Report) -> Result<()> {
    eprintln!("{report}");
    ensure!(report.is_clean(), "{report}");
    Ok(())
}

/// Rows 6 to 9.
#[test]
fn bits_that_rot_anywhere_in_the_queue_cost_exactly_what_is_declared() -> Result<()> {
    clean(&rot::run(12, 6)?)
}

pub mod on_the_stack {
    use super::*;

    /// Plugs of every kind; the seed is one of those that kill the agent behind failing and slow disks.
    #[test]
    fn a_short_mixture_of_every_fault_ends_with_a_clean_verdict() -> Result<()> {
        const SECONDS: u64 = 45;
        let end = End::After(std::time::Duration::from_secs(SECONDS));
        clean(&mixture::run(end, 1093, &Fault::ALL)?)
    }
}
