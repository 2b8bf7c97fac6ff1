//! All wiring: the whole sink on one screen.
//!
//! A stage that ends by itself ends the process: systemd starts it again, and Kafka and MongoDB make
//! that cheap.

mod prepare;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use protocol_host::{
    registry::{Error, ONCE, Registry},
    supervisor::{self, Pulses, Silent, Watchdog},
};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::{
    batch::Limits,
    catalogue::{self, Catalogue},
    config::{Config, Kind, Uri},
    conservation::Conservation,
    kafka::{Consumer, Gate, Producer, Settings, Started, Topics, Witness},
    link::Links,
    pipeline::{Destination, Ends, Outlets, Pipeline},
    schemas::Ask,
    status::{self, Watched},
    store::{
        Store,
        series::{self, Series},
    },
    telemetry::{self, Telemetry},
};

/// Longest wait for the catalogue at the end.
const FLUSH: Duration = Duration::from_secs(2);

/// Longest wait for Kafka at the end.
const CLOSE: Duration = Duration::from_secs(5);

/// By when everything has ended: what is in flight, the catalogue and Kafka, one after the other.
const END: Duration = Duration::from_secs(20);

/// `WatchdogSec` of the unit.
const WATCHDOG: Duration = Duration::from_secs(360);

/// Runs until `stop` is cancelled, then ends in order.
///
/// # Errors
/// When a stage fails or ends by itself.
pub async fn run(config: Config, stop: CancellationToken) -> anyhow::Result<()> {
    let settings = kafka_settings(&config);
    let store = open_store(&config).await?;
    let servers = settings.properties.get("bootstrap.servers").cloned();
    let watched = Watched {
        kept: Arc::new(Conservation::default()),
        links: Links::new(
            servers.unwrap_or_default(),
            store.name().to_owned(),
            config
                .kafka
                .client
                .registry
                .as_ref()
                .map(|at| at.url.clone()),
        ),
        gate: Arc::new(Gate::new(config.batch.max_in_flight)),
        telemetry: Arc::new(Telemetry::new(settings.group.clone())),
        pulses: Pulses::new(WATCHDOG),
    };
    let stages = Stages {
        settings,
        store,
        catalogue: Arc::default(),
        series: Arc::new(series_of(&config)),
        config,
        watched: watched.clone(),
    };
    tokio::select! {
        // First of all: systemd is told of a stop before the stages have followed it.
        biased;
        silent = supervise(&watched.pulses, &stop) => bail!("{silent}"),
        result = stages.run(stop.clone()) => result,
        result = serve_status(&stages.config, watched.clone()) => result.context("status"),
        () = catalogue::keep_flushing(&stages.catalogue, &stages.store) => bail!("the catalogue ended by itself"),
        () = series::keep_sweeping(&stages.store, &stages.series) => bail!("the sweep ended by itself"),
        result = stages.watch_topics() => result,
        () = telemetry::watch_backlog(&stages.settings, &watched) => bail!("the watch over the backlog ended by itself"),
        () = telemetry::report(&watched.kept, &watched.gate, &watched.telemetry) => bail!("the report ended by itself"),
    }
}

struct Stages {
    config: Config,
    settings: Settings,
    store: Store,
    catalogue: Arc<Catalogue>,
    series: Arc<Series>,
    watched: Watched,
}

impl Stages {
    async fn run(&self, stop: CancellationToken) -> anyhow::Result<()> {
        tokio::select! {
            () = stop.cancelled() => {
                self.say_stopped();
                return Ok(());
            }
            () = self.prepare() => {}
        }
        let mismatches = self.store.mismatches(&self.config.routes).await?;
        if !mismatches.is_empty() {
            bail!("{}", mismatches.join("; "));
        }
        let producer = Producer::new(&self.settings)?;
        let ended = CancellationToken::new();
        let Started {
            consumer,
            offsets,
            messages,
            events,
        } = Consumer::start(
            &self.settings,
            self.watched.gate.clone(),
            self.watched.links.clone(),
            ended.clone(),
            self.watched.pulses.watch("kafka"),
        )?;
        let ends = Ends {
            messages,
            events,
            offsets,
            gate: self.watched.gate.clone(),
            witness: Arc::new(Witness::new(self.settings.clone())),
            parts: Arc::new(Outlets {
                store: self.store.clone(),
                producer,
                catalogue: self.catalogue.clone(),
                collections: collections(&self.config),
                series: self.series.clone(),
                registry: registry(&self.config)?,
            }),
            pulse: self.watched.pulses.watch("pipeline"),
        };
        let pipeline = Pipeline::new(
            ends,
            destinations(&self.config),
            limits(&self.config),
            self.watched.links.clone(),
            self.watched.kept.clone(),
            self.watched.telemetry.clone(),
        );
        let result = tokio::select! {
            result = pipeline.run(stop) => result,
            () = ended.cancelled() => Err(anyhow::anyhow!("the kafka consumer ended")),
        };
        // The pipeline is gone, so offsets are final: the thread commits them and leaves the group.
        let closed = consumer.close(CLOSE).await;
        closed.map_err(anyhow::Error::from).and(result)?;
        let flush = self.catalogue.flush(&self.store);
        if !matches!(timeout(FLUSH, flush).await, Ok(Ok(()))) {
            debug!("the last devices are not noted");
        }
        self.say_stopped();
        Ok(())
    }

    fn say_stopped(&self) {
        let balance = self.watched.kept.snapshot();
        info!(
            consumed = balance.consumed,
            written = balance.written,
            duplicates = balance.duplicates,
            dead_letters = balance.dead_letters,
            "stopped"
        );
    }

    async fn watch_topics(&self) -> anyhow::Result<()> {
        let topics = Topics::new(&self.settings)?;
        telemetry::watch_retention(&topics, &self.watched.telemetry).await;
        bail!("the watch over the topics ended by itself")
    }
}

/// Tells systemd how things are, until a loop stands still for so long that the process is to end.
async fn supervise(pulses: &Pulses, stop: &CancellationToken) -> Silent {
    supervisor::ready();
    let mut watchdog = Watchdog::new(pulses.clone());
    tokio::select! {
        silent = watchdog.feed() => return silent,
        () = stop.cancelled() => supervisor::stopping(END),
    }
    watchdog.feed().await
}

/// Whom to ask for schemas. One question, one answer: the pipeline asks again.
fn registry(config: &Config) -> anyhow::Result<Option<Ask>> {
    let Some(settings) = &config.kafka.client.registry else {
        return Ok(None);
    };
    let registry = Registry::new(settings, ONCE)?;
    Ok(Some(Arc::new(move |id| match registry.schema(id.0) {
        Ok(schema) => Ok(Some(schema)),
        // Of the schema itself, or of one that it refers to.
        Err(Error::UnknownId { .. } | Error::UnknownSubject { .. } | Error::TooMuch { .. }) => {
            Ok(None)
        }
        Err(error) => Err(format!("{error}; {}", error.remedy())),
    })))
}

async fn serve_status(config: &Config, watched: Watched) -> anyhow::Result<()> {
    match config.status.listen {
        Some(listen) => status::serve(listen, watched).await,
        None => std::future::pending().await,
    }
}

/// Reads the connection string and makes the client.
///
/// # Errors
/// A secret that cannot be had, a string that is none.
pub async fn open_store(config: &Config) -> anyhow::Result<Store> {
    let uri = match &config.mongodb.uri {
        Uri::Text(text) => text.clone(),
        Uri::Secret(secret) => secret.read().context("mongodb.uri")?,
    };
    let mongodb = &config.mongodb;
    Ok(Store::new(&uri, &mongodb.database, mongodb.timeout).await?)
}

/// What librdkafka is to be told.
#[must_use]
pub fn kafka_settings(config: &Config) -> Settings {
    let kafka = &config.kafka;
    let routed = config.routes.iter().map(|route| &route.topic);
    Settings {
        properties: kafka.client.properties.clone(),
        group: kafka.group.clone(),
        topics: routed
            .chain([&kafka.control_topic])
            .map(ToString::to_string)
            .collect(),
        dead_letter_topic: kafka.dead_letter_topic.to_string(),
    }
}

fn destinations(config: &Config) -> HashMap<Arc<str>, Destination> {
    let readings = config.routes.iter().map(|route| {
        let destination = Destination::Readings {
            collection: Arc::from(&*route.collection),
            keep: route.keep,
            hops: route.hops,
            series: route.kind == Kind::TimeSeries,
        };
        (Arc::from(route.topic.as_str()), destination)
    });
    let control = Arc::from(config.kafka.control_topic.as_str());
    readings.chain([(control, Destination::Control)]).collect()
}

fn collections(config: &Config) -> Vec<Arc<str>> {
    let names: BTreeSet<&str> = config.routes.iter().map(|r| &*r.collection).collect();
    names.into_iter().map(Arc::from).collect()
}

fn series_of(config: &Config) -> Series {
    let routes = config.routes.iter();
    let series = routes.filter(|route| route.kind == Kind::TimeSeries);
    Series::new(series.map(|route| Arc::from(&*route.collection)))
}

fn limits(config: &Config) -> Limits {
    Limits {
        max_records: config.batch.max_records,
        max_bytes: config.batch.max_bytes,
        max_wait: config.batch.max_wait,
    }
}

#[cfg(test)]
mod tests {
    use super::WATCHDOG;

    #[test]
    fn a_process_without_systemd_is_watched_as_the_unit_has_it() {
        const UNIT: &str = include_str!(
            "../../packaging/cloud-sink/root/usr/lib/systemd/system/cloud-sink.service"
        );
        let spans: Vec<jiff::SignedDuration> = UNIT
            .lines()
            .filter_map(|line| line.strip_prefix("WatchdogSec=")?.parse().ok())
            .collect();
        assert_eq!(spans, [jiff::SignedDuration::try_from(WATCHDOG).unwrap()]);
    }
}
