//! The head: the [`Book`] in two slots of one file.
//!
//! ```text
//! slot 0 | slot 1     both half of the file; each an envelope (version 1) around the book in postcard
//! ```
//!
//! The slots are written in turn, so a write torn by a power cut leaves the other. The higher generation
//! is the truth. A book that outgrows its slot moves to a file of twice the size.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use super::{
    book::Book,
    envelope::{self, EnvelopeError},
    fault::step,
    files,
};

const VERSION: u8 = 1;
const SLOT_BYTES: usize = 16 * 1024;
const FILE: &str = "head";

/// The open head file.
#[derive(Debug)]
pub struct Head {
    path: PathBuf,
    file: File,
    slot_bytes: usize,
}

/// What reading the head gave.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// The newest intact slot.
    Book {
        /// What it says.
        book: Book,
        /// The other slot is intact as well, so nothing newer has been lost.
        newest: bool,
    },
    /// There is no file: a new lane, or a lost head.
    Nothing,
    /// There is a file, and neither slot is intact.
    Damaged,
}

/// Reads the head beside whoever may be writing it.
pub fn read(lane: &Path) -> Result<io::Result<Found>, EnvelopeError> {
    match fs::read(lane.join(FILE)) {
        Ok(bytes) => Ok(Ok(parse(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Ok(Found::Nothing)),
        Err(error) => Ok(Err(error)),
    }
}

/// The newest intact slot of the file's bytes.
pub fn parse(bytes: &[u8]) -> Result<Found, EnvelopeError> {
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let mut newest: Option<Book> = None;
    let mut intact = 0;
    for slot in [first, second] {
        match envelope::open(slot, VERSION) {
            Ok(body) => {
                // Bytes behind the book are a shorter one's predecessor; the envelope's length cuts them off.
                if let Ok(book) = postcard::from_bytes::<Book>(body) {
                    intact += 1;
                    if newest
                        .as_ref()
                        .is_none_or(|have| book.generation > have.generation)
                    {
                        newest = Some(book);
                    }
                }
            }
            Err(EnvelopeError::Damaged) => {}
            Err(newer) => return Err(newer),
        }
    }
    Ok(newest.map_or(Found::Damaged, |book| Found::Book {
        book,
        newest: intact == 2,
    }))
}

impl Head {
    /// Opens the head for writing, making room for it when there is none.
    pub fn open(lane: &Path) -> io::Result<Self> {
        let path = lane.join(FILE);
        let length = match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            other => other?.len(),
        };
        if length < 2 * SLOT_BYTES as u64 {
            // Too short is damaged; what could be read of it has been read.
            files::replace(&path, &vec![0; 2 * SLOT_BYTES])?;
        }
        let file = File::options().read(true).write(true).open(&path)?;
        let slot_bytes = usize::try_from(file.metadata()?.len() / 2).map_err(io::Error::other)?;
        Ok(Self {
            path,
            file,
            slot_bytes,
        })
    }

    /// Makes the book durable. Returns the bytes written.
    pub fn write(&mut self, book: &Book) -> io::Result<u64> {
        let body = postcard::to_allocvec(book).map_err(io::Error::other)?;
        let bytes = envelope::seal(VERSION, &body);
        step("head: before write")?;
        if bytes.len() > self.slot_bytes {
            return self.grow(&bytes);
        }
        let slot = if book.generation.is_multiple_of(2) {
            0
        } else {
            self.slot_bytes as u64
        };
        self.file.write_all_at(&bytes, slot)?;
        step("head: before fdatasync")?;
        self.file.sync_data()?;
        step("head: durable")?;
        Ok(bytes.len() as u64)
    }

    fn grow(&mut self, bytes: &[u8]) -> io::Result<u64> {
        let slot = (2 * bytes.len()).next_power_of_two();
        let mut whole = bytes.to_vec();
        whole.resize(slot, 0);
        whole.extend_from_within(..);
        files::replace(&self.path, &whole)?;
        self.file = File::options().read(true).write(true).open(&self.path)?;
        self.slot_bytes = slot;
        Ok(whole.len() as u64)
    }
}
