//! How much is written at once. Pure.
//!
//! A MongoDB that misses the deadline with a large batch may meet it with a small one: what is sent again
//! whole would miss it again, for ever. So a missed deadline halves the batch and leaves one write at a
//! time; full batches that go well bring back first the other writes, then the size.

/// Writes to MongoDB at once: enough to hide a round trip, few enough to stay small.
pub(super) const MAX_WRITES: usize = 4;

/// The bounds that hold now.
#[derive(Debug)]
pub(super) struct Pace {
    most: usize,
    size: usize,
    writes: usize,
}

impl Pace {
    /// As fast as allowed: `most` documents of a batch.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            size: most,
            writes: MAX_WRITES,
        }
    }

    /// Most documents of a batch.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Most writes at once.
    pub fn writes(&self) -> usize {
        self.writes
    }

    /// A batch of `len` documents missed the deadline.
    pub fn late(&mut self, len: usize) {
        self.writes = 1;
        // Several that were under way together are one experience.
        if len <= self.size {
            self.size = (len / 2).max(1);
        }
    }

    /// A batch of `len` documents was written in time.
    pub fn in_time(&mut self, len: usize) {
        if len < self.size {
            return;
        }
        if self.writes < MAX_WRITES {
            self.writes += 1;
        } else {
            self.size = (2 * self.size).min(self.most);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy)]
    enum Step {
        Late(usize),
        InTime(usize),
    }
    use Step::{InTime, Late};

    #[test]
    fn a_missed_deadline_halves_the_batch_and_full_ones_in_time_bring_it_back() {
        // (what happened, documents of a batch and writes at once then)
        let table: &[(Step, (usize, usize))] = &[
            (InTime(1000), (1000, 4)),
            (Late(1000), (500, 1)),
            // Those that were under way together with the first.
            (Late(1000), (500, 1)),
            (Late(1000), (500, 1)),
            (Late(500), (250, 1)),
            // One that was not full says nothing about full ones.
            (InTime(3), (250, 1)),
            (InTime(250), (250, 2)),
            (InTime(250), (250, 3)),
            (InTime(250), (250, 4)),
            (InTime(250), (500, 4)),
            (InTime(250), (500, 4)),
            (InTime(500), (1000, 4)),
            (InTime(1000), (1000, 4)),
            // A small one that was late is all the more reason.
            (Late(10), (5, 1)),
        ];
        let mut pace = Pace::new(1000);
        for (at, (step, expected)) in table.iter().enumerate() {
            match *step {
                Late(len) => pace.late(len),
                InTime(len) => pace.in_time(len),
            }
            assert_eq!((pace.size(), pace.writes()), *expected, "step {at}");
        }
    }

    #[test]
    fn a_single_document_is_the_smallest_batch() {
        let mut pace = Pace::new(1000);
        for _ in 0..20 {
            pace.late(pace.size());
        }
        assert_eq!((pace.size(), pace.writes()), (1, 1));
    }
}
