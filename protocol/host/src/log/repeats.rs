//! What repeats itself becomes a count. Pure.
//!
//! Each place of the source, and there each link by itself, may write [`BURST`] lines in [`WINDOW`]; then it writes one a window, with
//! how many were left out, and the window doubles up to [`LONGEST`]. A window without anything left out
//! ends it. Most places never come near: they write changes of state, or count for themselves.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

use tracing::Level;

/// Lines of one place in one window.
pub const BURST: u32 = 5;
/// The first window.
pub const WINDOW: Duration = Duration::from_secs(10);
/// The longest.
pub const LONGEST: Duration = Duration::from_secs(320);

/// What to do with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// Write it; `unsaid` like it were not written before.
    Say {
        /// How many.
        unsaid: u64,
    },
    /// It is counted.
    Hold,
}

/// How often each place was heard. Places are in the source and links in the configuration, so their number is
/// bounded.
#[derive(Debug)]
pub struct Repeats<K>(HashMap<K, Place>);

impl<K> Default for Repeats<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

#[derive(Debug)]
struct Place {
    level: Level,
    name: String,
    until: Instant,
    window: Duration,
    left: u32,
    unsaid: u64,
}

impl<K: Clone + Eq + Hash> Repeats<K> {
    /// An event of a place, with its level and text.
    pub fn hears(
        &mut self,
        place: K,
        now: Instant,
        name: impl FnOnce() -> (Level, String),
    ) -> Heard {
        let place = self.0.entry(place).or_insert_with(|| {
            let (level, name) = name();
            Place {
                level,
                name,
                until: now + WINDOW,
                window: WINDOW,
                left: BURST,
                unsaid: 0,
            }
        });
        if now >= place.until {
            place.next_window(now);
            let unsaid = std::mem::take(&mut place.unsaid);
            place.left = place.left.saturating_sub(1);
            return Heard::Say { unsaid };
        }
        if place.left == 0 {
            place.unsaid += 1;
            return Heard::Hold;
        }
        place.left -= 1;
        Heard::Say { unsaid: 0 }
    }

    /// Places that fell silent with something unsaid: with their level, text and count.
    pub fn overdue(&mut self, now: Instant) -> Vec<(K, Level, String, u64)> {
        let due = |(_, place): &(&K, &mut Place)| place.unsaid > 0 && now >= place.until;
        let said = self.0.iter_mut().filter(due).map(|(key, place)| {
            let count = std::mem::take(&mut place.unsaid);
            (key.clone(), place.level, place.name.clone(), count)
        });
        said.collect()
    }
}

impl Place {
    fn next_window(&mut self, now: Instant) {
        if self.unsaid > 0 {
            self.window = (2 * self.window).min(LONGEST);
            self.left = 1;
        } else {
            self.window = WINDOW;
            self.left = BURST;
        }
        self.until = now + self.window;
    }
}
