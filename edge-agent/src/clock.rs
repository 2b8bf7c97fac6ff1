//! The time, and what it is worth: wall clock, whether it is synchronised, boot id, monotonic time.

use protocol::{BootId, Timestamp};

/// The time at one moment, with what is needed to put it right later.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// The wall clock.
    pub wall: Timestamp,
    /// Whether the wall clock is synchronised.
    pub synced: bool,
    /// This boot of the machine.
    pub boot: BootId,
    /// Since that boot, suspended time included.
    pub monotonic_us: u64,
}

impl Moment {
    /// What the queue needs of it.
    #[must_use]
    pub fn queue(&self) -> crate::queue::Now {
        crate::queue::Now {
            wall: self.wall,
            synced: self.synced,
        }
    }
}

/// Reads the machine's clocks.
#[derive(Debug, Clone)]
pub struct Clock {}

impl Clock {
    /// The time now.
    #[must_use]
    pub fn now(&self) -> Moment {
        todo!()
    }
}
