//! Records that name a schema: read by it, or held until the registry tells it.

use std::{sync::Arc, time::Instant};

use protocol::schema::SchemaId;
use protocol_host::registry;
use tracing::{info, warn};

use super::Pipeline;
use crate::{
    decode,
    link::{LinkKind, LinkState},
    message::Message,
};

impl Pipeline {
    pub(super) fn take_reading(&mut self, message: Message, generation: u64, now: Instant) {
        let named = decode::schema_id(&message).filter(|_| self.ends.parts.registry.is_some());
        let Some(id) = named else {
            return self.read(message, generation, None, now);
        };
        match self.schemas.get(id, now) {
            Some(schema) => self.read(message, generation, Some(&schema), now),
            None => self.schemas.wait(id, (message, generation)),
        }
    }

    /// Partitions went or begin anew: what waited of them is read again by whoever has them.
    pub(super) fn forget_waiting(&mut self) {
        let assignments = &self.assignments;
        let dropped = self.schemas.retain(|message, generation| {
            assignments.is_current(&message.at.partition, generation)
        });
        self.ends.gate.release(dropped);
    }

    pub(super) fn on_schema(
        &mut self,
        id: SchemaId,
        answer: Result<Option<Arc<registry::Schema>>, String>,
    ) {
        let now = Instant::now();
        let registered = match answer {
            Ok(registered) => registered,
            Err(reason) => return self.registry_down(reason, now),
        };
        let (schema, waited, outage) = self.schemas.found(id, registered.as_deref(), now);
        self.links.set(LinkKind::Registry, LinkState::Up);
        if let Some(outage) = outage {
            let lasted = outage.lasted(now).as_secs();
            let held = waited.len();
            info!(outage = %format_args!("{lasted}s"), held, lost = 0, "schema registry back");
        }
        for (message, generation) in waited {
            self.read(message, generation, Some(&schema), now);
        }
    }

    fn registry_down(&mut self, reason: String, now: Instant) {
        self.links
            .set(LinkKind::Registry, LinkState::Down(reason.clone()));
        let partitions_paused = self.schemas.partitions().len();
        let outage = self.schemas.failed(now);
        if outage.should_say(now) {
            let since = outage.lasted(now).as_secs();
            let retry_in = outage.retry_in();
            warn!(reason, since = %format_args!("{since}s"), ?retry_in, partitions_paused, "schema registry unreachable, holding");
        }
    }
}
