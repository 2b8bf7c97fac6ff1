//! Several services together: `dev/stack` for people, [`Stack::up`] for a test's own.
//!
//! ```text
//! target/stack/cache/       downloads
//!              run-ID/      one stack: a folder per service
//!              current.json the stack that `dev/stack up` left running
//! ```

pub mod command;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use rustix::process::Signal;

use crate::service::{Kind, Saved, Service};

/// Services on loopback, each with its own port and data folder. Ends with this value, unless
/// [`leave_running`](Self::leave_running).
#[derive(Debug)]
pub struct Stack {
    dir: PathBuf,
    services: Vec<Service>,
    left: bool,
}

impl Stack {
    /// Starts services side by side and waits until all are ready.
    ///
    /// # Errors
    /// One could not be downloaded, started, or did not become ready; none is left then.
    pub fn up(kinds: &[Kind]) -> Result<Self> {
        let mut stack = Self::empty()?;
        stack.add(kinds)?;
        Ok(stack)
    }

    /// A stack without services.
    ///
    /// # Errors
    /// No folder can be made for it.
    pub fn empty() -> Result<Self> {
        let root = root();
        fs::create_dir_all(&root)?;
        let dir = tempfile::Builder::new()
            .prefix("run-")
            .tempdir_in(&root)
            .with_context(|| format!("make a folder in {}", root.display()))?
            .keep();
        Ok(Self {
            dir,
            services: Vec::new(),
            left: false,
        })
    }

    /// Starts those of `kinds` that do not run, side by side, and waits until all are ready. One that
    /// was part of the stack comes back on its port and data.
    ///
    /// # Errors
    /// As [`up`](Self::up).
    pub fn add(&mut self, kinds: &[Kind]) -> Result<()> {
        for &kind in kinds {
            if let Ok(service) = self.service(kind) {
                if !service.runs() {
                    service.start()?;
                }
            } else {
                let service = Service::start_new(kind, self.dir.join(kind.name()))?;
                self.services.push(service);
            }
        }
        for service in &mut self.services {
            service.wait_ready()?;
        }
        Ok(())
    }

    /// The stack that `dev/stack up` left running, if there is one.
    ///
    /// # Errors
    /// Its state file is unreadable.
    pub fn current() -> Result<Option<Self>> {
        let file = state_file();
        let text = match fs::read(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("read {}", file.display())),
        };
        let (dir, saved): (PathBuf, Vec<Saved>) =
            serde_json::from_slice(&text).with_context(|| format!("read {}", file.display()))?;
        Ok(Some(Self {
            dir,
            services: saved.into_iter().map(Service::found).collect(),
            left: true,
        }))
    }

    /// Makes this the stack that [`current`](Self::current) finds, and lets it run on.
    ///
    /// # Errors
    /// The state file cannot be written.
    pub fn leave_running(mut self) -> Result<()> {
        let saved: Vec<Saved> = self.services.iter().map(Service::saved).collect();
        let text = serde_json::to_vec_pretty(&(&self.dir, saved))?;
        let mut file = tempfile::NamedTempFile::new_in(root())?;
        std::io::Write::write_all(&mut file, &text)?;
        file.persist(state_file())?;
        self.left = true;
        self.services.iter_mut().for_each(Service::left_running);
        Ok(())
    }

    /// Ends every service as an operator would and removes their data.
    ///
    /// # Errors
    /// One had to be killed, or could not be; the others are ended nevertheless.
    pub fn down(mut self) -> Result<()> {
        // All get the signal before one is waited for.
        for service in &mut self.services {
            if let Some(process) = service.process() {
                process.signal(Signal::TERM)?;
            }
        }
        let mut result = Ok(());
        for service in &mut self.services {
            result = service.stop().and(result);
        }
        if self.left {
            fs::remove_file(state_file())?;
        }
        fs::remove_dir_all(&self.dir).with_context(|| format!("remove {}", self.dir.display()))?;
        result
    }

    /// Where its services keep everything.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// All services.
    pub fn services(&mut self) -> &mut [Service] {
        &mut self.services
    }

    /// One service.
    ///
    /// # Errors
    /// It is not part of this stack.
    pub fn service(&mut self, kind: Kind) -> Result<&mut Service> {
        self.services
            .iter_mut()
            .find(|service| service.kind() == kind)
            .with_context(|| format!("{} is not part of this stack", kind.name()))
    }

    /// The environment by which the suite and the tools find this stack.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        self.services
            .iter()
            .map(|service| (service.kind().variable(), service.address()))
            .collect()
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if !self.left {
            self.services.clear();
            // What cannot be removed is under target/, where nobody trips over it.
            drop(fs::remove_dir_all(&self.dir));
        }
    }
}

fn root() -> PathBuf {
    crate::target().join("stack")
}

fn state_file() -> PathBuf {
    root().join("current.json")
}
