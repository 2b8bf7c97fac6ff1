//! Log lines on stderr: logfmt on a pipe, colours on a terminal, JSON by flag.

mod incidents;
mod line;
mod repeats;

use std::{
    fmt,
    io::{self, IsTerminal},
    sync::{Mutex, PoisonError},
    time::Instant,
};

use tracing::{Event, Level, Subscriber, callsite::Identifier};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::LevelFilter,
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    layer::SubscriberExt,
    registry::{LookupSpan, Registry},
    util::SubscriberInitExt,
};

pub use self::incidents::{Incident, recent};
use self::{
    incidents::Incidents,
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
    let form = match format {
        Format::Json => Form::Json,
        Format::Text if io::stderr().is_terminal() => Form::Terminal,
        Format::Text => Form::Logfmt,
    };
    // The journal has times of its own.
    let timed = form == Form::Json || std::env::var_os("JOURNAL_STREAM").is_none();
    let layer = tracing_subscriber::fmt::layer()
        .event_format(Lines::new(form, timed))
        .with_writer(io::stderr)
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
    repeats: Mutex<Repeats<Identifier>>,
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
        let heard = repeats.hears(event.metadata().callsite(), now, || {
            (level, line::message(event))
        });
        let due = repeats
            .overdue(now)
            .into_iter()
            .map(|(level, name, count)| {
                let mut line = self.line(level);
                line.text("msg", &name);
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
