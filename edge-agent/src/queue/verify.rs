//! Reads everything in a lane and tells what is wrong with it. Changes nothing; beside a running agent, too.
//!
//! What must be there is what the head, read before the segments, says is committed and, read after them,
//! says is neither acknowledged nor lost: so what a running agent does meanwhile is no fault.

use std::{collections::BTreeMap, fs, io, path::Path};

use protocol::{Digest, Epoch, GatewayId, Topic, control::Loss};

use super::{
    book::Book,
    directory::{self, lane_of},
    head::{self, Found},
    lane::{loss_fact, segment_dir},
    summary::{Run, Summary},
    walk::{Sight, other, walk},
};

/// What reading a whole lane gave.
#[derive(Debug, Default)]
pub struct Verified {
    /// Whose readings they are, if that can be read.
    pub gateway: Option<GatewayId>,
    /// Where they go.
    pub topic: Option<Topic>,
    /// Segments on disk.
    pub segments: u64,
    /// Segments set aside as damaged; what they held is declared lost.
    pub quarantined: u64,
    /// Blocks that are whole.
    pub blocks: u64,
    /// Readings in them.
    pub readings: u64,
    /// Readings that Kafka does not have.
    pub waiting: u64,
    /// Losses in the ledger: known, and stated to the sink.
    pub losses: Vec<Loss>,
    /// What is wrong.
    pub wrong: Vec<Wrong>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// In which segment.
    pub segment: Option<u32>,
    /// Which readings are concerned, where that is known.
    pub readings: Option<Run>,
    /// What.
    pub what: String,
}

/// Reads everything; `progress` is told each segment that is done.
///
/// # Errors
/// The directory cannot be read, or was written by a newer version.
pub fn verify(path: &Path, mut progress: impl FnMut()) -> io::Result<Verified> {
    let mut verified = Verified::default();
    verified.owner(path)?;
    let before = verified.head(path, true)?;
    let mut present = Present::default();
    walk(
        path,
        |_| true,
        |segment, sight| {
            if matches!(sight, Sight::End { .. } | Sight::DamagedSegment { .. }) {
                verified.segments += 1;
                progress();
            }
            verified.see(path, segment, sight, &mut present)?;
            Ok(true)
        },
    )?;
    let after = verified.head(path, false)?.or_else(|| before.clone());
    verified.quarantined = directory::quarantined(path)?;
    if let (Some(before), Some(after)) = (&before, &after) {
        verified.compare(before, after, &present);
    } else {
        verified.waiting = verified.readings;
    }
    if let (Some(gateway), Some(topic), Some(book)) = (&verified.gateway, &verified.topic, &after) {
        let stated = |loss| loss_fact(gateway, topic, loss);
        verified.losses = book.losses.iter().map(stated).collect();
    }
    Ok(verified)
}

/// What the segments hold.
#[derive(Default)]
struct Present {
    runs: BTreeMap<Epoch, Vec<Run>>,
    /// The segment that is read, and the block that comes next in it.
    at: Option<(u32, u64)>,
}

impl Verified {
    fn wrong(&mut self, segment: Option<u32>, readings: Option<Run>, what: impl Into<String>) {
        self.wrong.push(Wrong {
            segment,
            readings,
            what: what.into(),
        });
    }

    fn owner(&mut self, path: &Path) -> io::Result<()> {
        let bytes = match fs::read(path.join("lane")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            other => other?,
        };
        match lane_of(&bytes) {
            Ok((gateway, topic)) => {
                self.gateway = Some(gateway);
                self.topic = Some(topic);
            }
            Err(super::envelope::EnvelopeError::Damaged) => {
                self.wrong(None, None, "the file lane is missing or damaged");
            }
            Err(newer) => return Err(other(newer)),
        }
        Ok(())
    }

    fn head(&mut self, path: &Path, first: bool) -> io::Result<Option<Book>> {
        let what = match head::read(path).map_err(other)?? {
            Found::Book { book, .. } => return Ok(Some(book)),
            Found::Nothing => "the head is missing",
            Found::Damaged => "both slots of the head are damaged",
        };
        if first {
            self.wrong(None, None, what);
        }
        Ok(None)
    }

    fn see(
        &mut self,
        path: &Path,
        segment: u32,
        sight: Sight,
        present: &mut Present,
    ) -> io::Result<()> {
        let sealed = || Summary::read(&segment_dir(path, segment)).map_err(other);
        let expected = match present.at {
            Some((at, next)) if at == segment => Some(next),
            _ => sealed()?.map(|summary| summary.first_block),
        };
        match sight {
            Sight::Block {
                number,
                header,
                items,
            } => {
                self.gap(segment, expected, number);
                present.at = Some((segment, number + 1));
                self.blocks += 1;
                self.readings += items.len() as u64;
                for (sequence, item) in (header.first..).zip(&items) {
                    if Digest::of(&item.reading) != item.digest {
                        let run = Run {
                            epoch: header.epoch,
                            first: sequence,
                            last: sequence,
                        };
                        self.wrong(
                            Some(segment),
                            Some(run),
                            "the digest is not that of the reading",
                        );
                    }
                }
                let runs = present.runs.entry(header.epoch).or_default();
                match runs.last_mut() {
                    Some(run) if run.last + 1 >= header.first => {
                        run.last = run.last.max(header.last());
                    }
                    _ => runs.push(Run {
                        epoch: header.epoch,
                        first: header.first,
                        last: header.last(),
                    }),
                }
            }
            Sight::DamagedBlock { number } => {
                self.gap(segment, expected, number);
                present.at = Some((segment, number + 1));
                self.wrong(Some(segment), None, format!("block {number} is damaged"));
            }
            Sight::DamagedSegment { reason } => {
                self.wrong(Some(segment), None, format!("it cannot be read: {reason}"));
            }
            Sight::End { sealed } => {
                if let (Some(summary), Some(expected)) = (sealed, expected) {
                    self.gap(segment, Some(expected), summary.next_block);
                }
            }
        }
        Ok(())
    }

    fn gap(&mut self, segment: u32, expected: Option<u64>, found: u64) {
        if let Some(first) = expected.filter(|expected| *expected < found) {
            let last = found - 1;
            self.wrong(
                Some(segment),
                None,
                format!("blocks {first} to {last} are missing"),
            );
        }
    }

    /// The head against the segments.
    fn compare(&mut self, before: &Book, after: &Book, present: &Present) {
        for entry in &before.epochs {
            let Some(committed) = entry.committed else {
                continue;
            };
            let mut next = after.unsettled(entry.epoch);
            let runs = present.runs.get(&entry.epoch);
            let end = Run {
                epoch: entry.epoch,
                first: committed + 1,
                last: committed + 1,
            };
            for run in runs.into_iter().flatten().chain([&end]) {
                let last = run.first.min(committed + 1).checked_sub(1);
                if let Some(last) = last.filter(|last| *last >= next) {
                    self.missing(after, entry.epoch, next, last);
                }
                next = next.max(run.last + 1);
            }
        }
        let waiting = present.runs.values().flatten().map(|run| {
            let first = run.first.max(after.unsettled(run.epoch).min(run.last + 1));
            Run { first, ..*run }.len()
        });
        self.waiting = waiting.sum();
    }

    fn missing(&mut self, book: &Book, epoch: Epoch, first: u64, last: u64) {
        for (first, end) in book.undeclared(epoch, first, Some(last)) {
            let last = end.unwrap_or(last);
            let run = Run { epoch, first, last };
            self.wrong(
                None,
                Some(run),
                "committed, not acknowledged, and not there",
            );
        }
    }
}
