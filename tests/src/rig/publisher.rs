//! A device that publishes over MQTT at QoS 1.

use std::{
    sync::mpsc::{Receiver, channel},
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context, Result};
use rumqttc::{Client, Event, MqttOptions, Outgoing, Packet, QoS};

use super::PATIENCE;

/// A device. Its connection ends with it.
pub struct Publisher {
    client: Client,
    acknowledged: Receiver<()>,
    connection: Option<JoinHandle<()>>,
}

impl Publisher {
    /// Connects; a broker that is away is asked again.
    ///
    /// # Errors
    /// The address is none.
    pub fn connect(url: &str, client_id: &str) -> Result<Self> {
        let (host, port) = url
            .strip_prefix("mqtt://")
            .and_then(|rest| rest.rsplit_once(':'))
            .with_context(|| format!("no mqtt://host:port: {url}"))?;
        let mut options = MqttOptions::new(client_id, host, port.parse::<u16>()?);
        options.set_clean_session(false);
        options.set_inflight(1000);
        // The tests send what a broker might refuse, on purpose.
        options.set_max_packet_size(8 << 20, 8 << 20);
        let (client, mut connection) = Client::new(options, 10_000);
        let (sender, acknowledged) = channel();
        let connection = std::thread::Builder::new()
            .name("publisher".to_owned())
            .spawn(move || {
                for event in connection.iter() {
                    match event {
                        Ok(Event::Incoming(Packet::PubAck(_))) if sender.send(()).is_err() => {
                            return;
                        }
                        Ok(Event::Outgoing(Outgoing::Disconnect)) => return,
                        Ok(_) => {}
                        Err(rumqttc::ConnectionError::RequestsDone) => return,
                        Err(_) => std::thread::sleep(Duration::from_millis(100)),
                    }
                }
            })?;
        Ok(Self {
            client,
            acknowledged,
            connection: Some(connection),
        })
    }

    /// Hands a message to the client.
    ///
    /// # Errors
    /// The client has ended.
    pub fn publish(&self, topic: &str, payload: impl Into<Vec<u8>>) -> Result<()> {
        Ok(self
            .client
            .publish(topic, QoS::AtLeastOnce, false, payload)?)
    }

    /// Waits until the broker has acknowledged `count` more messages.
    ///
    /// # Errors
    /// It has not within [`PATIENCE`].
    pub fn wait_acknowledged(&self, count: usize) -> Result<()> {
        for number in 0..count {
            self.acknowledged
                .recv_timeout(PATIENCE)
                .with_context(|| format!("the broker acknowledged {number} of {count}"))?;
        }
        Ok(())
    }
}

/// Left to itself, the connection would come again and throw out the next one of the same device.
impl Drop for Publisher {
    fn drop(&mut self) {
        if let (Ok(()), Some(connection)) = (self.client.disconnect(), self.connection.take()) {
            drop(connection.join());
        }
    }
}
