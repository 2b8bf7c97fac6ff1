//! What a person sees: a block that stays in place on a terminal, a plain line every two seconds
//! elsewhere; events stand above it for good.

use std::{
    io::{IsTerminal, Write, stdout},
    time::{Duration, Instant},
};

use super::watch::Seen;
use crate::daemon::Link;

const PLAIN_EVERY: Duration = Duration::from_secs(2);

/// The screen.
pub struct View {
    started: Instant,
    terminal: bool,
    /// Lines of the block that stands at the bottom now.
    standing: usize,
    last_plain: Option<Instant>,
}

impl View {
    /// A view of a terminal, if stdout is one or somebody copies it to one.
    pub fn new(live: bool) -> Self {
        Self {
            started: Instant::now(),
            terminal: live || stdout().is_terminal(),
            standing: 0,
            last_plain: None,
        }
    }

    /// Says something that stays.
    pub fn event(&mut self, text: &str) {
        let mut out = self.erased();
        out.push_str(&format!("{} {text}\n", self.clock()));
        print(&out);
    }

    /// Shows the moment.
    pub fn show(&mut self, seen: &Seen) {
        if self.terminal {
            let mut out = self.erased();
            let width = width();
            let block = block(seen);
            self.standing = block.len();
            for line in block {
                out.extend(line.chars().take(width));
                out.push('\n');
            }
            print(&out);
        } else if self
            .last_plain
            .is_none_or(|last| last.elapsed() >= PLAIN_EVERY)
        {
            self.last_plain = Some(Instant::now());
            print(&format!("{} {}\n", self.clock(), plain(seen)));
        }
    }

    /// What takes the standing block away.
    fn erased(&mut self) -> String {
        match std::mem::take(&mut self.standing) {
            0 => String::new(),
            lines => format!("\x1b[{lines}A\x1b[J"),
        }
    }

    fn clock(&self) -> String {
        let seconds = self.started.elapsed().as_secs();
        format!("{:02}:{:02}", seconds / 60, seconds % 60)
    }
}

fn block(seen: &Seen) -> [String; 4] {
    [
        String::new(),
        format!(
            "  sent {:>7}   ▶   queued {:>6}   ▶   in Kafka {:>7}   ▶   in MongoDB {:>7}",
            seen.sent, seen.queued, seen.in_kafka, seen.stored
        ),
        format!("  edge-agent  {}", links(seen.agent.as_deref())),
        format!("  cloud-sink  {}", links(seen.sink.as_deref())),
    ]
}

fn plain(seen: &Seen) -> String {
    let mut away: Vec<String> = [("edge-agent", &seen.agent), ("cloud-sink", &seen.sink)]
        .into_iter()
        .flat_map(|(daemon, links)| match links {
            None => vec![daemon.to_owned()],
            Some(links) => links
                .iter()
                .filter(|link| link.state != "up")
                .map(|link| format!("{daemon}/{}", link.kind))
                .collect(),
        })
        .collect();
    away.dedup();
    let Seen {
        sent,
        queued,
        in_kafka,
        stored,
        ..
    } = seen;
    let down = if away.is_empty() {
        "none".to_owned()
    } else {
        away.join(",")
    };
    format!("sent={sent} queued={queued} kafka={in_kafka} mongodb={stored} down={down}")
}

fn links(links: Option<&[Link]>) -> String {
    let Some(links) = links else {
        return "✗ not running".to_owned();
    };
    let shown: Vec<String> = links
        .iter()
        .map(|link| {
            let mark = match link.state.as_str() {
                "up" => "●",
                "connecting" => "○",
                _ => "✗",
            };
            let name = if link.name == link.kind || link.name.is_empty() {
                link.kind.clone()
            } else {
                format!("{} {}", link.kind, link.name)
            };
            format!("{mark} {name}")
        })
        .collect();
    shown.join("   ")
}

fn width() -> usize {
    rustix::termios::tcgetwinsize(stdout()).map_or(80, |size| usize::from(size.ws_col.max(20)))
}

fn print(text: &str) {
    let mut out = stdout().lock();
    // Nobody looks at a screen that is gone; the play goes on to its verdict.
    drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}
