//! What goes wrong, decided purely: given the time and a seeded generator, what becomes of this
//! transmission, and which occasion (a pulled plug, a reboot) is due. The links act on it.

use std::time::Duration;

use rand::{Rng, SeedableRng, rngs::SmallRng};
use serde::Deserialize;

use crate::scenario::Span;

/// What can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// Bytes are damaged. Text gets a byte that no UTF-8 has, so damage never is another reading.
    /// Where the transport is reliable (MQTT) the damaged copy goes out before the good one.
    Corrupt,
    /// The end is missing. Over MQTT, the truncated copy goes out before the good one.
    Truncate,
    /// It never goes out; a device that waits for acknowledgements sends it again.
    Drop,
    /// It goes out twice.
    Duplicate,
    /// It goes out after its successor.
    Reorder,
    /// Bytes that mean nothing go out before it.
    Garbage,
    /// More bytes than any receiver should take go out before it.
    Oversized,
    /// An acknowledgement does not arrive.
    LostAcks,
    /// Nothing goes out for a while.
    Stall,
    /// The plug is pulled, and put in again after a while.
    Unplug,
    /// The device starts again: new boot, sequence from 0, what it had not delivered is forgotten.
    Reboot,
    /// The device's clock jumps.
    ClockJump,
}

/// When it goes wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Schedule {
    /// With each transmission (or acknowledgement), with this probability.
    Rate(f64),
    /// On occasions: about each `every` (±50 %), for `lasts` where that means anything.
    Every {
        /// Mean time from one to the next.
        every: Duration,
        /// How long it lasts.
        lasts: Duration,
    },
}

/// One rule of a scenario.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "RuleText")]
pub struct Rule {
    /// What.
    pub kind: FaultKind,
    /// Which devices: ids, or beginnings of ids with `*`; default all.
    pub devices: Vec<String>,
    /// How often.
    pub schedule: Schedule,
    /// Not before; default from the start.
    pub from: Duration,
    /// Not after; default to the end.
    pub until: Duration,
    /// How far a clock jumps, in seconds, forth or back; default 3600.
    pub by_seconds: i64,
}

/// A rule as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleText {
    kind: FaultKind,
    #[serde(default = "every_device")]
    devices: Vec<String>,
    rate: Option<f64>,
    every: Option<Span>,
    lasts: Option<Span>,
    from: Option<Span>,
    until: Option<Span>,
    by_seconds: Option<i64>,
}

fn every_device() -> Vec<String> {
    vec!["*".to_owned()]
}

impl TryFrom<RuleText> for Rule {
    type Error = String;

    fn try_from(text: RuleText) -> Result<Self, String> {
        let name = format!("{:?}", text.kind).to_lowercase();
        let schedule = match (text.kind.is_occasion(), text.rate, text.every) {
            (false, Some(rate), None) if (0.0..=1.0).contains(&rate) => Schedule::Rate(rate),
            (false, _, _) => return Err(format!("{name} needs rate = 0.0 to 1.0, and no every")),
            (true, None, Some(every)) if !every.0.is_zero() => Schedule::Every {
                every: every.0,
                lasts: text.lasts.unwrap_or(Span(Duration::from_secs(1))).0,
            },
            (true, _, _) => return Err(format!("{name} needs every = \"20s\", and no rate")),
        };
        Ok(Self {
            kind: text.kind,
            devices: text.devices,
            schedule,
            from: text.from.map_or(Duration::ZERO, |span| span.0),
            until: text.until.map_or(Duration::MAX, |span| span.0),
            by_seconds: text.by_seconds.unwrap_or(3600),
        })
    }
}

impl FaultKind {
    fn is_occasion(self) -> bool {
        matches!(
            self,
            Self::Stall | Self::Unplug | Self::Reboot | Self::ClockJump
        )
    }
}

impl Rule {
    /// Whether the rule is about this device.
    #[must_use]
    pub fn concerns(&self, device: &str) -> bool {
        self.devices.iter().any(|pattern| {
            pattern
                .strip_suffix('*')
                .map_or(pattern == device, |start| device.starts_with(start))
        })
    }
}

/// What becomes of one transmission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It goes out as it is.
    Pass,
    /// See [`FaultKind::Corrupt`].
    Corrupt,
    /// See [`FaultKind::Truncate`].
    Truncate,
    /// See [`FaultKind::Drop`].
    Drop,
    /// See [`FaultKind::Duplicate`].
    Duplicate,
    /// See [`FaultKind::Reorder`].
    Reorder,
    /// See [`FaultKind::Garbage`].
    Garbage,
    /// See [`FaultKind::Oversized`].
    Oversized,
}

/// Something that happens to a device or its line at a time of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// Nothing goes out for so long.
    Stall(Duration),
    /// The plug is out for so long.
    Unplug(Duration),
    /// The device starts again.
    Reboot,
    /// The device's clock jumps by so many seconds.
    ClockJump(i64),
}

/// The faults of one device.
#[derive(Debug)]
pub struct Faults {
    rules: Vec<(Rule, Duration)>,
    rng: SmallRng,
}

impl Faults {
    /// The rules that concern the device.
    #[must_use]
    pub fn new(rules: &[Rule], device: &str, seed: u64) -> Self {
        let seed = device
            .bytes()
            .fold(seed, |seed, byte| seed.rotate_left(5) ^ u64::from(byte));
        let mut rng = SmallRng::seed_from_u64(seed);
        let rules = rules
            .iter()
            .filter(|rule| rule.concerns(device))
            .map(|rule| (rule.clone(), rule.from + wait(rule, &mut rng)))
            .collect();
        Self { rules, rng }
    }

    /// What becomes of a transmission. The first rule that strikes decides.
    pub fn transmission(&mut self, now: Duration) -> Action {
        use FaultKind as K;
        for (rule, _) in &self.rules {
            let action = match rule.kind {
                K::Corrupt => Action::Corrupt,
                K::Truncate => Action::Truncate,
                K::Drop => Action::Drop,
                K::Duplicate => Action::Duplicate,
                K::Reorder => Action::Reorder,
                K::Garbage => Action::Garbage,
                K::Oversized => Action::Oversized,
                K::LostAcks | K::Stall | K::Unplug | K::Reboot | K::ClockJump => continue,
            };
            if strikes(rule, now, &mut self.rng) {
                return action;
            }
        }
        Action::Pass
    }

    /// Whether an acknowledgement gets lost.
    pub fn loses_ack(&mut self, now: Duration) -> bool {
        let rng = &mut self.rng;
        self.rules
            .iter()
            .any(|(rule, _)| rule.kind == FaultKind::LostAcks && strikes(rule, now, rng))
    }

    /// The next occasion that is due.
    pub fn occasion(&mut self, now: Duration) -> Option<Occasion> {
        let (rule, next) = self
            .rules
            .iter_mut()
            .find(|(rule, next)| rule.kind.is_occasion() && *next <= now && now < rule.until)?;
        let Schedule::Every { lasts, .. } = rule.schedule else {
            return None;
        };
        *next = now + lasts + wait(rule, &mut self.rng);
        match rule.kind {
            FaultKind::Stall => Some(Occasion::Stall(lasts)),
            FaultKind::Unplug => Some(Occasion::Unplug(lasts)),
            FaultKind::Reboot => Some(Occasion::Reboot),
            FaultKind::ClockJump => Some(Occasion::ClockJump(rule.by_seconds)),
            _ => None,
        }
    }

    /// Damages bytes that a checksum guards: some bits flip.
    pub fn flip_bits(&mut self, bytes: &mut [u8]) {
        for _ in 0..self.rng.random_range(1..=3) {
            if !bytes.is_empty() {
                let at = self.rng.random_range(0..bytes.len());
                bytes[at] ^= 1 << self.rng.random_range(0..8);
            }
        }
    }

    /// Damages text so that it is none: one byte becomes 0xFF.
    pub fn spoil_text(&mut self, bytes: &mut [u8]) {
        if !bytes.is_empty() {
            let at = self.rng.random_range(0..bytes.len());
            bytes[at] = 0xff;
        }
    }

    /// Cuts the end off; at least one byte goes and one stays.
    pub fn cut(&mut self, bytes: &mut Vec<u8>) {
        if bytes.len() > 1 {
            let keep = self.rng.random_range(1..bytes.len());
            bytes.truncate(keep);
        }
    }

    /// Bytes that mean nothing, and are no UTF-8; none is zero or an end of line, so they are one piece.
    pub fn garbage(&mut self, length: usize) -> Vec<u8> {
        let rng = &mut self.rng;
        let rest = (1..length).map(|_| rng.random_range(0x80..=0xff));
        std::iter::once(0xff).chain(rest).collect()
    }
}

/// Longer than any receiver of ours takes in one piece over a line.
pub const OVERSIZED_BYTES: usize = 8 * 1024;

fn strikes(rule: &Rule, now: Duration, rng: &mut SmallRng) -> bool {
    let Schedule::Rate(rate) = rule.schedule else {
        return false;
    };
    // Drawn also outside the window, so that moving a window leaves the other draws as they were.
    let drawn = rng.random_bool(rate);
    drawn && rule.from <= now && now < rule.until
}

fn wait(rule: &Rule, rng: &mut SmallRng) -> Duration {
    match rule.schedule {
        Schedule::Rate(_) => Duration::ZERO,
        Schedule::Every { every, .. } => every.mul_f64(rng.random_range(0.5..1.5)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(kind: FaultKind, schedule: Schedule) -> Rule {
        Rule {
            kind,
            devices: vec!["meter-*".into()],
            schedule,
            from: Duration::from_secs(10),
            until: Duration::from_secs(20),
            by_seconds: 60,
        }
    }

    #[test]
    fn a_rate_holds_within_its_window_and_for_its_devices_only() {
        let rules = [rule(FaultKind::Duplicate, Schedule::Rate(0.25))];
        let struck = |device, second| {
            let mut faults = Faults::new(&rules, device, 7);
            (0..1000)
                .filter(|_| faults.transmission(Duration::from_secs(second)) != Action::Pass)
                .count()
        };
        for (device, second, expected) in [
            ("meter-1", 9, 0..=0),
            ("meter-1", 10, 200..=300),
            ("meter-1", 19, 200..=300),
            ("meter-1", 20, 0..=0),
            ("climate-1", 15, 0..=0),
        ] {
            let count = struck(device, second);
            assert!(expected.contains(&count), "{device} at {second} s: {count}");
        }
    }

    #[test]
    fn occasions_come_again_and_again_within_the_window() {
        let every = Schedule::Every {
            every: Duration::from_secs(2),
            lasts: Duration::from_millis(500),
        };
        let mut faults = Faults::new(&[rule(FaultKind::Unplug, every)], "meter-1", 7);
        let mut seen = Vec::new();
        for tick in 0..300 {
            let now = Duration::from_millis(tick * 100);
            while let Some(occasion) = faults.occasion(now) {
                assert_eq!(occasion, Occasion::Unplug(Duration::from_millis(500)));
                seen.push(now);
            }
        }
        assert!((2..=9).contains(&seen.len()), "{seen:?}");
        assert!(seen.iter().all(|at| (10..20).contains(&at.as_secs())));
    }

    #[test]
    fn the_same_seed_gives_the_same_faults() {
        let rules = [rule(FaultKind::Drop, Schedule::Rate(0.5))];
        let draw = |seed| {
            let mut faults = Faults::new(&rules, "meter-1", seed);
            (0..64)
                .map(|_| faults.transmission(Duration::from_secs(12)) == Action::Drop)
                .collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn spoilt_text_is_never_text() {
        let mut faults = Faults::new(&[], "d", 7);
        for _ in 0..100 {
            let mut bytes = b"{\"a\":1}".to_vec();
            faults.spoil_text(&mut bytes);
            assert!(std::str::from_utf8(&bytes).is_err());
            let mut bytes = b"{\"a\":1}".to_vec();
            faults.cut(&mut bytes);
            assert!(serde_json::from_slice::<serde_json::Value>(&bytes).is_err());
        }
    }
}
