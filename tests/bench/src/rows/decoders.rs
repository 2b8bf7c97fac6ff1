//! How many readings a second one core decodes, from what the simulator's devices say.

use std::{hint::black_box, time::Instant};

use anyhow::{Result, ensure};
use edge_agent::{
    config::{LineFormat, Roles, TimeFormat},
    decode::{
        self,
        mqtt::{Decoder, Message, Options, Preset},
        preset,
        stream::Piece,
    },
};
use hardware_sim::{
    native::{line::Speech, publish::Firmware},
    signal::Moment,
};
use protocol::{
    Timestamp,
    frame::{self, Frame, FrameReading, FrameTime},
};

use crate::{bench::Bench, pairs::Target, reading, report::Line};

/// What a decoder has to reach on one core, unless there is a reason.
const ENOUGH: f64 = 200_000.0;
/// Different messages in turn.
const MESSAGES: u32 = 256;

/// A decoder at work: decodes its messages once more, and says how many readings that were.
type Work = Box<dyn FnMut() -> Result<u64>>;

fn moments() -> impl Iterator<Item = (Moment, u64)> {
    (0..MESSAGES).map(|number| {
        let wall_us = reading::BEGIN_US.unsigned_abs() + u64::from(number) * 1_000_000;
        (Moment::new(7, "meter-1", 1, number, 1000), wall_us)
    })
}

/// Frames of our own protocol, byte by byte as they come.
fn frames() -> Result<Work> {
    let mut bytes = Vec::new();
    for number in 0..MESSAGES {
        let fields = reading::NAMES.iter().zip(reading::values(number.into()));
        Frame::Reading(FrameReading {
            boot: 1,
            sequence: number,
            time: FrameTime::Arrival,
            fields: fields
                .map(|(name, value)| ((*name).to_owned(), protocol::Value::Float(value)))
                .collect(),
        })
        .encode(&mut bytes)?;
    }
    Ok(Box::new(move || {
        let mut decoder = frame::Decoder::new();
        let mut readings = 0;
        for &byte in &bytes {
            if let Some(Ok(Frame::Reading(reading))) = decoder.push(byte) {
                black_box(reading.named_fields()?);
                readings += 1;
            }
        }
        Ok(readings)
    }))
}

/// A serial preset on what its device says in four minutes.
fn stream(name: &'static str, bytes: Vec<u8>) -> Result<Work> {
    let preset: preset::Preset = name.parse()?;
    Ok(Box::new(move || {
        let mut stream = preset.stream();
        let mut pieces = Vec::new();
        let mut readings = 0;
        // As much as a read of a busy line brings.
        for chunk in bytes.chunks(256) {
            stream.push(chunk, &mut pieces);
            for piece in pieces.drain(..) {
                readings += u64::from(matches!(black_box(&piece), Piece::Reading(..)));
            }
        }
        Ok(readings)
    }))
}

fn speech(name: &'static str, speech: Speech) -> Result<Work> {
    let said = moments().flat_map(|(moment, wall_us)| speech.say(&moment, wall_us));
    stream(name, said.collect())
}

/// A line format on lines of the reading.
fn lines(format: LineFormat) -> Work {
    let said: Vec<Vec<u8>> = (0..u64::from(MESSAGES))
        .map(|number| {
            let [voltage, current, power, energy] = reading::values(number);
            match &format {
                LineFormat::Json => {
                    let mut out = Vec::new();
                    reading::payload(number, reading::time_us(number), &mut out);
                    out
                }
                LineFormat::KeyValue => format!("boot=1 seq={number} ts={} voltage_v={voltage} current_a={current} power_w={power} energy_kwh={energy}", reading::time_us(number)).into_bytes(),
                LineFormat::Influx => format!("meter,device=meter-1 boot=1i,seq={number}i,voltage_v={voltage},current_a={current},power_w={power},energy_kwh={energy} {}000", reading::time_us(number)).into_bytes(),
                _ => format!("1;{number};{};{voltage};{current};{power};{energy}", reading::time_us(number)).into_bytes(),
            }
        })
        .collect();
    let roles = Roles {
        device: None,
        time: (format != LineFormat::Influx).then(|| "ts".to_owned()),
        time_format: TimeFormat::UnixMicros,
        sequence: Some("seq".to_owned()),
        boot: Some("boot".to_owned()),
    };
    Box::new(move || {
        for line in &said {
            black_box(decode::line(line, &format, &roles)?);
        }
        Ok(said.len() as u64)
    })
}

/// An MQTT preset on what its firmware publishes.
fn firmware(preset: Preset, firmware: Firmware) -> Result<Work> {
    let at = Timestamp::from_micros(reading::BEGIN_US)?;
    let said: Vec<(String, Vec<u8>)> = moments()
        .zip(0..)
        .flat_map(|((moment, wall_us), count)| firmware.say("meter-1", count, &moment, wall_us))
        .collect();
    Ok(Box::new(move || {
        let mut decoder = Decoder::new(preset, Options::default());
        let mut readings = 0;
        for (topic, payload) in &said {
            let outcome = decoder.read(&Message {
                topic,
                device: Some("meter-1"),
                payload,
                at,
                again: false,
            })?;
            readings += black_box(outcome).readings.len() as u64;
        }
        Ok(readings)
    }))
}

fn all() -> Result<Vec<(&'static str, Work)>> {
    let columns = ["boot", "seq", "ts"].into_iter().chain(reading::NAMES);
    let csv = LineFormat::Csv {
        separator: b';',
        columns: columns.map(str::to_owned).collect(),
    };
    Ok(vec![
        ("decode-frames", frames()?),
        ("decode-json", lines(LineFormat::Json)),
        ("decode-key-value", lines(LineFormat::KeyValue)),
        ("decode-csv", lines(csv)),
        ("decode-influx", lines(LineFormat::Influx)),
        ("decode-nmea", speech("nmea", Speech::Nmea)?),
        ("decode-dsmr", speech("dsmr", Speech::Dsmr)?),
        ("decode-ve-direct", speech("ve-direct", Speech::VeDirect)?),
        ("decode-pms5003", speech("pms5003", Speech::Pms5003)?),
        ("decode-sds011", speech("sds011", Speech::Sds011)?),
        ("decode-mh-z19", speech("mh-z19", Speech::MhZ19)?),
        (
            "decode-tasmota",
            firmware(Preset::Tasmota, Firmware::Tasmota)?,
        ),
        (
            "decode-zigbee2mqtt",
            firmware(Preset::Zigbee2mqtt, Firmware::Zigbee2mqtt)?,
        ),
        (
            "decode-esphome",
            firmware(Preset::Esphome, Firmware::Esphome)?,
        ),
        (
            "decode-rtl-433",
            firmware(Preset::Rtl433, Firmware::Rtl433)?,
        ),
        ("decode-shelly", firmware(Preset::Shelly, Firmware::Shelly)?),
        (
            "decode-sparkplug",
            firmware(Preset::SparkplugB, Firmware::Sparkplug)?,
        ),
    ])
}

/// Every decoder for a moment, the best of three: it is one thread and shares nothing.
pub fn decoders(bench: &mut Bench) -> Result<()> {
    let millis = bench.amount(1, 300, 300);
    for (name, mut work) in all()? {
        let mut best: f64 = 0.0;
        for _ in 0..3 {
            let (start, mut readings) = (Instant::now(), 0);
            while start.elapsed().as_millis() < u128::from(millis) || readings == 0 {
                let some = work()?;
                ensure!(some > 0, "{name} decoded nothing");
                readings += some;
            }
            #[expect(clippy::cast_precision_loss, reason = "some millions")]
            let readings = readings as f64;
            best = best.max(readings / start.elapsed().as_secs_f64());
        }
        let line = Line {
            bench: name,
            unit: "readings/s",
            target: Target::AtLeast(1.0),
        };
        bench.absolute(line, best, ENOUGH)?;
    }
    Ok(())
}
