//! A Schema Registry as a managed one is, with TLS and a key: what is written by it, what it refuses, what
//! happens without it, and what Confluent's own client makes of all that.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use harness::{
    cache::Cache,
    rig::{PATIENCE, Rig},
    service::{Kind, REGISTRY_LOGIN, Service},
    stack::Stack,
    tls_door::{Guard, TlsDoor},
    wait,
};
use serde_json::Value;

const FIELDS: &str = "power_w = \"double\"\nenergy_wh = \"long\"\n";

/// What a command says, and its exit code.
fn said(program: &str, arguments: &[&str], config: &Path) -> Result<(i32, String)> {
    super::said(program, arguments, config, REGISTRY_LOGIN.1)
}

/// The command ends so, and says this. A busy machine answers with time-outs first, so what only asks is run again.
fn ends(program: &str, arguments: &[&str], config: &Path, code: i32, expected: &str) -> Result<()> {
    let mut last = String::new();
    let asks = !arguments.contains(&"register");
    let patience = if asks { PATIENCE } else { Duration::ZERO };
    wait::until_true(expected, patience, || {
        let (ended, text) = said(program, arguments, config)?;
        last = format!("{program} {arguments:?} exits with {ended}, not {code}, or says:\n{text}");
        Ok(ended == code && text.contains(expected))
    })
    .with_context(|| last)
}

/// What the console shows of a registry.
fn properties(registry: &Service) -> Result<String> {
    let (key, secret) = REGISTRY_LOGIN;
    Ok(format!(
        "schema.registry.url={}\nbasic.auth.credentials.source=USER_INFO\nbasic.auth.user.info={key}:{secret}\n",
        registry.secured_url()?
    ))
}

/// For the configuration of either daemon, after everything else.
fn tables(registry: &Service, topic: &str, fields: &Path, more: &str) -> String {
    format!(
        "[registry]\nca = {:?}\n\n[[topic]]\nname = {topic:?}\nvalue = \"avro\"\nfields = {fields:?}\n{more}",
        registry.certificate("ca.pem"),
    )
}

/// A sink that is asked about its registry only: where its `client.properties` goes, its fields, and the beginning
/// of its configuration.
fn registry_alone(dir: &Path) -> Result<(PathBuf, PathBuf, String)> {
    let (file, fields) = (dir.join("client.properties"), dir.join("fields.toml"));
    fs::write(&fields, FIELDS)?;
    let sink = format!(
        "[kafka]\nbootstrap = \"127.0.0.1:9\"\nproperties_file = {file:?}\n\
         [mongodb]\nuri = \"mongodb://127.0.0.1:9\"\n\
         [[route]]\ntopic = \"readings\"\ncollection = \"readings\"\n"
    );
    Ok((file, fields, sink))
}

/// Both daemons of a rig with a registry of its own, by which the readings are written.
pub fn with_registry(rig: &mut Rig) -> Result<PathBuf> {
    let (file, fields) = (
        rig.dir().join("client.properties"),
        rig.dir().join("readings.fields.toml"),
    );
    fs::write(&fields, FIELDS)?;
    let topic = rig.kafka.readings().to_owned();
    let registry = rig.service(Kind::Registry)?;
    fs::write(&file, properties(registry)?)?;
    let tables = tables(registry, &topic, &fields, "");
    rig.configure_agent(super::MQTT)?;
    for daemon in [&rig.agent, &rig.sink] {
        let config = fs::read_to_string(daemon.config_file())?;
        let with_file = format!("[kafka]\nproperties_file = {file:?}\n");
        let config = config.replacen("[kafka]\n", &with_file, 1);
        daemon.configure(&format!("{config}\n{tables}"))?;
    }
    Ok(fields)
}

/// Runs Confluent's client and gives what it prints.
fn client(rig: &mut Rig, command: &str, count: u64) -> Result<String> {
    let script =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("pipeline/on_the_stack/confluent_client.py");
    let (kafka, topic) = (
        rig.address(Kind::Kafka).to_owned(),
        rig.kafka.readings().to_owned(),
    );
    let registry = rig.service(Kind::Registry)?;
    let output = Command::new(Cache::open()?.confluent_client()?)
        .arg(script)
        .args([command, &kafka, &topic, &count.to_string()])
        .env("REGISTRY_URL", registry.secured_url()?)
        .env(
            "REGISTRY_LOGIN",
            format!("{}:{}", REGISTRY_LOGIN.0, REGISTRY_LOGIN.1),
        )
        .env("REGISTRY_CA", registry.certificate("ca.pem"))
        .output()?;
    ensure!(
        output.status.success(),
        "{command}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// Waits until the link of the topic's schema is down, for this reason.
fn wait_held(rig: &Rig, queued: u64, reason: &str) -> Result<()> {
    rig.wait_agent(&format!("readings held for {reason:?}"), |agent| {
        let mut details = agent.links.iter().filter_map(|link| link.detail.as_ref());
        agent.balance.queued == queued && details.any(|why| why.contains(reason))
    })?;
    Ok(())
}

#[test]
fn readings_in_avro_wait_for_their_schema_and_are_read_by_confluents_client_and_the_sink()
-> Result<()> {
    let mut rig = Rig::new(&[Kind::Registry])?;
    with_registry(&mut rig)?;
    let (agent, sink) = (rig.agent.config_file(), rig.sink.config_file());
    let subject = format!("{}-value", rig.kafka.readings());

    // Nothing is registered: the agent names the way out, and holds what comes.
    let missing = format!("{subject}  FAIL the registry has no subject {subject}");
    ends("edge-agent", &["check", "--online"], &agent, 69, &missing)?;
    ends(
        "cloud-sink",
        &["schema", "check"],
        &sink,
        0,
        "the subject is new",
    )?;
    rig.sink.start()?;
    rig.agent.start()?;
    super::publish(&rig, "press", 0..20)?;
    wait_held(&rig, 20, "cloud-sink schema register")?;

    // Registered: what was held is sent.
    ends(
        "cloud-sink",
        &["schema", "register"],
        &sink,
        0,
        "registered",
    )?;
    rig.wait_until_stored(20)?;
    ends("cloud-sink", &["schema", "check"], &sink, 0, ", BACKWARD")?;
    ends("cloud-sink", &["schema", "register"], &sink, 0, "as before")?;
    ends("edge-agent", &["check", "--online"], &agent, 0, "ok   id ")?;

    // Without the registry a restarted agent goes on by the id it knew.
    rig.service(Kind::Registry)?.kill()?;
    rig.agent.stop(PATIENCE)?;
    rig.agent.start()?;
    super::publish(&rig, "press", 20..40)?;
    rig.wait_until_stored(40)?;
    let log = fs::read_to_string(rig.agent.log())?;
    ensure!(
        log.contains("going on with the id known from before"),
        "{log}"
    );
    let down = "schema registry https://127.0.0.1:";
    ends("cloud-sink", &["schema", "check"], &sink, 69, down)?;
    super::assert_stored_once(&rig, &["press"], 40)?;

    // Confluent's client reads every value, and the sink what the client writes.
    let registry = rig.service(Kind::Registry)?;
    registry.start()?;
    registry.wait_ready()?;
    let read = client(&mut rig, "read", 40)?;
    for (number, line) in read.lines().enumerate() {
        let value: Value = serde_json::from_str(line)?;
        let expected = number as f64 + 0.5;
        ensure!(
            value["power_w"] == expected
                && value["device"] == "press"
                && value["energy_wh"].is_null(),
            "{line}"
        );
    }
    client(&mut rig, "write", 3)?;
    rig.wait_until_stored(43)?;
    let documents = rig.documents.readings_by_id()?;
    let mut foreign = Vec::new();
    for document in &documents {
        if document.get_document("meta")?.get_str("device")? == "station" {
            foreign.push(document.get_f64("temperature_c")?);
        }
    }
    foreign.sort_by(f64::total_cmp);
    ensure!(foreign == [0.5, 1.5, 2.5], "{documents:?}");

    // The same as JSON by a JSON Schema, in a subject that the agent makes itself.
    rig.agent.stop(PATIENCE)?;
    let config = fs::read_to_string(&agent)?
        .replace("value = \"avro\"", "value = \"json-schema\"")
        .replace(
            "[registry]\n",
            "[registry]\nauto_register = true\nsubject = \"topic-record\"\n",
        );
    rig.agent.configure(&config)?;
    ends(
        "edge-agent",
        &["check", "--online"],
        &agent,
        0,
        "will be registered",
    )?;
    rig.agent.start()?;
    super::publish(&rig, "press", 40..50)?;
    rig.wait_until_stored(53)?;
    rig.done()
}

#[test]
fn a_schema_may_gain_and_lose_fields_and_what_changes_a_type_is_refused_with_the_registrys_words()
-> Result<()> {
    let mut rig = Rig::new(&[Kind::Registry])?;
    let fields = with_registry(&mut rig)?;
    let (agent, sink) = (rig.agent.config_file(), rig.sink.config_file());
    let schema = |what: &str, code: i32, expected: &str| {
        ends("cloud-sink", &["schema", what], &sink, code, expected)
    };
    schema("diff", 1, "has no subject")?;
    schema("register", 0, ", registered")?;
    schema("diff", 0, "   ok   as id ")?;

    fs::write(&fields, format!("{FIELDS}voltage_v = \"double\"\n"))?;
    schema("diff", 1, "+ voltage_v double")?;
    schema("check", 0, "not registered yet, compatible, BACKWARD")?;
    schema("register", 0, ", registered")?;

    fs::write(&fields, "power_w = \"double\"\nvoltage_v = \"double\"\n")?;
    schema("diff", 1, "- energy_wh long")?;
    schema("check", 0, "compatible")?;
    schema("register", 0, ", registered")?;

    fs::write(&fields, "power_w = \"string\"\nvoltage_v = \"double\"\n")?;
    schema("diff", 1, "~ power_w double -> string")?;
    let refused = "the registry refuses the schema in subject";
    schema("check", 1, refused)?;
    schema("register", 1, "reader union lacking writer type: DOUBLE")?;
    ends("edge-agent", &["check", "--online"], &agent, 69, refused)?;

    // An agent that may register is refused as well, holds everything, and says so.
    let config = fs::read_to_string(&agent)?;
    rig.agent
        .configure(&config.replace("[registry]\n", "[registry]\nauto_register = true\n"))?;
    rig.agent.start()?;
    super::publish(&rig, "press", 0..10)?;
    wait_held(&rig, 10, "reader union lacking writer type: DOUBLE")?;
    rig.agent.stop(PATIENCE)?;

    // By the newest schema instead it goes on, though it declares something else. The sink fixes the types
    // of columns by what it has declared: as they are registered.
    fs::write(&fields, "power_w = \"double\"\nvoltage_v = \"double\"\n")?;
    let config = fs::read_to_string(&agent)?;
    rig.agent
        .configure(&config.replace("auto_register = true", "use_latest = true"))?;
    ends(
        "edge-agent",
        &["check", "--online"],
        &agent,
        0,
        ", the newest",
    )?;
    rig.sink.start()?;
    rig.agent.start()?;
    rig.wait_until_stored(10)?;
    super::assert_stored_once(&rig, &["press"], 10)?;
    rig.done()
}

#[test]
fn a_wrong_key_an_unknown_authority_and_a_wrong_address_of_the_registry_are_told_apart()
-> Result<()> {
    let mut stack = Stack::up(&[Kind::Registry])?;
    let registry = stack.service(Kind::Registry)?;
    let dir = tempfile::tempdir()?;
    let (file, fields, sink) = registry_alone(dir.path())?;
    let right = properties(registry)?;
    let url = registry.secured_url()?;
    let tables = tables(registry, "readings", &fields, "");
    let config = dir.path().join("sink.toml");
    for (properties, tables, expected) in [
        (right.clone(), tables.clone(), "the subject is new"),
        (
            right.replace(REGISTRY_LOGIN.1, "hunter3"),
            tables.clone(),
            "does not let SRKEY do this",
        ),
        (
            right.clone(),
            tables.replace("ca = ", "# "),
            "its certificate is of an authority that is not trusted here",
        ),
        (
            right.replace("127.0.0.1:", "localhost:"),
            tables.clone(),
            "its certificate is of another host",
        ),
        (
            right.replace(&url, &url.replace("/apis/ccompat/v7", "/somewhere")),
            tables.clone(),
            "answers like no schema registry",
        ),
        (
            right.replace(&url, "https://127.0.0.1:9"),
            tables,
            "does not answer",
        ),
    ] {
        fs::write(&file, properties)?;
        fs::write(&config, format!("{sink}{tables}"))?;
        let code = if expected == "the subject is new" {
            0
        } else {
            69
        };
        ends("cloud-sink", &["schema", "check"], &config, code, expected)?;
    }
    // The registry's key may be Kafka's, and it may be asked in the clear where nobody listens.
    let plain = right.replace(&url, &registry.address());
    fs::write(&file, plain)?;
    wait::until_true("an answer in the clear", PATIENCE, || {
        Ok(said("cloud-sink", &["schema", "check"], &config)?.0 == 0)
    })?;
    stack.down().context("the registry")
}

#[test]
fn certificates_of_the_registry_that_are_wrong_and_those_it_asks_for_are_told_apart() -> Result<()>
{
    let mut stack = Stack::up(&[Kind::Registry])?;
    let registry = stack.service(Kind::Registry)?;
    let dir = tempfile::tempdir()?;
    let (file, fields, sink) = registry_alone(dir.path())?;
    let sink =
        format!("{sink}[[topic]]\nname = \"readings\"\nvalue = \"avro\"\nfields = {fields:?}\n");
    let plain = registry.address();
    let upstream = plain.trim_start_matches("http://");
    let upstream = upstream.split('/').next().unwrap_or_default();
    let strangers = TlsDoor::open(&dir.path().join("strangers"), upstream, Guard::AsksForOne)?;
    let ours = |door: &TlsDoor, name: &str| Some(door.file(name));
    for (guard, name) in [
        (Guard::Expired, "expired"),
        (Guard::Elsewhere, "elsewhere"),
        (Guard::AsksForOne, "asks"),
    ] {
        let door = TlsDoor::open(&dir.path().join(name), upstream, guard)?;
        let url = plain.replace(
            &format!("http://{upstream}"),
            &format!("https://{}", door.address()),
        );
        fs::write(
            &file,
            properties(registry)?.replace(&registry.secured_url()?, &url),
        )?;
        let cases = match guard {
            Guard::Expired => vec![(None, 69, "its certificate has expired")],
            Guard::Elsewhere => vec![(None, 69, "its certificate is of another host")],
            Guard::AsksForOne => vec![
                (None, 69, "it asks for a certificate of ours"),
                (
                    ours(&door, "former.pem"),
                    69,
                    "it refuses the certificate of ours, which is over",
                ),
                (
                    ours(&strangers, "client.pem"),
                    69,
                    "it does not trust the certificate of ours",
                ),
                (ours(&door, "client.pem"), 0, "the subject is new"),
            ],
        };
        for (certificate, code, expected) in cases {
            let own = certificate.map_or(String::new(), |pem| {
                format!("certificate = {pem:?}\nkey = {pem:?}\n")
            });
            let config = dir.path().join("sink.toml");
            let ca = door.file("ca.pem");
            fs::write(&config, format!("{sink}[registry]\nca = {ca:?}\n{own}"))?;
            ends("cloud-sink", &["schema", "check"], &config, code, expected)?;
            if expected.contains("of ours") {
                let fix = "(registry.certificate, registry.key)";
                ends("cloud-sink", &["schema", "check"], &config, code, fix)?;
            }
        }
    }
    stack.down().context("the registry")
}

/// Publishes one reading with a voltage.
fn publish_voltage(rig: &Rig, sequence: u64) -> Result<()> {
    let publisher = rig.publisher("press")?;
    let payload = format!(
        r#"{{"boot":1,"seq":{sequence},"power_w":{sequence}.5,"energy_wh":7,"voltage_v":230.5}}"#
    );
    publisher.publish(&format!("{}/press/state", rig.name()), payload)?;
    publisher.wait_acknowledged(1)
}

#[test]
fn a_registry_down_at_the_start_is_waited_for_and_old_and_new_ends_read_each_other() -> Result<()> {
    let mut rig = Rig::new(&[Kind::Registry])?;
    let fields = with_registry(&mut rig)?;
    let sink = rig.sink.config_file();
    ends(
        "cloud-sink",
        &["schema", "register"],
        &sink,
        0,
        ", registered",
    )?;

    // Nobody has a number from before, and the registry is away when both begin.
    rig.service(Kind::Registry)?.stop()?;
    rig.agent.start()?;
    rig.sink.start()?;
    super::publish(&rig, "press", 0..10)?;
    wait_held(&rig, 10, "does not answer")?;
    let registry = rig.service(Kind::Registry)?;
    registry.start()?;
    registry.wait_ready()?;
    rig.wait_until_stored(10)?;

    // The sink runs on as it is; what the agent writes has gained a field and lost one.
    fs::write(&fields, "power_w = \"double\"\nvoltage_v = \"double\"\n")?;
    ends(
        "cloud-sink",
        &["schema", "register"],
        &sink,
        0,
        ", registered",
    )?;
    rig.agent.stop(PATIENCE)?;
    rig.agent.start()?;
    publish_voltage(&rig, 10)?;
    rig.wait_until_stored(11)?;

    // A sink that knows the new fields, and an agent that has stayed behind.
    rig.sink.stop(PATIENCE)?;
    rig.sink.start()?;
    fs::write(&fields, FIELDS)?;
    rig.agent.stop(PATIENCE)?;
    rig.agent.start()?;
    publish_voltage(&rig, 11)?;
    rig.wait_until_stored(12)?;
    super::assert_stored_once(&rig, &["press"], 12)?;
    for sequence in [10, 11] {
        let documents = rig.documents.readings_by_id()?;
        let mut found = documents.iter().filter(|document| {
            document
                .get_document("src")
                .and_then(|src| src.get_i64("seq"))
                .is_ok_and(|seq| seq == sequence)
        });
        let document = found.next().context("no such reading")?;
        // Whoever declares what: every value is there.
        ensure!(document.get_f64("voltage_v")? == 230.5, "{document}");
        ensure!(document.get_i64("energy_wh")? == 7, "{document}");
    }
    let records = rig.kafka.read_all(rig.kafka.readings())?;
    let ids: Vec<&[u8]> = records.iter().map(|record| &record.value[..5]).collect();
    ensure!(ids[0] != ids[10] && ids[0] == ids[11], "{ids:?}");
    rig.done()
}
