//! A serial line with a device at the other end, played by hand.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use protocol::frame::{Ack, Decoder, Frame, FrameReading, FrameTime, Hello};
use rustix::{
    event::{PollFd, PollFlags, poll},
    termios::{OptionalActions, tcgetattr, tcsetattr},
};

use super::PATIENCE;
use crate::terminal::Terminal;

/// A pseudo terminal whose other end the agent opens under a name that stays.
#[derive(Debug)]
pub struct Line {
    name: PathBuf,
    device: std::fs::File,
    /// Held open, so that the agent may come and go without hanging up the line.
    _agent_end: OwnedFd,
    decoder: Decoder,
    /// Frames that came and were not asked for yet.
    frames: VecDeque<Frame>,
}

impl Line {
    /// Plugs a device in: the line appears at `name`.
    ///
    /// # Errors
    /// No pseudo terminal can be had.
    pub fn plug(name: &Path) -> Result<Self> {
        let Terminal {
            device,
            program: agent_end,
            path,
        } = Terminal::open()?;
        // A terminal that nobody has configured yet would echo what the device says.
        let mut settings = tcgetattr(&agent_end)?;
        settings.make_raw();
        tcsetattr(&agent_end, OptionalActions::Now, &settings)?;
        match std::fs::remove_file(name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        std::os::unix::fs::symlink(path, name)
            .with_context(|| format!("link {}", name.display()))?;
        Ok(Self {
            name: name.to_owned(),
            device: std::fs::File::from(device),
            _agent_end: agent_end,
            decoder: Decoder::new(),
            frames: VecDeque::new(),
        })
    }

    /// Pulls the plug: the agent's end hangs up and the name is gone.
    ///
    /// # Errors
    /// The name cannot be removed.
    pub fn unplug(self) -> Result<()> {
        Ok(std::fs::remove_file(&self.name)?)
    }

    /// The device's end, for a program that plays the device.
    ///
    /// # Errors
    /// No more files can be open.
    pub fn device_end(&self) -> Result<std::fs::File> {
        Ok(self.device.try_clone()?)
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The line is gone.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.device.write_all(bytes)?)
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// The frame is too long, or the line is gone.
    pub fn send_frame(&mut self, frame: &Frame) -> Result<()> {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes)?;
        self.send(&bytes)
    }

    /// Says hello and waits for the agent's.
    ///
    /// # Errors
    /// It does not answer.
    pub fn greet(&mut self, device: &str, boot: u32) -> Result<()> {
        let hello = Frame::Hello(Hello {
            device: device.to_owned(),
            model: "by-hand".to_owned(),
            firmware: String::new(),
            boot,
            time_us: None,
            reply: true,
        });
        let deadline = Instant::now() + PATIENCE;
        // The agent may not have opened the line yet, or open it and discard what came before.
        while Instant::now() < deadline {
            self.send_frame(&hello)?;
            if self.wait_frame(Duration::from_millis(500), |frame| {
                matches!(frame, Frame::Hello(_))
            })? {
                return Ok(());
            }
        }
        bail!("no hello within {PATIENCE:?}")
    }

    /// Sends a reading once, without waiting.
    ///
    /// # Errors
    /// The line is gone.
    pub fn send_reading(&mut self, boot: u32, sequence: u32, value: f64) -> Result<()> {
        self.send_frame(&Frame::Reading(FrameReading {
            boot,
            sequence,
            time: FrameTime::Arrival,
            fields: vec![("power_w".to_owned(), protocol::Value::Float(value))],
        }))
    }

    /// Waits for the verdict on a reading.
    ///
    /// # Errors
    /// There is none in time.
    pub fn wait_ack(&mut self, boot: u32, sequence: u32, within: Duration) -> Result<Ack> {
        let mut found = None;
        let asked = |frame: &Frame| match frame {
            Frame::Ack(ack) if (ack.boot, ack.sequence) == (boot, sequence) => {
                found = Some(*ack);
                true
            }
            _ => false,
        };
        self.wait_frame(within, asked)?;
        found.with_context(|| format!("no ack of {boot}/{sequence} within {within:?}"))
    }

    /// Waits for a frame; those before it are forgotten.
    fn wait_frame(
        &mut self,
        within: Duration,
        mut wanted: impl FnMut(&Frame) -> bool,
    ) -> Result<bool> {
        let deadline = Instant::now() + within;
        loop {
            while let Some(frame) = self.frames.pop_front() {
                if wanted(&frame) {
                    return Ok(true);
                }
            }
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                return Ok(false);
            };
            self.receive(left)?;
        }
    }

    fn receive(&mut self, within: Duration) -> Result<()> {
        let mut ready = [PollFd::new(&self.device, PollFlags::IN)];
        let timeout = rustix::event::Timespec::try_from(within)?;
        if poll(&mut ready, Some(&timeout))? == 0 {
            return Ok(());
        }
        let mut buffer = [0; 4096];
        let count = self.device.read(&mut buffer)?;
        for &byte in &buffer[..count] {
            match self.decoder.push(byte) {
                Some(Ok(frame)) => self.frames.push_back(frame),
                Some(Err(error)) => bail!("the agent sent a bad frame: {error}"),
                None => {}
            }
        }
        Ok(())
    }
}
