//! On real pseudo-terminals; the test is the device.

use std::{io::Read, os::unix::fs::symlink, path::PathBuf, thread::JoinHandle};

use protocol::{
    DeviceId, SourceId, Topic, Value,
    frame::{Ack, FrameReading, FrameTime, Hello, Verdict},
};

use super::*;
use crate::{
    config::Roles,
    ingest::{Message, Outcome},
    link::LinkKind,
    source::intake::Far,
};

const LONG: Duration = Duration::from_secs(60);

/// The agent's side of one line, at a path that can be plugged anew.
struct Rig {
    far: Far,
    shutdown: CancellationToken,
    thread: Option<JoinHandle<Result<(), SourceError>>>,
    path: PathBuf,
    _directory: tempfile::TempDir,
}

impl Rig {
    fn new(mode: SerialMode) -> (Self, Device) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("port");
        let device = Device::plug(&path);
        let (intake, far) = Far::new(LinkKind::Serial);
        let shutdown = CancellationToken::new();
        let settings = Serial {
            name: "meter".into(),
            port: path.clone(),
            baud: 115_200,
            framing: config::Framing::default(),
            rs485: false,
            mode,
            topic: Topic::new("t").unwrap(),
            meta: Metadata::default(),
        };
        let agent = Agent {
            gateway: GatewayId::new("gw7").unwrap(),
            state_dir: PathBuf::new(),
            shutdown_timeout: Duration::from_secs(5),
            meta: Metadata::default(),
        };
        let port = Port::new(&settings, &agent, intake, shutdown.clone()).unwrap();
        let rig = Self {
            far,
            shutdown,
            thread: Some(thread::spawn(move || port.run())),
            path,
            _directory: directory,
        };
        (rig, device)
    }

    fn answer(message: &Message, outcome: Outcome) {
        let answer = message.answer.as_ref().unwrap();
        let token = answer.token;
        // The port it came from may be closed.
        let _nobody_there = answer.to.send(Receipt { token, outcome });
    }

    fn nothing_more(&self) {
        assert!(self.far.messages.try_recv().is_err());
    }

    fn end(mut self) {
        self.shutdown.cancel();
        self.thread.take().unwrap().join().unwrap().unwrap();
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

struct Device {
    port: TTYPort,
    /// Held open, so that what is written before the agent opens is not lost.
    _slave: TTYPort,
    decoder: Decoder,
    heard: Vec<Frame>,
}

impl Device {
    fn plug(path: &PathBuf) -> Self {
        let (port, slave) = TTYPort::pair().unwrap();
        // Replaced, not removed and made: the agent may look at any time.
        let next = path.with_extension("next");
        symlink(slave.name().unwrap(), &next).unwrap();
        std::fs::rename(next, path).unwrap();
        Self {
            port,
            _slave: slave,
            decoder: Decoder::new(),
            heard: Vec::new(),
        }
    }

    fn say(&mut self, frame: &Frame) {
        self.raw(&bytes(frame));
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.port.write_all(bytes).unwrap();
    }

    fn listen(&mut self) {
        let mut buffer = [0; 256];
        if let Ok(read) = self.port.read(&mut buffer) {
            let frames = buffer[..read].iter().filter_map(|&b| self.decoder.push(b));
            self.heard.extend(frames.map(Result::unwrap));
        }
    }

    /// It may be asked for its hello more than once.
    fn has_no_ack(&self) {
        let is_ack = |frame: &Frame| matches!(frame, Frame::Ack(_));
        assert!(!self.heard.iter().any(is_ack), "{:?}", self.heard);
    }

    fn hear<T>(&mut self, wanted: impl Fn(&Frame) -> Option<T>) -> T {
        let until = Instant::now() + LONG;
        while Instant::now() < until {
            if let Some(at) = self.heard.iter().position(|frame| wanted(frame).is_some()) {
                let frame = self.heard.remove(at);
                return wanted(&frame).unwrap();
            }
            self.listen();
        }
        panic!("not heard; only {:?}", self.heard);
    }

    /// Eight bytes: a Modbus request.
    fn hear_request(&mut self) -> Vec<u8> {
        let until = Instant::now() + LONG;
        let mut request = Vec::new();
        while request.len() < 8 {
            assert!(Instant::now() < until, "only {request:02x?}");
            let mut byte = [0];
            if let Ok(1) = self.port.read(&mut byte) {
                request.push(byte[0]);
            }
        }
        request
    }

    fn hear_hello(&mut self) -> Hello {
        self.hear(|frame| match frame {
            Frame::Hello(hello) => Some(hello.clone()),
            _ => None,
        })
    }

    fn hear_ack(&mut self) -> Ack {
        self.hear(|frame| match frame {
            Frame::Ack(ack) => Some(*ack),
            _ => None,
        })
    }

    fn greet(&mut self, boot: u32) {
        self.hear_hello();
        self.say(&Frame::Hello(Hello {
            device: "m1".into(),
            model: "sim".into(),
            firmware: String::new(),
            boot,
            time_us: None,
            reply: false,
        }));
    }
}

fn bytes(frame: &Frame) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes).unwrap();
    bytes
}

fn reading(boot: u32, sequence: u32) -> Frame {
    Frame::Reading(FrameReading {
        boot,
        sequence,
        time: FrameTime::Arrival,
        fields: vec![("voltage_v".into(), Value::Float(230.1))],
    })
}

fn source(message: &Message) -> SourceId {
    message.readings[0].source.unwrap()
}

#[test]
fn agent_acknowledges_a_frame_only_after_its_receipt() {
    let (rig, mut device) = Rig::new(SerialMode::Frames);
    device.greet(7);
    device.say(&reading(7, 0));
    let message = rig.far.message();
    assert_eq!(message.readings[0].device, DeviceId::new("m1").unwrap());
    for _ in 0..3 {
        device.listen();
    }
    device.has_no_ack();
    Rig::answer(&message, Outcome::Stored);
    let expected = Ack {
        boot: 7,
        sequence: 0,
        verdict: Verdict::Stored,
    };
    assert_eq!(device.hear_ack(), expected);
    rig.end();
}

#[test]
fn a_frame_sent_again_after_a_lost_ack_is_acknowledged_again() {
    let (rig, mut device) = Rig::new(SerialMode::Frames);
    device.greet(7);
    for _ in 0..2 {
        device.say(&reading(7, 3));
        let message = rig.far.message();
        assert_eq!(source(&message).sequence, 3);
        Rig::answer(&message, Outcome::Stored);
        assert_eq!(device.hear_ack().sequence, 3);
    }
    rig.end();
}

#[test]
fn a_frame_before_its_hello_is_asked_for_again_and_not_lost() {
    let (rig, mut device) = Rig::new(SerialMode::Frames);
    device.hear_hello();
    device.say(&reading(7, 0));
    // Asked at most twice a second, so the device keeps sending, as it does without an ack.
    let until = Instant::now() + LONG;
    while !device.heard.iter().any(|f| matches!(f, Frame::Hello(_))) && Instant::now() < until {
        device.say(&reading(7, 0));
        device.listen();
    }
    rig.nothing_more();
    device.greet(7);
    device.say(&reading(7, 0));
    assert_eq!(source(&rig.far.message()).sequence, 0);
}

#[test]
fn garbage_oversize_and_split_frames_take_no_other_frame_with_them() {
    let (rig, mut device) = Rig::new(SerialMode::Frames);
    device.greet(7);
    device.raw(b"\x07noise\0");
    assert_eq!(rig.far.rejection(), Rejection::Damaged);
    device.raw(&[1; 3000]);
    device.say(&reading(7, 0));
    assert_eq!(rig.far.rejection(), Rejection::TooLarge);
    assert_eq!(source(&rig.far.message()).sequence, 0);
    let mut damaged = bytes(&reading(7, 1));
    damaged[6] ^= 0x40;
    device.raw(&damaged);
    assert_eq!(rig.far.rejection(), Rejection::Damaged);
    for byte in bytes(&reading(7, 1)) {
        device.raw(&[byte]);
    }
    assert_eq!(source(&rig.far.message()).sequence, 1);
    let seen = rig.far.counters.seen();
    assert_eq!(
        (seen.received, seen.rejected[0], seen.rejected[1]),
        (2, 2, 1)
    );
    rig.end();
}

#[test]
fn a_frame_without_a_value_is_rejected_and_the_device_told_to_forget_it() {
    let (rig, mut device) = Rig::new(SerialMode::Frames);
    device.greet(7);
    device.say(&Frame::Reading(FrameReading {
        boot: 7,
        sequence: 5,
        time: FrameTime::Arrival,
        fields: vec![("v".into(), Value::Float(f64::NAN))],
    }));
    assert_eq!(rig.far.rejection(), Rejection::NoFields);
    let ack = device.hear_ack();
    assert_eq!((ack.sequence, ack.verdict), (5, Verdict::Rejected));
    rig.end();
}

#[test]
fn a_device_that_is_unplugged_and_plugged_again_goes_on_and_gets_no_old_ack() {
    let (rig, mut device) = Rig::new(SerialMode::Frames);
    device.greet(7);
    device.say(&reading(7, 0));
    let before = rig.far.message();
    drop(device);
    let mut device = Device::plug(&rig.path);
    device.greet(7);
    Rig::answer(&before, Outcome::Stored);
    device.say(&reading(7, 0));
    let again = rig.far.message();
    assert_eq!(source(&again), source(&before));
    device.has_no_ack();
    Rig::answer(&again, Outcome::Stored);
    assert_eq!(device.hear_ack().sequence, 0);
    assert_eq!(rig.far.counters.seen().reconnects, 1);
    rig.end();
}

#[test]
fn shutdown_waits_for_the_receipts_of_what_was_taken() {
    let (rig, mut device) = Rig::new(SerialMode::Frames);
    device.greet(7);
    device.say(&reading(7, 0));
    let message = rig.far.message();
    rig.shutdown.cancel();
    device.say(&reading(7, 1));
    thread::sleep(IDLE + WAITING * 4);
    assert!(!rig.thread.as_ref().unwrap().is_finished());
    Rig::answer(&message, Outcome::Stored);
    assert_eq!(device.hear_ack().sequence, 0);
    rig.end();
}

#[test]
fn lines_are_readings_and_a_bad_one_is_only_itself() {
    let (rig, mut device) = Rig::new(SerialMode::Lines(Lines {
        device: Some(DeviceId::new("climate").unwrap()),
        format: LineFormat::Json,
        roles: Roles::default(),
        max_line_bytes: 64,
    }));
    device.raw(b"{\"t\":21}\r\n\xff\xfe\n{}\nnot json\n");
    device.raw(&[b'x'; 200]);
    device.raw(b"\n{\"t\":");
    device.raw(b"22}\n");
    for expected in [21.0, 22.0] {
        let message = rig.far.message();
        assert!(message.answer.is_none());
        let reading = &message.readings[0];
        assert_eq!(reading.fields.get("t"), Some(&Value::Float(expected)));
    }
    let rejections: Vec<Rejection> = (0..4).map(|_| rig.far.rejection()).collect();
    assert_eq!(
        rejections,
        [
            Rejection::Malformed,
            Rejection::NoFields,
            Rejection::Malformed,
            Rejection::TooLarge
        ]
    );
    rig.end();
}

#[test]
fn a_csv_line_whose_beginning_was_not_seen_is_passed_by() {
    let (rig, mut device) = Rig::new(SerialMode::Lines(Lines {
        device: Some(DeviceId::new("climate").unwrap()),
        format: LineFormat::Csv {
            separator: b',',
            columns: vec!["t".into()],
        },
        roles: Roles::default(),
        max_line_bytes: 64,
    }));
    device.raw(b"1.5\n21.5\n");
    let message = rig.far.message();
    let reading = &message.readings[0];
    assert_eq!(reading.fields.get("t"), Some(&Value::Float(21.5)));
    assert_eq!(rig.far.counters.seen().skipped, 1);
    rig.end();
}

#[test]
fn a_device_that_speaks_by_itself_is_read_under_its_configured_name() {
    let (rig, mut device) = Rig::new(SerialMode::Device(SerialDevice {
        name: "sds011",
        preset: "sds011".parse().unwrap(),
        device: DeviceId::new("air-1").unwrap(),
    }));
    let frame = [0xaa, 0xc0, 0xd4, 0x04, 0x3a, 0x0a, 0xa1, 0x60, 0x1d, 0xab];
    let mut damaged = frame;
    damaged[3] ^= 1;
    device.raw(&[&frame[6..], &frame[..], &damaged, &frame].concat());
    for _ in 0..2 {
        let message = rig.far.message();
        let reading = &message.readings[0];
        assert_eq!(reading.device.as_str(), "air-1");
        let expected = Some(&Value::Float(123.6));
        assert_eq!(reading.fields.get("pm2_5_ug_m3"), expected);
    }
    assert_eq!(rig.far.rejection(), Rejection::Damaged);
    assert_eq!(rig.far.counters.seen().skipped, 1);
    rig.end();
}

#[test]
fn modbus_slaves_are_asked_in_turn_and_a_dead_one_does_not_matter() {
    let slave = |id: &str, unit| crate::config::PolledDevice {
        id: DeviceId::new(id).unwrap(),
        unit,
        preset: "modbus:xy-md02".parse().unwrap(),
        every: Duration::from_millis(100),
    };
    let (rig, mut device) = Rig::new(SerialMode::Polled(crate::config::Polled {
        name: "modbus",
        timeout: Duration::from_millis(40),
        turnaround: Duration::from_millis(1),
        retries: 0,
        devices: vec![slave("dead", 9), slave("alive", 1)],
    }));
    // Until two of its answers were in time, and a refusal: what the machine delays beyond 40 ms is late.
    let (mut rounds, mut taken, mut refused) = (0, 0, false);
    while taken < 2 || !refused {
        match device.hear_request()[0] {
            1 if rounds % 2 == 1 => device.raw(&[0x01, 0x84, 0x06, 0xc3, 0x02]),
            1 => device.raw(&[0x01, 0x04, 0x04, 0x01, 0x31, 0x02, 0x22, 0x2a, 0xce]),
            _ => continue,
        }
        rounds += 1;
        while let Ok(message) = rig.far.messages.try_recv() {
            let reading = &message.readings[0];
            assert_eq!(reading.device.as_str(), "alive");
            let expected = Some(&Value::Float(30.5));
            assert_eq!(reading.fields.get("temperature_c"), expected);
            taken += 1;
        }
        let rejections = std::iter::from_fn(|| rig.far.rejected.try_recv().ok());
        refused |= rejections
            .map(|(rejection, ..)| rejection)
            .any(|rejection| rejection == Rejection::NoFields);
    }
    rig.end();
}
