//! The agent and a Mosquitto of the test's own: certificates on both sides, both versions of the protocol,
//! shared subscriptions. Kafka is away all the time, so what was read is what is queued.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use harness::{
    daemon::{AgentStatus, Daemon},
    port,
    process::Process,
    rig::{PATIENCE, publisher::Publisher},
    service::certificates::Authority,
    wait,
};

/// A broker with a plain listener and one with TLS.
struct Broker {
    dir: PathBuf,
    plain: u16,
    tls: u16,
    _process: Process,
}

impl Broker {
    /// `certificate` is the name of a file in `dir`; with `wants_ours` clients have to show one.
    fn start(dir: &Path, certificate: &str, wants_ours: bool) -> Result<Self> {
        let (plain, tls) = (port::free()?, port::free()?);
        let (pem, ca) = (dir.join(certificate), dir.join("ca.pem"));
        let (pem, ca) = (pem.display(), ca.display());
        let user = if rustix::process::geteuid().is_root() {
            "user root\n"
        } else {
            ""
        };
        let config = format!(
            "{user}allow_anonymous true\nmax_queued_messages 0\n\
             listener {plain} 127.0.0.1\n\
             listener {tls} 127.0.0.1\ncafile {ca}\ncertfile {pem}\nkeyfile {pem}\n\
             require_certificate {wants_ours}\nlog_dest stderr\n"
        );
        let file = dir.join("mosquitto.conf");
        fs::write(&file, config)?;
        let mut command = Command::new("/usr/sbin/mosquitto");
        command.arg("-c").arg(&file);
        let process = Process::spawn("mosquitto", &mut command, &dir.join("mosquitto.log"))?;
        wait::until_true("mosquitto to listen", PATIENCE, || {
            Ok([plain, tls]
                .iter()
                .all(|port| std::net::TcpStream::connect(("127.0.0.1", *port)).is_ok()))
        })?;
        Ok(Self {
            dir: dir.to_owned(),
            plain,
            tls,
            _process: process,
        })
    }

    fn agent(&self, name: &str, url: &str, settings: &str, subscription: &str) -> Result<Daemon> {
        let dir = self.dir.join(name);
        fs::create_dir_all(&dir)?;
        let state = dir.join("state");
        let config = format!(
            "[agent]\ngateway = {name:?}\nstate_dir = {state:?}\n\
             [kafka]\nbootstrap = \"127.0.0.1:9\"\ntopic = \"readings\"\n\
             [status]\nlisten = \"{{{{status}}}}\"\n\
             [[mqtt]]\nname = \"house\"\nurl = {url:?}\n{settings}\n\
             subscribe = [ {{ topic = \"plant/{{device}}\" {subscription} }} ]\n"
        );
        let mut agent = Daemon::new("edge-agent", &dir, &config)?;
        agent.start()?;
        Ok(agent)
    }
}

/// Waits until the link to the broker is in this state, for this reason. A busy machine may keep it down for another at
/// first, and an alert may come behind the end of the connection: each attempt may see it.
fn link(agent: &Daemon, state: &str, reason: &str) -> Result<()> {
    let mut last = None;
    wait::until_true("the link to the broker", PATIENCE, || {
        let status: AgentStatus = agent.status()?;
        let link = status.links.into_iter().find(|link| link.kind == "mqtt");
        let link = link.context("no link")?;
        let detail = link.detail.as_deref().unwrap_or_default();
        let is_so = link.state == state && detail.contains(reason);
        ensure!(link.state != "up" || is_so, "it is up");
        last = Some(link);
        Ok(is_so)
    })
    .with_context(|| format!("{last:?}\n{}", agent.end_of_log()))
}

fn queued(agent: &Daemon, expected: u64) -> Result<()> {
    let mut seen = 0;
    wait::until_true(&format!("{expected} readings"), PATIENCE, || {
        seen = agent.status::<AgentStatus>()?.balance.queued;
        Ok(seen >= expected)
    })
    .with_context(|| format!("{seen} are queued\n{}", agent.end_of_log()))?;
    ensure!(seen == expected, "{seen} queued, {expected} sent");
    Ok(())
}

fn authority(dir: &Path) -> Result<Authority> {
    let authority = Authority::new(dir)?;
    authority.sign("good", "localhost", 5)?;
    authority.sign("expired", "localhost", 0)?;
    authority.sign("elsewhere", "elsewhere.example", 5)?;
    authority.sign("client", "edge", 5)?;
    Ok(authority)
}

/// Row 41.
#[test]
fn a_certificate_that_is_wrong_keeps_the_link_down_with_the_remedy() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let _authority = authority(dir.path())?;
    let ca = format!("tls_ca = {:?}\n", dir.path().join("ca.pem"));
    for (at, (certificate, authority, expected)) in [
        ("good.pem", &*ca, ""),
        ("expired.pem", &ca, "renew the broker's certificate"),
        ("elsewhere.pem", &ca, "url must name the host"),
        ("good.pem", "", "set tls_ca to who signed"),
    ]
    .into_iter()
    .enumerate()
    {
        let broker = Broker::start(dir.path(), certificate, false)?;
        let url = format!("mqtts://localhost:{}", broker.tls);
        for version in ["3.1.1", "5"] {
            let settings = format!("version = {version:?}\n{authority}");
            let agent = broker.agent(&format!("gw{at}-{version}"), &url, &settings, "")?;
            let state = if expected.is_empty() { "up" } else { "down" };
            link(&agent, state, expected).with_context(|| format!("{certificate}, {version}"))?;
        }
    }
    Ok(())
}

#[test]
fn a_broker_that_wants_our_certificate_gets_it() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let _authority = authority(dir.path())?;
    let broker = Broker::start(dir.path(), "good.pem", true)?;
    let url = format!("mqtts://localhost:{}", broker.tls);
    let (ca, client) = (dir.path().join("ca.pem"), dir.path().join("client.pem"));
    let without = format!("tls_ca = {ca:?}\n");
    let with = format!("{without}tls_cert = {client:?}\ntls_key = {client:?}\n");
    for version in ["3.1.1", "5"] {
        let settings = format!("version = {version:?}\n{with}");
        let agent = broker.agent(&format!("with-{version}"), &url, &settings, "")?;
        link(&agent, "up", "").with_context(|| version)?;
    }
    let agent = broker.agent("without", &url, &without, "")?;
    link(&agent, "down", "set tls_cert and tls_key")
}

#[test]
fn a_session_of_version_5_keeps_messages_while_the_agent_is_away() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let _authority = authority(dir.path())?;
    let broker = Broker::start(dir.path(), "good.pem", false)?;
    let url = format!("mqtt://127.0.0.1:{}", broker.plain);
    let settings = "version = \"5\"\nsession_expiry = \"1h\"";
    let mut agent = broker.agent("gw", &url, settings, "")?;
    link(&agent, "up", "")?;
    agent.stop(PATIENCE)?;
    let publisher = Publisher::connect(&url, "sensor")?;
    for value in 0..50 {
        publisher.publish("plant/press", format!("{{\"v\":{value}}}"))?;
    }
    publisher.wait_acknowledged(50)?;
    agent.start()?;
    queued(&agent, 50)
}

#[test]
fn gateways_that_share_a_subscription_share_its_messages() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let _authority = authority(dir.path())?;
    let broker = Broker::start(dir.path(), "good.pem", false)?;
    let url = format!("mqtt://127.0.0.1:{}", broker.plain);
    let agents = ["3.1.1", "5"].map(|version| {
        let settings = format!("version = {version:?}");
        let share = ", share = \"edge\"";
        broker.agent(&format!("gw-{version}"), &url, &settings, share)
    });
    let [one, two] = agents;
    let agents = [one?, two?];
    for agent in &agents {
        link(agent, "up", "")?;
    }
    let publisher = Publisher::connect(&url, "sensor")?;
    for value in 0..100 {
        publisher.publish("plant/press", format!("{{\"v\":{value}}}"))?;
    }
    publisher.wait_acknowledged(100)?;
    let mut seen = [0, 0];
    wait::until_true("100 readings at both together", PATIENCE, || {
        for (seen, agent) in seen.iter_mut().zip(&agents) {
            *seen = agent.status::<AgentStatus>()?.balance.queued;
        }
        Ok(seen.iter().sum::<u64>() >= 100)
    })?;
    ensure!(
        seen.iter().sum::<u64>() == 100 && seen.iter().all(|seen| *seen > 0),
        "{seen:?}"
    );
    Ok(())
}
