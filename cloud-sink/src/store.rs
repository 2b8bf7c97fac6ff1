//! MongoDB: the only part that names the driver's client.
//!
//! ```text
//! readings      one document per reading              document.rs; collections are named by the routes
//! incidents     readings whose id was taken, gaps     nothing is removed by the sink
//! fields, devices                             what is measured, catalogue.rs
//! epochs, losses, clock_corrections, gateways         facts of the control topic, newest by offset
//! coverage, checkpoints                               how far the sink is, and what it has seen
//! series_doubts                                       what a time series may have twice, series.rs
//! ```
//!
//! Every write asks for `w: majority, j: true` and has a deadline: a write that is not known to be
//! durable is an [`Outage`], tried again as it was, and `_id` makes that harmless; in a time series, [`series`]
//! does.

mod audit;
mod catalogue;
pub mod checkpoints;
mod clock;
mod dead_letters;
pub mod facts;
pub mod incidents;
pub mod readings;
mod reply;
pub mod schema;
pub mod series;
mod trace;
pub mod validator;

use std::{path::PathBuf, time::Duration};

use mongodb::{
    Client, Database,
    bson::doc,
    error::Error,
    options::{
        Acknowledgment, ClientOptions, ReadConcern, ReadPreference, SelectionCriteria, Tls,
        WriteConcern,
    },
};

use protocol_host::remedy;

use crate::excerpt::excerpt;

/// MongoDB cannot say that a write is durable: unreachable, in an election, too slow, out of space.
/// Never a statement about the data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}{}", fault.advice())]
pub struct Outage {
    reason: String,
    fault: Fault,
    is_late: bool,
}

impl Outage {
    /// Keeps the first line of an error, shortened. The driver wraps what happened to a connection into
    /// its picture of the whole cluster; only what happened is wanted.
    fn new(text: impl std::fmt::Display) -> Self {
        let text = text.to_string();
        let line = text.lines().next().unwrap_or_default();
        let cause = line.find("I/O error: ").map_or(line, |at| &line[at..]);
        let cause = cause.split(", labels:").next().unwrap_or(cause);
        let cause = cause.trim_start_matches("Kind: ").trim_end_matches(':');
        Self {
            reason: excerpt(cause, 200).into(),
            fault: Fault::of(cause),
            is_late: false,
        }
    }

    /// The server is there, and did not manage within the deadline.
    fn late(text: impl std::fmt::Display) -> Self {
        Self {
            is_late: true,
            ..Self::new(text)
        }
    }

    /// What happened, without advice.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Whether a smaller write may be in time.
    #[must_use]
    pub fn is_late(&self) -> bool {
        self.is_late
    }
}

/// Whether waiting helps, as far as the driver's words tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The server's certificate was refused here.
    Certificate,
    /// User or password were refused there.
    Credentials,
    /// Anything else: the server or the way to it.
    Away,
}

impl Fault {
    fn of(cause: &str) -> Self {
        if cause.contains("certificate verify failed") {
            Self::Certificate
        } else if cause.to_lowercase().contains("authentication failed") {
            Self::Credentials
        } else {
            Self::Away
        }
    }

    /// What the log says beside the reason.
    fn advice(self) -> &'static str {
        match self {
            Self::Certificate => {
                ": a certificate was refused, cloud-sink check --online says whose and why"
            }
            Self::Credentials => ": check user, password and authSource of mongodb.uri",
            Self::Away => "",
        }
    }
}

/// Why the store cannot be used at all, whatever is tried.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Not a MongoDB connection string.
    #[error("mongodb.uri is refused: {0}")]
    Uri(String),
}

/// A server that is there answers a ping within this.
const PING: Duration = Duration::from_millis(2500);

/// A database, connected when it is first used.
#[derive(Clone)]
pub struct Store {
    database: Database,
    name: String,
    ca_file: Option<PathBuf>,
    deadline: Duration,
}

impl Store {
    /// Reads the connection string (and, for `mongodb+srv`, its DNS records). Each operation ends
    /// within `deadline`.
    ///
    /// # Errors
    /// [`StoreError`]; an unreachable server is none. Its text does not hold the string.
    pub async fn new(uri: &str, database: &str, deadline: Duration) -> Result<Self, StoreError> {
        let refused = |error: Error| StoreError::Uri(without(uri, &error.to_string()));
        let mut options = ClientOptions::parse(uri).await.map_err(refused)?;
        options.app_name.get_or_insert_with(|| "cloud-sink".into());
        // A lost server must be seen within seconds, not after the driver's 30.
        options.server_selection_timeout = Some(Duration::from_secs(3).min(deadline));
        options
            .connect_timeout
            .get_or_insert(Duration::from_secs(3));
        // The promise of the sink, whatever the string says.
        options.write_concern = Some(
            WriteConcern::builder()
                .w(Acknowledgment::Majority)
                .journal(true)
                .w_timeout(deadline)
                .build(),
        );
        options.selection_criteria =
            Some(SelectionCriteria::ReadPreference(ReadPreference::Primary));
        options.read_concern = Some(ReadConcern::majority());
        let name = options
            .hosts
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(",");
        let ca_file = match &options.tls {
            Some(Tls::Enabled(tls)) => tls.ca_file_path.clone(),
            _ => None,
        };
        let client = Client::with_options(options).map_err(refused)?;
        Ok(Self {
            database: client.database(database),
            name,
            ca_file,
            deadline,
        })
    }

    /// Hosts, for people.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Asks whether the server answers.
    ///
    /// # Errors
    /// [`Outage`].
    pub async fn ping(&self) -> Result<(), Outage> {
        let ping = async { self.database.run_command(doc! { "ping": 1 }).await };
        match tokio::time::timeout(PING, ping).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(Outage::new(error)),
            Err(_) => Err(Outage::new(format_args!("no answer within {PING:?}"))),
        }
    }

    /// The same with the time that the driver needs to say why not.
    ///
    /// # Errors
    /// [`Outage`].
    pub async fn ask(&self) -> Result<(), Outage> {
        let ping = self.database.run_command(doc! { "ping": 1 });
        self.within(async { ping.await }).await.map(drop)
    }

    /// What to do about an outage. Of a certificate the server is asked once more.
    #[must_use]
    pub fn remedy(&self, outage: &Outage) -> String {
        match outage.fault {
            Fault::Certificate => remedy::of_mongodb(&self.name, self.ca_file.as_deref()),
            Fault::Credentials => {
                "check user and password of mongodb.uri, and authSource, the database that knows the user"
                    .into()
            }
            Fault::Away => "check mongodb.uri and that the server runs".into(),
        }
    }

    /// Runs an operation within the deadline; every failure counts as an outage.
    async fn within<T>(
        &self,
        operation: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Outage> {
        match tokio::time::timeout(self.deadline, operation).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(Outage::new(error)),
            Err(_) => Err(self.too_slow()),
        }
    }

    fn too_slow(&self) -> Outage {
        Outage::late(format_args!("no answer within {:?}", self.deadline))
    }
}

/// The driver may quote the connection string, which holds the password.
fn without(uri: &str, text: &str) -> String {
    let credentials = uri
        .split_once("://")
        .and_then(|(_, rest)| Some(rest.rsplit_once('@')?.0));
    match credentials {
        Some(secret) if !secret.is_empty() => text.replace(secret, "***"),
        _ => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_says_what_happened_and_not_the_whole_topology() {
        let driver = "Kind: Server selection timeout: No available servers. Topology: { Type: Single, \
            Servers: [ { Address: h:1, Error: Kind: I/O error: Connection refused (os error 111), labels: {} } ] }";
        let outage = Outage::new(driver);
        assert_eq!(
            outage.to_string(),
            "I/O error: Connection refused (os error 111)"
        );
        assert_eq!(Outage::new("ä".repeat(500)).to_string().len(), 200);
    }

    #[test]
    fn an_outage_that_waiting_does_not_end_says_what_does() {
        for (driver, told) in [
            (
                "Kind: I/O error: error:0A000086:SSL routines:tls_post_process_server_certificate:certificate verify failed:x.c:2:",
                "check --online says whose and why",
            ),
            (
                "Kind: SCRAM failure: authentication failed, labels: {}",
                "check user, password and authSource of mongodb.uri",
            ),
            (
                "Kind: Command failed: Error code 18 (AuthenticationFailed): Authentication failed., labels: {}",
                "check user, password and authSource of mongodb.uri",
            ),
        ] {
            let outage = Outage::new(driver);
            assert!(outage.to_string().ends_with(told), "{outage}");
            assert!(!outage.reason().contains(told), "{outage}");
            assert!(!outage.to_string().contains("::"), "{outage}");
        }
        let away = Outage::new("Kind: I/O error: Connection refused (os error 111), labels: {}");
        assert_eq!(away.to_string(), away.reason());
    }

    #[tokio::test]
    async fn a_refused_connection_string_is_not_quoted() {
        for uri in [
            "mongodb://me:hunter2@h:1:2/",
            "mongodb://me:hunter2@/x",
            "mongodb://me:hunter2@h/?w=-1",
        ] {
            let refused = Store::new(uri, "t", Duration::from_secs(1)).await;
            let text = refused
                .err()
                .map(|error| error.to_string())
                .unwrap_or_default();
            assert!(!text.is_empty() && !text.contains("hunter2"), "{text}");
        }
    }
}
