//! Serial lines; the only module that names serialport, and serial2 for the one ioctl serialport lacks.
//!
//! A thread per port: read, decide, write what is due, read again. While receipts are outstanding it
//! looks for them every few milliseconds, else it sleeps in the read. A read of nothing, or any error
//! but a timeout, means that the device is gone: the port is closed at once, for as long as it is held
//! open the kernel gives a device that comes back another number.
//!
//! While ingest cannot take more (queue full and `when_full = "block"`), the thread waits at the gate and
//! the kernel buffers some 4 KiB; a framed device sends again what was not acknowledged.

mod session;

use std::{
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use protocol::{
    GatewayId, Metadata,
    frame::{Decoder, Frame, FrameError},
};
use serialport::{ClearBuffer, DataBits, Parity, SerialPort, StopBits, TTYPort};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;

use super::{
    SourceError,
    intake::{Intake, source_meta},
    keep::{End, IDLE, gone, keep, read},
    noise::Ear,
    polled::{Line as PolledLine, Poller},
};
use crate::{
    config::{self, Agent, LineFormat, Lines, Polled, Serial, SerialDevice, SerialMode},
    decode::{
        self, Defaults,
        lines::{Line, Splitter},
        stream::{Fault, Piece, Rejected},
    },
    ingest::{Answer, Closed, Receipt, Rejection},
};
use session::{Session, Step};

/// What is said of a line that gives nothing any more.
const UNPLUGGED: &str = "device is gone";
/// What the system says of a port that is not there.
const NO_SUCH_FILE: &str = "No such file or directory";

/// Sleep in a read while receipts are outstanding: how late an acknowledgement may be.
const WAITING: Duration = Duration::from_millis(4);

/// One serial line, not running yet.
#[derive(Debug)]
pub(super) struct Port {
    settings: Serial,
    gateway: GatewayId,
    meta: Metadata,
    intake: Intake,
    shutdown: CancellationToken,
    patience: Duration,
}

impl Port {
    pub(super) fn new(
        settings: &Serial,
        agent: &Agent,
        intake: Intake,
        shutdown: CancellationToken,
    ) -> Result<Self, SourceError> {
        Ok(Self {
            settings: settings.clone(),
            gateway: agent.gateway.clone(),
            meta: source_meta(&agent.meta, &settings.meta).map_err(SourceError::Meta)?,
            intake,
            shutdown,
            patience: agent.shutdown_timeout,
        })
    }

    /// Runs until the shutdown or the end of ingest.
    pub(super) fn run(self) -> Result<(), SourceError> {
        let open = || self.open().map_err(|error| error.to_string());
        keep(&self.intake, &self.shutdown, open, |port| {
            let end = match &self.settings.mode {
                SerialMode::Frames => self.frames(port),
                SerialMode::Lines(lines) => self.lines(port, lines),
                SerialMode::Device(device) => self.device(port, device),
                SerialMode::Polled(polled) => self.polled(port, polled),
            };
            match end {
                End::Gone(why) => End::Gone(self.why_gone(why)),
                end => end,
            }
        })
    }

    /// A device that was unplugged takes its port along, a moment later: said at once, that is one line in the log;
    /// said when the port is opened anew, it would be a second one for the same.
    fn why_gone(&self, why: String) -> String {
        let until = Instant::now() + IDLE;
        while Instant::now() < until && !self.shutdown.is_cancelled() {
            if matches!(self.settings.port.try_exists(), Ok(false)) {
                return explained(ErrorKind::NotFound.into(), NO_SUCH_FILE).to_string();
            }
            thread::sleep(IDLE / 20);
        }
        why
    }

    /// `mode = "modbus" | "mh-z19"`.
    fn polled(&self, mut port: TTYPort, polled: &Polled) -> End {
        let poller = Poller {
            name: &self.settings.name,
            topic: &self.settings.topic,
            meta: &self.meta,
            intake: &self.intake,
            shutdown: &self.shutdown,
        };
        poller.run(&mut port, polled)
    }

    fn open(&self) -> io::Result<TTYPort> {
        let settings = &self.settings;
        let (baud, framing) = (settings.baud, settings.framing);
        open(&settings.port, baud, framing, settings.rs485)
    }

    /// `mode = "frames"`.
    fn frames(&self, port: TTYPort) -> End {
        let (to, receipts) = unbounded_channel();
        let mut talk = Talk {
            place: self,
            session: Session::new(self.gateway.clone()),
            decoder: Decoder::new(),
            port,
            out: Vec::new(),
            raw: Vec::new(),
            ear: Ear::default(),
            whole: 0,
            to,
            receipts,
        };
        match talk.run() {
            Ok(()) => End::Shutdown,
            Err(end) => end,
        }
    }

    /// Tells of bytes that are never understood; called when what the read gave has been looked at.
    fn listen(&self, ear: &mut Ear, read: Option<usize>, understood: u64) {
        self.intake.counters.heard(read.unwrap_or(0));
        if let Some(noise) = ear.heard(Instant::now(), read, understood) {
            let (source, port) = (&self.settings.name, self.settings.port.display());
            let (bytes, for_s) = (noise.bytes, noise.lasted.as_secs());
            let (baud, framing) = (self.settings.baud, self.settings.framing);
            let fix = format!(
                "are baud = {baud}, framing = \"{framing}\" and the mode those of the device? \
                 edge-agent scan serial {port}, while the agent is stopped, tries the usual ones"
            );
            tracing::warn!(source, bytes, for_s, fix, "bytes come, but no reading");
        }
    }

    /// A mode that is the name of what a device speaks.
    fn device(&self, mut port: TTYPort, device: &SerialDevice) -> End {
        let mut stream = device.preset.stream();
        let mut buffer = [0; 1024];
        let mut pieces = Vec::new();
        let mut ear = Ear::default();
        while !self.shutdown.is_cancelled() {
            let read = match read(&mut port, &mut buffer, UNPLUGGED) {
                Ok(read) => read,
                Err(end) => return end,
            };
            match read {
                Some(read) => {
                    self.intake.heard(&buffer[..read]);
                    stream.push(&buffer[..read], &mut pieces);
                }
                None => stream.idle(&mut pieces),
            }
            for piece in pieces.drain(..) {
                if let Err(closed) = self.piece(piece, device) {
                    return closed.into();
                }
            }
            self.listen(&mut ear, read, self.intake.counters.understood());
        }
        End::Shutdown
    }

    fn piece(&self, piece: Piece, device: &SerialDevice) -> Result<(), Closed> {
        let (mut decoded, now) = match piece {
            Piece::Reading(_, decoded) => (decoded, self.intake.now()),
            // The port was opened while the device was speaking.
            Piece::Rejected(Rejected {
                fault: Fault::Lead, ..
            }) => {
                self.intake.counters.skipped();
                return Ok(());
            }
            Piece::Rejected(Rejected { fault, bytes, .. }) => {
                self.intake.reject(fault.rejection(), &fault, &bytes);
                return Ok(());
            }
        };
        if !device.preset.has_many_devices() {
            decoded.device = None;
        }
        let defaults = Defaults {
            device: Some(&device.device),
            meta: &self.meta,
            max_age: self.intake.max_age,
        };
        match self.intake.reading(decoded, &defaults, &now) {
            Ok(reading) => self
                .intake
                .hand_over(&self.settings.topic, reading, &now, None),
            Err(error) => {
                self.intake.reject(error.rejection(), &error, &[]);
                Ok(())
            }
        }
    }

    /// `mode = "lines"`.
    fn lines(&self, mut port: TTYPort, lines: &Lines) -> End {
        // The rest of a JSON object is no object, but the rest of a number is a number.
        let in_step = lines.format == LineFormat::Json;
        let mut splitter = Splitter::new(lines.max_line_bytes, in_step);
        let mut buffer = [0; 1024];
        let mut ear = Ear::default();
        while !self.shutdown.is_cancelled() {
            let read = match read(&mut port, &mut buffer, UNPLUGGED) {
                Ok(read) => read,
                Err(end) => return end,
            };
            if read.is_none() {
                splitter.silence();
            }
            let heard = &buffer[..read.unwrap_or(0)];
            for line in heard.iter().filter_map(|&b| splitter.push(b)) {
                if let Err(closed) = self.line(line, lines) {
                    return closed.into();
                }
            }
            self.listen(&mut ear, read, self.intake.counters.understood());
        }
        End::Shutdown
    }

    fn line(&self, line: Line, lines: &Lines) -> Result<(), Closed> {
        let now = self.intake.now();
        let bytes = match line {
            Line::Whole(bytes) => bytes,
            Line::Tail(_) => {
                self.intake.counters.skipped();
                return Ok(());
            }
            Line::TooLong(bytes) => {
                let max = lines.max_line_bytes;
                let detail = format!("line is longer than max_line_bytes = {max}");
                self.intake.reject(Rejection::TooLarge, &detail, &bytes);
                return Ok(());
            }
        };
        if let LineFormat::Csv { separator, columns } = &lines.format
            && decode::csv::is_header(&bytes, *separator, columns)
        {
            self.intake.counters.skipped();
            return Ok(());
        }
        let defaults = Defaults {
            device: lines.device.as_ref(),
            meta: &self.meta,
            max_age: self.intake.max_age,
        };
        self.intake.heard(&bytes);
        let reading = decode::line(&bytes, &lines.format, &lines.roles)
            .and_then(|decoded| self.intake.reading(decoded, &defaults, &now));
        match reading {
            Ok(reading) => self
                .intake
                .hand_over(&self.settings.topic, reading, &now, None),
            Err(error) => {
                self.intake.reject(error.rejection(), &error, &bytes);
                Ok(())
            }
        }
    }
}

/// One open port in the framed mode.
struct Talk<'p> {
    place: &'p Port,
    session: Session,
    decoder: Decoder,
    port: TTYPort,
    out: Vec<u8>,
    /// The bytes of the frame in hand, for the quarantine.
    raw: Vec<u8>,
    ear: Ear,
    /// Frames that were.
    whole: u64,
    to: UnboundedSender<Receipt>,
    receipts: UnboundedReceiver<Receipt>,
}

impl Talk<'_> {
    fn run(&mut self) -> Result<(), End> {
        let hello = self.session.opened(&self.place.intake.now());
        self.say(&hello);
        let mut buffer = [0; 1024];
        let mut deadline = None;
        loop {
            while let Ok(receipt) = self.receipts.try_recv() {
                if let Some(ack) = self.session.receipt(receipt) {
                    self.say(&ack);
                }
            }
            self.write()?;
            if self.place.shutdown.is_cancelled() {
                let until = *deadline.get_or_insert_with(|| Instant::now() + self.place.patience);
                if !self.session.waits() || Instant::now() >= until {
                    return Ok(());
                }
                thread::sleep(WAITING);
                continue;
            }
            let patience = if self.session.waits() { WAITING } else { IDLE };
            self.port
                .set_timeout(patience)
                .map_err(|error| End::Gone(error.to_string()))?;
            let read = read(&mut self.port, &mut buffer, UNPLUGGED)?;
            for &byte in &buffer[..read.unwrap_or(0)] {
                self.byte(byte)?;
            }
            self.place.listen(&mut self.ear, read, self.whole);
        }
    }

    fn byte(&mut self, byte: u8) -> Result<(), Closed> {
        if byte == 0 {
            self.raw.clear();
            self.raw.extend_from_slice(self.decoder.pending());
        }
        match self.decoder.push(byte) {
            None => Ok(()),
            Some(Ok(frame)) => self.frame(frame),
            Some(Err(error)) => {
                let reason = match &error {
                    FrameError::TooLong | FrameError::CannotSend(_) => Rejection::TooLarge,
                    FrameError::Cobs | FrameError::TooShort(_) | FrameError::Crc { .. } => {
                        Rejection::Damaged
                    }
                    FrameError::UnknownVersion(_) | FrameError::UnknownKind(_) => {
                        Rejection::UnknownVersion
                    }
                    FrameError::Body { .. } => Rejection::Malformed,
                };
                self.place.intake.reject(reason, &error, &self.raw);
                Ok(())
            }
        }
    }

    fn frame(&mut self, frame: Frame) -> Result<(), Closed> {
        let place = self.place;
        self.whole += 1;
        let now = place.intake.now();
        match self.session.frame(frame, &now) {
            Step::Nothing => {}
            Step::Deferred => place.intake.counters.deferred(),
            Step::Write(frame) => self.say(&frame),
            Step::DeviceDropped(more) => {
                place.intake.counters.device_dropped(more.into());
                let source = &place.settings.name;
                tracing::error!(source, readings = more, "device dropped readings itself");
            }
            Step::Take { token, decoded } => {
                place.intake.heard(&self.raw);
                let defaults = Defaults {
                    device: None,
                    meta: &place.meta,
                    max_age: place.intake.max_age,
                };
                match place.intake.reading(decoded, &defaults, &now) {
                    Ok(reading) => {
                        let to = self.to.clone();
                        let answer = Some(Answer { token, to });
                        place
                            .intake
                            .hand_over(&place.settings.topic, reading, &now, answer)?;
                    }
                    Err(error) => {
                        place.intake.reject(error.rejection(), &error, &self.raw);
                        if let Some(ack) = self.session.refused(token) {
                            self.say(&ack);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn say(&mut self, frame: &Frame) {
        if let Err(error) = frame.encode(&mut self.out) {
            // Ours are far below the bound; only a gateway id could have made one larger.
            tracing::error!(source = self.place.settings.name, %error, "frame not sent");
        }
    }

    /// Writes what is due. A device that does not listen gets no second chance: what it was not told it
    /// sends again.
    fn write(&mut self) -> Result<(), End> {
        if self.out.is_empty() {
            return Ok(());
        }
        let written = self.port.write_all(&self.out);
        self.out.clear();
        match written {
            Err(error) if error.kind() != ErrorKind::TimedOut => Err(gone("write", &error)),
            _ => Ok(()),
        }
    }
}

/// An open port.
pub type Opened = TTYPort;

/// Opens a port.
pub(super) fn open(
    path: &Path,
    baud: u32,
    framing: config::Framing,
    switched: bool,
) -> io::Result<TTYPort> {
    let path = path.to_string_lossy();
    // Closed only after the port is open: some drivers forget the mode with the last who has it open.
    let _switched = switched.then(|| rs485(&path)).transpose()?;
    serialport::new(path, baud)
        .data_bits(match framing.data_bits {
            5 => DataBits::Five,
            6 => DataBits::Six,
            7 => DataBits::Seven,
            _ => DataBits::Eight,
        })
        .parity(match framing.parity {
            config::Parity::None => Parity::None,
            config::Parity::Even => Parity::Even,
            config::Parity::Odd => Parity::Odd,
        })
        .stop_bits(match framing.stop_bits {
            2 => StopBits::Two,
            _ => StopBits::One,
        })
        .timeout(IDLE)
        .open_native()
        .map_err(|error| {
            let text = error.to_string();
            explained(error.into(), &text)
        })
}

/// What the system says of a port that it does not open, and what to do about it.
fn explained(error: io::Error, text: &str) -> io::Error {
    let remedy = match error.kind() {
        // Before its kind, which is that of a port that is not there.
        _ if text.contains("exclusive lock") => {
            "another process has it open, perhaps the agent itself; one line has one reader"
        }
        // ENOTTY, in words of 1979.
        _ if text == "Not a typewriter" => {
            "this is no serial line; edge-agent scan serial lists what is"
        }
        io::ErrorKind::NotFound => "is it plugged in? edge-agent scan serial lists what is",
        io::ErrorKind::PermissionDenied => {
            "who runs this has to be in the group of the port (dialout)"
        }
        _ => return error,
    };
    io::Error::new(error.kind(), format!("{text}; {remedy}"))
}

/// The serial ports of this box, by the path that survives replugging where there is one, and what they are.
///
/// # Errors
/// The system does not tell.
pub fn ports() -> io::Result<Vec<(String, String)>> {
    let mut lasting = std::collections::BTreeMap::new();
    for link in std::fs::read_dir("/dev/serial/by-id").into_iter().flatten() {
        let link = link?.path();
        if let Ok(device) = link.canonicalize() {
            lasting.insert(device, link);
        }
    }
    let ports = serialport::available_ports()?.into_iter().map(|port| {
        let path = PathBuf::from(&port.port_name);
        let what = match port.port_type {
            serialport::SerialPortType::UsbPort(usb) => {
                let name = usb.product.or(usb.manufacturer).unwrap_or_default();
                format!("usb {:04x}:{:04x} {name}", usb.vid, usb.pid)
            }
            serialport::SerialPortType::PciPort => "pci".to_owned(),
            serialport::SerialPortType::BluetoothPort => "bluetooth".to_owned(),
            serialport::SerialPortType::Unknown => String::new(),
        };
        let shown = lasting.get(&path).unwrap_or(&path).display().to_string();
        (shown, what.trim_end().to_owned())
    });
    Ok(ports.collect())
}

/// Makes the driver switch the direction of the line with each transmission.
fn rs485(path: &str) -> io::Result<serial2::SerialPort> {
    let port = serial2::SerialPort::open(path, serial2::KeepSettings)?;
    let mode = serial2::rs4xx::TransceiverMode::Rs485(serial2::rs4xx::Rs485Config::new());
    let refused = |error| {
        let why = format!(
            "rs485: the driver cannot switch the direction ({error}); adapters that do it themselves need no rs485"
        );
        io::Error::new(ErrorKind::Unsupported, why)
    };
    port.set_rs4xx_mode(mode).map_err(refused)?;
    Ok(port)
}

impl PolledLine for TTYPort {
    fn ask(&mut self, question: &[u8]) -> Result<Vec<u8>, End> {
        let failed = |error: serialport::Error| End::Gone(error.to_string());
        // A late answer to an earlier question is not the answer to this one.
        self.clear(ClearBuffer::Input).map_err(failed)?;
        self.write_all(question)
            .map_err(|error| gone("write", &error))?;
        Ok(question.to_vec())
    }

    fn hear(&mut self, buffer: &mut [u8], patience: Duration) -> Result<Option<usize>, End> {
        self.set_timeout(patience)
            .map_err(|error| End::Gone(error.to_string()))?;
        read(self, buffer, UNPLUGGED)
    }
}

#[cfg(test)]
mod tests;
