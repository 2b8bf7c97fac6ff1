//! The catalogue of units and quantities: one table each, for every format that says what it measures.
//!
//! A field's name is `quantity_unit`. Each kind of unit has **one** unit that is stored, so that a
//! column never mixes two: whatever a device sends in °F, K or °C is `…_c`. The rule asks the unit alone,
//! never the quantity, so a quantity added later cannot rename a field of today. Rows of [`UNITS`] are
//! only ever added; changing one would split a column.
//!
//! | kind | stored as | read |
//! |---|---|---|
//! | temperature | `c` | °C, °F, K |
//! | ratio | `pct` | %, %RH, 0..1 (`ratio`), ‰ |
//! | parts | `ppm`, `ppb` | |
//! | pressure | `hpa` | Pa, hPa, kPa, mbar, bar, psi, inHg, mmHg, atm |
//! | voltage, current | `v`, `a` | with m, µ, k |
//! | power, apparent, reactive | `w`, `va`, `var` | with m, k, M |
//! | energy, apparent, reactive | `kwh`, `kvah`, `kvarh` | Wh, kWh, MWh, GWh, Ws, J, MJ, GJ, VAh, varh … |
//! | charge | `ah` | Ah, mAh, kAh |
//! | frequency, rotation | `hz`, `rpm` | Hz, kHz, MHz, GHz |
//! | resistance, conductivity | `ohm`, `us_cm` | kΩ, MΩ, mS/cm, S/m |
//! | length | `m`, `mm` | km, cm, ft, mi are metres; µm, in are millimetres (rain) |
//! | speed | `m_s` | km/h, mph, kn, ft/s |
//! | rain rate | `mm_h` | mm/h, in/h, m/h |
//! | area, volume, flow | `m2`, `m3`, `l`, `m3_h`, `l_min` | gal, ft³, mL, l/s, l/h … |
//! | mass, density | `kg`, `ug_m3`, `kg_m3` | g, mg, lb, oz, t; mg/m³ |
//! | angle, rotation | `deg` | °, rad |
//! | light | `lx`, `lm`, `cd`, `w_m2` | lux, klx |
//! | time | `s` | ms, µs, min, h, d |
//! | level | `db`, `dba`, `dbm` | |
//! | data | `byte`, `bit_s` | KiB, kB, MB, GB, kbit/s … |
//! | others | `m_s2`, `n`, `nm`, `ph`, `uv_index`, `count`, `count_min`, `usv_h`, `bq_m3`, `gauss` … | |

mod table;

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::LazyLock,
};

use protocol::FieldName;

use table::{QUANTITIES, UNITS};

/// Rows by the very symbol.
static BY_SYMBOL: LazyLock<HashMap<&str, &Unit>> = LazyLock::new(|| {
    let rows = UNITS.iter();
    rows.flat_map(|unit| unit.symbols.iter().map(move |symbol| (*symbol, unit)))
        .collect()
});

/// Rows by a symbol in lower case; none where that could be two.
static BY_FOLDED: LazyLock<HashMap<String, Option<&Unit>>> = LazyLock::new(|| {
    let mut rows: HashMap<String, Option<&Unit>> = HashMap::new();
    for unit in UNITS {
        for symbol in unit.symbols {
            match rows.entry(symbol.to_ascii_lowercase()) {
                Entry::Vacant(entry) => {
                    entry.insert(Some(unit));
                }
                Entry::Occupied(mut entry) => {
                    let same = entry.get().is_some_and(|have| std::ptr::eq(have, unit));
                    if !same {
                        entry.insert(None);
                    }
                }
            }
        }
    }
    rows
});

/// Units by the quantities measured in them.
static BY_QUANTITY: LazyLock<HashMap<&str, &str>> = LazyLock::new(|| {
    let rows = QUANTITIES.iter();
    rows.flat_map(|(unit, names)| names.iter().map(|name| (*name, *unit)))
        .collect()
});

/// How a number becomes one in the stored unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Conversion {
    add: f64,
    multiply: f64,
    divide: f64,
}

/// A field's name and how its numbers become ones in the unit the name says.
#[derive(Debug, Clone, PartialEq)]
pub struct Canonical {
    /// `quantity_unit`.
    pub name: FieldName,
    /// From the unit that was asked for.
    pub conversion: Conversion,
}

/// One row: the unit stored, and how to get there from the symbols.
#[derive(Debug)]
struct Unit {
    suffix: &'static str,
    conversion: Conversion,
    symbols: &'static [&'static str],
}

impl Conversion {
    /// As it is.
    pub const NONE: Self = Self {
        add: 0.0,
        multiply: 1.0,
        divide: 1.0,
    };

    /// The number in the stored unit. A decimal number stays one: 73.4 °F is 23 °C, 230 Wh is 0.23 kWh.
    #[must_use]
    pub fn apply(self, value: f64) -> f64 {
        if self == Self::NONE {
            return value;
        }
        let exact = (value + self.add) * self.multiply / self.divide;
        // Binary noise of the steps: cut at fourteen digits, far below what any sensor resolves.
        format!("{exact:.13e}").parse().unwrap_or(exact)
    }
}

/// The name and conversion of a quantity in a unit; `None` where the unit is not in the table (an empty
/// one is not) or the name has no canonical form.
///
/// A quantity that already ends with a symbol of the very unit does not get it twice:
/// `("Temperature_C", "°C")` is `temperature_c`.
#[must_use]
pub fn canonical(quantity: &str, unit: &str) -> Option<Canonical> {
    let unit = find(unit)?;
    let quantity = FieldName::normalise(quantity).ok()?;
    let bare = quantity.as_str().rsplit_once('_').and_then(|(rest, last)| {
        let same = |symbol: &&str| symbol.eq_ignore_ascii_case(last);
        unit.symbols.iter().any(same).then_some(rest)
    });
    Some(Canonical {
        name: join(bare.unwrap_or(quantity.as_str()), unit.suffix)?,
        conversion: unit.conversion,
    })
}

/// A name whose last part is the unit, as in `temperature_F` or `wind_avg_km_h`; `None` where no ending of
/// it is a unit of more than one letter, or one of `C F K W V A`.
///
/// One letter in lower case is a word of its own more often than a unit (`x_m`).
#[must_use]
pub fn split(name: &str) -> Option<Canonical> {
    name.match_indices('_').find_map(|(at, _)| {
        let (quantity, unit) = (&name[..at], &name[at + 1..]);
        let plain = match unit {
            "km_h" | "mi_h" | "m_s" | "ft_s" | "mm_h" | "in_h" | "l_min" | "l_h" | "m3_h"
            | "W_m2" | "w_m2" | "ug_m3" | "mg_m3" | "uS_cm" | "us_cm" | "mS_cm" => {
                unit.replace('_', "/")
            }
            "C" | "F" | "K" | "W" | "V" | "A" => unit.to_owned(),
            // `rain_in` is inches; `is_in` is not.
            "in" if ["rain", "snow", "depth"]
                .iter()
                .any(|word| quantity.contains(word)) =>
            {
                unit.to_owned()
            }
            _ if unit.len() >= 2 && !WORDS.contains(&unit) => unit.to_owned(),
            _ => return None,
        };
        canonical(quantity, &plain)
    })
}

/// Endings that are words, though a unit is written so.
const WORDS: [&str; 7] = ["in", "min", "count", "index", "day", "bit", "sec"];

/// A name with a word in front of its unit, for units come last: `power_l1_w` and `mean` are
/// `power_l1_mean_w`. `None` where that is too long.
#[must_use]
pub fn with_word(name: &FieldName, word: &str) -> Option<FieldName> {
    let text = name.as_str();
    let split = text.match_indices('_').find_map(|(at, _)| {
        let (quantity, unit) = (&text[..at], &text[at + 1..]);
        let known = UNITS.iter().any(|known| known.suffix == unit);
        known.then_some((quantity, unit))
    });
    let text = match split {
        Some((quantity, unit)) => format!("{quantity}_{word}_{unit}"),
        None => format!("{text}_{word}"),
    };
    FieldName::new(text).ok()
}

/// The catalogue of quantities whose unit their format leaves unsaid, because everybody agrees on it.
///
/// Used for names that are the quantity and nothing else; what is not here has no unit in its name.
#[must_use]
pub fn usual_unit(quantity: &str) -> Option<&'static str> {
    let whole = |name: &str| BY_QUANTITY.get(name).copied();
    if let Some(unit) = whole(quantity) {
        return Some(unit);
    }
    // `voltage_l1`, `power_left`, `temperature_2`: which of them, not what.
    let (rest, last) = quantity.rsplit_once('_')?;
    let which = matches!(
        last,
        "left" | "right" | "center" | "top" | "bottom" | "total"
    ) || last.bytes().all(|b| b.is_ascii_digit())
        || last
            .strip_prefix('l')
            .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    if which {
        return usual_unit(rest);
    }
    if matches!(last, "a" | "b" | "c")
        && let Some(rest) = rest.strip_suffix("_phase")
    {
        return whole(rest);
    }
    // `living_room_temperature`: whose, then what.
    match last {
        "temperature" | "humidity" | "illuminance" | "voltage" | "current" | "power" | "energy"
        | "frequency" | "pressure" | "rssi" | "battery" | "moisture" | "position" => whole(last),
        _ => None,
    }
}

fn join(quantity: &str, suffix: &str) -> Option<FieldName> {
    let has = quantity == suffix
        || quantity
            .strip_suffix(suffix)
            .is_some_and(|rest| rest.ends_with('_'));
    if has {
        return FieldName::new(quantity).ok();
    }
    FieldName::new(format!("{quantity}_{suffix}")).ok()
}

/// Whether a name ends with no unit, or with the one that is stored of its kind.
#[cfg(test)]
pub(crate) fn is_stored(name: &str) -> bool {
    let last = name.rsplit('_').next().unwrap_or_default();
    let is_unit = BY_FOLDED.contains_key(last) && !matches!(last, "day" | "count" | "index");
    let stored = |unit: &Unit| name.ends_with(&format!("_{}", unit.suffix));
    !is_unit || UNITS.iter().any(stored)
}

/// By the very symbol; else, in any case of letters, where that leaves one unit (`mwh` could be two).
fn find(symbol: &str) -> Option<&'static Unit> {
    let symbol = symbol.trim();
    if symbol.is_empty() {
        return None;
    }
    if let Some(unit) = BY_SYMBOL.get(symbol) {
        return Some(*unit);
    }
    if symbol.len() < 2 {
        return None;
    }
    BY_FOLDED
        .get(&symbol.to_ascii_lowercase())
        .copied()
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(quantity: &str, unit: &str, value: f64) -> Option<(String, f64)> {
        let found = canonical(quantity, unit)?;
        Some((found.name.to_string(), found.conversion.apply(value)))
    }

    #[test]
    fn a_quantity_in_a_known_unit_has_one_name_and_one_unit() {
        for (quantity, unit, value, name, expected) in [
            ("Temperature", "°F", 73.4, "temperature_c", 23.0),
            ("temperature", "K", 294.65, "temperature_c", 21.5),
            ("temperature", "Cel", 21.5, "temperature_c", 21.5),
            ("Temperature_C", "°C", -0.1, "temperature_c", -0.1),
            ("energy", "Wh", 230.0, "energy_kwh", 0.23),
            ("energy", "MJ", 3.6, "energy_kwh", 1.0),
            ("power", "mW", 1500.0, "power_w", 1.5),
            ("power", "MW", 1.5, "power_w", 1.5e6),
            ("power", "KW", 1.5, "power_w", 1500.0),
            ("pressure", "inHg", 29.92, "pressure_hpa", 1_013.207_588_8),
            ("pressure", "kPa", 101.325, "pressure_hpa", 1013.25),
            ("wind", "km/h", 36.0, "wind_m_s", 10.0),
            ("rain", "in", 0.1, "rain_mm", 2.54),
            ("ratio", "/", 0.07, "ratio_pct", 7.0),
            ("PM2.5", "µg/m³", 7.0, "pm2_5_ug_m3", 7.0),
        ] {
            let got = read(quantity, unit, value);
            assert_eq!(got, Some((name.into(), expected)), "{quantity} in {unit}");
        }
    }

    #[test]
    fn what_could_be_two_units_is_none() {
        assert_eq!(canonical("energy", "mwh"), None, "milli or mega");
        assert_eq!(canonical("energy", ""), None);
        assert_eq!(canonical("energy", "furlong"), None);
        assert_eq!(canonical("", "W"), None);
        assert_eq!(canonical(&"x".repeat(63), "W"), None);
    }

    #[test]
    fn a_unit_at_the_end_of_a_name_is_found() {
        for (name, expected) in [
            ("temperature_F", Some("temperature_c")),
            ("temperature_2_C", Some("temperature_2_c")),
            ("wind_avg_km_h", Some("wind_avg_m_s")),
            ("wind_max_m_s", Some("wind_max_m_s")),
            ("rain_rate_in_h", Some("rain_rate_mm_h")),
            ("rain_mm", Some("rain_mm")),
            ("pressure_hPa", Some("pressure_hpa")),
            ("light_lux", Some("light_lx")),
            ("battery_mV", Some("battery_v")),
            ("power1_W", Some("power1_w")),
            ("strike_count", None),
            ("battery_ok", None),
            ("temperature", None),
        ] {
            let got = split(name).map(|found| found.name.to_string());
            assert_eq!(got.as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn the_table_names_each_symbol_once_and_stores_only_canonical_names() {
        let mut symbols: Vec<&str> = UNITS.iter().flat_map(|u| u.symbols).copied().collect();
        let count = symbols.len();
        symbols.sort_unstable();
        symbols.dedup();
        assert_eq!(symbols.len(), count);
        let quantities = QUANTITIES.iter().map(|(_, names)| names.len());
        assert_eq!(BY_QUANTITY.len(), quantities.sum::<usize>());
        for unit in UNITS {
            assert!(FieldName::new(unit.suffix).is_ok());
            assert!(unit.conversion.apply(1.0).is_finite());
            let stored = UNITS
                .iter()
                .any(|other| other.suffix == unit.suffix && other.conversion == Conversion::NONE);
            assert!(stored, "{} has no row of its own", unit.suffix);
        }
        for (unit, names) in QUANTITIES {
            assert!(find(unit).is_some(), "{unit}");
            for name in *names {
                assert!(FieldName::new(*name).is_ok(), "{name}");
            }
        }
    }
    #[test]
    fn the_sink_reads_each_stored_unit_off_the_name_of_its_field() {
        for unit in UNITS {
            let name = format!("quantity_{}", unit.suffix);
            // Numbers by themselves.
            if ["ph", "uv_index", "count"].contains(&unit.suffix) {
                assert_eq!(protocol::unit(&name), None, "{name}");
                continue;
            }
            let read = protocol::unit(&name).and_then(find);
            let read = read.map(|read| (read.suffix, read.conversion));
            assert_eq!(read, Some((unit.suffix, Conversion::NONE)), "{name}");
        }
    }
}
