//! A TCP connection as a bad network makes it: slow, late, losing, breaking; a proxy on loopback that
//! stands between a daemon and what it connects to.
//!
//! What TCP makes of a lost segment is a pause and then everything; what it makes of a lost route is a
//! broken connection, perhaps in the middle of a message. Nothing is ever altered or left out.

use std::{
    collections::BTreeMap,
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context, Result};

use crate::{
    chaos::{dice::Dice, shim},
    port,
};

/// How often a thread looks up from a connection on which nothing comes.
const LOOK: Duration = Duration::from_millis(20);
/// A lost segment is sent again after so long, as TCP does first.
const STALL: Duration = Duration::from_millis(200);
const PIECE: usize = 16 * 1024;

/// What becomes of what passes. The default is a perfect link.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quality {
    /// Each piece of at most 16 KiB is under way so long.
    pub latency: Duration,
    /// Bytes a second in each direction; 0: any.
    pub bytes_per_second: u64,
    /// Of so many pieces one is lost at first; 0: none.
    pub loses_one_in: u64,
    /// Of so many pieces one breaks its connection, after a part of it; 0: none.
    pub breaks_one_in: u64,
}

#[derive(Debug)]
struct State {
    quality: Quality,
    dice: Dice,
    /// Raised to break every connection there is.
    cuts: u64,
    is_down: bool,
    /// The answer to a request with these bytes is lost, so many times.
    doomed: Option<(Vec<u8>, u32)>,
    /// What happened, for reports.
    faults: BTreeMap<&'static str, u64>,
}

/// The proxy. Its connections end with this value.
#[derive(Debug)]
pub struct Link {
    port: u16,
    target: SocketAddr,
    shared: Arc<Mutex<State>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Link {
    /// A perfect link to `target`, `host:port` on loopback.
    ///
    /// # Errors
    /// It is no address, or there is no port.
    pub fn to(target: &str, seed: u64) -> Result<Self> {
        let target: SocketAddr = target.parse().with_context(|| format!("no {target}"))?;
        let port = port::free()?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        listener.set_nonblocking(true)?;
        let shared = Arc::new(Mutex::new(State {
            quality: Quality::default(),
            dice: Dice::new(seed),
            cuts: 0,
            is_down: false,
            doomed: None,
            faults: BTreeMap::new(),
        }));
        let stop = Arc::new(AtomicBool::new(false));
        let (theirs, stopping) = (Arc::clone(&shared), Arc::clone(&stop));
        let thread = std::thread::Builder::new()
            .name("link".to_owned())
            .spawn(move || serve(&listener, target, &theirs, &stopping))?;
        Ok(Self {
            port,
            target,
            shared,
            stop,
            thread: Some(thread),
        })
    }

    /// The near end.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What a process needs in its environment to take this link wherever it connects to the far end
    /// (`tests/shim/detour.c`).
    ///
    /// # Errors
    /// The C compiler is missing.
    pub fn detour(&self) -> Result<Vec<(String, PathBuf)>> {
        let text = |port: u16| PathBuf::from(port.to_string());
        Ok(vec![
            ("LD_PRELOAD".to_owned(), shim::library("detour.c")?),
            ("DETOUR_FROM".to_owned(), text(self.target.port())),
            ("DETOUR_TO".to_owned(), text(self.port)),
        ])
    }

    /// From now on the link is like this.
    pub fn set(&self, quality: Quality) {
        lock(&self.shared).quality = quality;
    }

    /// Breaks every connection; new ones are taken.
    pub fn cut(&self) {
        lock(&self.shared).cuts += 1;
    }

    /// Breaks every connection and takes none until [`up`](Self::up).
    pub fn down(&self) {
        let mut state = lock(&self.shared);
        state.cuts += 1;
        state.is_down = true;
    }

    /// Undoes [`down`](Self::down).
    pub fn up(&self) {
        lock(&self.shared).is_down = false;
    }

    /// The next `times` requests in which `bytes` stand reach the far end, which does what they ask; the
    /// connection breaks instead of bringing the answer.
    pub fn lose_answers_to(&self, bytes: &[u8], times: u32) {
        lock(&self.shared).doomed = Some((bytes.to_vec(), times));
    }

    /// How often each thing has happened.
    #[must_use]
    pub fn faults(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.shared).faults.clone()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.cut();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn lock(shared: &Mutex<State>) -> MutexGuard<'_, State> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn fault(&mut self, name: &'static str) {
        *self.faults.entry(name).or_default() += 1;
    }

    fn falls_on(&mut self, one_in: u64) -> bool {
        one_in > 0 && self.dice.below(one_in) == 0
    }
}

fn serve(
    listener: &TcpListener,
    target: SocketAddr,
    shared: &Arc<Mutex<State>>,
    stop: &AtomicBool,
) {
    while !stop.load(Ordering::Relaxed) {
        let Ok((near, _)) = listener.accept() else {
            std::thread::sleep(LOOK / 4);
            continue;
        };
        // A connection that is not taken is closed at once, as by a router that has no way.
        if !lock(shared).is_down {
            drop(join(near, target, shared));
        }
    }
}

/// Starts the two threads of a connection; each ends with it.
fn join(near: TcpStream, target: SocketAddr, shared: &Arc<Mutex<State>>) -> Result<()> {
    near.set_nonblocking(false)?;
    let far = TcpStream::connect(target)?;
    let answer_is_lost = Arc::new(AtomicBool::new(false));
    let cuts = lock(shared).cuts;
    for (from, to, is_request) in [
        (near.try_clone()?, far.try_clone()?, true),
        (far, near, false),
    ] {
        from.set_read_timeout(Some(LOOK))?;
        to.set_nodelay(true)?;
        let mut way = Way {
            from,
            to,
            is_request,
            cuts,
            shared: Arc::clone(shared),
            answer_is_lost: Arc::clone(&answer_is_lost),
        };
        std::thread::Builder::new()
            .name("link".to_owned())
            .spawn(move || {
                // However it ends, both sides of the connection end.
                drop(way.run());
                drop(way.from.shutdown(Shutdown::Both));
                drop(way.to.shutdown(Shutdown::Both));
            })?;
    }
    Ok(())
}

/// One direction of a connection.
struct Way {
    from: TcpStream,
    to: TcpStream,
    is_request: bool,
    cuts: u64,
    shared: Arc<Mutex<State>>,
    answer_is_lost: Arc<AtomicBool>,
}

impl Way {
    fn run(&mut self) -> std::io::Result<()> {
        let mut piece = vec![0; PIECE];
        loop {
            let count = match self.from.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    0
                }
                Err(error) => return Err(error),
            };
            let piece = &piece[..count];
            let Some((pause, pass)) = self.fate(piece) else {
                return Ok(());
            };
            std::thread::sleep(pause);
            self.to.write_all(&piece[..pass])?;
            if pass < piece.len() {
                return Ok(());
            }
        }
    }

    /// How long a piece is under way, and how much of it arrives; nothing when the connection ends.
    fn fate(&self, piece: &[u8]) -> Option<(Duration, usize)> {
        let mut state = lock(&self.shared);
        if state.cuts > self.cuts {
            return None;
        }
        if piece.is_empty() {
            return Some((Duration::ZERO, 0));
        }
        if self.is_request {
            let meant = |bytes: &[u8]| piece.windows(bytes.len()).any(|part| part == bytes);
            if let Some((bytes, times)) = &mut state.doomed
                && *times > 0
                && meant(bytes)
            {
                *times -= 1;
                self.answer_is_lost.store(true, Ordering::Relaxed);
            }
        } else if self.answer_is_lost.load(Ordering::Relaxed) {
            state.fault("answer-lost");
            return None;
        }
        let quality = state.quality;
        let mut pause = quality.latency;
        let bytes = u64::try_from(piece.len()).unwrap_or(u64::MAX);
        if let Some(millis) = (bytes * 1000).checked_div(quality.bytes_per_second) {
            pause += Duration::from_millis(millis);
        }
        if state.falls_on(quality.loses_one_in) {
            state.fault("segment-lost");
            pause += STALL;
        }
        if state.falls_on(quality.breaks_one_in) {
            state.fault("connection-broken");
            let pass = state.dice.below(bytes);
            return Some((pause, usize::try_from(pass).unwrap_or(0)));
        }
        Some((pause, piece.len()))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::{TcpListener, TcpStream},
    };

    use super::{Link, Quality};

    /// Answers each byte with the next one.
    fn counter() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                std::thread::spawn(move || {
                    let mut byte = [0];
                    while stream.read_exact(&mut byte).is_ok() {
                        byte[0] += 1;
                        if stream.write_all(&byte).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        address
    }

    fn ask(link: &Link, byte: u8) -> std::io::Result<u8> {
        let mut stream = TcpStream::connect(link.address())?;
        let mut answer = [byte];
        stream.write_all(&answer)?;
        stream.read_exact(&mut answer)?;
        Ok(answer[0])
    }

    #[test]
    fn a_link_passes_what_it_is_given_breaks_and_loses_the_answer_it_was_told_to() {
        let link = Link::to(&counter(), 1).unwrap();
        assert_eq!(ask(&link, 1).unwrap(), 2);
        link.lose_answers_to(&[7], 1);
        assert_eq!(ask(&link, 3).unwrap(), 4);
        ask(&link, 7).unwrap_err();
        assert_eq!(ask(&link, 7).unwrap(), 8);
        assert_eq!(link.faults()["answer-lost"], 1);
        link.down();
        ask(&link, 1).unwrap_err();
        link.up();
        assert_eq!(ask(&link, 1).unwrap(), 2);
        link.set(Quality {
            breaks_one_in: 1,
            ..Quality::default()
        });
        ask(&link, 1).unwrap_err();
    }
}
