//! `edge-agent check --online`: whether Kafka and the schema registry are what the agent needs.

use std::{collections::BTreeMap, fmt::Write, time::Duration};

use protocol_host::{
    registry::{BRIEFLY, Error, Registry, Standing},
    remedy,
};

use crate::{
    config::{Config, show_duration},
    forward::{
        look::{Look, Seen},
        schema::Need,
    },
};

/// What was found.
#[derive(Debug, Default)]
pub struct Report {
    /// For people.
    pub text: String,
    /// How many lines say FAIL.
    pub problems: usize,
}

impl Report {
    pub(super) fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a text cannot fail.
        writeln!(self.text, "{line}").unwrap_or_default();
    }

    fn fail(&mut self, what: &str, message: &str, fix: &str) {
        self.fail_at("kafka     ", what, message, fix);
    }

    pub(super) fn fail_at(&mut self, part: &str, what: &str, message: &str, fix: &str) {
        self.problems += 1;
        self.line(format_args!("{part} {what}  FAIL {message}"));
        self.line(format_args!("           fix: {fix}"));
    }
}

/// Asks Kafka about every topic the agent writes to, and the schema registry about their schemas.
pub async fn ask(config: &Config, report: &mut Report) {
    schemas(config, report);
    if let Err(reason) = ask_all(config, report).await {
        let servers = config.kafka.client.properties.get("bootstrap.servers");
        let servers = servers.map_or("", String::as_str);
        report.fail(
            servers,
            &format!("does not answer: {reason}"),
            &remedy::of_connection(&reason, &config.kafka.client.properties),
        );
    }
}

/// The schema of each topic that needs one. Nothing is registered.
fn schemas(config: &Config, report: &mut Report) {
    let needs: Vec<Need> = config
        .lanes()
        .filter_map(|topic| Need::of(config, topic))
        .collect();
    let settings = config.kafka.client.registry.as_ref();
    let Some(settings) = settings.filter(|_| !needs.is_empty()) else {
        return;
    };
    let registry = match Registry::new(settings, BRIEFLY) {
        Ok(registry) => registry,
        Err(error) => {
            return report.fail_at(
                "schema    ",
                &settings.url,
                &error.to_string(),
                "see [registry]",
            );
        }
    };
    for need in needs {
        let subject = &need.subject;
        match schema(&registry, &need) {
            Ok(state) => report.line(format_args!("schema     {subject}  ok   {state}")),
            Err((message, fix)) => report.fail_at("schema    ", subject, &message, &fix),
        }
    }
}

/// What the registry says of one schema, or what is wrong and the remedy.
fn schema(registry: &Registry, need: &Need) -> Result<String, (String, String)> {
    let told = |error: Error| (error.to_string(), error.remedy());
    let subject = &need.subject;
    // Reading the level may need a permission that nothing else does.
    let level = registry
        .level(subject)
        .map_or(String::new(), |level| format!(", {level}"));
    if need.how.use_latest {
        let found = registry.latest(subject).map_err(told)?;
        need.form(&found).map_err(|reason| {
            let fix = "register one that cloud-sink schema show prints, or set registry.use_latest = false";
            (reason, fix.to_owned())
        })?;
        return Ok(format!("id {}{level}, the newest", found.id));
    }
    let schema = need.schema();
    match registry
        .standing(subject, &schema, need.normalize)
        .map_err(told)?
    {
        Standing::Registered(found) => Ok(format!("id {}{level}", found.id)),
        Standing::Taken { .. } if need.how.auto_register => {
            Ok(format!("will be registered{level}"))
        }
        Standing::Taken { is_new } => {
            let subject = subject.clone();
            Err(told(if is_new {
                Error::UnknownSubject { subject }
            } else {
                Error::NotRegistered { subject }
            }))
        }
        Standing::Refused(said) => {
            let subject = subject.clone();
            Err(told(Error::Incompatible { subject, said }))
        }
    }
}

async fn ask_all(config: &Config, report: &mut Report) -> Result<(), String> {
    let look = Look::new(&config.kafka)?;
    for topic in config.lanes() {
        let seen = look.at(topic.as_str()).await?;
        judge(
            topic.as_str(),
            &seen,
            &For::Readings(config.queue_of(topic).max_age),
            report,
        );
    }
    let control = config.kafka.control_topic.as_str();
    judge(control, &look.at(control).await?, &For::Facts, report);
    Ok(())
}

/// What a topic is for.
enum For {
    /// Readings, of which the queue holds so much.
    Readings(Duration),
    /// Facts.
    Facts,
}

fn judge(topic: &str, seen: &Seen, what_for: &For, report: &mut Report) {
    let (partitions, settings) = match seen {
        Seen::There {
            partitions,
            settings,
        } => (partitions, settings.as_ref()),
        Seen::Missing => {
            let fix = "create it (cloud-sink topics apply), the agent never does";
            return report.fail(topic, "there is no such topic", fix);
        }
        Seen::Denied(grant) => return report.fail(topic, "may not be written to", grant),
    };
    let setting = |name: &str| settings.and_then(|all| all.get(name)).map(String::as_str);
    let compacts = setting("cleanup.policy").map(|policy| policy.contains("compact"));
    match (what_for, compacts) {
        (For::Readings(_), Some(true)) => {
            let message = "is compacted: only the newest reading of this gateway would stay";
            return report.fail(topic, message, "cloud-sink topics apply, or another topic");
        }
        (For::Facts, Some(false)) => {
            let message = "is not compacted: what the gateway states would be deleted by age";
            return report.fail(topic, message, "cloud-sink topics apply, or another topic");
        }
        _ => {}
    }
    let s = if *partitions == 1 { "" } else { "s" };
    let kept = match (what_for, settings.map(retention)) {
        (For::Facts, Some(_)) => ", compacted".to_owned(),
        (For::Readings(_), Some(Some(retention))) => {
            format!(", retention {}", show_duration(retention))
        }
        (For::Readings(_), Some(None)) => ", kept for ever".to_owned(),
        (_, None) => String::new(),
    };
    report.line(format_args!(
        "kafka      {topic}  ok   {partitions} partition{s}{kept}"
    ));
    if let (For::Readings(_), Some("CreateTime")) = (what_for, setting("message.timestamp.type")) {
        report.line(format_args!(
            "           stamped by this gateway's clock: while that is behind, Kafka deletes what it sends as too old"
        ));
        report.line(format_args!(
            "           fix: cloud-sink topics apply, which sets message.timestamp.type LogAppendTime"
        ));
    }
    if let (For::Readings(max_age), Some(Some(retention))) = (what_for, settings.map(retention))
        && retention < *max_age
    {
        report.line(format_args!(
            "           the queue holds {} of readings, the topic {}: each is stamped when it is sent, so its time in the topic",
            show_duration(*max_age),
            show_duration(retention),
        ));
        report.line(format_args!(
            "           begins then. What the sink does not read within {} is deleted there",
            show_duration(retention),
        ));
    }
}

/// How long a topic keeps records; `None` for ever.
fn retention(settings: &BTreeMap<String, String>) -> Option<Duration> {
    let millis = settings.get("retention.ms")?.parse().ok()?;
    Some(Duration::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(seen: &Seen, what_for: &For) -> (usize, String) {
        let mut report = Report::default();
        judge("t", seen, what_for, &mut report);
        (report.problems, report.text)
    }

    fn there(settings: &[(&str, &str)]) -> Seen {
        let settings = settings.iter().map(|(k, v)| ((*k).into(), (*v).into()));
        Seen::There {
            partitions: 6,
            settings: Some(settings.collect()),
        }
    }

    #[test]
    fn each_topic_is_judged_by_what_it_is_for() {
        const MONTH: For = For::Readings(Duration::from_secs(30 * 86_400));
        let hidden = Seen::There {
            partitions: 1,
            settings: None,
        };
        let week = there(&[("cleanup.policy", "delete"), ("retention.ms", "604800000")]);
        let for_ever = there(&[("cleanup.policy", "delete"), ("retention.ms", "-1")]);
        let by_gateways = there(&[
            ("retention.ms", "-1"),
            ("message.timestamp.type", "CreateTime"),
        ]);
        let compacted = there(&[("cleanup.policy", "compact"), ("retention.ms", "604800000")]);
        for (seen, what_for, problems, expected) in [
            (&hidden, &MONTH, 0, "t  ok   1 partition\n"),
            (
                &week,
                &MONTH,
                0,
                "t  ok   6 partitions, retention 7d\n           the queue holds 30d of readings, the topic 7d: ",
            ),
            (
                &for_ever,
                &MONTH,
                0,
                "t  ok   6 partitions, kept for ever\n",
            ),
            (&by_gateways, &MONTH, 0, "stamped by this gateway's clock"),
            (&compacted, &MONTH, 1, "FAIL is compacted: only the newest"),
            (
                &compacted,
                &For::Facts,
                0,
                "t  ok   6 partitions, compacted\n",
            ),
            (&week, &For::Facts, 1, "FAIL is not compacted"),
            (
                &Seen::Missing,
                &MONTH,
                1,
                "FAIL there is no such topic\n           fix: create it",
            ),
            (
                &Seen::Denied("kafka-acls …".into()),
                &MONTH,
                1,
                "FAIL may not be written to\n           fix: kafka-acls …",
            ),
        ] {
            let (count, text) = said(seen, what_for);
            assert_eq!(count, problems, "{text}");
            assert!(text.contains(expected), "{expected}: {text}");
        }
    }
}
