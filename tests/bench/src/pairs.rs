//! What pairs of measurements say: the median of their ratios, and whether that is enough. Pure.
//!
//! A figure counts only beside its limit, measured a moment before on the same machine. So a pair is the
//! unit: each pair gives one ratio, and the ratios are compared, never the figures of different minutes.

/// What the ratio has to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// More is better: a rate.
    AtLeast(f64),
    /// Less is better: a cost.
    AtMost(f64),
    /// Only reported.
    None,
}

impl Target {
    /// Whether a ratio is good enough; `None` where nothing is asked.
    #[must_use]
    pub fn met(self, ratio: f64) -> Option<bool> {
        match self {
            Self::AtLeast(bound) => Some(ratio >= bound),
            Self::AtMost(bound) => Some(ratio <= bound),
            Self::None => None,
        }
    }

    /// The bound.
    #[must_use]
    pub fn bound(self) -> Option<f64> {
        match self {
            Self::AtLeast(bound) | Self::AtMost(bound) => Some(bound),
            Self::None => None,
        }
    }
}

/// The limit and the product, measured one after the other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    /// Of the parts alone.
    pub limit: f64,
    /// Of the product.
    pub ours: f64,
}

impl Pair {
    /// The product as a part of the limit.
    #[must_use]
    pub fn ratio(self) -> f64 {
        self.ours / self.limit
    }
}

/// All pairs of a row in five numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures {
    /// Median of the ratios.
    pub ratio: f64,
    /// Smallest ratio.
    pub min: f64,
    /// Largest ratio.
    pub max: f64,
    /// Median of the product.
    pub ours: f64,
    /// Median of the limit.
    pub limit: f64,
}

impl Figures {
    /// Sums pairs up; `None` when there is none, or one is no number.
    #[must_use]
    pub fn of(pairs: &[Pair]) -> Option<Self> {
        let ratios: Vec<f64> = pairs.iter().map(|pair| pair.ratio()).collect();
        if !ratios.iter().all(|ratio| ratio.is_finite()) {
            return None;
        }
        Some(Self {
            ratio: median(&ratios)?,
            min: ratios.iter().copied().reduce(f64::min)?,
            max: ratios.iter().copied().reduce(f64::max)?,
            ours: median(&pairs.iter().map(|pair| pair.ours).collect::<Vec<_>>())?,
            limit: median(&pairs.iter().map(|pair| pair.limit).collect::<Vec<_>>())?,
        })
    }
}

/// The middle one, or the mean of the two in the middle.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() % 2 {
        _ if sorted.is_empty() => None,
        1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        for (values, expected) in [
            (&[][..], None),
            (&[3.0][..], Some(3.0)),
            (&[9.0, 1.0, 2.0][..], Some(2.0)),
            (&[4.0, 1.0, 2.0, 100.0][..], Some(3.0)),
        ] {
            assert_eq!(median(values), expected, "{values:?}");
        }
    }

    #[test]
    fn ratios_are_taken_pair_by_pair_and_not_of_medians() {
        // The machine was twice as slow in the second pair; the ratio has not moved.
        let pairs = [(100.0, 80.0), (50.0, 40.0), (110.0, 88.0)];
        let pairs = pairs.map(|(limit, ours)| Pair { limit, ours });
        let figures = Figures::of(&pairs).unwrap();
        assert!((figures.ratio - 0.8).abs() < 1e-12);
        assert!((figures.max - figures.min).abs() < 1e-12);
        assert_eq!((figures.ours, figures.limit), (80.0, 100.0));
    }

    #[test]
    fn nothing_measured_is_no_figure() {
        assert_eq!(Figures::of(&[]), None);
        let nothing = Pair {
            limit: 0.0,
            ours: 0.0,
        };
        assert_eq!(Figures::of(&[nothing]), None);
    }

    #[test]
    fn a_target_is_met_on_its_own_side() {
        for (target, ratio, met) in [
            (Target::AtLeast(0.8), 0.8, Some(true)),
            (Target::AtLeast(0.8), 0.79, Some(false)),
            (Target::AtMost(1.5), 1.5, Some(true)),
            (Target::AtMost(1.5), 1.6, Some(false)),
            (Target::None, 7.0, None),
        ] {
            assert_eq!(target.met(ratio), met, "{target:?} {ratio}");
        }
    }
}
