//! `cloud-sink audit` where it cannot judge: that must never look like a judgement.

use std::process::{Command, Output};

use anyhow::{Result, ensure};

fn audit(config: &str) -> Result<Output> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("cloud-sink.toml");
    std::fs::write(&file, config)?;
    let mut audit = Command::new(harness::binary("cloud-sink")?);
    Ok(audit.args(["audit", "-c"]).arg(file).output()?)
}

fn config(mongodb: &str) -> String {
    format!(
        "[kafka]\nbootstrap = \"127.0.0.1:1\"\n\n[mongodb]\n{mongodb}\ntimeout = \"1s\"\n\n\
         [[route]]\ntopic = \"readings\"\ncollection = \"readings\"\n"
    )
}

#[test]
fn an_audit_without_mongodb_says_so_with_69_and_nothing_about_readings() -> Result<()> {
    let port = harness::port::free()?;
    let uri = format!("uri = \"mongodb://127.0.0.1:{port}/?directConnection=true\"");
    let output = audit(&config(&uri))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(69), "{output:?}");
    ensure!(output.stdout.is_empty(), "{output:?}");
    ensure!(
        errors.contains("FAIL") && errors.contains("fix:"),
        "{errors}"
    );
    Ok(())
}

#[test]
fn an_audit_with_a_wrong_configuration_says_so_with_78() -> Result<()> {
    // A mistake that reading finds, one that only the driver can find, a secret that is not there.
    for mongodb in [
        "uri = \"http://127.0.0.1\"",
        "uri = \"mongodb://127.0.0.1:1/?w=-1\"",
        "uri = { env = \"A_VARIABLE_THAT_NOBODY_SETS\" }",
    ] {
        let output = audit(&config(mongodb))?;
        ensure!(output.status.code() == Some(78), "{mongodb}: {output:?}");
        ensure!(output.stdout.is_empty(), "{mongodb}: {output:?}");
    }
    Ok(())
}
