//! What `dev/package` makes: the same script and files as for a release, around the programs that are built
//! already. What needs root or a tool of Debian that is not there says that it was skipped.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
};

use anyhow::{Context, Result, ensure};
use harness::{chaos::power, process::said, target, tree};
use serde_json::Value;

const PACKAGES: [&str; 2] = ["edge-agent", "cloud-sink"];
/// What `systemd-analyze security` may find, in tenths.
const EXPOSURE: [u32; 2] = [15, 13];

/// Runs a program; what it said, whatever stream it was on.
fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .context(program.to_owned())?;
    let said = said(&output);
    ensure!(
        output.status.success(),
        "{program} {arguments:?}: {}\n{said}",
        output.status
    );
    Ok(said)
}

/// Whether a tool of Debian is there; dev/test installs it where it may.
fn have(program: &str) -> bool {
    let there = Command::new(program).arg("--version").output().is_ok();
    if !there {
        eprintln!("SKIPPED: {program} is not installed");
    }
    there
}

/// `PACKAGE_VERSION_….deb` in a folder of the build's, made if it is not there yet.
pub fn package(package: &str, version: &str, folder: &str) -> Result<PathBuf> {
    // One after the other: the machine is shared, and the tests want the same ones.
    static MADE: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    harness::binary("papers")?;
    let out = target().join("packages-tested").join(folder);
    let arch = run("dpkg", &["--print-architecture"])?;
    let file = out.join(format!("{package}_{version}_{}.deb", arch.trim()));
    if made.insert(file.clone()) {
        let script = text(&tree().join("dev/package"));
        let arguments = ["--profile", "dev", "--version", version, "--out"];
        run(&script, &[&arguments[..], &[&text(&out), package]].concat())?;
    }
    Ok(file)
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn unpacked(name: &str, version: &str) -> Result<tempfile::TempDir> {
    let root = tempfile::tempdir()?;
    let file = package(name, version, "once")?;
    run("dpkg-deb", &["--extract", &text(&file), &text(root.path())])?;
    Ok(root)
}

fn gunzipped(file: &Path) -> Result<String> {
    run("gzip", &["-cd", &text(file)])
}

#[test]
fn a_package_holds_everything_and_is_the_same_when_it_is_made_again() -> Result<()> {
    for name in PACKAGES {
        let (once, again) = (
            package(name, "0.1.0-1", "once")?,
            package(name, "0.1.0-1", "again")?,
        );
        ensure!(
            fs::read(&once)? == fs::read(&again)?,
            "{name} was packed twice, differently"
        );

        let depends = run("dpkg-deb", &["--field", &text(&once), "Depends"])?;
        for needed in depends
            .split(',')
            .filter_map(|needed| needed.split_whitespace().next())
        {
            let allowed = ["libc6", "libgcc-s1", "init-system-helpers", "systemd"];
            ensure!(allowed.contains(&needed), "{name} needs {needed}");
        }

        let root = unpacked(name, "0.1.0-1")?;
        let at = |path: &str| root.path().join(path.replace("NAME", name));
        let program = text(&at("usr/bin/NAME"));
        let sample = run(&program, &["config", "sample"])?;
        ensure!(fs::read_to_string(at("etc/NAME/NAME.toml"))? == sample);
        let conffiles = run("dpkg-deb", &["--info", &text(&once), "conffiles"])?;
        ensure!(
            conffiles == format!("/etc/{name}/{name}.toml\n"),
            "{conffiles}"
        );
        run(
            "bash",
            &[
                "-n",
                &text(&at("usr/share/bash-completion/completions/NAME")),
            ],
        )?;
        for path in [
            "usr/lib/systemd/system/NAME.service",
            "usr/lib/sysusers.d/NAME.conf",
            "usr/share/zsh/vendor-completions/_NAME",
            "usr/share/fish/vendor_completions.d/NAME.fish",
            "usr/share/doc/NAME/changelog.gz",
            "usr/share/doc/NAME/changelog.Debian.gz",
            "usr/share/doc/NAME/install.md.gz",
            "usr/share/doc/NAME/copyright",
        ] {
            ensure!(at(path).exists(), "{name} has no {path}");
        }
        let page = gunzipped(&at("usr/share/man/man1/NAME-run.1.gz"))?;
        ensure!(page.contains("\\fB\\-\\-log\\fR"), "{page}");

        let bill: Value =
            serde_json::from_str(&gunzipped(&at("usr/share/doc/NAME/sbom.cdx.json.gz"))?)?;
        let components = bill["components"].as_array().context("no components")?;
        let names: BTreeSet<&str> = components
            .iter()
            .filter_map(|c| c["name"].as_str())
            .collect();
        let vendor = if name == "edge-agent" {
            "sled"
        } else {
            "mongodb"
        };
        for contained in [vendor, "rdkafka-sys", "openssl-src"] {
            ensure!(
                names.contains(contained),
                "{contained} is not in the bill of {name}"
            );
        }
        for other in ["proptest", "clap_mangen", "serde_derive", "tempfile"] {
            ensure!(!names.contains(other), "{other} is in the bill of {name}");
        }
        let licences = gunzipped(&at("usr/share/doc/NAME/licences.txt.gz"))?;
        for component in components
            .iter()
            .filter(|component| !component["purl"].is_null())
        {
            let (crate_name, version) = (&component["name"], &component["version"]);
            let (crate_name, version) = (crate_name.as_str(), version.as_str());
            let line = format!(
                "\n  {} {}: ",
                crate_name.unwrap_or("?"),
                version.unwrap_or("?")
            );
            ensure!(
                component["licenses"].is_array(),
                "{component} has no licence"
            );
            ensure!(licences.contains(&line), "{line} is not among the licences");
        }
        ensure!(licences.contains("The OpenSSL Project") || licences.contains("Apache License"));
    }
    Ok(())
}

#[test]
fn lintian_finds_no_error() -> Result<()> {
    if have("lintian") {
        let files = PACKAGES.map(|name| package(name, "0.1.0-1", "once"));
        let [agent, sink] = files.map(|file| file.map(|file| text(&file)));
        let arguments = ["--fail-on", "error", "--allow-root", &agent?, &sink?];
        run("lintian", &arguments)?;
    }
    Ok(())
}

#[test]
fn units_are_valid_and_show_little_of_themselves() -> Result<()> {
    if !have("systemd-analyze") {
        return Ok(());
    }
    for (name, exposure) in PACKAGES.into_iter().zip(EXPOSURE) {
        let root = unpacked(name, "0.1.0-1")?;
        let unit = root
            .path()
            .join(format!("usr/lib/systemd/system/{name}.service"));
        let text_of_unit = fs::read_to_string(&unit)?;
        for line in ["Type=notify", "RestartPreventExitStatus=78 2"] {
            ensure!(
                text_of_unit.lines().any(|l| l == line),
                "{name} lacks {line}"
            );
        }
        let threshold = format!("--threshold={exposure}");
        run(
            "systemd-analyze",
            &["security", "--offline=true", &threshold, &text(&unit)],
        )?;
        // The program it names lies elsewhere, as long as it is not installed.
        let installed = text(&root.path().join("usr/bin").join(name));
        let here = root.path().join(format!("{name}.service"));
        fs::write(
            &here,
            text_of_unit.replace(&format!("/usr/bin/{name}"), &installed),
        )?;
        let said = run("systemd-analyze", &["verify", "--man=no", &text(&here)])?;
        ensure!(!said.contains(&format!("{name}.service:")), "{said}");
    }
    Ok(())
}

/// A machine without anything, in a folder.
struct Machine(tempfile::TempDir);

impl Machine {
    fn new() -> Result<Self> {
        let root = tempfile::tempdir()?;
        for dir in ["info", "updates"] {
            fs::create_dir_all(root.path().join("var/lib/dpkg").join(dir))?;
        }
        fs::write(root.path().join("var/lib/dpkg/status"), "")?;
        Ok(Self(root))
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    /// The scripts run outside of the folder, and are told of it: it has no shell.
    fn dpkg(&self, what: &str, package: &Path) -> Result<String> {
        let root = format!("--root={}", self.0.path().display());
        let arguments = [
            "--force-script-chrootless",
            "--force-depends",
            "--force-confdef",
        ];
        run(
            "dpkg",
            &[&[&*root], &arguments[..], &[what, &text(package)]].concat(),
        )
    }
}

#[test]
fn a_queue_survives_upgrade_downgrade_and_removal_and_purge_says_what_it_deletes() -> Result<()> {
    if !power::is_possible() {
        eprintln!("SKIPPED: installing into a folder needs root");
        return Ok(());
    }
    let old = package("edge-agent", "0.1.0-1", "once")?;
    let new = package("edge-agent", "0.2.0-1", "once")?;
    let machine = Machine::new()?;
    let said = machine.dpkg("--install", &old)?;
    ensure!(
        said.contains("next, /etc/edge-agent/edge-agent.toml"),
        "{said}"
    );
    ensure!(fs::read_to_string(machine.at("etc/passwd"))?.contains("edge-agent:"));
    let groups = fs::read_to_string(machine.at("etc/group"))?;
    let is_member = |line: &str| line.starts_with("dialout:") && line.ends_with(":edge-agent");
    ensure!(groups.lines().any(is_member), "{groups}");
    ensure!(
        !machine
            .at("etc/systemd/system/multi-user.target.wants")
            .exists(),
        "enabled unasked"
    );

    // What stands for a queue, what an operator wrote, and a secret.
    let segment = machine.at("var/lib/edge-agent/queue/telemetry.readings.v1/000001/db");
    fs::create_dir_all(segment.parent().context("no parent")?)?;
    fs::write(&segment, [7; 4096])?;
    let config = machine.at("etc/edge-agent/edge-agent.toml");
    let edited = fs::read_to_string(&config)?.replace("gw7", "gw8");
    fs::write(&config, &edited)?;
    let secret = machine.at("etc/edge-agent/credentials/mqtt_house");
    fs::write(&secret, "s3cret")?;

    let lives = |machine: &Machine| -> Result<()> {
        ensure!(fs::read(&segment)? == [7; 4096], "the queue was touched");
        ensure!(
            fs::read_to_string(&config)? == edited,
            "the configuration was touched"
        );
        ensure!(secret.exists(), "a secret is gone");
        ensure!(machine.at("etc/passwd").exists());
        Ok(())
    };
    for (step, package) in [("--install", &new), ("--install", &old)] {
        machine.dpkg(step, package)?;
        lives(&machine)?;
        ensure!(machine.at("usr/bin/edge-agent").exists());
    }
    let name = Path::new("edge-agent");
    let said = machine.dpkg("--remove", name)?;
    ensure!(
        said.contains("the queue stays in /var/lib/edge-agent"),
        "{said}"
    );
    lives(&machine)?;
    ensure!(!machine.at("usr/bin/edge-agent").exists());

    let said = machine.dpkg("--purge", name)?;
    for told in [
        "deleting /var/lib/edge-agent (",
        "queue of telemetry.readings.v1, ",
        "deleting /etc/edge-agent/credentials/mqtt_house",
    ] {
        ensure!(said.contains(told), "{told} is not in\n{said}");
    }
    ensure!(!said.contains("s3cret"));
    for gone in ["var/lib/edge-agent", "etc/edge-agent", "usr/bin/edge-agent"] {
        ensure!(!machine.at(gone).exists(), "{gone} is left");
    }
    Ok(())
}

#[test]
fn a_purge_empties_a_queue_on_another_disk_and_leaves_its_place() -> Result<()> {
    if !power::is_possible() {
        eprintln!("SKIPPED: installing into a folder needs root");
        return Ok(());
    }
    let machine = Machine::new()?;
    machine.dpkg("--install", &package("edge-agent", "0.1.0-1", "once")?)?;
    let (disk, state) = (machine.at("mnt/ssd"), machine.at("var/lib/edge-agent"));
    let lane = disk.join("queue/telemetry.readings.v1/000001");
    fs::create_dir_all(&lane)?;
    fs::write(lane.join("db"), [7; 4096])?;
    std::os::unix::fs::symlink(&disk, &state)?;

    let said = machine.dpkg("--purge", Path::new("edge-agent"))?;
    for told in ["queue of telemetry.readings.v1, ", "it stays, empty"] {
        ensure!(said.contains(told), "{told} is not in\n{said}");
    }
    ensure!(state.is_symlink() && fs::read_dir(&disk)?.next().is_none());
    Ok(())
}
