//! What is measured. Each row is a function that runs its pairs and prints one line or more.

mod backlog;
mod codec;
mod decoders;
mod fleet;
mod live;
mod queue;
mod serial;
mod sink;
mod small_box;
mod wire;

use anyhow::{Result, ensure};

use crate::bench::Bench;

/// A row, by the name it is asked for.
pub struct Row {
    /// Its name; its lines begin with it.
    pub name: &'static str,
    /// What it measures, in one line.
    pub what: &'static str,
    /// Measures and prints.
    pub run: fn(&mut Bench) -> Result<()>,
}

/// All rows, in the order in which they run.
pub const ALL: &[Row] = &[
    Row {
        name: "codec",
        what: "frames and records / the bare libraries on the same values; bytes of each form",
        run: codec::codec,
    },
    Row {
        name: "append-1000",
        what: "commits of 1 000 readings / raw append and fdatasync of the same bytes",
        run: queue::append_1000,
    },
    Row {
        name: "append-1",
        what: "commits of one reading / raw append and fdatasync of the same bytes",
        run: queue::append_1,
    },
    Row {
        name: "disk",
        what: "bytes on disk / bytes of the readings; growth over outages; how far a cap is passed",
        run: queue::disk,
    },
    Row {
        name: "wear",
        what: "bytes written per reading / raw append with the same commits",
        run: queue::wear,
    },
    Row {
        name: "backlog-rss",
        what: "memory with a backlog and a dead broker / without a backlog",
        run: backlog::backlog_rss,
    },
    Row {
        name: "small-box",
        what: "48 MB, a full queue and a dead broker (--full: 2 GiB, an hour): memory, and whether it lives",
        run: small_box::small_box,
    },
    Row {
        name: "restart",
        what: "killed with a backlog: until the first record is in Kafka",
        run: backlog::restart,
    },
    Row {
        name: "sink-null",
        what: "docs/s on a server that discards / the driver's typed inserts; CPU, peak memory",
        run: sink::null,
    },
    Row {
        name: "sink-real",
        what: "docs/s on the stack's server / the driver's typed inserts",
        run: sink::real,
    },
    Row {
        name: "idle",
        what: "memory, CPU, writes of the agent without readings; size of its binary",
        run: live::idle,
    },
    Row {
        name: "live",
        what: "MQTT to Kafka with fdatasync / subscribe, decode, produce without storage",
        run: live::live,
    },
    Row {
        name: "live-cpu",
        what: "CPU of that per reading / the bare loop with a raw append",
        run: live::cpu,
    },
    Row {
        name: "durability-cost",
        what: "20 000 arrivals a second with fdatasync / without",
        run: live::durability_cost,
    },
    Row {
        name: "slow-disk",
        what: "rate with 5 and 20 ms more for each sync / without",
        run: live::slow_disk,
    },
    Row {
        name: "drain",
        what: "a backlog to Kafka / raw produce of prepared records; live traffic meanwhile",
        run: backlog::drain,
    },
    Row {
        name: "latency",
        what: "p99 at 5 000 a second, open loop, from the intended send to MongoDB's acknowledgement",
        run: live::latency,
    },
    Row {
        name: "overload",
        what: "goodput at twice the peak / at the peak; memory",
        run: live::overload,
    },
    Row {
        name: "wire",
        what: "bytes to Kafka per reading, in each form with each compression",
        run: wire::wire,
    },
    Row {
        name: "serial",
        what: "921 600 baud with one byte in a hundred damaged: intact frames delivered, CPU",
        run: serial::serial,
    },
    Row {
        name: "audit",
        what: "an audit by what the sink noted, and by counting documents",
        run: fleet::audit,
    },
    Row {
        name: "decode",
        what: "readings a second on one core, for each decoder",
        run: decoders::decoders,
    },
    Row {
        name: "fleet",
        what: "10 to 1 000 gateways into one, two and three sinks: CPU, lag, rebalance",
        run: fleet::fleet,
    },
];

/// The rows whose name begins with one of `names`.
///
/// # Errors
/// A name that is none.
pub fn chosen(names: &[String]) -> Result<Vec<&'static Row>> {
    for name in names {
        let known = ALL.iter().any(|row| row.name.starts_with(name.as_str()));
        ensure!(known, "no row is called {name}; --list names them");
    }
    let wanted = |row: &&Row| {
        names.is_empty() || names.iter().any(|name| row.name.starts_with(name.as_str()))
    };
    Ok(ALL.iter().filter(wanted).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_chosen_by_the_beginning_of_its_name() {
        let names = |asked: &[&str]| -> Vec<&str> {
            let asked: Vec<String> = asked.iter().map(ToString::to_string).collect();
            chosen(&asked).unwrap().iter().map(|row| row.name).collect()
        };
        assert_eq!(names(&["append"]), ["append-1000", "append-1"]);
        assert_eq!(names(&[]).len(), ALL.len());
        assert!(chosen(&["nonsense".to_owned()]).is_err());
    }
}
