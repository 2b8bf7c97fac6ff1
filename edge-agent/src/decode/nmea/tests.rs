use super::super::stream::{
    Fault,
    tests::{clean, mixed},
};

/// Closes a sentence with its checksum.
fn said(sentence: &str) -> String {
    let sum = sentence.bytes().fold(0, |sum, byte| sum ^ byte);
    format!("${sentence}*{sum:02X}\r\n")
}

/// u-blox 8, as in its protocol specification: one second of a multi-constellation receiver.
const UBLOX: &str = "\
$GNRMC,083559.00,A,4717.11437,N,00833.91522,E,0.004,77.52,091202,,,A,V*33\r\n\
$GNVTG,77.52,T,,M,0.004,N,0.008,K,A*12\r\n\
$GNGGA,083559.00,4717.11399,N,00833.91590,E,1,08,1.01,499.6,M,48.0,M,,*45\r\n\
$GNGSA,A,3,23,29,07,08,09,18,26,28,,,,,1.94,1.18,1.54,1*0D\r\n\
$GPGSV,3,1,10,23,38,230,44,29,71,156,47,07,29,116,41,08,09,081,36*7F\r\n\
$GLGSV,1,1,03,65,38,230,49,66,71,156,,67,29,116,41*5B\r\n\
$GNGLL,4717.11364,N,00833.91565,E,083559.00,A,A*77\r\n";

#[test]
fn the_sentences_of_one_epoch_are_one_reading() {
    // Checksums of examples are often those of other receivers: each sentence anew.
    let one: String = UBLOX
        .lines()
        .map(|line| said(line.trim_start_matches('$').split('*').next().unwrap()))
        .collect();
    let two = one.replace("083559.00", "083600.20");
    let two: String = two
        .lines()
        .map(|line| said(line.trim_start_matches('$').split('*').next().unwrap()))
        .collect();
    let readings = clean("nmea", (one + &two).as_bytes());
    assert_eq!(readings.len(), 2);
    assert_eq!(
        readings[0],
        "@2002-12-09T08:35:59Z altitude_m=499.6 course_deg=77.52 fix_mode=3 fix_quality=1 \
         fix_valid=true geoid_separation_m=48 hdop=1.01 latitude_deg=47.2852395 \
         longitude_deg=8.5652537 pdop=1.94 satellites_in_view=13 satellites_used=8 \
         snr_max_db=49 speed_m_s=0.002 vdop=1.54"
    );
    assert!(readings[1].starts_with("@2002-12-09T08:36:00.2Z "));
}

#[test]
fn the_classic_examples_are_read() {
    let classic = "$GPRMC,123519,A,4807.038,N,01131.000,E,022.4,084.4,230394,003.1,W*6A\n";
    assert_eq!(
        clean("nmea", classic.as_bytes()),
        [
            "@1994-03-23T12:35:19Z course_deg=84.4 fix_valid=true latitude_deg=48.1173 \
          longitude_deg=11.5166667 magnetic_variation_deg=-3.1 speed_m_s=11.524"
        ]
    );
    let south_west = said("INGLL,3723.2475,S,12158.3416,W,161229.487,A,A");
    assert_eq!(
        clean("nmea", south_west.as_bytes()),
        ["fix_valid=true latitude_deg=-37.3874583 longitude_deg=-121.97236"]
    );
    let old = said("GPVTG,054.7,034.4,005.5,010.2");
    assert_eq!(
        clean("nmea", old.as_bytes()),
        ["course_deg=54.7 course_magnetic_deg=34.4 speed_m_s=2.829"]
    );
}

#[test]
fn a_fix_that_is_none_is_marked() {
    for sentence in [
        "GNRMC,,V,,,,,,,,,,N",
        "GPGGA,092750.000,,,,,0,0,,,M,,M,,",
        "GNGSA,A,1,,,,,,,,,,,,,99.99,99.99,99.99",
        "GPRMC,092751.000,V,5321.6802,N,00630.3371,W,0.06,31.66,280511,,,A",
    ] {
        let [reading] = &clean("nmea", said(sentence).as_bytes())[..] else {
            panic!("{sentence}");
        };
        assert!(reading.contains("fix_valid=false"), "{reading}");
    }
    // Valid by one sentence, not by the other: not valid.
    let two = said("GPGGA,1,,,,,1,03,,,M,,M,,") + &said("GPRMC,,V,,,,,,,,,,N");
    assert!(clean("nmea", two.as_bytes())[0].contains("fix_valid=false"));
}

#[test]
fn the_date_is_carried_over_midnight_and_missing_before_it_was_said() {
    let gga = |time: &str| {
        said(&format!(
            "GPGGA,{time},4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,"
        ))
    };
    let rmc = said("GPRMC,235959.50,A,4807.038,N,01131.000,E,0,0,311226,,,A");
    let capture = [gga("235958"), rmc, gga("235959.75"), gga("000000.25")].concat();
    let times: Vec<Option<String>> = clean("nmea", capture.as_bytes())
        .iter()
        .map(|reading| Some(reading.strip_prefix('@')?.split(' ').next()?.to_owned()))
        .collect();
    let at = |time: &str| Some(time.to_owned());
    assert_eq!(
        times,
        [
            None,
            at("2026-12-31T23:59:59.5Z"),
            at("2026-12-31T23:59:59.75Z"),
            at("2027-01-01T00:00:00.25Z")
        ]
    );
}

#[test]
fn receivers_without_a_fix_still_have_one_reading_an_epoch() {
    let silent = said("GPRMC,,V,,,,,,,,,,N") + &said("GPGSV,1,1,00");
    assert_eq!(clean("nmea", silent.repeat(3).as_bytes()).len(), 3);
}

#[test]
fn damaged_sentences_are_named_and_others_untouched() {
    let good = said("GPGLL,4916.45,N,12311.12,W,225444,A");
    let bad = good.replace("4916", "4917");
    let bare = "$GPGLL,4916.45,N,12311.12,W,225444,A\r\n";
    let capture = [&good[20..], &bad, &good, bare, &said("PUBX,00,1"), "\r\n"].concat();
    let (readings, rejected) = mixed("nmea", capture.as_bytes());
    assert_eq!(
        readings,
        ["fix_valid=true latitude_deg=49.2741667 longitude_deg=-123.1853333"]
    );
    let faults: Vec<&Fault> = rejected.iter().map(|(_, _, fault)| fault).collect();
    assert!(matches!(
        faults[..],
        [Fault::Lead, Fault::Checksum { .. }, Fault::NoChecksum]
    ));
    // No line end between two, and none at the end of the capture.
    let joined = good.trim_end().repeat(2);
    assert_eq!(clean("nmea", joined.as_bytes()).len(), 2);
}

#[test]
fn coordinates_that_are_none_are_rejected_by_name() {
    for position in [
        "9916.45,N,12311.12,W",
        "4960.45,N,12311.12,W",
        "4916.45,X,12311.12,W",
        "x,N,y,W",
    ] {
        let sentence = said(&format!("GPGLL,{position},225444,A"));
        let (readings, _) = super::super::stream::tests::read("nmea", sentence.as_bytes());
        assert_eq!(readings[0].rejected.len(), 1, "{position}");
        assert_eq!(readings[0].fields.len(), 1, "{position}");
    }
}

#[test]
fn coordinates_of_a_receiver_that_knows_nothing_are_no_error() {
    // MTK MT3329 in a 737A+, from gpsd's test/daemon/tr737A+.log.
    let lost = "$GPRMC,071733.929,V,8960.0000,N,00000.0000,E,0.00,0.00,111111,,,N*72\r\n\
                $GPGGA,071733.929,8960.0000,N,00000.0000,E,0,0,,137.0,M,13.0,M,,*40\r\n";
    assert_eq!(
        clean("nmea", lost.as_bytes()),
        [
            "@2011-11-11T07:17:33.929Z altitude_m=137 course_deg=0 fix_quality=0 fix_valid=false \
          geoid_separation_m=13 satellites_used=0 speed_m_s=0"
        ]
    );
    // The same receiver a second later: where it was last, marked.
    let last = "$GPRMC,071734.929,V,4404.1178,N,12118.8608,W,0.10,0.00,111111,,,N*67\r\n";
    let reading = &clean("nmea", last.as_bytes())[0];
    assert!(
        reading.contains("fix_valid=false latitude_deg=44.06863"),
        "{reading}"
    );
}

#[test]
fn talkers_that_say_the_same_moment_are_one_epoch() {
    // Telit PLS83-W, from gpsd's test/daemon/telit-pls83-w.log: GPS and Galileo each have sentences of their own.
    let second = |seconds: u8, longitude: &str| -> String {
        let position = format!("4333.190182,N,{longitude},E");
        [
            format!("GPGGA,0435{seconds}.00,{position},1,05,1.3,250.8,M,50.0,M,,"),
            format!("GAGGA,0435{seconds}.00,{position},1,01,1.3,250.8,M,50.0,M,,"),
            "GPVTG,,T,1.7,M,0.0,N,0.0,K,A".to_owned(),
            "GAVTG,,T,1.7,M,0.0,N,0.0,K,A".to_owned(),
            format!("GPRMC,0435{seconds}.00,A,{position},0.0,,040925,1.7,W,A,V"),
            format!("GARMC,0435{seconds}.00,A,{position},0.0,,040925,1.7,W,A,V"),
        ]
        .iter()
        .map(|sentence| said(sentence))
        .collect()
    };
    let both = second(42, "00127.618391") + &second(43, "00127.618393");
    let readings = clean("nmea", both.as_bytes());
    assert_eq!(readings.len(), 2, "{readings:?}");
    assert_eq!(
        readings[0],
        "@2025-09-04T04:35:42Z altitude_m=250.8 course_magnetic_deg=1.7 fix_quality=1 \
         fix_valid=true geoid_separation_m=50 hdop=1.3 latitude_deg=43.5531697 \
         longitude_deg=1.4603065 magnetic_variation_deg=-1.7 satellites_used=5 speed_m_s=0"
    );
    assert!(readings[1].starts_with("@2025-09-04T04:35:43Z "));
}

#[test]
fn the_first_fix_is_no_part_of_the_epoch_without_one() {
    // Garmin Foretrex 201, from gpsd's test/daemon/foretrex-201.log: no time while there is no fix.
    let woke: String = [
        "GPGLL,,,,,,V,N",
        "GPRMC,,V,,,,,,,260810,1.0,E,N",
        "GPGGA,,,,,,0,00,,,M,,M,,",
        "GPGLL,,,,,,V,N",
        "GPRMC,200004,A,5504.4343,N,01025.5386,E,0.0,0.0,260810,1.0,E,D",
        "GPGGA,200004,5504.4343,N,01025.5386,E,2,03,2.5,-9.1,M,43.9,M,,",
        "GPGLL,5504.4343,N,01025.5386,E,200004,A,D",
    ]
    .map(said)
    .concat();
    let readings = clean("nmea", woke.as_bytes());
    let last = readings.last().unwrap();
    assert!(
        last.starts_with("@2010-08-26T20:00:04Z altitude_m=-9.1 "),
        "{last}"
    );
    assert!(last.contains(" fix_valid=true "), "{last}");
    assert!(
        readings[..readings.len() - 1]
            .iter()
            .all(|r| r.contains("fix_valid=false"))
    );
}

#[test]
fn two_ways_of_rounding_a_moment_are_one_epoch() {
    // Magellan 315, from gpsd's test/daemon/magellan315.log.
    let capture = "$GPGLL,3908.8199,N,00023.0832,W,120824.758,A*22\r\n\
        $GPGGA,120824.76,3908.8199,N,00023.0832,W,1,06,2.1,00176,M,,,,*39\r\n\
        $GPRMC,120824.76,A,3908.8199,N,00023.0832,W,00.0,000.0,130305,01.,W*62\r\n\
        $GPGSA,A,3,19,15,03,18,22,11,,,,,,,3.5,2.1,2.7*34\r\n\
        $GPGLL,3908.8200,N,00023.0832,W,120827.523,A*2C\r\n";
    let readings = clean("nmea", capture.as_bytes());
    assert_eq!(readings.len(), 2, "{readings:?}");
    assert_eq!(
        readings[0],
        "@2005-03-13T12:08:24.758Z altitude_m=176 course_deg=0 fix_mode=3 fix_quality=1 \
         fix_valid=true hdop=2.1 latitude_deg=39.1469983 longitude_deg=-0.38472 \
         magnetic_variation_deg=-1 pdop=3.5 satellites_used=6 speed_m_s=0 vdop=2.7"
    );
}

#[test]
fn a_variation_that_nobody_knows_is_none() {
    // Caterpillar MS352, from gpsd's test/daemon/cat-ms352.log: 999.9; Telit SL869: 0.0 to the west.
    for (variation, expected) in [
        ("999.9,E", None),
        ("0.0,W", Some("magnetic_variation_deg=0")),
    ] {
        let rmc = said(&format!(
            "GPRMC,113938.50,A,3842.86,N,11705.44,W,0.01,46.4,231122,{variation},D"
        ));
        let readings = clean("nmea", rmc.as_bytes());
        let words: Vec<&str> = readings[0].split(' ').collect();
        let said = words.into_iter().find(|w| w.starts_with("magnetic"));
        assert_eq!(said, expected);
    }
}
