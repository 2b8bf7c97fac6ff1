//! Devices and the broker between them and the agent, in one thread outside the fault domain.
//!
//! Reading number `k` belongs to device `k % DEVICES`, is its `k / DEVICES`-th, and has the value
//! [`value`]`(k)`. It is delivered at QoS 1 until the agent acknowledges it; from then on it is an
//! obligation. After a break everything unacknowledged is delivered again with DUP set, in the order
//! and with the packet ids of before, as a broker must.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use bytes::BytesMut;
use rumqttc::mqttbytes::{
    self, QoS,
    v4::{ConnAck, ConnectReturnCode, Packet, PingResp, Publish, SubAck, SubscribeReasonCode},
};

use super::dice::mix;

/// So many devices play in turn.
pub const DEVICES: u64 = 4;
/// Packet ids are given in turn; the window must be far smaller.
const PACKET_IDS: u64 = 50_000;

/// The one value of reading `k`, exact in JSON and in binary.
#[must_use]
pub fn value(k: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "32 bits fit")]
    let value = (mix(k) >> 32) as f64 / 8.0;
    value
}

/// Name of the device of reading `k`, and its sequence there.
#[must_use]
pub fn source(k: u64) -> (String, u64) {
    (format!("press-{}", k % DEVICES), k / DEVICES)
}

/// The `k` of a device's sequence; the reverse of [`source`].
#[must_use]
pub fn number(device: &str, sequence: u64) -> Option<u64> {
    let device: u64 = device.strip_prefix("press-")?.parse().ok()?;
    (device < DEVICES).then_some(sequence * DEVICES + device)
}

/// The subscription of the agent under test.
pub const SOURCES: &str = r#"
[[mqtt]]
name = "feed"
url = "{{feed}}"
subscribe = [ { topic = "feed/{device}", preset = "json", sequence = "seq", boot = "boot" } ]
"#;

#[derive(Debug, Default)]
struct State {
    /// Readings below this may be sent.
    limit: u64,
    next: u64,
    window: u64,
    /// Between two readings, at least.
    pace: Duration,
    unacknowledged: BTreeSet<u64>,
    acknowledged: BTreeSet<u64>,
    stray_acks: u64,
    knows_the_agent: bool,
    connections: u64,
    /// Acknowledgements on the connection of now.
    acks_here: u64,
    cut: Cut,
    /// Added to every packet id: those of a session that was lost mean nothing in the next one.
    first_packet: u64,
    stop: bool,
}

/// What becomes of the connection.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// It stays.
    #[default]
    No,
    /// It is closed; the session stays.
    Connection,
    /// It is closed, and the broker has forgotten the agent and what it subscribed to.
    Session,
    /// The same, and the messages that were not acknowledged are forgotten as well.
    Messages,
    /// Nobody reads or writes any more, and nobody says so.
    Silent,
}

/// The feed. Ends with this value.
#[derive(Debug)]
pub struct Feed {
    shared: Arc<(Mutex<State>, Condvar)>,
    url: String,
    thread: Option<JoinHandle<()>>,
}

impl Feed {
    /// Listens; nothing is sent before [`allow`](Self::allow).
    ///
    /// # Errors
    /// There is no port or thread.
    pub fn start(window: u64) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let url = format!("mqtt://{}", listener.local_addr()?);
        let shared: Arc<(Mutex<State>, Condvar)> = Arc::default();
        lock(&shared).window = window;
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("feed".to_owned())
            .spawn(move || serve(&listener, &theirs))?;
        Ok(Self {
            shared,
            url,
            thread: Some(thread),
        })
    }

    /// Where the agent connects.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// `more` readings may be sent; returns how many may be altogether.
    pub fn allow(&self, more: u64) -> u64 {
        let mut state = lock(&self.shared);
        state.limit = state.limit.saturating_add(more);
        state.limit
    }

    /// No new readings; what was sent stays owed by the agent or to be sent again.
    pub fn hold(&self) {
        let mut state = lock(&self.shared);
        state.limit = state.next;
    }

    /// At least so long between two readings.
    pub fn pace(&self, pace: Duration) {
        lock(&self.shared).pace = pace;
    }

    /// Obligations: what the agent has acknowledged.
    #[must_use]
    pub fn acknowledged(&self) -> BTreeSet<u64> {
        lock(&self.shared).acknowledged.clone()
    }

    /// How many obligations.
    #[must_use]
    pub fn obligations(&self) -> u64 {
        lock(&self.shared).acknowledged.len() as u64
    }

    /// Whether everything that was sent is acknowledged, and all that may be is sent.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let state = lock(&self.shared);
        state.unacknowledged.is_empty() && state.next >= state.limit
    }

    /// A new run begins: what was acknowledged so far is no obligation of it.
    pub fn forget(&self) {
        let mut state = lock(&self.shared);
        state.acknowledged.clear();
        state.stray_acks = 0;
    }

    /// Closes the connection, as a broker that is killed and comes back.
    pub fn cut_connection(&self) {
        lock(&self.shared).cut = Cut::Connection;
    }

    /// Closes the connection and forgets the session, as a broker without a store does. What was not
    /// acknowledged is published anew, under other packet ids and without DUP.
    pub fn lose_session(&self) {
        lock(&self.shared).cut = Cut::Session;
    }

    /// The same of a broker that has forgotten those messages, too: others come in their places.
    pub fn lose_messages(&self) {
        lock(&self.shared).cut = Cut::Messages;
    }

    /// Falls silent without closing, as behind a firewall that forgot the connection, until the agent
    /// comes anew.
    pub fn fall_silent(&self) {
        lock(&self.shared).cut = Cut::Silent;
    }

    /// Acknowledgements of messages that nobody had sent.
    #[must_use]
    pub fn stray_acks(&self) -> u64 {
        lock(&self.shared).stray_acks
    }

    /// Times the agent has come.
    #[must_use]
    pub fn connections(&self) -> u64 {
        lock(&self.shared).connections
    }

    /// Waits until the agent has come more than `before` times.
    ///
    /// # Errors
    /// It does not.
    pub fn wait_connection(&self, before: u64, within: Duration) -> Result<()> {
        self.wait("the agent to connect", within, |state| {
            state.connections > before
        })
    }

    /// Waits until all is acknowledged, for as long as more and more is.
    ///
    /// # Errors
    /// Nothing more was for `patience`.
    pub fn wait_settled(&self, patience: Duration) -> Result<()> {
        let is_settled =
            |state: &State| state.unacknowledged.is_empty() && state.next >= state.limit;
        loop {
            let before = self.obligations();
            let moved =
                |state: &State| is_settled(state) || state.acknowledged.len() as u64 > before;
            self.wait("every reading to be acknowledged", patience, moved)?;
            if self.is_settled() {
                return Ok(());
            }
        }
    }

    /// Waits until `count` readings are acknowledged on this connection.
    ///
    /// # Errors
    /// They are not.
    pub fn wait_acks_here(&self, count: u64, within: Duration) -> Result<()> {
        self.wait("acknowledgements", within, |state| state.acks_here >= count)
    }

    fn wait(&self, what: &str, within: Duration, condition: impl Fn(&State) -> bool) -> Result<()> {
        let state = lock(&self.shared);
        let waited = self
            .shared
            .1
            .wait_timeout_while(state, within, |state| !condition(state));
        let (state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() {
            bail!(
                "waited {within:?} for {what}: {} sent of {}, {} acknowledged, {} connections",
                state.next,
                state.limit,
                state.acknowledged.len(),
                state.connections
            );
        }
        Ok(())
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        lock(&self.shared).stop = true;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn lock(shared: &(Mutex<State>, Condvar)) -> MutexGuard<'_, State> {
    shared.0.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(listener: &TcpListener, shared: &(Mutex<State>, Condvar)) {
    // A connection that fell silent stays open for the agent.
    let mut silent = Vec::new();
    loop {
        if lock(shared).stop {
            return;
        }
        match listener.accept() {
            // A connection ends with an error, always: the agent is gone or speaks nonsense, which
            // shows as readings that are not acknowledged.
            Ok((stream, _)) => {
                silent.extend(stream.try_clone());
                drop(Session::play(stream, shared));
                if lock(shared).cut != Cut::Silent {
                    silent.clear();
                }
                lock(shared).cut = Cut::No;
            }
            Err(_) => std::thread::sleep(Duration::from_micros(500)),
        }
    }
}

struct Session<'a> {
    stream: TcpStream,
    shared: &'a (Mutex<State>, Condvar),
    input: BytesMut,
    output: BytesMut,
    /// Packet id to reading, for this connection.
    sent: BTreeMap<u16, u64>,
    due: Instant,
}

impl<'a> Session<'a> {
    fn play(stream: TcpStream, shared: &'a (Mutex<State>, Condvar)) -> Result<()> {
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_millis(1)))?;
        stream.set_write_timeout(Some(Duration::from_secs(5)))?;
        let mut session = Self {
            stream,
            shared,
            input: BytesMut::new(),
            output: BytesMut::new(),
            sent: BTreeMap::new(),
            due: Instant::now(),
        };
        session.wait(|packet| matches!(packet, Packet::Connect(_)))?;
        let known = lock(shared).knows_the_agent;
        ConnAck::new(ConnectReturnCode::Success, known).write(&mut session.output)?;
        if !known {
            session.flush()?;
            session.wait(|packet| matches!(packet, Packet::Subscribe(_)))?;
        }
        session.begin(known)?;
        while !session.is_cut() {
            session.send_new()?;
            session.flush()?;
            session.receive()?;
            while let Some(packet) = session.packet()? {
                session.take(&packet)?;
            }
        }
        Ok(())
    }

    fn begin(&mut self, known: bool) -> Result<()> {
        let again: Vec<u64> = {
            let mut state = lock(self.shared);
            state.connections += 1;
            state.acks_here = 0;
            state.knows_the_agent = true;
            self.shared.1.notify_all();
            state.unacknowledged.iter().copied().collect()
        };
        for k in again {
            self.publish(k, known)?;
        }
        self.flush()
    }

    fn is_cut(&self) -> bool {
        let mut state = lock(self.shared);
        if matches!(state.cut, Cut::Session | Cut::Messages) {
            state.knows_the_agent = false;
            state.first_packet += 7000;
        }
        if state.cut == Cut::Messages {
            state.unacknowledged.clear();
        }
        state.stop || state.cut != Cut::No
    }

    fn send_new(&mut self) -> Result<()> {
        loop {
            let k = {
                let mut state = lock(self.shared);
                let full = state.unacknowledged.len() as u64 >= state.window;
                if full || state.next >= state.limit || Instant::now() < self.due {
                    return Ok(());
                }
                if !state.pace.is_zero() {
                    self.due = Instant::now() + state.pace;
                }
                let k = state.next;
                state.next += 1;
                state.unacknowledged.insert(k);
                k
            };
            self.publish(k, false)?;
        }
    }

    fn publish(&mut self, k: u64, dup: bool) -> Result<()> {
        let (device, sequence) = source(k);
        let power = value(k);
        let payload = format!(r#"{{"boot":1,"seq":{sequence},"power_w":{power:?}}}"#);
        let mut publish = Publish::new(format!("feed/{device}"), QoS::AtLeastOnce, payload);
        let packet = k + lock(self.shared).first_packet;
        publish.pkid = u16::try_from(packet % PACKET_IDS)? + 1;
        publish.dup = dup;
        self.sent.insert(publish.pkid, k);
        publish.write(&mut self.output)?;
        Ok(())
    }

    fn take(&mut self, packet: &Packet) -> Result<()> {
        match packet {
            Packet::PubAck(ack) => {
                let k = self.sent.remove(&ack.pkid);
                let mut state = lock(self.shared);
                match k {
                    Some(k) if state.unacknowledged.remove(&k) => {
                        state.acknowledged.insert(k);
                        state.acks_here += 1;
                    }
                    _ => state.stray_acks += 1,
                }
                self.shared.1.notify_all();
            }
            Packet::Subscribe(subscribe) => {
                let granted = subscribe.filters.iter();
                let granted = granted.map(|filter| SubscribeReasonCode::Success(filter.qos));
                SubAck::new(subscribe.pkid, granted.collect()).write(&mut self.output)?;
            }
            Packet::PingReq => {
                PingResp.write(&mut self.output)?;
            }
            Packet::Disconnect => bail!("the agent said goodbye"),
            _ => {}
        }
        Ok(())
    }

    fn wait(&mut self, wanted: impl Fn(&Packet) -> bool) -> Result<()> {
        loop {
            if lock(self.shared).stop {
                bail!("the feed ends");
            }
            self.receive()?;
            if let Some(packet) = self.packet()? {
                self.take(&packet)?;
                self.flush()?;
                if wanted(&packet) {
                    return Ok(());
                }
            }
        }
    }

    fn packet(&mut self) -> Result<Option<Packet>> {
        match Packet::read(&mut self.input, 1 << 20) {
            Ok(packet) => Ok(Some(packet)),
            Err(mqttbytes::Error::InsufficientBytes(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn receive(&mut self) -> Result<()> {
        let mut chunk = [0; 16 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(0) => bail!("the agent closed the connection"),
            Ok(count) => self.input.extend_from_slice(&chunk[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let bytes = self.output.split();
        Ok(self.stream.write_all(&bytes)?)
    }
}
