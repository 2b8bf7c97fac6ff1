//! What an operator sees, and what never happens to a log.

use std::{
    io,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tracing::{error, info, subscriber::with_default, warn};

use super::{line::MAX_LINE, *};

#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl io::Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn written(form: Form, log: impl FnOnce()) -> String {
    let kept = Kept::default();
    let writer = kept.clone();
    let layer = tracing_subscriber::fmt::layer()
        .event_format(Lines::new(form, false))
        .with_writer(move || writer.clone());
    with_default(Registry::default().with(layer), log);
    let bytes = kept.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

fn one_of_each() {
    let (reason, device) = ("no value", Some("gw7/meter-1"));
    error!(
        reason,
        device,
        none = None::<u64>,
        p99 = 0.5,
        lost = false,
        "dead letter"
    );
    warn!(reason = %format_args!("a \"b\"\nc=d"), retry_in = ?Duration::from_secs(2), "mongodb away");
}

#[test]
fn an_entry_of_the_journal_has_the_priority_and_each_field_beside_the_line() {
    assert_eq!(
        written(Form::Journal, one_of_each),
        "PRIORITY=3\nF_MSG=dead letter\nF_REASON=no value\nF_DEVICE=gw7/meter-1\nF_P99=0.5\nF_LOST=false\n\
         MESSAGE=level=error msg=\"dead letter\" reason=\"no value\" device=gw7/meter-1 p99=0.5 lost=false\n\n\
         PRIORITY=4\nF_MSG=mongodb away\nF_REASON=a \"b\" c=d\nF_RETRY_IN=2s\n\
         MESSAGE=level=warn msg=\"mongodb away\" reason=\"a \\\"b\\\"\\nc=d\" retry_in=2s\n\n"
    );
}

#[test]
fn a_line_is_logfmt_with_level_text_and_fields_in_their_order() {
    assert_eq!(
        written(Form::Logfmt, one_of_each),
        "level=error msg=\"dead letter\" reason=\"no value\" device=gw7/meter-1 p99=0.5 lost=false\n\
         level=warn msg=\"mongodb away\" reason=\"a \\\"b\\\"\\nc=d\" retry_in=2s\n"
    );
}

#[test]
fn a_line_is_one_json_object_by_flag() {
    let text = written(Form::Json, one_of_each);
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines[0]["msg"], "dead letter");
    assert_eq!(lines[0]["p99"], 0.5);
    assert_eq!(lines[1]["reason"], "a \"b\"\nc=d");
    assert_eq!(lines[1]["level"], "warn");
}

#[test]
fn no_line_is_longer_than_a_kilobyte_whatever_is_in_it() {
    let long = "\u{1}ä\"".repeat(10_000);
    for form in [Form::Logfmt, Form::Json, Form::Terminal] {
        let text = written(form, || {
            info!(a = %long, b = long, c = ?vec![1; 10_000], d = %long, e = 7, "long");
        });
        assert!(text.len() <= MAX_LINE, "{form:?}: {}", text.len());
        assert!(text.contains("cut"), "{text}");
        if form == Form::Json {
            serde_json::from_str::<serde_json::Value>(&text).unwrap();
        }
    }
}

#[test]
fn a_storm_of_one_line_becomes_a_count_and_others_are_heard() {
    let text = written(Form::Logfmt, || {
        for n in 0..1000 {
            warn!(n, "storm");
        }
        info!("calm");
    });
    assert_eq!(text.matches("msg=storm").count(), repeats::BURST as usize);
    assert!(text.ends_with("level=info msg=calm\n"), "{text}");
}

#[test]
fn a_dozen_links_that_come_up_together_are_each_named() {
    let text = written(Form::Logfmt, || {
        for number in 0..12 {
            let name = format!("line-{number}");
            let name = name.as_str();
            info!(link = "serial", name, "link up");
        }
        for _ in 0..1000 {
            info!(link = "serial", name = "loose", "link up");
        }
    });
    for number in 0..12 {
        assert!(text.contains(&format!("name=line-{number}\n")), "{text}");
    }
    let loose = text.matches("name=loose\n").count();
    assert_eq!(loose, repeats::BURST as usize, "{text}");
}

#[test]
fn ten_minutes_of_one_trouble_at_five_thousand_a_second_are_at_most_twenty_lines() {
    let start = Instant::now();
    let mut repeats = Repeats::default();
    let (mut lines, mut counted) = (0, 0);
    for millis in 0..600_000_u64 {
        let now = start + Duration::from_millis(millis);
        for _ in 0..5 {
            if let Heard::Say { unsaid } =
                repeats.hears("place", now, || (Level::WARN, "trouble".into()))
            {
                lines += 1;
                counted += unsaid + 1;
            }
        }
    }
    let rest = repeats.overdue(start + Duration::from_secs(3600));
    assert!(lines + rest.len() <= 20, "{lines} lines");
    let rest: u64 = rest.iter().map(|(.., count)| count).sum();
    assert_eq!(counted + rest, 3_000_000, "none is forgotten");
}

#[test]
fn a_place_that_calms_down_speaks_freely_again() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut repeats = Repeats::default();
    let mut hears =
        |number, seconds| repeats.hears(number, at(seconds), || (Level::WARN, "x".into()));
    for _ in 0..5 {
        assert_eq!(hears(0, 0), Heard::Say { unsaid: 0 });
    }
    assert_eq!(hears(0, 1), Heard::Hold);
    assert_eq!(hears(1, 1), Heard::Say { unsaid: 0 }, "another place");
    assert_eq!(hears(0, 11), Heard::Say { unsaid: 1 });
    assert_eq!(hears(0, 12), Heard::Hold, "once a window now");
    assert_eq!(hears(0, 40), Heard::Say { unsaid: 1 });
    assert_eq!(hears(0, 100), Heard::Say { unsaid: 0 });
    assert_eq!(hears(0, 101), Heard::Say { unsaid: 0 });
}
