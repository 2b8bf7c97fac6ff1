//! What devices publish, in their firmwares' own words.

use serde::Deserialize;
use serde_json::json;

use super::plausible;
use crate::signal::Moment;

/// Whose words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Firmware {
    /// `tele/DEVICE/SENSOR`.
    Tasmota,
    /// `zigbee2mqtt/DEVICE`.
    Zigbee2mqtt,
    /// `DEVICE/sensor/NAME/state`, a topic a value.
    Esphome,
    /// `rtl_433/DEVICE/events`.
    #[serde(rename = "rtl_433")]
    Rtl433,
    /// `DEVICE/events/rpc`, generation 2.
    Shelly,
    /// `spBv1.0/plant/NDATA/DEVICE`, with a birth first and now and then.
    Sparkplug,
}

/// `link = { publish = { as = "tasmota" } }`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publisher {
    /// Whose words.
    pub r#as: Firmware,
}

impl Firmware {
    /// Topics and payloads of the message number `count`.
    #[must_use]
    pub fn say(
        self,
        device: &str,
        count: u64,
        at: &Moment,
        wall_us: u64,
    ) -> Vec<(String, Vec<u8>)> {
        let value = |field| plausible(field, at);
        let one = |topic: String, payload: serde_json::Value| {
            vec![(topic, payload.to_string().into_bytes())]
        };
        match self {
            Self::Tasmota => one(
                format!("tele/{device}/SENSOR"),
                json!({
                    "AM2301": { "Temperature": value("temperature"), "Humidity": value("humidity") },
                    "ENERGY": { "Total": value("energy"), "Power": value("power"), "Voltage": value("voltage") },
                    "TempUnit": "C",
                }),
            ),
            Self::Zigbee2mqtt => one(
                format!("zigbee2mqtt/{device}"),
                json!({
                    "temperature": value("temperature"),
                    "humidity": value("humidity"),
                    "battery": 87,
                    "linkquality": 120,
                }),
            ),
            Self::Esphome => ["temperature", "humidity"]
                .into_iter()
                .map(|name| {
                    let topic = format!("{device}/sensor/{name}/state");
                    (topic, format!("{:.2}", value(name)).into_bytes())
                })
                .collect(),
            Self::Rtl433 => one(
                format!("rtl_433/{device}/events"),
                json!({
                    "model": "Nexus-TH",
                    "id": 42,
                    "channel": 1,
                    "battery_ok": 1,
                    "temperature_C": value("temperature"),
                    "humidity": value("humidity").round(),
                }),
            ),
            Self::Shelly => one(
                format!("{device}/events/rpc"),
                json!({
                    "src": device,
                    "dst": format!("{device}/events"),
                    "method": "NotifyStatus",
                    "params": {
                        "ts": (wall_us / 10_000) as f64 / 100.0,
                        "switch:0": {
                            "id": 0,
                            "output": true,
                            "apower": value("power"),
                            "voltage": value("voltage"),
                            "aenergy": { "total": value("energy") * 1000.0 },
                        },
                    },
                }),
            ),
            Self::Sparkplug => vec![sparkplug(device, count, value("temperature"))],
        }
    }
}

/// A birth as every sixteenth message, so that whoever comes late understands soon; data by alias otherwise.
fn sparkplug(device: &str, count: u64, temperature: f64) -> (String, Vec<u8>) {
    let birth = count.is_multiple_of(16);
    let mut metric = Vec::new();
    if birth {
        let name = b"Temperature";
        metric.extend([0x0a, 11]);
        metric.extend(name);
        // Alias 1; a double.
        metric.extend([0x10, 1, 0x20, 10]);
    } else {
        metric.extend([0x10, 1]);
    }
    metric.push(0x69);
    metric.extend(temperature.to_le_bytes());
    let length = u8::try_from(metric.len()).unwrap_or(u8::MAX);
    let mut payload = vec![0x12, length];
    payload.extend(metric);
    // A birth is number 0 of its session.
    payload.push(0x18);
    payload.push(u8::try_from(count % 16).unwrap_or(0));
    let kind = if birth { "NBIRTH" } else { "NDATA" };
    (format!("spBv1.0/plant/{kind}/{device}"), payload)
}
