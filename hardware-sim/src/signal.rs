//! Believable curves that are pure functions of where one looks at them.
//!
//! A curve is value noise: a hash gives a number at each point of a grid in time, and between the
//! points it is interpolated smoothly. So the same seed, device and time give the same value in every
//! run and in any order, and a device that reboots goes on where it was. A last small share depends on
//! boot and sequence alone, so that two neighbouring readings differ and a swap is seen.

/// Where a reading stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Made of seed and device.
    key: u64,
    boot: u32,
    sequence: u32,
    /// On the device's own time line: boot plus what passed since.
    at_ms: u64,
}

impl Moment {
    /// The moment of one reading. `boot` counts seconds, as a device's start time would, so `at_ms`
    /// grows over reboots.
    #[must_use]
    pub fn new(seed: u64, device: &str, boot: u32, sequence: u32, period_ms: u64) -> Self {
        let key = device
            .bytes()
            .fold(mix(seed), |key, byte| mix(key ^ u64::from(byte)));
        Self {
            key,
            boot,
            sequence,
            at_ms: u64::from(boot) * 1000 + u64::from(sequence) * period_ms,
        }
    }

    /// Milliseconds on the device's own time line.
    #[must_use]
    pub fn at_ms(&self) -> u64 {
        self.at_ms
    }

    /// A smooth curve in -1..1 whose ups and downs take about `scale_ms`.
    #[must_use]
    pub fn curve(&self, channel: u64, scale_ms: u64) -> f64 {
        let (cell, inside) = (self.at_ms / scale_ms, self.at_ms % scale_ms);
        let x = inside as f64 / scale_ms as f64;
        let smooth = x * x * (3.0 - 2.0 * x);
        let corner = |cell| 2.0 * unit(self.key ^ mix(channel ^ mix(cell))) - 1.0;
        let (left, right) = (corner(cell), corner(cell + 1));
        left + (right - left) * smooth
    }

    /// Noise in -1..1 that belongs to this reading alone.
    #[must_use]
    pub fn noise(&self, channel: u64) -> f64 {
        let identity = u64::from(self.boot) << 32 | u64::from(self.sequence);
        2.0 * unit(self.key ^ mix(identity ^ mix(!channel))) - 1.0
    }
}

/// To three decimals, what such sensors give.
#[must_use]
pub fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// 0 ≤ x < 1 with all 53 bits.
fn unit(hash: u64) -> f64 {
    (mix(hash) >> 11) as f64 / (1_u64 << 53) as f64
}

/// The finaliser of splitmix64.
fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_depends_on_nothing_but_seed_device_and_time() {
        let at = |seed, device, sequence| {
            let moment = Moment::new(seed, device, 1000, sequence, 200);
            (moment.curve(1, 60_000), moment.noise(1))
        };
        assert_eq!(at(7, "meter-1", 5), at(7, "meter-1", 5));
        assert_ne!(at(7, "meter-1", 5), at(8, "meter-1", 5));
        assert_ne!(at(7, "meter-1", 5), at(7, "meter-2", 5));
        assert_ne!(at(7, "meter-1", 5), at(7, "meter-1", 6));
    }

    #[test]
    fn a_curve_is_smooth_over_grid_points_and_reboots() {
        let mut last = None;
        for sequence in 0..2000 {
            let now = Moment::new(7, "m", 1000, sequence, 200).curve(3, 10_000);
            assert!(now.abs() <= 1.0);
            assert!(last.is_none_or(|last: f64| (now - last).abs() < 0.1));
            last = Some(now);
        }
        let before = Moment::new(7, "m", 1000, 50, 200).curve(3, 10_000);
        let after = Moment::new(7, "m", 1010, 0, 200).curve(3, 10_000);
        assert_eq!(before, after);
    }
}
