//! Kafka as a managed cluster is: TLS, users, and permissions that somebody has to give.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use harness::{
    rig::{PATIENCE, Rig, kafka::Foreign},
    service::{Door, KAFKA_SECRET, Kind, Service},
    stack::Stack,
    wait,
};

/// What a command says, and its exit code.
fn said(program: &str, arguments: &[&str], config: &Path) -> Result<(i32, String)> {
    super::said(program, arguments, config, KAFKA_SECRET)
}

/// The `kafka-acls` commands in a text, without their first word.
fn grants(text: &str) -> BTreeSet<String> {
    let commands = text.split("kafka-acls ").skip(1);
    commands
        .filter_map(|rest| rest.split(';').next())
        .map(|command| {
            command
                .split(',')
                .next()
                .unwrap_or(command)
                .trim()
                .to_owned()
        })
        .collect()
}

pub(super) fn grant(kafka: &Service, command: &str) -> Result<()> {
    kafka.acls(&command.split(' ').collect::<Vec<_>>())
}

/// What was granted by this command.
fn take_away(kafka: &Service, command: &str) -> Result<()> {
    grant(
        kafka,
        &format!("--force {}", command.replace("--add", "--remove")),
    )
}

/// As Confluent's console shows it for Java.
pub(super) fn javas(kafka: &Service, user: &str) -> Result<String> {
    Ok(format!(
        "# Required connection configs for Kafka producer, consumer, and admin\n\
         bootstrap.servers={}\nsecurity.protocol=SASL_SSL\n\
         sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username='{user}' password='{KAFKA_SECRET}';\n\
         sasl.mechanism=PLAIN\n\
         # Required for correctness in Apache Kafka clients prior to 2.6\nclient.dns.lookup=use_all_dns_ips\n\
         # Best practice for higher availability in Apache Kafka clients prior to 3.0\nsession.timeout.ms=45000\n\
         # Best practice for Kafka producer to prevent data loss\nacks=all\n\
         ssl.ca.location={}\n",
        kafka.door(Door::Secured)?,
        kafka.certificate("ca.pem").display(),
    ))
}

/// As it shows it for librdkafka; with SCRAM, which others have.
fn librdkafkas(kafka: &Service) -> Result<String> {
    Ok(format!(
        "bootstrap.servers={}\nsecurity.protocol=SASL_SSL\nsasl.mechanisms=SCRAM-SHA-512\n\
         sasl.username=SCRAM\nsasl.password={KAFKA_SECRET}\nsession.timeout.ms=45000\n\
         ssl.ca.location={}\n",
        kafka.door(Door::Secured)?,
        kafka.certificate("ca.pem").display(),
    ))
}

/// By a certificate of the client's own.
fn mutual(kafka: &Service) -> Result<String> {
    let (ca, client) = (kafka.certificate("ca.pem"), kafka.certificate("AGENT.pem"));
    Ok(format!(
        "bootstrap.servers={}\nsecurity.protocol=SSL\nssl.ca.location={}\nssl.certificate.location={}\nssl.key.location={}\n",
        kafka.door(Door::Mutual)?,
        ca.display(),
        client.display(),
        client.display(),
    ))
}

/// Checks again and again, and gives what is named as missing, until nothing is.
fn give_what_is_named(kafka: &Service, program: &str, config: &Path) -> Result<BTreeSet<String>> {
    let mut given = BTreeSet::new();
    wait::until_true(&format!("{program} to miss nothing"), 3 * PATIENCE, || {
        let (code, text) = said(program, &["check", "--online"], config)?;
        let missing = grants(&text);
        if missing.is_empty() {
            ensure!(code == 0, "{program} exits with {code}:\n{text}");
            return Ok(true);
        }
        for command in missing {
            // The brokers hear of a permission a moment after it was given.
            if !given.contains(&command) {
                grant(kafka, &command)?;
                given.insert(command);
            }
        }
        Ok(false)
    })?;
    Ok(given)
}

/// Both daemons on doors with TLS, by these files.
pub(super) fn secure(rig: &mut Rig, agents: &str, sinks: &str) -> Result<()> {
    let (sink, agent) = (
        rig.dir().join("sink.properties"),
        rig.dir().join("agent.properties"),
    );
    fs::write(&sink, sinks)?;
    fs::write(&agent, agents)?;
    rig.configure_agent(super::MQTT)?;
    for (daemon, file) in [(&rig.agent, agent), (&rig.sink, sink)] {
        let config = fs::read_to_string(daemon.config_file())?;
        let bootstrap = config.lines().find(|line| line.starts_with("bootstrap"));
        let bootstrap = bootstrap.context("a line with bootstrap")?;
        daemon.configure(&config.replace(bootstrap, &format!("properties_file = {file:?}")))?;
    }
    Ok(())
}

#[test]
fn every_missing_permission_is_named_as_the_command_that_gives_it() -> Result<()> {
    let mut rig = Rig::new(&[Kind::Kafka])?;
    let kafka = rig.service(Kind::Kafka)?;
    let (agents, sinks) = (librdkafkas(kafka)?, javas(kafka, "SINK")?);
    secure(&mut rig, &agents, &sinks)?;
    let (readings, control) = (
        rig.kafka.readings().to_owned(),
        rig.kafka.control().to_owned(),
    );
    let (dead, group) = (rig.kafka.dead_letters().to_owned(), rig.name().to_owned());
    let (agent, sink) = (rig.agent.config_file(), rig.sink.config_file());
    let to = |user: &str, operation: &str, on: &str| {
        format!("--add --allow-principal User:{user} --operation {operation} {on}")
    };

    let kafka = rig.service(Kind::Kafka)?;
    let given = give_what_is_named(kafka, "cloud-sink", &sink)?;
    let describe = |topic: &str| to("SINK", "DescribeConfigs", &format!("--topic {topic}"));
    let needed = [
        to("SINK", "Read", &format!("--topic {readings}")),
        to("SINK", "Read", &format!("--topic {control}")),
        to("SINK", "Write", &format!("--topic {dead}")),
        to("SINK", "Read", &format!("--group {group}")),
        describe(&readings),
        describe(&control),
        describe(&dead),
    ];
    ensure!(given == BTreeSet::from(needed), "{given:#?}");

    let given = give_what_is_named(kafka, "edge-agent", &agent)?;
    let write = to("SCRAM", "Write", &format!("--topic {readings}"));
    let needed = [
        write.clone(),
        to("SCRAM", "Write", &format!("--topic {control}")),
    ];
    ensure!(given == BTreeSet::from(needed), "{given:#?}");

    // That was all they need.
    rig.sink.start()?;
    rig.agent.start()?;
    super::publish(&rig, "press", 0..50)?;
    rig.wait_until_stored(50)?;

    look_at_dead_letters(&mut rig, &sink)?;

    // Taken away while running: everything waits, and the way out is named.
    let kafka = rig.service(Kind::Kafka)?;
    take_away(kafka, &write)?;
    // The brokers hear of it a moment later.
    wait::until_true("the permission to be missed", PATIENCE, || {
        let (_, text) = said("edge-agent", &["check", "--online"], &agent)?;
        Ok(grants(&text).contains(&write))
    })?;
    super::publish(&rig, "press", 50..60)?;
    let status = rig.wait_agent("the refusal", |agent| {
        let detail = agent.links.iter().filter_map(|link| link.detail.as_ref());
        agent.balance.queued == 10 && detail.into_iter().any(|why| why.contains("kafka-acls"))
    })?;
    let text = format!("{:?}", status.links);
    let named = grants(&text);
    ensure!(named == BTreeSet::from([write.clone()]), "{text}");
    grant(rig.service(Kind::Kafka)?, &write)?;
    rig.wait_until_stored(60)?;
    super::assert_stored_once(&rig, &["press"], 60)?;
    for log in [rig.agent.log(), rig.sink.log()] {
        ensure!(
            !fs::read_to_string(log)?.contains(KAFKA_SECRET),
            "a log tells a secret"
        );
    }
    rig.done()
}

/// The sink writes dead letters and does not read them, so whoever looks at them with its key, and sends them back, needs
/// more, and is told what.
fn look_at_dead_letters(rig: &mut Rig, sink: &Path) -> Result<()> {
    let (readings, dead) = (rig.kafka.readings(), rig.kafka.dead_letters());
    let missing = |operation: &str, topic: &str| {
        format!("--add --allow-principal User:SINK --operation {operation} --topic {topic}")
    };
    let needed = [
        ("list", missing("Read", dead), "1 dead letter"),
        (
            "replay",
            missing("Write", readings),
            "1 dead letter sent back",
        ),
    ];
    let poison = Foreign {
        key: "somebody",
        value: b"poison",
        headers: &[],
    };
    rig.kafka.write(readings, &[poison])?;
    rig.wait_sink("the dead letter", |sink| sink.balance.dead_letters == 1)?;
    let kafka = rig.service(Kind::Kafka)?;
    for (command, missing, done) in needed {
        let (code, text) = said("cloud-sink", &["dead-letters", command], sink)?;
        let named = grants(&text);
        ensure!(
            code == 69 && named == BTreeSet::from([missing.clone()]),
            "{command} exits with {code}:\n{text}"
        );
        grant(kafka, &missing)?;
        let mut last = String::new();
        // The brokers hear of it a moment later.
        let is_done = wait::until_true(done, PATIENCE, || {
            let (code, text) = said("cloud-sink", &["dead-letters", command], sink)?;
            last = text;
            Ok(code == 0 && last.contains(done))
        });
        is_done.with_context(|| last)?;
    }
    Ok(())
}

#[test]
fn by_certificate_and_by_scram_both_daemons_work_and_what_is_taken_from_the_sink_is_named()
-> Result<()> {
    let mut rig = Rig::new(&[Kind::Kafka])?;
    let kafka = rig.service(Kind::Kafka)?;
    let agents = mutual(kafka)?;
    let sinks = librdkafkas(kafka)?.replace("SCRAM-SHA-512", "SCRAM-SHA-256");
    secure(&mut rig, &agents, &sinks)?;
    let (agent, sink) = (rig.agent.config_file(), rig.sink.config_file());

    // The command that is told for a certificate names its subject once a shell has run it.
    let kafka = rig.service(Kind::Kafka)?;
    let mut named = BTreeSet::new();
    wait::until_true("what the agent misses", 2 * PATIENCE, || {
        named = grants(&said("edge-agent", &["check", "--online"], &agent)?.1);
        Ok(!named.is_empty())
    })?;
    for command in named {
        let words = Command::new("sh")
            .args(["-euc", &format!("echo {command}")])
            .output()?;
        let words = String::from_utf8(words.stdout)?;
        ensure!(
            words.contains(" User:CN=AGENT --operation Write"),
            "{command}: {words}"
        );
        grant(kafka, words.trim())?;
    }
    let may_read = "--add --allow-principal User:SCRAM --operation All --topic * --group *";
    grant(kafka, may_read)?;
    give_what_is_named(kafka, "edge-agent", &agent)?;
    rig.sink.start()?;
    rig.agent.start()?;
    super::publish(&rig, "press", 0..50)?;
    rig.wait_until_stored(50)?;

    // Taken from the sink while it runs: it waits, says so, and says how to find out what is missing.
    let kafka = rig.service(Kind::Kafka)?;
    take_away(kafka, may_read)?;
    super::publish(&rig, "press", 50..60)?;
    rig.wait_sink("the refusal", |sink| {
        let mut details = sink.links.iter().filter_map(|link| link.detail.as_ref());
        details.any(|why| why.contains("cloud-sink check --online names the permission"))
    })?;
    let kafka = rig.service(Kind::Kafka)?;
    give_what_is_named(kafka, "cloud-sink", &sink)?;
    rig.wait_until_stored(60)?;
    super::assert_at_rest(&mut rig)?;
    super::assert_stored_once(&rig, &["press"], 60)?;
    rig.done()
}

/// A configuration of a daemon for this `client.properties`.
fn config(dir: &Path, program: &str, properties: &str) -> Result<PathBuf> {
    let file = dir.join("client.properties");
    fs::write(&file, properties)?;
    let kafka = format!("[kafka]\nproperties_file = {file:?}\n");
    let text = match program {
        "edge-agent" => format!(
            "[agent]\ngateway = \"gw\"\n{kafka}topic = \"readings\"\n\
             [[mqtt]]\nname = \"house\"\nurl = \"mqtt://localhost\"\nsubscribe = [ {{ topic = \"a/{{device}}\" }} ]\n"
        ),
        _ => format!(
            "{kafka}[mongodb]\nuri = \"mongodb://127.0.0.1:9/?directConnection=true\"\ntimeout = \"1s\"\n\
             [[route]]\ntopic = \"readings\"\ncollection = \"readings\"\n"
        ),
    };
    let toml = dir.join("config.toml");
    fs::write(&toml, text)?;
    Ok(toml)
}

#[test]
fn a_wrong_key_a_wrong_certificate_and_a_missing_permission_are_told_apart() -> Result<()> {
    let mut stack = Stack::up(&[Kind::Kafka])?;
    let kafka = stack.service(Kind::Kafka)?;
    let right = javas(kafka, "AGENT")?;
    let (secured, ca) = (kafka.door(Door::Secured)?, kafka.certificate("ca.pem"));
    let at = |door| anyhow::Ok(right.replace(&secured, &kafka.door(door)?));
    let mutual = mutual(kafka)?;
    let cases = [
        (
            right.replace(KAFKA_SECRET, "wrong"),
            "check sasl.username and sasl.password",
        ),
        (at(Door::Expired)?, "fix: its certificate has expired"),
        (
            at(Door::Elsewhere)?,
            "fix: its certificate is of another host",
        ),
        (
            right.replace(&format!("ssl.ca.location={}\n", ca.display()), ""),
            "fix: its certificate is of an authority that is not trusted here",
        ),
        (
            mutual
                .replace("ssl.certificate.location", "#")
                .replace("ssl.key.location", "#"),
            "certificate",
        ),
        (
            // Java does not say that it has expired.
            mutual.replace("AGENT.pem", "FORMER.pem"),
            "fix: it does not trust the certificate of ours",
        ),
        // Let in, and shown nothing.
        (
            librdkafkas(kafka)?.replace("SCRAM-SHA-512", "SCRAM-SHA-256"),
            "kafka-acls --add --allow-principal User:SCRAM",
        ),
        (
            right.clone(),
            "kafka-acls --add --allow-principal User:AGENT",
        ),
        (
            mutual.clone(),
            "kafka-acls --add --allow-principal User:\"$(openssl x509 ",
        ),
    ];
    std::thread::scope(|scope| {
        let all = ["edge-agent", "cloud-sink"]
            .into_iter()
            .flat_map(|program| {
                cases
                    .iter()
                    .map(move |(properties, expected)| (program, properties, *expected))
            });
        let running: Vec<_> = all
            .map(|(program, properties, expected)| {
                scope.spawn(move || {
                    let dir = tempfile::tempdir()?;
                    let config = config(dir.path(), program, properties)?;
                    let letters = (program == "cloud-sink").then_some(["dead-letters", "list"]);
                    for command in [["check", "--online"]].into_iter().chain(letters) {
                        // A machine that is busy answers with time-outs first.
                        let mut last = String::new();
                        let said = wait::until_true(expected, 2 * PATIENCE, || {
                            let (code, text) = said(program, &command, &config)?;
                            let is_said = code == 69 && text.contains(expected);
                            last = format!("{program} {command:?} exits with {code}:\n{text}");
                            Ok(is_said)
                        });
                        said.with_context(|| last)?;
                    }
                    anyhow::Ok(())
                })
            })
            .collect();
        let ended = running.into_iter().map(|one| one.join());
        let mut wrong = Vec::new();
        for end in ended {
            match end {
                Ok(Ok(())) => {}
                Ok(Err(error)) => wrong.push(format!("{error:#}")),
                Err(_) => wrong.push("a check panicked".to_owned()),
            }
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("\n\n"));
        Ok(())
    })?;
    stack.down()
}

#[test]
fn topics_are_made_and_altered_only_on_apply_and_never_reordered_by_accident() -> Result<()> {
    let rig = Rig::new(&[])?;
    let sink = |topics: &str| -> Result<PathBuf> {
        let (name, text) = (rig.name(), fs::read_to_string(rig.sink.config_file())?);
        // Topics that nobody has made.
        let text = text.replace(&format!("{name}."), &format!("{name}.new."));
        let file = rig.dir().join("topics.toml");
        fs::write(&file, format!("{text}\n{topics}"))?;
        Ok(file)
    };
    let readings = format!("{}.new.readings", rig.name());
    let declared = |lines: &str| format!("[[topic]]\nname = \"{readings}\"\n{lines}\n");
    // What was made or altered is seen a moment later. A plan may be asked for again, and what is applied twice changes
    // nothing the second time, and would say so.
    let ends = |arguments: &[&str], config: &Path, code: i32, expected: &str| -> Result<()> {
        let mut last = String::new();
        let is_plan = arguments == ["plan"];
        let patience = if is_plan { PATIENCE } else { Duration::ZERO };
        wait::until_true(expected, patience, || {
            let (ended, text) = said("cloud-sink", &[&["topics"], arguments].concat(), config)?;
            last = format!("{arguments:?} exits with {ended}, not {code}, or says else:\n{text}");
            Ok(ended == code && text.contains(expected))
        })
        .with_context(|| last)
    };
    let config = sink(&declared("partitions = 2\nretention = \"14d\""))?;
    let create = "create with 2 partitions, the cluster's replication, cleanup.policy delete, message.timestamp.type LogAppendTime, retention.ms 14d";
    ends(&["plan"], &config, 1, create)?;
    // A plan changes nothing.
    ends(&["plan"], &config, 1, "3 changes to make")?;
    ends(&["apply"], &config, 0, create)?;
    wait::until_true("what was made to be seen", PATIENCE, || {
        Ok(said("cloud-sink", &["topics", "plan"], &config)?.0 == 0)
    })?;
    ends(
        &["plan"],
        &config,
        0,
        "2 partitions, replication 1, retention 14d",
    )?;

    let config = sink(&declared(
        "partitions = 2\nretention = \"30d\"\nmax_message_bytes = \"2MiB\"",
    ))?;
    ends(&["plan"], &config, 1, "-> 2MiB, retention.ms 14d -> 30d")?;
    ends(&["apply"], &config, 0, "done alter")?;
    ends(&["plan"], &config, 0, "retention 30d")?;

    let config = sink(&declared("partitions = 4"))?;
    ends(
        &["apply"],
        &config,
        1,
        "has 2 partitions, not 4: with more, gateways move",
    )?;
    ends(
        &["apply", "--add-partitions"],
        &config,
        0,
        "done add partitions 2 -> 4",
    )?;
    wait::until_true("the partitions to be seen", PATIENCE, || {
        Ok(said("cloud-sink", &["topics", "plan"], &config)?.0 == 0)
    })?;
    let config = sink(&declared("partitions = 2\nreplication = 3"))?;
    ends(&["apply"], &config, 1, "has 4 partitions, more than 2")?;
    ends(&["apply"], &config, 1, "has replication 1, not 3")?;
    // What is not declared is as it was, and what it means is said.
    let config = sink("")?;
    ends(
        &["plan"],
        &config,
        0,
        "retention 30d (nobody declared it): a sink that is away for longer",
    )?;

    let (code, text) = said("cloud-sink", &["check", "--online"], &config)?;
    ensure!(code == 0, "{text}");
    ensure!(
        text.contains("nothing unread is about to be deleted"),
        "{text}"
    );
    rig.done()
}

#[test]
fn without_kafka_topics_say_so() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let config = config(dir.path(), "cloud-sink", "bootstrap.servers=127.0.0.1:9\n")?;
    let (code, text) = said("cloud-sink", &["topics", "plan"], &config)?;
    ensure!(code == 69, "{code}: {text}");
    ensure!(
        text.contains("kafka does not answer") && text.contains("fix: check kafka.bootstrap"),
        "{text}"
    );
    Ok(())
}
