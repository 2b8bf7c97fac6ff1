//! What to do about what Kafka refuses, in the words of the tools of somebody with the right to do so.

use std::{
    collections::BTreeMap,
    fmt, fs,
    net::{TcpStream, ToSocketAddrs as _},
    path::Path,
    time::Duration,
};

use native_tls::{Certificate, TlsConnector};

/// Who a client with these settings is to Kafka, where it is somebody; for a shell, in which a certificate is asked
/// for its subject, as Kafka reads it by default.
#[must_use]
pub fn principal(properties: &BTreeMap<String, String>) -> Option<String> {
    let is_by_certificate = properties
        .get("security.protocol")
        .is_some_and(|protocol| protocol.eq_ignore_ascii_case("ssl"));
    if !is_by_certificate {
        return properties.get("sasl.username").cloned();
    }
    let file = properties.get("ssl.certificate.location")?;
    Some(format!(
        "\"$(openssl x509 -noout -subject -nameopt RFC2253 -in '{file}' | sed s/^subject=//)\""
    ))
}

/// A permission that is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant<'a> {
    /// `Read`, `Write`, `Create`, `Alter`, `AlterConfigs`, `DescribeConfigs`.
    pub operation: &'a str,
    /// On what.
    pub on: Resource<'a>,
    /// Who asks: [`principal`], where it is somebody.
    pub user: Option<&'a str>,
}

/// What is to be allowed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource<'a> {
    /// A topic.
    Topic(&'a str),
    /// A consumer group.
    Group(&'a str),
}

impl fmt::Display for Grant<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self { operation, .. }, user) = (self, self.user.unwrap_or("ANONYMOUS"));
        let (kafkas, confluents, name) = match self.on {
            Resource::Topic(name) => ("--topic", "--topic", name),
            Resource::Group(name) => ("--group", "--consumer-group", name),
        };
        // Confluent's command line writes its words with hyphens.
        let hyphened = match *operation {
            "AlterConfigs" => "alter-configs".to_owned(),
            "DescribeConfigs" => "describe-configs".to_owned(),
            other => other.to_lowercase(),
        };
        write!(
            f,
            "kafka-acls --add --allow-principal User:{user} --operation {operation} {kafkas} {name}; on Confluent Cloud: \
             confluent kafka acl create --allow --service-account ACCOUNT --operations {hyphened} {confluents} {name}"
        )
    }
}

/// A certificate that another authority's file would make a good one.
const UNTRUSTED: (&str, &str) = (
    "its certificate is of an authority that is not trusted here",
    "name the authority's PEM file",
);

/// The setting that takes the authority's file, where that is what helps: against a certificate that is over, or of
/// another host, it does not.
fn named(what: &str, setting: &str) -> String {
    if what == UNTRUSTED.0 {
        format!(" ({setting})")
    } else {
        String::new()
    }
}

/// What OpenSSL has against a certificate, and what to do about it; none where it is something else.
#[must_use]
pub fn of_certificate(reason: &str) -> Option<(&'static str, &'static str)> {
    const REFUSED: (&str, &str) = (
        "it does not trust the certificate of ours",
        "have one made by an authority that the server trusts, and see that it has not expired",
    );
    let told = [
        (
            "alert certificate expired",
            "it refuses the certificate of ours, which is over",
            "have ours renewed; look at the clock of both machines as well",
        ),
        ("alert unknown ca", REFUSED.0, REFUSED.1),
        ("alert bad certificate", REFUSED.0, REFUSED.1),
        ("alert certificate unknown", REFUSED.0, REFUSED.1),
        (
            "certificate has expired",
            "its certificate has expired",
            "have it renewed by who runs the server; look at the clock of this machine as well",
        ),
        (
            "certificate is not yet valid",
            "its certificate is not valid yet",
            "look at the clock of this machine",
        ),
        (
            "hostname mismatch",
            "its certificate is of another host",
            "use the name that stands in the certificate, or have one made for this name",
        ),
        (
            "address mismatch",
            "its certificate is of another host",
            "use the name that stands in the certificate, or have one made for this address",
        ),
        ("self-signed certificate", UNTRUSTED.0, UNTRUSTED.1),
        ("self signed certificate", UNTRUSTED.0, UNTRUSTED.1),
        ("unable to get local issuer", UNTRUSTED.0, UNTRUSTED.1),
        ("unable to get issuer", UNTRUSTED.0, UNTRUSTED.1),
        (
            "certificate required",
            "it asks for a certificate of ours",
            "name certificate and key",
        ),
    ];
    // What was said before is known again.
    let found = told
        .into_iter()
        .find(|(openssls, what, _)| reason.contains(openssls) || reason.contains(what));
    found.map(|(_, what, fix)| (what, fix))
}

/// Whether what [`of_certificate`] told is about a certificate of ours, not about the server's.
#[must_use]
pub fn is_about_ours(what: &str) -> bool {
    what.contains("certificate of ours")
}

/// What is wrong with a connection to the brokers, and what to do about it: `reason` is librdkafka's, which
/// says that it trusts a certificate not, but not why. That is looked up with a handshake of our own.
#[must_use]
pub fn of_connection(reason: &str, properties: &BTreeMap<String, String>) -> String {
    if is_certificate_refused(reason) {
        let asked = certificate_of_broker(reason, properties);
        return match asked.as_deref().and_then(of_certificate) {
            Some((what, fix)) => format!("{what}: {fix}{}", named(what, "ssl.ca.location")),
            None => "the broker's certificate has expired, is of another host, or of an authority that ssl.ca.location does not have: \
                     openssl s_client -connect HOST:PORT -verify_hostname HOST -CAfile CA.pem says which"
                .to_owned(),
        };
    }
    if let Some((what, fix)) = of_certificate(reason).filter(|(what, _)| is_about_ours(what)) {
        return format!("{what}: {fix} (ssl.certificate.location, ssl.key.location)");
    }
    if reason.to_lowercase().contains("authentication failed") {
        "check sasl.username and sasl.password: the key of the cluster, which is not that of the Schema Registry"
    } else {
        "check kafka.bootstrap and the way to the brokers"
    }
    .to_owned()
}

/// Whether librdkafka does not trust the certificate of a broker.
#[must_use]
pub fn is_certificate_refused(reason: &str) -> bool {
    reason.contains("certificate verify failed")
}

/// The broker that a reason of librdkafka's is about, as `host:port`: it begins with `ssl://host:port/bootstrap: `.
#[must_use]
pub fn broker_of(reason: &str) -> Option<&str> {
    let (_, rest) = reason.split_once("://")?;
    let (broker, _) = rest.split_once('/')?;
    let (host, port) = broker.rsplit_once(':')?;
    (!host.is_empty() && port.parse::<u16>().is_ok()).then_some(broker)
}

/// What is wrong with the certificate of MongoDB, and what to do about it: its driver says that it trusts one not, but
/// not why. `servers` as `HOST:PORT`, separated by commas; `ca_file` as in the connection string.
#[must_use]
pub fn of_mongodb(servers: &str, ca_file: Option<&Path>) -> String {
    let pem = ca_file.map(fs::read).transpose();
    let asked = pem.ok().and_then(|pem| certificate_of(servers, pem));
    match asked.as_deref().and_then(of_certificate) {
        Some((what, fix)) => format!("{what}: {fix}{}", named(what, "tlsCAFile in mongodb.uri")),
        None => "the server's certificate has expired, is of another host, or of an authority that tlsCAFile does not have: \
                 openssl s_client -connect HOST:PORT -verify_hostname HOST -CAfile CA.pem says which"
            .to_owned(),
    }
}

/// How long the handshake may take, each step of it.
const HANDSHAKE: Duration = Duration::from_secs(3);

/// What OpenSSL says of the certificate of the broker that the reason names, else of the first that answers.
fn certificate_of_broker(reason: &str, properties: &BTreeMap<String, String>) -> Option<String> {
    let file = properties.get("ssl.ca.location");
    let pem = match (properties.get("ssl.ca.pem"), file) {
        (Some(pem), _) => Some(pem.clone().into_bytes()),
        (None, Some(file)) if file != "probe" => Some(fs::read(file).ok()?),
        _ => None,
    };
    let all = || properties.get("bootstrap.servers").map(|all| &**all);
    certificate_of(broker_of(reason).or_else(all)?, pem)
}

/// The same of any servers, trusting `pem` alone, or what this machine trusts.
fn certificate_of(servers: &str, pem: Option<Vec<u8>>) -> Option<String> {
    let mut builder = TlsConnector::builder();
    if let Some(pem) = pem {
        builder.disable_built_in_roots(true);
        for certificate in Certificate::stack_from_pem(&pem).ok()? {
            builder.add_root_certificate(certificate);
        }
    }
    let connector = builder.build().ok()?;
    servers.split(',').map(str::trim).find_map(|server| {
        let address = server.to_socket_addrs().ok()?.next()?;
        let stream = TcpStream::connect_timeout(&address, HANDSHAKE).ok()?;
        stream.set_read_timeout(Some(HANDSHAKE)).ok()?;
        stream.set_write_timeout(Some(HANDSHAKE)).ok()?;
        let host = server.rsplit_once(':')?.0.trim_matches(['[', ']']);
        match connector.connect(host, stream) {
            Ok(_) => None,
            Err(error) => Some(error.to_string()),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_openssl_says_of_a_certificate_is_told_apart() {
        for (said, expected) in [
            (
                "verify failed:ssl/x.c:1: (certificate has expired)",
                Some("expired"),
            ),
            ("(hostname mismatch)", Some("another host")),
            (
                "error:0A000415:SSL routines:ssl3_read_bytes:ssl/tls alert certificate expired",
                Some("ours, which is over"),
            ),
            ("tlsv1 alert unknown ca", Some("does not trust")),
            ("tlsv13 alert certificate required", Some("asks for")),
            ("(IP address mismatch)", Some("another host")),
            (
                "(unable to get local issuer certificate)",
                Some("authority"),
            ),
            (
                "(self-signed certificate in certificate chain)",
                Some("authority"),
            ),
            ("connection refused", None),
        ] {
            let told = of_certificate(said).map(|(what, _)| what);
            assert_eq!(told.is_some(), expected.is_some(), "{said}");
            assert!(
                told.unwrap_or_default()
                    .contains(expected.unwrap_or_default())
            );
            // Once told, it is still known for what it is.
            if let Some(what) = told {
                assert_eq!(of_certificate(what).map(|(again, _)| again), Some(what));
            }
        }
    }

    #[test]
    fn the_setting_of_the_authority_is_named_only_where_it_helps() {
        for (said, helps) in [
            ("(certificate has expired)", false),
            ("(certificate is not yet valid)", false),
            ("(hostname mismatch)", false),
            ("(self-signed certificate)", true),
            ("(unable to get local issuer certificate)", true),
        ] {
            let what = of_certificate(said).map(|(what, _)| what).unwrap();
            assert_eq!(named(what, "ssl.ca.location").is_empty(), !helps, "{said}");
        }
    }

    #[test]
    fn a_reason_names_its_broker() {
        for (reason, broker) in [
            (
                "ssl://b1.example:9093/bootstrap: SSL handshake failed",
                Some("b1.example:9093"),
            ),
            (
                "sasl_ssl://[::1]:9093/2: SSL handshake failed",
                Some("[::1]:9093"),
            ),
            ("10.0.0.2:9092/bootstrap: Connect failed", None),
            ("ssl://b1.example/1: x", None),
            ("see https://example.org/docs: x", None),
        ] {
            assert_eq!(broker_of(reason), broker, "{reason}");
        }
    }

    #[test]
    fn a_client_is_its_user_or_the_subject_of_its_certificate() {
        let own = |pairs: &[(&str, &str)]| {
            let owned = pairs
                .iter()
                .map(|(key, value)| ((*key).into(), (*value).into()));
            owned.collect::<BTreeMap<String, String>>()
        };
        let user = [("security.protocol", "SASL_SSL"), ("sasl.username", "KEY")];
        assert_eq!(principal(&own(&user)).as_deref(), Some("KEY"));
        let file = [
            ("security.protocol", "ssl"),
            ("ssl.certificate.location", "/etc/a b.pem"),
        ];
        let asked = principal(&own(&file)).unwrap();
        assert!(asked.starts_with("\"$(openssl x509 ") && asked.contains("-in '/etc/a b.pem'"));
        assert_eq!(principal(&own(&[("security.protocol", "SSL")])), None);
        assert_eq!(principal(&own(&[])), None);
    }

    #[test]
    fn a_permission_is_named_as_the_command_that_gives_it() {
        let grant = Grant {
            operation: "DescribeConfigs",
            on: Resource::Topic("readings"),
            user: Some("KEY"),
        };
        assert_eq!(
            grant.to_string(),
            "kafka-acls --add --allow-principal User:KEY --operation DescribeConfigs --topic readings; on Confluent Cloud: \
             confluent kafka acl create --allow --service-account ACCOUNT --operations describe-configs --topic readings"
        );
        let grant = Grant {
            operation: "Read",
            on: Resource::Group("cloud-sink"),
            user: None,
        };
        let said = grant.to_string();
        assert!(
            said.contains("User:ANONYMOUS --operation Read --group cloud-sink"),
            "{said}"
        );
        assert!(
            said.ends_with("--operations read --consumer-group cloud-sink"),
            "{said}"
        );
    }
}
