//! Every byte and every example in `docs/protocol.md` and `docs/formats.md` is what the code does.
//!
//! The examples are the fenced blocks whose info string has two words, such as `json record`; the second
//! names what it is. In hex blocks two spaces and a letter or a quote begin a remark.

use protocol::{control::Fact, header, header::Hops, record::json};
use serde_json::Value as Json;

use crate::{
    avro, facts,
    hex::{bytes, hex},
    records,
    vectors::VECTORS,
};

const PROTOCOL: &str = include_str!("../../../docs/protocol.md");
const FORMATS: &str = include_str!("../../../docs/formats.md");

struct Block {
    form: &'static str,
    name: &'static str,
    text: String,
}

fn blocks(page: &'static str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(info) = line.strip_prefix("```") else {
            continue;
        };
        let text: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
        if let Some((form, name)) = info.split_once(' ') {
            let text = text.join("\n");
            blocks.push(Block { form, name, text });
        }
    }
    blocks
}

/// The bytes of a hex block without its remarks: words of hex up to the first that is none.
fn hex_of(block: &Block) -> String {
    let of_line = |line: &str| -> String {
        // A remark may begin with a word that looks like hex, but never behind fewer than two spaces.
        let mut digits = String::new();
        for part in line.split("  ") {
            let word = part.trim().replace(' ', "");
            if !word.chars().all(|c| c.is_ascii_hexdigit()) {
                break;
            }
            digits.push_str(&word);
        }
        digits
    };
    block.text.lines().map(of_line).collect()
}

#[test]
fn the_frames_in_the_protocol_page_are_those_of_the_encoder() {
    let mut blocks = blocks(PROTOCOL);
    // What `edge-agent monitor` prints is compared there.
    blocks.retain(|block| block.form != "text");
    assert_eq!(blocks.len(), 4);
    for block in &blocks {
        let valid = VECTORS.valid(block.name);
        let mut line = Vec::new();
        valid.message().encode(&mut line).unwrap();
        let expected = match block.form {
            "hex-line" => line,
            "hex-plain" => cobs::decode_vec(&line[1..line.len() - 1]).unwrap(),
            form => panic!("unknown form {form}"),
        };
        assert_eq!(
            hex_of(block),
            hex(&expected),
            "{} {}",
            block.form,
            block.name
        );
    }
}

#[test]
fn the_limits_in_the_protocol_page_are_those_of_the_code() {
    let largest = bytes(&VECTORS.valid("reading-largest").frame).len();
    for row in [
        format!(
            "| frame before COBS | {} bytes |",
            protocol::frame::MAX_FRAME_BYTES
        ),
        format!("| frame on the line | {largest} bytes |"),
        format!("| device id | {} bytes, ", protocol::DeviceId::MAX_BYTES),
        format!("| fields in a reading | {} |", protocol::MAX_FIELDS),
        format!("| field name | {} bytes |", protocol::FieldName::MAX_BYTES),
        format!("| text value | {} bytes |", protocol::MAX_TEXT_BYTES),
    ] {
        assert!(PROTOCOL.contains(&row), "{row}");
    }
    let crc = crc32fast::hash(b"123456789");
    assert!(PROTOCOL.contains(&format!("`{crc:08x}`")));
}

fn example(name: &str) -> Json {
    let blocks = blocks(FORMATS);
    let found = blocks
        .iter()
        .find(|block| (block.form, block.name) == ("json", name));
    serde_json::from_str(&found.unwrap().text).unwrap()
}

fn parsed(text: &str) -> Json {
    serde_json::from_str(text).unwrap()
}

#[test]
fn the_record_in_the_formats_page_is_that_of_the_encoders() {
    assert_eq!(example("record"), parsed(records::FULL_JSON));
    let mut packed = Vec::new();
    protocol::record::postcard::encode(&records::full(), &mut packed).unwrap();
    let blocks = blocks(FORMATS);
    let block = |name| {
        blocks
            .iter()
            .find(|block| (block.form, block.name) == ("hex", name))
            .unwrap()
    };
    assert_eq!(hex_of(block("record")), hex(&packed));
    let registered = avro::encoded(&records::full(), 7, &avro::METER);
    assert_eq!(hex_of(block("avro")), hex(&registered));

    let digest = records::full().digest;
    let hashed = xxhash_rust::xxh3::xxh3_64(&bytes(&hex_of(block("digest"))));
    assert_eq!(hashed, digest.0);
    assert!(FORMATS.contains(&format!("gives `{digest}`")));
}

#[test]
fn the_headers_in_the_formats_page_are_those_of_the_encoder() {
    let hops = Hops::from_header("1795467847113000,1795467847121000,1795467847150001");
    let written = header::of(&records::full(), json::CONTENT_TYPE, &hops);
    let blocks = blocks(FORMATS);
    let block = blocks.iter().find(|block| block.name == "headers").unwrap();
    let shown: Vec<_> = block
        .text
        .lines()
        .map(|line| {
            line.split_once(' ')
                .map(|(name, text)| (name, text.trim()))
                .unwrap()
        })
        .collect();
    let written: Vec<_> = written
        .iter()
        .map(|(name, text)| (*name, text.as_str()))
        .collect();
    assert_eq!(shown, written);
    for other in [
        protocol::record::postcard::CONTENT_TYPE,
        protocol::record::avro::CONTENT_TYPE,
        protocol::schema::json::CONTENT_TYPE,
    ] {
        assert!(FORMATS.contains(&format!("### Value `{other}`")), "{other}");
    }
    for member in protocol::schema::avro::FIXED {
        assert!(FORMATS.contains(&format!("`{member}`")), "{member}");
    }
}

#[test]
fn the_facts_in_the_formats_page_are_those_of_the_encoder() {
    for (name, frozen) in [
        ("epoch", facts::EPOCH),
        ("loss", facts::LOSS),
        ("clock_correction", facts::CORRECTION),
        ("heartbeat", facts::HEARTBEAT),
    ] {
        let shown = example(name);
        assert_eq!(shown, parsed(frozen), "{name}");
        assert!(Fact::decode(shown.to_string().as_bytes()).is_ok(), "{name}");
    }
}

/// The sink's own tests freeze the document; here, that the page shows the same reading as above it.
#[test]
fn the_document_in_the_formats_page_is_that_of_the_record() {
    let (record, document) = (records::full(), example("document"));
    assert_eq!(document["_id"], record.id.to_string());
    assert_eq!(document["seq"], record.id.sequence);
    assert_eq!(document["ts"]["$date"], record.reading.time.to_string());
    let digest = i64::from_le_bytes(record.digest.0.to_le_bytes()).to_string();
    assert_eq!(document["digest"]["$numberLong"], digest);
    let shown = example("record");
    for member in ["clock", "src"] {
        assert_eq!(document[member], shown[member]);
    }
    for (name, value) in shown["fields"].as_object().unwrap() {
        let stored = &document[name];
        match value.as_i64() {
            Some(number) => assert_eq!(stored["$numberLong"], number.to_string()),
            None => assert_eq!(stored, value),
        }
    }
    for (name, text) in shown["meta"].as_object().unwrap() {
        assert_eq!(&document["meta"][name], text);
    }
    assert_eq!(document["meta"]["gateway"], shown["gateway"]);
    assert_eq!(document["meta"]["device"], shown["device"]);
}
