//! A broker of one client, played by hand: to see each PUBACK at the moment it comes, and to redeliver
//! as the standard demands, with DUP set. Packets are rumqttc's own.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    time::Duration,
};

use anyhow::{Result, bail, ensure};
use bytes::BytesMut;
use rumqttc::mqttbytes::{
    self, QoS,
    v4::{
        ConnAck, ConnectReturnCode, Packet, PingResp, PubAck, Publish, SubAck, SubscribeReasonCode,
    },
};

use super::PATIENCE;

/// Where the agent connects to.
#[derive(Debug)]
pub struct Broker {
    listener: TcpListener,
}

impl Broker {
    /// Listens on a port of its own.
    ///
    /// # Errors
    /// There is none.
    pub fn listen() -> Result<Self> {
        Ok(Self {
            listener: TcpListener::bind((Ipv4Addr::LOCALHOST, crate::port::free()?))?,
        })
    }

    /// Its address, as `mqtt://…`.
    ///
    /// # Errors
    /// Never so far.
    pub fn url(&self) -> Result<String> {
        Ok(format!("mqtt://{}", self.listener.local_addr()?))
    }

    /// Waits for the agent, lets it in, and answers its subscriptions until it is heard no more for a
    /// moment; with `session_present`, as a broker that remembers it.
    ///
    /// # Errors
    /// It does not come within a minute, or speaks nonsense.
    pub fn accept(&self, session_present: bool) -> Result<Session> {
        self.listener.set_nonblocking(true)?;
        let stream = crate::wait::until("the agent to connect", PATIENCE, || {
            Ok(Some(self.listener.accept()?.0))
        })?;
        stream.set_nonblocking(false)?;
        let mut session = Session {
            stream,
            buffer: BytesMut::new(),
        };
        match session.receive(PATIENCE)? {
            Some(Packet::Connect(connect)) => {
                ensure!(
                    !connect.clean_session,
                    "the agent asks for a session that forgets"
                );
            }
            other => bail!("expected CONNECT, got {other:?}"),
        }
        session.send(|buffer| {
            ConnAck::new(ConnectReturnCode::Success, session_present).write(buffer)
        })?;
        if !session_present {
            // Nothing can be sent before the subscription.
            session.wait(|packet| matches!(packet, Packet::Subscribe(_)))?;
        }
        Ok(session)
    }
}

/// A connected agent.
#[derive(Debug)]
pub struct Session {
    stream: TcpStream,
    buffer: BytesMut,
}

impl Session {
    /// Delivers a message at QoS 1.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn deliver(
        &mut self,
        packet_id: u16,
        dup: bool,
        topic: &str,
        payload: &[u8],
    ) -> Result<()> {
        let mut publish = Publish::new(topic, QoS::AtLeastOnce, payload.to_vec());
        publish.pkid = packet_id;
        publish.dup = dup;
        self.send(|buffer| publish.write(buffer))
    }

    /// Waits for the PUBACK of a message; those of others are passed by.
    ///
    /// # Errors
    /// It does not come within a minute.
    pub fn wait_ack(&mut self, packet_id: u16) -> Result<()> {
        self.wait(|packet| matches!(packet, Packet::PubAck(PubAck { pkid }) if *pkid == packet_id))
    }

    /// The next PUBACK, unless nothing comes for `within`.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn next_ack(&mut self, within: Duration) -> Result<Option<u16>> {
        loop {
            match self.receive(within)? {
                Some(Packet::PubAck(ack)) => return Ok(Some(ack.pkid)),
                Some(packet) => self.answer(&packet)?,
                None => return Ok(None),
            }
        }
    }

    fn wait(&mut self, wanted: impl Fn(&Packet) -> bool) -> Result<()> {
        loop {
            match self.receive(PATIENCE)? {
                Some(packet) => {
                    self.answer(&packet)?;
                    if wanted(&packet) {
                        return Ok(());
                    }
                }
                None => bail!("the agent said nothing for {PATIENCE:?}"),
            }
        }
    }

    fn answer(&mut self, packet: &Packet) -> Result<()> {
        match packet {
            Packet::Subscribe(subscribe) => {
                let granted = subscribe
                    .filters
                    .iter()
                    .map(|filter| SubscribeReasonCode::Success(filter.qos))
                    .collect();
                self.send(|buffer| SubAck::new(subscribe.pkid, granted).write(buffer))
            }
            Packet::PingReq => self.send(|buffer| PingResp.write(buffer)),
            _ => Ok(()),
        }
    }

    fn send(
        &mut self,
        write: impl FnOnce(&mut BytesMut) -> Result<usize, mqttbytes::Error>,
    ) -> Result<()> {
        let mut buffer = BytesMut::new();
        write(&mut buffer)?;
        Ok(self.stream.write_all(&buffer)?)
    }

    fn receive(&mut self, within: Duration) -> Result<Option<Packet>> {
        self.stream.set_read_timeout(Some(within))?;
        loop {
            match Packet::read(&mut self.buffer, 1 << 20) {
                Ok(packet) => return Ok(Some(packet)),
                Err(mqttbytes::Error::InsufficientBytes(_)) => {}
                Err(error) => return Err(error.into()),
            }
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk) {
                Ok(0) => bail!("the agent closed the connection"),
                Ok(count) => self.buffer.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
