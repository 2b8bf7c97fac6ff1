//! Reads what is stored: streamed, in the order of the ids, without what is not compared.

use std::{collections::BTreeMap, path::Path, time::Duration};

use mongodb::{
    Client, Database,
    bson::{Bson, Document, doc},
    options::ClientOptions,
};
use protocol::GatewayId;

use super::{Comparison, Stored, Verdict};
use crate::truth::{Exact, Reader, TruthError};

/// Members of a document that are no values and not read here either.
const NOT_READ: [&str; 5] = ["digest", "hops", "uptime", "foreign", "expires_at"];

/// Where the documents are.
#[derive(Debug, Clone)]
pub struct Place {
    /// `mongodb://…`; may hold a password, so it is not shown.
    pub uri: String,
    /// Database.
    pub database: String,
    /// Collection of the readings; `losses` and `epochs` are beside it.
    pub collection: String,
    /// Whose readings.
    pub gateway: GatewayId,
}

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The truth file.
    #[error(transparent)]
    Truth(#[from] TruthError),
    /// The truth does not say when the run began.
    #[error("truth file has no valid start time: {0}")]
    Started(jiff::Error),
    /// MongoDB. Not a source: the driver's text holds its own source already.
    #[error("mongodb: {}", .0.kind)]
    Mongodb(mongodb::error::Error),
}

impl From<mongodb::error::Error> for VerifyError {
    fn from(error: mongodb::error::Error) -> Self {
        Self::Mongodb(error)
    }
}

/// Reads the truth, then MongoDB, and compares.
///
/// # Errors
/// When one of them cannot be read. An unclean result is not an error, but a [`Verdict`].
pub async fn verify(truth: &Path, place: &Place) -> Result<Verdict, VerifyError> {
    let mut reader = Reader::open(truth)?;
    let started: jiff::Timestamp = (reader.head.started.parse()).map_err(VerifyError::Started)?;
    let mut comparison = Comparison::new(u32::try_from(started.as_second()).unwrap_or(0));
    while let Some(line) = reader.next_line()? {
        comparison.expect(line);
    }
    let mut options = ClientOptions::parse(&place.uri).await?;
    options.server_selection_timeout = Some(Duration::from_secs(10));
    // The driver breaks off what is being read where the server does not answer its monitor in this time, which
    // a busy one that is asked for everything it has does not.
    options.connect_timeout = Some(Duration::from_secs(120));
    let database = Client::with_options(options)?.database(&place.database);

    // Ids begin with the gateway and a colon; the semicolon is the character after it.
    let gateway = place.gateway.as_str();
    let ours = doc! { "_id": { "$gte": format!("{gateway}:"), "$lt": format!("{gateway};") } };
    let hidden: Document = NOT_READ
        .iter()
        .map(|name| ((*name).to_owned(), Bson::Int32(0)))
        .collect();
    let mut cursor = database
        .collection::<Document>(&place.collection)
        .find(ours)
        .projection(hidden)
        .sort(doc! { "_id": 1 })
        .batch_size(2000)
        .await?;
    while cursor.advance().await? {
        comparison.see(&stored(cursor.deserialize_current()?));
    }
    read_facts(&database, gateway, &mut comparison).await?;
    Ok(comparison.verdict(reader.complete))
}

/// What the gateway itself told: losses, and which epoch follows which.
async fn read_facts(
    database: &Database,
    gateway: &str,
    comparison: &mut Comparison,
) -> Result<(), mongodb::error::Error> {
    let facts = |name| database.collection::<Document>(name);
    let ours = doc! { "gateway": gateway };
    let mut cursor = facts("losses").find(ours.clone()).await?;
    while cursor.advance().await? {
        let loss = cursor.deserialize_current()?;
        let number = |name| integer(loss.get(name)).and_then(|n| u64::try_from(n).ok());
        if let (Ok(epoch), Some(first)) = (loss.get_str("epoch"), number("first")) {
            comparison.declare(&format!("{gateway}:{epoch}"), first, number("last"));
        }
    }
    let mut cursor = facts("epochs").find(ours).await?;
    while cursor.advance().await? {
        let fact = cursor.deserialize_current()?;
        let previous = (fact.get_document("previous")).and_then(|link| link.get_str("epoch"));
        if let (Ok(epoch), Ok(previous)) = (fact.get_str("epoch"), previous) {
            let name = |epoch| format!("{gateway}:{epoch}");
            comparison.follows(name(epoch), name(previous));
        }
    }
    Ok(())
}

fn stored(document: Document) -> Stored {
    let mut read = Stored {
        id: String::new(),
        device: String::new(),
        source: None,
        time_ms: None,
        values: BTreeMap::new(),
    };
    let mut by_device = false;
    for (name, member) in document {
        match (name.as_str(), member) {
            ("_id", Bson::String(id)) => read.id = id,
            ("meta", Bson::Document(meta)) => {
                meta.get_str("device")
                    .unwrap_or_default()
                    .clone_into(&mut read.device);
            }
            ("src", Bson::Document(src)) => {
                read.source = integer(src.get("boot")).zip(integer(src.get("seq")));
            }
            ("seq", _) => {}
            ("ts", Bson::DateTime(time)) => read.time_ms = Some(time.timestamp_millis()),
            ("clock", Bson::String(clock)) => by_device = clock == "device",
            ("raw", Bson::Document(raw)) => {
                let values = raw.into_iter().map(|(name, value)| (name, exact(value)));
                read.values.extend(values);
            }
            (_, value) => {
                read.values.insert(name, exact(value));
            }
        }
    }
    read.time_ms = read.time_ms.filter(|_| by_device);
    read
}

fn integer(member: Option<&Bson>) -> Option<i64> {
    match member? {
        Bson::Int32(number) => Some((*number).into()),
        Bson::Int64(number) => Some(*number),
        _ => None,
    }
}

/// What no reading can hold is shown as it is, and so is never equal.
fn exact(value: Bson) -> Exact {
    match value {
        Bson::Double(number) => Exact::Float(number),
        Bson::Int32(number) => Exact::Int(number.into()),
        Bson::Int64(number) => Exact::Int(number),
        Bson::Boolean(state) => Exact::Bool(state),
        Bson::String(text) => Exact::Text(text),
        other => Exact::Text(format!("no value: {other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_reduced_to_identity_and_values() {
        let read = stored(doc! {
            "_id": "gw:00000000000a:000000000001",
            "meta": { "gateway": "gw", "device": "d", "model": "m" },
            "seq": 1_i64,
            "ts": mongodb::bson::DateTime::from_millis(7),
            "clock": "device",
            "src": { "boot": 9_i64, "seq": 4_i64 },
            "power_w": 1.0,
            "on": true,
            "raw": { "state": "x" },
        });
        assert_eq!((read.source, read.time_ms), (Some((9, 4)), Some(7)));
        assert_eq!((read.device.as_str(), read.values.len()), ("d", 3));
        assert_eq!(read.values["power_w"], Exact::Float(1.0));
        assert_eq!(read.values["state"], Exact::Text("x".into()));
    }
}
