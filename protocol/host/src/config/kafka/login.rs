//! What a login over SASL has to have: librdkafka would find it missing only once it connects, if at all.

use super::super::document::Mistake;

const MECHANISM: &str = "write sasl.mechanisms=PLAIN, as for Confluent Cloud";
const LOGIN: &str =
    "write sasl.username=… and sasl.password=…, a key of the cluster and its secret";

/// What is wrong, each with the setting at which it shows.
pub fn mistakes<'s>(setting: impl Fn(&str) -> Option<&'s str>) -> Vec<(&'static str, Mistake)> {
    let is_sasl = |protocol: &&str| protocol.to_ascii_lowercase().starts_with("sasl_");
    let Some(protocol) = setting("security.protocol").filter(is_sasl) else {
        return Vec::new();
    };
    let mechanism = match setting("sasl.mechanisms") {
        Some("OAUTHBEARER") => return Vec::new(),
        Some(mechanism @ ("PLAIN" | "SCRAM-SHA-256" | "SCRAM-SHA-512")) => mechanism,
        Some(_) => {
            let message = "must be PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER";
            return vec![("sasl.mechanisms", Mistake::fix(message, MECHANISM))];
        }
        None => {
            let message = format!("is {protocol}, and sasl.mechanisms is missing");
            return vec![("security.protocol", Mistake::fix(message, MECHANISM))];
        }
    };
    let of = |name: &'static str| match setting(name) {
        None => {
            let message = format!("is {mechanism}, and {name} is missing");
            Some(("sasl.mechanisms", Mistake::fix(message, LOGIN)))
        }
        Some("") => Some((name, Mistake::new("is empty"))),
        Some(_) => None,
    };
    ["sasl.username", "sasl.password"]
        .into_iter()
        .filter_map(of)
        .collect()
}
