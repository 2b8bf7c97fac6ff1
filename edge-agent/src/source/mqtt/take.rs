//! One message of a broker: into the queue, or counted out.
//!
//! A message that waits for another to be understood (Sparkplug data before its birth) is not
//! acknowledged either. When the last of them is understood or given up, their readings are in the message
//! that decided it, so its receipt acknowledges them all.

use std::sync::PoisonError;

use rumqttc::{Publish, QoS};

use super::{Broker, further, link::Link, origin, routes::Routed};
use crate::{
    clock::Moment,
    decode::{
        Defaults,
        mqtt::{Message, Request},
    },
    ingest::{Answer, Closed, MAX_MESSAGE_READINGS, Rejection},
};

impl Broker {
    pub(super) async fn take(
        &self,
        publish: &Publish,
        properties: &[(String, String)],
        answer: Option<Answer>,
        link: &Link,
    ) -> Result<(), Closed> {
        let now = self.intake.now();
        let max = self.settings.max_packet_bytes;
        let Some((route, captures)) = self.routes.find(&publish.topic) else {
            self.intake.counters.skipped();
            return self.settle(answer, link);
        };
        let is_state = publish.retain && !route.retained;
        if is_state && !route.retained_availability() {
            self.intake.counters.skipped();
            return self.settle(answer, link);
        }
        if publish.payload.len() > max {
            let detail = format!("payload is larger than max_packet_bytes = {max}");
            self.intake
                .reject(Rejection::TooLarge, &detail, &publish.payload);
            return self.settle(answer, link);
        }
        self.intake.heard(publish.topic.as_bytes());
        self.intake.heard(b" ");
        self.intake.heard(&publish.payload);
        let message = Message {
            topic: &publish.topic,
            device: None,
            payload: &publish.payload,
            at: now.wall,
            again: publish.qos != QoS::AtMostOnce,
        };
        let mut routed = match route.read(captures, &message) {
            Ok(routed) => routed,
            Err(error) => {
                self.intake
                    .reject(error.rejection(), &error, &publish.payload);
                return self.settle(answer, link);
            }
        };
        route.keep_properties(properties, &mut routed.meta);
        self.note(&mut routed, &publish.payload, link);
        if routed.outcome.held {
            link.hold(&route.filter, answer);
            return Ok(());
        }
        let mut answers: Vec<Answer> = answer.into_iter().collect();
        // Only of this subscription: its lane is the one that the receipt is of.
        if route.holding() == 0 {
            answers.splice(0..0, link.released(&route.filter));
        }
        if is_state || routed.is_empty() {
            self.intake.counters.skipped();
            link.done(answers.into_iter().map(|answer| answer.token));
            return Ok(());
        }
        let readings = self.readings(routed, &now, &publish.payload);
        let answer = link.together(answers);
        let Some(mut rest) = (!readings.is_empty()).then_some(readings) else {
            return self.settle(answer, link);
        };
        let mut came = origin(publish, link.connection());
        // One lane is first in, first out: what the last part's receipt says holds for all.
        while rest.len() > MAX_MESSAGE_READINGS {
            let later = rest.split_off(MAX_MESSAGE_READINGS);
            self.intake
                .send(&route.lane, rest, came, &now, None)
                .await?;
            came = further(came);
            rest = later;
        }
        self.intake
            .send(&route.lane, rest, came, &now, answer)
            .await
    }

    /// Nothing of it becomes a reading.
    #[expect(clippy::unnecessary_wraps, reason = "the shape of its callers' end")]
    fn settle(&self, answer: Option<Answer>, link: &Link) -> Result<(), Closed> {
        link.done(answer.map(|answer| answer.token));
        Ok(())
    }

    fn readings(&self, routed: Routed, now: &Moment, payload: &[u8]) -> Vec<protocol::Reading> {
        let defaults = Defaults {
            device: routed.device.as_ref(),
            meta: &routed.meta,
            max_age: self.intake.max_age,
        };
        let mut readings = Vec::with_capacity(routed.outcome.readings.len());
        for decoded in routed.outcome.readings {
            match self.intake.reading(decoded, &defaults, now) {
                Ok(reading) => readings.push(reading),
                Err(error) => self.intake.reject(error.rejection(), &error, payload),
            }
        }
        readings
    }

    /// What a message says beyond readings.
    fn note(&self, routed: &mut Routed, payload: &[u8], link: &Link) {
        for (place, error) in routed.outcome.rejected.drain(..) {
            let detail = format!("{place}: {error}");
            self.intake.reject(error.rejection(), &detail, payload);
        }
        for Request { topic, payload } in routed.outcome.requests.drain(..) {
            // Somebody who only looks asks nobody for anything.
            if !self.once {
                link.ask(&topic, payload);
            }
        }
        if routed.outcome.links.is_empty() {
            return;
        }
        let mut presence = self.presence.lock().unwrap_or_else(PoisonError::into_inner);
        for said in &routed.outcome.links {
            let device = said.device.as_deref().unwrap_or("bridge");
            if !presence.note(device, said.online) {
                continue;
            }
            let source = &self.settings.name;
            if said.online {
                tracing::info!(source, device = ?device, "device online");
            } else {
                tracing::info!(source, device = ?device, "device offline");
            }
        }
        let (online, offline) = presence.counts();
        self.intake
            .counters
            .devices(online, offline, presence.evicted());
    }
}
