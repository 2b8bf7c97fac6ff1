//! Opening a lane: finds out what exists, compares it with what must exist, declares the difference.
//! A start never fails for damage.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Condvar, Mutex},
    time::Instant,
};

use protocol::{Epoch, control::LossReason};

use super::{
    Now, OpenError, Opened,
    active::{Active, Leaked},
    book::{Book, EpochEntry, LossEntry},
    directory::{Place, clear_dead, newer, other_bytes},
    files,
    head::{self, Found, Head},
    lane::{Info, Lane, Life, State, segment_dir},
    reader::Reader,
    summary::{Run, Summary},
    survey::{Survey, survey},
    untold::Untold,
    writer::Writer,
};
use crate::{config, conservation::Conservation};

/// What of a lane is believed without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// What sealed segments say of themselves: a start is quick, and damage is found when it is read.
    Seals,
    /// Nothing: everything is read, so that all damage is declared at once.
    Nothing,
}

pub(super) fn open(
    place: Place,
    settings: &config::Queue,
    conservation: Arc<Conservation>,
    now: Now,
    trust: Trust,
) -> Result<Opened, OpenError> {
    let path = place.path.clone();
    let io = |source| OpenError::Io {
        path: path.clone(),
        source,
    };
    // Before anything is touched: a newer program may have written it.
    let found = read_head(&path)?;
    files::create_dir(&path.join("segments")).map_err(io)?;
    clear_dead(&path).map_err(io)?;
    let mut survey = survey(&path, settings, trust)?;
    let book = recover_book(found, &path, &survey, now);
    let active = survey.active.take().map(|(number, segment)| Active {
        number,
        segment: Arc::new(segment),
        since: Instant::now(),
        fresh: false,
    });
    let ends = survey.segments.values().map(|summary| summary.next_block);
    let next_block = ends.max().unwrap_or(1);
    let mut memory = survey.memory.take().unwrap_or_default();
    let untold = Untold::read(&path, &mut memory, next_block, &book)
        .map_err(|error| newer(&path.join("dropped"), error))?
        .map_err(io)?;
    let mut state = State::new(book, other_bytes(&path));
    let recovered = fill(&mut state, survey.segments, active.as_ref(), &path);
    conservation.recovered(recovered);
    let lane = Arc::new(Lane {
        max_bytes: settings.max_bytes,
        conservation,
        state: Mutex::new(state),
        changed: Condvar::new(),
        head: Mutex::new(Head::open(&path).map_err(io)?),
        place,
    });
    lane.sync_head().map_err(io)?;
    tracing::info!(lane = lane.name(), readings = recovered, "queue opened");
    let writer = Writer {
        lane: Arc::clone(&lane),
        settings: settings.clone(),
        memory,
        epoch: None,
        epoch_durable: false,
        next_block,
        next_segment: survey.next_segment,
        active,
        reserved: std::collections::VecDeque::new(),
        untold,
        leaked: Leaked::default(),
        head_synced: Instant::now(),
        sealer: None,
    };
    Ok(Opened {
        writer,
        reader: Reader::new(Arc::clone(&lane), settings.clone()),
        lane,
    })
}

fn read_head(path: &Path) -> Result<Found, OpenError> {
    let name = path.join("head");
    head::read(path)
        .map_err(|error| newer(&name, error))?
        .map_err(|source| OpenError::Io { path: name, source })
}

/// The book as the head has it, put right by what the segments hold.
fn recover_book(found: Found, path: &Path, survey: &Survey, now: Now) -> Book {
    let (mut book, trusted) = match found {
        Found::Book { book, newest } => (book, newest),
        Found::Nothing => (Book::default(), false),
        Found::Damaged => {
            tracing::warn!(lane = %path.display(), "queue head is damaged, recovering from the segments");
            (Book::default(), false)
        }
    };
    if !trusted {
        adopt(&mut book, survey);
    }
    reconcile(&mut book, survey, now);
    book
}

/// Takes epochs into the book that the segments hold and the book does not know: the newest slot of the
/// head is lost. Some of their readings may be sent again, which is harmless.
fn adopt(book: &mut Book, survey: &Survey) {
    let mut order: Vec<(Epoch, u64)> = Vec::new();
    for run in survey.segments.values().flat_map(|summary| &summary.runs) {
        if order.iter().all(|(epoch, _)| *epoch != run.epoch) {
            order.push((run.epoch, run.first));
        }
    }
    let known = |book: &Book, epoch| book.epochs.iter().position(|entry| entry.epoch == epoch);
    let mut at = order
        .iter()
        .find_map(|(epoch, _)| known(book, *epoch))
        .unwrap_or(book.epochs.len());
    for (epoch, first) in order {
        match known(book, epoch) {
            Some(index) => at = index + 1,
            None => {
                let previous = at.checked_sub(1).map(|before| &book.epochs[before]);
                let previous = previous.map(|before| (before.epoch, before.committed));
                let entry = EpochEntry {
                    epoch,
                    previous,
                    committed: None,
                    acknowledged: first.checked_sub(1),
                    offsets: BTreeMap::new(),
                    closed: true,
                };
                book.epochs.insert(at, entry);
                at += 1;
            }
        }
    }
}

/// Declares what must exist and does not.
fn reconcile(book: &mut Book, survey: &Survey, now: Now) {
    let present: Vec<Run> = survey
        .segments
        .values()
        .flat_map(|summary| summary.runs.iter().copied())
        .collect();
    for run in present.iter().chain(&survey.gone) {
        book.commit(run.epoch, run.last);
    }
    // Earlier versions declared what they dropped before they counted its numbers as used.
    for (epoch, last) in book
        .losses
        .iter()
        .map(|loss| (loss.epoch, loss.last))
        .collect::<Vec<_>>()
    {
        if let Some(last) = last {
            book.commit(epoch, last);
        }
    }
    let last_epoch = book.epochs.last().map(|entry| entry.epoch);
    let mut losses = Vec::new();
    for entry in &mut book.epochs {
        entry.closed = true;
        let mut next = entry.unsettled();
        let mut lose = |first, last| {
            losses.push(LossEntry {
                epoch: entry.epoch,
                first,
                last,
                reason: LossReason::Unreadable,
                merged: false,
                // It may have been sent before the cursor was made durable.
                possibly_delivered: true,
                at: now.wall,
            });
        };
        for run in present.iter().filter(|run| run.epoch == entry.epoch) {
            if run.first > next {
                lose(next, Some(run.first - 1));
            }
            next = next.max(run.last + 1);
        }
        if Some(entry.epoch) == last_epoch && survey.end_unknown {
            lose(next, None);
        } else if let Some(committed) = entry.committed.filter(|last| *last >= next) {
            lose(next, Some(committed));
        }
    }
    for loss in losses {
        let before = book.losses.clone();
        let (epoch, first, last) = (loss.epoch, loss.first, loss.last);
        book.lose(loss);
        if before != book.losses {
            tracing::error!(%epoch, first, last, "queue lost readings");
        }
    }
}

/// Enters the segments; returns how many readings wait.
fn fill(
    state: &mut State,
    segments: BTreeMap<u32, Summary>,
    active: Option<&Active>,
    path: &Path,
) -> u64 {
    let newest = segments.keys().next_back().copied();
    let mut recovered = 0;
    let mut front = None;
    for (number, mut summary) in segments {
        let life = match active {
            Some(active) if active.number == number => Life::Active(Arc::clone(&active.segment)),
            _ => Life::Sealed,
        };
        let bytes = files::dir_bytes(&segment_dir(path, number));
        // A commit that failed may be here and, written again, in the next one: once is enough.
        summary.runs = without(&summary.runs, state);
        let runs = state.unsettled(&summary);
        let lost = !runs.is_empty() && runs.iter().all(|run| state.book.declares(run));
        if (runs.is_empty() || lost) && Some(number) != newest {
            // Settled, or declared lost just before a crash.
            state.doomed.insert(number, bytes);
            continue;
        }
        front = front.or(runs.first().map(|run| (run.epoch, run.first)));
        let remaining = runs.iter().map(Run::len).sum();
        recovered += remaining;
        let info = Info {
            summary,
            remaining,
            waits_since: None,
            bytes,
            life,
        };
        state.segments.insert(number, info);
    }
    state.book.settle_before(front);
    recovered
}

/// The runs without what earlier segments hold.
fn without(runs: &[Run], state: &State) -> Vec<Run> {
    let earlier = state
        .segments
        .values()
        .next_back()
        .and_then(|info| info.summary.runs.last().copied());
    runs.iter()
        .map(|run| match earlier {
            Some(earlier) if earlier.epoch == run.epoch => Run {
                first: run.first.max((earlier.last + 1).min(run.last + 1)),
                ..*run
            },
            _ => *run,
        })
        .filter(|run| run.len() > 0)
        .collect()
}
