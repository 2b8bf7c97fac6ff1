//! `cloud-sink check --online`: what the peers say.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{
    Ended, File, exit, plural,
    schema::{self, Outcome},
    topics::{look, told},
};
use protocol_host::registry::{BRIEFLY, Error, Registry};

use crate::{
    config::{Config, show_duration},
    kafka::admin::{Admin, AdminError},
    run::{self, open_store},
    topics::{Found, Plan, Role, Wanted, lag::judge},
};

/// What was found wrong is counted.
struct Report {
    problems: usize,
}

#[expect(clippy::print_stdout, reason = "a command line prints its answer")]
impl Report {
    fn ok(&self, what: &str, state: &str) {
        println!("{what}   ok   {state}");
    }

    fn fail(&mut self, what: &str, message: &str, fix: &str) {
        self.problems += 1;
        println!("{what}   FAIL {message}");
        if !fix.is_empty() {
            println!("           fix: {fix}");
        }
    }

    fn note(&self, note: &str) {
        println!("           {note}");
    }
}

/// Asks MongoDB and Kafka.
///
/// # Errors
/// Settings that librdkafka or the driver refuses.
#[expect(clippy::print_stdout, reason = "a command line prints its answer")]
pub async fn online(file: &File, config: &Config) -> Ended {
    println!("{}", file.summary(config));
    let mut report = Report { problems: 0 };
    mongodb(config, &mut report).await?;
    schemas(config, &mut report)?;
    let settings = run::kafka_settings(config);
    let admin = Admin::new(&settings)?;
    if let Err(error) = kafka(&admin, config, &mut report).await {
        let (message, fix) = told(&error, config);
        report.fail("kafka     ", &message, &fix);
    }
    if report.problems == 0 {
        return Ok(0);
    }
    println!("{} problem{}", report.problems, plural(report.problems));
    Ok(exit::UNAVAILABLE)
}

async fn mongodb(config: &Config, report: &mut Report) -> anyhow::Result<()> {
    let store = open_store(config).await?;
    let what = format!("mongodb    {}", store.name());
    match store.ask().await {
        Ok(()) => report.ok(&what, &format!("database {}", config.mongodb.database)),
        Err(outage) => {
            report.fail(&what, outage.reason(), &store.remedy(&outage));
        }
    }
    Ok(())
}

/// The schemas of topics whose fields are declared, and whether the registry answers for those of others.
fn schemas(config: &Config, report: &mut Report) -> anyhow::Result<()> {
    let Some(settings) = &config.kafka.client.registry else {
        return Ok(());
    };
    let registry = Registry::new(settings, BRIEFLY)?;
    let what = format!("schema     {}", settings.url);
    // Any subject: an answer is wanted, not the level.
    match registry.level("edge") {
        Ok(_) | Err(Error::UnknownSubject { .. }) => report.ok(&what, "answers"),
        Err(error) => {
            report.fail(&what, &error.to_string(), &error.remedy());
            return Ok(());
        }
    }
    for (subject, outcome) in schema::standings(&registry, config) {
        let what = format!("schema     {subject}");
        match outcome {
            Outcome::Good(state) => report.ok(&what, &state),
            Outcome::Bad(message, fix) | Outcome::Away(message, fix) => {
                report.fail(&what, &message, &fix);
            }
        }
    }
    Ok(())
}

async fn kafka(admin: &Admin, config: &Config, report: &mut Report) -> Result<(), AdminError> {
    let mut readings = Vec::new();
    for (wanted, plan) in look(admin, config, false).await? {
        let what = format!("kafka      {}", wanted.name);
        let is_there = tell(&what, &plan, report);
        if !is_there || wanted.role == Role::DeadLetters {
            continue;
        }
        match admin.may_read(&wanted.name) {
            Ok(()) => {}
            Err(AdminError::Denied { grant }) => report.fail(&what, "may not be read", &grant),
            Err(error) => return Err(error),
        }
        if wanted.role == Role::Readings {
            readings.push(wanted);
        }
    }
    for wanted in readings {
        lag(admin, config, &wanted, report).await?;
    }
    Ok(())
}

/// Whether there is such a topic, whatever it is like.
fn tell(what: &str, plan: &Plan, report: &mut Report) -> bool {
    let is_there = !plan.state.is_empty();
    for refusal in &plan.refusals {
        report.fail(what, &refusal.message, &refusal.fix);
    }
    if !plan.changes.is_empty() {
        let changes: Vec<String> = plan.changes.iter().map(ToString::to_string).collect();
        let message = if is_there {
            format!("is not as it has to be: {}", changes.join(", "))
        } else {
            "there is no such topic".to_owned()
        };
        report.fail(what, &message, "cloud-sink topics plan, then apply");
    }
    if plan.changes.is_empty() && plan.refusals.is_empty() {
        report.ok(what, &plan.state);
    }
    for note in &plan.notes {
        report.note(note);
    }
    is_there
}

/// How the group stands, against what the topic keeps.
async fn lag(
    admin: &Admin,
    config: &Config,
    wanted: &Wanted,
    report: &mut Report,
) -> Result<(), AdminError> {
    let topic = &wanted.name;
    let what = format!("group      {} in {topic}", config.kafka.group);
    let Some(Found {
        partitions,
        settings,
        ..
    }) = admin.look(topic).await?.found()
    else {
        return Ok(());
    };
    let committed = match admin.committed(&config.kafka.group, topic, partitions) {
        Ok(committed) => committed,
        Err(AdminError::Denied { grant }) => {
            report.fail(&what, "may not be used", &grant);
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let retention = settings
        .as_ref()
        .and_then(|settings| settings.get("retention.ms"))
        .and_then(|setting| setting.value.parse().ok())
        .map(Duration::from_millis);
    let Some(retention) = retention else {
        report.ok(&what, "may be used");
        return Ok(());
    };
    let half = SystemTime::now() - retention / 2;
    let since = half.duration_since(UNIX_EPOCH).unwrap_or_default();
    let since = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
    let lag = judge(&committed, &admin.first_since(topic, partitions, since)?);
    if lag.lost > 0 {
        let message = format!("{} records were deleted before they were read", lag.lost);
        report.fail(
            &what,
            &message,
            "the sink records the exact range; keep the topic for longer: [[topic]] retention",
        );
    }
    if lag.late > 0 {
        let (late, s, left) = (lag.late, plural(lag.late), show_duration(retention / 2));
        let message =
            format!("{late} partition{s} with unread records that are deleted within {left}");
        report.fail(
            &what,
            &message,
            "let the sink run, start more of them, or keep the topic for longer",
        );
    }
    if lag.lost == 0 && lag.late == 0 {
        report.ok(&what, "nothing unread is about to be deleted");
    }
    Ok(())
}
