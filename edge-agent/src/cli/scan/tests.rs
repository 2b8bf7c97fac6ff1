use super::*;

#[test]
fn units_are_one_or_a_range() {
    assert_eq!(units("7"), Ok((7, 7)));
    assert_eq!(units("1-247"), Ok((1, 247)));
    for wrong in ["", "9-1", "1-300", "a"] {
        assert!(units(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_profile_fits_only_with_numbers_that_can_be() {
    let decoded = |fields: &[(&str, f64)]| {
        let fields = fields.iter().map(|(name, number)| {
            let name = protocol::FieldName::new(*name).unwrap();
            (name, Value::Float(*number))
        });
        Decoded {
            fields: fields.collect(),
            ..Decoded::default()
        }
    };
    assert!(plausible(&decoded(&[
        ("voltage_v", 230.1),
        ("power_w", -5.0)
    ])));
    assert!(!plausible(&decoded(&[
        ("voltage_v", 230.1),
        ("frequency_hz", 0.1)
    ])));
    assert!(!plausible(&decoded(&[("power_w", 5.0)])));
    // An SDM72 tells neither voltage nor frequency.
    let sdm72 = |import| {
        plausible(&decoded(&[
            ("power_w", 812.5),
            ("energy_import_kwh", import),
            ("energy_export_kwh", 0.0),
            ("energy_total_kwh", 1234.5),
            ("power_export_w", 0.0),
        ]))
    };
    assert!(sdm72(1234.5));
    assert!(!sdm72(1e-38));
}
