//! `cloud-sink topics plan | apply`.

use clap::{Args, Subcommand};
use protocol_host::remedy::{self, Resource};

use super::{Ended, File, exit, plural, refuse};
use crate::{
    config::{Config, Secrets},
    kafka::admin::{Admin, AdminError},
    run,
    topics::{self, Plan, Seen, Wanted},
};

/// Commands of `topics`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show what `apply` would do; exit code 1 when that is something
    Plan(Arguments),
    /// Make and alter topics until they are as declared
    Apply(Arguments),
}

/// Arguments of both.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Where the configuration is.
    #[command(flatten)]
    file: File,
    /// Add partitions to topics that have fewer than declared: gateways move to other partitions, and
    /// the order of their devices' readings breaks at that moment
    #[arg(long)]
    add_partitions: bool,
}

/// Shows the plan, and makes it so if told to.
///
/// # Errors
/// Settings that librdkafka refuses.
#[expect(clippy::print_stdout, reason = "a command line prints its answer")]
pub async fn topics(command: Command) -> Ended {
    let (arguments, apply) = match command {
        Command::Plan(arguments) => (arguments, false),
        Command::Apply(arguments) => (arguments, true),
    };
    let config = match arguments.file.load(Secrets::Read) {
        Ok(config) => config,
        Err(problems) => return Ok(refuse(&problems)),
    };
    let admin = Admin::new(&run::kafka_settings(&config))?;
    let plans = match look(&admin, &config, arguments.add_partitions).await {
        Ok(plans) => plans,
        Err(error) => return Ok(unavailable(&error, &config)),
    };
    let mut refused = 0;
    let mut changes = 0;
    for (wanted, plan) in &plans {
        tell(wanted, plan);
        refused += plan.refusals.len();
        changes += plan.changes.len();
    }
    if refused > 0 {
        println!("{refused} problem{}, nothing is changed", plural(refused));
        return Ok(1);
    }
    if changes == 0 {
        println!("as declared");
        return Ok(0);
    }
    if !apply {
        println!(
            "{changes} change{} to make: cloud-sink topics apply",
            plural(changes)
        );
        return Ok(1);
    }
    let mut ended = 0;
    for (wanted, plan) in &plans {
        for change in &plan.changes {
            if let Err(error) = admin.make(&wanted.name, change).await {
                println!("{}   FAIL {change}", wanted.name);
                ended = unavailable(&error, &config);
                // Of the other topics it is told as well what is not allowed; anything else would fail there again.
                if matches!(error, AdminError::Denied { .. }) {
                    break;
                }
                return Ok(ended);
            }
            println!("{}   done {change}", wanted.name);
        }
    }
    Ok(ended)
}

#[expect(clippy::print_stdout, reason = "a command line prints its answer")]
fn unavailable(error: &AdminError, config: &Config) -> u8 {
    let (message, fix) = told(error, config);
    println!("kafka   FAIL {message}");
    println!("    fix: {fix}");
    exit::UNAVAILABLE
}

/// An error and its remedy.
pub(super) fn told(error: &AdminError, config: &Config) -> (String, String) {
    match error {
        AdminError::Denied { grant } => ("not allowed".to_owned(), grant.clone()),
        AdminError::Unreachable(reason) => {
            let fix = remedy::of_connection(reason, &config.kafka.client.properties);
            (error.to_string(), fix)
        }
        AdminError::Refused(_) => (
            error.to_string(),
            "declare what the cluster takes".to_owned(),
        ),
    }
}

/// Looks at every topic and compares.
pub(super) async fn look(
    admin: &Admin,
    config: &Config,
    may_add_partitions: bool,
) -> Result<Vec<(Wanted, Plan)>, AdminError> {
    let mut plans = Vec::new();
    for wanted in topics::wanted(config) {
        let seen = admin.look(&wanted.name).await?;
        let mut plan = topics::plan(&wanted, &seen, may_add_partitions);
        explain(admin, &wanted, &seen, &mut plan);
        plans.push((wanted, plan));
    }
    Ok(plans)
}

/// Adds the permissions that are missing, which only somebody else can give.
fn explain(admin: &Admin, wanted: &Wanted, seen: &Seen, plan: &mut Plan) {
    let on = Resource::Topic(&wanted.name);
    match seen {
        Seen::Denied => {
            for refusal in &mut plan.refusals {
                refusal.fix = admin.grant(wanted.role.operation(), on);
            }
        }
        Seen::There(found) if found.settings.is_none() => {
            plan.notes.push(format!(
                "to compare them: {}",
                admin.grant("DescribeConfigs", on)
            ));
        }
        _ => {}
    }
}

#[expect(clippy::print_stdout, reason = "a command line prints its answer")]
fn tell(wanted: &Wanted, plan: &Plan) {
    let name = &wanted.name;
    if plan.changes.is_empty() && plan.refusals.is_empty() {
        println!("{name}   ok   {}", plan.state);
    }
    for change in &plan.changes {
        println!("{name}   {change}");
    }
    for refusal in &plan.refusals {
        println!("{name}   FAIL {}", refusal.message);
        println!("    fix: {}", refusal.fix);
    }
    for note in &plan.notes {
        println!("    {note}");
    }
}
