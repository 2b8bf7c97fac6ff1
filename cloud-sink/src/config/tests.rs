//! What is read right, what is refused and where, and that nothing secret is ever shown.

use std::{collections::BTreeSet, fs};

use super::*;

const MINIMAL: &str = "
[kafka]
bootstrap = \"localhost:9092\"
[mongodb]
uri = \"mongodb://localhost\"
[[route]]
topic = \"telemetry.readings.v1\"
collection = \"readings\"
";

fn read(text: &str) -> Result<Config, Vec<Problem>> {
    parse(Path::new("sink.toml"), text, Secrets::Leave)
}

fn lines(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
    lines.join("\n")
}

#[track_caller]
fn config(text: &str) -> Config {
    read(text).unwrap_or_else(|problems| panic!("{}", lines(&problems)))
}

/// Turns every line that begins with `#` and no space into TOML.
fn uncommented(sample: &str) -> String {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(toml) if !toml.starts_with(' ') && !toml.starts_with("properties_file") => {
            format!("{toml}\n")
        }
        _ => format!("{line}\n"),
    };
    sample.lines().map(line).collect()
}

#[test]
fn the_sample_is_what_has_to_be_set_and_nothing_else() {
    let sample = config(SAMPLE);
    assert_eq!(sample.batch, Batch::default());
    assert_eq!(sample.status, Status::default());
    let minimal = config(&MINIMAL.replace("mongodb://localhost", "mongodb://localhost:27017"));
    assert_eq!(sample, minimal);
}

#[test]
fn every_comment_of_the_sample_shows_a_default() {
    let mut all = config(&uncommented(SAMPLE));
    assert_eq!(all.topics.len(), 1);
    all.topics.clear();
    let registry = all.kafka.client.registry.take().unwrap();
    let plain = protocol_host::config::registry::Settings::new("https://h", None);
    assert_eq!(
        (registry.timeout, registry.subject, registry.normalize),
        (plain.timeout, plain.subject, plain.normalize)
    );
    let client_id = all.kafka.client.properties.remove("client.id");
    assert_eq!(client_id.as_deref(), Some("cloud-sink"));
    assert_eq!(
        all.routes[0].keep.take(),
        Some(Duration::from_secs(90 * 86_400))
    );
    assert_eq!(all, config(SAMPLE));
}

#[test]
fn every_key_is_in_the_sample() {
    let text = uncommented(SAMPLE).replace("[kafka]", "[kafka]\nproperties_file = \"/dev/null\"");
    let doc = Document::new(Path::new("sample.toml"), &text);
    assert!(sections::read(&doc, Secrets::Leave).is_some());
    for key in doc.asked() {
        let name = key.rsplit('.').next().unwrap();
        let table = format!("[{name}]");
        let there = SAMPLE.contains(&format!("{name} =")) || SAMPLE.contains(&table);
        assert!(there, "{key} is not in the sample");
    }
}

#[test]
fn what_is_shown_reads_the_same_again() {
    let without_secret = uncommented(SAMPLE)
        .replace("username = \"SRKEY\"", "")
        .replace("password = { credential = \"schema_registry\" }", "");
    let all = config(&without_secret);
    assert_eq!(config(&all.show()), all);
}

#[test]
fn every_mistake_has_its_place_and_its_remedy() {
    // (a line of the minimal file, what stands in its place, place and beginning of the problem, remedy)
    let table = [
        (
            "bootstrap = \"localhost:9092\"",
            "bootstrap = \"localhost\"",
            "3:13: kafka.bootstrap has a server without a port",
            "bootstrap = \"host:9092\"",
        ),
        (
            "bootstrap = \"localhost:9092\"",
            "",
            "2:1: kafka.bootstrap is missing",
            "bootstrap =",
        ),
        (
            "bootstrap = \"localhost:9092\"",
            "bootstrp = \"localhost:9092\"",
            "3:1: kafka.bootstrp is not a setting",
            "did you mean bootstrap?",
        ),
        (
            "bootstrap = \"localhost:9092\"",
            "bootstrap = \"{{ SERVER }}\"",
            "3:13: kafka.bootstrap still holds the placeholder",
            "real value",
        ),
        (
            "[kafka]",
            "[kafka]\nproperties = { \"auto.offset.reset\" = \"latest\" }",
            "kafka.properties.auto.offset.reset must be error: a jump",
            "remove the line",
        ),
        (
            "[kafka]",
            "[kafka]\nproperties = { \"enable.auto.offset.store\" = \"true\" }",
            "must be false: an offset is stored only after",
            "remove the line",
        ),
        (
            "[kafka]",
            "[kafka]\nproperties = { \"enable.auto.commit\" = false }",
            "must be true: stored offsets",
            "remove the line",
        ),
        (
            "[kafka]",
            "[kafka]\nproperties = { \"group.id\" = \"x\" }",
            "group.id cannot be set here",
            "kafka.group",
        ),
        (
            "[kafka]",
            "[kafka]\nproperties = { \"acks\" = \"1\" }",
            "acks is for producers",
            "remove the line",
        ),
        (
            "[kafka]",
            "[kafka]\nproperties = { \"sasl.password\" = \"hunter2\" }",
            "kafka.properties.sasl.password must not stand in the file",
            "credential",
        ),
        (
            "[kafka]",
            "[kafka]\ncontrol_topic = \"a b\"",
            "3:17: kafka.control_topic is not valid",
            "",
        ),
        (
            "[kafka]",
            "[kafka]\ndead_letter_topic = \"telemetry.readings.v1\"",
            "route.topic is the topic of",
            "topic of the readings",
        ),
        (
            "[kafka]",
            "[kafka]\ngroup = 7",
            "3:9: kafka.group must be a text in quotes",
            "",
        ),
        (
            "uri = \"mongodb://localhost\"",
            "",
            "4:1: mongodb.uri is missing",
            "uri =",
        ),
        (
            "uri = \"mongodb://localhost\"",
            "uri = \"http://localhost\"",
            "5:7: mongodb.uri must begin with mongodb://",
            "mongodb://host",
        ),
        (
            "uri = \"mongodb://localhost\"",
            "uri = \"mongodb://me:hunter2@localhost/x\"",
            "5:7: mongodb.uri must not hold a password",
            "credential",
        ),
        (
            "uri = \"mongodb://localhost\"",
            "uri = \"mongodb://mongo:27017/?replicaSet=rs0\"",
            "5:7: mongodb.uri goes to mongo in plain text",
            "tls=true",
        ),
        (
            "bootstrap = \"localhost:9092\"",
            "bootstrap = \"kafka:9092\"",
            "3:13: kafka.bootstrap goes to kafka in plain text",
            "allow_plaintext = true in [kafka]",
        ),
        (
            "uri = \"mongodb://localhost\"",
            "uri = { vault = \"x\" }",
            "5:7: mongodb.uri cannot be found by vault",
            "credential",
        ),
        (
            "[mongodb]",
            "[mongodb]\ndatabase = \"a.b\"",
            "5:12: mongodb.database must be at most 63 bytes",
            "",
        ),
        (
            "[mongodb]",
            "[mongodb]\ntimeout = \"1ms\"",
            "5:11: mongodb.timeout must be 1s to 5m",
            "",
        ),
        (
            "[mongodb]",
            "[mongo]",
            "4:2: mongo is not a table of this file",
            "did you mean mongodb?",
        ),
        (
            "collection = \"readings\"",
            "collection = \"incidents\"",
            "8:14: route.collection \"incidents\" is a collection of the sink",
            "another name",
        ),
        (
            "collection = \"readings\"",
            "",
            "6:1: route.collection is missing",
            "collection =",
        ),
        (
            "collection = \"readings\"",
            "collection = \"r\"\nkeep = 90",
            "9:8: route.keep has no unit",
            "30d",
        ),
        (
            "collection = \"readings\"",
            "collection = \"r\"\nkeep = \"soon\"",
            "9:8: route.keep is not a time span",
            "30d",
        ),
        (
            "collection = \"readings\"",
            "collection = \"r\"\nhops = \"yes\"",
            "9:8: route.hops must be true or false",
            "",
        ),
        (
            "collection = \"readings\"",
            "collection = \"r\"\n[[route]]\ntopic = \"telemetry.readings.v1\"\ncollection = \"s\"",
            "10:9: route.topic is routed already, to \"r\"",
            "one topic has one route",
        ),
        (
            "topic = \"telemetry.readings.v1\"",
            "topic = \"edge.control.v1\"",
            "7:9: route.topic is the topic of control facts",
            "topic of the readings",
        ),
        (
            "[[route]]",
            "[route]",
            "route is a list of tables: write [[route]]",
            "",
        ),
        (
            "[[route]]",
            "[batch]\nmax_records = 0\n[[route]]",
            "7:15: batch.max_records must be 1 to 100000, not 0",
            "",
        ),
        (
            "[[route]]",
            "[batch]\nmax_bytes = \"4 MB\"\n[[route]]",
            "7:13: batch.max_bytes is not an amount of bytes",
            "64MiB",
        ),
        (
            "[[route]]",
            "[batch]\nmax_wait = \"1h\"\n[[route]]",
            "7:12: batch.max_wait must be 1ms to 10s, not 1h",
            "",
        ),
        (
            "[[route]]",
            "[status]\nlisten = \"9601\"\n[[route]]",
            "7:10: status.listen is not an address",
            "127.0.0.1:9601",
        ),
        (
            "[[route]]",
            "[[topic]]\nname = \"telemetry.reading.v1\"\n[[route]]",
            "7:8: topic.name is no topic of this file",
            "did you mean \"telemetry.readings.v1\"?",
        ),
        (
            "[[route]]",
            "[[topic]]\nname = \"edge.control.v1\"\nretention = \"7d\"\n[[route]]",
            "8:13: topic.retention is not for the topic of facts",
            "remove the line",
        ),
        (
            "[[route]]",
            "[[topic]]\nname = \"edge.dead-letters.v1\"\nretention = \"5m\"\n[[route]]",
            "8:13: topic.retention must be 1h to 36500d, not 5m",
            "",
        ),
        (
            "[[route]]",
            "[[topic]]\nname = \"edge.control.v1\"\n[[topic]]\nname = \"edge.control.v1\"\n[[route]]",
            "9:8: topic.name is declared already",
            "",
        ),
        (
            "[[route]]",
            "[[topic]]\nname = \"edge.control.v1\"\ncleanup = \"delete\"\n[[route]]",
            "8:1: topic.cleanup is not a setting of [topic]",
            "[topic] has fields, max_message_bytes",
        ),
        (
            "collection = \"readings\"",
            "collection = \"readings\"\nkind = \"timeseries\"\nvalidator = true",
            "10:13: route.validator is not possible with kind = \"timeseries\"",
            "remove the line",
        ),
        (
            "collection = \"readings\"",
            "collection = \"readings\"\nvalidator = true",
            "9:13: route.validator has no declared fields",
            "add [[topic]] with name = \"telemetry.readings.v1\"",
        ),
        (
            "[[route]]",
            "[satus]\n[[route]]",
            "satus is not a table of this file",
            "did you mean status?",
        ),
    ];
    assert!(table.len() >= 40, "{} cases", table.len());
    for (line, instead, place, remedy) in table {
        assert!(MINIMAL.contains(line), "{line}");
        let problems = read(&MINIMAL.replacen(line, instead, 1)).unwrap_err();
        let text = lines(&problems);
        assert!(text.contains(place), "{instead}: {text}");
        assert!(text.contains(remedy), "{instead}: {text}");
        assert!(text.starts_with("sink.toml:"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn all_mistakes_are_found_in_one_run() {
    let problems =
        read("[kafka]\ngroup = 7\n[batch]\nmax_records = 0\n[mongodb]\nurl = \"x\"").unwrap_err();
    // group, bootstrap, max_records, url for uri, route
    assert_eq!(problems.len(), 5, "{}", lines(&problems));
}

#[test]
fn a_broken_file_is_named_with_its_line() {
    let text = lines(&read("[kafka\nbootstrap = 1").unwrap_err());
    assert!(text.starts_with("sink.toml:1:"), "{text}");
}

#[test]
fn plain_text_to_another_machine_needs_a_word() {
    let text = MINIMAL.replace("localhost", "elsewhere");
    assert_eq!(read(&text).unwrap_err().len(), 2);
    let allowed = text
        .replace("[kafka]", "[kafka]\nallow_plaintext = true")
        .replace("[mongodb]", "[mongodb]\nallow_plaintext = true");
    let config = config(&allowed);
    assert!(config.kafka.client.allow_plaintext && config.mongodb.allow_plaintext);
}

#[test]
fn a_connection_string_that_is_a_secret_is_held_to_the_same_without_being_shown() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("uri");
    fs::write(&file, "mongodb://me:hunter2@mongo/x").unwrap();
    let secret = format!("uri = {{ file = {file:?} }}");
    let text = MINIMAL.replace("uri = \"mongodb://localhost\"", &secret);
    assert!(read(&text).is_ok(), "it is not read for check");
    let problems = parse(Path::new("sink.toml"), &text, Secrets::Read).unwrap_err();
    let said = lines(&problems);
    assert!(
        said.contains("mongodb.uri goes to mongo in plain text"),
        "{said}"
    );
    assert!(!said.contains("hunter2"), "{said}");
}

#[test]
fn secrets_never_show() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("client.properties");
    fs::write(
        &file,
        "# Confluent\nbootstrap.servers=h:9092\nsecurity.protocol=SASL_SSL\nsasl.mechanisms=PLAIN\n\
         sasl.username=KEY\nsasl.password=hunter2\nsession.timeout.ms=45000\n",
    )
    .unwrap();
    let with_file = format!("properties_file = {:?}", file.to_str().unwrap());
    let config = config(&MINIMAL.replace("bootstrap = \"localhost:9092\"", &with_file));
    assert_eq!(config.kafka.client.properties["sasl.password"], "hunter2");
    for shown in [config.show(), format!("{config:?}"), format!("{config:#?}")] {
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

/// Every key that the reader asks for in a text.
fn asked(text: &str) -> BTreeSet<String> {
    let doc = Document::new(Path::new("sink.toml"), text);
    let _ = sections::read(&doc, Secrets::Leave);
    doc.asked()
}

#[test]
fn the_schema_has_every_key_that_the_reader_knows_and_no_other() {
    let schema = schema();
    let keys: BTreeSet<String> = schema::keys(&schema).into_iter().collect();
    assert_eq!(keys, asked(&schema::in_force(SAMPLE)));
}

#[test]
fn the_schema_says_what_each_setting_has_to_be() {
    let schema = schema();
    let untyped = schema::untyped(&schema);
    assert!(untyped.is_empty(), "{untyped:?}");
    let at = |path: &str| {
        schema
            .pointer(path)
            .unwrap_or_else(|| panic!("{path} is not in\n{schema:#}"))
    };
    assert_eq!(
        *at("/required"),
        serde_json::json!(["kafka", "mongodb", "route"])
    );
    assert_eq!(
        *at("/properties/route/items/required"),
        serde_json::json!(["collection", "topic"])
    );
    assert_eq!(*at("/properties/kafka/required"), serde_json::json!([]));
    assert_eq!(
        at("/properties/mongodb/properties/uri/anyOf")
            .as_array()
            .unwrap()
            .len(),
        2
    );
    assert_eq!(
        *at("/properties/topic/items/properties/value/enum"),
        serde_json::json!(["avro", "json-schema"])
    );
}

proptest::proptest! {
    #[test]
    fn any_text_is_a_configuration_or_a_list_of_places_in_it(
        changes in proptest::collection::vec(
            (proptest::prelude::any::<proptest::sample::Index>(), "[\\x00-\\x7fä€]{0,3}"),
            0..6,
        ),
    ) {
        let mut text = uncommented(SAMPLE);
        for (at, change) in &changes {
            let mut at = at.index(text.len());
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            text.insert_str(at, change);
        }
        if let Err(problems) = read(&text) {
            proptest::prop_assert!(!problems.is_empty());
            for (line, _) in problems.iter().filter_map(|problem| problem.at) {
                proptest::prop_assert!(line <= text.split('\n').count());
            }
        }
    }
}
