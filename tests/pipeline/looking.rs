//! `scan`, `probe` and `monitor` against simulated devices, and nothing else running.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use anyhow::{Result, ensure};
use hardware_sim::{Options, Scenario, Sim, native::modbus::profiles};
use harness::{port, rig::PATIENCE};
use protocol::frame::{Ack, Frame, Verdict};

/// Milliseconds for the answer of a unit: on a busy machine the simulated ones think longer than real ones.
const PATIENT: &str = "2000";

fn sim(dir: &Path, devices: &str) -> Result<Sim> {
    let scenario: Scenario = devices.parse()?;
    Ok(Sim::start(
        &scenario,
        &Options {
            seed: None,
            truth: None,
            mqtt: None,
            pty_dir: dir.to_owned(),
        },
    )?)
}

fn agent(arguments: &[&str]) -> Result<(Output, String)> {
    let output = Command::new(harness::binary("edge-agent")?)
        .args(arguments)
        .output()?;
    let said = harness::process::said(&output);
    Ok((output, said))
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn a_scan_names_the_units_of_a_line_and_of_a_server() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let address = format!("127.0.0.1:{}", port::free()?);
    let sim = sim(
        dir.path(),
        &format!(
            "[[device]]\nid = \"bus\"\nkind = \"meter\"\n\
             link = {{ modbus = {{ slaves = [ {{ unit = 3, profile = \"xy-md02\" }}, {{ unit = 5, profile = \"sdm120\" }} ] }} }}\n\
             [[device]]\nid = \"server\"\nkind = \"meter\"\n\
             link = {{ modbus = {{ slaves = [ {{ unit = 1, profile = \"sdm630\" }} ], listen = \"{address}\" }} }}\n"
        ),
    )?;
    let bus = text(&dir.path().join("bus"));
    let (output, said) = agent(&[
        "scan",
        "modbus",
        &bus,
        "--units",
        "2-6",
        "--timeout",
        PATIENT,
    ])?;
    ensure!(output.status.success(), "{said}");
    let found: Vec<&str> = said
        .lines()
        .filter(|line| line.starts_with("unit"))
        .collect();
    ensure!(found.len() == 2, "{said}");
    ensure!(
        found[0].starts_with("unit 3 ") && said.contains("profile = \"xy-md02\""),
        "{said}"
    );
    ensure!(
        found[1].starts_with("unit 5 ") && said.contains("profile = \"sdm120\""),
        "{said}"
    );
    let (output, said) = agent(&[
        "scan",
        "modbus",
        &address,
        "--units",
        "1-2",
        "--timeout",
        PATIENT,
    ])?;
    ensure!(
        output.status.success() && said.contains("profile = \"sdm630\""),
        "{said}"
    );
    let (output, said) = agent(&["scan", "modbus", &bus, "--units", "9"])?;
    ensure!(output.status.code() == Some(69), "{said}");
    sim.stop(PATIENCE)?;
    Ok(())
}

#[test]
fn a_scan_recognises_every_profile_the_simulator_plays() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut servers = Vec::new();
    for name in profiles() {
        servers.push((name, format!("127.0.0.1:{}", port::free()?)));
    }
    let devices: Vec<String> = servers
        .iter()
        .map(|(name, address)| {
            format!(
                "[[device]]\nid = {name:?}\nkind = \"meter\"\n\
                 link = {{ modbus = {{ slaves = [ {{ unit = 1, profile = {name:?} }} ], listen = \"{address}\" }} }}\n"
            )
        })
        .collect();
    let sim = sim(dir.path(), &devices.concat())?;
    std::thread::scope(|scope| {
        let scans: Vec<_> = servers
            .iter()
            .map(|(name, address)| {
                scope.spawn(move || -> Result<()> {
                    let scan = [
                        "scan",
                        "modbus",
                        address,
                        "--units",
                        "1",
                        "--timeout",
                        "20000",
                    ];
                    let (output, said) = agent(&scan)?;
                    let named = said.contains(&format!("profile = {name:?}"));
                    ensure!(output.status.success() && named, "{name}: {said}");
                    Ok(())
                })
            })
            .collect();
        scans.into_iter().try_for_each(|scan| match scan.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })?;
    sim.stop(PATIENCE)?;
    Ok(())
}

#[test]
fn a_scan_names_what_speaks_on_a_line() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let device = |id: &str| {
        format!(
            "[[device]]\nid = {id:?}\nkind = \"meter\"\nevery = \"200ms\"\nlink = {{ line = {{ speaks = {id:?} }} }}\n"
        )
    };
    let known = ["nmea", "dsmr", "ve-direct", "pms5003", "sds011"];
    let devices: String = known.iter().map(|id| device(id)).collect();
    let sim = sim(dir.path(), &devices)?;
    for id in known {
        let line = text(&dir.path().join(id));
        let (output, said) = agent(&["scan", "serial", &line, "--for", "30"])?;
        ensure!(output.status.success(), "{id}: {said}");
        ensure!(said.contains(&format!("mode = {id:?}")), "{id}: {said}");
    }
    sim.stop(PATIENCE)?;
    Ok(())
}

fn probed(dir: &Path, source: &str) -> Result<PathBuf> {
    let config = dir.join("agent.toml");
    let state = dir.join("state");
    std::fs::write(
        &config,
        format!(
            "[agent]\ngateway = \"gw\"\nstate_dir = {state:?}\n\
             [kafka]\nbootstrap = \"127.0.0.1:9\"\ntopic = \"readings\"\n{source}"
        ),
    )?;
    Ok(config)
}

#[test]
fn a_probe_shows_bytes_values_and_what_becomes_of_them_and_ends() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let sim = sim(
        dir.path(),
        "[[device]]\nid = \"co2\"\nkind = \"climate\"\nlink = { line = { speaks = \"mh-z19\" } }\n",
    )?;
    let port = dir.path().join("co2");
    let source = format!(
        "[[serial]]\nname = \"room\"\nport = {port:?}\nbaud = 9600\nmode = \"mh-z19\"\n\
         device = \"co2\"\nevery = \"100ms\"\n\
         [[process]]\nfield = \"temperature_c\"\nrename = \"housing\"\nunit = \"°C\"\n\
         [[process]]\non_change = {{ dead_band = 100000 }}\n"
    );
    let config = text(&probed(dir.path(), &source)?);
    let (output, said) = agent(&["probe", "-c", &config, "-n", "3", "--format", "json"])?;
    ensure!(output.status.success(), "{said}");
    let lines: Vec<serde_json::Value> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    ensure!(lines.len() == 3, "{said}");
    let raw = lines[0]["raw"].as_str().unwrap_or_default();
    ensure!(raw.starts_with("ff0186") && raw.contains("ff86"), "{said}");
    ensure!(lines[0]["decoded"]["temperature_c"] == 22.0, "{said}");
    ensure!(lines[0]["sent"]["housing_c"] == 22.0, "{said}");
    // The state `warming_up` is under the dead band too, and does not change.
    ensure!(lines[2]["suppressed"] == "deadband", "{said}");
    ensure!(!dir.path().join("state").exists(), "a probe keeps nothing");
    sim.stop(PATIENCE)?;
    let (output, said) = agent(&["probe", "-c", &config, "--for", "1"])?;
    ensure!(output.status.code() == Some(69), "{said}");
    ensure!(said.contains("link down"), "{said}");
    // Nobody has asked it to wait for a plug.
    let (output, said) = agent(&["probe", "-c", &config])?;
    ensure!(output.status.code() == Some(69), "{said}");
    ensure!(!said.contains("nothing came"), "{said}");
    Ok(())
}

#[test]
fn a_monitor_says_why_a_byte_was_rejected() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut frame = Vec::new();
    let ack = Ack {
        boot: 7,
        sequence: 3,
        verdict: Verdict::Stored,
    };
    Frame::Ack(ack).encode(&mut frame)?;
    let mut damaged = frame.clone();
    let last = damaged.len() - 2;
    damaged[last] ^= 1;
    let capture = dir.path().join("capture");
    std::fs::write(&capture, [frame, damaged].concat())?;
    let (output, said) = agent(&["monitor", &text(&capture)])?;
    ensure!(output.status.code() == Some(1), "{said}");
    for expected in [
        "bytes  ack\n",
        "verdict: stored\n",
        "REJECTED frame crc is c6953405",
        "got c6953405, expected c7953405",
    ] {
        ensure!(said.contains(expected), "{expected} is not in\n{said}");
    }

    let sim = sim(
        dir.path(),
        "[[device]]\nid = \"meter\"\nkind = \"meter\"\nevery = \"100ms\"\nlink = { pty = { mode = \"frames\" } }\n",
    )?;
    let line = text(&dir.path().join("meter"));
    let (output, said) = agent(&["monitor", &line, "-n", "1", "--for", "120"])?;
    ensure!(
        output.status.success() && said.contains("kind 1, hello"),
        "{said}"
    );
    drop(sim);
    Ok(())
}

/// A configuration for a dust sensor on a line, once the line is there.
fn dust_on(port: &Path, dir: &Path) -> Result<PathBuf> {
    harness::wait::until_true("the line", PATIENCE, || Ok(port.exists()))?;
    let source = format!(
        "[[serial]]\nname = \"dust\"\nport = {port:?}\nbaud = 9600\nmode = \"sds011\"\ndevice = \"dust\"\n"
    );
    probed(dir, &source)
}

#[test]
fn a_device_is_played_without_a_scenario() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let lines = dir.path().join("pty");
    let mut player = Command::new(harness::binary("hardware-sim")?);
    player
        .args(["pty", "sds011", "--every", "100ms", "--pty-dir"])
        .arg(&lines);
    let log = dir.path().join("pty.log");
    let _player = harness::process::Process::spawn("pty", &mut player, &log)?;
    let config = text(&dust_on(&lines.join("sds011"), dir.path())?);
    let (output, said) = agent(&["probe", "-c", &config, "-n", "2"])?;
    ensure!(output.status.success(), "{said}");
    ensure!(said.contains("decoded  pm10_ug_m3="), "{said}");
    let output = Command::new(harness::binary("hardware-sim")?)
        .args(["pty", "toaster"])
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(2), "{said}");
    ensure!(said.contains("write meter, climate"), "{said}");
    Ok(())
}

#[test]
fn a_recording_is_played_into_a_line() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let recording = dir.path().join("dust.bin");
    let frame = [0xaa, 0xc0, 0xd4, 0x04, 0x3a, 0x0a, 0xa1, 0x60, 0x1d, 0xab];
    std::fs::write(&recording, frame.repeat(20))?;
    let lines = dir.path().join("pty");
    let mut player = Command::new(harness::binary("hardware-sim")?);
    player
        .arg("play")
        .arg(&recording)
        .arg("--pty-dir")
        .arg(&lines);
    let log = dir.path().join("play.log");
    let _player = harness::process::Process::spawn("play", &mut player, &log)?;
    let config = text(&dust_on(&lines.join("dust"), dir.path())?);
    let (output, said) = agent(&["probe", "-c", &config, "-n", "5"])?;
    ensure!(output.status.success(), "{said}");
    ensure!(
        said.contains("decoded  pm10_ug_m3=261.8 pm2_5_ug_m3=123.6"),
        "{said}"
    );
    Ok(())
}

/// What a UART makes of a telegram at another speed than its own.
#[test]
fn a_probe_of_a_line_at_the_wrong_speed_says_that_bytes_came_and_what_to_look_at() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let recording = dir.path().join("dust.bin");
    std::fs::write(&recording, [0xf8, 0x80, 0x00, 0xfe, 0x78].repeat(20))?;
    let lines = dir.path().join("pty");
    let mut player = Command::new(harness::binary("hardware-sim")?);
    player
        .args(["play", "--repeat"])
        .arg(&recording)
        .arg("--pty-dir")
        .arg(&lines);
    let log = dir.path().join("play.log");
    let _player = harness::process::Process::spawn("play", &mut player, &log)?;
    let port = lines.join("dust");
    harness::wait::until_true("the line", PATIENCE, || Ok(port.exists()))?;
    let source = format!(
        "[[serial]]\nname = \"dust\"\nport = {port:?}\nbaud = 9600\nmode = \"lines\"\nformat = \"json\"\ndevice = \"dust\"\n"
    );
    let config = text(&probed(dir.path(), &source)?);
    let (output, said) = agent(&["probe", "-c", &config, "--for", "2"])?;
    ensure!(output.status.code() == Some(69), "{said}");
    ensure!(
        said.contains("bytes came within 2 s and no reading: are baud, framing and mode"),
        "{said}"
    );
    Ok(())
}

#[test]
fn an_online_check_opens_each_source_and_names_what_does_not_answer() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let sim = sim(
        dir.path(),
        "[[device]]\nid = \"bus\"\nkind = \"meter\"\nlink = { modbus = { slaves = [ { unit = 1, profile = \"sdm120\" } ] } }\n\
         [[device]]\nid = \"room\"\nkind = \"climate\"\nlink = { pty = { mode = \"frames\" } }\n",
    )?;
    let nobody = format!("127.0.0.1:{}", port::free()?);
    let lines = text(dir.path());
    let line = |name: &str, mode: &str| {
        format!("[[serial]]\nname = \"{name}\"\nport = \"{lines}/{name}\"\nmode = \"{mode}\"\n")
    };
    let meter = |unit: u8| {
        format!("[[serial.device]]\nid = \"meter-{unit}\"\nunit = {unit}\nprofile = \"sdm120\"\n")
    };
    let config = dir.path().join("agent.toml");
    let (room, gone, bus) = (
        line("room", "frames"),
        line("gone", "frames"),
        line("bus", "modbus"),
    );
    let (one, two) = (meter(1), meter(2));
    fs::write(
        &config,
        format!(
            "[agent]\ngateway = \"gw7\"\n[kafka]\nbootstrap = \"{nobody}\"\ntopic = \"readings\"\n\
             {room}{gone}{bus}baud = 9600\n{one}{two}\
             [[mqtt]]\nname = \"house\"\nurl = \"mqtt://{nobody}\"\nsubscribe = [{{ topic = \"a/{{device}}\" }}]\n"
        ),
    )?;
    let (output, said) = agent(&["check", "--online", "-c", &text(&config)])?;
    ensure!(output.status.code() == Some(69), "{said}");
    for told in [
        &format!("serial     room  {lines}/room  ok   opened"),
        &format!(
            "serial     gone  {lines}/gone  FAIL No such file or directory\n           fix: is it plugged in?"
        ),
        &format!("serial     bus  {lines}/bus  FAIL no answer of meter-2\n"),
        &format!("mqtt       house  {nobody}  FAIL"),
        &format!("kafka      {nobody}  FAIL"),
    ] {
        ensure!(said.contains(told.as_str()), "{told} is not in\n{said}");
    }
    // Nobody acknowledges what the room says: it would be waited for in vain.
    sim.stop(Duration::ZERO)?;
    Ok(())
}
