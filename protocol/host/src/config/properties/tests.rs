//! Files as people have them.

use std::path::Path;

use super::{
    super::kafka::{Daemon, Instead},
    *,
};

const DAEMON: Daemon = Daemon {
    program: "daemon",
    breaks_promise: |_, _| None,
    verify: |_| Ok(()),
    instead: Instead {
        serializers: "see SERIALIZERS",
        buffers: "see BUFFERS",
        polls: "see POLLS",
    },
};

/// As the console shows it for C and C++.
const LIBRDKAFKAS: &str = "
# Required connection configs for Kafka producer, consumer, and admin
bootstrap.servers=pkc-x1y2z.europe-west3.gcp.confluent.cloud:9092
security.protocol=SASL_SSL
sasl.mechanisms=PLAIN
sasl.username=KEY
sasl.password=a/b+c==

# Best practice for higher availability in librdkafka clients prior to 1.7
session.timeout.ms=45000

client.id=ccloud-c-client-0123abcd
";

/// The same for Java, with a Schema Registry.
const JAVAS: &str = "
# Required connection configs for Kafka producer, consumer, and admin
bootstrap.servers=pkc-x1y2z.europe-west3.gcp.confluent.cloud:9092
security.protocol=SASL_SSL
sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username='KEY' password='a/b+c==';
sasl.mechanism=PLAIN
# Required for correctness in Apache Kafka clients prior to 2.6
client.dns.lookup=use_all_dns_ips

# Best practice for higher availability in Apache Kafka clients prior to 3.0
session.timeout.ms=45000

# Best practice for Kafka producer to prevent data loss
acks=all

client.id=ccloud-java-client-0123abcd

# Required connection configs for Confluent Cloud Schema Registry
schema.registry.url=https://psrc-x1y2z.europe-west3.gcp.confluent.cloud
basic.auth.credentials.source=USER_INFO
basic.auth.user.info=SRKEY:s/e:cret=
";

fn parsed(text: &str) -> Properties {
    parse(Path::new("client.properties"), text, &DAEMON)
        .unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn settings(text: &str) -> Vec<(String, String)> {
    let kafka = parsed(text).kafka.into_iter();
    kafka.map(|(name, placed)| (name, placed.value)).collect()
}

#[track_caller]
fn refused(text: &str) -> String {
    let problems = match parse(Path::new("f"), text, &DAEMON) {
        Ok(_) => panic!("accepted: {text}"),
        Err(problems) => problems,
    };
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems[0].to_string()
}

#[test]
fn both_forms_of_confluents_file_say_the_same() {
    let without = |text, left_out: &[&str]| -> Vec<(String, String)> {
        let mut settings = settings(text);
        settings.retain(|(name, _)| !left_out.contains(&name.as_str()));
        settings
    };
    assert_eq!(
        without(LIBRDKAFKAS, &["client.id"]),
        without(JAVAS, &["client.id", "acks", "client.dns.lookup"])
    );
    assert_eq!(settings(LIBRDKAFKAS).len(), 7);
    assert_eq!(settings(JAVAS).len(), 9);
}

#[test]
fn a_file_saved_on_windows_says_the_same() {
    for text in [LIBRDKAFKAS, JAVAS] {
        let saved = format!("\u{feff}{}", text.replace('\n', "\r\n"));
        assert_eq!(settings(&saved), settings(text));
    }
}

#[test]
fn the_registry_is_picked_out() {
    assert!(matches!(
        parsed(LIBRDKAFKAS).registry(None, false),
        Ok(None)
    ));
    let prefixed = JAVAS.replace("basic.auth", "schema.registry.basic.auth");
    for text in [JAVAS, &prefixed] {
        let Ok(Some(registry)) = parsed(text).registry(None, false) else {
            panic!("no registry in {text}");
        };
        assert_eq!(
            registry.url,
            "https://psrc-x1y2z.europe-west3.gcp.confluent.cloud"
        );
        assert_eq!(registry.username.as_deref(), Some("SRKEY"));
        assert_eq!(registry.password.as_deref(), Some("s/e:cret="));
        assert!(!format!("{registry:?}").contains("cret"), "{registry:?}");
    }
}

#[test]
fn the_registry_can_take_kafkas_key() {
    let text = "schema.registry.url=https://h/\nbasic.auth.credentials.source=SASL_INHERIT\n";
    let login = Some(("KEY".to_owned(), "S".to_owned()));
    let Ok(Some(registry)) = parsed(text).registry(login, false) else {
        panic!("no registry");
    };
    assert_eq!(
        (registry.url.as_str(), registry.username.as_deref()),
        ("https://h", Some("KEY"))
    );
    let Err((placed, _)) = parsed(text).registry(None, false) else {
        panic!("inherited from nobody");
    };
    assert_eq!(
        (placed.line, placed.name.as_str()),
        (2, "basic.auth.credentials.source")
    );
}

#[test]
fn what_is_wrong_about_the_registry_is_told_without_the_secret() {
    for (text, name, expected) in [
        (
            "schema.registry.url=psrc-1",
            "schema.registry.url",
            "must begin with https://",
        ),
        (
            "schema.registry.url=https://K:hunter2@h",
            "schema.registry.url",
            "must not hold a user",
        ),
        (
            "schema.registry.url=https://",
            "schema.registry.url",
            "names no host",
        ),
        (
            "schema.registry.url=https://a,https://b",
            "schema.registry.url",
            "several",
        ),
        (
            "schema.registry.url=https://h\nbasic.auth.user.info=hunter2",
            "basic.auth.user.info",
            "KEY:SECRET",
        ),
        (
            "schema.registry.url=https://h\nbasic.auth.credentials.source=USER_INFO",
            "basic.auth.credentials.source",
            "basic.auth.user.info is missing",
        ),
        (
            "schema.registry.url=https://h\nbasic.auth.credentials.source=URL",
            "basic.auth.credentials.source",
            "USER_INFO or SASL_INHERIT",
        ),
    ] {
        let Err((placed, mistake)) = parsed(text).registry(None, false) else {
            panic!("accepted: {text}");
        };
        let mistake = format!("{mistake:?}");
        assert_eq!(placed.name, name);
        assert!(mistake.contains(expected), "{mistake}");
        assert!(!mistake.contains("hunter2"), "{mistake}");
    }
}

#[test]
fn a_line_can_go_on_in_the_next() {
    let text = "bootstrap.servers=h:1\nsasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required \\\n    username=\"KEY\" \\\n    password=\"#S\";\nacks = all\n";
    let read = parsed(text).kafka;
    assert_eq!(read["sasl.username"].value, "KEY");
    assert_eq!(read["sasl.password"].value, "#S");
    assert_eq!((read["acks"].line, read["acks"].value.as_str()), (5, "all"));
}

#[test]
fn what_stands_there_twice_in_two_words_is_found() {
    assert_eq!(
        refused("sasl.mechanisms=PLAIN\nsasl.mechanism=PLAIN"),
        "f:2:1: sasl.mechanism stands here a second time, after sasl.mechanisms on line 1"
    );
    let text =
        "sasl.username=K\nsasl.jaas.config=ScramLoginModule required username='K' password='S';";
    assert_eq!(
        refused(text),
        "f:2:1: sasl.jaas.config stands here a second time, after sasl.username on line 1"
    );
}

#[test]
fn a_name_that_nobody_knows_is_a_mistake_with_what_was_meant() {
    for (line, expected) in [
        (
            "sasl.pasword=hunter2",
            "f:1:1: sasl.pasword is no setting of a Kafka client\n  fix: did you mean sasl.password?",
        ),
        (
            "basic.auth.userinfo=hunter2",
            "f:1:1: basic.auth.userinfo is no setting of a Kafka client\n  fix: did you mean basic.auth.user.info?",
        ),
        (
            "frobnicate=hunter2",
            "f:1:1: frobnicate is no setting of a Kafka client\n  fix: remove the line, or put a # before it",
        ),
        (
            "sasl.password=hunter\\2",
            "f:1:1: sasl.password holds a \\, which Java and librdkafka read differently\n  fix: set it in the TOML file, under kafka.properties: \"sasl.password\" = { file = \"/path\" }",
        ),
        (
            "sasl.username={{ CLUSTER_API_KEY }}",
            "f:1:1: sasl.username still holds the placeholder {{ CLUSTER_API_KEY }}\n  fix: put the real value in its place",
        ),
        (
            "basic.auth.user.info={{ SR_API_KEY }}:{{ SR_API_SECRET }}",
            "f:1:1: basic.auth.user.info still holds the placeholder {{ SR_API_KEY }}\n  fix: put the real value in its place, or remove the line where no Schema Registry is used",
        ),
        (
            "ssl.keystore.type=JKS",
            "f:1:1: ssl.keystore.type can only be PKCS12\n  fix: write ssl.certificate.location and ssl.key.location for PEM files, or ssl.keystore.location for PKCS#12",
        ),
    ] {
        assert_eq!(refused(line), expected);
    }
    for (name, instead) in [
        ("value.serializer", "see SERIALIZERS"),
        ("buffer.memory", "see BUFFERS"),
        ("max.poll.records", "see POLLS"),
    ] {
        let expected = format!("f:1:1: {name} is for Java clients\n  fix: {instead}");
        assert_eq!(refused(&format!("{name}=1")), expected);
    }
    let said = refused("ssl.truststore.location=/etc/truststore.jks");
    assert!(
        said.contains("is for Java clients\n  fix: ") && said.contains("ssl.ca.location"),
        "{said}"
    );
}
