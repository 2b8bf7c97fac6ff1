//! What a new configuration changes in a running agent; pure.
//!
//! Only sources can come and go while the agent runs: a source that was added is started, one that was removed is
//! ended, one that was altered is ended and started anew, and every other goes on without noticing. Everything
//! else is the frame that all readings share (identity, queue, uplink, rules) and is read at a start only.
//!
//! **All or nothing.** If the new file differs in the frame as well, nothing is changed and every difference is
//! named: an agent that ran half of a file would match neither the file nor what it said when it started. The same
//! holds for a topic that no source wrote to when the agent started, for its lane would have to be made. A topic that
//! nobody writes to any more is no such difference: its lane stays open and drains.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use protocol::Topic;

use crate::{
    config::{Config, ModbusTcp, Mqtt, Serial},
    link::LinkKind,
};

/// A source by its kind and name.
pub type Key = (LinkKind, String);

/// The settings of one source.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Settings<'c> {
    /// `[[serial]]`.
    Serial(&'c Serial),
    /// `[[modbus]]`.
    Modbus(&'c ModbusTcp),
    /// `[[mqtt]]`.
    Mqtt(&'c Mqtt),
}

impl Settings<'_> {
    /// Whose they are.
    #[must_use]
    pub fn key(&self) -> Key {
        match self {
            Self::Serial(serial) => (LinkKind::Serial, serial.name.clone()),
            Self::Modbus(modbus) => (LinkKind::Modbus, modbus.name.clone()),
            Self::Mqtt(mqtt) => (LinkKind::Mqtt, mqtt.name.clone()),
        }
    }
}

/// Every source of a configuration, in its order.
pub fn sources(config: &Config) -> impl Iterator<Item = Settings<'_>> {
    let serial = config.serial.iter().map(Settings::Serial);
    let modbus = config.modbus.iter().map(Settings::Modbus);
    let mqtt = config.mqtt.iter().map(Settings::Mqtt);
    serial.chain(modbus).chain(mqtt)
}

/// What has to be done with the sources.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// To be started.
    pub added: Vec<Key>,
    /// To be ended.
    pub removed: Vec<Key>,
    /// To be ended, and started with their new settings.
    pub altered: Vec<Key>,
    /// How many go on.
    pub unchanged: usize,
}

impl Plan {
    /// Whether nothing has to be done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.altered.is_empty()
    }
}

/// What the new configuration has that only a start can bring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeedsRestart(pub Vec<String>);

impl fmt::Display for NeedsRestart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}

/// What to do so that `running` becomes `wanted`; `lanes` are the topics that have one.
///
/// # Errors
/// [`NeedsRestart`]: then nothing is to be done.
pub fn plan(
    running: &Config,
    wanted: &Config,
    lanes: &BTreeSet<Topic>,
) -> Result<Plan, NeedsRestart> {
    let mut frame: Vec<String> = [
        ("[agent]", running.agent != wanted.agent),
        ("[[process]]", running.process != wanted.process),
        ("[queue]", running.queue != wanted.queue),
        ("[kafka]", uplink_differs(running, wanted)),
        ("[registry]", registry_differs(running, wanted)),
        ("[[topic]]", running.topics != wanted.topics),
        ("[status]", running.status != wanted.status),
    ]
    .into_iter()
    .filter(|(_, differs)| *differs)
    .map(|(table, _)| table.to_owned())
    .collect();
    let new = wanted.lanes().filter(|topic| !lanes.contains(*topic));
    frame.extend(new.map(|topic| format!("topic {topic}, which has no lane yet")));
    if !frame.is_empty() {
        return Err(NeedsRestart(frame));
    }
    let by_key = |config| -> BTreeMap<Key, Settings<'_>> {
        sources(config)
            .map(|source| (source.key(), source))
            .collect()
    };
    let (before, after) = (by_key(running), by_key(wanted));
    let mut plan = Plan::default();
    for (key, settings) in &after {
        match before.get(key) {
            None => plan.added.push(key.clone()),
            Some(known) if known != settings => plan.altered.push(key.clone()),
            Some(_) => plan.unchanged += 1,
        }
    }
    let gone = before.keys().filter(|key| !after.contains_key(*key));
    plan.removed.extend(gone.cloned());
    Ok(plan)
}

fn uplink_differs(running: &Config, wanted: &Config) -> bool {
    let without_registry = |config: &Config| {
        let mut kafka = config.kafka.clone();
        kafka.client.registry = None;
        kafka
    };
    without_registry(running) != without_registry(wanted)
}

fn registry_differs(running: &Config, wanted: &Config) -> bool {
    running.schemas != wanted.schemas
        || running.kafka.client.registry != wanted.kafka.client.registry
}

#[cfg(test)]
mod tests;
