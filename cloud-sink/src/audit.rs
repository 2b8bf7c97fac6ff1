//! The audit: is anything missing, and if so, exactly what and why. The judgement is pure.
//!
//! For each gateway, lane and epoch it accounts for every sequence from 0 to the end of the epoch, each in
//! exactly one [`State`]. The end is the highest of what the next epoch links to, what was stated as
//! committed, and what is present.
//!
//! ```text
//! present          coverage, or with --full the collection itself, has it
//! expired          was present, and its day of expiry has come
//! dead-lettered    coverage has it in the dead-letter topic               (present beats dead-lettered)
//! declared         a loss of the gateway names it, with its reason        (dead-lettered beats declared)
//! ── what is left ──
//! retention, topic made anew     the sink saw Kafka lose records where this one must have been
//! in flight        acknowledged by Kafka, and the checkpoint has not passed that fact's offsets
//! missing          acknowledged by Kafka, and the checkpoint has passed them
//! queued           above what Kafka acknowledged: at the gateway, as of its last statement
//! abandoned        above that too, but no live run goes on with it
//! unverifiable     above that too, and nobody has heard of the gateway since
//! deleted          with --full: the sink had stored it, and it is not there
//! uncounted        coverage ran out of room: only --full can tell
//! ```
//!
//! `missing`, `abandoned`, `unverifiable`, `deleted` and `uncounted` are **unexplained**, and so is each
//! [`Finding`]. Foreign records have no identity of ours and are not covered.
//!
//! What is read is read in an order that cannot raise a false alarm: statements of epochs first, then
//! checkpoints, then coverage, then losses; so each was true no earlier than the one before.

mod chain;
mod evidence;
mod judge;
mod report;
#[cfg(test)]
mod tests;
mod text;

pub use evidence::{Covered, Evidence, Found, Position, Positions, Stated};
pub use judge::judge;
pub use report::{
    EpochReport, Finding, GatewayReport, LaneReport, Part, Place, Report, State, Totals, Unaudited,
};
pub use text::write;
