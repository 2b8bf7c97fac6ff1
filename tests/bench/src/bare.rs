//! The loop that promises nothing: subscribe, decode, produce. What the agent's rate and CPU time are
//! held against, as a process of its own.
//!
//! It takes QoS 1 and acknowledges at once, decodes into a struct that knows its fields, and sends what it
//! got under one key, without headers, with the agent's settings of librdkafka. With `--append` it writes
//! and syncs what has arrived before it sends it: the least that durable means.

use std::{
    fs::File,
    hint::black_box,
    io::Write,
    path::PathBuf,
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rdkafka::{
    error::KafkaError,
    producer::{BaseRecord, DefaultProducerContext, ThreadedProducer},
    types::RDKafkaErrorCode,
};
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use serde::Deserialize;

use crate::reading::GATEWAY;

/// Most bytes of one append.
const APPEND_BYTES: usize = 1 << 20;

/// Where from, where to.
#[derive(clap::Args)]
pub struct Options {
    /// The broker, as mqtt://host:port.
    #[arg(long)]
    mqtt: String,
    /// What it subscribes to.
    #[arg(long)]
    filter: String,
    /// Kafka.
    #[arg(long)]
    kafka: String,
    /// Topic in Kafka.
    #[arg(long)]
    topic: String,
    /// Write and sync to this file before sending.
    #[arg(long)]
    append: Option<PathBuf>,
}

/// A payload, by somebody who knows its fields.
#[derive(Debug, Deserialize)]
pub struct Published {
    /// Of the device.
    pub boot: u64,
    /// Of the reading.
    pub seq: u64,
    /// Microseconds since 1970.
    pub ts: i64,
    /// Measured.
    pub voltage_v: f64,
    /// Measured.
    pub current_a: f64,
    /// Measured.
    pub power_w: f64,
    /// Measured.
    pub energy_kwh: f64,
}

impl Published {
    fn values(&self) -> (u64, i64, [f64; 4]) {
        let values = [
            self.voltage_v,
            self.current_a,
            self.power_w,
            self.energy_kwh,
        ];
        (self.boot, self.ts, values)
    }
}

struct Outlet {
    producer: ThreadedProducer<DefaultProducerContext>,
    topic: String,
}

impl Outlet {
    fn send(&self, payload: &[u8]) -> Result<()> {
        let mut record = BaseRecord::to(&self.topic).key(GATEWAY).payload(payload);
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    thread::sleep(Duration::from_micros(200));
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
    }
}

/// Runs until it is killed.
///
/// # Errors
/// A connection failed.
pub fn run(options: &Options) -> Result<()> {
    let outlet = Outlet {
        producer: crate::stand::producer(&options.kafka)?,
        topic: options.topic.clone(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let Some(file) = &options.append else {
        return runtime.block_on(receive(options, |payload| outlet.send(payload)));
    };
    let (sender, arrived) = mpsc::channel::<Vec<u8>>();
    let file = File::options().append(true).create(true).open(file)?;
    let appender = thread::spawn(move || append(file, &arrived, &outlet));
    runtime.block_on(receive(options, |payload| {
        sender
            .send(payload.to_vec())
            .context("the appender has ended")
    }))?;
    drop(sender);
    match appender.join() {
        Ok(result) => result,
        Err(_) => bail!("the appender panicked"),
    }
}

async fn receive(options: &Options, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let url = &options.mqtt;
    let (host, port) = url
        .strip_prefix("mqtt://")
        .and_then(|rest| rest.rsplit_once(':'))
        .with_context(|| format!("no mqtt://host:port: {url}"))?;
    let client = format!("bare-{}", options.topic);
    let mut connect = MqttOptions::new(client, host, port.parse::<u16>()?);
    connect.set_max_packet_size(1 << 20, 1 << 20);
    let (client, mut events) = AsyncClient::new(connect, 100);
    let filter = &options.filter;
    client.subscribe(filter, QoS::AtLeastOnce).await?;
    loop {
        match events.poll().await? {
            Event::Incoming(Packet::Publish(publish)) => {
                let published: Published = serde_json::from_slice(&publish.payload)?;
                black_box(published.values());
                take(&publish.payload)?;
            }
            Event::Incoming(Packet::SubAck(_)) => println!("subscribed"),
            _ => {}
        }
    }
}

fn append(mut file: File, arrived: &Receiver<Vec<u8>>, outlet: &Outlet) -> Result<()> {
    let mut group = Vec::new();
    let mut bytes = Vec::new();
    while let Ok(first) = arrived.recv() {
        bytes.extend_from_slice(&first);
        group.push(first);
        while bytes.len() < APPEND_BYTES
            && let Ok(next) = arrived.try_recv()
        {
            bytes.extend_from_slice(&next);
            group.push(next);
        }
        file.write_all(&bytes)?;
        file.sync_data()?;
        bytes.clear();
        for payload in group.drain(..) {
            outlet.send(&payload)?;
        }
    }
    Ok(())
}
