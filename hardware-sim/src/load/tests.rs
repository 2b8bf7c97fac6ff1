use std::{
    net::{Ipv4Addr, TcpListener},
    thread,
};

use rumqttc::mqttbytes::v4::{ConnAck, PubAck};

use super::*;

#[test]
fn readings_are_due_by_the_clock_and_never_before() {
    let schedule = Schedule::Rate(1000);
    for (elapsed_us, due) in [(0, 1), (999, 1), (1000, 2), (1_000_000, 1001)] {
        assert_eq!(
            schedule.due(Duration::from_micros(elapsed_us)),
            due,
            "{elapsed_us}"
        );
    }
    // What is due has been meant to be sent, to the nanosecond.
    for rate in [1, 7, 999, 5000, 1_000_000] {
        let schedule = Schedule::Rate(rate);
        for number in [0, 1, 2, 12_345] {
            let intended = schedule.intended(number);
            assert!(
                schedule.due(intended + Duration::from_nanos(1)) > number,
                "{rate} {number}"
            );
        }
    }
}

#[test]
fn a_window_counts_what_is_not_acknowledged() {
    let mut window = Window::new(2);
    let (first, second) = (window.send(0), window.send(1));
    assert!(window.is_full());
    assert_eq!(window.acknowledge(second), Some(1));
    assert_eq!(window.acknowledge(second), None);
    assert_eq!(window.acknowledge(60_001), None);
    assert!(!window.is_full() && !window.is_empty());
    assert_eq!(window.acknowledge(first), Some(0));
    assert!(window.is_empty());
}

/// A broker that holds back every acknowledgement until it has seen `hold` readings.
fn broker(hold: usize) -> Broker {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let stream = listener.accept().unwrap().0;
        stream.set_nonblocking(true).unwrap();
        let mut line = Line {
            stream,
            input: BytesMut::new(),
            output: BytesMut::new(),
        };
        let mut held = Vec::new();
        // Ends with the connection.
        while line.exchange(Duration::from_millis(100)).is_ok() {
            while let Some(packet) = line.packet().unwrap() {
                match packet {
                    Packet::Connect(_) => {
                        let answer = ConnAck::new(ConnectReturnCode::Success, false);
                        answer.write(&mut line.output).unwrap();
                    }
                    Packet::Publish(publish) => held.push(publish.pkid),
                    _ => {}
                }
            }
            if held.len() >= hold {
                for id in held.drain(..) {
                    PubAck::new(id).write(&mut line.output).unwrap();
                }
            }
        }
    });
    format!("mqtt://{address}").parse().unwrap()
}

fn load(hold: usize, schedule: Schedule, window: usize) -> Outcome {
    let load = Load {
        broker: broker(hold),
        client: "load".into(),
        topic: "t".into(),
        schedule,
        count: 100,
        window,
    };
    let mut numbers = Vec::new();
    let outcome = load.run(|number, _, out| {
        numbers.push(number);
        out.extend_from_slice(b"x");
    });
    assert_eq!(numbers, (0..100).collect::<Vec<_>>());
    outcome.unwrap()
}

#[test]
fn a_reading_that_had_to_wait_counts_from_when_it_was_meant_to_be_sent() {
    // All hundred are due within a millisecond; the last ten come only when the first ninety are
    // acknowledged. A closed loop would see none of that.
    let outcome = load(10, Schedule::Rate(100_000), 10);
    assert_eq!(outcome.latency_us.len(), 100);
    assert!(u128::from(outcome.latency_us.max()) + 1 >= outcome.latest.as_micros());
}

#[test]
fn a_flood_goes_as_fast_as_its_window() {
    let outcome = load(1, Schedule::Flood, 7);
    assert_eq!(outcome.latency_us.len(), 0);
}
