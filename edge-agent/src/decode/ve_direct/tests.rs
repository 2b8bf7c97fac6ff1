use super::{
    super::{
        stream::{
            Fault,
            tests::{clean, mixed},
        },
        units,
    },
    QUANTITIES,
};

/// Closes a block with its checksum.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block: Vec<u8> = fields
        .iter()
        .flat_map(|(label, value)| format!("\r\n{label}\t{value}").into_bytes())
        .collect();
    block.extend(b"\r\nChecksum\t");
    let sum = block.iter().fold(0u8, |sum, &b| sum.wrapping_add(b));
    block.push(sum.wrapping_neg());
    block
}

/// BlueSolar MPPT 100/15 as posted at communityarchive.victronenergy.com, questions/64083.
const MPPT: [(&str, &str); 17] = [
    ("PID", "0xA043"),
    ("FW", "119"),
    ("SER#", "HQ1328A1B2C"),
    ("V", "13790"),
    ("I", "-10"),
    ("VPV", "15950"),
    ("PPV", "0"),
    ("CS", "5"),
    ("ERR", "0"),
    ("LOAD", "ON"),
    ("IL", "0"),
    ("H19", "12345"),
    ("H20", "2"),
    ("H21", "397"),
    ("H22", "0"),
    ("H23", "0"),
    ("HSDS", "0"),
];
const READ: &str = "HQ1328A1B2C battery_current_a=-0.01 battery_voltage_v=13.79 charge_state=5 \
     error_code=0 history_day=0 load_current_a=0 load_on=true panel_power_max_today_w=397 \
     panel_power_max_yesterday_w=0 panel_power_w=0 panel_voltage_v=15.95 yield_today_kwh=0.02 \
     yield_total_kwh=123.45 yield_yesterday_kwh=0";

#[test]
fn a_charger_and_a_monitor_are_read_in_the_units_of_their_names() {
    assert_eq!(clean("ve-direct", &block(&MPPT)), [READ]);
    // BMV-712: two blocks in turn, unknown quantities as dashes.
    let one = block(&[
        ("PID", "0xA381"),
        ("V", "26201"),
        ("T", "---"),
        ("I", "-1500"),
        ("P", "-39"),
        ("CE", "-12500"),
        ("SOC", "876"),
        ("TTG", "-1"),
        ("Alarm", "OFF"),
        ("Relay", "OFF"),
        ("AR", "0"),
        ("BMV", "712 Smart"),
        ("FW", "0413"),
    ]);
    let two = block(&[
        ("H1", "-102738"),
        ("H7", "11988"),
        ("H9", "1814"),
        ("H18", "4567"),
    ]);
    assert_eq!(
        clean("ve-direct", &[one, two].concat()),
        [
            "alarm_on=false alarm_reason=0 battery_current_a=-1.5 battery_power_w=-39 \
             battery_voltage_v=26.201 consumed_charge_ah=-12.5 relay_on=false \
             state_of_charge_pct=87.6",
            "battery_voltage_min_v=11.988 charged_energy_kwh=45.67 deepest_discharge_ah=-102.738 \
             time_since_full_charge_s=1814"
        ]
    );
    // Phoenix inverter, and a label nobody knows.
    let inverter = block(&[
        ("PID", "0xA231"),
        ("MODE", "2"),
        ("AC_OUT_V", "23004"),
        ("AC_OUT_I", "1"),
        ("OR", "0x00000008"),
        ("NEW X", "7"),
    ]);
    assert_eq!(
        clean("ve-direct", &inverter),
        ["ac_out_current_a=0.1 ac_out_voltage_v=230.04 device_mode=2 new_x=7 off_reason=8"]
    );
}

#[test]
fn hex_messages_may_stand_anywhere() {
    let block = block(&MPPT);
    for at in 0..=block.len() {
        let mut capture = block.clone();
        capture.splice(at..at, *b":A0002000148\n");
        // Directly in front of the checksum byte a colon is the checksum byte.
        if at + 1 != block.len() {
            assert_eq!(clean("ve-direct", &capture), [READ], "at {at}");
        }
    }
}

#[test]
fn the_checksum_byte_may_be_any_byte() {
    for n in 0..=255 {
        let part = |from: u8| char::from(b'!' + (n - n.min(from)).min(85));
        let value: String = [0, 85, 170].map(part).iter().collect();
        let block = block(&[("PID", "0xA043"), ("X", &value)]);
        let capture = [&block[..], &block[..]].concat();
        let last = block.last().unwrap();
        assert_eq!(clean("ve-direct", &capture).len(), 2, "checksum {last:#x}");
    }
}

#[test]
fn a_stream_that_begins_in_the_middle_is_read_from_the_first_whole_block() {
    let block = block(&MPPT);
    for cut in 3..block.len() {
        let capture = [&block[cut..], &block[..]].concat();
        let (readings, rejected) = mixed("ve-direct", &capture);
        assert_eq!(readings, [READ], "cut at {cut}");
        assert_eq!(rejected.len(), 1);
        assert_eq!((rejected[0].0, rejected[0].2.clone()), (0, Fault::Lead));
    }
    // Somebody trimmed the file.
    assert_eq!(clean("ve-direct", &block[2..]), [READ]);
}

#[test]
fn damage_costs_only_its_block() {
    let good = block(&MPPT);
    let other = block(&[("PID", "0xA043"), ("V", "12000")]);
    // Each byte of the first block lost in turn, also its label and its checksum.
    for at in 0..good.len() {
        let mut damaged = good.clone();
        damaged.remove(at);
        let (readings, rejected) = mixed(
            "ve-direct",
            &[damaged, other.clone(), good.clone()].concat(),
        );
        let from = readings.len().saturating_sub(2);
        assert_eq!(
            readings[from..],
            ["HQ1328A1B2C battery_voltage_v=12", READ][..]
                .iter()
                .map(|r| {
                    // Without the first block nobody has said the serial number yet.
                    if from == 0 {
                        r.replace("HQ1328A1B2C battery_voltage_v=12", "battery_voltage_v=12")
                    } else {
                        (*r).to_owned()
                    }
                })
                .collect::<Vec<_>>(),
            "byte {at} lost"
        );
        assert!(from == 1 || !rejected.is_empty(), "byte {at} lost");
    }
}

#[test]
fn a_hex_message_may_end_as_text_lines_do() {
    let block = block(&MPPT);
    let (front, back) = block.split_at(52);
    let mixed = [front, b":A0002000148\r\n", back, b":7F0ED0071\r\n"].concat();
    assert_eq!(clean("ve-direct", &mixed), [READ]);
}

#[test]
fn an_orion_xs_counts_its_input_in_units_of_its_own() {
    let xs = block(&[
        ("PID", "0xA3F0"),
        ("FWE", "0109FF"),
        ("SER#", "HQ2343ABCDE"),
        ("V", "13300"),
        ("I", "24500"),
        ("DC_IN_V", "1380"),
        ("DC_IN_I", "250"),
        ("DC_IN_P", "345"),
        ("CS", "3"),
        ("ERR", "0"),
        ("OR", "0x00000000"),
    ]);
    assert_eq!(
        clean("ve-direct", &xs),
        [
            "HQ2343ABCDE battery_current_a=24.5 battery_voltage_v=13.3 charge_state=3 dc_in_current_a=25 \
          dc_in_power_w=345 dc_in_voltage_v=13.8 error_code=0 off_reason=0"
        ]
    );
}

#[test]
fn time_to_go_is_in_seconds_and_none_where_it_is_infinite() {
    // A BMV-702, from github.com/karioja/vedirect, test/bvm702.dump.
    for (minutes, seconds) in [("942", Some("time_to_go_s=56520")), ("-1", None)] {
        let bmv = block(&[
            ("PID", "0x203"),
            ("V", "12065"),
            ("I", "-7625"),
            ("P", "-92"),
            ("CE", "-65473"),
            ("SOC", "839"),
            ("TTG", minutes),
            ("Alarm", "OFF"),
            ("Relay", "OFF"),
            ("AR", "0"),
            ("BMV", "702"),
            ("FW", "0307"),
        ]);
        let expected = [
            "alarm_on=false alarm_reason=0 battery_current_a=-7.625 battery_power_w=-92 \
             battery_voltage_v=12.065 consumed_charge_ah=-65.473 relay_on=false \
             state_of_charge_pct=83.9",
            seconds.unwrap_or_default(),
        ];
        assert_eq!(clean("ve-direct", &bmv), [expected.join(" ").trim_end()]);
    }
}

#[test]
fn every_name_of_the_table_is_in_a_unit_of_the_catalogue() {
    for (label, name, _) in QUANTITIES {
        assert!(units::is_stored(name), "{label}: {name}");
    }
}
