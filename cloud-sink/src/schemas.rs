//! Which schemas are known, and which records wait for one. Pure.
//!
//! A record that names a schema nobody has asked for waits, and its partition with it, until the
//! registry answers: what an id stands for is true for ever, so a registry that is away is an outage and
//! no reason to call a record bad. Records by known schemas go on. That the registry knows no such id is
//! remembered for a while only: it may be a replica that lags.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use protocol::schema::SchemaId;
use protocol_host::registry;

use crate::{
    decode::Schema,
    message::{Message, Partition},
    outage::Outage,
};

/// Schemas kept; beyond it all are forgotten, and asked for again.
const MAX_KNOWN: usize = 1000;
/// So long an id stays unknown.
const UNKNOWN_FOR: Duration = Duration::from_secs(30);

/// Asks the registry for a schema, and blocks meanwhile; `None` where it has none of that id, else why
/// there is no answer, with the remedy.
pub type Ask = Arc<dyn Fn(SchemaId) -> Result<Option<Arc<registry::Schema>>, String> + Send + Sync>;

/// A record that waits, and the generation it was read in.
pub type Waiting = (Message, u64);

#[derive(Debug)]
struct Known {
    schema: Arc<Schema>,
    until: Option<Instant>,
}

/// What is known, what is asked, who waits.
#[derive(Debug, Default)]
pub struct Schemas {
    known: HashMap<SchemaId, Known>,
    waiting: BTreeMap<SchemaId, Vec<Waiting>>,
    asking: Option<SchemaId>,
    /// Asked last: the next one is another, for one may be answered where another is not.
    asked: Option<SchemaId>,
    outage: Option<Outage>,
}

impl Schemas {
    /// The schema of an id, if it is known.
    #[must_use]
    pub fn get(&self, id: SchemaId, now: Instant) -> Option<Arc<Schema>> {
        let known = self.known.get(&id)?;
        let lasts = known.until.is_none_or(|until| now < until);
        lasts.then(|| known.schema.clone())
    }

    /// A record waits for a schema.
    pub fn wait(&mut self, id: SchemaId, waiting: Waiting) {
        self.waiting.entry(id).or_default().push(waiting);
    }

    /// When to ask next, if somebody waits and nobody is being asked.
    #[must_use]
    pub fn due(&self, now: Instant) -> Option<Instant> {
        if self.asking.is_some() || self.waiting.is_empty() {
            return None;
        }
        Some(self.outage.as_ref().map_or(now, Outage::retry_at))
    }

    /// What to ask for now; it counts as asked until [`Schemas::found`] or [`Schemas::failed`].
    pub fn ask(&mut self, now: Instant) -> Option<SchemaId> {
        self.due(now).filter(|due| *due <= now)?;
        let mut ids = self.waiting.keys();
        let behind = ids.find(|id| Some(**id) > self.asked);
        let next = behind.or_else(|| self.waiting.keys().next()).copied();
        self.asking = next;
        self.asked = next;
        next
    }

    /// The registry has answered. Returns the schema, who waited for it, and the outage that is over.
    pub fn found(
        &mut self,
        id: SchemaId,
        registered: Option<&registry::Schema>,
        now: Instant,
    ) -> (Arc<Schema>, Vec<Waiting>, Option<Outage>) {
        self.asking = None;
        let schema = Arc::new(registered.map_or_else(|| Schema::missing(id), Schema::new));
        if self.known.len() >= MAX_KNOWN {
            self.known.clear();
        }
        let known = Known {
            schema: schema.clone(),
            until: registered.is_none().then(|| now + UNKNOWN_FOR),
        };
        self.known.insert(id, known);
        let waited = self.waiting.remove(&id).unwrap_or_default();
        (schema, waited, self.outage.take())
    }

    /// The registry has not answered.
    pub fn failed(&mut self, now: Instant) -> &mut Outage {
        self.asking = None;
        match &mut self.outage {
            Some(outage) => {
                outage.failed(now);
                outage
            }
            none => none.insert(Outage::new(now)),
        }
    }

    /// The registry does not answer, and somebody waits for it.
    #[must_use]
    pub fn is_out(&self) -> bool {
        self.outage.is_some() && !self.waiting.is_empty()
    }

    /// Forgets records that nobody waits for any more; returns the bytes they took.
    pub fn retain(&mut self, mut keep: impl FnMut(&Message, u64) -> bool) -> usize {
        let mut dropped = 0;
        self.waiting.retain(|_, waiting| {
            waiting.retain(|(message, generation)| {
                let kept = keep(message, *generation);
                if !kept {
                    dropped += message.size();
                }
                kept
            });
            !waiting.is_empty()
        });
        dropped
    }

    /// Partitions of which a record waits.
    #[must_use]
    pub fn partitions(&self) -> BTreeSet<Partition> {
        let waiting = self.waiting.values().flatten();
        waiting
            .map(|(message, _)| message.at.partition.clone())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Coordinates;

    fn record(partition: i32, offset: i64) -> Waiting {
        let at = Coordinates {
            partition: Partition {
                topic: "t".into(),
                number: partition,
            },
            offset,
            timestamp_ms: None,
        };
        (
            Message::new(at, None, Some(b"\0\0\0\0\x07"), std::iter::empty()),
            1,
        )
    }

    fn json() -> registry::Schema {
        registry::Schema::new(registry::Language::Json, "")
    }

    #[test]
    fn a_registry_that_is_away_is_asked_again_less_and_less_often_and_nobody_is_judged() {
        let start = Instant::now();
        let mut schemas = Schemas::default();
        assert_eq!(schemas.due(start), None);
        let (seven, nine) = (SchemaId(7), SchemaId(9));
        schemas.wait(seven, record(0, 1));
        schemas.wait(nine, record(1, 1));
        schemas.wait(seven, record(0, 2));
        assert_eq!(schemas.ask(start), Some(seven));
        assert_eq!(schemas.ask(start), None, "one question at a time");
        let mut now = start;
        let mut asked = Vec::new();
        for _ in 0..6 {
            let retry_at = schemas.failed(now).retry_at();
            assert_eq!(schemas.due(now), Some(retry_at));
            assert_eq!(schemas.ask(now), None, "not before its time");
            now = retry_at;
            asked.extend(schemas.ask(now));
        }
        assert_eq!(asked, [nine, seven, nine, seven, nine, seven]);
        assert!(now > start + Duration::from_secs(5) && schemas.is_out());
        assert_eq!(schemas.partitions().len(), 2);

        let (schema, waited, outage) = schemas.found(seven, Some(&json()), now);
        assert!(matches!(*schema, Schema::Json));
        let offsets: Vec<i64> = waited
            .iter()
            .map(|(message, _)| message.at.offset)
            .collect();
        assert_eq!(offsets, [1, 2], "in their order");
        assert!(outage.is_some() && !schemas.is_out());
        assert_eq!(schemas.ask(now), Some(nine), "at once, now that it answers");
        schemas.found(nine, None, now);
        assert_eq!(schemas.due(now), None);
        assert!(
            schemas.get(seven, now + UNKNOWN_FOR * 1000).is_some(),
            "for ever"
        );
        let missing = schemas.get(nine, now).unwrap();
        assert!(matches!(*missing, Schema::Unknown(_)));
        assert!(
            schemas.get(nine, now + UNKNOWN_FOR).is_none(),
            "for a while"
        );
    }

    #[test]
    fn records_of_a_partition_that_went_wait_no_longer() {
        let now = Instant::now();
        let mut schemas = Schemas::default();
        schemas.wait(SchemaId(7), record(0, 1));
        schemas.wait(SchemaId(8), record(1, 1));
        let bytes = record(1, 1).0.size();
        let dropped = schemas.retain(|message, _| message.at.partition.number == 0);
        assert_eq!(dropped, bytes);
        assert_eq!(schemas.ask(now), Some(SchemaId(7)));
        let (_, waited, _) = schemas.found(SchemaId(7), None, now);
        assert_eq!((waited.len(), schemas.due(now)), (1, None));
    }

    #[test]
    fn what_is_known_is_bounded() {
        let now = Instant::now();
        let mut schemas = Schemas::default();
        for id in 0..=1000 {
            schemas.found(SchemaId(id), None, now);
        }
        assert_eq!(schemas.known.len(), 1);
    }
}
