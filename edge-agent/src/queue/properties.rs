//! What must hold for any bytes on the disk; for the fuzz targets, and for the tests, which try some.
//!
//! Nothing here runs in the product. Each function panics when its property does not hold: bytes that are
//! accepted are written so that they read back the same, and nothing else panics.

use super::{
    block::{self, Packed},
    directory::{lane_body, lane_of},
    envelope,
    head::{self, Found},
    memory::Memory,
};

/// A file `lane`.
///
/// # Panics
/// The property does not hold.
pub fn lane(bytes: &[u8]) {
    if let Ok((gateway, topic)) = lane_of(bytes) {
        let again = lane_of(&lane_body(&gateway, &topic));
        assert_eq!(again, Ok((gateway, topic)));
    }
}

/// A file `head`.
///
/// # Panics
/// The property does not hold.
pub fn head(bytes: &[u8]) {
    if let Ok(Found::Book { book, .. }) = head::parse(bytes) {
        let body = postcard::to_allocvec(&book).unwrap_or_default();
        let mut file = envelope::seal(1, &body);
        file.extend_from_within(..);
        let newest = true;
        assert_eq!(head::parse(&file), Ok(Found::Book { book, newest }));
    }
}

/// A block.
///
/// # Panics
/// The property does not hold.
pub fn block(bytes: &[u8]) {
    let Ok((header, items)) = block::decode(bytes) else {
        return;
    };
    assert_eq!(header.count as usize, items.len());
    let packed = items.iter().map(|item| {
        Some(Packed {
            received: item.received,
            digest: item.digest,
            origin: item.origin,
            reading: block::pack(&item.reading)?,
        })
    });
    // Larger than a reading may be is accepted: that is the matter of ingest.
    let Some(packed) = packed.collect::<Option<Vec<_>>>() else {
        return;
    };
    let again = block::encode(
        header.epoch,
        header.first,
        header.committed,
        header.synced,
        &packed,
    );
    let mut read = Vec::new();
    for (header, bytes) in again {
        let (found, items) = block::decode(&bytes).unwrap_or((header, Vec::new()));
        assert_eq!(found, header);
        read.extend(items);
    }
    assert_eq!(read, items);
}

/// An entry of what a segment inherits, and what is done with it.
///
/// # Panics
/// The property does not hold.
pub fn carry(bytes: &[u8]) {
    if let Ok((memory, Some(first))) = Memory::read(&[bytes.to_vec()]) {
        let entries = memory.carry(first);
        let (again, place) = Memory::read(&entries).unwrap_or_default();
        assert_eq!((again.carry(first), place), (entries, Some(first)));
    }
}

/// The same, for bytes that nobody has checked: as the body of an envelope that is whole.
///
/// # Panics
/// The property does not hold.
pub fn inside(read: fn(&[u8]), body: &[u8]) {
    read(body);
    read(&envelope::seal(1, body));
}
