//! What a name means: librdkafka's own, Java's word for it, or neither.

use super::super::{
    document::{Mistake, nearest},
    kafka::Daemon,
};

/// Every name librdkafka 2.12 knows, but those for programs. A test asks librdkafka for each.
const LIBRDKAFKAS: &str = include_str!("librdkafka.txt");

/// The other names of a setting, and the one that is used here for both. Each would otherwise pass by
/// what is said of the other.
const ALIASES: [(&str, &str); 12] = [
    ("metadata.broker.list", "bootstrap.servers"),
    ("sasl.mechanism", "sasl.mechanisms"),
    ("request.required.acks", "acks"),
    ("delivery.timeout.ms", "message.timeout.ms"),
    ("retries", "message.send.max.retries"),
    ("max.in.flight", "max.in.flight.requests.per.connection"),
    ("max.partition.fetch.bytes", "fetch.message.max.bytes"),
    ("compression.codec", "compression.type"),
    ("queue.buffering.max.ms", "linger.ms"),
    ("auto.commit.enable", "enable.auto.commit"),
    (
        "sasl.oauthbearer.client.credentials.client.id",
        "sasl.oauthbearer.client.id",
    ),
    (
        "sasl.oauthbearer.client.credentials.client.secret",
        "sasl.oauthbearer.client.secret",
    ),
];

/// Java's names that are another word for the same.
const JAVAS: [(&str, &str); 4] = [
    ("max.request.size", "message.max.bytes"),
    ("send.buffer.bytes", "socket.send.buffer.bytes"),
    ("receive.buffer.bytes", "socket.receive.buffer.bytes"),
    ("fetch.max.wait.ms", "fetch.wait.max.ms"),
];

const PEM: &str = "export the certificates as PEM and write ssl.ca.location=/path/ca.pem; Confluent Cloud needs none";
const KEY: &str = "write ssl.certificate.location and ssl.key.location for PEM files, or ssl.keystore.location for PKCS#12";

/// Java's names that mean nothing here, and what replaces them in both daemons.
const REPLACED: [(&str, &str); 10] = [
    ("ssl.truststore.location", PEM),
    ("ssl.truststore.certificates", PEM),
    ("ssl.truststore.password", PEM),
    ("ssl.truststore.type", PEM),
    ("ssl.keystore.key", KEY),
    ("ssl.keystore.certificate.chain", KEY),
    (
        "partitioner.class",
        "remove the line: a gateway stays in the partition that Java's default would choose",
    ),
    (
        "sasl.login.callback.handler.class",
        "write sasl.oauthbearer.method=oidc with sasl.oauthbearer.token.endpoint.url",
    ),
    (
        "sasl.client.callback.handler.class",
        "write sasl.username and sasl.password",
    ),
    (
        "interceptor.classes",
        "remove the line: Java's classes cannot be used here",
    ),
];

/// What to do with a name.
pub enum Meaning {
    /// A setting, by the one name it has here.
    Setting(&'static str),
    /// Java's login, in a language of its own.
    Jaas,
    /// Nothing: what it says is so anyway.
    Nothing,
    /// It is wrong here.
    Wrong(Mistake),
}

/// Every name that librdkafka knows.
pub fn known() -> impl Iterator<Item = &'static str> {
    LIBRDKAFKAS.lines()
}

/// What replaces a name of Java's in this daemon.
fn replaced(name: &str, daemon: &Daemon) -> Option<&'static str> {
    match name {
        "key.serializer" | "value.serializer" | "key.deserializer" | "value.deserializer" => {
            Some(daemon.instead.serializers)
        }
        "buffer.memory" | "max.block.ms" => Some(daemon.instead.buffers),
        "max.poll.records" => Some(daemon.instead.polls),
        _ => {
            let replaced = REPLACED.iter().find(|(java, _)| *java == name);
            replaced.map(|(_, instead)| *instead)
        }
    }
}

/// What a name in a properties file means, with this value.
pub fn meaning(name: &str, value: &str, daemon: &Daemon) -> Meaning {
    match (name, value) {
        ("sasl.jaas.config", _) => return Meaning::Jaas,
        ("ssl.keystore.type", "PKCS12") => return Meaning::Nothing,
        ("ssl.keystore.type", _) => {
            return Meaning::Wrong(Mistake::fix("can only be PKCS12", KEY));
        }
        _ => {}
    }
    if let Some((_, own)) = JAVAS.iter().find(|(java, _)| *java == name) {
        return Meaning::Setting(own);
    }
    if let Some(instead) = replaced(name, daemon) {
        return Meaning::Wrong(Mistake::fix("is for Java clients", instead));
    }
    match librdkafkas(name) {
        Ok(own) => Meaning::Setting(own),
        Err(mistake) => Meaning::Wrong(mistake),
    }
}

/// The one name here of a setting of librdkafka's.
///
/// # Errors
/// It has no such setting.
pub fn librdkafkas(name: &str) -> Result<&'static str, Mistake> {
    if let Some((_, own)) = ALIASES.iter().find(|(alias, _)| *alias == name) {
        return Ok(own);
    }
    if let Some(own) = known().find(|known| *known == name) {
        return Ok(own);
    }
    let javas = JAVAS.iter().map(|(java, _)| *java);
    let registrys = super::registry::NAMES.into_iter();
    let all = known()
        .chain(javas)
        .chain(registrys)
        .chain(["sasl.jaas.config"]);
    let fix = match nearest(name, all) {
        Some(meant) => format!("did you mean {meant}?"),
        None => "remove the line, or put a # before it".to_owned(),
    };
    Err(Mistake::fix("is no setting of a Kafka client", fix))
}

/// What librdkafka calls a value of Java's.
pub fn value(name: &str, value: &str) -> Option<String> {
    match (name, value) {
        // Java turns the check of the host's name off so.
        ("ssl.endpoint.identification.algorithm", "") => Some("none".to_owned()),
        // What every client does since 2.1.
        ("client.dns.lookup", "default") => Some("use_all_dns_ips".to_owned()),
        _ => None,
    }
}
