//! A transcript on a page of the documentation, followed word by word: its commands are run in one folder, and what
//! the page says they print is looked for.
//!
//! ```text
//! $ command          is run; `exit N` behind its output says how it ends, else it ends well
//! $ command &        is left running once it is ready; `2> FILE` is its log; it is job %1, %2 …
//! $ kill %N          ends a job
//! output             is found in what the command prints, in this order; `…` stands for what differs
//! ```

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use harness::{process::Process, rig::PATIENCE, wait};

/// A command of a page, and what it says of it.
#[derive(Debug, Default)]
pub struct Step {
    /// The line.
    pub command: String,
    /// Parts of lines, in their order; what stands between parts of one line is not said.
    prints: Vec<Vec<String>>,
    code: i32,
}

/// The steps of a transcript.
pub fn steps(transcript: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in transcript.lines() {
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (Some(command), _) => steps.push(Step {
                command: command.to_owned(),
                ..Step::default()
            }),
            (None, Some(step)) => match line.strip_prefix("exit ").map(str::parse) {
                Some(Ok(code)) => step.code = code,
                _ => {
                    let parts = line.split('…').map(str::to_owned);
                    step.prints.push(parts.collect());
                }
            },
            (None, None) => {}
        }
    }
    steps
}

/// Whether the text has all these lines, in this order.
fn has(text: &str, lines: &[Vec<String>]) -> bool {
    let mut left = text.lines();
    lines.iter().all(|parts| {
        left.any(|line| {
            let mut rest = line;
            parts
                .iter()
                .all(|part| match rest.split_once(part.as_str()) {
                    Some((_, after)) => {
                        rest = after;
                        true
                    }
                    None => false,
                })
        })
    })
}

/// The folder of somebody who follows a page.
pub struct Folder {
    dir: PathBuf,
    path: String,
    environment: BTreeMap<&'static str, String>,
    secrets: Vec<&'static str>,
    running: Vec<Process>,
}

impl Folder {
    /// A folder in which the programs beside these are found, and nothing that is said holds a secret.
    pub fn new(dir: &Path, programs: &[PathBuf], secrets: Vec<&'static str>) -> Self {
        let programs = programs.iter().filter_map(|program| program.parent());
        let programs: Vec<String> = programs.map(|dir| dir.display().to_string()).collect();
        let path = std::env::var("PATH").unwrap_or_default();
        Self {
            dir: dir.to_owned(),
            path: format!("{}:{path}", programs.join(":")),
            environment: BTreeMap::new(),
            secrets,
            running: Vec::new(),
        }
    }

    /// Sets a variable of its shell.
    pub fn set(&mut self, name: &'static str, value: &str) {
        self.environment.insert(name, value.to_owned());
    }

    fn shell(&self, line: &str) -> Command {
        let mut command = Command::new("sh");
        command
            .args(["-euc", line])
            .current_dir(&self.dir)
            .env("PATH", &self.path)
            .envs(&self.environment);
        command
    }

    /// Takes a step, which has to go as the page says, and returns what it printed.
    pub fn follow(&mut self, step: &Step) -> Result<String> {
        if let Some(line) = step.command.strip_suffix(" &") {
            self.begin(line)?;
            return Ok(String::new());
        }
        if let Some(job) = step.command.strip_prefix("kill %") {
            let job: usize = job.parse()?;
            let process = self.running.get_mut(job - 1).context("no such job")?;
            process.stop(PATIENCE)?;
            return Ok(String::new());
        }
        // What is asked changes with what goes on, brokers hear of what was made a moment later, and a machine that
        // is busy answers with time-outs first. A change is made once.
        let words = [
            " check ",
            " audit ",
            " plan ",
            " scan ",
            " monitor ",
            " curl ",
            " grep ",
            " queue stat ",
        ];
        let line = format!(" {}", step.command);
        let is_question = words.iter().any(|word| line.contains(word));
        let patience = if is_question {
            2 * PATIENCE
        } else {
            PATIENCE / 60
        };
        let mut text = String::new();
        let as_told = wait::until_true(&step.command, patience, || {
            let output = self.shell(&step.command).output()?;
            text = harness::process::said(&output);
            for secret in &self.secrets {
                ensure!(
                    !text.contains(secret),
                    "{} tells a secret:\n{text}",
                    step.command
                );
            }
            Ok(output.status.code() == Some(step.code) && has(&text, &step.prints))
        });
        as_told.with_context(|| format!("{step:#?} went otherwise:\n{text}"))?;
        Ok(text)
    }

    /// Leaves it running, once it says that it is ready.
    fn begin(&mut self, line: &str) -> Result<()> {
        let (line, log) = match line.split_once(" 2> ") {
            Some((line, log)) => (line, log.to_owned()),
            None => (line, format!("{}.log", self.running.len())),
        };
        let log = self.dir.join(log);
        let mut command = self.shell(&format!("exec {line}"));
        self.running.push(Process::spawn(line, &mut command, &log)?);
        let ready = match line.split_whitespace().next() {
            Some("edge-agent") => "msg=\"link up\" link=mqtt",
            Some("cloud-sink") => "msg=ready",
            _ => "",
        };
        wait::until_true(&format!("{ready} of {line}"), PATIENCE, || {
            Ok(fs::read_to_string(&log)?.contains(ready))
        })
        .with_context(|| fs::read_to_string(&log).unwrap_or_default())
    }

    /// Ends what still runs, which has to end well.
    pub fn end(mut self) -> Result<()> {
        for mut process in self.running.drain(..) {
            if process.runs() {
                let ended = process.stop(PATIENCE)?;
                ensure!(ended.is_some_and(|status| status.success()), "{ended:?}");
            }
        }
        Ok(())
    }
}
