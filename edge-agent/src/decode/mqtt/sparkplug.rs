//! Eclipse Sparkplug B, as a host application that only listens.
//!
//! Source: Sparkplug specification 3.0.0 (sparkplug.eclipse.org), chapters 4 "Topics and Messages", 5
//! "Operational Behavior", 6 "Payloads" and `sparkplug_b.proto`.
//!
//! `spBv1.0/GROUP/TYPE/NODE[/DEVICE]`; a device here is `GROUP/NODE` or `GROUP/NODE/DEVICE`.
//!
//! | type | here |
//! |---|---|
//! | `NBIRTH`, `DBIRTH` | names, types and units of the metrics; link up; its values are a reading |
//! | `NDATA`, `DDATA` | readings, one for each time the metrics have |
//! | `NDEATH`, `DDEATH` | link down, of the node with all its devices |
//! | `NCMD`, `DCMD`, `STATE` | nothing |
//!
//! # Never under a wrong name
//!
//! Data may name its metrics by alias only, and only the birth certificate tells whose alias that is. So
//! what cannot be named is **held** (bounded) and a rebirth is requested; with the birth it is read, in
//! order. Sequence numbers go from 0 to 255 and around; after a gap a birth may have been missed, so
//! aliases count no more until the next one, which is requested at once: of the specification's reorder
//! timeout this host needs none, for what waits is read when the birth comes. Held data is given up when the node dies, when a new session
//! (another `bdSeq`) gives one of its aliases to something else, or at the bound: then it is rejected by
//! name, never guessed. Data that names its metrics and their types needs no birth.
//!
//! Null metrics say nothing; transient ones ask not to be stored; `bdSeq`, `Node Control/…` and
//! `Device Control/…` are no measurements. Templates are flattened, `template_member`, their definitions say
//! nothing; data sets, files and arrays are rejected by name. A compressed payload is unpacked. A metric of a unit the catalogue knows is `quantity_unit`; the property
//! `engUnit` says it, by custom (Ignition, the compatibility kit), not by rule. Historical
//! metrics are readings like others, at their own times: `is_historical` says no more. Birth values are readings: a node reports by exception, and a value that does not
//! change would otherwise never be known.

mod held;
mod metrics;
mod payload;

use std::collections::HashMap;

use prost::Message as _;
use protocol::Timestamp;

use super::{Link, Message, Outcome, Request};
use crate::decode::DecodeError;
use held::{Held, Waiting};
use metrics::{Known, Named};
use payload::Payload;

/// Most edge nodes remembered; the one heard of longest ago gives way.
const MAX_NODES: usize = 1000;
/// Most metrics of one edge node that are remembered.
const MAX_ALIASES: usize = 20_000;
/// Most metrics remembered altogether.
const MAX_ALIASES_TOTAL: usize = 200_000;
/// A node that was asked for a rebirth is asked again after this long.
const ASK_AGAIN_US: i64 = 60_000_000;

/// What is known of the edge nodes.
#[derive(Debug, Default)]
pub struct Host {
    nodes: HashMap<String, Node>,
    waiting: Waiting,
    /// Grows with each message: who was heard of longest ago.
    clock: u64,
    evicted: u64,
}

#[derive(Debug, Default)]
struct Node {
    /// The number expected next.
    next: Option<u8>,
    session: Option<u64>,
    /// Aliases count: since the last birth no message was missed.
    sure: bool,
    known: HashMap<Key, Known>,
    /// What the births before this one told, while messages wait that may mean it.
    before: HashMap<Key, Known>,
    devices: Vec<String>,
    asked: Option<Timestamp>,
    heard: u64,
}

/// How data calls a metric.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Alias(u64),
    /// Device (empty for the node itself) and metric.
    Name(String, String),
}

/// The parts of a topic.
struct Topic<'t> {
    namespace: &'t str,
    group: &'t str,
    kind: &'t str,
    edge: &'t str,
    device: Option<&'t str>,
}

impl Host {
    /// How many messages wait for a birth certificate.
    #[must_use]
    pub fn holding(&self) -> usize {
        self.waiting.len()
    }

    /// The connection broke: births may have been missed, and what the broker sends again must not be held
    /// twice.
    pub fn disconnected(&mut self) {
        drop(self.waiting.take(|held| held.again));
        for node in self.nodes.values_mut() {
            node.next = None;
            node.asked = None;
        }
    }

    /// How many edge nodes were forgotten for others.
    #[must_use]
    pub const fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Reads one message.
    ///
    /// # Errors
    /// A topic that is not Sparkplug's, a payload that is not protocol buffers.
    pub fn read(&mut self, message: &Message<'_>) -> Result<Outcome, DecodeError> {
        let Some(topic) = parse(message.topic)? else {
            return Ok(Outcome::default());
        };
        let name = format!("{}/{}", topic.group, topic.edge);
        let device = topic.device.map(|device| format!("{name}/{device}"));
        let body = match topic.kind {
            "NBIRTH" | "DBIRTH" | "NDATA" | "DDATA" | "NDEATH" | "DDEATH" => {
                payload::read(message.payload)?
            }
            _ => return Ok(Outcome::default()),
        };
        let mut outcome = Outcome::default();
        self.touch(&name);
        let in_step = match topic.kind {
            "NDEATH" => true,
            "NBIRTH" => {
                self.born(&name, &body);
                true
            }
            _ => self.step(&name, body.seq),
        };
        match topic.kind {
            "NBIRTH" | "DBIRTH" => {
                let own = device.as_deref().unwrap_or(&name);
                self.birth(&name, device.as_deref(), &body, &mut outcome)?;
                outcome.links.push(link(own, true));
                self.release(&name, &mut outcome);
                // Its own aliases are known; those of its siblings may not be.
                if !in_step || !self.is_sure(&name) {
                    self.ask(&name, &topic, message.at, &mut outcome);
                }
            }
            "NDATA" | "DDATA" => {
                let done = self.data(&name, device.as_deref(), &body, &mut outcome)?;
                if !done {
                    self.hold(&name, device, message, &mut outcome);
                    outcome.held = true;
                }
                if !done || !in_step {
                    self.ask(&name, &topic, message.at, &mut outcome);
                }
            }
            "DDEATH" => {
                if let Some(device) = device {
                    self.device_died(&name, &device);
                    self.give_up(|held| held.device.as_ref() == Some(&device), &mut outcome);
                    outcome.links.push(link(&device, false));
                }
            }
            _ => self.node_died(&name, &body, &mut outcome),
        }
        Ok(outcome)
    }

    fn touch(&mut self, name: &str) {
        self.clock += 1;
        let clock = self.clock;
        if let Some(node) = self.nodes.get_mut(name) {
            node.heard = clock;
            return;
        }
        if self.nodes.len() >= MAX_NODES {
            let oldest = self
                .nodes
                .iter()
                .min_by_key(|(_, node)| node.heard)
                .map(|(name, _)| name.clone());
            if let Some(oldest) = oldest {
                self.nodes.remove(&oldest);
                self.evicted += 1;
            }
        }
        let node = Node {
            heard: clock,
            ..Node::default()
        };
        self.nodes.insert(name.to_owned(), node);
    }

    /// A new session, or a rebirth in the same one.
    fn born(&mut self, name: &str, body: &Payload) {
        let session = metrics::session(body);
        let waiting = self.waiting.any_of(name);
        if let Some(node) = self.nodes.get_mut(name) {
            let before = std::mem::take(&mut node.known);
            // What is held was said before this birth. Whether it means the old names or the new ones is
            // sure only where they agree; `birth` compares.
            node.before = if waiting { before } else { HashMap::new() };
            node.session = session;
            node.next = Some(seq(body.seq).wrapping_add(1));
            node.sure = true;
            node.asked = None;
        }
    }

    /// Whether the message is the next one of its node.
    fn step(&mut self, name: &str, got: Option<u64>) -> bool {
        let Some(node) = self.nodes.get_mut(name) else {
            return false;
        };
        let got = seq(got);
        let in_step = node.next == Some(got);
        node.next = Some(got.wrapping_add(1));
        node.sure &= in_step;
        in_step
    }

    fn is_sure(&self, name: &str) -> bool {
        self.nodes.get(name).is_some_and(|node| node.sure)
    }

    /// Learns the metrics of a birth and reads its values.
    fn birth(
        &mut self,
        name: &str,
        device: Option<&str>,
        body: &Payload,
        outcome: &mut Outcome,
    ) -> Result<(), DecodeError> {
        let total: usize = self.nodes.values().map(|node| node.known.len()).sum();
        let Some(node) = self.nodes.get_mut(name) else {
            return Ok(());
        };
        let own = device.unwrap_or(name);
        let mut changed = Vec::new();
        let mut named = Vec::with_capacity(body.metrics.len());
        let mut left = MAX_ALIASES.min(MAX_ALIASES_TOTAL.saturating_sub(total));
        for (index, bytes) in body.metrics.iter().enumerate() {
            let metric = match metrics::open(bytes) {
                Ok(metric) => metric,
                Err(error) => {
                    outcome
                        .rejected
                        .push((format!("metric {index}").into(), error));
                    continue;
                }
            };
            let Some(text) = metric.name.clone().filter(|text| !text.is_empty()) else {
                let error = DecodeError::NotAsPreset("a metric of a birth without a name");
                outcome
                    .rejected
                    .push((format!("metric {index}").into(), error));
                continue;
            };
            let known = Known {
                device: device.map(Into::into),
                name: text.clone(),
                datatype: metric.datatype,
                unit: metric.unit().map(Into::into),
            };
            let by_name = Key::Name(device.unwrap_or_default().to_owned(), text);
            for key in [metric.alias.map(Key::Alias), Some(by_name)]
                .into_iter()
                .flatten()
            {
                left = left.saturating_sub(1);
                if left == 0 {
                    // Not remembered: data by this alias is held and in the end rejected, never misnamed.
                    continue;
                }
                if node.before.get(&key).is_some_and(|before| *before != known)
                    && let Key::Alias(alias) = key
                {
                    changed.push(alias);
                }
                node.known.insert(key, known.clone());
            }
            named.push(Named { metric, known });
        }
        if let Some(device) = device
            && !node.devices.iter().any(|have| have == device)
            && node.devices.len() < MAX_ALIASES
        {
            node.devices.push(device.to_owned());
        }
        metrics::readings(own, body.timestamp, named, outcome)?;
        if !changed.is_empty() {
            // Held data that used one of them is of an unknown session.
            self.give_up(|held| held.node == name && held.uses(&changed), outcome);
        }
        Ok(())
    }

    /// Reads data, if every metric can be named.
    fn data(
        &self,
        name: &str,
        device: Option<&str>,
        body: &Payload,
        outcome: &mut Outcome,
    ) -> Result<bool, DecodeError> {
        let Some(node) = self.nodes.get(name) else {
            return Ok(false);
        };
        let own = device.unwrap_or(name);
        let mut named = Vec::with_capacity(body.metrics.len());
        let mut bad = Vec::new();
        for (index, bytes) in body.metrics.iter().enumerate() {
            let metric = match metrics::open(bytes) {
                Ok(metric) => metric,
                Err(error) => {
                    bad.push((format!("metric {index}").into(), error));
                    continue;
                }
            };
            match node.name(device, &metric) {
                Some(known) => named.push(Named { metric, known }),
                None => return Ok(false),
            }
        }
        outcome.rejected.extend(bad);
        metrics::readings(own, body.timestamp, named, outcome)?;
        Ok(true)
    }

    fn hold(
        &mut self,
        name: &str,
        device: Option<String>,
        message: &Message<'_>,
        outcome: &mut Outcome,
    ) {
        let over = self.waiting.push(Held {
            node: name.to_owned(),
            device,
            payload: message.payload.to_vec(),
            again: message.again,
        });
        outcome.rejected.extend(over.iter().map(Held::unborn));
    }

    /// Reads what waited for this birth, in order; what still cannot be named waits on.
    fn release(&mut self, name: &str, outcome: &mut Outcome) {
        for held in self.waiting.take(|held| held.node == name) {
            let read = payload::read(&held.payload)
                .and_then(|body| self.data(name, held.device.as_deref(), &body, outcome));
            match read {
                Ok(true) => {}
                Ok(false) => {
                    let over = self.waiting.push(held);
                    outcome.rejected.extend(over.iter().map(Held::unborn));
                }
                Err(error) => outcome.rejected.push(("held message".into(), error)),
            }
        }
    }

    fn give_up(&mut self, which: impl Fn(&Held) -> bool, outcome: &mut Outcome) {
        let given_up = self.waiting.take(which);
        outcome.rejected.extend(given_up.iter().map(Held::unborn));
    }

    fn device_died(&mut self, name: &str, device: &str) {
        if let Some(node) = self.nodes.get_mut(name) {
            node.devices.retain(|have| have != device);
            node.known
                .retain(|_, known| known.device.as_deref() != Some(device));
        }
    }

    /// A will of an earlier session may come late, after the next birth: its `bdSeq` tells.
    fn node_died(&mut self, name: &str, body: &Payload, outcome: &mut Outcome) {
        let told = metrics::session(body);
        let late = self.nodes.get(name).is_some_and(
            |node| matches!((node.session, told), (Some(have), Some(told)) if have != told),
        );
        if late {
            return;
        }
        self.give_up(|held| held.node == name, outcome);
        outcome.links.push(link(name, false));
        if let Some(node) = self.nodes.remove(name) {
            let devices = node.devices.iter().map(|device| link(device, false));
            outcome.links.extend(devices);
        }
    }

    /// Asks for a rebirth, not too often.
    fn ask(&mut self, name: &str, topic: &Topic<'_>, at: Timestamp, outcome: &mut Outcome) {
        let Some(node) = self.nodes.get_mut(name) else {
            return;
        };
        let soon = node
            .asked
            .is_some_and(|asked| at.as_micros().saturating_sub(asked.as_micros()) < ASK_AGAIN_US);
        if soon {
            return;
        }
        node.asked = Some(at);
        outcome.requests.push(Request {
            topic: format!("{}/{}/NCMD/{}", topic.namespace, topic.group, topic.edge),
            payload: metrics::rebirth(at).encode_to_vec(),
        });
    }
}

impl Node {
    /// What a metric of a data message is called, if that is sure.
    fn name(&self, device: Option<&str>, metric: &payload::Metric) -> Option<Known> {
        if let Some(name) = metric.name.as_ref().filter(|name| !name.is_empty()) {
            let key = Key::Name(device.unwrap_or_default().to_owned(), name.clone());
            let born = self.known.get(&key).filter(|_| self.sure);
            return match (born, metric.datatype) {
                (Some(known), _) => Some(known.clone()),
                (None, Some(_)) => Some(Known {
                    device: device.map(Into::into),
                    name: name.clone(),
                    datatype: metric.datatype,
                    unit: metric.unit().map(Into::into),
                }),
                (None, None) => None,
            };
        }
        let known = self.known.get(&Key::Alias(metric.alias?))?;
        let mine = known.device.as_deref() == device;
        let typed = metric.datatype.is_none() || metric.datatype == known.datatype;
        (self.sure && mine && typed).then(|| known.clone())
    }
}

fn parse(topic: &str) -> Result<Option<Topic<'_>>, DecodeError> {
    let levels: Vec<&str> = topic.split('/').collect();
    let (namespace, rest) = match levels.as_slice() {
        [first, rest @ ..] if first.eq_ignore_ascii_case("spBv1.0") => (*first, rest),
        // Of a host application, as before version 3.
        ["STATE", _] => return Ok(None),
        _ => {
            return Err(DecodeError::NotAsPreset(
                "a Sparkplug topic begins with spBv1.0",
            ));
        }
    };
    let of = |group, kind, edge, device| {
        Some(Topic {
            namespace,
            group,
            kind,
            edge,
            device,
        })
    };
    Ok(match rest {
        ["STATE", ..] => None,
        [group, kind, edge] if kind.starts_with('N') => of(*group, *kind, *edge, None),
        [group, kind, edge, device] if kind.starts_with('D') => {
            of(*group, *kind, *edge, Some(*device))
        }
        _ => {
            return Err(DecodeError::NotAsPreset(
                "not a topic of Sparkplug: spBv1.0/GROUP/TYPE/NODE/DEVICE",
            ));
        }
    })
}

/// The low byte: numbers go from 0 to 255 and around.
fn seq(seq: Option<u64>) -> u8 {
    u8::try_from(seq.unwrap_or(0) & 0xff).unwrap_or(0)
}

fn link(device: &str, online: bool) -> Link {
    Link {
        device: Some(device.to_owned()),
        online,
    }
}

#[cfg(test)]
mod tests;
