//! What the sink's topics have to be like, what they are like, and what makes the one of the other.
//!
//! Pure: `kafka::admin` looks and changes, this decides. What a topic is *for* fixes how it is cleaned,
//! because promises stand on it: readings and dead letters may only ever be deleted by age, readings by an
//! age that the brokers' clocks tell, facts only be compacted. The rest is as `[[topic]]` declares; what is not declared is left as it is found.

pub mod lag;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use crate::config::{Config, Retention, TopicSettings, show_bytes, show_duration};

/// What a topic is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `[[route]]`.
    Readings,
    /// `kafka.control_topic`.
    Facts,
    /// `kafka.dead_letter_topic`.
    DeadLetters,
}

impl Role {
    /// Kafka's `cleanup.policy`.
    fn cleanup(self) -> &'static str {
        match self {
            Self::Readings | Self::DeadLetters => "delete",
            Self::Facts => "compact",
        }
    }

    /// Partitions of a new topic, where none are declared. Facts and dead letters are few.
    fn partitions(self) -> u16 {
        match self {
            Self::Readings => 6,
            Self::Facts | Self::DeadLetters => 1,
        }
    }

    /// What the sink does there, in the words of an ACL.
    #[must_use]
    pub fn operation(self) -> &'static str {
        match self {
            Self::Readings | Self::Facts => "Read",
            Self::DeadLetters => "Write",
        }
    }
}

/// How a topic has to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub role: Role,
    partitions: Option<u16>,
    replication: Option<u16>,
    retention: Option<Retention>,
    max_message_bytes: Option<u64>,
}

/// Every topic of the configuration.
#[must_use]
pub fn wanted(config: &Config) -> Vec<Wanted> {
    let kafka = &config.kafka;
    let readings = config
        .routes
        .iter()
        .map(|route| (&route.topic, Role::Readings));
    readings
        .chain([
            (&kafka.control_topic, Role::Facts),
            (&kafka.dead_letter_topic, Role::DeadLetters),
        ])
        .map(|(name, role)| {
            let declared = config.topics.iter().find(|topic| topic.name == *name);
            let of = |get: fn(&TopicSettings) -> Option<u16>| declared.and_then(get);
            Wanted {
                name: name.to_string(),
                role,
                partitions: of(|topic| topic.partitions),
                replication: of(|topic| topic.replication),
                retention: declared.and_then(|topic| topic.retention),
                max_message_bytes: declared.and_then(|topic| topic.max_message_bytes),
            }
        })
        .collect()
}

impl Wanted {
    /// Kafka's settings that are not left to the cluster.
    fn settings(&self) -> BTreeMap<&'static str, String> {
        let mut settings = BTreeMap::from([(CLEANUP, self.role.cleanup().to_owned())]);
        if self.role == Role::Readings {
            settings.insert(STAMP, BY_THE_BROKER.to_owned());
        }
        if let Some(retention) = self.retention {
            settings.insert(RETENTION, retention.as_millis());
        }
        if let Some(bytes) = self.max_message_bytes {
            settings.insert(MAX_BYTES, bytes.to_string());
        }
        settings
    }
}

const CLEANUP: &str = "cleanup.policy";
/// A gateway's clock may be years behind until the network comes. Kafka deletes by the stamp, so what such
/// a gateway stamps itself is gone before anybody has read it.
const STAMP: &str = "message.timestamp.type";
const BY_THE_BROKER: &str = "LogAppendTime";
const RETENTION: &str = "retention.ms";
const MAX_BYTES: &str = "max.message.bytes";

/// A topic as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// There is one.
    There(Found),
    /// There is none.
    Missing,
    /// We may not know.
    Denied,
}

impl Seen {
    /// What there is, if there is something.
    #[must_use]
    pub fn found(self) -> Option<Found> {
        match self {
            Self::There(found) => Some(found),
            Self::Missing | Self::Denied => None,
        }
    }
}

/// What there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// How many partitions.
    pub partitions: usize,
    /// Copies of each.
    pub replication: usize,
    /// Its settings by name; `None` when we may not see them.
    pub settings: Option<BTreeMap<String, Setting>>,
}

/// One setting of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Its value.
    pub value: String,
    /// Set for this topic; else the cluster's default.
    pub is_own: bool,
}

/// A change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Make it.
    Create {
        /// How many partitions.
        partitions: u16,
        /// How many copies; `None` is the cluster's default.
        replication: Option<u16>,
        /// Settings that are not the cluster's.
        settings: BTreeMap<&'static str, String>,
    },
    /// Give settings other values.
    Set {
        /// Name, value there is, value wanted.
        differences: Vec<(&'static str, String, String)>,
        /// All of the topic's own settings afterwards: Kafka forgets those that are not told again.
        all: BTreeMap<String, String>,
    },
    /// Add partitions.
    Partitions {
        /// There are.
        from: usize,
        /// Wanted.
        to: u16,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create {
                partitions,
                replication,
                settings,
            } => {
                write!(
                    f,
                    "create with {}, ",
                    count(usize::from(*partitions), "partition")
                )?;
                match replication {
                    Some(copies) => write!(f, "replication {copies}")?,
                    None => write!(f, "the cluster's replication")?,
                }
                for (name, value) in settings {
                    write!(f, ", {name} {}", shown(name, value))?;
                }
                Ok(())
            }
            Self::Set { differences, .. } => {
                let show = |(name, from, to): &(&str, String, String)| {
                    format!("{name} {} -> {}", shown(name, from), shown(name, to))
                };
                let all: Vec<String> = differences.iter().map(show).collect();
                write!(f, "alter {}", all.join(", "))
            }
            Self::Partitions { from, to } => write!(f, "add partitions {from} -> {to}"),
        }
    }
}

/// What is wrong and no change of ours puts right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What.
    pub message: String,
    /// What to do.
    pub fix: String,
}

/// What there is to do about a topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// What it is like now, in a line; empty when there is none.
    pub state: String,
    /// In this order.
    pub changes: Vec<Change>,
    /// Nothing of the plan is done while there are any.
    pub refusals: Vec<Refusal>,
    /// What one should know.
    pub notes: Vec<String>,
}

/// Compares.
#[must_use]
pub fn plan(wanted: &Wanted, seen: &Seen, may_add_partitions: bool) -> Plan {
    match seen {
        Seen::There(found) => compare(wanted, found, may_add_partitions),
        Seen::Missing => Plan {
            changes: vec![Change::Create {
                partitions: wanted.partitions.unwrap_or(wanted.role.partitions()),
                replication: wanted.replication,
                settings: wanted.settings(),
            }],
            ..Plan::default()
        },
        Seen::Denied => Plan {
            refusals: vec![Refusal {
                message: "may not be seen".to_owned(),
                fix: String::new(),
            }],
            ..Plan::default()
        },
    }
}

fn compare(wanted: &Wanted, found: &Found, may_add_partitions: bool) -> Plan {
    let mut plan = Plan {
        state: format!(
            "{}, replication {}",
            count(found.partitions, "partition"),
            found.replication
        ),
        ..Plan::default()
    };
    if let Some(to) = wanted.partitions {
        plan.partitions(found.partitions, to, may_add_partitions);
    }
    if let Some(copies) = wanted.replication
        && usize::from(copies) != found.replication
    {
        plan.refusals.push(Refusal {
            message: format!("has replication {}, not {copies}", found.replication),
            fix: format!("declare replication = {}, or move its copies with Kafka's own tools (Confluent Cloud has always 3)", found.replication),
        });
    }
    let Some(settings) = &found.settings else {
        plan.notes
            .push("its settings may not be seen, so they are not compared".to_owned());
        return plan;
    };
    plan.settings(wanted, settings);
    plan
}

impl Plan {
    fn partitions(&mut self, from: usize, to: u16, may_add: bool) {
        match usize::from(to).cmp(&from) {
            std::cmp::Ordering::Equal => {}
            std::cmp::Ordering::Less => self.refusals.push(Refusal {
                message: format!("has {}, more than {to}, and Kafka takes none away", count(from, "partition")),
                fix: format!("declare partitions = {from}, or route a new topic"),
            }),
            std::cmp::Ordering::Greater if may_add => {
                self.changes.push(Change::Partitions { from, to });
            }
            std::cmp::Ordering::Greater => self.refusals.push(Refusal {
                message: format!("has {}, not {to}: with more, gateways move to other partitions, and the order of their devices breaks at that moment", count(from, "partition")),
                fix: format!("declare partitions = {from}, or pass --add-partitions"),
            }),
        }
    }

    fn settings(&mut self, wanted: &Wanted, found: &BTreeMap<String, Setting>) {
        let differences: Vec<(&'static str, String, String)> = wanted
            .settings()
            .into_iter()
            .filter_map(|(name, to)| {
                let from = found.get(name).map_or("", |setting| &setting.value);
                let same = match name {
                    CLEANUP => words(from) == words(&to),
                    _ => from == to,
                };
                (!same).then(|| (name, from.to_owned(), to))
            })
            .collect();
        if let Some(retention) = found.get(RETENTION) {
            self.state += &format!(", retention {}", shown(RETENTION, &retention.value));
            if wanted.role == Role::Readings && wanted.retention.is_none() {
                self.notes.push(retention_note(retention));
            }
        }
        if differences.is_empty() {
            return;
        }
        let own = found.iter().filter(|(_, setting)| setting.is_own);
        let mut all: BTreeMap<String, String> = own
            .map(|(name, setting)| (name.clone(), setting.value.clone()))
            .collect();
        for (name, _, to) in &differences {
            all.insert((*name).to_owned(), to.clone());
        }
        self.changes.push(Change::Set { differences, all });
    }
}

/// What an undeclared retention means: it is the time the sink may be away.
fn retention_note(retention: &Setting) -> String {
    let time = shown(RETENTION, &retention.value);
    if retention.value == "-1" {
        return "kept for ever: nothing is lost while the sink is away, and nothing becomes cheaper"
            .to_owned();
    }
    let whose = if retention.is_own {
        "nobody declared it"
    } else {
        "the cluster's default"
    };
    format!(
        "retention {time} ({whose}): a sink that is away for longer loses what it has not read; for more, declare [[topic]] name, retention = \"30d\". \
         Gateways may be away for longer: their readings are stamped when they are sent"
    )
}

fn words(policy: &str) -> BTreeSet<&str> {
    policy.split(',').map(str::trim).collect()
}

/// A setting's value for people.
fn shown(name: &str, value: &str) -> String {
    match (name, value.parse::<u64>()) {
        (RETENTION, _) if value == "-1" => "for ever".to_owned(),
        (RETENTION, Ok(millis)) => show_duration(std::time::Duration::from_millis(millis)),
        (MAX_BYTES, Ok(bytes)) => show_bytes(bytes),
        _ => value.to_owned(),
    }
}

fn count(n: usize, thing: &str) -> String {
    let s = if n == 1 { "" } else { "s" };
    format!("{n} {thing}{s}")
}

#[cfg(test)]
mod tests;
