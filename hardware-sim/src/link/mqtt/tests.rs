//! A broker of a few lines, which acknowledges, keeps silent and hangs up as a test wants.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
};

use rumqttc::{ConnAck, ConnectReturnCode, PubAck};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_util::bytes::BytesMut;

use super::*;
use crate::{
    fault::Faults,
    link::{Orders, Shared},
    scenario::{Link, Scenario},
};

#[test]
fn a_broker_is_written_as_a_url() {
    let broker = |host: &str, port| Broker {
        host: host.into(),
        port,
    };
    for (text, expected) in [
        ("mqtt://127.0.0.1:1884", Some(broker("127.0.0.1", 1884))),
        ("mqtt://house/", Some(broker("house", 1883))),
        ("mqtt://[::1]:1884", Some(broker("::1", 1884))),
        ("mqtt://[::1]", Some(broker("::1", 1883))),
        ("mqtt://house:x", None),
        ("mqtt://:1", None),
        ("house:1883", None),
    ] {
        assert_eq!(text.parse().ok(), expected, "{text}");
    }
}

const DEVICE: &str = r#"
[[device]]
id = "air-1"
kind = "air-quality"
every = "3ms"
link = { mqtt = { topic = "plant/hall-1/{device}/state" } }
"#;

/// The other end of one connection.
struct Peer {
    stream: TcpStream,
    bytes: BytesMut,
}

impl Peer {
    async fn accept(listener: &TcpListener) -> Self {
        let mut peer = Self {
            stream: listener.accept().await.unwrap().0,
            bytes: BytesMut::new(),
        };
        let Some(Packet::Connect(connect)) = peer.packet().await else {
            panic!("no connect");
        };
        assert!(connect.clean_session);
        let code = ConnectReturnCode::Success;
        peer.send(&Packet::ConnAck(ConnAck::new(code, false))).await;
        peer
    }

    async fn send(&mut self, packet: &Packet) {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, 1 << 20).unwrap();
        // The device may be gone already, as it may be for any broker.
        self.stream.write_all(&bytes).await.unwrap_or_default();
    }

    /// `None` when the device hung up.
    async fn packet(&mut self) -> Option<Packet> {
        loop {
            if let Ok(packet) = Packet::read(&mut self.bytes, 1 << 20) {
                return Some(packet);
            }
            match self.stream.read_buf(&mut self.bytes).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// The next publish: its packet id and the reading's sequence, if it is a reading.
    async fn publish(&mut self) -> (u16, Option<u64>) {
        self.publish_if_any().await.unwrap()
    }

    async fn publish_if_any(&mut self) -> Option<(u16, Option<u64>)> {
        loop {
            if let Packet::Publish(publish) = self.packet().await? {
                assert_eq!(publish.topic, "plant/hall-1/air-1/state");
                let json = serde_json::from_slice(&publish.payload);
                let json: Option<serde_json::Value> = json.ok();
                let sequence = json.and_then(|json| json["seq"].as_u64());
                return Some((publish.pkid, sequence));
            }
        }
    }

    async fn acknowledge(&mut self, pkid: u16) {
        self.send(&Packet::PubAck(PubAck::new(pkid))).await;
    }
}

async fn device(faults: &str) -> (TcpListener, Arc<Shared>, Orders, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let broker = format!("mqtt://{}", listener.local_addr().unwrap());
    let scenario: Scenario = format!("{DEVICE}{faults}").parse().unwrap();
    let shared = Arc::new(Shared::new(None));
    let plan = scenario.devices[0].clone();
    let Link::Mqtt(link) = plan.link.clone() else {
        panic!("not mqtt");
    };
    let faults = Faults::new(&scenario.faults, &plan.id, 7);
    let (station, orders) = Station::new(plan, 7, faults, Arc::clone(&shared));
    let player = Player::new(station, broker.parse().unwrap(), &link.topic);
    (listener, shared, orders, tokio::spawn(player.play()))
}

#[tokio::test]
async fn what_a_broker_did_not_acknowledge_is_published_again_with_its_sequence() {
    let (listener, shared, _, playing) = device("").await;
    let mut peer = Peer::accept(&listener).await;
    let mut open = BTreeSet::new();
    for turn in 0..20 {
        let (pkid, sequence) = peer.publish().await;
        if turn % 2 == 0 {
            peer.acknowledge(pkid).await;
        } else {
            open.insert(sequence.unwrap());
        }
    }
    let acknowledged = || shared.books.acknowledged.load(Ordering::Relaxed);
    while acknowledged() < 10 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop(peer);
    let mut peer = Peer::accept(&listener).await;
    for sequence in open {
        let (pkid, again) = peer.publish().await;
        assert_eq!(
            again,
            Some(sequence),
            "oldest first, and only the open ones"
        );
        peer.acknowledge(pkid).await;
    }
    shared.enter(Phase::Settling);
    while let Some((pkid, _)) = peer.publish_if_any().await {
        peer.acknowledge(pkid).await;
    }
    playing.await.unwrap();
    let sent = shared.books.sent.load(Ordering::Relaxed);
    assert_eq!(acknowledged(), sent);
}

#[tokio::test]
async fn a_damaged_copy_goes_out_beside_the_good_one_and_never_instead() {
    let faults = "[[fault]]\nkind = \"corrupt\"\nrate = 0.5\n\
                  [[fault]]\nkind = \"truncate\"\nrate = 0.5\n";
    let (listener, shared, _, _playing) = device(faults).await;
    let mut peer = Peer::accept(&listener).await;
    let (mut readings, mut damaged) = (0, 0);
    while readings < 100 {
        let (pkid, sequence) = peer.publish().await;
        peer.acknowledge(pkid).await;
        match sequence {
            Some(sequence) => {
                assert_eq!(sequence, readings, "every reading whole, in order");
                readings += 1;
            }
            None => damaged += 1,
        }
    }
    assert!(damaged > 20, "{damaged}");
    shared.enter(Phase::Ended);
}

#[tokio::test]
async fn a_lost_acknowledgement_is_a_publish_with_the_same_sequence() {
    let faults = "[[fault]]\nkind = \"lost-acks\"\nrate = 1.0\nuntil = \"300ms\"\n";
    let (listener, shared, _, _playing) = device(faults).await;
    let mut peer = Peer::accept(&listener).await;
    let (pkid, first) = peer.publish().await;
    assert_eq!(first, Some(0));
    peer.acknowledge(pkid).await;
    loop {
        let (pkid, sequence) = peer.publish().await;
        peer.acknowledge(pkid).await;
        if sequence == first {
            break;
        }
    }
    while shared.books.acknowledged.load(Ordering::Relaxed) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    shared.enter(Phase::Ended);
}

#[tokio::test]
async fn a_reboot_connects_anew_and_begins_at_sequence_0() {
    let (listener, shared, orders, _playing) = device("").await;
    let mut peer = Peer::accept(&listener).await;
    for expected in 0..5 {
        let (pkid, sequence) = peer.publish().await;
        assert_eq!(sequence, Some(expected));
        peer.acknowledge(pkid).await;
    }
    super::super::lock(&orders).push_back(Occasion::Reboot);
    let mut peer = Peer::accept(&listener).await;
    assert_eq!(peer.publish().await.1, Some(0));
    shared.enter(Phase::Ended);
}
