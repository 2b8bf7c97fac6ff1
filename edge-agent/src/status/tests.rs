use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::Handle,
};

use super::*;
use crate::{clock::Clock, ingest, quarantine::Quarantine};

fn snapshot() -> Snapshot {
    let since = Duration::from_secs(5);
    let links = vec![
        (LinkKind::Serial, "meter".into(), LinkState::Up, since),
        (
            LinkKind::Kafka,
            "readings".into(),
            LinkState::Down("refused".into()),
            since,
        ),
    ];
    Snapshot {
        gateway: GatewayId::new("gw7").unwrap(),
        version: "0.1.0",
        uptime_s: 7,
        ready: false,
        links: links.into_iter().map(Link::new).collect(),
        balance: Balance {
            received: 10,
            acknowledged: 4,
            queued: 3,
            dropped: [1, 0, 2, 0, 0, 0],
            ..Balance::default()
        },
        lanes: vec![LaneStat {
            topic: "readings".into(),
            stat: queue::Stat {
                readings: 3,
                bytes: 4096,
                oldest_committed: Some(1_700_000_000_123_456),
                ..queue::Stat::default()
            },
            oldest_age_s: Some(9),
            committed_per_s: Some(0.5),
            offline_budget_s: Some(86_400),
            sent_bytes: 400,
            resent: 0,
            restarts: 0,
            held: Some(forward::Held {
                by: "budget",
                until: Some("2026-11-24T00:00:00Z".into()),
            }),
            budget: Some(BudgetStat {
                bytes_per_day: 1000,
                spent_bytes: 990,
            }),
        }],
        sources: vec![Source {
            kind: LinkKind::Serial,
            name: "meter".into(),
            seen: source::Seen {
                bytes: 640,
                received: 10,
                ..source::Seen::default()
            },
        }],
        rejections: vec![("meter".into(), "damaged", 2)],
        rates: Some(PerSecond {
            received: 1.5,
            acknowledged: 1.0,
        }),
        devices: Devices::default().snapshot(Instant::now()),
        incidents: vec![],
    }
}

#[test]
fn status_has_the_shape_that_others_rely_on() {
    let json = serde_json::to_value(snapshot()).unwrap();
    assert_eq!(json["gateway"], "gw7");
    assert_eq!(json["ready"], false);
    assert_eq!(
        json["links"],
        serde_json::json!([
            { "kind": "serial", "name": "meter", "state": "up", "detail": null, "since_s": 5 },
            { "kind": "kafka", "name": "readings", "state": "down", "detail": "refused", "since_s": 5 },
        ])
    );
    assert_eq!(json["balance"]["received"], 10);
    assert_eq!(json["balance"]["dropped"]["too_old"], 2);
    assert_eq!(json["lanes"][0]["topic"], "readings");
    assert_eq!(json["lanes"][0]["readings"], 3);
    assert_eq!(
        json["lanes"][0]["held"],
        serde_json::json!({ "by": "budget", "until": "2026-11-24T00:00:00Z" })
    );
    assert_eq!(
        json["lanes"][0]["budget"],
        serde_json::json!({ "bytes_per_day": 1000, "spent_bytes": 990 })
    );
    assert_eq!(json["sources"][0]["received"], 10);
    assert_eq!(json["rates"]["received"], 1.5);
    assert_eq!(json["lanes"][0]["offline_budget_s"], 86_400);
    assert_eq!(json["devices"], serde_json::json!([]));
    assert_eq!(json["more_devices"], false);
}

#[test]
fn metrics_have_the_names_of_the_documentation() {
    let text = metrics::encode(snapshot()).unwrap();
    for line in [
        "edge_readings_received_total 10",
        "edge_readings_queued 3",
        "edge_readings_dropped_total{reason=\"too_old\"} 2",
        "edge_frames_rejected_total{source=\"meter\",reason=\"damaged\"} 2",
        "edge_queue_bytes{topic=\"readings\"} 4096",
        "edge_queue_oldest_committed_timestamp_seconds{topic=\"readings\"} 1700000000",
        "edge_link_up{link=\"kafka\",name=\"readings\"} 0",
        "edge_uplink_held{topic=\"readings\",by=\"budget\"} 1",
        "edge_uplink_held{topic=\"readings\",by=\"window\"} 0",
        "edge_uplink_budget_bytes{topic=\"readings\"} 1000",
        "edge_uplink_budget_spent_bytes{topic=\"readings\"} 990",
        "edge_source_bytes_total{source=\"meter\"} 640",
        "edge_source_readings_total{source=\"meter\"} 10",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
}

async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn readiness_follows_the_links_and_life_the_loops() {
    let pulses = Pulses::new(Duration::ZERO);
    let dir = tempfile::tempdir().unwrap();
    let links = Links::default();
    let conservation = Arc::new(Conservation::default());
    let around = ingest::Surroundings {
        runtime: Handle::current(),
        clock: Clock::new(),
        conservation: Arc::clone(&conservation),
        quarantine: Quarantine::open(dir.path(), 1 << 20).unwrap(),
        links: links.clone(),
        pulses: pulses.clone(),
    };
    let watched = Watched {
        gateway: GatewayId::new("gw7").unwrap(),
        started: Instant::now(),
        conservation,
        links: links.clone(),
        lanes: vec![],
        sources: source::Roster::default(),
        gate: ingest::start(vec![], Duration::from_millis(1), around)
            .unwrap()
            .gate,
        devices: Devices::default(),
        clock: Clock::new(),
        rates: Mutex::default(),
        pulses: pulses.clone(),
    };
    let shutdown = CancellationToken::new();
    let any_port = "127.0.0.1:0".parse().unwrap();
    let (address, server) = serve(any_port, watched, shutdown.clone()).await.unwrap();
    let server = tokio::spawn(server);

    links.set(
        LinkKind::Kafka,
        "readings",
        LinkState::Down("refused".into()),
    );
    let answer = get(address, "/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("kafka readings down refused"), "{answer}");
    assert!(get(address, "/livez").await.starts_with("HTTP/1.1 200"));
    let frozen = pulses.watch("commit readings");
    while pulses.silent(Instant::now()).is_none() {
        tokio::task::yield_now().await;
    }
    let answer = get(address, "/livez").await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(
        answer.contains("commit readings has made no progress"),
        "{answer}"
    );
    drop(frozen);
    assert!(get(address, "/livez").await.starts_with("HTTP/1.1 200"));

    links.set(LinkKind::Kafka, "readings", LinkState::Up);
    assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200"));
    assert!(
        get(address, "/status.json")
            .await
            .contains("\"ready\":true")
    );
    assert!(get(address, "/metrics").await.contains("edge_link_up"));
    let page = get(address, "/").await;
    assert!(page.contains("content-type: text/html"), "{page}");
    assert!(
        page.contains("content-security-policy: default-src 'none'"),
        "{page}"
    );

    shutdown.cancel();
    server.await.unwrap().unwrap();
}
