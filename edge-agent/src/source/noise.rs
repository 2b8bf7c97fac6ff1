//! Notices a serial line on which much is said and nothing is understood. The port is open and the link up, and in most
//! modes bytes that begin no piece are passed by, so nothing else would tell: most often the speed is not that of `baud`.
//!
//! Pure. It judges where a burst ends, so that what was joined in the middle and the whole piece after it, however
//! much later, are no reason to speak.

use std::time::{Duration, Instant};

/// How long nothing may be understood; the slowest device that speaks by itself, a meter of DSMR 2, does so every 10 s.
const PATIENCE: Duration = Duration::from_secs(30);
/// Less than this is a glitch of a line to which nothing is connected.
const FEW: u64 = 16;
/// Who says this much without a pause ends no burst.
const MANY: u64 = 64 * 1024;

/// What is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Noise {
    /// Since the last time that something was understood.
    pub(super) bytes: u64,
    /// Since the first of them.
    pub(super) lasted: Duration,
}

/// What a line has said since something was understood.
#[derive(Debug, Default)]
pub(super) struct Ear {
    understood: u64,
    since: Option<Instant>,
    bytes: u64,
    within: bool,
    told: bool,
}

impl Ear {
    /// A read gave so many bytes, or none in time; `understood` counts everything that made sense so far. Told once
    /// until something does.
    pub(super) fn heard(
        &mut self,
        now: Instant,
        read: Option<usize>,
        understood: u64,
    ) -> Option<Noise> {
        if understood != self.understood {
            *self = Self {
                understood,
                ..Self::default()
            };
            return None;
        }
        let ends = match read {
            None => std::mem::replace(&mut self.within, false),
            Some(read) => {
                self.within = true;
                self.bytes += u64::try_from(read).unwrap_or(u64::MAX);
                self.bytes >= MANY
            }
        };
        let since = *self.since.get_or_insert(now);
        let lasted = now.saturating_duration_since(since);
        if self.bytes == 0 {
            self.since = None;
        }
        if self.told || !ends || lasted < PATIENCE || self.bytes < FEW {
            return None;
        }
        self.told = true;
        let bytes = self.bytes;
        Some(Noise { bytes, lasted })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (second, bytes or silence, understood so far, told).
    type Step = (u64, Option<usize>, u64, bool);

    fn assert_told(steps: &[Step]) {
        let start = Instant::now();
        let mut ear = Ear::default();
        for &(second, read, understood, told) in steps {
            let noise = ear.heard(start + Duration::from_secs(second), read, understood);
            assert_eq!(noise.is_some(), told, "at {second} s: {noise:?}");
        }
    }

    #[test]
    fn a_line_that_is_never_understood_is_told_once_until_it_is() {
        assert_told(&[
            (0, None, 0, false),
            (100, Some(20), 0, false),
            (101, None, 0, false),
            (129, Some(20), 0, false),
            (130, Some(20), 0, false),
            (131, None, 0, true),
            (500, Some(20), 0, false),
            (501, None, 0, false),
            (502, Some(20), 1, false),
            (503, None, 1, false),
            (504, Some(20), 1, false),
            (540, Some(20), 1, false),
            (541, None, 1, true),
        ]);
    }

    #[test]
    fn a_lead_and_the_first_whole_piece_long_after_it_are_no_noise() {
        assert_told(&[
            (0, Some(300), 0, false),
            (1, None, 0, false),
            (299, None, 0, false),
            (300, Some(200), 0, false),
            (300, Some(200), 1, false),
            (301, None, 1, false),
        ]);
    }

    #[test]
    fn a_few_bytes_of_an_open_line_are_no_noise_and_a_line_without_pauses_is() {
        assert_told(&[
            (0, Some(1), 0, false),
            (1, None, 0, false),
            (3600, Some(1), 0, false),
            (3601, None, 0, false),
        ]);
        assert_told(&[(0, Some(60_000), 0, false), (40, Some(6_000), 0, true)]);
    }
}
