//! A power cut: of what was written and not yet synced, the disk has any part, in any order.
//!
//! A sector is old or new, never half of each. Names are durable at once: what makes one syncs its directory before
//! it goes on, and between the two there is no step.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use super::copy;

const SECTOR: usize = 512;

/// Steps before which something was written that is not synced.
pub(super) const UNSYNCED: [&str; 4] = [
    "append: before flush",
    "append: before fdatasync",
    "head: before fdatasync",
    "replace: written",
];

/// The files below a directory that are durable, and what is in them.
pub(super) struct Durable(BTreeMap<PathBuf, Vec<u8>>);

impl Durable {
    /// All of what is there.
    pub fn of(dir: &Path) -> Self {
        let mut files = BTreeMap::new();
        read(dir, dir, &mut files);
        Self(files)
    }

    /// Copies `dir` as a power cut now may leave it. `seed` says which of the sectors that changed since are new.
    pub fn torn(&self, dir: &Path, to: &Path, seed: u64) {
        copy(dir, to);
        for (name, new) in Self::of(to).0 {
            let old = self.0.get(&name).map_or(&[][..], Vec::as_slice);
            if old != new {
                fs::write(to.join(name), mixed(old, &new, seed)).unwrap();
            }
        }
    }
}

fn read(root: &Path, dir: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read(root, &path, files);
        } else {
            let name = path.strip_prefix(root).unwrap().to_owned();
            files.insert(name, fs::read(path).unwrap());
        }
    }
}

/// Sectors of `new` among those of `old`: none to all of them, wherever they are. What lies between and was never
/// written is zero.
fn mixed(old: &[u8], new: &[u8], seed: u64) -> Vec<u8> {
    let mut mixed = old.to_vec();
    for (index, sector) in new.chunks(SECTOR).enumerate() {
        let dice = (seed ^ index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        if dice % 4 >= seed % 5 {
            continue;
        }
        let at = index * SECTOR;
        if mixed.len() < at + sector.len() {
            mixed.resize(at + sector.len(), 0);
        }
        mixed[at..at + sector.len()].copy_from_slice(sector);
    }
    mixed
}

#[test]
fn a_torn_file_has_sectors_of_both_and_of_one_only_where_all_or_none_are_new() {
    let (old, new) = (vec![1; 40 * SECTOR], vec![2; 60 * SECTOR]);
    for seed in 0..200 {
        let torn = mixed(&old, &new, seed);
        let is_new = |sector: &[u8]| sector.iter().all(|&byte| byte == 2);
        let count = torn.chunks(SECTOR).filter(|sector| is_new(sector)).count();
        match seed % 5 {
            0 => assert_eq!(torn, old),
            4 => assert_eq!(torn, new),
            _ => assert!((5..55).contains(&count), "{seed}: {count}"),
        }
    }
}
