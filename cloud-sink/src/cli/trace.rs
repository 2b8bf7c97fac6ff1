//! `cloud-sink trace ID`: when one reading passed each station.
//!
//! Routes with `hops = true` keep the stations in the document. Of others Kafka still has the gateway's,
//! in the record's header, while its retention lasts: the record is looked for from the reading's time
//! on, for [`PATIENCE`].

use std::{
    ops::ControlFlow,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use protocol::{RecordId, Timestamp, header};

use super::Ended;
use crate::{
    config::Config,
    kafka::{self, ConsumerError, Settings},
    message::{Coordinates, Message},
    run::{kafka_settings, open_store},
    store::{Outage, Store},
};

/// How long Kafka is searched.
const PATIENCE: Duration = Duration::from_secs(30);

/// In the order of a reading's way.
const STATIONS: [(&str, &str); 6] = [
    ("received", "from its source, at the gateway"),
    ("committed", "durable in the gateway's queue"),
    ("sent", "handed to kafka by the gateway"),
    ("appended", "stamped by kafka"),
    ("consumed", "taken by the sink"),
    ("written", "handed to mongodb by the sink"),
];

#[expect(clippy::print_stdout, reason = "a command line prints its answer")]
pub(super) async fn trace(config: &Config, id: &str) -> Ended {
    let store = open_store(config).await?;
    let away = || {
        format!(
            "mongodb {} does not answer, check mongodb.uri and that the server runs",
            store.name()
        )
    };
    let names = STATIONS.map(|(name, _)| name);
    let mut found = None;
    for route in &config.routes {
        let way = store.way_of(route, id, &names).await;
        if let Some(way) = way.with_context(away)? {
            found = Some((route, way));
            break;
        }
    }
    let Some((route, way)) = found else {
        let elsewhere = elsewhere(&store, id).await.with_context(away)?;
        println!("{id}  is not in mongodb{elsewhere}");
        return Ok(1);
    };
    println!("{id}  {}.{}", config.mongodb.database, route.collection);
    if let Some(times) = way.stations {
        print(&times, way.at.as_ref());
        return Ok(0);
    }
    println!("its route keeps no hops (hops = true would); looking for it in kafka");
    let settings = kafka_settings(config);
    let (topic, wanted) = (route.topic.to_string(), id.to_owned());
    let search = move || look_for(&settings, &topic, way.ts_ms, &wanted);
    match tokio::task::spawn_blocking(search).await?? {
        Some(message) => {
            print(&times(&message), Some(&message.at));
            Ok(0)
        }
        None => {
            println!(
                "not found there within {PATIENCE:?}: retention has it, or it came much later"
            );
            Ok(1)
        }
    }
}

fn look_for(
    settings: &Settings,
    topic: &str,
    since_ms: Option<i64>,
    id: &str,
) -> Result<Option<Message>, ConsumerError> {
    let until = Instant::now() + PATIENCE;
    let mut found = None;
    kafka::scan(settings, topic, since_ms, |message| {
        if message.header(header::ID) == Some(id) {
            found = Some(message);
        }
        if found.is_some() || Instant::now() > until {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

fn times(message: &Message) -> [Option<i64>; STATIONS.len()] {
    let headers = message.headers();
    let headers = header::Headers::read(headers.filter_map(|(name, value)| Some((name, value?))));
    let millis = |time: Option<Timestamp>| time.map(|time| time.as_millis());
    let hops = headers.hops;
    [
        millis(hops.received),
        millis(hops.committed),
        millis(hops.sent),
        message.at.timestamp_ms,
        None,
        None,
    ]
}

#[expect(clippy::print_stdout, reason = "a command line prints its answer")]
fn print(times: &[Option<i64>], at: Option<&Coordinates>) {
    for line in lines(times) {
        println!("{line}");
    }
    if let Some(Coordinates {
        partition, offset, ..
    }) = at
    {
        println!(
            "in kafka   {}/{}/{offset}",
            partition.topic, partition.number
        );
    }
}

/// Each station with its time and how long it took to get there; clocks of three machines.
fn lines(times: &[Option<i64>]) -> Vec<String> {
    let mut before = None;
    let stations = STATIONS.iter().zip(times);
    stations
        .map(|((name, what), time)| {
            let Some(time) = *time else {
                return format!("{name:<10} {:<24} {:>10}  {what}", "unknown", "");
            };
            let took = before.map(|before| format!("{:+} ms", time - before));
            before = Some(time);
            let shown = jiff::Timestamp::from_millisecond(time)
                .map_or_else(|_| time.to_string(), |time| format!("{time:.3}"));
            let took = took.unwrap_or_default();
            format!("{name:<10} {shown:<24} {took:>10}  {what}")
        })
        .collect()
}

/// What else is known of a reading of ours.
async fn elsewhere(store: &Store, id: &str) -> Result<String, Outage> {
    let Ok(record) = id.parse::<RecordId>() else {
        return Ok(", and no id that a gateway gives (GATEWAY:EPOCH:SEQUENCE)".into());
    };
    Ok(match store.loss_of(&record).await? {
        Some(reason) => format!("; its gateway declared it lost: {reason}"),
        None => ", and no loss that covers it was declared: it may be under way".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_station_shows_how_long_it_took_since_the_last_known_one() {
        let times = [Some(1000), None, Some(1012), Some(1011), None, Some(2000)];
        let lines = lines(&times);
        let words: Vec<Vec<&str>> = lines
            .iter()
            .map(|line| line.split_whitespace().take(4).collect())
            .collect();
        assert_eq!(words[0][..2], ["received", "1970-01-01T00:00:01.000Z"]);
        assert_eq!(words[1][..2], ["committed", "unknown"]);
        assert_eq!(words[2][2..], ["+12", "ms"]);
        assert_eq!(words[3][2..], ["-1", "ms"]);
        assert_eq!(words[5][2..], ["+989", "ms"]);
    }
}
