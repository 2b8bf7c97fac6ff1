//! A snapshot in OpenMetrics' words. No label names a device: their number is not bounded by us.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text},
    metrics::MetricType::{self, Counter, Gauge},
    registry::Registry,
};

use super::{BudgetStat, LaneStat, Snapshot, dropped, suppressed};
use crate::{forward::By, process::Touched, source::Seen};

/// Writes a scrape. The registry lives for one scrape only: the snapshot is its one source.
///
/// # Errors
/// Never for a string.
pub fn encode(snapshot: Snapshot) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(snapshot));
    let mut text = String::new();
    text::encode(&mut text, &registry)?;
    Ok(text)
}

/// Values of one metric, by the values of its labels.
type Family<'a, const N: usize> = Vec<([(&'static str, &'a str); N], u64)>;

/// Kind, name, help and value of a metric that each `T` has.
type Column<T> = (MetricType, &'static str, &'static str, fn(&T) -> u64);

struct Writer<'a>(DescriptorEncoder<'a>);

impl Writer<'_> {
    fn one(&mut self, kind: MetricType, name: &str, help: &str, number: u64) -> fmt::Result {
        value(
            self.0.encode_descriptor(name, help, None, kind)?,
            kind,
            number,
        )
    }

    fn family<const N: usize>(
        &mut self,
        kind: MetricType,
        name: &str,
        help: &str,
        values: Family<'_, N>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, number) in values {
            value(metric.encode_family(&labels)?, kind, number)?;
        }
        Ok(())
    }
}

fn value(mut metric: MetricEncoder<'_>, kind: MetricType, number: u64) -> fmt::Result {
    match kind {
        Counter => metric.encode_counter::<NoLabelSet, _, u64>(&number, None),
        // A gauge of this library is signed.
        _ => metric.encode_gauge(&i64::try_from(number).unwrap_or(i64::MAX)),
    }
}

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut out = Writer(encoder);
        self.encode_process(&mut out)?;
        self.encode_balance(&mut out)?;
        self.encode_sources(&mut out)?;
        self.encode_lanes(&mut out)
    }
}

impl Snapshot {
    fn encode_process(&self, out: &mut Writer<'_>) -> fmt::Result {
        let build = vec![([("version", self.version)], 1)];
        out.family(
            Gauge,
            "edge_build",
            "The running version, in its label; always 1",
            build,
        )?;
        out.one(
            Gauge,
            "edge_uptime_seconds",
            "Seconds since the start",
            self.uptime_s,
        )?;
        let links = self.links.iter().map(|link| {
            let labels = [("link", link.kind.as_str()), ("name", &*link.name)];
            (labels, u64::from(link.is_up()))
        });
        let help = "1 while the link works, 0 while it does not";
        out.family(Gauge, "edge_link_up", help, links.collect())
    }

    /// received + recovered_at_start = all the others, in every scrape.
    fn encode_balance(&self, out: &mut Writer<'_>) -> fmt::Result {
        let balance = &self.balance;
        for (kind, name, help, value) in [
            (
                Counter,
                "edge_readings_received",
                "Readings that came from a source",
                balance.received,
            ),
            (
                Gauge,
                "edge_readings_recovered_at_start",
                "Readings that were in the queue at the start",
                balance.recovered_at_start,
            ),
            (
                Counter,
                "edge_readings_acknowledged",
                "Readings that Kafka has confirmed",
                balance.acknowledged,
            ),
            (
                Gauge,
                "edge_readings_queued",
                "Readings that are durable in the queue",
                balance.queued,
            ),
            (
                Gauge,
                "edge_readings_uncommitted",
                "Readings received and not durable yet",
                balance.uncommitted,
            ),
            (
                Counter,
                "edge_readings_rejected",
                "Readings that could not be read or accepted",
                balance.rejected,
            ),
            (
                Counter,
                "edge_readings_retransmitted",
                "Readings known already, sent again by their source",
                balance.retransmitted,
            ),
        ] {
            out.one(kind, name, help, value)?;
        }
        let suppressed = suppressed(balance).map(|(reason, count)| ([("reason", reason)], count));
        let help = "Readings left out by a filter, a range, a dead band or an aggregation";
        let name = "edge_readings_suppressed";
        out.family(Counter, name, help, suppressed.collect())?;
        let dropped = dropped(balance).map(|(reason, count)| ([("reason", reason)], count));
        let help = "Readings lost, and recorded as such with their exact range";
        out.family(Counter, "edge_readings_dropped", help, dropped.collect())
    }

    fn encode_sources(&self, out: &mut Writer<'_>) -> fmt::Result {
        let rejections = self
            .rejections
            .iter()
            .map(|(source, reason, count)| ([("source", &**source), ("reason", *reason)], *count));
        let help = "Inputs that are no reading";
        out.family(Counter, "edge_frames_rejected", help, rejections.collect())?;
        let columns: [Column<Seen>; 11] = [
            (
                Counter,
                "edge_source_bytes",
                "Bytes off a serial line that speaks by itself, whether or not they are readings",
                |seen| seen.bytes,
            ),
            (
                Counter,
                "edge_source_readings",
                "Readings handed over by the source",
                |seen| seen.received,
            ),
            (
                Counter,
                "edge_source_fields_rejected",
                "Single values left out of a reading",
                |seen| seen.fields_rejected,
            ),
            (
                Counter,
                "edge_source_skipped",
                "Inputs passed by on purpose, such as availability and retained messages",
                |seen| seen.skipped,
            ),
            (
                Counter,
                "edge_source_deferred",
                "Readings not taken now, to be sent again by their source",
                |seen| seen.deferred,
            ),
            (
                Counter,
                "edge_source_reconnects",
                "Times the link came back",
                |seen| seen.reconnects,
            ),
            (
                Counter,
                "edge_source_device_dropped",
                "Readings dropped by a device itself",
                |seen| seen.device_dropped,
            ),
            (
                Gauge,
                "edge_source_devices_online",
                "Devices whose availability topic says they can be reached",
                |seen| seen.devices_online,
            ),
            (
                Gauge,
                "edge_source_devices_offline",
                "Devices whose availability topic says they cannot",
                |seen| seen.devices_offline,
            ),
            (
                Counter,
                "edge_source_devices_forgotten",
                "Devices whose availability was forgotten for others",
                |seen| seen.devices_forgotten,
            ),
            (
                Counter,
                "edge_source_poll_overruns",
                "Rounds of questions that could not begin in time",
                |seen| seen.overruns,
            ),
        ];
        for (kind, name, help, value) in columns {
            let values = self.sources.iter();
            let values = values.map(|source| ([("source", &*source.name)], value(&source.seen)));
            out.family(kind, name, help, values.collect())?;
        }
        let touched = self.sources.iter().flat_map(|source| {
            let counts = Touched::ALL.iter().zip(source.seen.touched);
            counts.map(|(what, count)| {
                let labels = [("source", &*source.name), ("what", what.as_str())];
                (labels, count)
            })
        });
        let help = "Values left out, bounded or marked by [[process]]";
        out.family(Counter, "edge_process_values", help, touched.collect())?;
        Ok(())
    }

    fn encode_lanes(&self, out: &mut Writer<'_>) -> fmt::Result {
        let columns: [Column<LaneStat>; 10] = [
            (Gauge, "edge_queue_readings", "Readings waiting", |lane| {
                lane.stat.readings
            }),
            (
                Gauge,
                "edge_queue_bytes",
                "Bytes of the queue on disk",
                |lane| lane.stat.bytes,
            ),
            (
                Gauge,
                "edge_queue_max_bytes",
                "Bytes that the queue may take on disk",
                |lane| lane.stat.max_bytes,
            ),
            (
                Gauge,
                "edge_queue_segments",
                "Segments of the queue on disk",
                |lane| lane.stat.segments,
            ),
            (
                Gauge,
                "edge_queue_losses_pending",
                "Ranges of lost readings not yet stated to the sink",
                |lane| lane.stat.losses_pending,
            ),
            (
                Counter,
                "edge_queue_written_bytes",
                "Bytes written to the disk since the start",
                |lane| lane.stat.written_bytes,
            ),
            (
                Counter,
                "edge_queue_reused_numbers",
                "Numbers that a device used again for another reading",
                |lane| lane.stat.reused_numbers,
            ),
            (
                Counter,
                "edge_uplink_sent_bytes",
                "Bytes handed to Kafka, before compression",
                |lane| lane.sent_bytes,
            ),
            (
                Counter,
                "edge_uplink_resent_readings",
                "Readings handed to Kafka again after a failure",
                |lane| lane.resent,
            ),
            (
                Counter,
                "edge_uplink_restarts",
                "Producers replaced after a failure",
                |lane| lane.restarts,
            ),
        ];
        for (kind, name, help, value) in columns {
            let values = self.lanes.iter();
            let values = values.map(|lane| ([("topic", lane.topic.as_str())], value(lane)));
            out.family(kind, name, help, values.collect())?;
        }
        self.encode_limits(out)?;
        let oldest = self.lanes.iter().filter_map(|lane| {
            let seconds = u64::try_from(lane.stat.oldest_committed? / 1_000_000).ok()?;
            Some(([("topic", lane.topic.as_str())], seconds))
        });
        let name = "edge_queue_oldest_committed_timestamp_seconds";
        let help = "When the oldest waiting reading was committed, in seconds since 1970";
        out.family(Gauge, name, help, oldest.collect())
    }

    /// What holds lanes back in front of Kafka.
    fn encode_limits(&self, out: &mut Writer<'_>) -> fmt::Result {
        let held = self.lanes.iter().flat_map(|lane| {
            let by = lane.held.as_ref().map(|held| held.by);
            let topic = lane.topic.as_str();
            By::ALL.map(|all| {
                let word = all.as_str();
                (
                    [("topic", topic), ("by", word)],
                    u64::from(by == Some(word)),
                )
            })
        });
        let help = "1 while this holds the lane back in front of Kafka";
        out.family(Gauge, "edge_uplink_held", help, held.collect())?;
        let columns: [Column<BudgetStat>; 2] = [
            (
                Gauge,
                "edge_uplink_budget_bytes",
                "Bytes that may be sent a day",
                |budget| budget.bytes_per_day,
            ),
            (
                Gauge,
                "edge_uplink_budget_spent_bytes",
                "Bytes of this day's budget that are spent",
                |budget| budget.spent_bytes,
            ),
        ];
        for (kind, name, help, value) in columns {
            let values = self.lanes.iter().filter_map(|lane| {
                let budget = lane.budget.as_ref()?;
                Some(([("topic", lane.topic.as_str())], value(budget)))
            });
            out.family(kind, name, help, values.collect())?;
        }
        Ok(())
    }
}
