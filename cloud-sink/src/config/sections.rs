//! The tables of the file, one function each, and the rules between them.
//!
//! A function returns `None` only when it has noted a problem, and only after it has read every key,
//! so that each mistake is found whatever else is wrong.

use std::{collections::BTreeMap, net::SocketAddr, ops::Range, time::Duration};

use protocol::Topic;
use protocol_host::config::{plaintext, registry};
use toml::de::DeValue;

use super::{
    Batch, Config, Kafka, Kind, Mongodb, Route, Secrets, Status, Uri,
    document::{Document, Expected, Mistake, Table, Value},
    kafka, topics, value,
};

const DAY: Duration = Duration::from_secs(86_400);

/// Reads the whole file; a configuration only when nothing is wrong.
pub fn read(doc: &Document<'_>, secrets: Secrets) -> Option<Config> {
    let root = doc.parse();
    let config = read_root(&Table::root(doc, &root), secrets);
    config.filter(|_| doc.is_clean())
}

fn read_root(root: &Table<'_, '_>, secrets: Secrets) -> Option<Config> {
    let mut kafka = root
        .section("kafka", "bootstrap = \"host:9092\"")
        .and_then(|table| kafka::read(&table, secrets));
    let registry = root.table("registry");
    if let Some(client) = kafka.as_mut().map(|kafka| &mut kafka.client) {
        let file = client.registry.take();
        client.registry = registry::read(registry.as_ref(), file, secrets);
    }
    let mongodb = root
        .section("mongodb", "uri = \"mongodb://host/?tls=true\"")
        .and_then(|table| mongodb(&table, secrets));
    let mut validated = Vec::new();
    let routes = routes(root, kafka.as_ref(), &mut validated);
    let topics = topics::read(root, kafka.as_ref(), routes.as_deref());
    for (topic, at) in validated {
        let mut topics = topics.iter().flatten();
        if !topics.any(|known| known.name == topic && known.fields.is_some()) {
            let fix = format!("add [[topic]] with name = \"{topic}\" and its fields");
            let mistake = Mistake::fix("has no declared fields to hold documents to", fix);
            root.doc().note(at, mistake.of("route.validator"));
        }
    }
    let batch = root
        .table("batch")
        .map_or_else(Batch::default, |table| batch(&table));
    let status = root
        .table("status")
        .map_or_else(Status::default, |table| status(&table));
    Some(Config {
        kafka: kafka?,
        mongodb: mongodb?,
        routes: routes?,
        topics: topics?,
        batch,
        status,
    })
}

fn mongodb(table: &Table<'_, '_>, secrets: Secrets) -> Option<Mongodb> {
    let remedy =
        "write uri = \"mongodb://host:27017/?tls=true\", or uri = { credential = \"mongodb_uri\" }";
    let uri = table.required("uri", remedy, uri);
    let allow_plaintext = plaintext::is_allowed(table);
    if let (Some(uri), false) = (&uri, allow_plaintext) {
        ask_for_tls(table, uri, secrets);
    }
    let database = table.or("database", String::from("telemetry"), database);
    let timeout = table.or(
        "timeout",
        Duration::from_secs(10),
        value::duration(Duration::from_secs(1)..=Duration::from_secs(300)),
    );
    Some(Mongodb {
        uri: uri?,
        allow_plaintext,
        database,
        timeout,
    })
}

fn uri(value: &Value<'_>) -> Result<Uri, Mistake> {
    if let DeValue::Table(_) = value.get_ref() {
        return value::secret(value).map(Uri::Secret);
    }
    let or_secret = |mistake: Mistake| mistake.or_expects(Expected::Secret);
    let text = value::text(value).map_err(or_secret)?;
    let rest = text
        .strip_prefix("mongodb://")
        .or_else(|| text.strip_prefix("mongodb+srv://"));
    let Some(rest) = rest else {
        return Err(Mistake::fix(
            "must begin with mongodb:// or mongodb+srv://",
            "write uri = \"mongodb://host:27017/?tls=true\"",
        ));
    };
    // Never repeated in the message.
    let credentials = rest
        .split('/')
        .next()
        .and_then(|host| host.rsplit_once('@'));
    if credentials.is_some_and(|(user, _)| user.contains(':')) {
        return Err(Mistake::fix(
            "must not hold a password",
            "move the whole string: uri = { credential = \"name\" }, { file = \"/path\" } or { env = \"NAME\" }",
        ));
    }
    Ok(Uri::Text(text))
}

/// Whether the secret can be had shows when it is needed.
fn ask_for_tls(table: &Table<'_, '_>, uri: &Uri, secrets: Secrets) {
    let text = match (uri, secrets) {
        (Uri::Text(text), _) => Some(text.clone()),
        (Uri::Secret(secret), Secrets::Read) => secret.read().ok(),
        (Uri::Secret(_), Secrets::Leave) => None,
    };
    if let Some(host) = text.as_deref().and_then(host_without_tls) {
        let tls = "add tls=true to its options, as in mongodb://host/?tls=true";
        table.wrong("uri", plaintext::mistake(host, tls, "[mongodb]"));
    }
}

/// The first host of another machine that a connection string reaches without TLS. By hand, since only the store names the driver,
/// and a check offline looks nothing up.
fn host_without_tls(uri: &str) -> Option<&str> {
    let (is_default, rest) = match uri.strip_prefix("mongodb+srv://") {
        Some(rest) => (true, rest),
        None => (false, uri.strip_prefix("mongodb://")?),
    };
    let (rest, options) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = rest.split('/').next().unwrap_or(rest);
    let hosts = authority.rsplit('@').next().unwrap_or(authority);
    let mut tls = options.split('&').filter_map(|option| {
        let (name, value) = option.split_once('=')?;
        let is_tls = name.eq_ignore_ascii_case("tls") || name.eq_ignore_ascii_case("ssl");
        is_tls.then(|| value.eq_ignore_ascii_case("true"))
    });
    if tls.next_back().unwrap_or(is_default) {
        return None;
    }
    plaintext::other_machine(hosts)
}

/// MongoDB's own rule for names of databases, the strictest of its platforms.
fn database(value: &Value<'_>) -> Result<String, Mistake> {
    let name = value::text(value)?;
    if name.len() > 63
        || name.contains([
            '/', '\\', '.', ' ', '"', '$', '*', '<', '>', ':', '|', '?', '\0',
        ])
    {
        return Err(Mistake::new(
            "must be at most 63 bytes without / \\ . \" $ * < > : | ? and spaces",
        ));
    }
    Ok(name)
}

/// Collections that the sink keeps for itself.
const OWN: [&str; 10] = [
    "incidents",
    "epochs",
    "losses",
    "clock_corrections",
    "gateways",
    "fields",
    "devices",
    "coverage",
    "checkpoints",
    "series_doubts",
];

fn collection(value: &Value<'_>) -> Result<String, Mistake> {
    let name = value::text(value)?;
    if OWN.contains(&name.as_str()) {
        return Err(Mistake::fix(
            format!("\"{name}\" is a collection of the sink itself"),
            "choose another name, such as \"readings\"",
        ));
    }
    if name.len() > 120 || name.contains(['$', '\0']) || name.starts_with("system.") {
        return Err(Mistake::new(
            "must be at most 120 bytes without $ and not begin with system.",
        ));
    }
    Ok(name)
}

/// `validated` is where a validator is asked for, and of which topic.
fn routes(
    root: &Table<'_, '_>,
    kafka: Option<&Kafka>,
    validated: &mut Vec<(Topic, Range<usize>)>,
) -> Option<Vec<Route>> {
    let tables = root.tables("route");
    if tables.is_empty() && root.span_of("route").is_none() {
        let fix =
            "add [[route]] with topic = \"telemetry.readings.v1\" and collection = \"readings\"";
        let mistake = Mistake::fix("[[route]] is missing: nothing would be consumed", fix)
            .expects(Expected::Present);
        root.doc().note(root.span(), mistake);
    }
    let mut seen: BTreeMap<Topic, String> = BTreeMap::new();
    let read: Vec<Option<Route>> = tables
        .iter()
        .map(|table| {
            let route = route(table)?;
            if let Some(first) = seen.insert(route.topic.clone(), route.collection.clone()) {
                let message = format!("is routed already, to \"{first}\"");
                table.wrong("topic", Mistake::fix(message, "one topic has one route"));
            }
            if let Some(kafka) = kafka
                && [&kafka.control_topic, &kafka.dead_letter_topic].contains(&&route.topic)
            {
                let message =
                    "is the topic of control facts or of dead letters, which holds no readings";
                table.wrong(
                    "topic",
                    Mistake::fix(message, "choose the topic of the readings"),
                );
            }
            if route.validator
                && let Some(at) = table.span_of("validator")
            {
                validated.push((route.topic.clone(), at));
            }
            Some(route)
        })
        .collect();
    read.into_iter().collect()
}

fn kind(value: &Value<'_>) -> Result<Kind, Mistake> {
    let given = value::text(value)?;
    let known = [Kind::Regular, Kind::TimeSeries];
    let found = known.into_iter().find(|kind| kind.as_str() == given);
    found.ok_or_else(|| {
        Mistake::fix(
            format!("is no kind of collection: \"{given}\""),
            "write \"regular\" or \"timeseries\"",
        )
    })
}

fn route(table: &Table<'_, '_>) -> Option<Route> {
    let remedy = "write topic = \"telemetry.readings.v1\"";
    let topic = table.required("topic", remedy, value::parsed::<Topic>);
    let remedy = "write collection = \"readings\"";
    let collection = table.required("collection", remedy, collection);
    let kind = table.or("kind", Kind::Regular, kind);
    let keep = table.optional(
        "keep",
        value::duration(Duration::from_secs(1)..=36_500 * DAY),
    );
    let hops = table.or("hops", false, value::boolean);
    let validator = table.or("validator", false, value::boolean);
    if validator && kind == Kind::TimeSeries {
        let message = "is not possible with kind = \"timeseries\": MongoDB has no validators there";
        table.wrong("validator", Mistake::fix(message, "remove the line"));
    }
    Some(Route {
        topic: topic?,
        collection: collection?,
        kind,
        keep,
        hops,
        validator,
    })
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            max_records: 1000,
            max_bytes: 4 << 20,
            max_wait: Duration::from_millis(10),
            max_in_flight: 8 << 20,
        }
    }
}

fn batch(table: &Table<'_, '_>) -> Batch {
    let default = Batch::default();
    Batch {
        // A server takes no more writes in one command.
        max_records: table.or(
            "max_records",
            default.max_records,
            value::integer(1..=100_000),
        ),
        max_bytes: table.or(
            "max_bytes",
            default.max_bytes,
            value::bytes(64 << 10..=32 << 20),
        ),
        max_wait: table.or(
            "max_wait",
            default.max_wait,
            value::duration(Duration::from_millis(1)..=Duration::from_secs(10)),
        ),
        max_in_flight: table.or(
            "max_in_flight",
            default.max_in_flight,
            value::bytes(1 << 20..=4 << 30),
        ),
    }
}

impl Default for Status {
    fn default() -> Self {
        Self {
            listen: Some(SocketAddr::from(([127, 0, 0, 1], 9601))),
        }
    }
}

fn status(table: &Table<'_, '_>) -> Status {
    let default = Status::default().listen;
    Status {
        listen: table.or("listen", default, value::address_or_off(default)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_string_without_tls_is_known_by_its_hosts_and_options() {
        for (uri, expected) in [
            ("mongodb://localhost", None),
            ("mongodb://127.0.0.1:27017/?directConnection=true", None),
            ("mongodb://[::1]:27017,localhost:27018/db", None),
            ("mongodb://%2Ftmp%2Fmongodb-27017.sock", None),
            ("mongodb://mongo", Some("mongo")),
            ("mongodb://u:p@ss@mongo:27017/db", Some("mongo")),
            ("mongodb://localhost,mongo-2:27017", Some("mongo-2")),
            ("mongodb://mongo?tls=true", None),
            ("mongodb://mongo/db?retryWrites=true&TLS=True", None),
            ("mongodb://mongo/?ssl=true", None),
            ("mongodb://mongo/?tls=false", Some("mongo")),
            ("mongodb://mongo/?authSource=tls", Some("mongo")),
            ("mongodb+srv://cluster.example.com/db", None),
            (
                "mongodb+srv://cluster.example.com/?tls=false",
                Some("cluster.example.com"),
            ),
        ] {
            assert_eq!(host_without_tls(uri), expected, "{uri}");
        }
    }
}
