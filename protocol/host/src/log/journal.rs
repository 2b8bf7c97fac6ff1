//! systemd's journal, spoken to in its own protocol, so that `journalctl -p warning` and `journalctl F_LINK=serial`
//! find what they should. An entry is a datagram of `NAME=value` lines.
//!
//! Ours are far below what a datagram may hold, so nothing of the protocol but that is needed. Where the journal
//! takes no datagram, the line goes to stderr, which it reads as well, with the priority in front.

use std::{
    env, fs, io,
    os::unix::{fs::MetadataExt as _, net::UnixDatagram},
    path::Path,
};

/// Where the journal listens.
const SOCKET: &str = "/run/systemd/journal/socket";

/// The journal.
#[derive(Debug)]
pub struct Journal(UnixDatagram);

impl Journal {
    /// The one that stderr goes to, if it does.
    pub fn of_stderr() -> Option<Self> {
        let stream = env::var("JOURNAL_STREAM").ok()?;
        let stderr = fs::metadata("/proc/self/fd/2").ok()?;
        Self::of(&stream, &stderr, Path::new(SOCKET))
    }

    /// `stream` is what systemd says of the one it gave, and is inherited by a process whose stderr somebody has pointed
    /// elsewhere.
    fn of(stream: &str, stderr: &fs::Metadata, socket: &Path) -> Option<Self> {
        let is_it = stream == format!("{}:{}", stderr.dev(), stderr.ino());
        is_it.then(|| Self::at(socket).ok()).flatten()
    }

    /// Listening at `path`.
    pub fn at(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        Ok(Self(socket))
    }
}

/// Takes whole entries, each with the empty line that ends it.
impl io::Write for &Journal {
    fn write(&mut self, entries: &[u8]) -> io::Result<usize> {
        for entry in String::from_utf8_lossy(entries).split_inclusive("\n\n") {
            if self.0.send(entry.trim_end().as_bytes()).is_err() {
                io::stderr().write_all(plain(entry).as_bytes())?;
            }
        }
        Ok(entries.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An entry as it is told on stderr: `<4>level=warn msg=…`.
fn plain(entry: &str) -> String {
    let field = |name| entry.lines().find_map(|line| line.strip_prefix(name));
    let (priority, message) = (field("PRIORITY="), field("MESSAGE="));
    format!(
        "<{}>{}\n",
        priority.unwrap_or("6"),
        message.unwrap_or(entry)
    )
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const ENTRY: &str = "PRIORITY=4\nF_MSG=gone\nMESSAGE=level=warn msg=gone\n\n";

    #[test]
    fn the_journal_is_spoken_to_only_where_stderr_is_the_stream_that_systemd_gave() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let heard = UnixDatagram::bind(&path).unwrap();
        let stderr = fs::metadata(dir.path()).unwrap();
        let stream = format!("{}:{}", stderr.dev(), stderr.ino());
        let journal = Journal::of(&stream, &stderr, &path).unwrap();
        (&journal).write_all(ENTRY.as_bytes()).unwrap();
        let mut buffer = [0; 200];
        let length = heard.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], ENTRY.trim_end().as_bytes());

        let elsewhere = fs::metadata(&path).unwrap();
        assert!(Journal::of(&stream, &elsewhere, &path).is_none());
        assert!(Journal::of("", &stderr, &path).is_none());
        let nobody = dir.path().join("nobody");
        assert!(Journal::of(&stream, &stderr, &nobody).is_none());
    }

    #[test]
    fn each_entry_is_a_datagram() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let heard = UnixDatagram::bind(&path).unwrap();
        let journal = Journal::at(&path).unwrap();
        (&journal)
            .write_all(format!("{ENTRY}{ENTRY}").as_bytes())
            .unwrap();
        for _ in 0..2 {
            let mut buffer = [0; 200];
            let length = heard.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], ENTRY.trim_end().as_bytes());
        }
    }

    #[test]
    fn what_the_journal_does_not_take_is_told_on_stderr_with_its_priority() {
        assert_eq!(plain(ENTRY), "<4>level=warn msg=gone\n");
    }
}
