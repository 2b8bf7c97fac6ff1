//! What of each stream is in a time series, as far as coverage and this process know.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use protocol::{Epoch, GatewayId};

use super::batch::Batch;
use crate::{
    coverage::Ranges,
    message::Partition,
    store::{Outage, Store, readings::Verdict},
};

/// Streams of which is known what is stored; beyond, those unused for [`UNUSED`] are asked for again.
const MAX_STREAMS: usize = 50_000;
const UNUSED: Duration = Duration::from_secs(60);

/// A stream in one partition.
pub(super) type StreamKey = (Partition, GatewayId, Epoch);

#[derive(Debug, Default)]
pub(super) struct Known {
    streams: HashMap<StreamKey, Stream>,
}

#[derive(Debug)]
pub(super) struct Stream {
    fence: i64,
    pub present: Ranges,
    /// Coverage had no room for everything.
    pub is_partial: bool,
    used: Instant,
}

impl Known {
    pub fn note(&mut self, batch: &Batch<'_>) {
        for at in 0..batch.entries.len() {
            let stored = batch.verdicts.get(at).and_then(Option::as_ref);
            let is_stored = matches!(
                stored,
                Some(Verdict::Written | Verdict::Duplicate(_) | Verdict::Conflict(_))
            );
            if is_stored
                && let Some((key, sequence)) = batch.stream(at)
                && let Some(stream) = self.streams.get_mut(&key)
            {
                stream.present.insert(sequence, sequence);
            }
        }
    }

    /// Forgets what was unused for long. What was inserted of it is in coverage by then, for checkpoints
    /// come every few seconds while MongoDB is there.
    fn make_room(&mut self, now: Instant) {
        if self.streams.len() >= MAX_STREAMS {
            let is_used = |stream: &Stream| now.saturating_duration_since(stream.used) < UNUSED;
            self.streams.retain(|_, stream| is_used(stream));
        }
    }
}

impl Store {
    /// The stream of a partition that is held in the generation `fence`.
    pub(super) async fn known_stream<'k>(
        &self,
        known: &'k mut Known,
        key: StreamKey,
        fence: i64,
    ) -> Result<&'k Stream, Outage> {
        let is_current = |known: &Known| known.streams.get(&key).is_some_and(|s| s.fence == fence);
        if !is_current(known) {
            let (partition, gateway, epoch) = &key;
            let stored = self
                .covered_anywhere(gateway, &partition.topic, *epoch)
                .await?;
            let mut stream = Stream {
                fence,
                present: Ranges::default(),
                is_partial: false,
                used: Instant::now(),
            };
            for part in stored {
                stream.present.extend(&part.all_present());
                stream.is_partial |= part.overflowed;
            }
            known.make_room(Instant::now());
            // What this process wrote in a former life of the partition is not forgotten.
            if let Some(former) = known.streams.get(&key) {
                stream.present.extend(&former.present);
            }
            known.streams.insert(key.clone(), stream);
        }
        let stream = known.streams.entry(key).or_insert_with(|| Stream {
            fence,
            present: Ranges::default(),
            is_partial: true,
            used: Instant::now(),
        });
        stream.used = Instant::now();
        Ok(stream)
    }
}
