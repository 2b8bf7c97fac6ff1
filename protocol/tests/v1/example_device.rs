//! `c/example_device.c`, a whole device, in conversation with an agent that loses acks and forgets it.

use std::{
    io::{Read as _, Write as _},
    path::Path,
    process::{ChildStdout, Command, Stdio},
};

use protocol::frame::{Ack, Decoder, Frame, FrameReading, Hello, Verdict};

use crate::c_header::compile;

struct Line {
    from: ChildStdout,
    decoder: Decoder,
}

impl Line {
    /// The next frame; the device sends again for ever, so a test that asks for too many ends here.
    fn next(&mut self) -> Option<Frame> {
        let mut byte = [0];
        while self.from.read(&mut byte).unwrap() == 1 {
            if let Some(frame) = self.decoder.push(byte[0]) {
                return Some(frame.unwrap());
            }
        }
        None
    }
}

fn encode(frame: &Frame) -> Vec<u8> {
    let mut line = Vec::new();
    frame.encode(&mut line).unwrap();
    line
}

fn agent_hello(reply: bool) -> Vec<u8> {
    encode(&Frame::Hello(Hello {
        device: "gw7".into(),
        model: String::new(),
        firmware: String::new(),
        boot: 0,
        time_us: Some(1),
        reply,
    }))
}

fn ack(reading: &FrameReading) -> Vec<u8> {
    encode(&Frame::Ack(Ack {
        boot: reading.boot,
        sequence: reading.sequence,
        verdict: Verdict::Stored,
    }))
}

#[test]
fn the_example_device_sends_again_until_it_is_acknowledged() {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/c/example_device.c");
    let program = compile(&[], Path::new(source), "example_device");
    let mut device = Command::new(program)
        .args(["-n", "6", "-p", "5", "-r", "60"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut to = device.stdin.take().unwrap();
    let mut line = Line {
        from: device.stdout.take().unwrap(),
        decoder: Decoder::new(),
    };

    let Some(Frame::Hello(hello)) = line.next() else {
        panic!("a device begins with its hello");
    };
    assert!(hello.reply);
    assert_eq!(hello.device, "example-1");
    to.write_all(&agent_hello(false)).unwrap();

    let mut seen = [0; 6];
    let mut hellos = 0;
    let status = loop {
        assert!(seen.iter().sum::<u32>() < 1000, "it never ends: {seen:?}");
        match line.next() {
            Some(Frame::Reading(reading)) => {
                assert_eq!(reading.boot, hello.boot);
                let times = &mut seen[usize::try_from(reading.sequence).unwrap()];
                *times += 1;
                match (reading.sequence, *times) {
                    // Lost on the way.
                    (0 | 3, 1) => {}
                    // Damaged on the way.
                    (1, 1) => {
                        let mut damaged = ack(&reading);
                        damaged[4] ^= 1;
                        to.write_all(&damaged).unwrap();
                    }
                    // The agent starts anew and knows nobody.
                    (2, 1) => to.write_all(&agent_hello(true)).unwrap(),
                    _ => to.write_all(&ack(&reading)).unwrap(),
                }
            }
            Some(Frame::Hello(again)) => {
                assert_eq!((again.boot, again.reply), (hello.boot, false));
                hellos += 1;
            }
            Some(Frame::Status(status)) => break status,
            other => panic!("{other:?}"),
        }
    };
    assert!(device.wait().unwrap().success());
    assert_eq!((status.dropped, hellos), (0, 1));
    for sequence in 0..4 {
        assert!(seen[sequence] >= 2, "{seen:?}");
    }
}
