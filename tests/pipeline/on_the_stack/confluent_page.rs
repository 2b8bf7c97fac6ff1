//! docs/confluent.md, followed word by word: its files are written, its commands run, what it says they print is
//! looked for. Only addresses and keys are those of our own servers, which are reached as a managed cluster is.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use harness::{
    cache::Cache,
    process::Process,
    rig::{PATIENCE, documents::Documents},
    service::{Door, KAFKA_SECRET, Kind, REGISTRY_LOGIN},
    stack::Stack,
    wait,
};
use serde_json::Value;

/// A command of the page, and what it says of it.
#[derive(Debug, Default)]
struct Step {
    command: String,
    /// Parts of lines, in their order; what stands between parts of one line is not said.
    prints: Vec<Vec<String>>,
    code: i32,
}

/// The steps of a transcript.
fn steps(transcript: &str) -> Vec<Step> {
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

/// The folder of somebody who follows the page.
struct Folder {
    dir: PathBuf,
    path: String,
    environment: BTreeMap<&'static str, String>,
    running: Vec<Process>,
}

impl Folder {
    fn shell(&self, line: &str) -> Command {
        let mut command = Command::new("sh");
        command
            .args(["-euc", line])
            .current_dir(&self.dir)
            .env("PATH", &self.path)
            .envs(&self.environment);
        command
    }

    fn follow(&mut self, step: &Step) -> Result<String> {
        if let Some(line) = step.command.strip_suffix(" &") {
            self.begin(line)?;
            return Ok(String::new());
        }
        // Brokers hear of what was made a moment later, and a machine that is busy answers with time-outs first.
        let is_question = [" check ", " audit "]
            .iter()
            .any(|word| step.command.contains(word));
        let patience = if is_question {
            2 * PATIENCE
        } else {
            PATIENCE / 60
        };
        let mut text = String::new();
        let as_told = wait::until_true(&step.command, patience, || {
            let output = self.shell(&step.command).output()?;
            text = harness::process::said(&output);
            for secret in [KAFKA_SECRET, REGISTRY_LOGIN.1] {
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
        let log = self.dir.join(format!("{}.log", self.running.len()));
        let mut command = self.shell(&format!("exec {line}"));
        self.running.push(Process::spawn(line, &mut command, &log)?);
        let ready = if line.starts_with("edge-agent") {
            "msg=\"link up\" link=mqtt"
        } else {
            "msg=ready"
        };
        wait::until_true(&format!("{ready} of {line}"), PATIENCE, || {
            Ok(fs::read_to_string(&log)?.contains(ready))
        })
        .with_context(|| fs::read_to_string(&log).unwrap_or_default())
    }
}

/// The blocks of section 5, whose files they are, and the two that make `client.properties`.
fn files(page: &str) -> Result<Vec<(&'static str, String)>> {
    let properties = crate::documentation::blocks(page, "properties");
    let properties: String = properties.into_iter().map(|(_, text)| text).collect();
    let last = |kind: &str| {
        let blocks = crate::documentation::blocks(page, kind);
        let (_, text) = blocks
            .into_iter()
            .next_back()
            .with_context(|| format!("no {kind} on the page"))?;
        anyhow::Ok(text)
    };
    Ok(vec![
        ("client.properties", properties),
        ("edge-agent.toml", last("toml edge-agent")?),
        ("cloud-sink.toml", last("toml cloud-sink")?),
        ("press.toml", last("toml hardware-sim")?),
        ("read_topic.py", last("python")?),
    ])
}

#[test]
fn the_page_about_confluent_is_followed_from_the_console_to_documents() -> Result<()> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/confluent.md");
    let page = fs::read_to_string(page)?;
    let mut stack = Stack::up(&[Kind::Kafka, Kind::Mosquitto, Kind::Mongodb, Kind::Registry])?;
    let dir = tempfile::tempdir()?;

    // What is ours instead of Confluent's: addresses, keys, and an authority that nobody else trusts.
    let kafka = stack.service(Kind::Kafka)?;
    kafka.acls(&[
        "--add",
        "--allow-principal",
        "User:AGENT",
        "--operation",
        "All",
        "--topic",
        "*",
        "--group",
        "*",
    ])?;
    let bootstrap = kafka.door(Door::Secured)?;
    let mut authorities = fs::read_to_string(kafka.certificate("ca.pem"))?;
    let registry = stack.service(Kind::Registry)?;
    let url = registry.secured_url()?;
    authorities += &fs::read_to_string(registry.certificate("ca.pem"))?;
    let ca = dir.path().join("ca.pem");
    fs::write(&ca, authorities)?;
    let mqtt = stack.service(Kind::Mosquitto)?.address();
    let login = format!("{}:{}", REGISTRY_LOGIN.0, REGISTRY_LOGIN.1);
    let ours = |text: &str| {
        text.replace(
            "pkc-x1y2z.europe-west3.gcp.confluent.cloud:9092",
            &bootstrap,
        )
        .replace("https://psrc-x1y2z.europe-west3.gcp.confluent.cloud", &url)
        .replace("SRKEY:SRSECRET", &login)
        .replace("sasl.username=KEY\n", "sasl.username=AGENT\n")
        .replace(
            "sasl.password=SECRET\n",
            &format!("sasl.password={KAFKA_SECRET}\n"),
        )
        .replace("mqtt://127.0.0.1:1883", &mqtt)
    };
    for (name, text) in files(&page)? {
        let more = match name {
            "client.properties" => format!("ssl.ca.location={}\n", ca.display()),
            "edge-agent.toml" | "cloud-sink.toml" => {
                format!("\n[registry]\nca = {ca:?}\n[status]\nlisten = \"off\"\n")
            }
            _ => String::new(),
        };
        fs::write(dir.path().join(name), format!("{}{more}", ours(&text)))?;
    }
    let python = Cache::open()?.confluent_client()?;
    let programs = [python, harness::binary("edge-agent")?];
    let programs = programs.iter().filter_map(|program| program.parent());
    let programs: Vec<String> = programs.map(|dir| dir.display().to_string()).collect();
    let uri = stack.service(Kind::Mongodb)?.address();
    let mut folder = Folder {
        dir: dir.path().to_owned(),
        path: format!(
            "{}:{}",
            programs.join(":"),
            std::env::var("PATH").unwrap_or_default()
        ),
        environment: BTreeMap::from([("MONGODB_URI", uri.clone())]),
        running: Vec::new(),
    };

    let transcript = crate::documentation::blocks(&page, "console");
    let (_, transcript) = transcript.first().context("no transcript on the page")?;
    let steps = steps(&ours(transcript));
    ensure!(steps.len() > 10, "{steps:#?}");
    let mut printed = String::new();
    for step in &steps {
        let text = folder.follow(step)?;
        if step.command.starts_with("python") {
            printed = text;
        }
    }

    // The client printed what the documents hold, all of it.
    let documents = Documents::new(&uri, "telemetry")?.readings_by_id()?;
    let values = printed
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    let values: Vec<Value> = values.collect();
    ensure!(values.len() >= 50, "{printed}");
    ensure!(
        values.len() == documents.len(),
        "{} printed, {} stored",
        values.len(),
        documents.len()
    );
    for (value, document) in values.iter().zip(&documents) {
        ensure!(
            value["sequence"] == document.get_i64("seq")?,
            "{value}\n{document}"
        );
        ensure!(
            value["speed_rpm"] == document.get_f64("speed_rpm")?,
            "{value}\n{document}"
        );
        ensure!(
            value["parts_total"] == document.get_f64("parts_total")?,
            "{value}\n{document}"
        );
        ensure!(
            value["state"] == document.get_str("state")?,
            "{value}\n{document}"
        );
        ensure!(
            value["running"] == document.get_bool("running")?,
            "{value}\n{document}"
        );
    }
    for mut process in folder.running.drain(..) {
        let ended = process.stop(PATIENCE)?;
        ensure!(ended.is_some_and(|status| status.success()), "{ended:?}");
    }
    stack.down()
}
