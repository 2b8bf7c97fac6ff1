//! Modbus TCP: the same questions, maps and grid as on a serial line, over a connection.
//!
//! A thread per connection, one question at a time: many servers serve one client only, and gateways to serial
//! lines queue anyway. Each question has a transaction number of its own, so an answer that comes late is
//! never taken for that of another question.

use std::{
    io::{ErrorKind, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    time::Duration,
};

use protocol::Metadata;
use tokio_util::sync::CancellationToken;

use super::{
    SourceError,
    intake::{Intake, source_meta},
    keep::{self, End, gone},
    polled::{Line, Poller},
};
use crate::config::{Agent, ModbusTcp};

/// How long a server may take to accept, and a full window to drain.
const PATIENCE: Duration = Duration::from_secs(5);

/// One server, not asked yet.
#[derive(Debug)]
pub(super) struct Server {
    settings: ModbusTcp,
    meta: Metadata,
    intake: Intake,
    shutdown: CancellationToken,
}

impl Server {
    pub(super) fn new(
        settings: &ModbusTcp,
        agent: &Agent,
        intake: Intake,
        shutdown: CancellationToken,
    ) -> Result<Self, SourceError> {
        Ok(Self {
            settings: settings.clone(),
            meta: source_meta(&agent.meta, &settings.meta).map_err(SourceError::Meta)?,
            intake,
            shutdown,
        })
    }

    /// Runs until the shutdown or the end of ingest.
    pub(super) fn run(self) -> Result<(), SourceError> {
        let open = || connect(&self.settings.host, self.settings.port);
        keep::keep(&self.intake, &self.shutdown, open, |mut connection| {
            let poller = Poller {
                name: &self.settings.name,
                topic: &self.settings.topic,
                meta: &self.meta,
                intake: &self.intake,
                shutdown: &self.shutdown,
            };
            poller.run(&mut connection, &self.settings.polled)
        })
    }
}

/// A connection, and the number of the last question.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    transaction: u16,
}

/// Tries each address of the name.
pub(super) fn connect(host: &str, port: u16) -> Result<Connection, String> {
    let addresses = (host, port).to_socket_addrs();
    let addresses = addresses.map_err(|error| format!("{host}: {error}"))?;
    let mut why = format!("{host}: no address");
    for address in addresses {
        let tried = TcpStream::connect_timeout(&address, PATIENCE).and_then(|stream| {
            stream.set_nodelay(true)?;
            stream.set_write_timeout(Some(PATIENCE))?;
            Ok(stream)
        });
        match tried {
            Ok(stream) => {
                return Ok(Connection {
                    stream,
                    transaction: 0,
                });
            }
            Err(error) => why = format!("{address}: {error}"),
        }
    }
    Err(why)
}

impl Connection {
    /// What came too late for the question before.
    fn forget(&mut self) -> Result<(), End> {
        let failed = |error: std::io::Error| gone("read", &error);
        self.stream.set_nonblocking(true).map_err(failed)?;
        let mut late = [0; 512];
        let end = loop {
            match self.stream.read(&mut late) {
                Ok(0) => break Err(End::Gone("closed by the server".into())),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break Ok(()),
                Err(error) => break Err(failed(error)),
            }
        };
        self.stream.set_nonblocking(false).map_err(failed)?;
        end
    }
}

impl Line for Connection {
    const CONNECTION: bool = true;

    fn ask(&mut self, question: &[u8]) -> Result<Vec<u8>, End> {
        self.forget()?;
        self.transaction = self.transaction.wrapping_add(1);
        let mut frame = question.to_vec();
        if let Some(number) = frame.get_mut(..2) {
            number.copy_from_slice(&self.transaction.to_be_bytes());
        }
        self.stream
            .write_all(&frame)
            .map_err(|error| gone("write", &error))?;
        Ok(frame)
    }

    fn hear(&mut self, buffer: &mut [u8], patience: Duration) -> Result<Option<usize>, End> {
        self.stream
            .set_read_timeout(Some(patience))
            .map_err(|error| gone("read", &error))?;
        keep::read(&mut self.stream, buffer, "closed by the server")
    }
}

#[cfg(test)]
mod tests;
