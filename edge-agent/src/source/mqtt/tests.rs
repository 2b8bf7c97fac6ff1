//! Against a broker of plain bytes, so that each packet and each break is the test's own.

use std::path::PathBuf;

use protocol::{GatewayId, Metadata, Topic, Value};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};

use super::*;
use crate::{
    config::{MqttPreset, MqttUrl, MqttVersion, Roles, Subscription},
    decode::mqtt::Preset,
    ingest::{Message, Outcome, Rejection},
    link::LinkKind,
    source::intake::Far,
};

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(200);

const CONNECT: u8 = 0x10;
const PUBACK: u8 = 0x40;
const SUBSCRIBE: u8 = 0x82;
const DISCONNECT: u8 = 0xe0;

/// With everything that may be left out left out.
pub(super) fn subscription(topic: &str, preset: MqttPreset) -> Subscription {
    Subscription {
        topic: topic.into(),
        preset,
        roles: Roles::default(),
        fields: Vec::new(),
        timezone: None,
        qos: 1,
        retained: false,
        device: None,
        field: None,
        share: None,
        user_properties: Vec::new(),
        kafka_topic: Topic::new("t").unwrap(),
        meta: Metadata::default(),
    }
}

struct Rig {
    far: Far,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), SourceError>>,
    listener: TcpListener,
    /// The last one, and how many there are.
    filter: (&'static str, usize),
}

impl Rig {
    async fn new(max_inflight: u16) -> Self {
        Self::with(max_inflight, MqttPreset::Json, "plant/{device}", "plant/+").await
    }

    /// Each of the templates, with blanks between them, is a subscription with a lane of its own.
    async fn with(
        max_inflight: u16,
        preset: MqttPreset,
        templates: &str,
        filter: &'static str,
    ) -> Self {
        Self::telling(max_inflight, preset, templates, filter, None).await
    }

    async fn telling(
        max_inflight: u16,
        preset: MqttPreset,
        templates: &str,
        filter: &'static str,
        status_topic: Option<String>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (intake, far) = Far::new(LinkKind::Mqtt);
        let shutdown = CancellationToken::new();
        let subscription = |(at, template): (usize, &str)| Subscription {
            kafka_topic: Topic::new(format!("t{at}")).unwrap(),
            ..subscription(template, preset)
        };
        let subscribe: Vec<_> = templates.split(' ').enumerate().map(subscription).collect();
        let filter = (filter, subscribe.len());
        let settings = Mqtt {
            name: "house".into(),
            url: MqttUrl {
                tls: false,
                host: "127.0.0.1".into(),
                port: listener.local_addr().unwrap().port(),
            },
            client_id: "edge-agent-gw7-house".into(),
            username: None,
            password: None,
            tls_ca: None,
            tls_cert: None,
            tls_key: None,
            allow_plaintext: false,
            version: MqttVersion::V3,
            session_expiry: Duration::from_secs(3600),
            max_packet_bytes: 1000,
            max_inflight,
            status_topic,
            subscribe,
        };
        let agent = Agent {
            gateway: GatewayId::new("gw7").unwrap(),
            state_dir: PathBuf::new(),
            shutdown_timeout: LONG,
            meta: Metadata::default(),
        };
        let broker = Broker::new(&settings, &agent, intake, shutdown.clone()).unwrap();
        let broker = broker.telling(far.links.clone(), Arc::default());
        Self {
            far,
            shutdown,
            task: tokio::spawn(broker.run()),
            listener,
            filter,
        }
    }

    /// Lets the agent in; asserts that it subscribes exactly when it should.
    async fn accept(&self, session_present: bool, subscribes: bool) -> Wire {
        let (stream, _) = timeout(LONG, self.listener.accept())
            .await
            .unwrap()
            .unwrap();
        let mut wire = Wire(stream);
        let (kind, connect) = wire.packet().await;
        assert_eq!(kind, CONNECT);
        assert_eq!(connect[7] & 2, 0, "the session must be persistent");
        wire.send(&[0x20, 2, u8::from(session_present), 0]).await;
        if subscribes {
            let (kind, subscribe) = wire.packet().await;
            assert_eq!(kind, SUBSCRIBE);
            let (filter, count) = self.filter;
            assert!(subscribe.ends_with(format!("{filter}\x01").as_bytes()));
            let length = u8::try_from(2 + count).unwrap();
            let granted = [0x90, length, subscribe[0], subscribe[1]];
            wire.send(&[&granted[..], &vec![1; count]].concat()).await;
        }
        wire
    }

    fn message(&self) -> Message {
        self.far.message()
    }

    async fn end(self) {
        self.shutdown.cancel();
        timeout(LONG, self.task).await.unwrap().unwrap().unwrap();
    }
}

struct Wire(TcpStream);

impl Wire {
    async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    async fn packet(&mut self) -> (u8, Vec<u8>) {
        timeout(LONG, self.read()).await.unwrap()
    }

    async fn read(&mut self) -> (u8, Vec<u8>) {
        let kind = self.0.read_u8().await.unwrap();
        let mut length = usize::from(self.0.read_u8().await.unwrap());
        if length >= 128 {
            let more = usize::from(self.0.read_u8().await.unwrap());
            assert!(more < 128, "the agent sends nothing large");
            length = length - 128 + more * 128;
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await.unwrap();
        (kind, body)
    }

    async fn puback(&mut self) -> u16 {
        let (kind, body) = self.packet().await;
        assert_eq!(kind, PUBACK);
        u16::from_be_bytes([body[0], body[1]])
    }

    async fn silent(&mut self) {
        assert!(timeout(SHORT, self.read()).await.is_err());
    }

    async fn publish(&mut self, flags: u8, packet_id: u16, payload: &[u8]) {
        self.publish_to("plant/m1", flags, packet_id, payload).await;
    }

    async fn publish_to(&mut self, topic: &str, flags: u8, packet_id: u16, payload: &[u8]) {
        let length = 2 + topic.len() + 2 + payload.len();
        let mut packet = vec![0x30 | QOS_1 | flags];
        let mut rest = length;
        while rest >= 128 {
            packet.push(u8::try_from(rest % 128).unwrap() | 128);
            rest /= 128;
        }
        packet.push(u8::try_from(rest).unwrap());
        packet.extend_from_slice(&u16::try_from(topic.len()).unwrap().to_be_bytes());
        packet.extend_from_slice(topic.as_bytes());
        packet.extend_from_slice(&packet_id.to_be_bytes());
        packet.extend_from_slice(payload);
        self.send(&packet).await;
    }
}

const QOS_1: u8 = 2;
const RETAIN: u8 = 1;
const DUP: u8 = 8;

fn answer(message: &Message) {
    let answer = message.answer.as_ref().unwrap();
    let (token, outcome) = (answer.token, Outcome::Stored);
    let _nobody_there = answer.to.send(Receipt { token, outcome });
}

fn value(message: &Message) -> f64 {
    match message.readings[0].fields.get("v") {
        Some(Value::Float(value)) => *value,
        other => panic!("no value: {other:?}"),
    }
}

fn may_repeat(message: &Message) -> bool {
    matches!(
        message.origin,
        Origin::Mqtt {
            delivery: Delivery::Again,
            ..
        }
    )
}

fn connection(message: &Message) -> Option<Connection> {
    match message.origin {
        Origin::Mqtt { connection, .. } => Some(connection),
        Origin::Unknown => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agent_acknowledges_mqtt_only_after_commit_and_in_the_order_of_arrival() {
    let rig = Rig::new(100).await;
    let mut wire = rig.accept(false, true).await;
    for (id, payload) in [(7, r#"{"v":1}"#), (3, r#"{"v":2}"#)] {
        wire.publish(0, id, payload.as_bytes()).await;
    }
    let (first, second) = (rig.message(), rig.message());
    assert_eq!((value(&first), value(&second)), (1.0, 2.0));
    answer(&second);
    wire.silent().await;
    answer(&first);
    assert_eq!((wire.puback().await, wire.puback().await), (7, 3));
    rig.end().await;
}

/// A retained message at QoS 0: its topic, and what it says.
fn told((kind, body): (u8, Vec<u8>)) -> (String, serde_json::Value) {
    assert_eq!(kind, 0x30 | RETAIN);
    let length = usize::from(u16::from_be_bytes([body[0], body[1]]));
    let (topic, payload) = body[2..].split_at(length);
    let topic = String::from_utf8(topic.to_vec()).unwrap();
    (topic, serde_json::from_slice(payload).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gateway_tells_its_broker_how_it_is_at_each_connection_and_when_it_goes() {
    let status = Some("edge/gw7/status".to_owned());
    let rig = Rig::telling(100, MqttPreset::Json, "plant/{device}", "plant/+", status).await;
    for session_present in [false, true] {
        let (stream, _) = rig.listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut wire = Wire(stream);
        let (kind, connect) = wire.packet().await;
        // A will, retained, at QoS 1.
        assert_eq!((kind, connect[7] & 0b11_1100), (CONNECT, 0b10_1100));
        let connect = String::from_utf8_lossy(&connect).into_owned();
        assert!(connect.contains("edge/gw7/status"), "{connect}");
        assert!(connect.contains("connection lost"), "{connect}");
        wire.send(&[0x20, 2, u8::from(session_present), 0]).await;
        if !session_present {
            let (kind, subscribe) = wire.packet().await;
            assert_eq!(kind, SUBSCRIBE);
            wire.send(&[0x90, 3, subscribe[0], subscribe[1], 1]).await;
        }
        // Once, and not before its own link is up.
        let (topic, said) = told(wire.packet().await);
        assert_eq!(topic, "edge/gw7/status");
        assert_eq!(
            (&said["state"], &said["gateway"], &said["down"]),
            (&"online".into(), &"gw7".into(), &serde_json::json!([]))
        );
        // It waits for nobody, and nobody for it.
        wire.publish(0, 7, br#"{"v":1}"#).await;
        answer(&rig.message());
        assert_eq!(wire.puback().await, 7);
        if session_present {
            rig.shutdown.cancel();
            let (_, said) = told(wire.packet().await);
            assert_eq!(
                (&said["state"], &said["reason"]),
                (&"offline".into(), &"stopped".into())
            );
            assert_eq!(wire.packet().await.0, DISCONNECT);
        }
    }
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receipt_that_comes_after_a_break_acknowledges_nothing_on_the_new_connection() {
    let rig = Rig::new(100).await;
    let mut wire = rig.accept(false, true).await;
    wire.publish(0, 1, br#"{"v":1}"#).await;
    let before = rig.message();
    assert!(!may_repeat(&before));
    drop(wire);
    let mut wire = rig.accept(true, false).await;
    wire.publish(DUP, 1, br#"{"v":1}"#).await;
    let again = rig.message();
    // Late, when another message has the place that it had.
    answer(&before);
    assert!(may_repeat(&again));
    assert_ne!(connection(&before), connection(&again));
    wire.silent().await;
    answer(&again);
    assert_eq!(wire.puback().await, 1);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_goes_away_is_not_taken_for_one_that_speaks_tls() {
    let rig = Rig::new(100).await;
    let wire = rig.accept(false, true).await;
    drop(wire);
    let why = timeout(LONG, async {
        loop {
            if let [(_, _, LinkState::Down(why))] = &rig.far.links.snapshot()[..] {
                return why.clone();
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    let why = why.await.unwrap();
    assert!(why.contains("the broker ended the connection"), "{why}");
    assert!(!why.contains("TLS"), "{why}");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agent_subscribes_again_when_the_broker_lost_the_session() {
    let rig = Rig::new(100).await;
    drop(rig.accept(true, true).await);
    drop(rig.accept(false, true).await);
    let _wire = rig.accept(true, false).await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_reading_is_acknowledged_in_its_turn_and_stops_nobody() {
    let rig = Rig::new(100).await;
    let mut wire = rig.accept(false, true).await;
    wire.publish(0, 1, br#"{"v":1}"#).await;
    wire.publish(0, 2, b"\xff garbage").await;
    wire.publish(0, 3, &[b' '; 100_000]).await;
    wire.publish(RETAIN, 4, br#"{"v":4}"#).await;
    wire.publish(0, 5, br#"{"v":5}"#).await;
    let (first, last) = (rig.message(), rig.message());
    assert_eq!((value(&first), value(&last)), (1.0, 5.0));
    assert_eq!(rig.far.rejection(), Rejection::Malformed);
    assert_eq!(rig.far.rejection(), Rejection::TooLarge);
    assert_eq!(rig.far.counters.seen().skipped, 1);
    wire.silent().await;
    answer(&first);
    for id in 1..=4 {
        assert_eq!(wire.puback().await, id);
    }
    answer(&last);
    assert_eq!(wire.puback().await, 5);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_is_taken_than_may_wait_for_receipts() {
    let rig = Rig::new(2).await;
    let mut wire = rig.accept(false, true).await;
    for id in 1..=3 {
        wire.publish(0, id, br#"{"v":1}"#).await;
    }
    let first = rig.message();
    let _second = rig.message();
    wire.silent().await;
    assert!(rig.far.messages.try_recv().is_err());
    answer(&first);
    assert_eq!(wire.puback().await, 1);
    rig.message();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_acknowledges_what_was_taken_and_says_goodbye() {
    let rig = Rig::new(100).await;
    let mut wire = rig.accept(false, true).await;
    wire.publish(0, 1, br#"{"v":1}"#).await;
    let message = rig.message();
    rig.shutdown.cancel();
    wire.publish(0, 2, br#"{"v":2}"#).await;
    wire.silent().await;
    answer(&message);
    assert_eq!(wire.puback().await, 1);
    assert_eq!(wire.packet().await.0, DISCONNECT);
    assert!(rig.far.messages.try_recv().is_err());
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_will_is_a_state_of_its_device_even_when_retained_and_never_a_reading() {
    let preset = MqttPreset::Devices(Preset::Tasmota);
    let rig = Rig::with(100, preset, "tele/{device}/+", "tele/+/+").await;
    let mut wire = rig.accept(false, true).await;
    wire.publish_to("tele/plug/LWT", RETAIN, 1, b"Online").await;
    wire.publish_to("tele/lamp/LWT", 0, 2, b"Offline").await;
    wire.publish_to("tele/plug/SENSOR", RETAIN, 3, br#"{"v":3}"#)
        .await;
    wire.publish_to("tele/plug/SENSOR", 0, 4, br#"{"v":4}"#)
        .await;
    let message = rig.message();
    assert_eq!(value(&message), 4.0);
    assert_eq!(message.readings[0].device.as_str(), "plug");
    for id in 1..=3 {
        assert_eq!(wire.puback().await, id);
    }
    let seen = rig.far.counters.seen();
    assert_eq!((seen.devices_online, seen.devices_offline), (1, 1));
    assert_eq!((seen.received, seen.skipped), (1, 3));
    answer(&message);
    assert_eq!(wire.puback().await, 4);
    rig.end().await;
}

/// A Sparkplug payload of one metric: `v`, alias 1, in a birth; alias 1 alone otherwise.
fn sparkplug(seq: u8, birth: bool, value: f64) -> Vec<u8> {
    let mut metric = if birth {
        vec![0x0a, 1, b'v', 0x10, 1, 0x20, 10]
    } else {
        vec![0x10, 1]
    };
    metric.push(0x69);
    metric.extend_from_slice(&value.to_le_bytes());
    let mut payload = vec![0x12, u8::try_from(metric.len()).unwrap()];
    payload.extend_from_slice(&metric);
    payload.extend_from_slice(&[0x18, seq]);
    payload
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_that_waits_for_its_birth_is_acknowledged_only_after_it_is_committed() {
    let preset = MqttPreset::Devices(Preset::SparkplugB);
    let rig = Rig::with(100, preset, "spBv1.0/#", "spBv1.0/#").await;
    let mut wire = rig.accept(false, true).await;
    wire.publish_to("spBv1.0/g/NDATA/e", 0, 1, &sparkplug(7, false, 1.5))
        .await;
    let (kind, request) = wire.packet().await;
    assert_eq!(kind, 0x30, "a request at QoS 0");
    assert!(request[2..].starts_with(b"spBv1.0/g/NCMD/e"));
    wire.silent().await;
    wire.publish_to("spBv1.0/g/NBIRTH/e", 0, 2, &sparkplug(0, true, 2.5))
        .await;
    let message = rig.message();
    let devices: Vec<&str> = message.readings.iter().map(|r| r.device.as_str()).collect();
    assert_eq!(devices, ["g/e", "g/e"]);
    wire.silent().await;
    answer(&message);
    assert_eq!((wire.puback().await, wire.puback().await), (1, 2));
    rig.end().await;
}

/// Lanes commit side by side. When the receipt of one acknowledged what was held for another, that could be
/// acknowledged before it was durable.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_that_waits_for_its_birth_is_acknowledged_by_the_commit_of_its_own_lane() {
    let preset = MqttPreset::Devices(Preset::SparkplugB);
    let both = "spBv1.0/a/# spBv1.0/b/#";
    let rig = Rig::with(100, preset, both, "spBv1.0/b/#").await;
    let mut wire = rig.accept(false, true).await;
    for (topic, id) in [("spBv1.0/a/NDATA/e", 1), ("spBv1.0/b/NDATA/e", 2)] {
        wire.publish_to(topic, 0, id, &sparkplug(7, false, 1.5))
            .await;
        assert_eq!(wire.packet().await.0, 0x30, "a request at QoS 0");
    }
    for (topic, id) in [("spBv1.0/a/NBIRTH/e", 3), ("spBv1.0/b/NBIRTH/e", 4)] {
        wire.publish_to(topic, 0, id, &sparkplug(0, true, 2.5))
            .await;
    }
    let (first, second) = (rig.message(), rig.message());
    assert_ne!(first.lane, second.lane);
    assert_eq!((first.readings.len(), second.readings.len()), (2, 2));
    answer(&second);
    wire.silent().await;
    answer(&first);
    for id in 1..=4 {
        assert_eq!(wire.puback().await, id);
    }
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_held_and_comes_again_after_a_break_is_read_once() {
    let preset = MqttPreset::Devices(Preset::SparkplugB);
    let rig = Rig::with(100, preset, "spBv1.0/#", "spBv1.0/#").await;
    let mut wire = rig.accept(false, true).await;
    let data = sparkplug(7, false, 1.5);
    wire.publish_to("spBv1.0/g/NDATA/e", 0, 1, &data).await;
    assert_eq!(wire.packet().await.0, 0x30);
    drop(wire);
    let mut wire = rig.accept(true, false).await;
    wire.publish_to("spBv1.0/g/NDATA/e", DUP, 1, &data).await;
    assert_eq!(wire.packet().await.0, 0x30);
    wire.publish_to("spBv1.0/g/NBIRTH/e", 0, 2, &sparkplug(0, true, 2.5))
        .await;
    let message = rig.message();
    assert_eq!(message.readings.len(), 2);
    answer(&message);
    assert_eq!((wire.puback().await, wire.puback().await), (1, 2));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_birth_that_never_comes_does_not_stop_the_others() {
    let preset = MqttPreset::Devices(Preset::SparkplugB);
    let rig = Rig::with(2, preset, "spBv1.0/#", "spBv1.0/#").await;
    let mut wire = rig.accept(false, true).await;
    for id in 1..=4 {
        wire.publish_to("spBv1.0/g/NDATA/e", 0, id, &sparkplug(7, false, 1.5))
            .await;
    }
    assert_eq!(wire.packet().await.0, 0x30);
    for id in 1..=2 {
        assert_eq!(wire.puback().await, id);
    }
    rig.shutdown.cancel();
    drop(wire);
    timeout(LONG, rig.task).await.unwrap().unwrap().unwrap();
}

#[test]
fn a_subscription_that_the_broker_takes_at_a_lower_qos_is_named() {
    let routes = [("a/{device}", 1), ("b/{device}", 0), ("c/{device}", 1)];
    let routes = routes.map(|(topic, qos)| {
        let subscription = Subscription {
            qos,
            ..subscription(topic, MqttPreset::Json)
        };
        Route::compile(&subscription, &Metadata::default()).unwrap()
    });
    let granted = [
        Granted::AtMostOnce,
        Granted::AtMostOnce,
        Granted::AtLeastOnce,
    ];
    let routes = Routes::new(routes.into());
    assert_eq!(downgraded(&routes, &granted).collect::<Vec<_>>(), ["a/+"]);
}
