//! The unit a field's name ends with.

/// Suffix and symbol; the longest that fits counts.
const UNITS: [(&str, &str); 60] = [
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
    ("varh", "varh"),
    ("kvarh", "kvarh"),
    ("ah", "Ah"),
    ("j", "J"),
    ("hz", "Hz"),
    ("khz", "kHz"),
    ("ohm", "Ω"),
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
    ("db", "dB"),
    ("dbm", "dBm"),
    ("ugm3", "µg/m³"),
    ("ug_m3", "µg/m³"),
    ("mm", "mm"),
    ("cm", "cm"),
    ("m", "m"),
    ("km", "km"),
    ("m_s", "m/s"),
    ("km_h", "km/h"),
    ("deg", "°"),
    ("g", "g"),
    ("kg", "kg"),
    ("l", "l"),
    ("m3", "m³"),
    ("l_h", "l/h"),
    ("m3_h", "m³/h"),
    ("us", "µs"),
    ("ms", "ms"),
    ("s", "s"),
    ("rpm", "1/min"),
];

/// `temperature_c` is in °C. A name without a quantity before its unit has none: `c` is a name.
#[must_use]
pub fn unit(name: &str) -> Option<&'static str> {
    let fits = |suffix: &str| {
        let quantity = name
            .strip_suffix(suffix)
            .and_then(|rest| rest.strip_suffix('_'));
        quantity.is_some_and(|quantity| !quantity.is_empty())
    };
    let found = UNITS.iter().filter(|(suffix, _)| fits(suffix));
    found
        .max_by_key(|(suffix, _)| suffix.len())
        .map(|(_, symbol)| *symbol)
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
            ("c", None),
            ("relay_on", None),
            ("status", None),
        ] {
            assert_eq!(unit(name), expected, "{name}");
        }
    }
}
