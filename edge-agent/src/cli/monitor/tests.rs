//! What a firmware author sees.

use super::*;

fn heard(bytes: &[u8], brief: bool) -> (String, usize) {
    let mut monitor = Monitor {
        brief,
        ..Monitor::default()
    };
    let mut out = String::new();
    bytes.iter().for_each(|&b| monitor.push(b, &mut out));
    monitor.finish(&mut out);
    for line in out.lines().filter(|_| !brief) {
        assert!(line.chars().count() <= COLUMNS, "{line}");
    }
    (out, monitor.rejected)
}

fn frame() -> Vec<u8> {
    let mut out = Vec::new();
    let ack = protocol::frame::Ack {
        boot: 7,
        sequence: 3,
        verdict: Verdict::Stored,
    };
    Frame::Ack(ack).encode(&mut out).unwrap();
    out
}

#[test]
fn each_frame_is_told_with_its_place_and_a_bad_one_with_the_reason() {
    let good = frame();
    let mut bad = good.clone();
    let last = bad.len() - 2;
    bad[last] ^= 1;
    let bytes = [&good[..], &bad, &[0, 2, 5, 0], &good[..4]].concat();
    for brief in [true, false] {
        let (out, rejected) = heard(&bytes, brief);
        assert_eq!(rejected, 2, "{out}");
        let heads: Vec<&str> = out
            .lines()
            .filter(|line| line.starts_with("byte"))
            .collect();
        assert_eq!(heads.len(), 4, "{out}");
        assert!(heads[0].starts_with("byte 1 "), "{out}");
        assert!(heads[0].contains("ack"), "{out}");
        assert!(heads[1].contains("REJECTED frame crc is "), "{out}");
        assert!(heads[2].contains("REJECTED frame has 1 bytes"), "{out}");
        assert!(heads[3].contains("a frame is not over yet"), "{out}");
    }
}

#[test]
fn a_line_without_zeros_is_told_before_one_comes_and_shown_as_the_text_that_it_is() {
    let mut bytes = b"temperature=21.5\r\n".repeat(100);
    let (out, rejected) = heard(&bytes, false);
    assert_eq!(rejected, 1, "{out}");
    assert!(
        out.contains("REJECTED frame is longer than 1024 bytes"),
        "{out}"
    );
    assert!(
        out.contains("text:\n       \"temperature=21.5\\r\\n"),
        "{out}"
    );
    assert_eq!(
        out.matches("byte ").count(),
        2,
        "said once, and in the remedy: {out}"
    );
    bytes.push(0);
    bytes.extend(frame());
    let (out, rejected) = heard(&bytes, false);
    assert_eq!(rejected, 1, "{out}");
    assert!(
        out.contains("a zero at last, 1800 bytes behind the one before"),
        "{out}"
    );
    assert!(out.contains("bytes  ack"), "{out}");
}

#[test]
fn a_quiet_line_in_the_middle_of_a_frame_is_asked_after_once() {
    let mut monitor = Monitor::default();
    let mut out = String::new();
    b"hello\n".iter().for_each(|&b| monitor.push(b, &mut out));
    monitor.waits(&mut out);
    monitor.waits(&mut out);
    assert_eq!(out.matches("no zero byte behind them").count(), 1, "{out}");
    assert!(out.contains("text: \"hello\\n\""), "{out}");
}

/// Bytes in hex, with or without spaces.
fn bytes_of(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// The page for firmware authors shows this output; `(info, text)` of its blocks.
fn block(of: &str) -> String {
    let page = include_str!("../../../../docs/protocol.md");
    let (_, rest) = page.split_once(&format!("```{of}\n")).unwrap();
    rest.split("```").next().unwrap().to_owned()
}

#[test]
fn the_protocol_page_shows_what_monitor_prints() {
    let line = block("hex-line reading");
    let line = line.lines().map(|row| row.split("   ").next().unwrap());
    let good = bytes_of(&line.collect::<Vec<_>>().join(" "));
    assert_eq!(heard(&good, false).0, block("text monitor"));
    // The CRC, most significant byte first.
    let mut bad = good;
    let at = bad.len() - 5;
    bad[at..at + 4].reverse();
    assert_eq!(heard(&bad, false).0, block("text monitor-rejected"));
}
