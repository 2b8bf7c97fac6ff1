//! `edge-agent check --online`, this side: how long the uplink may be away.
//!
//! How many readings come in a second is known to an agent that runs, whose status page tells the offline budget.
//! Here it is known only while readings wait, from those; without them the room is told in readings, and what that is
//! in days for two rates that people have.

use std::{io::ErrorKind, time::Duration};

use super::online::Report;
use crate::{
    cli::queue::{counted, grouped, rounded},
    clock::Clock,
    config::{Config, Queue, show_bytes, show_duration},
    queue::{Stat, inspect},
};

/// Below so many readings on the disk what one takes is not known.
const ENOUGH: u64 = 100;
/// What a reading of a few values takes, packed with others.
const USUAL_BYTES: u64 = 160;
/// Below such an age of the oldest, what waits says nothing of how fast it came.
const LONG: Duration = Duration::from_secs(600);

/// Says it of every lane.
pub fn look(config: &Config, report: &mut Report) {
    let dir = config.agent.state_dir.join("queue");
    let now = Clock::new().now().wall.as_micros();
    for topic in config.lanes() {
        let queue = config.queue_of(topic);
        let stat = match inspect::stat(&dir, topic.as_str()) {
            Ok(seen) => seen.stat,
            Err(error) if error.kind() == ErrorKind::NotFound => Stat::default(),
            Err(error) => {
                let why = match error.kind() {
                    ErrorKind::PermissionDenied => "; run this as root, or as the agent's user",
                    _ => "; edge-agent queue verify says more",
                };
                report.line(format_args!(
                    "queue      {topic}  not looked at: {error}{why}"
                ));
                continue;
            }
        };
        let age = stat.oldest_committed.and_then(|oldest| {
            let micros = u64::try_from(now - oldest).ok()?;
            Some(Duration::from_micros(micros))
        });
        // Of a directory that is not there yet, the disk is that of the nearest one above it.
        let free = dir
            .ancestors()
            .find_map(|dir| inspect::free_bytes(dir).ok());
        match room(&stat, age, free.unwrap_or(u64::MAX), &queue) {
            Ok(text) => report.line(format_args!("queue      {topic}  ok   {text}")),
            Err((message, fix)) => {
                report.fail_at("queue     ", topic.as_str(), &message, fix);
            }
        }
    }
}

/// What there is room for, or why for nothing, and the remedy.
fn room(
    stat: &Stat,
    oldest: Option<Duration>,
    free: u64,
    queue: &Queue,
) -> Result<String, (String, &'static str)> {
    let on_disk = free.saturating_sub(queue.min_free_bytes);
    if on_disk == 0 {
        let (free, kept) = (rounded(free), show_bytes(queue.min_free_bytes));
        let message =
            format!("the disk has {free} left, of which queue.min_free_bytes keeps {kept}");
        let fix = "make room on it, or move agent.state_dir to another: no reading is taken now";
        return Err((message, fix));
    }
    let own = queue.max_bytes.saturating_sub(stat.bytes);
    let each = match stat.stored {
        ENOUGH.. => (stat.bytes / stat.stored).max(1),
        _ => USUAL_BYTES,
    };
    let readings = own.min(on_disk) / each;
    let mut text = format!(
        "{} waiting, room for about {} readings of {each} B: ",
        grouped(stat.readings),
        grouped(readings)
    );
    let lasts = |millis_each: u64| {
        let room = Duration::from_millis(readings.saturating_mul(millis_each));
        if room >= queue.max_age {
            format!("max_age, {},", show_duration(queue.max_age))
        } else {
            in_words(room)
        }
    };
    match oldest.filter(|age| *age >= LONG && stat.readings >= ENOUGH) {
        Some(age) => {
            let millis = u64::try_from(age.as_millis()).unwrap_or(u64::MAX) / stat.readings;
            text += &format!("{} at the rate of those that wait", lasts(millis));
        }
        None => {
            text += &format!("{} at 10 a second, {} at 100", lasts(100), lasts(10));
        }
    }
    if on_disk < own {
        let left = rounded(free);
        text += &format!("; the disk has less than queue.max_bytes left, {left}");
    }
    Ok(text)
}

/// Rounded down: `15 days`, `37 hours`, `12 minutes`.
fn in_words(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..7200 => counted(seconds / 60, "minute"),
        7200..172_800 => counted(seconds / 3600, "hour"),
        _ => counted(seconds / 86_400, "day"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_told_in_readings_and_in_time_as_far_as_the_rate_is_known() {
        const GIB: u64 = 1 << 30;
        let queue = Queue::default();
        let hours = |n: u64| Some(Duration::from_secs(n * 3600));
        let stat = |readings, bytes| Stat {
            readings,
            stored: readings,
            bytes,
            ..Stat::default()
        };
        for (what, stat, oldest, free, expected) in [
            (
                "nothing is known",
                stat(0, 0),
                None,
                64 * GIB,
                "0 waiting, room for about 13 421 772 readings of 160 B: 15 days at 10 a second, 37 hours at 100",
            ),
            (
                "some wait",
                stat(36_000, 36_000 * 200),
                hours(1),
                64 * GIB,
                "36 000 waiting, room for about 10 701 418 readings of 200 B: 12 days at the rate of those that wait",
            ),
            (
                "so few that age is the bound",
                stat(100, 20_000),
                hours(10),
                64 * GIB,
                "100 waiting, room for about 10 737 318 readings of 200 B: max_age, 30d, at the rate of those that wait",
            ),
            (
                "a small disk",
                stat(0, 0),
                None,
                80 << 20,
                "0 waiting, room for about 104 857 readings of 160 B: 2 hours at 10 a second, 17 minutes at 100; \
                 the disk has less than queue.max_bytes left, 80 MiB",
            ),
        ] {
            assert_eq!(
                room(&stat, oldest, free, &queue).as_deref(),
                Ok(expected),
                "{what}"
            );
        }
        let (message, _) = room(&stat(0, 0), None, 5 << 20, &queue).unwrap_err();
        assert_eq!(
            message,
            "the disk has 5 MiB left, of which queue.min_free_bytes keeps 64MiB"
        );
    }
}
