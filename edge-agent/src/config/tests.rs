//! What is read right, what is refused and where, and that nothing secret is ever shown.

use std::{collections::BTreeSet, fs, path::Path};

use protocol_host::config::properties::names;

use super::*;

const MINIMAL: &str = "
[agent]
gateway = \"gw7\"
[kafka]
bootstrap = \"localhost:9092\"
topic = \"readings\"
";

fn read(text: &str) -> Result<Config, Vec<Problem>> {
    parse(Path::new("agent.toml"), text, Secrets::Leave)
}

#[track_caller]
fn config(text: &str) -> Config {
    read(text).unwrap_or_else(|problems| panic!("{}", lines(&problems)))
}

fn lines(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
    lines.join("\n")
}

/// Turns every line that begins with `#` and no space into TOML.
fn uncommented(sample: &str) -> String {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(toml) if !toml.starts_with(' ') => format!("{toml}\n"),
        _ => format!("{line}\n"),
    };
    sample.lines().map(line).collect()
}

/// The sample with everything in force but the file it cannot have.
fn full_sample() -> String {
    let all = uncommented(SAMPLE);
    let with_file: Vec<&str> = all
        .lines()
        .filter(|line| !line.starts_with("properties_file"))
        .collect();
    with_file.join("\n")
}

#[test]
fn a_misspelt_key_that_has_to_be_there_is_one_mistake() {
    let kafka = "[kafka]\nbootstrap = \"localhost:9092\"\n";
    let keys = format!("[agent]\ngatewy = \"gw7\"\n{kafka}topik = \"t\"\n");
    assert_eq!(
        lines(&read(&keys).unwrap_err()),
        "agent.toml:2:1: agent.gatewy is not a setting of [agent]\n  fix: did you mean gateway?\n\
         agent.toml:5:1: kafka.topik is not a setting of [kafka]\n  fix: did you mean topic?"
    );
    let table = format!("[agnet]\ngateway = \"gw7\"\n{kafka}topic = \"t\"\n");
    assert_eq!(
        lines(&read(&table).unwrap_err()),
        "agent.toml:1:2: agnet is not a table of this file\n  fix: did you mean agent?"
    );
}

#[test]
fn the_sample_is_what_has_to_be_set_and_nothing_else() {
    let minimal = MINIMAL.replace("\"readings\"", "\"telemetry.readings.v1\"");
    assert_eq!(config(SAMPLE), config(&minimal));
}

#[test]
fn the_defaults_shown_in_the_sample_are_the_defaults() {
    let (shown, default) = (config(&full_sample()), config(SAMPLE));
    assert_eq!(shown.queue, default.queue);
    assert_eq!(shown.status, default.status);
    assert_eq!(shown.kafka.control_topic, default.kafka.control_topic);
    assert_eq!(shown.kafka.value, default.kafka.value);
    assert_eq!(shown.schemas, default.schemas);
    let ([all, alarm], none) = (&shown.topics[..], Limits::default()) else {
        panic!("two topics in the sample");
    };
    assert_eq!(
        (all.limits.priority, &all.limits.timezone),
        (none.priority, &none.timezone)
    );
    assert_eq!(all.bounds.when_full, Some(default.queue.when_full));
    let only_alarm = Limits {
        alarm: true,
        ..none
    };
    assert_eq!(alarm.limits, only_alarm);
    let registry = shown.kafka.client.registry.as_ref().unwrap();
    let plain = protocol_host::config::registry::Settings::new("https://h", None);
    assert_eq!(
        (registry.timeout, registry.subject, registry.normalize),
        (plain.timeout, plain.subject, plain.normalize)
    );
    assert_eq!(shown.agent.state_dir, default.agent.state_dir);
    assert_eq!(shown.agent.shutdown_timeout, default.agent.shutdown_timeout);

    let bare = config(&format!(
        "{SAMPLE}
[[serial]]
name = \"meter\"
port = \"/dev/serial/by-id/usb-FTDI_FT232R_A10K-if00-port0\"
mode = \"frames\"
meta = {{ room = \"cellar\" }}
[[serial]]
name = \"climate\"
port = \"/dev/ttyACM0\"
mode = \"lines\"
device = \"climate-1\"
format = \"csv\"
columns = [\"seq\", \"boot\", \"time\", \"temperature_c\", \"\", \"humidity_pct\"]
time = \"time\"
sequence = \"seq\"
boot = \"boot\"
[[serial]]
name = \"scale\"
port = \"/dev/ttyUSB0\"
mode = \"lines\"
device = \"scale-1\"
format = \"regex\"
pattern = 'W:\\s*(?<weight_kg>\\S+)'
[[serial]]
name = \"p1\"
port = \"/dev/serial/by-id/usb-FTDI_P1-if00-port0\"
mode = \"dsmr\"
device = \"main-meter\"
[[serial]]
name = \"co2\"
port = \"/dev/serial/by-id/usb-FTDI_CO2-if00-port0\"
mode = \"mh-z19\"
device = \"office\"
[[serial]]
name = \"cabinet\"
port = \"/dev/serial/by-id/usb-FTDI_RS485-if00-port0\"
baud = 9600
mode = \"modbus\"
[[serial.device]]
id = \"meter-1\"
profile = \"sdm120\"
[[modbus]]
name = \"inverter\"
address = \"10.0.0.7\"
meta = {{ room = \"roof\" }}
[[modbus.device]]
id = \"inverter-1\"
profile = \"sdm630\"
[[mqtt]]
name = \"house\"
url = \"mqtts://10.0.0.2\"
username = \"edge\"
password = {{ credential = \"mqtt_house\" }}
tls_ca = \"/etc/edge-agent/ca.pem\"
tls_cert = \"/etc/edge-agent/client.pem\"
status_topic = \"edge/{{gateway}}/status\"
tls_key = \"/etc/edge-agent/client.key\"
version = \"5\"
subscribe = [
  {{ topic = \"plant/{{site}}/{{device}}\", fields = {{ temperature_c = \"main.temp\", pm2_5_ug_m3 = \"sensors.0.pm\" }}, time = \"ts\", sequence = \"seq\", boot = \"boot\", share = \"edge\", user_properties = [\"line\"], meta = {{ floor = \"1\" }} }},
  {{ topic = \"garden/soil/moisture\", preset = \"number\", device = \"soil-1\", field = \"moisture_pct\" }},
  {{ topic = \"alarms/{{device}}\", kafka_topic = \"telemetry.alarms.v1\" }},
  {{ preset = \"tasmota\", timezone = \"Europe/Berlin\" }},
]
[[process]]
source = \"cabinet\"
device = \"meter-1\"
field = \"power_w\"
rename = \"grid_power\"
scale = 0.001
offset = 0.0
unit = \"kW\"
min = -100000
max = 100_000
meta = {{ circuit = \"house\" }}
on_change = {{ dead_band = 5, heartbeat = \"300s\" }}
[[process]]
source = \"climate\"
window = {{ every = \"60s\" }}
"
    ));
    assert_eq!(shown.serial, bare.serial);
    assert_eq!(shown.modbus, bare.modbus);
    assert_eq!(shown.process, bare.process);
    assert_eq!(shown.mqtt, bare.mqtt);
}

#[test]
fn the_sample_shows_every_setting() {
    let text = uncommented(SAMPLE);
    let doc = Document::new(Path::new("sample.toml"), &text);
    let _ = sections::read(&doc, Secrets::Leave);
    for setting in doc.asked() {
        let key = setting.rsplit('.').next().unwrap();
        let shown = |line: &str| {
            line.starts_with(&format!("{key} =")) || line.trim_matches(['[', ']']) == setting
        };
        assert!(text.lines().any(shown), "{setting} is not in the sample");
    }
}

#[test]
fn what_is_shown_reads_back_as_the_same() {
    let without_secret = full_sample()
        .replace(", \"sasl.password\" = { credential = \"kafka\" }", "")
        .replace("username = \"SRKEY\"", "")
        .replace("password = { credential = \"schema_registry\" }", "");
    for text in [MINIMAL, &without_secret] {
        let original = config(text);
        assert_eq!(config(&original.show()), original, "{}", original.show());
    }
}

#[test]
fn a_lane_has_the_bounds_of_its_topic_and_else_those_of_the_queue() {
    let config = config(&format!(
        "{MINIMAL}[queue]\nmax_bytes = \"64MiB\"\nmax_age = \"2d\"\n\
         [[mqtt]]\nname = \"h\"\nurl = \"mqtt://localhost\"\n\
         subscribe = [{{ topic = \"a/{{device}}\" }}, {{ topic = \"b/{{device}}\", kafka_topic = \"alarms\" }}]\n\
         [[topic]]\nname = \"readings\"\nmax_bytes = \"1GiB\"\nmax_age = \"6h\"\nwhen_full = \"drop-newest\"\n\
         [[topic]]\nname = \"alarms\"\nalarm = true\n"
    ));
    let of = |topic: &str| {
        let queue = config.queue_of(&topic.parse().unwrap());
        (
            queue.max_bytes >> 20,
            queue.max_age.as_secs() / 3600,
            queue.when_full,
        )
    };
    assert_eq!(of("readings"), (1024, 6, WhenFull::DropNewest));
    // Only bytes bound an alarm.
    assert_eq!(of("alarms"), (64, 3650 * 24, WhenFull::DropOldest));
    assert_eq!(of("another"), (64, 48, WhenFull::DropOldest));
}

#[test]
fn secrets_are_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let (secret, properties) = (
        dir.path().join("secret"),
        dir.path().join("client.properties"),
    );
    fs::write(&secret, "hunter2-toml\n").unwrap();
    fs::write(
        &properties,
        "sasl.username=KEY\nsasl.password=hunter2-file\n",
    )
    .unwrap();
    let text = format!(
        "{MINIMAL}properties_file = {properties:?}
properties = {{ \"ssl.key.password\" = {{ file = {secret:?} }}, \"client.id\" = {{ file = {secret:?} }} }}
[[mqtt]]
name = \"house\"
url = \"mqtt://localhost\"
username = \"u\"
password = {{ file = {secret:?} }}
subscribe = [{{ topic = \"a/{{device}}\" }}]
"
    );
    let config = parse(Path::new("agent.toml"), &text, Secrets::Read)
        .unwrap_or_else(|problems| panic!("{}", lines(&problems)));
    assert_eq!(
        config.kafka.client.properties["sasl.password"],
        "hunter2-file"
    );
    assert_eq!(
        config.kafka.client.properties["ssl.key.password"],
        "hunter2-toml"
    );
    assert_eq!(
        config.kafka.client.secret_properties,
        ["client.id", "sasl.password", "ssl.key.password"]
    );
    for shown in [config.show(), format!("{config:?}"), format!("{config:#?}")] {
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("KEY"), "{shown}");
    }
}

#[test]
fn a_secret_in_the_file_is_refused_without_being_repeated() {
    let text = format!("{MINIMAL}properties = {{ \"sasl.password\" = \"hunter2\" }}\n");
    let problems = lines(&read(&text).unwrap_err());
    assert!(
        problems.contains("must not stand in the file"),
        "{problems}"
    );
    assert!(!problems.contains("hunter2"), "{problems}");
}

#[test]
fn a_missing_secret_stops_run_but_not_check() {
    let text = format!(
        "{MINIMAL}properties = {{ \"sasl.password\" = {{ env = \"EDGE_AGENT_NO_SUCH\" }} }}\n"
    );
    assert!(read(&text).is_ok());
    let problems = parse(Path::new("agent.toml"), &text, Secrets::Read).unwrap_err();
    assert_eq!(
        lines(&problems),
        "agent.toml:7:16: kafka.properties.sasl.password cannot be had: \
         environment variable EDGE_AGENT_NO_SUCH is not set"
    );
}

#[test]
fn every_problem_is_found_in_one_run_in_the_order_of_the_file() {
    let problems = read(
        "[agent]\ngateway = \"GW 7\"\nshutdown = \"10s\"\n[queue]\nmax_age = 30\n[kafka]\nvalue = \"xml\"\n",
    )
    .unwrap_err();
    let places: Vec<usize> = problems.iter().filter_map(|p| Some(p.at?.0)).collect();
    assert_eq!(places, [2, 3, 5, 6, 6, 7], "{}", lines(&problems));
}

#[test]
fn an_empty_file_says_what_has_to_be_in_it() {
    assert_eq!(
        lines(&read("").unwrap_err()),
        "agent.toml:1:1: [agent] is missing\n  fix: add [agent] with gateway = \"gw7\"\n\
         agent.toml:1:1: [kafka] is missing\n  fix: add [kafka] with topic = \"telemetry.readings.v1\""
    );
}

#[test]
fn a_missing_file_says_how_to_start() {
    let problems = load(Path::new("/nonexistent/agent.toml"), Secrets::Leave).unwrap_err();
    let text = lines(&problems);
    assert!(
        text.starts_with("/nonexistent/agent.toml: cannot be read"),
        "{text}"
    );
    assert!(text.contains("config sample"), "{text}");
}

#[test]
fn confluents_file_is_read_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("client.properties");
    fs::write(
        &file,
        "# Required connection configs\nbootstrap.servers=pkc-1.confluent.cloud:9092\n\
         security.protocol=SASL_SSL\nsasl.mechanisms=PLAIN\nsasl.username=KEY\n\
         sasl.password=a/b+c==\n\nsession.timeout.ms=45000\nclient.id=ccloud-1\n\
         schema.registry.url=https://psrc-1\nbasic.auth.user.info=K:S\n",
    )
    .unwrap();
    let config = config(&format!(
        "[agent]\ngateway = \"gw7\"\n[kafka]\nproperties_file = {file:?}\ntopic = \"t\"\n"
    ));
    assert_eq!(config.kafka.client.properties["sasl.password"], "a/b+c==");
    assert_eq!(
        config.kafka.client.properties["bootstrap.servers"],
        "pkc-1.confluent.cloud:9092"
    );
    assert_eq!(config.kafka.client.properties.len(), 7);
}

#[test]
fn mistakes_in_the_properties_file_are_placed_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("client.properties");
    let text =
        format!("[agent]\ngateway = \"gw7\"\n[kafka]\nproperties_file = {file:?}\ntopic = \"t\"\n");
    for (content, expected) in [
        (
            "acks=all\nsasl.username={{ CLUSTER_API_KEY }}\n",
            ":2:1: sasl.username still holds the placeholder {{ CLUSTER_API_KEY }}",
        ),
        ("nonsense\n", ":1:1: the line is not of the form name=value"),
        (
            "acks=all\nacks=-1\n",
            ":2:1: acks stands here a second time",
        ),
        (
            "bootstrap.servers=localhost:1\nacks=1\n",
            ":2:1: acks must be all: ",
        ),
        (
            "bootstrap.servers=localhost:1\nmessage.timeout.ms=300000\n",
            ":2:1: message.timeout.ms must be 0: ",
        ),
        (
            "acks=all\nbootstrap.servers=kafka:9092\n",
            ":2:1: bootstrap.servers goes to kafka in plain text, ",
        ),
        (
            "bootstrap.servers=localhost:1\nschema.registry.url=http://registry:8080\n",
            ":2:1: schema.registry.url goes to registry in plain text, ",
        ),
        (
            "sasl.jaas.config=x\n",
            ":1:1: sasl.jaas.config does not end in ;",
        ),
        (
            "bootstrap.servers=h:1\nsecurity.protocol=SASL_SSL\n",
            ":2:1: security.protocol is SASL_SSL, and sasl.mechanisms is missing",
        ),
        (
            "bootstrap.servers=h:1\nsecurity.protocol=sasl_ssl\nsasl.mechanism=plain\n",
            ":3:1: sasl.mechanisms must be PLAIN, SCRAM-SHA-256, ",
        ),
        (
            "bootstrap.servers=h:1\nsecurity.protocol=SASL_SSL\nsasl.mechanisms=PLAIN\nsasl.username=K\nsasl.password=\n",
            ":5:1: sasl.password is empty",
        ),
        (
            "bootstrap.servers=h:1\nsecurity.protocol=SASL_SSL\nsasl.mechanisms=PLAIN\nsasl.password=S\n",
            ":3:1: sasl.mechanisms is PLAIN, and sasl.username is missing",
        ),
    ] {
        fs::write(&file, content).unwrap();
        let problems = lines(&read(&text).unwrap_err());
        let expected = format!("{}{expected}", file.display());
        assert_eq!(
            problems.lines().filter(|l| !l.starts_with("  fix")).count(),
            1,
            "{problems}"
        );
        assert!(problems.starts_with(&expected), "{expected}\n{problems}");
    }
}

#[test]
fn a_login_may_stand_half_in_the_file_and_half_here() {
    let dir = tempfile::tempdir().unwrap();
    let (file, secret) = (
        dir.path().join("client.properties"),
        dir.path().join("secret"),
    );
    let content = "bootstrap.servers=h:1\nsecurity.protocol=SASL_SSL\nsasl.mechanisms=PLAIN\nsasl.username=K\nsasl.password=\n";
    fs::write(&file, content).unwrap();
    fs::write(&secret, "S").unwrap();
    let config = config(&format!(
        "[agent]\ngateway = \"gw7\"\n[kafka]\nproperties_file = {file:?}\ntopic = \"t\"\n\
         properties = {{ \"sasl.password\" = {{ file = {secret:?} }} }}\n"
    ));
    assert_eq!(config.kafka.client.shown()["sasl.username"], "K");
}

#[test]
fn each_mistake_is_named_with_its_place_and_remedy() {
    let all = include_str!("mistakes.txt");
    let mut cases = 0;
    for case in all.split("\n\n").filter(|case| !case.starts_with('#')) {
        let (input, expected) = case.split_once("\n>>>\n").unwrap();
        let text = match input.strip_prefix("…") {
            Some(addition) => format!("{MINIMAL}{}\n", addition.trim_start()),
            None => input.to_owned(),
        };
        match read(&text) {
            Ok(_) => panic!("accepted: {input}"),
            Err(problems) => assert_eq!(lines(&problems).trim(), expected.trim(), "in {input}"),
        }
        cases += 1;
    }
    assert!(cases > 80, "{cases} cases found");
}

#[test]
fn librdkafka_knows_every_name_in_the_list_and_has_no_name_for_two() {
    for name in names::known() {
        let settings = rdkafka::ClientConfig::new();
        let Ok(own) = settings.create_native_config() else {
            panic!("an empty configuration is refused");
        };
        // A name that is known but not set has no value, an unknown one is refused.
        let known = match own.get(name) {
            Ok(_) => true,
            Err(error) => !error.to_string().contains("No such"),
        };
        assert!(known, "{name}");
        let canonical =
            names::in_configuration(name).unwrap_or_else(|mistake| panic!("{mistake:?}"));
        assert_eq!(names::in_configuration(canonical), Ok(canonical));
    }
}

/// Every key that the reader asks for in a text.
fn asked(text: &str) -> BTreeSet<String> {
    let doc = Document::new(Path::new("agent.toml"), text);
    let _ = sections::read(&doc, Secrets::Leave);
    doc.asked()
}

#[test]
fn the_schema_has_every_key_that_the_reader_knows_and_no_other() {
    let schema = schema();
    let keys: BTreeSet<String> = schema::keys(&schema).into_iter().collect();
    assert_eq!(keys, asked(&schema::in_force(SAMPLE)));
    // Also those that only mistakes make it ask for.
    let mistakes = include_str!("mistakes.txt");
    for case in mistakes.split("\n\n").filter(|case| !case.starts_with('#')) {
        let (input, _) = case.split_once("\n>>>\n").unwrap();
        let input = input.strip_prefix('…').unwrap_or(input);
        let unknown: Vec<String> = asked(input).difference(&keys).cloned().collect();
        assert!(unknown.is_empty(), "{unknown:?} of {input}");
    }
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
    let serial = "/properties/serial/items";
    assert_eq!(
        *at(&format!("{serial}/required")),
        serde_json::json!(["mode", "name", "port"])
    );
    assert_eq!(at(&format!("{serial}/properties/baud"))["minimum"], 50);
    let modes = at(&format!("{serial}/properties/mode/enum"))
        .as_array()
        .unwrap();
    assert!(
        modes.contains(&"frames".into()) && modes.contains(&"dsmr".into()),
        "{modes:?}"
    );
    assert_eq!(*at("/required"), serde_json::json!(["agent", "kafka"]));
    assert_eq!(
        *at("/properties/kafka/required"),
        serde_json::json!(["topic"])
    );
    assert_eq!(
        at("/properties/queue/properties/max_age")["description"],
        "Older readings are dropped, and recorded as lost."
    );
    assert_eq!(
        *at("/properties/queue/properties/when_full/enum"),
        serde_json::json!(["drop-oldest", "drop-newest", "block"])
    );
    assert_eq!(
        *at("/properties/mqtt/items/properties/subscribe/items/additionalProperties"),
        false
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
