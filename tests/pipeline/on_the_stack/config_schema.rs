//! What an editor is told by `config schema`, judged by somebody else's reader of JSON Schema.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use harness::cache::Cache;

/// Says of each TOML file in how many ways it breaks the schema, which has to be one itself.
const JUDGE: &str = "
import json, sys, tomllib
from jsonschema import Draft202012Validator
schema = json.load(open(sys.argv[1]))
Draft202012Validator.check_schema(schema)
judge = Draft202012Validator(schema)
for path in sys.argv[2:]:
    with open(path, 'rb') as file:
        errors = list(judge.iter_errors(tomllib.load(file)))
    print(len(errors), path, [error.message[:200] for error in errors])
";

fn said_by(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(harness::binary(program)?)
        .args(arguments)
        .output()?;
    ensure!(
        output.status.success(),
        "{program} {arguments:?}: {output:?}"
    );
    Ok(String::from_utf8(output.stdout)?)
}

fn judge(schema: &Path, files: &[PathBuf]) -> Result<Vec<(u32, String)>> {
    let python = Cache::open()?.json_schema()?;
    let output = Command::new(python)
        .arg("-c")
        .arg(JUDGE)
        .arg(schema)
        .args(files)
        .output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let lines = String::from_utf8(output.stdout)?;
    let verdict = |line: &str| {
        let (count, rest) = line.split_once(' ').context("a count")?;
        Ok((count.parse()?, rest.to_owned()))
    };
    lines.lines().map(verdict).collect()
}

/// The sample with everything in force that it shows as a comment.
fn in_force(sample: &str) -> String {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(toml) if !toml.starts_with(' ') => format!("{toml}\n"),
        _ => format!("{line}\n"),
    };
    sample.lines().map(line).collect()
}

#[test]
fn the_schema_takes_every_sample_and_no_mistake_that_it_can_tell() -> Result<()> {
    for (program, mistakes) in [
        (
            "edge-agent",
            [
                ("[kafka]", "[kafka]\nbootstap = \"h:1\""),
                ("gateway = \"gw7\"", ""),
                ("mode = \"frames\"", "mode = \"frame\""),
                ("baud = 115200", "baud = \"115200\""),
                ("retries = 1", "retries = 9"),
                ("max_bytes = \"2GiB\"", "max_bytes = \"2GB and more\""),
                (
                    "password = { credential = \"mqtt_house\" }",
                    "password = \"hunter2\"",
                ),
            ],
        ),
        (
            "cloud-sink",
            [
                ("[kafka]", "[kafka]\ngruop = \"g\""),
                ("collection = \"readings\"", ""),
                ("subject = \"topic\"", "subject = \"topics\""),
                ("max_records = 1000", "max_records = 0"),
                ("uri = \"mongodb://localhost:27017\"", "uri = 27017"),
                ("hops = false", "hops = \"no\""),
                ("max_bytes = \"4MiB\"", "max_bytes = 4"),
            ],
        ),
    ] {
        let dir = tempfile::tempdir()?;
        let write = |name: &str, text: &str| -> Result<PathBuf> {
            let path = dir.path().join(name);
            fs::write(&path, text)?;
            Ok(path)
        };
        let schema = write("schema.json", &said_by(program, &["config", "schema"])?)?;
        let sample = said_by(program, &["config", "sample"])?;
        let plain = write("sample.toml", &sample)?;
        let shown = said_by(
            program,
            &["config", "show", "-c", &plain.display().to_string()],
        )?;
        let all = in_force(&sample);
        let right = [
            plain,
            write("all.toml", &all)?,
            write("shown.toml", &shown)?,
        ];
        for (count, verdict) in judge(&schema, &right)? {
            ensure!(count == 0, "{program} refuses {verdict}");
        }
        let mut wrong = Vec::new();
        for (number, (from, to)) in mistakes.iter().enumerate() {
            let text = all.replacen(from, to, 1);
            ensure!(text != all, "{from} is not in the sample");
            wrong.push(write(&format!("wrong-{number}.toml"), &text)?);
        }
        let verdicts = judge(&schema, &wrong)?;
        ensure!(verdicts.len() == mistakes.len());
        for ((count, verdict), (_, mistake)) in verdicts.iter().zip(mistakes) {
            ensure!(*count > 0, "{program} takes {mistake}: {verdict}");
        }
    }
    Ok(())
}
