//! Victron VE.Direct, text mode: solar chargers, battery monitors, inverters, smart shunts.
//!
//! Source: Victron Energy, "VE.Direct Protocol", rev. 3.33; framing, and what HEX messages do to it: Victron's
//! "VE.Direct Protocol FAQ" with its reference frame handler. 19 200 baud 8N1, one block a second.
//!
//! ```text
//! block     field … , the sum of all its bytes is 0 modulo 256
//! field     CR LF label TAB value
//! the last  CR LF "Checksum" TAB byte            any byte, also CR, LF, TAB or ':'
//! HEX       ':' hex digits LF (or CR LF)         at any time, also within a field; not in the sum
//! ```
//!
//! A monitor's fields come in two blocks in turn, each a reading of its own. Labels nobody knows keep
//! their name, made canonical. Values are in the units of the field names (mV become V). HEX messages are
//! answers to somebody's questions: passed over.
//!
//! # Damage
//! One byte of checksum lets one bad block in 256 pass; nothing can be done about that here. A block whose
//! `Checksum` label is damaged runs into the next one: the next is then found by a label that begins
//! blocks (`PID`, `H1`, or what began the last good one). A checksum byte that was lost takes the CR of the next
//! block for itself: that CR is given back. A stream that begins in the middle, or without its
//! first CR LF because somebody trimmed a file, is read from the first whole block on.
//!
//! Written by hand: the `vedirect` crate (0.2, 2021) fails on labels it does not know and ends at a HEX message.

use super::{
    Decoded,
    stream::{Cut, Fault, Step},
    values::Values,
};

/// Longest block, HEX messages included: 22 fields of 9 and 32 characters are 1 KiB.
const MAX_BLOCK: usize = 4096;
/// Longest HEX message.
const MAX_HEX: usize = 160;
const CHECKSUM: &[u8] = b"Checksum\t";
/// Labels that begin a block.
const FIRST: [&str; 2] = ["PID", "H1"];
/// What began a block before there was a `PID`.
const OLD_FIRST: &[u8] = b"V\t";

/// The format.
#[derive(Debug, Default)]
pub(crate) struct VeDirect {
    /// What began the last good block.
    first: Option<Box<str>>,
    /// Who sent it, for the blocks that do not say.
    serial: Option<String>,
    started: bool,
}

/// Text with the HEX messages taken out.
struct Text {
    bytes: Vec<u8>,
    /// Where each of them stood.
    from: Vec<usize>,
}

impl Cut for VeDirect {
    fn next(&mut self, held: &[u8], end: bool, out: &mut Vec<Decoded>) -> Step {
        let (text, len) = match gather(held) {
            Some(found) => found,
            None if held.len() >= MAX_BLOCK => return Step::Reject(held.len(), Fault::TooLong),
            None if end => return self.rest(held),
            None => return Step::Wait,
        };
        // Whether the byte after the checksum is LF tells a lost checksum; without it, wait.
        let stolen = held[len - 1] == b'\r';
        let sum = text.bytes.iter().fold(0u8, |sum, &b| sum.wrapping_add(b));
        let first_of_all = !std::mem::replace(&mut self.started, true);
        // CR LF in front of a file's first label are easily lost.
        let trimmed = first_of_all && text.bytes.first().is_some_and(u8::is_ascii_alphanumeric);
        // One beginning in 256 of those in the middle of a block adds up as well.
        let believable = !trimmed || self.begins(&text.bytes) || text.bytes.starts_with(OLD_FIRST);
        if believable && (sum == 0 || (trimmed && sum.wrapping_add(b'\r' + b'\n') == 0)) {
            match self.block(&text.bytes) {
                Some(decoded) => {
                    out.push(decoded);
                    return Step::Take(len);
                }
                None => return Step::Reject(len, Fault::Malformed("block without fields")),
            }
        }
        if stolen && held.len() == len && !end {
            self.started = !first_of_all;
            return Step::Wait;
        }
        let len = if stolen && held.get(len) == Some(&b'\n') {
            len - 1
        } else {
            len
        };
        let fault = if first_of_all && !self.begins(&text.bytes) {
            Fault::Lead
        } else {
            let got = u16::from(text.bytes.last().copied().unwrap_or(0));
            let expected = got.wrapping_sub(u16::from(sum)) & 0xff;
            Fault::Checksum { got, expected }
        };
        Step::Reject(self.next_start(&text).unwrap_or(len).min(len), fault)
    }
}

/// The text up to and with the first checksum, and how many bytes that took.
fn gather(held: &[u8]) -> Option<(Text, usize)> {
    let mut text = Text {
        bytes: Vec::with_capacity(held.len().min(512)),
        from: Vec::with_capacity(held.len().min(512)),
    };
    let mut at = 0;
    while at < held.len() {
        let byte = held[at];
        let last = text.bytes.ends_with(CHECKSUM);
        if byte == b':' && !last {
            let hex = &held[at + 1..];
            let digits = hex.iter().take_while(|b| b.is_ascii_hexdigit()).count();
            match hex[digits..] {
                [b'\n', ..] if digits <= MAX_HEX => {
                    at += digits + 2;
                    continue;
                }
                // Some adapters make CR LF of it.
                [b'\r', b'\n', ..] if (1..=MAX_HEX).contains(&digits) => {
                    at += digits + 3;
                    continue;
                }
                [] | [b'\r'] if digits <= MAX_HEX => return None,
                // A colon and no message: damage, left in so that the sum tells.
                _ => {}
            }
        }
        text.bytes.push(byte);
        text.from.push(at);
        at += 1;
        if last {
            return Some((text, at));
        }
    }
    None
}

impl VeDirect {
    /// The stream ends within a block; HEX messages alone are nothing that ends.
    fn rest(&self, held: &[u8]) -> Step {
        let only_hex = held.split_inclusive(|&b| b == b'\n').all(|line| {
            let line = line.trim_ascii();
            line.is_empty()
                || line
                    .strip_prefix(b":")
                    .is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
        });
        if only_hex {
            Step::Take(held.len())
        } else {
            Step::Reject(held.len(), Fault::Truncated)
        }
    }

    /// Where in a bad block another block seems to begin.
    fn next_start(&self, text: &Text) -> Option<usize> {
        let labels = text.bytes.windows(2).enumerate().skip(1);
        labels
            .filter(|(_, two)| *two == b"\r\n")
            .find(|&(at, _)| self.begins(&text.bytes[at..]))
            .and_then(|(at, _)| text.from.get(at).copied())
    }

    fn begins(&self, text: &[u8]) -> bool {
        let text = text.strip_prefix(b"\r\n").unwrap_or(text);
        FIRST.into_iter().chain(self.first.as_deref()).any(|label| {
            text.strip_prefix(label.as_bytes())
                .is_some_and(|r| r.starts_with(b"\t"))
        })
    }

    fn block(&mut self, text: &[u8]) -> Option<Decoded> {
        let end = text.len().saturating_sub(CHECKSUM.len() + 1);
        let mut values = Values::default();
        let mut first = None;
        for line in text[..end].split(|&b| b == b'\n') {
            let line = String::from_utf8_lossy(line.trim_ascii());
            let Some((label, value)) = line.split_once('\t') else {
                continue;
            };
            first.get_or_insert_with(|| Box::from(label));
            self.field(label, value, &mut values);
        }
        if values.is_empty() {
            return None;
        }
        self.first = first;
        let mut decoded = values.finish();
        decoded.device = self.serial.clone();
        Some(decoded)
    }

    fn field(&mut self, label: &str, value: &str, values: &mut Values) {
        match label {
            "PID" => values.meta("model", value),
            "FW" | "FWE" => values.meta("firmware", value),
            "BMV" => values.meta("monitor", value),
            "SER#" => {
                values.meta("serial", value);
                if !value.is_empty() {
                    self.serial = Some(value.to_owned());
                }
            }
            _ => put(label, value, values),
        }
    }
}

/// Label, name, and the power of ten that makes its unit of the one sent.
const QUANTITIES: [(&str, &str, i32); 58] = [
    ("V", "battery_voltage_v", -3),
    ("V2", "battery_2_voltage_v", -3),
    ("V3", "battery_3_voltage_v", -3),
    ("VS", "starter_voltage_v", -3),
    ("VM", "midpoint_voltage_v", -3),
    ("DM", "midpoint_deviation_pct", -1),
    ("VPV", "panel_voltage_v", -3),
    ("PPV", "panel_power_w", 0),
    ("I", "battery_current_a", -3),
    ("I2", "battery_2_current_a", -3),
    ("I3", "battery_3_current_a", -3),
    ("IL", "load_current_a", -3),
    ("T", "battery_temperature_c", 0),
    ("P", "battery_power_w", 0),
    ("CE", "consumed_charge_ah", -3),
    ("SOC", "state_of_charge_pct", -1),
    ("AR", "alarm_reason", 0),
    ("ERR", "error_code", 0),
    ("CS", "charge_state", 0),
    ("MPPT", "tracker_mode", 0),
    ("MODE", "device_mode", 0),
    ("WARN", "warning_reason", 0),
    ("MON", "monitor_mode", 0),
    ("HSDS", "history_day", 0),
    ("H1", "deepest_discharge_ah", -3),
    ("H2", "last_discharge_ah", -3),
    ("H3", "average_discharge_ah", -3),
    ("H4", "charge_cycles", 0),
    ("H5", "full_discharges", 0),
    ("H6", "drawn_charge_ah", -3),
    ("H7", "battery_voltage_min_v", -3),
    ("H8", "battery_voltage_max_v", -3),
    ("H9", "time_since_full_charge_s", 0),
    ("H10", "synchronisations", 0),
    ("H11", "low_voltage_alarms", 0),
    ("H12", "high_voltage_alarms", 0),
    ("H13", "low_starter_voltage_alarms", 0),
    ("H14", "high_starter_voltage_alarms", 0),
    ("H15", "starter_voltage_min_v", -3),
    ("H16", "starter_voltage_max_v", -3),
    ("H17", "discharged_energy_kwh", -2),
    ("H18", "charged_energy_kwh", -2),
    ("H19", "yield_total_kwh", -2),
    ("H20", "yield_today_kwh", -2),
    ("H21", "panel_power_max_today_w", 0),
    ("H22", "yield_yesterday_kwh", -2),
    ("H23", "panel_power_max_yesterday_w", 0),
    ("AC_OUT_V", "ac_out_voltage_v", -2),
    ("AC_OUT_I", "ac_out_current_a", -1),
    ("AC_OUT_S", "ac_out_apparent_power_va", 0),
    ("DC_IN_V", "dc_in_voltage_v", -2),
    ("DC_IN_I", "dc_in_current_a", -1),
    ("DC_IN_P", "dc_in_power_w", 0),
    ("OR", "off_reason", 0),
    ("CAP_BLE", "bluetooth_capabilities", 0),
    ("LOAD", "load_on", 0),
    ("Relay", "relay_on", 0),
    ("Alarm", "alarm_on", 0),
];

fn put(label: &str, value: &str, values: &mut Values) {
    // A quantity that is not known is sent as dashes.
    if value.is_empty() || value == "---" {
        return;
    }
    let state = match value {
        _ if value.eq_ignore_ascii_case("on") => Some(true),
        _ if value.eq_ignore_ascii_case("off") => Some(false),
        _ => None,
    };
    let known = QUANTITIES.iter().find(|(have, ..)| *have == label);
    let name = known.map_or(label, |(_, name, _)| name);
    if label == "TTG" {
        // Minutes; -1: never, at this rate.
        if value != "-1" {
            values.measured("time_to_go", "min", value);
        }
    } else if let Some(state) = state {
        values.flag(name, state);
    } else if let Some(Ok(number)) = value
        .strip_prefix("0x")
        .map(|hex| u32::from_str_radix(hex, 16))
    {
        values.float(name, f64::from(number));
    } else if let Some((_, name, exponent)) = known {
        values.decimal(name, value, *exponent);
    } else if super::values::decimal(value, 0).is_some() {
        values.decimal(name, value, 0);
    } else {
        values.text(name, value);
    }
}

#[cfg(test)]
mod tests;
