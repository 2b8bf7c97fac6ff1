//! Which devices behind a broker can be reached, as their availability topics say.
//!
//! Bounded: at most [`MAX_DEVICES`] names are remembered, for a broken publisher may invent a new one with
//! each message. The device heard of longest ago gives way, never one the configuration names; how many
//! did is counted.

use std::collections::{BTreeMap, BTreeSet};

/// Most devices remembered.
const MAX_DEVICES: usize = 4096;

/// The devices of one broker.
#[derive(Debug, Default)]
pub(super) struct Presence {
    devices: BTreeMap<String, Device>,
    /// When each may give way, the earliest first; without the configured ones.
    order: BTreeSet<(u64, String)>,
    heard: u64,
    evicted: u64,
}

#[derive(Debug, Clone, Copy)]
struct Device {
    online: Option<bool>,
    /// `None` for a configured one, which stays.
    heard: Option<u64>,
}

impl Presence {
    /// Knows the configured devices, not yet whether they are there.
    pub(super) fn new<'d>(configured: impl IntoIterator<Item = &'d str>) -> Self {
        let unheard = Device {
            online: None,
            heard: None,
        };
        Self {
            devices: configured
                .into_iter()
                .map(|name| (name.to_owned(), unheard))
                .collect(),
            ..Self::default()
        }
    }

    /// Takes what a device or its will says; whether that is news.
    pub(super) fn note(&mut self, name: &str, online: bool) -> bool {
        self.heard += 1;
        let now = self.heard;
        if let Some(device) = self.devices.get_mut(name) {
            if let Some(before) = &mut device.heard {
                self.order.remove(&(*before, name.to_owned()));
                self.order.insert((now, name.to_owned()));
                *before = now;
            }
            return device.online.replace(online) != Some(online);
        }
        if self.order.len() >= MAX_DEVICES
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.devices.remove(&oldest);
            self.evicted += 1;
        }
        self.order.insert((now, name.to_owned()));
        let device = Device {
            online: Some(online),
            heard: Some(now),
        };
        self.devices.insert(name.to_owned(), device);
        true
    }

    /// Devices that said they are there, and that they are not.
    pub(super) fn counts(&self) -> (u64, u64) {
        self.devices
            .values()
            .fold((0, 0), |(up, down), device| match device.online {
                Some(true) => (up + 1, down),
                Some(false) => (up, down + 1),
                None => (up, down),
            })
    }

    /// Devices that gave way to others.
    pub(super) const fn evicted(&self) -> u64 {
        self.evicted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_change_is_news() {
        let mut presence = Presence::new(["meter"]);
        for (device, online, news) in [
            ("lamp", true, true),
            ("lamp", true, false),
            ("lamp", false, true),
            ("meter", false, true),
            ("meter", false, false),
        ] {
            assert_eq!(presence.note(device, online), news, "{device} {online}");
        }
        assert_eq!(presence.counts(), (0, 2));
    }

    #[test]
    fn ten_thousand_names_are_bounded_and_the_configured_ones_stay() {
        let mut presence = Presence::new(["meter", "pump"]);
        presence.note("meter", true);
        for n in 0..10_000 {
            presence.note(&format!("d{n}"), true);
            presence.note("often", true);
        }
        assert_eq!(presence.devices.len(), MAX_DEVICES + 2);
        assert_eq!(presence.evicted(), 10_001 - MAX_DEVICES as u64);
        assert!(presence.devices.contains_key("pump"));
        assert!(!presence.note("meter", true), "still known");
        assert!(!presence.note("often", true), "heard of all the time");
        assert!(presence.note("d0", true), "gave way");
    }
}
