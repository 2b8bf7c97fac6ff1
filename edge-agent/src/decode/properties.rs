//! What must hold for any bytes a source sends; for the fuzz targets, and for the tests, which try some.
//!
//! Nothing here runs in the product. Each function panics when its property does not hold: what is kept
//! makes a reading that can be stored and read back, what is not is refused in few words, and where a
//! stream is cut depends on its bytes alone.

use std::time::Duration;

use protocol::{
    BootId, DeviceId, FieldName, Metadata, Timestamp,
    record::postcard::{decode_reading, encode_reading},
};

use super::{
    DecodeError, Decoded, Defaults,
    modbus::{Asked, profile::BUILT_IN},
    mqtt::{Decoder, Message, Options, Preset},
    number, preset,
    stream::{Piece, Stream},
    template::Template,
};
use crate::{
    clock::Moment,
    config::{LineFormat, Roles, TimeFormat},
};

/// More than any refusal needs: an excerpt of 80 bytes, each written as up to six characters, and its words.
const MAX_ERROR_BYTES: usize = 80 * 6 + 160;
/// Streams of a device, by the names of their presets.
const SERIAL: [&str; 16] = [
    "nmea",
    "dsmr",
    "ve-direct",
    "pms5003",
    "pms5003s",
    "pms5003t",
    "sds011",
    "mh-z19",
    "modbus:sdm120",
    "modbus:pzem-004t-v3",
    "modbus-tcp:sdm630",
    "json",
    "key-value",
    "csv",
    "influx",
    "modbus:xy-md02",
];

fn at() -> Timestamp {
    // 2026-11-23T21:04:07Z
    Timestamp::from_micros(1_795_467_847_000_000).unwrap_or_else(|_| unreachable!())
}

fn refused(error: &impl std::fmt::Display) {
    let text = error.to_string();
    assert!(text.len() <= MAX_ERROR_BYTES, "{text}");
}

/// What was kept is a reading that the queue gives back as it was.
fn kept(decoded: Decoded) {
    for (name, problem) in &decoded.rejected {
        assert!(name.len() <= 80, "{name}");
        refused(problem);
    }
    let Ok(device) = DeviceId::new("fuzz") else {
        unreachable!()
    };
    let meta = Metadata::default();
    let defaults = Defaults {
        device: Some(&device),
        meta: &meta,
        max_age: Duration::from_secs(30 * 86_400),
    };
    let moment = Moment {
        wall: at(),
        synced: true,
        boot: BootId(1),
        monotonic_us: 1,
    };
    match decoded.into_reading(&defaults, &moment) {
        Err(error) => refused(&error),
        Ok(reading) => {
            let mut bytes = Vec::new();
            assert_eq!(encode_reading(&reading, &mut bytes), Ok(()));
            assert_eq!(decode_reading(&bytes), Ok((reading, &[][..])));
        }
    }
}

fn read(result: Result<Decoded, DecodeError>) {
    match result {
        Ok(decoded) => kept(decoded),
        Err(error) => refused(&error),
    }
}

/// A line or a payload, in every format of text, with and without members that have a role.
///
/// # Panics
/// The property does not hold.
pub fn text(bytes: &[u8]) {
    let columns = ["t", "", "h", "id"].map(str::to_owned).to_vec();
    let formats = [
        LineFormat::Json,
        LineFormat::KeyValue,
        LineFormat::Csv {
            separator: b';',
            columns,
        },
        LineFormat::Influx,
    ];
    let member = |name: &str| Some(name.to_owned());
    let times = [
        TimeFormat::Rfc3339,
        TimeFormat::UnixSeconds,
        TimeFormat::UnixNanos,
    ];
    let with_roles = times.map(|time_format| Roles {
        device: member("id"),
        time: member("t"),
        time_format,
        sequence: member("seq"),
        boot: member("boot"),
    });
    for format in &formats {
        read(super::line(bytes, format, &Roles::default()));
        for roles in &with_roles {
            read(super::line(bytes, format, roles));
        }
    }
    if let Ok(field) = FieldName::new("value") {
        read(number::decode(bytes, &field));
    }
}

/// A template on the first line, a topic on the next.
///
/// # Panics
/// The property does not hold.
pub fn template(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (template, topic) = text.split_once('\n').unwrap_or((&text, "a/b/c"));
    let parsed = match Template::parse(template) {
        Ok(parsed) => parsed,
        Err(error) => {
            assert!(error.at <= template.len());
            // It quotes the level at fault.
            return assert!(error.to_string().len() <= MAX_ERROR_BYTES + 2 * template.len());
        }
    };
    let filter = parsed.filter();
    assert_eq!(filter.split('/').count(), template.split('/').count());
    // A topic that the filter is meant for is understood, whatever stands in its levels.
    let levels = filter.split('/').map(|level| match level {
        "+" | "#" => "x1",
        word => word,
    });
    let meant = levels.collect::<Vec<_>>().join("/");
    let captures = parsed.matches(&meant);
    assert!(captures.is_some(), "{template} {meant}");
    if let Some(captures) = parsed.matches(topic) {
        for part in [captures.device, captures.field].into_iter().flatten() {
            assert!(topic.contains(part));
        }
        for part in [
            captures.device_id().map(drop),
            captures.field_name().map(drop),
        ] {
            part.unwrap_or_else(|error| refused(&error));
        }
    }
}

/// Messages to one preset: its number, then each a length and a topic, a length of two bytes and a
/// payload.
///
/// # Panics
/// The property does not hold.
pub fn mqtt(bytes: &[u8]) {
    let Some((&first, mut rest)) = bytes.split_first() else {
        return;
    };
    let preset = Preset::ALL[usize::from(first) % Preset::ALL.len()];
    let mut decoder = Decoder::new(preset, Options::default());
    while let Some((&length, more)) = rest.split_first() {
        let (topic, more) = more.split_at(usize::from(length).min(more.len()));
        let (length, more) = more.split_at(more.len().min(2));
        let length = length
            .iter()
            .rev()
            .fold(0, |all, byte| all << 8 | usize::from(*byte));
        let (payload, more) = more.split_at(length.min(more.len()));
        rest = more;
        let topic = String::from_utf8_lossy(topic);
        let outcome = decoder.read(&Message {
            topic: &topic,
            device: (first & 0x80 != 0).then_some("dev"),
            payload,
            at: at(),
            again: first & 0x40 != 0,
        });
        match outcome {
            Err(error) => refused(&error),
            Ok(outcome) => {
                outcome.readings.into_iter().for_each(kept);
                for (_, error) in &outcome.rejected {
                    refused(error);
                }
            }
        }
        if first & 0x20 != 0 {
            decoder.disconnected();
        }
    }
}

/// A capture of one preset, whose number comes first: whole and byte by byte.
///
/// # Panics
/// The property does not hold.
pub fn serial(bytes: &[u8]) {
    let Some((&first, capture)) = bytes.split_first() else {
        return;
    };
    let name = SERIAL[usize::from(first) % SERIAL.len()];
    let Ok(preset) = name.parse::<preset::Preset>() else {
        unreachable!("{name}")
    };
    let whole = pieces(preset.stream(), capture, capture.len().max(1));
    assert_eq!(pieces(preset.stream(), capture, 1), whole, "{name}");
    let mut end = 0;
    for piece in whole {
        match piece {
            Piece::Reading(_, decoded) => kept(decoded),
            Piece::Rejected(rejected) => {
                assert!(rejected.at >= end, "{name}: {rejected:?}");
                assert!(!rejected.bytes.is_empty() && rejected.len > 0);
                end = rejected.at + rejected.len;
                refused(&rejected.fault);
            }
        }
    }
    assert!(end <= capture.len() as u64);
}

fn pieces(mut stream: Stream, capture: &[u8], size: usize) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for chunk in capture.chunks(size) {
        stream.push(chunk, &mut pieces);
    }
    stream.finish(&mut pieces);
    assert!(!stream.is_within());
    pieces
}

/// A reply to a question of one profile, whose number comes first; the next byte chooses the question.
/// Registers are tried as they are, and in a reply of the length that was asked for.
///
/// # Panics
/// The property does not hold.
pub fn modbus(bytes: &[u8]) {
    let [profile, question, body @ ..] = bytes else {
        return;
    };
    let (name, _) = BUILT_IN[usize::from(*profile) % BUILT_IN.len()];
    let Ok(map) = preset::built_in(name) else {
        unreachable!("{name}")
    };
    let requests = map.requests();
    let request = requests[usize::from(*question) % requests.len()];
    let asked = Asked { unit: 1, request };
    let mut right = vec![
        1,
        request.function(),
        request.reply_bytes().to_le_bytes()[0],
    ];
    right.extend(
        body.iter()
            .chain(std::iter::repeat(&0))
            .take(request.reply_bytes()),
    );
    for reply in [body, &right] {
        match asked.reply(reply, &map) {
            Ok(decoded) => kept(decoded),
            Err(fault) => refused(&fault),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXTS: [&str; 4] = [
        r#"{"id":"press-1","t":1795467847.25,"seq":7,"boot":"b1","temperature_c":21.5,"on":true,"a":{"b":[1,2]}}"#,
        "id=press-1 seq=7 temperature_c=21.5 state=\"on\"",
        "2026-11-23T21:04:07Z;x;40.5;press-1",
        r#"weather,room=cellar temperature=21.5,ok=t,n=3i,s="a b" 1465839830100400200"#,
    ];
    const SERIAL_TEXT: &str =
        "$GPRMC,123519,A,4807.038,N,01131.000,E,022.4,084.4,230394,003.1,W*6A\r\n";
    const MQTT: [(&str, &str); 4] = [
        (
            "tele/plug/SENSOR",
            r#"{"Time":"2026-11-23T21:04:07","AM2301":{"Temperature":21.5},"TempUnit":"C"}"#,
        ),
        (
            "zigbee2mqtt/kitchen/lamp",
            r#"{"temperature":21.5,"linkquality":80,"state":"ON"}"#,
        ),
        ("shellies/em/emeter/0/energy", "12.5"),
        (
            "senml/x",
            r#"[{"bn":"urn:dev:ow:10e2073a01080063:","bt":1.27e9,"n":"t","u":"Cel","v":21.5}]"#,
        ),
    ];

    type Property = fn(&[u8]);

    fn mqtt_bytes(preset: u8, topic: &str, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![preset, u8::try_from(topic.len()).unwrap()];
        bytes.extend_from_slice(topic.as_bytes());
        bytes.extend_from_slice(&u16::try_from(payload.len()).unwrap().to_le_bytes());
        bytes.extend_from_slice(payload);
        bytes
    }

    fn seeds(preset: u8) -> Vec<(Property, Vec<u8>)> {
        let mut seeds: Vec<(Property, Vec<u8>)> = Vec::new();
        for line in TEXTS {
            seeds.push((text, line.into()));
            seeds.push((serial, [&[preset], line.as_bytes(), b"\n"].concat()));
        }
        seeds.push((serial, [&[preset], SERIAL_TEXT.as_bytes()].concat()));
        seeds.push((
            template,
            b"plant/{site}/{device}/{field}\nplant/a/b/c".to_vec(),
        ));
        for (topic, payload) in MQTT {
            seeds.push((mqtt, mqtt_bytes(preset, topic, payload.as_bytes())));
        }
        seeds.push((modbus, vec![preset; 40]));
        seeds
    }

    /// Found by the fuzz target: the property, not the decoder, was wrong.
    #[test]
    fn a_name_of_control_characters_is_refused_in_bounded_words() {
        let (csv, _) = (0_u8..)
            .zip(SERIAL)
            .find(|(_, name)| *name == "csv")
            .unwrap();
        let name = "\u{1}".repeat(200);
        serial(format!("{}{name}\r\n1\r\n", char::from(csv)).as_bytes());
    }

    proptest! {
        #[test]
        fn whatever_a_source_sends_is_kept_whole_or_refused_in_few_words(
            body in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            for property in [text, template, mqtt, serial, modbus] {
                property(&body);
            }
        }

        #[test]
        fn what_sources_send_with_a_few_bytes_changed_is_kept_whole_or_refused_in_few_words(
            preset: u8,
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        ) {
            for (property, mut body) in seeds(preset) {
                for (at, byte) in &changes {
                    let at = at.index(body.len());
                    body[at] = *byte;
                }
                property(&body);
            }
        }
    }
}
