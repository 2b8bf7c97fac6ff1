//! Against a server of the test's own, on loopback.

use std::{net::TcpListener, thread};

use protocol::{DeviceId, Topic, Value};

use super::*;
use crate::{
    config::{Polled, PolledDevice},
    decode::preset::{Preset, built_in},
    link::LinkKind,
    source::intake::Far,
};

/// Answers each request by `answer`, which is given transaction, unit and the number of the request.
fn serve(answer: impl Fn(u16, u8, usize) -> Vec<Vec<u8>> + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut count = 0;
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 12];
            while stream.read_exact(&mut request).is_ok() {
                let transaction = u16::from_be_bytes([request[0], request[1]]);
                for frame in answer(transaction, request[6], count) {
                    // The agent may have had enough.
                    let _gone = stream.write_all(&frame);
                }
                count += 1;
            }
        }
    });
    port
}

/// 305 and 546: 30.5 °C, 54.6 %.
fn climate(transaction: u16, unit: u8) -> Vec<u8> {
    let [t0, t1] = transaction.to_be_bytes();
    vec![t0, t1, 0, 0, 0, 7, unit, 4, 4, 0x01, 0x31, 0x02, 0x22]
}

fn run(port: u16, units: &[u8]) -> (Far, CancellationToken) {
    patient(port, units, Duration::from_millis(500))
}

fn patient(port: u16, units: &[u8], timeout: Duration) -> (Far, CancellationToken) {
    let (intake, far) = Far::new(LinkKind::Modbus);
    let shutdown = CancellationToken::new();
    let device = |unit: &u8| PolledDevice {
        id: DeviceId::new(format!("d{unit}")).unwrap(),
        unit: *unit,
        preset: Preset::ModbusTcp(built_in("xy-md02").unwrap()),
        every: Duration::from_millis(50),
    };
    let settings = ModbusTcp {
        name: "plant".into(),
        host: "127.0.0.1".into(),
        port,
        polled: Polled {
            name: "modbus-tcp",
            timeout,
            turnaround: Duration::from_millis(1),
            retries: 0,
            devices: units.iter().map(device).collect(),
        },
        topic: Topic::new("t").unwrap(),
        meta: Metadata::default(),
    };
    let agent = Agent {
        gateway: protocol::GatewayId::new("gw7").unwrap(),
        state_dir: std::path::PathBuf::new(),
        shutdown_timeout: Duration::from_secs(5),
        meta: Metadata::default(),
    };
    let server = Server::new(&settings, &agent, intake, shutdown.clone()).unwrap();
    thread::spawn(move || server.run());
    (far, shutdown)
}

#[test]
fn a_server_is_asked_in_turn_and_each_device_keeps_its_name() {
    let port = serve(|transaction, unit, _| vec![climate(transaction, unit)]);
    let (far, shutdown) = patient(port, &[1, 255], Duration::from_secs(3600));
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < 2 {
        let message = far.message();
        let [reading] = &message.readings[..] else {
            panic!("{message:?}");
        };
        let value = reading.fields.get("temperature_c");
        assert_eq!(value, Some(&Value::Float(30.5)));
        seen.insert(reading.device.to_string());
    }
    assert!(seen.contains("d1") && seen.contains("d255"));
    shutdown.cancel();
}

#[test]
fn an_answer_to_an_earlier_question_is_never_taken_for_this_one() {
    // The first question is answered only together with the second, and with other values.
    let port = serve(|transaction, unit, count| match count {
        0 => vec![],
        1 => {
            let mut late = climate(transaction - 1, unit);
            late[10] = 0x99;
            vec![late, climate(transaction, unit)]
        }
        _ => vec![climate(transaction, unit)],
    });
    let (far, shutdown) = run(port, &[1]);
    for _ in 0..2 {
        let message = far.message();
        let value = message.readings[0].fields.get("temperature_c");
        assert_eq!(value, Some(&Value::Float(30.5)));
    }
    assert_eq!(far.rejection(), crate::ingest::Rejection::Damaged);
    shutdown.cancel();
}

#[test]
fn a_device_that_says_no_costs_nobody_its_timeout() {
    let port = serve(|transaction, unit, _| {
        let [t0, t1] = transaction.to_be_bytes();
        match unit {
            1 => vec![vec![t0, t1, 0, 0, 0, 3, unit, 0x84, 2]],
            _ => vec![climate(transaction, unit)],
        }
    });
    // Nobody here waits for an hour.
    let (far, shutdown) = patient(port, &[1, 2], Duration::from_secs(3600));
    for _ in 0..3 {
        assert_eq!(far.message().readings[0].device.to_string(), "d2");
        assert_eq!(far.rejection(), crate::ingest::Rejection::NoFields);
    }
    shutdown.cancel();
}

#[test]
fn a_server_that_closes_is_connected_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        drop(listener.accept());
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 12];
        while stream.read_exact(&mut request).is_ok() {
            let transaction = u16::from_be_bytes([request[0], request[1]]);
            stream.write_all(&climate(transaction, request[6])).unwrap();
        }
    });
    let (far, shutdown) = patient(port, &[1], Duration::from_secs(3600));
    assert_eq!(far.message().readings.len(), 1);
    assert_eq!(far.counters.seen().reconnects, 1);
    shutdown.cancel();
}
