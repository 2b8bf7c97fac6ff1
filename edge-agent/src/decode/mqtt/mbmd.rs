//! mbmd, which reads Modbus meters and inverters.
//!
//! Sources: github.com/volkszaehler/mbmd, `README.md`, `meters/measurements.go` (names and units),
//! `server/mqtt.go` (topics, will).
//!
//! | topic | payload | here |
//! |---|---|---|
//! | `mbmd/sdm1-1/Power` | `288.100` | `power_w` |
//! | `mbmd/sdm1-1/Voltage/L1`, older `…/VoltageL1` | `230.210` | `voltage_l1_v` |
//! | `mbmd/status` | `connected`, `disconnected` | link of mbmd |

use super::{
    Message, NEITHER, Outcome, availability,
    gather::{Gather, Unit, snake},
};
use crate::decode::{DecodeError, Problem, Scalar};

/// Reads one message.
///
/// # Errors
/// A topic that names no value, a payload that is no text.
pub fn decode(message: &Message<'_>) -> Result<Outcome, DecodeError> {
    let levels: Vec<&str> = message.topic.split('/').collect();
    let (last, above) = levels.split_last().unwrap_or((&"", &[]));
    if last.eq_ignore_ascii_case("status") {
        // `mbmd/status` is the daemon; one level more is a meter.
        let device = (above.len() > 1).then(|| above.last().copied()).flatten();
        return match availability(message.payload) {
            Some(online) => Ok(Outcome::link(device, online)),
            None => Err(NEITHER),
        };
    }
    let part = |text: &str| {
        let mut chars = text.chars();
        matches!(chars.next(), Some('L' | 'T' | 'S')) && chars.as_str().parse::<u8>().is_ok()
    };
    let (quantity, above) = match above.split_last() {
        Some((quantity, above)) if part(last) => (format!("{quantity}{last}"), above),
        _ => ((*last).to_owned(), above),
    };
    let Some(device) = message.device.or(above.last().copied()) else {
        return Err(DecodeError::NoDevice);
    };
    let text = std::str::from_utf8(message.payload)
        .map_err(|error| DecodeError::NotUtf8(error.valid_up_to()))?;
    let name = snake(&quantity).to_ascii_lowercase();
    // Capitals without an end.
    let name = match name.strip_prefix("thdl") {
        Some(phase) => format!("thd_l{phase}"),
        None => name,
    };
    let unit = unit(&name).map_or(Unit::Unknown, Unit::Is);
    let mut gather = Gather::of(Some(device));
    match Scalar::bare(text.trim()) {
        number @ Scalar::Number(_) => gather.leaf(&name, unit, &number)?,
        Scalar::Null => {}
        _ => gather.reject(&name, Problem::Word)?,
    }
    Ok(Outcome::reading(gather.finish()))
}

/// By the words of a measurement, its phase or tariff left out.
fn unit(name: &str) -> Option<&'static str> {
    let words: Vec<&str> = name.split('_').collect();
    let has = |word| words.contains(&word);
    let reactive = has("reactive");
    Some(if has("frequency") {
        "Hz"
    } else if has("power") {
        match (reactive, has("apparent")) {
            (true, _) => "var",
            (_, true) => "VA",
            _ if has("factor") => return None,
            _ => "W",
        }
    } else if has("current") {
        "A"
    } else if has("voltage") {
        "V"
    } else if has("thd") || (has("charge") && has("state")) {
        "%"
    } else if has("sum") || has("import") || has("export") || has("net") || has("energy") {
        if reactive { "kvarh" } else { "kWh" }
    } else if has("temp") || has("temperature") {
        "°C"
    } else if has("angle") {
        "deg"
    } else {
        return None;
    })
}
