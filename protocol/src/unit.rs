//! The unit a field's name ends with.

/// Suffix and symbol; the longest that fits counts. It has every suffix that the agent's catalogue stores (a test there),
/// and those that devices put into names of their own.
const UNITS: &[(&str, &str)] = &[
    ("c", "°C"),
    ("degc", "°C"),
    ("f", "°F"),
    ("degf", "°F"),
    ("k", "K"),
    ("v", "V"),
    ("mv", "mV"),
    ("kv", "kV"),
    ("a", "A"),
    ("ma", "mA"),
    ("w", "W"),
    ("mw", "mW"),
    ("kw", "kW"),
    ("va", "VA"),
    ("var", "var"),
    ("kva", "kVA"),
    ("kvar", "kvar"),
    ("wh", "Wh"),
    ("kwh", "kWh"),
    ("mwh", "MWh"),
    ("vah", "VAh"),
    ("kvah", "kVAh"),
    ("varh", "varh"),
    ("kvarh", "kvarh"),
    ("ah", "Ah"),
    ("mah", "mAh"),
    ("j", "J"),
    ("hz", "Hz"),
    ("khz", "kHz"),
    ("mhz", "MHz"),
    ("ohm", "Ω"),
    ("us_cm", "µS/cm"),
    ("ms_cm", "mS/cm"),
    ("pct", "%"),
    ("percent", "%"),
    ("ppm", "ppm"),
    ("ppb", "ppb"),
    ("pa", "Pa"),
    ("hpa", "hPa"),
    ("kpa", "kPa"),
    ("mbar", "mbar"),
    ("bar", "bar"),
    ("psi", "psi"),
    ("lx", "lx"),
    ("lux", "lx"),
    ("klx", "klx"),
    ("lm", "lm"),
    ("cd", "cd"),
    ("cd_m2", "cd/m²"),
    ("w_m2", "W/m²"),
    ("db", "dB"),
    ("dba", "dB(A)"),
    ("dbm", "dBm"),
    ("dbw", "dBW"),
    ("ugm3", "µg/m³"),
    ("ug_m3", "µg/m³"),
    ("mg_m3", "mg/m³"),
    ("g_m3", "g/m³"),
    ("kg_m3", "kg/m³"),
    ("mg_l", "mg/l"),
    ("um", "µm"),
    ("mm", "mm"),
    ("cm", "cm"),
    ("m", "m"),
    ("km", "km"),
    ("mm_s", "mm/s"),
    ("m_s", "m/s"),
    ("km_h", "km/h"),
    ("m_s2", "m/s²"),
    ("mm_s2", "mm/s²"),
    ("mm_h", "mm/h"),
    ("deg", "°"),
    ("deg_s", "°/s"),
    ("mg", "mg"),
    ("g", "g"),
    ("kg", "kg"),
    ("ml", "ml"),
    ("l", "l"),
    ("m2", "m²"),
    ("m3", "m³"),
    ("l_s", "l/s"),
    ("l_min", "l/min"),
    ("l_h", "l/h"),
    ("m3_s", "m³/s"),
    ("m3_h", "m³/h"),
    ("us", "µs"),
    ("ms", "ms"),
    ("s", "s"),
    ("rpm", "1/min"),
    ("count_min", "count/min"),
    ("bpm", "bpm"),
    ("byte", "B"),
    ("bit", "bit"),
    ("bit_s", "bit/s"),
    ("n", "N"),
    ("nm", "Nm"),
    ("ntu", "NTU"),
    ("usv_h", "µSv/h"),
    ("bq_m3", "Bq/m³"),
    ("gauss", "G"),
    ("mol", "mol"),
];

/// What a unit is divided by in a suffix of two parts.
const DIVISORS: [&str; 10] = ["s", "s2", "min", "h", "cm", "m", "m2", "m3", "km", "l"];

/// `temperature_c` is in °C. A name without a quantity before its unit has none: `c` is a name. So has one whose
/// unit is divided by another in a way that is not in the table: `speed_ft_s` is not in seconds.
#[must_use]
pub fn unit(name: &str) -> Option<&'static str> {
    let (suffix, symbol) = UNITS
        .iter()
        .filter(|(suffix, _)| quantity(name, suffix).is_some())
        .max_by_key(|(suffix, _)| suffix.len())?;
    let before = quantity(name, suffix)?;
    let part = before.rsplit_once('_').map(|(_, part)| part);
    let is_quotient = DIVISORS.contains(suffix) && part.is_some_and(is_dividend);
    (!is_quotient).then_some(symbol)
}

/// What stands before a unit, if anything does.
fn quantity<'a>(name: &'a str, unit: &str) -> Option<&'a str> {
    let quantity = name.strip_suffix(unit)?.strip_suffix('_')?;
    (!quantity.is_empty()).then_some(quantity)
}

/// Whether a part of a name is a unit rather than a name: single letters are phases and zones, but for a few.
fn is_dividend(part: &str) -> bool {
    let names_nothing_else = part.len() > 1 || matches!(part, "m" | "l" | "g" | "w");
    let is_known = UNITS.iter().any(|(suffix, _)| *suffix == part);
    names_nothing_else && (is_known || matches!(part, "ft" | "gal" | "mi" | "in" | "imp"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_is_what_the_name_ends_with() {
        for (name, expected) in [
            ("temperature_c", Some("°C")),
            ("energy_kwh", Some("kWh")),
            ("wind_m_s", Some("m/s")),
            ("uptime_s", Some("s")),
            ("pm2_5_ug_m3", Some("µg/m³")),
            // What is divided is no length, volume or time.
            ("vibration_mm_s", Some("mm/s")),
            ("rotation_deg_s", Some("°/s")),
            ("absolute_humidity_kg_m3", Some("kg/m³")),
            ("formaldehyde_mg_m3", Some("mg/m³")),
            ("radon_bq_m3", Some("Bq/m³")),
            ("conductivity_us_cm", Some("µS/cm")),
            ("download_bit_s", Some("bit/s")),
            ("acceleration_m_s2", Some("m/s²")),
            ("speed_ft_s", None),
            ("pulses_imp_l", None),
            ("runtime_phase_a_s", Some("s")),
            ("water_l", Some("l")),
            ("gas_m3", Some("m³")),
            ("c", None),
            ("relay_on", None),
            ("status", None),
        ] {
            assert_eq!(unit(name), expected, "{name}");
        }
    }
}
