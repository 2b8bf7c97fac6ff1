//! The runner: limit, product, limit, product …, with a canary around each pair.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::{
    canary::Canary,
    pairs::{Figures, Pair},
    report::{self, Line, Row},
    stand::Stand,
};

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// Everything once in seconds, to see that it runs: the figures mean nothing.
    Smoke,
    /// A row takes about a minute.
    Usual,
    /// Backlogs and audits as large as the targets name them.
    Full,
}

/// One run of `dev/bench`.
pub struct Bench {
    pairs: usize,
    size: Size,
    json: bool,
    canary: Canary,
    dir: TempDir,
    stand: Option<Stand>,
    folders: u32,
    /// Pairs that were dropped.
    moved: usize,
    rows: Vec<Row>,
}

impl Bench {
    /// Nothing is started yet.
    ///
    /// # Errors
    /// No folder can be made under `target/`.
    pub fn new(pairs: usize, size: Size, json: bool) -> Result<Self> {
        let root = harness::target().join("bench");
        std::fs::create_dir_all(&root)?;
        let dir = tempfile::Builder::new().prefix("run-").tempdir_in(root)?;
        if !json {
            println!("{}", report::head());
        }
        Ok(Self {
            pairs: if size == Size::Smoke { 1 } else { pairs },
            size,
            json,
            canary: Canary::new(dir.path())?,
            dir,
            stand: None,
            folders: 0,
            moved: 0,
            rows: Vec::new(),
        })
    }

    /// `usual`, or as much as the size says.
    #[must_use]
    pub fn amount(&self, smoke: u64, usual: u64, full: u64) -> u64 {
        match self.size {
            Size::Smoke => smoke,
            Size::Usual => usual,
            Size::Full => full,
        }
    }

    /// An empty folder on the disk that is measured.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn folder(&mut self) -> Result<PathBuf> {
        self.folders += 1;
        let path = self.dir.path().join(self.folders.to_string());
        std::fs::create_dir(&path)?;
        Ok(path)
    }

    /// Kafka, Mosquitto and MongoDB, started when first asked for.
    ///
    /// # Errors
    /// One does not start.
    pub fn stand(&mut self) -> Result<&mut Stand> {
        if self.stand.is_none() {
            self.stand = Some(match self.size {
                Size::Smoke => Stand::guest(self.dir.path())?,
                _ => Stand::up(self.dir.path())?,
            });
        }
        self.stand.as_mut().context("the services were started")
    }

    /// Measures both sides in turn until enough pairs are quiet, and prints a row for each of `lines`.
    ///
    /// # Errors
    /// A side failed, or the machine moved during every pair.
    pub fn compare<const K: usize>(
        &mut self,
        lines: [Line; K],
        limit: impl FnMut(&mut Self) -> Result<[f64; K]>,
        ours: impl FnMut(&mut Self) -> Result<[f64; K]>,
    ) -> Result<()> {
        self.pairs(lines, self.size != Size::Smoke, limit, ours)
    }

    /// The same for what does not depend on the speed of the machine: bytes.
    ///
    /// # Errors
    /// A side failed.
    pub fn compare_bytes<const K: usize>(
        &mut self,
        lines: [Line; K],
        limit: impl FnMut(&mut Self) -> Result<[f64; K]>,
        ours: impl FnMut(&mut Self) -> Result<[f64; K]>,
    ) -> Result<()> {
        self.pairs(lines, false, limit, ours)
    }

    fn pairs<const K: usize>(
        &mut self,
        lines: [Line; K],
        with_canary: bool,
        mut limit: impl FnMut(&mut Self) -> Result<[f64; K]>,
        mut ours: impl FnMut(&mut Self) -> Result<[f64; K]>,
    ) -> Result<()> {
        let mut quiet: Vec<[Pair; K]> = Vec::new();
        let mut tried = 0;
        while quiet.len() < self.pairs && tried < 2 * self.pairs + 2 {
            tried += 1;
            let before = with_canary.then(|| self.canary.sing()).transpose()?;
            let (limit, ours) = (limit(self)?, ours(self)?);
            let after = with_canary.then(|| self.canary.sing()).transpose()?;
            let moved = before
                .zip(after)
                .and_then(|(before, after)| before.moved(after));
            let pair = std::array::from_fn(|at| Pair {
                limit: limit[at],
                ours: ours[at],
            });
            match moved {
                None => quiet.push(pair),
                Some(what) => {
                    self.moved += 1;
                    let bench = lines.first().map_or("", |line| line.bench);
                    eprintln!("{bench}: {what} moved during pair {tried}, which is dropped");
                }
            }
        }
        for (at, line) in lines.into_iter().enumerate() {
            let pairs: Vec<Pair> = quiet.iter().map(|pair| pair[at]).collect();
            let figures = Figures::of(&pairs).with_context(|| {
                format!("{}: no figure, the machine never stood still", line.bench)
            })?;
            self.print(Row::new(line, figures, quiet.len(), tried))?;
        }
        Ok(())
    }

    /// Prints a figure beside a bound that is no measurement.
    ///
    /// # Errors
    /// The output is closed.
    pub fn absolute(&mut self, line: Line, ours: f64, bound: f64) -> Result<()> {
        ensure!(ours.is_finite(), "{}: no figure", line.bench);
        self.print(Row::absolute(line, ours, bound))
    }

    /// Prints, in its place in the table, that a row has no figure, and on stderr why.
    ///
    /// # Errors
    /// The output is closed.
    pub fn failed(&self, bench: &str, error: &anyhow::Error) -> Result<()> {
        eprintln!("{bench}: {error:#}");
        let why = format!("{error:#}");
        let why = why.lines().next().unwrap_or_default();
        match self.json {
            true => println!("{}", report::no_figure_json(bench, why)?),
            false => println!("{bench:<24} no figure: {why}"),
        }
        Ok(())
    }

    fn print(&mut self, row: Row) -> Result<()> {
        match self.json {
            true => println!("{}", row.to_json()?),
            false => println!("{}", row.to_text()),
        }
        self.rows.push(row);
        Ok(())
    }

    /// Ends what was started. Returns how many targets were asked for and met.
    ///
    /// # Errors
    /// A service did not end.
    pub fn done(self) -> Result<(usize, usize)> {
        if let Some(stand) = self.stand {
            stand.down()?;
        }
        if self.moved > 0 {
            eprintln!("{} pairs were dropped, the machine moved", self.moved);
        }
        let asked = self.rows.iter().filter(|row| row.met.is_some()).count();
        let met = self.rows.iter().filter(|row| row.met == Some(true)).count();
        Ok((met, asked))
    }
}
