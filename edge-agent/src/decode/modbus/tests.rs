use proptest::prelude::*;

use super::{
    super::stream::{
        Fault,
        tests::{clean, hex, mixed},
    },
    super::units,
    map::{Kind, Order, Scale},
    *,
};

/// Closes a frame with its CRC.
fn framed(text: &str) -> Vec<u8> {
    let body = hex(text);
    let sum = crc(&body).to_le_bytes();
    [body, sum.to_vec()].concat()
}

fn frames(texts: &[&str]) -> Vec<u8> {
    texts.iter().flat_map(|text| framed(text)).collect()
}

#[test]
fn the_examples_of_manuals_are_read() {
    // Eastron, SDM120 protocol: 230.2 V.
    let capture = hex("01 04 00 00 00 02 71 cb 01 04 04 43 66 33 34 1b 38");
    assert_eq!(
        clean("modbus:sdm120", &capture),
        ["sdm120-1 voltage_v=230.20001"]
    );
    // Peacefair, PZEM-004T V3.0 manual, 2.3.
    let capture = frames(&[
        "01 04 00 00 00 0a",
        "01 04 14 08 98 03 e8 00 00 08 98 00 00 00 00 00 00 01 f4 00 64 00 00",
        "01 42",
        "01 42",
    ]);
    assert_eq!(
        clean("modbus:pzem-004t-v3", &capture),
        [
            "pzem-004t-v3-1 alarm=false current_a=1 energy_kwh=0 frequency_hz=50 power_factor=1 \
          power_w=220 voltage_v=220"
        ]
    );
    // XY-MD02: 30.5 °C and 54.6 %, and below zero.
    let capture = frames(&[
        "01 04 00 01 00 02",
        "01 04 04 01 31 02 22",
        "01 04 00 01 00 01",
        "01 04 02 ff 33",
    ]);
    assert_eq!(
        clean("modbus:xy-md02", &capture),
        [
            "xy-md02-1 humidity_pct=54.6 temperature_c=30.5",
            "xy-md02-1 temperature_c=-20.5"
        ]
    );
}

#[test]
fn low_words_first_steps_and_missing_values_are_as_the_profile_says() {
    // PZEM-017: 0x0001_0002 tenths of a watt.
    let capture = frames(&[
        "01 04 00 00 00 08",
        "01 04 10 04 d2 00 64 00 02 00 01 00 05 00 00 ff ff 00 00",
    ]);
    assert_eq!(
        clean("modbus:pzem-017", &capture),
        [
            "pzem-017-1 current_a=1 energy_kwh=0.005 high_voltage_alarm=true \
          low_voltage_alarm=false power_w=6553.8 voltage_v=12.34"
        ]
    );
    // DTSU666: floats in tenths, either function.
    for function in ["03", "04"] {
        let capture = frames(&[
            &format!("05 {function} 20 06 00 02"),
            &format!("05 {function} 04 45 0f e0 00"),
        ]);
        assert_eq!(
            clean("modbus:dtsu666", &capture),
            ["dtsu666-5 voltage_l1_v=230.2"]
        );
    }
    // ABB: no neutral, so no voltage of phase 2.
    let capture = frames(&["02 03 5b 00 00 04", "02 03 08 00 00 08 fd ff ff ff ff"]);
    assert_eq!(
        clean("modbus:abb-b23", &capture),
        ["abb-b23-2 voltage_l1_v=230.1"]
    );
}

#[test]
fn several_slaves_exceptions_and_silence_do_not_disturb_each_other() {
    let capture = frames(&[
        "01 04 00 00 00 02",
        "01 04 04 43 66 33 33",
        "07 04 00 00 00 02",
        "02 04 00 46 00 02",
        "02 04 04 42 48 00 00",
        "03 04 10 00 00 02",
        "03 84 02",
        "01 06 00 01 00 02",
        "01 06 00 01 00 02",
        "01 10 00 10 00 01 02 00 05",
        "01 10 00 10 00 01",
        "01 04 00 00 00 02",
        "01 04 04 43 67 33 33",
    ]);
    let (readings, rejected) = mixed("modbus:sdm630", &capture);
    assert_eq!(
        readings,
        [
            "sdm630-1 voltage_l1_v=230.2",
            "sdm630-2 frequency_hz=50",
            "sdm630-1 voltage_l1_v=231.2"
        ]
    );
    let [(at, 5, fault)] = &rejected[..] else {
        panic!("{rejected:?}");
    };
    assert_eq!(*at, 8 + 9 + 8 + 8 + 9 + 8);
    assert_eq!(
        fault.to_string(),
        "unit 3 answers function 4 with exception 2 (illegal data address)"
    );
}

#[test]
fn a_reply_nobody_asked_for_or_of_another_length_is_no_reading() {
    let (readings, rejected) = mixed("modbus:sdm120", &framed("01 04 04 43 66 33 34"));
    assert!(readings.is_empty());
    let fault = Fault::NoRequest {
        unit: 1,
        function: 4,
    };
    assert_eq!(rejected, [(0, 9, fault)]);
    let capture = frames(&["01 04 00 00 00 04", "01 04 04 43 66 33 34"]);
    let (readings, rejected) = mixed("modbus:sdm120", &capture);
    assert!(readings.is_empty() && rejected.len() == 1);
    // A reply as long as a request: were it one, the frame behind it would be its reply.
    let capture = frames(&["01 01 00 00 00 18", "01 01 03 01 02 03", "01 01 01 07"]);
    let (readings, rejected) = mixed("modbus:sdm120", &capture);
    assert_eq!(readings, ["sdm120-1"], "an answer without a value");
    let fault = Fault::NoRequest {
        unit: 1,
        function: 1,
    };
    assert_eq!(rejected, [(16, 6, fault)]);
}

#[test]
fn a_damaged_reply_costs_itself_and_is_named_by_its_crc() {
    let mut capture = frames(&[
        "01 04 00 00 00 02",
        "01 04 04 43 66 33 34",
        "01 04 00 06 00 02",
        "01 04 04 3f a0 00 00",
    ]);
    capture[12] ^= 0x10;
    let (readings, rejected) = mixed("modbus:sdm120", &capture);
    assert_eq!(readings, ["sdm120-1 current_a=1.25"]);
    assert!(
        matches!(rejected[..], [(8, 9, Fault::Checksum { .. })]),
        "{rejected:?}"
    );
}

#[test]
fn tcp_pairs_replies_with_requests_by_transaction() {
    let capture = hex(
        "0001 0000 0006 01 04 0000 0002  0002 0000 0006 01 04 0028 0002 \
         0002 0000 0007 01 04 04 08fc 0000  0001 0000 0007 01 04 04 08fd 0000 \
         0003 0000 0006 01 04 0fff 0001  0003 0000 0003 01 84 02",
    );
    let (readings, rejected) = mixed("modbus-tcp:em340", &capture);
    assert_eq!(
        readings,
        ["em340-1 power_w=230", "em340-1 voltage_l1_v=230.1"]
    );
    assert!(matches!(
        rejected[..],
        [(_, 9, Fault::Exception { code: 2, .. })]
    ));
}

#[test]
fn every_type_is_read_in_every_order() {
    let profile = |kind: &str, order: &str, more: &str| {
        let text = format!(
            "model = 'm'\nsource = 's'\nregister = 'holding'\norder = '{order}'\n\
             fields = [{{ name = 'v', address = 0, type = '{kind}'{more} }}]"
        );
        Profile::parse("p", &text).unwrap().map
    };
    let value = |kind: &str, order: &str, more: &str, data: &str| {
        let data = hex(data);
        let request = Request {
            space: Space::Holding,
            first: 0,
            count: u16::try_from(data.len() / 2).unwrap(),
        };
        let mut values = Values::default();
        profile(kind, order, more).read(request, &data, &mut values);
        super::super::stream::tests::shown(&values.finish())
    };
    for (kind, order, data, expected) in [
        ("INT16", "ABCD", "fffe", "v=-2"),
        ("UINT16", "DCBA", "0100", "v=1"),
        ("INT32", "ABCD", "ffff fffe", "v=-2"),
        ("UINT32", "ABCD", "0001 0002", "v=65538"),
        ("UINT32", "CDAB", "0002 0001", "v=65538"),
        ("UINT32", "BADC", "0100 0200", "v=65538"),
        ("UINT32", "DCBA", "0200 0100", "v=65538"),
        ("INT64", "ABCD", "ffff ffff ffff fffe", "v=-2"),
        ("UINT64", "CDAB", "0002 0001 0000 0000", "v=65538"),
        ("UINT64", "ABCD", "ffff ffff ffff ffff", ""),
        ("FLOAT32", "ABCD", "4366 3333", "v=230.2"),
        ("FLOAT32", "CDAB", "3333 4366", "v=230.2"),
        ("FLOAT32", "ABCD", "7fc0 0000", ""),
        ("FLOAT64", "ABCD", "406c c666 6666 6666", "v=230.2"),
        ("BCD", "ABCD", "1234", "v=1234"),
        ("BCD", "ABCD", "12f4", ""),
    ] {
        assert_eq!(
            value(kind, order, "", data),
            expected,
            "{kind} {order} {data}"
        );
    }
    assert_eq!(
        value("BCD", "ABCD", ", length = 2, scale = 0.01", "0012 3456"),
        "v=1234.56"
    );
    assert_eq!(
        value("STRING", "ABCD", ", length = 3", "4142 4300 0000"),
        r#"v="ABC""#
    );
    assert_eq!(
        value("STRING", "BADC", ", length = 2", "4241 2043"),
        r#"v="ABC""#
    );
    assert_eq!(value("BOOL", "ABCD", ", bit = 9", "0200"), "v=true");
    assert_eq!(
        value("INT16", "ABCD", ", scale = 0.1, offset = -40", "0258"),
        "v=20"
    );
    assert_eq!(value("UINT16", "ABCD", ", absent = 0xffff", "ffff"), "");
}

#[test]
fn bits_are_read_lowest_first() {
    let text = "model = 'm'\nsource = 's'\nregister = 'coil'\n\
        fields = [{ name = 'a', address = 19 }, { name = 'b', address = 27 }]";
    let map = Profile::parse("relays", text).unwrap().map;
    let request = Request {
        space: Space::Coil,
        first: 19,
        count: 10,
    };
    let mut values = Values::default();
    map.read(request, &[0xcd, 0x01], &mut values);
    let decoded = values.finish();
    assert_eq!(
        super::super::stream::tests::shown(&decoded),
        "a=true b=true"
    );
    assert_eq!(request.reply_bytes(), 2);
}

#[test]
fn profiles_are_whole_and_each_cites_its_table() {
    for (name, text) in profile::BUILT_IN {
        let profile = Profile::parse(name, text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(
            profile.source.len() > 20 && !profile.model.is_empty(),
            "{name}"
        );
        for point in &profile.map.points {
            let name = point.name.as_str();
            assert!(units::is_stored(name), "{name} of {name}");
        }
        for request in profile.map.requests() {
            assert!(request.count <= profile.map.most, "{name}");
        }
    }
    assert!(
        Profile::built_in("sdm9000")
            .unwrap_err()
            .to_string()
            .contains("sdm120")
    );
}

#[test]
fn meters_of_others_are_read_from_their_captures() {
    // github.com/ptvoinfo/zigbee-configurable-firmware/issues/78: a PZEM-017 has 8 registers.
    let (readings, rejected) = mixed(
        "modbus:pzem-017",
        &hex(
            "01 04 00 00 00 08 f1 cc 01 04 10 04 95 00 00 00 00 00 00 00 02 00 00 00 00 00 00 21 40 \
             01 04 00 00 00 09 30 0c 01 84 02 c2 c1",
        ),
    );
    assert_eq!(
        readings,
        [
            "pzem-017-1 current_a=0 energy_kwh=0.002 high_voltage_alarm=false \
             low_voltage_alarm=false power_w=0 voltage_v=11.73"
        ]
    );
    assert!(matches!(
        rejected[..],
        [(
            37,
            5,
            Fault::Exception {
                unit: 1,
                function: 4,
                code: 2,
                ..
            }
        )]
    ));
    // github.com/nmakel/solaredge_meterproxy/issues/16: 1750 kVAh at 230 V are 7.6 thousand Ah, so the
    // register that some tables give in kAh is in Ah.
    let zeros = "00 ".repeat(24);
    let sdm630 = hex(&format!(
        "05 04 00 50 00 1c f0 56 05 04 38 44 da ca b9 46 0c be dc 44 23 92 bf 45 76 58 ef {zeros}\
         44 7a 04 0d 45 83 50 c7 3f bd 8a 61 41 27 e1 10 14 2b"
    ));
    assert_eq!(
        clean("modbus:sdm630", &sdm630),
        [
            "sdm630-5 apparent_energy_kvah=1750.3351 apparent_power_demand_max_va=4202.097 \
             apparent_power_demand_va=1000.0633 charge_ah=9007.715 \
             current_neutral_demand_a=1.4807855 current_neutral_demand_max_a=10.492447 \
             power_demand_max_w=3941.5583 power_demand_w=654.2929"
        ]
    );
    // The same, issue 33, over TCP.
    let sdm630 = hex(&format!(
        "00 02 00 00 00 06 01 04 00 50 00 1c 00 02 00 00 00 3b 01 04 38 47 0c f6 1e 47 f9 ab c0 \
         c5 50 b2 cd 46 4e 35 c3 {zeros} 45 7a e8 82 46 4e 8e f0 3f 5a 26 25 41 79 76 77"
    ));
    let readings = clean("modbus-tcp:sdm630", &sdm630);
    assert!(readings[0].contains(" charge_ah=127831.5 "), "{readings:?}");
    assert!(readings[0].contains(" power_demand_w=-3339.175"));
}

#[test]
fn a_reply_about_registers_without_a_field_is_no_reading_and_nothing_wrong() {
    // github.com/syssi/esphome-solax-x1-mini/issues/20: an inverter asks an SDM230 what it is, and a second
    // one that is not there.
    let capture = hex(
        "01 03 00 0b 00 01 f5 c8 01 03 02 00 a8 b9 fa 02 03 00 0b 00 01 f5 fb \
         01 04 00 48 00 02 f1 dd 01 04 04 46 2a 75 21 29 8c 02 03 00 0b 00 01 f5 fb \
         01 04 00 0c 00 02 b1 c8 01 04 04 45 8e 3c 35 5f b4",
    );
    let said: Vec<String> = clean("modbus:sdm230", &capture)
        .into_iter()
        .filter(|reading| reading.contains('='))
        .collect();
    assert_eq!(
        said,
        [
            "sdm230-1 energy_import_kwh=10909.282",
            "sdm230-1 power_w=4551.526"
        ]
    );
    // An overflow (EEE on the display of a Carlo Gavazzi) is an absent value, alone or among others.
    let capture = frames(&[
        "01 04 00 00 00 02",
        "01 04 04 ff ff 7f ff",
        "01 04 00 00 00 04",
        "01 04 08 ff ff 7f ff 08 fd 00 00",
    ]);
    let said: Vec<String> = clean("modbus:em340", &capture)
        .into_iter()
        .filter(|reading| reading.contains('='))
        .collect();
    assert_eq!(said, ["em340-1 voltage_l2_v=230.1"]);
}

#[test]
fn mistakes_in_a_profile_are_named() {
    let one = |fields: &str| {
        Profile::parse(
            "p",
            &format!("model = 'm'\nsource = 's'\nfields = [{fields}]"),
        )
        .unwrap_err()
        .to_string()
    };
    for (fields, expected) in [
        (
            "{ name = 'A b', address = 0 }",
            "field \"A b\": name is not a-z 0-9 _",
        ),
        (
            "{ name = 'v', address = 0, type = 'INT16' }",
            "needs register",
        ),
        (
            "{ name = 'v', address = 0, register = 'input' }",
            "needs a type",
        ),
        (
            "{ name = 'v', address = 0, register = 'input', type = 'FLOAT16' }",
            "type is not known",
        ),
        (
            "{ name = 'v', address = 65535, register = 'input', type = 'INT32' }",
            "beyond the last",
        ),
        (
            "{ name = 'v', address = 0, register = 'input', type = 'STRING' }",
            "needs length",
        ),
        (
            "{ name = 'v', address = 0, register = 'input', type = 'INT16', scale = 0 }",
            "scale",
        ),
        (
            "{ name = 'v', address = 0, register = 'input', type = 'BOOL', bit = 16 }",
            "bit is not",
        ),
        ("{ name = 'v', adress = 0 }", "unknown field"),
    ] {
        assert!(one(fields).contains(expected), "{fields}: {}", one(fields));
    }
}

#[test]
fn neighbours_are_joined_into_one_request() {
    let map = Profile::built_in("sdm120").unwrap().map;
    let requests = map.requests();
    let shown: Vec<String> = requests
        .iter()
        .map(|request| format!("{:#06x}+{}", request.first, request.count))
        .collect();
    assert_eq!(shown, ["0x0000+38", "0x0046+26", "0x0102+8", "0x0156+4"]);
    let asked = Asked {
        unit: 1,
        request: Request {
            space: Space::Input,
            first: 0,
            count: 2,
        },
    };
    assert_eq!(asked.frame().to_vec(), hex("01 04 00 00 00 02 71 cb"));
}

proptest! {
    #[test]
    fn requests_cover_every_point_once_and_stay_within_their_bounds(
        points in prop::collection::btree_map(0u16..400, 0u8..4, 1..40),
        most in 4u16..125,
        gap in 0u16..20,
    ) {
        let kinds = [Kind::Int16, Kind::Float32, Kind::Uint64, Kind::Bool(3)];
        let points: Vec<map::Point> = points
            .into_iter()
            .map(|(address, kind)| map::Point {
                name: protocol::FieldName::new(format!("p{address}")).unwrap(),
                space: Space::Input,
                address,
                kind: kinds[usize::from(kind)],
                order: Order::ABCD,
                scale: Scale::from(0.1),
                offset: 0.0,
                absent: None,
                poll: true,
            })
            .collect();
        let map = Map { name: "p".into(), either: false, gap, most, points, };
        let requests = map.requests();
        for request in &requests {
            prop_assert!(request.count <= most);
        }
        for point in &map.points {
            let whole = |request: &&Request| {
                request.first <= point.address
                    && u32::from(point.address) + u32::from(point.kind.width())
                        <= u32::from(request.first) + u32::from(request.count)
            };
            prop_assert!(requests.iter().any(|request| whole(&request)));
        }
    }
}
