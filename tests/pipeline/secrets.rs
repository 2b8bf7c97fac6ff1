//! Whatever is asked of the daemons, a secret is never in the answer.

use std::{fs, path::Path, process::Command};

use anyhow::{Result, ensure};
use harness::{daemon::Daemon, port, rig::PATIENCE, wait};

/// Every secret begins like this, so that one search finds all.
const SECRET: &str = "hunter2";

/// As Confluent shows it for Java, and what else can hold a secret.
fn properties(port: u16) -> String {
    format!(
        "bootstrap.servers=127.0.0.1:{port}\nsecurity.protocol=SASL_SSL\nsasl.mechanism=PLAIN\n\
         sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
         username='KEY' password='{SECRET}-jaas';\n\
         schema.registry.url=http://127.0.0.1:{port}\nbasic.auth.credentials.source=USER_INFO\n\
         basic.auth.user.info=SRKEY:{SECRET}-registry\n"
    )
}

fn configurations(dir: &Path, port: u16) -> Result<[(&'static str, String); 2]> {
    let (file, password) = (dir.join("client.properties"), dir.join("password"));
    let uri = dir.join("uri");
    fs::write(&file, properties(port))?;
    fs::write(&password, format!("{SECRET}-file\n"))?;
    fs::write(
        &uri,
        format!("mongodb://user:{SECRET}-mongodb@127.0.0.1:{port}/?directConnection=true\n"),
    )?;
    let kafka = format!(
        "[kafka]\nproperties_file = {file:?}\n\
         properties = {{ \"ssl.key.password\" = {{ file = {password:?} }}, \"debug\" = \"security,broker\" }}\n"
    );
    let status = "[status]\nlisten = \"{{status}}\"\n";
    let agent = format!(
        "[agent]\ngateway = \"gw\"\nstate_dir = {:?}\n{kafka}topic = \"readings\"\nvalue = \"avro\"\n{status}\
         [[mqtt]]\nname = \"house\"\nurl = \"mqtt://127.0.0.1:{port}\"\nusername = \"u\"\n\
         password = {{ file = {password:?} }}\nsubscribe = [ {{ topic = \"plant/{{device}}\" }} ]\n",
        dir.join("state"),
    );
    let sink = format!(
        "{kafka}[mongodb]\nuri = {{ file = {uri:?} }}\n\
         [[route]]\ntopic = \"readings\"\ncollection = \"readings\"\n{status}"
    );
    Ok([("edge-agent", agent), ("cloud-sink", sink)])
}

fn said(program: &str, arguments: &[&str], config: &Path) -> Result<String> {
    let output = Command::new(harness::binary(program)?)
        .args(arguments)
        .arg("-c")
        .arg(config)
        .env("RUST_LOG", "trace")
        .output()?;
    Ok(harness::process::said(&output))
}

/// Neither as it is nor in the form in which HTTP carries it.
fn assert_silent(place: &str, text: &str) -> Result<()> {
    // base64 of "SRKEY:hunter2"
    for secret in [SECRET, "U1JLRVk6aHVudGVyM"] {
        ensure!(!text.contains(secret), "{place} tells a secret:\n{text}");
    }
    Ok(())
}

#[test]
fn no_command_log_or_page_tells_a_secret() -> Result<()> {
    let dir = tempfile::tempdir()?;
    // Nobody listens there, so every link has something to complain about.
    let nobody = port::free()?;
    for (program, config) in configurations(dir.path(), nobody)? {
        let mut daemon = Daemon::new(program, dir.path(), &config)?;
        daemon.set_environment(vec![("RUST_LOG".into(), "trace".into())]);
        let file = daemon.config_file();
        for command in [&["check"][..], &["config", "show"]] {
            let text = said(program, command, &file)?;
            ensure!(text.contains("KEY"), "{program} {command:?}:\n{text}");
            assert_silent(&format!("{program} {command:?}"), &text)?;
        }
        daemon.start()?;
        wait::until_true("complaints", PATIENCE, || {
            let log = fs::read_to_string(daemon.log())?;
            Ok(log.contains("refused") || log.contains("unreachable"))
        })?;
        for page in ["/metrics", "/status.json"] {
            assert_silent(&format!("{program} {page}"), &daemon.page(page)?)?;
        }
        let pid = daemon.process()?.identity().pid;
        for place in ["cmdline", "environ"] {
            let text = fs::read(format!("/proc/{pid}/{place}"))?;
            assert_silent(place, &String::from_utf8_lossy(&text))?;
        }
        daemon.stop(PATIENCE)?;
        assert_silent(program, &fs::read_to_string(daemon.log())?)?;
    }
    Ok(())
}

#[test]
fn a_properties_file_that_is_wrong_is_told_without_its_secrets() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("client.properties");
    for (program, config) in configurations(dir.path(), 9)? {
        let toml = dir.path().join("config.toml");
        fs::write(&toml, config.replace("{{status}}", "off"))?;
        for (line, expected) in [
            ("acks=1", "client.properties:8:1: acks "),
            ("sasl.pasword=hunter2", "did you mean sasl.password?"),
            (
                "sasl.password=hunter2",
                ":8:1: sasl.password stands here a second time",
            ),
            (
                "sasl.username={{ CLUSTER_API_KEY }}",
                "placeholder {{ CLUSTER_API_KEY }}",
            ),
            ("hunter2", "the line is not of the form name=value"),
            ("ssl.key.pem=hunter2\\n", "holds a \\"),
        ] {
            fs::write(&file, format!("{}{line}\n", properties(9)))?;
            for command in ["check", "run"] {
                let text = said(program, &[command], &toml)?;
                ensure!(
                    text.contains(expected),
                    "{program} {command} {line}:\n{text}"
                );
                assert_silent(&format!("{program} {command} {line}"), &text)?;
            }
        }
    }
    Ok(())
}
