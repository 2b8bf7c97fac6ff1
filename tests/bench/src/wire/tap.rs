//! Between a client and a real server: sees when which reading was acknowledged.

use std::{
    collections::HashMap,
    io::{self, BufReader, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Instant,
};

use anyhow::{Context, Result};

use super::Message;

#[derive(Debug, Default)]
struct Shared {
    acknowledged: Mutex<Vec<(u64, Instant)>>,
    ends: AtomicBool,
}

impl Shared {
    fn acknowledged(&self) -> MutexGuard<'_, Vec<(u64, Instant)>> {
        self.acknowledged
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The tap; it takes no more connections when it is dropped.
#[derive(Debug)]
pub struct Tap {
    port: u16,
    shared: Arc<Shared>,
}

impl Tap {
    /// Listens, and passes everything on to the server of a connection string.
    ///
    /// # Errors
    /// There is no port, or the string names no server.
    pub fn start(uri: &str) -> Result<Self> {
        let host = uri
            .strip_prefix("mongodb://")
            .and_then(|rest| rest.split('/').next())
            .with_context(|| format!("no mongodb://host:port: {uri}"))?
            .to_owned();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        thread::Builder::new().name("tap".into()).spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if theirs.ends.load(Ordering::Acquire) {
                    return;
                }
                // A connection that fails is closed on both sides; the driver opens another.
                let _failed = pass(stream, &host, &theirs);
            }
        })?;
        Ok(Self { port, shared })
    }

    /// Where the client connects instead.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("mongodb://127.0.0.1:{}/?directConnection=true", self.port)
    }

    /// How many readings were acknowledged so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.shared.acknowledged().len() as u64
    }

    /// Sequences with the moment at which the server's acknowledgement passed.
    #[must_use]
    pub fn acknowledged(&self) -> Vec<(u64, Instant)> {
        self.shared.acknowledged().clone()
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::Release);
        // Wakes the listener; if it is gone already, so much the better.
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
    }
}

/// Requests under way on one connection.
type Open = Arc<Mutex<HashMap<i32, Vec<u64>>>>;

fn pass(client: TcpStream, host: &str, shared: &Arc<Shared>) -> io::Result<()> {
    let server = TcpStream::connect(host)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let open = Open::default();
    let (from, to, asked) = (client.try_clone()?, server.try_clone()?, Arc::clone(&open));
    let note = move |message: &Message| {
        let sequences = message.inserted();
        if !sequences.is_empty() {
            lock(&asked).insert(message.request(), sequences);
        }
    };
    thread::spawn(move || copy(from, to, note));
    let shared = Arc::clone(shared);
    let tell = move |message: &Message| {
        if let Some(sequences) = lock(&open).remove(&message.response_to()) {
            let now = Instant::now();
            let passed = sequences.into_iter().map(|sequence| (sequence, now));
            shared.acknowledged().extend(passed);
        }
    };
    thread::spawn(move || copy(server, client, tell));
    Ok(())
}

fn lock(open: &Open) -> MutexGuard<'_, HashMap<i32, Vec<u64>>> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Until one side closes; then both are closed.
fn copy(from: TcpStream, mut to: TcpStream, look: impl Fn(&Message)) -> io::Result<()> {
    let closes = from.try_clone()?;
    let mut from = BufReader::with_capacity(256 * 1024, from);
    let copied = loop {
        match Message::read(&mut from) {
            Ok(Some(message)) => {
                look(&message);
                if let Err(error) = to.write_all(&message.bytes) {
                    break Err(error);
                }
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    for side in [&closes, &to] {
        // Whoever has closed already is closed.
        let _closed = side.shutdown(Shutdown::Both);
    }
    copied
}
