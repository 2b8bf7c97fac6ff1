//! A server that says yes and keeps nothing but which readings came.

use std::{
    io::{self, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use anyhow::{Result, ensure};
use mongodb::bson::{Bson, DateTime, Document, doc};

use super::{Message, OP_MSG, OP_QUERY, OP_REPLY, name, reply};

/// Readings a run may have.
const MOST: usize = 1 << 26;

/// Which readings came.
#[derive(Debug, Default)]
struct Seen {
    numbers: Vec<u64>,
    different: u64,
}

impl Seen {
    fn add(&mut self, sequences: &[u64]) {
        for &sequence in sequences {
            let Ok(at) = usize::try_from(sequence / 64) else {
                continue;
            };
            if at >= MOST / 64 {
                continue;
            }
            if at >= self.numbers.len() {
                self.numbers.resize(at + 1, 0);
            }
            let bit = 1 << (sequence % 64);
            self.different += u64::from(self.numbers[at] & bit == 0);
            self.numbers[at] |= bit;
        }
    }
}

#[derive(Debug, Default)]
struct Shared {
    seen: Mutex<Seen>,
    ends: AtomicBool,
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The server; it takes no more connections when it is dropped.
#[derive(Debug)]
pub struct NullServer {
    port: u16,
    shared: Arc<Shared>,
}

impl NullServer {
    /// Listens on a port of its own.
    ///
    /// # Errors
    /// There is none.
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        thread::Builder::new()
            .name("null-mongodb".into())
            .spawn(move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    if theirs.ends.load(Ordering::Acquire) {
                        return;
                    }
                    let shared = Arc::clone(&theirs);
                    // It ends with its connection, for whatever reason.
                    thread::spawn(move || serve(stream, &shared));
                }
            })?;
        Ok(Self { port, shared })
    }

    /// Its connection string.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("mongodb://127.0.0.1:{}/?directConnection=true", self.port)
    }

    /// Different sequences seen so far.
    #[must_use]
    pub fn different(&self) -> u64 {
        self.shared.seen().different
    }

    /// Checks that readings `0..count` came.
    ///
    /// # Errors
    /// One is missing: such a run has no throughput.
    pub fn check(&self, count: u64) -> Result<()> {
        let different = self.different();
        ensure!(different == count, "{different} of {count} readings came");
        Ok(())
    }
}

impl Drop for NullServer {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::Release);
        // Wakes the listener; if it is gone already, so much the better.
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
    }
}

fn serve(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut from = io::BufReader::with_capacity(256 * 1024, stream.try_clone()?);
    while let Some(message) = Message::read(&mut from)? {
        let sequences = message.inserted();
        let answer = match sequences.is_empty() {
            false => {
                shared.seen().add(&sequences);
                doc! { "ok": 1, "n": i32::try_from(sequences.len()).unwrap_or(i32::MAX) }
            }
            true => answer(&message),
        };
        let opcode = match message.opcode() {
            OP_QUERY => OP_REPLY,
            _ => OP_MSG,
        };
        let answer = answer.to_vec().map_err(io::Error::other)?;
        stream.write_all(&reply(opcode, message.request(), &answer))?;
    }
    Ok(())
}

/// Yes, in the words that each command expects.
fn answer(message: &Message) -> Document {
    let command = message.command().unwrap_or_default();
    let read = Document::from_reader(command).unwrap_or_default();
    let collection = |name: &str| read.get_str(name).unwrap_or_default().to_owned();
    match name(command).unwrap_or_default() {
        b"hello" | b"isMaster" | b"ismaster" => doc! {
            "ok": 1, "helloOk": true, "isWritablePrimary": true, "ismaster": true,
            "maxBsonObjectSize": 16 << 20, "maxMessageSizeBytes": 48_000_000,
            "maxWriteBatchSize": 100_000, "localTime": DateTime::now(),
            "logicalSessionTimeoutMinutes": 30, "minWireVersion": 0, "maxWireVersion": 21,
            "readOnly": false,
        },
        b"insert" => {
            let documents = read.get_array("documents").map_or(0, Vec::len);
            let beside = message.documents().count();
            doc! { "ok": 1, "n": i32::try_from(documents + beside).unwrap_or(0) }
        }
        b"update" => {
            let updates =
                read.get_array("updates").map_or(0, Vec::len) + message.documents().count();
            let n = i32::try_from(updates).unwrap_or(0);
            doc! { "ok": 1, "n": n, "nModified": n }
        }
        b"findAndModify" => doc! {
            "ok": 1, "value": { "_id": "checkpoint", "generation": 1_i64 },
            "lastErrorObject": { "n": 1, "updatedExisting": true },
        },
        // Of a field it is asked whether its type stands: it does.
        b"find" if collection("find") == "fields" => {
            let ids = read
                .get_document("filter")
                .and_then(|filter| filter.get_document("_id"));
            let ids = ids
                .and_then(|id| id.get_array("$in"))
                .cloned()
                .unwrap_or_default();
            let fields = ids
                .into_iter()
                .map(|id| Bson::from(doc! { "_id": id, "type": "double" }));
            cursor("t.fields", fields.collect())
        }
        b"find" | b"aggregate" | b"listCollections" | b"listIndexes" => {
            cursor("t.none", Vec::new())
        }
        _ => doc! { "ok": 1, "n": 0 },
    }
}

fn cursor(namespace: &str, first: Vec<Bson>) -> Document {
    doc! { "ok": 1, "cursor": { "id": 0_i64, "ns": namespace, "firstBatch": first } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_counts_once_however_often_it_comes() {
        let mut seen = Seen::default();
        seen.add(&[0, 63, 64, 63, 1000]);
        seen.add(&[0, 1]);
        assert_eq!(seen.different, 5);
    }

    #[test]
    fn the_driver_takes_it_for_a_server() {
        let server = NullServer::start().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let client = mongodb::Client::with_uri_str(server.uri()).await.unwrap();
            let readings = client.database("t").collection("readings");
            let documents =
                (0..10).map(|number| doc! { "_id": format!("g:000000000001:{number:012x}") });
            readings
                .insert_many(documents)
                .ordered(false)
                .await
                .unwrap();
        });
        server.check(10).unwrap();
    }
}
