//! docs/confluent.md, followed word by word: its files are written, its commands run, what it says they print is
//! looked for. Only addresses and keys are those of our own servers, which are reached as a managed cluster is.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use harness::{
    cache::Cache,
    rig::documents::Documents,
    service::{Door, KAFKA_SECRET, Kind, REGISTRY_LOGIN},
    stack::Stack,
};
use serde_json::Value;

use crate::transcript::{Folder, steps};

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
    let uri = stack.service(Kind::Mongodb)?.address();
    let programs = [python, harness::binary("edge-agent")?];
    let mut folder = Folder::new(dir.path(), &programs, vec![KAFKA_SECRET, REGISTRY_LOGIN.1]);
    folder.set("MONGODB_URI", &uri);

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
    folder.end()?;
    stack.down()
}
