//! Sealing: close the store and open it once more, which writes the snapshot that makes it sturdy.

use std::{sync::Arc, thread, time::Duration};

use super::{
    fault::step,
    lane::{Lane, Life},
    segment::Segment,
};

/// Seals a segment that takes no more commits; whoever reads waits until it is done.
pub(super) fn seal(lane: &Lane, number: u32, segment: Arc<Segment>) {
    let dir = lane.segment_dir(number);
    let mut segment = Some(segment);
    while let Some(shared) = segment.take() {
        // A reader has it for the length of one call.
        segment = Arc::try_unwrap(shared).err();
        if segment.is_some() {
            thread::sleep(Duration::from_millis(1));
        }
    }
    let summary = lane
        .state()
        .segments
        .get(&number)
        .map(|info| info.summary.clone());
    let write = || {
        step("seal: closed")?;
        drop(Segment::open(&dir)?);
        step("seal: reopened")?;
        summary.map_or(Ok(()), |summary| summary.write(&dir))?;
        step("seal: written")
    };
    let sealed: std::io::Result<()> = write();
    if let Err(error) = sealed {
        tracing::warn!(lane = lane.name(), segment = number, %error, "queue segment not sealed");
    }
    let bytes = super::files::dir_bytes(&dir);
    {
        let mut state = lane.state();
        if let Some(info) = state.segments.get_mut(&number) {
            let grown = bytes.saturating_sub(info.bytes);
            info.bytes = bytes;
            info.life = Life::Sealed;
            state.written_bytes += grown;
        }
    }
    if let Err(error) = lane.sync_head() {
        tracing::warn!(lane = lane.name(), %error, "queue head not written");
    }
    lane.changed.notify_all();
}
