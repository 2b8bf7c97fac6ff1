//! Whether the machine stood still while a pair was measured.
//!
//! Before and after each pair the canary does the two things that everything here is made of: it syncs a
//! file and it computes. When either took another time than before, somebody else was at work, and the
//! pair says nothing. A machine that is busy in the same way before and after passes: the ratio of a pair
//! does not need a quiet machine, only one that does not move.

use std::{
    fs::File,
    hint::black_box,
    io::{Seek, Write},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::pairs::median;

/// A sync may take this many times what it took before: disks of virtual machines are never steadier.
const SYNC_MAY_MOVE: f64 = 2.0;
/// Computing may take this many times what it took before.
const SPIN_MAY_MOVE: f64 = 1.25;
const SYNCS: usize = 15;
const SPINS: usize = 5;

/// How fast the machine was at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Song {
    /// Median of writing and syncing a page.
    pub sync: Duration,
    /// The quickest of some rounds of plain arithmetic.
    pub spin: Duration,
}

impl Song {
    /// What moved between two moments, or nothing.
    #[must_use]
    pub fn moved(self, later: Self) -> Option<&'static str> {
        let beyond = |one: Duration, other: Duration, limit: f64| {
            one.max(other).as_secs_f64() > one.min(other).as_secs_f64() * limit
        };
        if beyond(self.spin, later.spin, SPIN_MAY_MOVE) {
            return Some("computing");
        }
        beyond(self.sync, later.sync, SYNC_MAY_MOVE).then_some("the disk")
    }
}

/// A file on the disk that is measured on.
#[derive(Debug)]
pub struct Canary(File);

impl Canary {
    /// A canary in `dir`.
    ///
    /// # Errors
    /// No file can be made there.
    pub fn new(dir: &Path) -> Result<Self> {
        Ok(Self(tempfile::tempfile_in(dir)?))
    }

    /// Takes some 100 ms.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn sing(&mut self) -> Result<Song> {
        self.0.rewind()?;
        let mut syncs = Vec::with_capacity(SYNCS);
        for _ in 0..SYNCS {
            let start = Instant::now();
            self.0.write_all(&[0xa5; 4096])?;
            self.0.sync_data()?;
            syncs.push(start.elapsed().as_secs_f64());
        }
        let spin = (0..SPINS).map(|_| spin()).min().unwrap_or_default();
        Ok(Song {
            sync: Duration::from_secs_f64(median(&syncs).unwrap_or_default()),
            spin,
        })
    }
}

fn spin() -> Duration {
    let start = Instant::now();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for round in 0..2_000_000_u64 {
        state = black_box(state ^ round).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    }
    black_box(state);
    start.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn song(sync_us: u64, spin_us: u64) -> Song {
        Song {
            sync: Duration::from_micros(sync_us),
            spin: Duration::from_micros(spin_us),
        }
    }

    #[test]
    fn a_machine_that_moves_is_noticed_in_both_directions() {
        let before = song(1000, 400);
        for (later, moved) in [
            (song(1000, 400), None),
            (song(1900, 480), None),
            (song(600, 330), None),
            (song(2100, 400), Some("the disk")),
            (song(450, 400), Some("the disk")),
            (song(1000, 600), Some("computing")),
            (song(1000, 300), Some("computing")),
        ] {
            assert_eq!(before.moved(later), moved, "{later:?}");
        }
    }

    #[test]
    fn a_canary_sings_in_any_folder_that_can_be_written() {
        let dir = tempfile::tempdir().unwrap();
        let song = Canary::new(dir.path()).unwrap().sing().unwrap();
        assert!(song.spin > Duration::ZERO && song.sync > Duration::ZERO);
    }
}
