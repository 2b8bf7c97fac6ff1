//! What a name means: librdkafka's own, Java's word for it, or neither.

use super::{
    super::{
        document::{Mistake, nearest},
        kafka::Daemon,
    },
    is_secret,
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

const CLASS: &str = "remove the line: Java's classes cannot be used here";
const TLS: &str = "remove the line: the newest TLS that both ends know is used";
const READER: &str = "remove the line: it is for programs that read or write by a schema";

/// Java's names that mean nothing here, and what replaces them in both daemons.
const REPLACED: [(&str, &str); 31] = [
    ("ssl.truststore.location", PEM),
    ("ssl.truststore.certificates", PEM),
    ("ssl.truststore.password", PEM),
    ("ssl.truststore.type", PEM),
    ("ssl.keystore.key", KEY),
    ("ssl.keystore.certificate.chain", KEY),
    ("ssl.protocol", TLS),
    ("ssl.enabled.protocols", TLS),
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
    ("interceptor.classes", CLASS),
    ("metric.reporters", CLASS),
    ("security.providers", CLASS),
    ("auto.include.jmx.reporter", CLASS),
    ("default.api.timeout.ms", "write socket.timeout.ms"),
    (
        "exclude.internal.topics",
        "remove the line: topics are named in the TOML file",
    ),
    ("key.converter", CLASS),
    ("value.converter", CLASS),
    (
        "replication.factor",
        "write replication under [[topic]] of the sink's TOML file",
    ),
    (
        "auto.register.schemas",
        "write auto_register under [registry] of the agent's TOML file",
    ),
    (
        "use.latest.version",
        "write use_latest under [registry] of the agent's TOML file",
    ),
    (
        "normalize.schemas",
        "write normalize under [registry] of the TOML file",
    ),
    (
        "value.subject.name.strategy",
        "write subject under [registry] of the TOML file: \"topic\", \"record\" or \"topic-record\"",
    ),
    (
        "key.subject.name.strategy",
        "remove the line: keys are the names of gateways, and have no schema",
    ),
    (
        "bearer.auth.credentials.source",
        "write basic.auth.user.info=KEY:SECRET with a key of the Schema Registry",
    ),
    ("specific.avro.reader", READER),
    ("avro.use.logical.type.converters", READER),
    ("avro.remove.java.properties", READER),
    ("json.fail.invalid.schema", READER),
    ("wrapper.for.nullables", READER),
];

/// The same of whatever begins so.
const REPLACED_ALL: [(&str, &str); 2] = [
    (
        "schema.registry.ssl.",
        "write ca, certificate and key under [registry] of the TOML file, as PEM files",
    ),
    (
        "spring.",
        "write the name as Kafka's own clients know it, such as bootstrap.servers",
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
            let one = REPLACED.iter().find(|(java, _)| *java == name);
            let all = REPLACED_ALL
                .iter()
                .find(|(start, _)| name.starts_with(*start));
            one.or(all).map(|(_, instead)| *instead)
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

/// The one name here of a setting in a configuration, where only librdkafka's names are read.
///
/// # Errors
/// It has no such setting; of what only a properties file may hold, where that belongs here.
pub fn in_configuration(name: &str) -> Result<&'static str, Mistake> {
    const FILES: &str = "is read from kafka.properties_file only";
    if let Some((_, own)) = JAVAS.iter().find(|(java, _)| *java == name) {
        return Err(Mistake::fix(
            "is Java's name for it",
            format!("write \"{own}\""),
        ));
    }
    if name == "sasl.jaas.config" {
        let fix =
            "write \"sasl.username\" = \"KEY\" and \"sasl.password\" = { credential = \"kafka\" }";
        return Err(Mistake::fix(FILES, fix));
    }
    if super::registry::NAMES.contains(&name) {
        return Err(Mistake::fix(
            FILES,
            "write url, username and password under [registry]",
        ));
    }
    librdkafkas(name)
}

/// The one name here of a setting of librdkafka's.
///
/// # Errors
/// It has no such setting.
fn librdkafkas(name: &str) -> Result<&'static str, Mistake> {
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

/// Where a value can be written that the file's two readers would read differently.
pub fn without_file(name: &str) -> String {
    match name {
        "sasl.jaas.config" => {
            "write sasl.username=… instead, and in the TOML file, under kafka.properties: \"sasl.password\" = { file = \"/path\" }".to_owned()
        }
        _ if name.ends_with("basic.auth.user.info") => {
            "write username = \"KEY\" and password = { file = \"/path\" } under [registry] of the TOML file".to_owned()
        }
        _ if is_secret(name) => format!(
            "set it in the TOML file, under kafka.properties: \"{name}\" = {{ file = \"/path\" }}"
        ),
        _ => "write the value without it".to_owned(),
    }
}

/// What librdkafka calls a value of Java's, or of Confluent's.
///
/// # Errors
/// It is none.
pub fn value(name: &str, value: &str) -> Result<Option<String>, Mistake> {
    Ok(match (name, value) {
        // Java turns the check of the host's name off so.
        ("ssl.endpoint.identification.algorithm", "") => Some("none".to_owned()),
        // What every client does since 2.1.
        ("client.dns.lookup", "default") => Some("use_all_dns_ips".to_owned()),
        // As Confluent's command line and Terraform name a cluster.
        ("bootstrap.servers", servers) if servers.contains("://") => Some(hosts(servers)?),
        _ => None,
    })
}

/// `SASL_SSL://host:port` without what security.protocol says.
fn hosts(servers: &str) -> Result<String, Mistake> {
    let hosts: Option<Vec<&str>> = servers
        .split(',')
        .map(|server| match server.trim().split_once("://") {
            None => Some(server),
            Some(("SASL_SSL" | "SASL_PLAINTEXT" | "SSL" | "PLAINTEXT", host)) => Some(host),
            Some(_) => None,
        })
        .collect();
    let hosts = hosts.ok_or_else(|| {
        Mistake::fix(
            "is a list of hosts, not a url",
            "write bootstrap.servers=host:9092, several with commas",
        )
    })?;
    Ok(hosts.join(","))
}
