//! Log lines on stderr: logfmt on a pipe, colours on a terminal, JSON by flag; where stderr is systemd's journal,
//! entries with a priority and fields.

mod incidents;
mod journal;
mod line;
mod repeats;

use std::{
    fmt,
    io::{self, IsTerminal},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use tracing::{Event, Level, Subscriber, callsite::Identifier};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::LevelFilter,
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer, writer::BoxMakeWriter},
    layer::SubscriberExt,
    registry::{LookupSpan, Registry},
    util::SubscriberInitExt,
};

pub use self::incidents::{Incident, recent};
use self::{
    incidents::Incidents,
    journal::Journal,
    line::{Form, Line},
    repeats::{Heard, Repeats},
};

/// `--log`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// logfmt, or coloured lines on a terminal.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging. `RUST_LOG` chooses levels; the default is `info`.
pub fn start(format: Format) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let journal = match format {
        Format::Json => None,
        Format::Text => Journal::of_stderr(),
    };
    let form = match format {
        Format::Json => Form::Json,
        Format::Text if journal.is_some() => Form::Journal,
        Format::Text if io::stderr().is_terminal() => Form::Terminal,
        Format::Text => Form::Logfmt,
    };
    // The journal has times of its own.
    let timed = form != Form::Journal;
    let out = match journal {
        Some(journal) => BoxMakeWriter::new(Arc::new(journal)),
        None => BoxMakeWriter::new(io::stderr),
    };
    let layer = tracing_subscriber::fmt::layer()
        .event_format(Lines::new(form, timed))
        .with_writer(out)
        .with_filter(filter);
    // Fails only when a test has started logging before.
    if Registry::default()
        .with(layer)
        .with(Incidents.with_filter(LevelFilter::WARN))
        .try_init()
        .is_err()
    {
        tracing::debug!("logging was started before");
    }
}

/// Writes events as [`Line`]s, and what repeats itself as a count.
struct Lines {
    form: Form,
    timed: bool,
    /// By place in the source, and by link where it is of one.
    repeats: Mutex<Repeats<(Identifier, Option<String>)>>,
}

impl Lines {
    fn new(form: Form, timed: bool) -> Self {
        Self {
            form,
            timed,
            repeats: Mutex::default(),
        }
    }

    fn line(&self, level: Level) -> Line {
        let time = self.timed.then(jiff::Timestamp::now);
        Line::begin(self.form, level, time)
    }

    /// Whether the event is to be written, and how many like it were not before; with the lines that
    /// are due for others.
    fn judge(&self, event: &Event<'_>) -> (Heard, Vec<String>) {
        let level = *event.metadata().level();
        if level > Level::INFO || event.metadata().target().ends_with("::every") {
            // Who asks for more wants all of it; and so does who waits for an answer to his command.
            return (Heard::Say { unsaid: 0 }, Vec::new());
        }
        // A panic elsewhere leaves the counts whole.
        let mut repeats = self.repeats.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let place = (event.metadata().callsite(), line::link_name(event));
        let heard = repeats.hears(place, now, || (level, line::message(event)));
        let due = repeats
            .overdue(now)
            .into_iter()
            .map(|((_, link), level, text, count)| {
                let mut line = self.line(level);
                line.text("msg", &text);
                if let Some(name) = link {
                    line.text("name", &name);
                }
                line.bare("repeats", &count);
                line.end()
            });
        (heard, due.collect())
    }
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _spans: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let (heard, due) = self.judge(event);
        for line in due {
            out.write_str(&line)?;
        }
        let Heard::Say { unsaid } = heard else {
            return Ok(());
        };
        let mut line = self.line(*event.metadata().level());
        event.record(&mut line);
        if unsaid > 0 {
            line.bare("repeats", &unsaid);
        }
        out.write_str(&line.end())
    }
}

#[cfg(test)]
mod tests;
