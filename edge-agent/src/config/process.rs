//! `[[process]]`.

use std::time::Duration;

use protocol::{DeviceId, FieldName, Metadata};

use super::{
    document::{Expected, Mistake, Table, Value},
    value,
};
use crate::{
    decode::units,
    process::{OnChange, Outside, Rule, Statistic, Window},
};

const WORDS: [(&str, Statistic); 4] = [
    ("mean", Statistic::Mean),
    ("min", Statistic::Min),
    ("max", Statistic::Max),
    ("last", Statistic::Last),
];

/// One of `[[process]]`; `sources` are the names there are.
pub fn rule(table: &Table<'_, '_>, sources: &[&str]) -> Option<Rule> {
    let source = table.optional("source", |value| {
        let name = value::text(value)?;
        if sources.contains(&name.as_str()) {
            return Ok(name);
        }
        let message = format!("is no source: there are {}", sources.join(", "));
        Err(Mistake::new(message))
    });
    let device = table.optional("device", value::parsed::<DeviceId>);
    let field = table.optional("field", value::parsed::<FieldName>);
    let rename = table.optional("rename", value::parsed::<FieldName>);
    let number = |key| table.optional(key, value::number);
    let (scale, offset) = (number("scale"), number("offset"));
    let (min, max) = (number("min"), number("max"));
    let unit = table.optional("unit", |value| {
        let unit = value::text(value)?;
        match units::canonical("quantity", &unit) {
            Some(_) => Ok(unit),
            None => Err(Mistake::fix(
                format!("is no unit of the catalogue: \"{unit}\""),
                "write it as in \"°F\", \"kW\", \"psi\"; docs/devices.md has the list",
            )),
        }
    });
    let words = [
        ("drop", Outside::Drop),
        ("clamp", Outside::Clamp),
        ("flag", Outside::Flag),
    ];
    let outside = table.or("outside", Outside::Drop, value::one_of(words));
    if min.is_none() && max.is_none() {
        table.refuse("outside", "needs min or max");
    }
    if let (Some(min), Some(max)) = (min, max)
        && min > max
    {
        table.wrong(
            "min",
            Mistake::new("is more than max: nothing would be left"),
        );
    }
    if field.is_none() {
        for key in ["rename", "unit"] {
            table.refuse(key, "needs field: it makes one name of one other");
        }
    }
    let drop = table.or("drop", false, value::boolean);
    let meta = table.or("meta", Metadata::default(), value::metadata);
    let on_change = table.optional("on_change", on_change);
    let window = table.optional("window", window);
    if field.is_some() && window.is_some() {
        let fix = "remove field: a window takes whole readings";
        table.wrong("window", Mistake::fix("is not of one field", fix));
    }
    Some(Rule {
        source,
        device,
        field,
        rename,
        scale,
        offset,
        unit,
        min,
        max,
        outside,
        drop,
        meta,
        on_change,
        window,
    })
}

fn only(value: &Value<'_>, keys: &[&str], shape: &str) -> Result<(), Mistake> {
    let wrong = || Mistake::new(format!("must be {shape}")).expects(Expected::Table);
    let table = value.get_ref().as_table().ok_or_else(wrong)?;
    let known = |key: &str| keys.contains(&key);
    match table.keys().all(|key| known(key.get_ref())) {
        true => Ok(()),
        false => Err(wrong()),
    }
}

fn on_change(value: &Value<'_>) -> Result<OnChange, Mistake> {
    let shape = "{ dead_band = 0.5, heartbeat = \"5m\" }";
    only(value, &["dead_band", "heartbeat"], shape)?;
    let table = value.get_ref().as_table();
    let part = |key: &str| table.and_then(|table| table.get(key));
    let dead_band = part("dead_band").map_or(Ok(0.0), value::number)?;
    if dead_band < 0.0 {
        return Err(Mistake::new("has a dead_band below 0"));
    }
    let bounds = Duration::from_secs(1)..=Duration::from_secs(30 * 86_400);
    let heartbeat = part("heartbeat").map(value::duration(bounds)).transpose()?;
    Ok(OnChange {
        dead_band,
        heartbeat: heartbeat.unwrap_or(OnChange::HEARTBEAT),
    })
}

fn window(value: &Value<'_>) -> Result<Window, Mistake> {
    let shape = "{ every = \"1m\", keep = [\"mean\", \"min\", \"max\", \"last\"] }";
    only(value, &["every", "keep"], shape)?;
    let table = value.get_ref().as_table();
    let part = |key: &str| table.and_then(|table| table.get(key));
    let bounds = Duration::from_millis(100)..=Duration::from_secs(86_400);
    let every = part("every").ok_or_else(|| Mistake::new(format!("must be {shape}")))?;
    let every = value::duration(bounds)(every)?;
    let mut keep = Vec::new();
    match part("keep") {
        None => keep.push(Statistic::Mean),
        Some(list) => {
            let wrong = || Mistake::new(format!("must be {shape}"));
            for word in list.get_ref().as_array().ok_or_else(wrong)? {
                let statistic = value::one_of(WORDS)(word)?;
                if !keep.contains(&statistic) {
                    keep.push(statistic);
                }
            }
            if keep.is_empty() {
                return Err(wrong());
            }
        }
    }
    Ok(Window { every, keep })
}
