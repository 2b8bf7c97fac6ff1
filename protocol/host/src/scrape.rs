//! The form of a scrape: OpenMetrics for who asks for it, else the text format that everything reads.
//!
//! Prometheus asks for OpenMetrics (`Accept: application/openmetrics-text`). `curl`, `promtool check metrics` and
//! scrapers with a parser of the older format do not, and take a counter for one without a help text there: OpenMetrics
//! declares `x` and counts `x_total`, the older format calls it `x_total` in both places. Everything else is the same,
//! and what OpenMetrics alone has (`# UNIT`, `# EOF`) is left out.

use std::collections::HashSet;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The content type and the text for a request with this `Accept`, of a scrape in OpenMetrics.
#[must_use]
pub fn answer(accept: Option<&str>, open_metrics: String) -> (&'static str, String) {
    if accept.is_some_and(wants_open_metrics) {
        return (OPEN_METRICS, open_metrics);
    }
    (TEXT, older(&open_metrics))
}

/// Whoever names it prefers it: nobody lists it behind the older one. With `q=0` it is refused.
fn wants_open_metrics(accept: &str) -> bool {
    accept.split(',').any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let named = parts
            .next()
            .is_some_and(|kind| kind.eq_ignore_ascii_case("application/openmetrics-text"));
        let refused = |part: &str| {
            let weight = part.strip_prefix("q=").and_then(|q| q.parse::<f32>().ok());
            weight.is_some_and(|weight| weight <= 0.0)
        };
        named && !parts.any(refused)
    })
}

/// A declaration: its word, the metric, and the rest.
fn declaration(line: &str) -> Option<(&str, &str, &str)> {
    let (word, rest) = line.strip_prefix("# ")?.split_once(' ')?;
    let (name, rest) = rest.split_once(' ')?;
    Some((word, name, rest))
}

fn older(open_metrics: &str) -> String {
    // The help comes before the type.
    let counters: HashSet<&str> = open_metrics
        .lines()
        .filter_map(declaration)
        .filter(|(word, _, rest)| (*word, *rest) == ("TYPE", "counter"))
        .map(|(_, name, _)| name)
        .collect();
    let mut text = String::with_capacity(open_metrics.len() + 8 * counters.len());
    for line in open_metrics.lines().filter(|line| *line != "# EOF") {
        match declaration(line) {
            Some(("UNIT", ..)) => continue,
            Some((word, name, rest)) if counters.contains(name) => {
                text.extend(["# ", word, " ", name, "_total ", rest]);
            }
            _ => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRAPE: &str = "# HELP edge_readings_received Readings that came from a source.\n\
        # TYPE edge_readings_received counter\n\
        edge_readings_received_total 7\n\
        # HELP edge_uptime_seconds Seconds since the start.\n\
        # TYPE edge_uptime_seconds gauge\n\
        # UNIT edge_uptime_seconds seconds\n\
        edge_uptime_seconds 3\n\
        # EOF\n";

    #[test]
    fn who_does_not_ask_for_openmetrics_gets_counters_by_their_whole_name() {
        let expected = "# HELP edge_readings_received_total Readings that came from a source.\n\
            # TYPE edge_readings_received_total counter\n\
            edge_readings_received_total 7\n\
            # HELP edge_uptime_seconds Seconds since the start.\n\
            # TYPE edge_uptime_seconds gauge\n\
            edge_uptime_seconds 3\n";
        for accept in [
            None,
            Some("*/*"),
            Some("text/plain;version=0.0.4"),
            Some("application/openmetrics-text;q=0, text/plain"),
            Some("application/json"),
        ] {
            let got = answer(accept, SCRAPE.to_owned());
            assert_eq!(got, (TEXT, expected.to_owned()), "{accept:?}");
        }
    }

    #[test]
    fn prometheus_gets_openmetrics_as_it_was_written() {
        // As Prometheus 2 and 3 ask.
        for accept in [
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
             text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "application/openmetrics-text; version=1.0.0; escaping=allow-utf-8; q=0.5, text/plain;q=0.2",
        ] {
            let got = answer(Some(accept), SCRAPE.to_owned());
            assert_eq!(got, (OPEN_METRICS, SCRAPE.to_owned()), "{accept}");
        }
    }
}
