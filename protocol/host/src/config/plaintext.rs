//! TLS for whatever leaves this machine, unless somebody writes that it need not be.
//!
//! Readings, passwords and acknowledgements go over these connections: whoever is on the way of one in plain text reads them, and
//! can acknowledge what was never stored. So the file has to say `allow_plaintext = true` in the table that names the
//! host; a host that is this machine needs no word.

use std::net::IpAddr;

use super::document::{Mistake, Table};
use crate::config::value;

/// The word.
pub const KEY: &str = "allow_plaintext";

/// Whether the table has the word.
pub fn is_allowed(table: &Table<'_, '_>) -> bool {
    table.or(KEY, false, value::boolean)
}

/// Whether a host is this machine: by its name, an address of the loopback, or a socket of the file system as a URI writes it. A name
/// is not looked up.
#[must_use]
pub fn is_this_machine(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    let address = host.parse::<IpAddr>();
    address.is_ok_and(|address| address.to_canonical().is_loopback())
        || host.eq_ignore_ascii_case("localhost")
        || host.to_ascii_lowercase().starts_with("%2f")
}

/// The mistake of going to that host in plain text. `tls` is what to write instead, `table` where the word belongs.
#[must_use]
pub fn mistake(host: &str, tls: &str, table: &str) -> Mistake {
    Mistake::fix(
        format!("goes to {host} in plain text, which everybody on the way can read and change"),
        format!("{tls}; or {KEY} = true in {table}, where nobody else is on the way"),
    )
}

/// The host in `host:port`, `host` or `[address]:port`.
#[must_use]
pub fn host(server: &str) -> &str {
    let server = server.trim();
    match server.find(']') {
        Some(end) => &server[..=end],
        None => server.split(':').next().unwrap_or(server),
    }
}

/// The first of several servers, with commas between them, that is another machine.
#[must_use]
pub fn other_machine(servers: &str) -> Option<&str> {
    servers
        .split(',')
        .map(host)
        .find(|host| !is_this_machine(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_known_by_its_names_only() {
        for host in [
            "localhost",
            "LOCALHOST",
            "127.0.0.1",
            "127.8.9.10",
            "::1",
            "[::1]",
            "::ffff:127.0.0.1",
            "%2Ftmp%2Fmongodb-27017.sock",
        ] {
            assert!(is_this_machine(host), "{host}");
        }
        for host in [
            "",
            "localhost.example.com",
            "127.0.0.1.example.com",
            "0.0.0.0",
            "::",
            "10.0.0.2",
            "kafka",
            "[fe80::1]",
        ] {
            assert!(!is_this_machine(host), "{host}");
        }
    }

    #[test]
    fn one_server_elsewhere_among_several_is_found() {
        for (servers, expected) in [
            ("localhost:9092,127.0.0.1:9093", None),
            ("[::1]:9092", None),
            ("localhost:9092, kafka:9092", Some("kafka")),
            ("[fe80::1]:9092", Some("[fe80::1]")),
            ("10.0.0.2", Some("10.0.0.2")),
        ] {
            assert_eq!(other_machine(servers), expected, "{servers}");
        }
    }
}
