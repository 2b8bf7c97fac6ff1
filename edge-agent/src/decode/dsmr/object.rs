//! One object of a telegram: a code and its values.

use super::super::values::Values;

/// `A-B:C.D.E(value)(value)…`.
#[derive(Debug)]
pub(super) struct Object<'t> {
    /// A, B, C, D, E; F, as in `*255`, says nothing here.
    pub(super) code: (u8, u8, u8, u8, u8),
    /// What stands in parentheses.
    pub(super) values: Vec<&'t str>,
}

/// The objects of these lines, in order; a line that begins with a parenthesis goes on with the one
/// before. A line that is no object is given back, as are parentheses that do not match.
pub(super) fn objects<'t>(
    lines: impl Iterator<Item = &'t str>,
) -> Vec<Result<Object<'t>, &'t str>> {
    let mut objects: Vec<Result<Object<'t>, &'t str>> = Vec::new();
    for line in lines.map(str::trim) {
        if line.is_empty() || line == "!" {
            continue;
        }
        if line.starts_with('(')
            && let Some(Ok(last)) = objects.last_mut()
        {
            match values(line) {
                Some(more) => last.values.extend(more),
                None => objects.push(Err(line)),
            }
            continue;
        }
        objects.push(parse(line).ok_or(line));
    }
    objects
}

fn parse(line: &str) -> Option<Object<'_>> {
    let open = line.find('(')?;
    let (code, rest) = line.split_at(open);
    let code = code.split('*').next()?;
    let (medium, code) = code.split_once('-')?;
    let (channel, code) = code.split_once(':')?;
    let mut parts = code.split('.').map(|part| part.parse::<u8>().ok());
    let code = (
        medium.parse().ok()?,
        channel.parse().ok()?,
        parts.next()??,
        parts.next()??,
        parts.next().unwrap_or(Some(0))?,
    );
    Some(Object {
        code,
        values: values(rest)?,
    })
}

fn values(text: &str) -> Option<Vec<&str>> {
    let inner = text.strip_prefix('(')?.strip_suffix(')')?;
    let values: Vec<&str> = inner.split(")(").collect();
    let plain = |value: &&str| !value.contains(['(', ')']);
    values.iter().all(plain).then_some(values)
}

impl<'t> Object<'t> {
    pub(super) fn first(&self) -> &'t str {
        self.values.first().copied().unwrap_or("")
    }

    /// An object of the electricity meter itself, put under its name.
    pub(super) fn electricity(&self, values: &mut Values) {
        let (_, _, c, d, e) = self.code;
        // Logs of past months, and of failures.
        if matches!(c, 98 | 99) {
            return;
        }
        // The newest of several is last: 1.6.0 is (time)(value), logs are longer.
        let value = match self.values[..] {
            [value] | [_, value] => value,
            _ => return,
        };
        let (digits, unit) = value.split_once('*').unwrap_or((value, ""));
        let counter = match (c, d, e) {
            (96, 14, 0) => Some("tariff"),
            (96, 7, 21) => Some("power_failures"),
            (96, 7, 9) => Some("long_power_failures"),
            (96, 3, 10) => Some("breaker_state"),
            (32 | 52 | 72, 32, 0) => Some("voltage_sags"),
            (32 | 52 | 72, 36, 0) => Some("voltage_swells"),
            _ => None,
        };
        if let Some(name) = counter {
            values.decimal(&format!("{name}{}", phase(c, d)), digits, 0);
            return;
        }
        let (unit, exponent) = match unit {
            "kW" => ("w", 3),
            "MW" => ("w", 6),
            "kvar" | "kVAr" => ("var", 3),
            "kVA" => ("va", 3),
            "Wh" => ("kwh", -3),
            "MWh" => ("kwh", 3),
            "varh" | "VArh" => ("kvarh", -3),
            "VAh" => ("kvah", -3),
            "mA" => ("a", -3),
            other => (other, 0),
        };
        if unit.is_empty() {
            // No unit, no quantity: identifiers, messages, versions. Power factors are the exception.
            if matches!((c, d), (13 | 33 | 53 | 73, 7)) {
                values.decimal(&format!("power_factor{}", phase(c, d)), digits, 0);
            }
            return;
        }
        let unit = unit.to_ascii_lowercase();
        let name = match name(c, d, e) {
            Some(name) => format!("{name}_{unit}"),
            None => format!("obis_{c}_{d}_{e}_{unit}"),
        };
        values.decimal(&name, digits, exponent);
    }
}

fn phase(c: u8, d: u8) -> &'static str {
    match (c, d) {
        (96, _) => "",
        (21..=40, _) => "_l1",
        (41..=60, _) => "_l2",
        (61..=80, _) => "_l3",
        _ => "",
    }
}

/// The quantity behind C (what), D (how processed) and E (tariff); EN 62056-61, tables 5 to 8.
fn name(c: u8, d: u8, e: u8) -> Option<String> {
    let what = match c {
        17 => return (d == 0).then(|| "limiter".to_owned()),
        14 => return (d == 7).then(|| "frequency".to_owned()),
        31 | 51 | 71 if d == 4 => return Some(format!("fuse{}", phase(c, d))),
        1..=10 | 16 => c,
        21..=80 => c % 20,
        _ => return None,
    };
    let (power, energy, direction) = match what {
        1 => ("power", "energy", "_import"),
        2 => ("power", "energy", "_export"),
        3 => ("reactive_power", "reactive_energy", "_import"),
        4 => ("reactive_power", "reactive_energy", "_export"),
        5 => ("reactive_power", "reactive_energy", "_q1"),
        6 => ("reactive_power", "reactive_energy", "_q2"),
        7 => ("reactive_power", "reactive_energy", "_q3"),
        8 => ("reactive_power", "reactive_energy", "_q4"),
        // Import less export.
        16 => ("power", "energy_net", ""),
        9 => ("apparent_power", "apparent_energy", "_import"),
        10 => ("apparent_power", "apparent_energy", "_export"),
        11 => ("current", "", ""),
        12 => ("voltage", "", ""),
        _ => return None,
    };
    let phase = phase(c, d);
    match d {
        7 => Some(format!("{power}{direction}{phase}")),
        8 if energy.is_empty() => None,
        8 if e == 0 => Some(format!("{energy}{direction}{phase}")),
        8 => Some(format!("{energy}{direction}{phase}_t{e}")),
        4 => Some(format!("{power}_demand{direction}{phase}")),
        6 => Some(format!("{power}_demand_max{direction}{phase}")),
        _ => None,
    }
}
