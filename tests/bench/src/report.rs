//! What is printed: a table for people, one object a line for machines. Pure.

use serde::Serialize;

use crate::pairs::{Figures, Target};

/// What a row says before it is measured.
#[derive(Debug, Clone, Copy)]
pub struct Line {
    /// Its name, as in `docs/performance.md`.
    pub bench: &'static str,
    /// Of `ours` and `limit`.
    pub unit: &'static str,
    /// Of the ratio.
    pub target: Target,
}

/// A row with its figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Its name.
    pub bench: String,
    /// Median of the ratios `ours / limit`.
    pub ratio: f64,
    /// Smallest ratio.
    pub min: f64,
    /// Largest ratio.
    pub max: f64,
    /// Median of the product; for an absolute row the figure itself.
    pub ours: f64,
    /// Median of the limit; for an absolute row the bound.
    pub limit: f64,
    /// Of both.
    pub unit: String,
    /// The bound of the ratio, `null` where nothing is asked.
    pub target: Option<f64>,
    /// Whether the ratio is on the right side of it, `null` where nothing is asked.
    pub met: Option<bool>,
    #[serde(skip)]
    sign: &'static str,
    #[serde(skip)]
    pairs: String,
}

impl Row {
    /// A row of pairs, of which `quiet` of `tried` count.
    #[must_use]
    pub fn new(line: Line, figures: Figures, quiet: usize, tried: usize) -> Self {
        Self {
            bench: line.bench.to_owned(),
            ratio: rounded(figures.ratio),
            min: rounded(figures.min),
            max: rounded(figures.max),
            ours: rounded(figures.ours),
            limit: rounded(figures.limit),
            unit: line.unit.to_owned(),
            target: line.target.bound(),
            met: line.target.met(figures.ratio),
            sign: match line.target {
                Target::AtLeast(_) => "≥",
                Target::AtMost(_) => "≤",
                Target::None => "",
            },
            pairs: match tried {
                0 => String::new(),
                _ => format!("{quiet}/{tried}"),
            },
        }
    }

    /// A figure beside a bound that is no measurement: the ratio is to the bound.
    #[must_use]
    pub fn absolute(line: Line, ours: f64, bound: f64) -> Self {
        let ratio = ours / bound;
        let figures = Figures {
            ratio,
            min: ratio,
            max: ratio,
            ours,
            limit: bound,
        };
        Self::new(line, figures, 0, 0)
    }

    /// The object.
    ///
    /// # Errors
    /// Never so far.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }

    /// A line of the table.
    #[must_use]
    pub fn to_text(&self) -> String {
        let target = self
            .target
            .map(|bound| format!("{} {bound}", self.sign))
            .unwrap_or_default();
        let met = match self.met {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "",
        };
        let range = match self.pairs.as_str() {
            "" => String::new(),
            _ => format!("{} … {}", short(self.min), short(self.max)),
        };
        format!(
            "{:<24} {:>8}  {range:<17} {:>12} {:>12}  {:<14} {target:<7} {met:<6} {}",
            self.bench,
            short(self.ratio),
            short(self.ours),
            short(self.limit),
            self.unit,
            self.pairs,
        )
        .trim_end()
        .to_owned()
    }
}

/// The object of a row without a figure.
///
/// # Errors
/// Never so far.
pub fn no_figure_json(bench: &str, why: &str) -> serde_json::Result<String> {
    serde_json::to_string(&serde_json::json!({ "bench": bench, "error": why }))
}

/// The first line of the table.
#[must_use]
pub fn head() -> String {
    format!(
        "{:<24} {:>8}  {:<17} {:>12} {:>12}  {:<14} {:<7} {:<6} {}",
        "bench", "ratio", "min … max", "ours", "limit", "unit", "target", "", "pairs"
    )
}

/// Four significant digits are more than is known.
fn rounded(value: f64) -> f64 {
    format!("{value:.3e}").parse().unwrap_or(value)
}

fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 1000.0 => format!("{value:.0}"),
        size if size >= 100.0 => format!("{value:.1}"),
        size if size >= 0.1 || size == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(target: Target) -> Line {
        Line {
            bench: "append-1",
            unit: "readings/s",
            target,
        }
    }

    #[test]
    fn a_row_is_the_object_that_machines_read() {
        let figures = Figures {
            ratio: 0.456_78,
            min: 0.4,
            max: 0.5,
            ours: 1234.56,
            limit: 2700.0,
        };
        let row = Row::new(line(Target::AtLeast(0.4)), figures, 5, 6);
        assert_eq!(
            row.to_json().unwrap(),
            r#"{"bench":"append-1","ratio":0.4568,"min":0.4,"max":0.5,"ours":1235.0,"limit":2700.0,"unit":"readings/s","target":0.4,"met":true}"#
        );
        let text = row.to_text();
        assert!(text.starts_with("append-1 "), "{text}");
        assert!(text.contains("≥ 0.4") && text.ends_with("5/6"), "{text}");
    }

    #[test]
    fn an_absolute_row_is_a_part_of_its_bound() {
        let row = Row::absolute(line(Target::AtMost(1.0)), 12.0, 16.0);
        assert_eq!((row.ratio, row.met), (0.75, Some(true)));
        assert!(row.to_text().ends_with("met"), "{}", row.to_text());
    }
}
