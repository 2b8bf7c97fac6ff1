//! The other end of Kafka: topics of a rig, records as anybody could read or write them.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use protocol::{Record, control::Fact};
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    admin::{
        AdminClient, AdminOptions, AlterConfig, ConfigSource, NewPartitions, NewTopic,
        ResourceSpecifier, TopicReplication,
    },
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    message::{Header, Headers, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer},
    types::RDKafkaErrorCode,
};

/// Partitions of the readings topic: more than one, so that order is not had for nothing.
const PARTITIONS: i32 = 3;
const WITHIN: Duration = Duration::from_secs(60);

/// The topics of a rig.
#[derive(Debug, Clone)]
pub struct Topics {
    /// Readings.
    pub readings: String,
    /// Facts, compacted.
    pub control: String,
    /// What the sink could not use.
    pub dead_letters: String,
}

impl Topics {
    /// Named after the rig.
    #[must_use]
    pub fn new(rig: &str) -> Self {
        Self {
            readings: format!("{rig}.readings"),
            control: format!("{rig}.control"),
            dead_letters: format!("{rig}.dead-letters"),
        }
    }
}

/// A record as it lies in Kafka.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawRecord {
    /// Where.
    pub partition: i32,
    /// Where in it.
    pub offset: i64,
    /// Key, empty when there is none.
    pub key: Vec<u8>,
    /// Value, empty when there is none.
    pub value: Vec<u8>,
    /// Headers in their order.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl RawRecord {
    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_slice())
    }

    /// The reading in it.
    ///
    /// # Errors
    /// It is none.
    pub fn reading(&self) -> Result<Record> {
        Ok(protocol::record::json::decode(&self.value)?)
    }
}

/// A record as somebody else would write it.
#[derive(Debug, Clone, Copy)]
pub struct Foreign<'a> {
    /// Key.
    pub key: &'a str,
    /// Value.
    pub value: &'a [u8],
    /// Headers in their order.
    pub headers: &'a [(&'a str, &'a [u8])],
}

/// The other end of Kafka.
#[derive(Debug)]
pub struct Kafka {
    bootstrap: String,
    topics: Topics,
}

impl Kafka {
    /// Nothing is sent yet.
    ///
    /// # Errors
    /// Never so far.
    pub fn new(bootstrap: &str, rig: &str) -> Result<Self> {
        Ok(Self {
            bootstrap: bootstrap.to_owned(),
            topics: Topics::new(rig),
        })
    }

    /// Topic of the readings.
    #[must_use]
    pub fn readings(&self) -> &str {
        &self.topics.readings
    }

    /// Topic of the facts.
    #[must_use]
    pub fn control(&self) -> &str {
        &self.topics.control
    }

    /// Topic of what the sink could not use.
    #[must_use]
    pub fn dead_letters(&self) -> &str {
        &self.topics.dead_letters
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap);
        config
    }

    /// Creates the rig's topics.
    ///
    /// # Errors
    /// Kafka refuses.
    pub fn create_topics(&self) -> Result<()> {
        let topics = [
            (self.readings(), PARTITIONS, false),
            (self.control(), 1, true),
            (self.dead_letters(), 1, false),
        ];
        Self::create(&self.bootstrap, &topics)
    }

    /// Creates topics: name, partitions, whether compacted. Those that exist stay as they are.
    ///
    /// # Errors
    /// Kafka refuses.
    pub fn create(bootstrap: &str, topics: &[(&str, i32, bool)]) -> Result<()> {
        let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .create()?;
        let topics: Vec<NewTopic<'_>> = topics
            .iter()
            .map(|&(name, partitions, compacted)| {
                let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
                if compacted {
                    return topic.set("cleanup.policy", "compact");
                }
                // As `cloud-sink topics apply` makes them.
                topic
                    .set("cleanup.policy", "delete")
                    .set("message.timestamp.type", "LogAppendTime")
            })
            .collect();
        let options = AdminOptions::new().operation_timeout(Some(WITHIN));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        for result in runtime.block_on(admin.create_topics(&topics, &options))? {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, error)) => bail!("create topic {topic}: {error}"),
            }
        }
        Ok(())
    }

    /// Gives a topic these settings; its others go back to their defaults. Returns once the broker goes by them:
    /// the controller confirms a change before that.
    ///
    /// # Errors
    /// Kafka refuses.
    pub fn configure(&self, topic: &str, settings: &[(&str, &str)]) -> Result<()> {
        let admin: AdminClient<DefaultClientContext> = self.config().create()?;
        let options = AdminOptions::new().operation_timeout(Some(WITHIN));
        let resource = ResourceSpecifier::Topic(topic);
        let mut change = AlterConfig::new(resource);
        for (name, value) in settings {
            change = change.set(name, value);
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        for result in runtime.block_on(admin.alter_configs([&change], &options))? {
            result.map_err(|(_, error)| anyhow::anyhow!("configure {topic}: {error}"))?;
        }
        let wanted: BTreeMap<_, _> = settings.iter().copied().collect();
        crate::wait::until_true("a changed topic", WITHIN, || {
            let mut found = runtime.block_on(admin.describe_configs([&resource], &options))?;
            let found = found.pop().context("no answer")?;
            let entries = found.map_err(|error| anyhow::anyhow!("describe {topic}: {error}"))?;
            let set = entries.entries.iter();
            let set = set.filter(|entry| entry.source == ConfigSource::DynamicTopic);
            let set = set.filter_map(|entry| Some((&*entry.name, entry.value.as_deref()?)));
            Ok(set.collect::<BTreeMap<_, _>>() == wanted)
        })
    }

    /// Gives a topic more partitions, so many in all.
    ///
    /// # Errors
    /// Kafka refuses.
    pub fn add_partitions(&self, topic: &str, all: usize) -> Result<()> {
        let admin: AdminClient<DefaultClientContext> = self.config().create()?;
        let options = AdminOptions::new().operation_timeout(Some(WITHIN));
        let more = NewPartitions::new(topic, all);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        for result in runtime.block_on(admin.create_partitions([&more], &options))? {
            result.map_err(|(_, error)| anyhow::anyhow!("more partitions for {topic}: {error}"))?;
        }
        Ok(())
    }

    /// Deletes a topic, and makes it again as it was made first.
    ///
    /// # Errors
    /// Kafka refuses.
    pub fn remake(&self, topic: &str, partitions: i32) -> Result<()> {
        self.remove(topic)?;
        Self::create(&self.bootstrap, &[(topic, partitions, false)])
    }

    /// Deletes a topic, and waits until the brokers have forgotten it.
    ///
    /// # Errors
    /// Kafka refuses.
    pub fn remove(&self, topic: &str) -> Result<()> {
        let admin: AdminClient<DefaultClientContext> = self.config().create()?;
        let options = AdminOptions::new().operation_timeout(Some(WITHIN));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        // Whoever knew the topic before asks its leaders on, as a producer does.
        let witness: BaseConsumer = self.config().create()?;
        let metadata = witness.fetch_metadata(Some(topic), WITHIN)?;
        let partitions = metadata.topics().first().context("topic in its metadata")?;
        let has_any = || {
            let mut ids = partitions.partitions().iter().map(|one| one.id());
            ids.any(|id| witness.fetch_watermarks(topic, id, WITHIN).is_ok())
        };
        has_any();
        for result in runtime.block_on(admin.delete_topics(&[topic], &options))? {
            result.map_err(|(topic, error)| anyhow::anyhow!("delete {topic}: {error}"))?;
        }
        // The brokers forget it one after the other.
        crate::wait::until_true(&format!("{topic} to be forgotten"), WITHIN, || {
            let consumer: BaseConsumer = self.config().create()?;
            let metadata = consumer.fetch_metadata(Some(topic), WITHIN)?;
            let known = metadata.topics().first();
            Ok(known.is_none_or(|topic| topic.partitions().is_empty()))
        })?;
        // And only then they close it: what is written until then is acknowledged, and gone.
        crate::wait::until_true(&format!("{topic} to be closed"), WITHIN, || Ok(!has_any()))
    }

    /// How many records lie in a topic now: what retention has deleted does not count.
    ///
    /// # Errors
    /// Kafka does not answer.
    pub fn count(&self, topic: &str) -> Result<i64> {
        let consumer: BaseConsumer = self.config().create()?;
        let metadata = consumer.fetch_metadata(Some(topic), WITHIN)?;
        let partitions = metadata.topics().first().context("topic in its metadata")?;
        let mut count = 0;
        for partition in partitions.partitions() {
            let (low, high) = consumer.fetch_watermarks(topic, partition.id(), WITHIN)?;
            count += high - low;
        }
        Ok(count)
    }

    /// Everything that lies in a topic now, partition by partition.
    ///
    /// # Errors
    /// Kafka does not answer.
    pub fn read_all(&self, topic: &str) -> Result<Vec<RawRecord>> {
        let consumer: BaseConsumer = self
            .config()
            .set("group.id", "rig-reads-without-a-group")
            .set("enable.auto.commit", "false")
            .create()?;
        let metadata = consumer.fetch_metadata(Some(topic), WITHIN)?;
        let partitions = metadata.topics().first().context("topic in its metadata")?;
        let mut wanted = TopicPartitionList::new();
        let mut ends = BTreeMap::new();
        for partition in partitions.partitions() {
            let (low, high) = consumer.fetch_watermarks(topic, partition.id(), WITHIN)?;
            if low < high {
                wanted.add_partition_offset(topic, partition.id(), Offset::Offset(low))?;
                ends.insert(partition.id(), high - 1);
            }
        }
        consumer.assign(&wanted)?;
        let mut records = Vec::new();
        let mut deadline = Instant::now() + WITHIN;
        let mut said = None;
        // Compaction leaves holes, but never the last one.
        while !ends.is_empty() {
            if Instant::now() > deadline {
                bail!("the records of {topic} up to {ends:?} did not come: {said:?}");
            }
            let message = match consumer.poll(Duration::from_millis(200)) {
                Some(Ok(message)) => message,
                // A connection that broke is made again; whatever it is, the records come or do not.
                Some(Err(error)) => {
                    said = Some(error);
                    continue;
                }
                None => continue,
            };
            deadline = Instant::now() + WITHIN;
            if ends.get(&message.partition()) <= Some(&message.offset()) {
                ends.remove(&message.partition());
            }
            let headers = message.headers().map(|headers| {
                let named = |header: Header<'_, &[u8]>| {
                    (
                        header.key.to_owned(),
                        header.value.unwrap_or_default().to_vec(),
                    )
                };
                headers.iter().map(named).collect()
            });
            records.push(RawRecord {
                partition: message.partition(),
                offset: message.offset(),
                key: message.key().unwrap_or_default().to_vec(),
                value: message.payload().unwrap_or_default().to_vec(),
                headers: headers.unwrap_or_default(),
            });
        }
        records.sort_by_key(|record| (record.partition, record.offset));
        Ok(records)
    }

    /// Writes records as somebody else would.
    ///
    /// # Errors
    /// Kafka does not take one.
    pub fn write(&self, topic: &str, records: &[Foreign<'_>]) -> Result<()> {
        let producer: BaseProducer = self.config().set("acks", "all").create()?;
        for record in records {
            let mut owned = OwnedHeaders::new();
            for (name, value) in record.headers {
                owned = owned.insert(Header {
                    key: name,
                    value: Some(*value),
                });
            }
            producer
                .send(
                    BaseRecord::to(topic)
                        .key(record.key)
                        .payload(record.value)
                        .headers(owned),
                )
                .map_err(|(error, _)| error)?;
        }
        producer.flush(WITHIN)?;
        Ok(())
    }

    /// Writes a record that was made at another time, in milliseconds since 1970, into a partition of a topic with
    /// `message.timestamp.type=CreateTime`.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_stamped(
        &self,
        topic: &str,
        partition: i32,
        stamp_ms: i64,
        record: Foreign<'_>,
    ) -> Result<()> {
        let producer: BaseProducer = self.config().set("acks", "all").create()?;
        producer
            .send(
                BaseRecord::to(topic)
                    .partition(partition)
                    .timestamp(stamp_ms)
                    .key(record.key)
                    .payload(record.value),
            )
            .map_err(|(error, _)| error)?;
        Ok(producer.flush(WITHIN)?)
    }

    /// Writes readings as their gateways would, in JSON and without headers.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_readings(&self, records: &[Record]) -> Result<()> {
        let mut values = Vec::with_capacity(records.len());
        for record in records {
            let mut value = Vec::new();
            protocol::record::json::encode(record, &mut value)?;
            values.push(value);
        }
        let written = records.iter().zip(&values).map(|(record, value)| Foreign {
            key: record.id.gateway.as_str(),
            value,
            headers: &[],
        });
        self.write(self.readings(), &written.collect::<Vec<_>>())
    }

    /// States a fact as a gateway would.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn state(&self, fact: &Fact) -> Result<()> {
        let (key, value) = (fact.key(), fact.encode()?);
        let record = Foreign {
            key: &key,
            value: &value,
            headers: &[],
        };
        self.write(self.control(), &[record])
    }
}
