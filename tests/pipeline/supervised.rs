//! systemd, played: what the daemons tell it, and when they stop telling it.

use std::{
    io::ErrorKind,
    os::unix::net::UnixDatagram,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use harness::{
    chaos::{
        bench::{Bench, DRAIN, log_has},
        report::Report,
        shim::FaultyDisk,
    },
    daemon::Daemon,
    rig::PATIENCE,
    wait,
};
use tempfile::TempDir;

use crate::verdict::finish;

/// The socket that systemd gives its services.
struct Manager {
    socket: UnixDatagram,
    /// Short: the path of a socket has 108 bytes.
    dir: TempDir,
}

impl Manager {
    fn new() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let socket = UnixDatagram::bind(dir.path().join("notify"))?;
        Ok(Self { socket, dir })
    }

    /// What systemd puts into the environment of a service with this `WatchdogSec`.
    fn environment(&self, watchdog: Duration) -> [(String, PathBuf); 2] {
        let every = watchdog.as_micros().to_string();
        [
            ("NOTIFY_SOCKET".to_owned(), self.dir.path().join("notify")),
            ("WATCHDOG_USEC".to_owned(), every.into()),
        ]
    }

    /// The next message, if one comes in time.
    fn next(&self, within: Duration) -> Result<Option<String>> {
        self.socket.set_read_timeout(Some(within))?;
        let mut buffer = [0; 4096];
        match self.socket.recv(&mut buffer) {
            Ok(length) => Ok(Some(String::from_utf8(buffer[..length].to_vec())?)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Throws away what was said so far.
    fn forget(&self) -> Result<()> {
        self.socket.set_nonblocking(true)?;
        while self.next(PATIENCE)?.is_some() {}
        Ok(self.socket.set_nonblocking(false)?)
    }

    /// Messages up to the one that has this line.
    fn wait_for(&self, line: &str) -> Result<Vec<String>> {
        let deadline = Instant::now() + PATIENCE;
        let mut said = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let message = self.next(left.max(Duration::from_millis(1)))?;
            said.push(message.with_context(|| format!("{line} was not said, but {said:?}"))?);
            if said
                .last()
                .is_some_and(|said| said.lines().any(|l| l == line))
            {
                return Ok(said);
            }
        }
    }
}

/// What a page answers, whatever the code.
pub fn ask(url: &str) -> Result<(u16, String)> {
    let any = ureq::Agent::config_builder().http_status_as_error(false);
    let mut answer = any.build().new_agent().get(url).call()?;
    let code = answer.status().as_u16();
    Ok((code, answer.body_mut().read_to_string()?))
}

/// As when the system refuses sled a thread: the process lives and answers, and nothing goes on.
#[test]
fn a_commit_that_never_returns_starves_the_watchdog_and_the_next_start_loses_nothing() -> Result<()>
{
    let mut report = Report::new(0);
    let mut bench = Bench::new("watchdog", 200, "segment_bytes = \"64KiB\"\n")?;
    let disk = FaultyDisk::new(&bench.state, &bench.dir.join("disk-control"))?;
    bench.use_disk(&disk);
    let (manager, every) = (Manager::new()?, Duration::from_secs(2));
    bench.environment.extend(manager.environment(every));
    bench.start_and_wait(&mut report)?;
    manager.wait_for("READY=1")?;
    bench.feed.allow(300);
    bench.feed.wait_settled(DRAIN)?;
    manager.wait_for("WATCHDOG=1")?;

    disk.slow(3_600_000)?;
    report.fault("hang");
    bench.feed.allow(500);
    // It stays so: nothing that a busy machine delays can end it.
    let log = bench.log();
    wait::until_true("the feeding to end", PATIENCE, || {
        manager.forget()?;
        let is_starved = manager.next(2 * every)?.is_none();
        Ok(is_starved && log_has(&log, "loop makes no progress"))
    })?;
    // Who asks instead of being told hears it as well, from a process that answers.
    let life = format!("http://127.0.0.1:{}/livez", bench.port);
    wait::until_true("/livez to say so", PATIENCE, || {
        let (code, said) = ask(&life)?;
        Ok(code == 503 && said.contains("has made no progress for"))
    })?;
    bench.status(&mut report)?;

    bench.kill()?;
    disk.heal()?;
    bench.start_and_wait(&mut report)?;
    bench.feed.wait_settled(DRAIN)?;
    finish(bench, report)
}

#[test]
fn an_agent_says_when_it_has_started_and_when_it_stops() -> Result<()> {
    let mut report = Report::new(0);
    let mut bench = Bench::new("notify", 200, "")?;
    let manager = Manager::new()?;
    bench
        .environment
        .extend(manager.environment(Duration::from_secs(2)));
    bench.start_and_wait(&mut report)?;
    let said = manager.wait_for("WATCHDOG=1")?;
    ensure!(said[0] == "READY=1\n", "{said:?}");
    ensure!(bench.stop()?.is_some_and(|status| status.success()));
    let said = manager.wait_for("STOPPING=1")?;
    let last = said.last().map(String::as_str).unwrap_or_default();
    // shutdown_timeout = "2s" and the grace of two stages.
    ensure!(last.contains("EXTEND_TIMEOUT_USEC=12000000"), "{last}");
    bench.end(&report);
    Ok(())
}

/// Kafka and MongoDB may be away for longer than any start may last.
#[test]
fn a_sink_without_its_peers_has_started_is_fed_and_says_when_it_stops() -> Result<()> {
    let manager = Manager::new()?;
    let config = "[kafka]\nbootstrap = \"127.0.0.1:1\"\n[mongodb]\nuri = \"mongodb://127.0.0.1:1\"\n\
                  [[route]]\ntopic = \"readings\"\ncollection = \"readings\"\n[status]\nlisten = \"{{status}}\"\n";
    let mut sink = Daemon::new("cloud-sink", manager.dir.path(), config)?;
    sink.set_environment(manager.environment(Duration::from_secs(2)).into());
    sink.start()?;
    let said = manager.wait_for("WATCHDOG=1")?;
    ensure!(said[0] == "READY=1\n", "{said:?}");
    ensure!(sink.stop(PATIENCE)?.success(), "{}", sink.end_of_log());
    manager.wait_for("STOPPING=1")?;
    Ok(())
}
