//! RFC 8428, examples 5.1.1, 5.1.2, 5.1.3 (its first records), 5.1.5 and 5.1.6, and a name of RFC 9039; the
//! others are made after the text of RFC 8428, 4.4 and 4.5.

use super::{Preset, check, read_as};
use crate::decode::{DecodeError, stream::tests::hex};

fn read(payload: &str) -> Vec<String> {
    match read_as(Preset::Senml, None, "gw/senml", payload.as_bytes()) {
        Ok(lines) => lines,
        Err(error) => vec![format!("error: {error}")],
    }
}

#[test]
fn records_are_resolved_and_joined_by_device_and_time() {
    for (payload, expected) in [
        (
            r#"[{"n":"urn:dev:ow:10e2073a01080063","u":"Cel","v":23.1}]"#,
            vec!["urn:dev:ow:10e2073a01080063 value_c=23.1"],
        ),
        (
            r#"[{"bn":"urn:dev:ow:10e2073a01080063:","n":"voltage","u":"V","v":120.1},{"n":"current","u":"A","v":1.2}]"#,
            vec!["urn:dev:ow:10e2073a01080063 current_a=1.2 voltage_v=120.1"],
        ),
        (
            r#"[{"bn":"urn:dev:ow:10e2073a0108006:","bt":1.276020076001e+09,"bu":"A","bver":5,"n":"voltage","u":"V","v":120.1},{"n":"current","t":-5,"v":1.2},{"n":"current","t":-4,"v":1.3},{"n":"current","v":1.7}]"#,
            vec![
                "urn:dev:ow:10e2073a0108006 @2010-06-08T18:01:16.001Z current_a=1.7 voltage_v=120.1",
                "urn:dev:ow:10e2073a0108006 @2010-06-08T18:01:11.001Z current_a=1.2",
                "urn:dev:ow:10e2073a0108006 @2010-06-08T18:01:12.001Z current_a=1.3",
            ],
        ),
        (
            r#"[{"bn":"urn:dev:ow:10e2073a01080063","bt":1.320067464e+09,"bu":"%RH","v":20},{"u":"lon","v":24.30621},{"u":"lat","v":60.07965},{"t":60,"v":20.3}]"#,
            vec![
                "urn:dev:ow:10e2073a01080063 @2011-10-31T13:24:24Z latitude_deg=60.07965 longitude_deg=24.30621 value_pct=20",
                "urn:dev:ow:10e2073a01080063 @2011-10-31T13:25:24Z value_pct=20.3",
            ],
        ),
        (
            r#"[{"bn":"urn:dev:ow:10e2073a01080063:","n":"temp","u":"Cel","v":23.1},{"n":"label","vs":"Machine Room"},{"n":"open","vb":false},{"n":"nfc-reader","vd":"aGkgCg"}]"#,
            vec![
                r#"urn:dev:ow:10e2073a01080063 label="Machine Room" nfc_reader="aGkgCg" open=false temp_c=23.1"#,
            ],
        ),
        (
            r#"[{"bn":"2001:db8::2/","bt":1.320078429e+09,"n":"temperature","u":"Cel","v":25.2},{"n":"humidity","u":"%RH","v":30},{"bn":"2001:db8::1/","n":"temperature","u":"Cel","v":12.3},{"n":"humidity","u":"%RH","v":67}]"#,
            vec![
                "2001:db8::2 @2011-10-31T16:27:09Z humidity_pct=30 temperature_c=25.2",
                "2001:db8::1 @2011-10-31T16:27:09Z humidity_pct=67 temperature_c=12.3",
            ],
        ),
        (
            r#"[{"n":"urn:dev:ow:264437f5000000ed_humidity","u":"%RH","v":40}]"#,
            vec!["urn:dev:ow:264437f5000000ed humidity_pct=40"],
        ),
        (
            r#"[{"bn":"urn:dev:mac:0024befffe804ff1/","bt":-10,"bv":20,"bu":"Cel","n":"t","v":1.5},{"n":"t","t":10,"v":-1},{"n":"e","u":"J","s":5,"bs":1}]"#,
            vec![
                "urn:dev:mac:0024befffe804ff1 -10s e_sum=6 t_c=21.5",
                "urn:dev:mac:0024befffe804ff1 t_c=19",
            ],
        ),
        (
            r#"{"n":"hall/temperature","u":"K","v":294.65}"#,
            vec!["hall temperature_c=21.5"],
        ),
        (
            r#"[{"n":"q","u":"C","v":1},{"n":"w","u":"W","v":2}]"#,
            vec!["- q_coulomb=1 w=2"],
        ),
    ] {
        assert_eq!(read(payload), expected, "{payload}");
    }
    check(Preset::Senml, &[]);
}

#[test]
fn what_must_be_understood_refuses_the_pack_and_what_is_missing_its_record() {
    for (payload, expected) in [
        (
            r#"[{"n":"a","v":1,"x_":2}]"#,
            "error: a SenML label that ends with _ must be understood and is not",
        ),
        (
            r#"[{"bver":11,"n":"a","v":1}]"#,
            "error: this SenML version is unknown, 10 is the newest known",
        ),
        ("3", "error: a SenML pack is a list of records"),
        (
            r#"[{"n":"a"}]"#,
            "!record 0: a SenML record without a value",
        ),
        (
            r#"[{"n":"a","bv":20}]"#,
            "!record 0: a SenML record without a value",
        ),
        (r#"[7]"#, "!record 0: a SenML record is an object"),
        (r#"[{"v":1}]"#, "!record 0: a SenML record without a name"),
        (
            r#"[{"n":"a","v":"1"}]"#,
            "- !a: is a word, a number is expected",
        ),
        (r#"[{"n":"a","v":1e400}]"#, "- !a: is not a finite number"),
        (
            r#"[{"n":"a","v":18446744073709551616}]"#,
            "- !a: has more digits than a float keeps, send it as text",
        ),
    ] {
        assert_eq!(read(payload), [expected], "{payload}");
    }
}

#[test]
fn a_pack_in_cbor_reads_as_its_json() {
    // RFC 8428, section 6: the pack of 5.1.2 in its 140 bytes (the base name is shortened there).
    let cbor = hex(
        "87 a7 21 78 1b 75726e3a6465763a6f773a313065323037336130313038303036 3a 22 fb 41d303a15b001062 23 61 41 \
         20 05 00 67 766f6c74616765 01 61 56 02 fb 405e066666666666 \
         a3 00 67 63757272656e74 06 24 02 fb 3ff3333333333333 a3 00 67 63757272656e74 06 23 02 fb 3ff4cccccccccccd \
         a3 00 67 63757272656e74 06 22 02 fb 3ff6666666666666 a3 00 67 63757272656e74 06 21 02 f9 3e00 \
         a3 00 67 63757272656e74 06 20 02 fb 3ff999999999999a a3 00 67 63757272656e74 06 00 02 fb 3ffb333333333333",
    );
    let read = |payload: &[u8]| read_as(Preset::Senml, None, "gw/senml", payload);
    let device = "urn:dev:ow:10e2073a0108006";
    let said = [
        "16.001Z current_a=1.7 voltage_v=120.1",
        "11.001Z current_a=1.2",
        "12.001Z current_a=1.3",
        "13.001Z current_a=1.4",
        "14.001Z current_a=1.5",
        "15.001Z current_a=1.6",
    ]
    .map(|said| format!("{device} @2010-06-08T18:01:{said}"));
    assert_eq!(read(&cbor).unwrap(), said);

    let cut = read(&cbor[..cbor.len() - 1]).unwrap_err();
    assert_eq!(cut, DecodeError::NotCbor(cbor.len() - 1));
    // A label that must be understood, and a number that is none.
    let refused = read(&hex("81 a3 00 61 61 02 01 62 785f 02"));
    assert!(matches!(refused, Err(DecodeError::NotAsPreset(_))));
    let nan = read(&hex("82 a2 00 61 61 02 f9 7e00 a2 00 61 62 02 fa 41ab3333"));
    assert_eq!(nan.unwrap(), ["- b=21.4 !a: is not a finite number"]);
}

#[test]
fn secondary_units_become_those_of_the_catalogue() {
    // RFC 8798, table 1.
    for (record, expected) in [
        (r#""u":"km/h","v":36"#, "d x_m_s=10"),
        (r#""u":"mm/h","v":2.5"#, "d x_mm_h=2.5"),
        (r#""u":"cm","v":21.5"#, "d x_m=0.215"),
        (r#""u":"ppm","v":612"#, "d x_ppm=612"),
        (r#""u":"/100","v":45"#, "d x_pct=45"),
        (r#""u":"KiB","v":2"#, "d x_byte=2048"),
    ] {
        let payload = format!(r#"[{{"bn":"d/","n":"x",{record}}}]"#);
        assert_eq!(read(&payload), [expected], "{payload}");
    }
}
