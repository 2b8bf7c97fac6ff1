//! Ports to serve on.
//!
//! A port got by binding 0 is an ephemeral one: while its server is away, the kernel may hand it to
//! any outgoing connection, even to a client that is just trying to reach that server, which is then
//! connected to itself. Services here are taken away and come back on the same port, so their ports
//! come from below the ephemeral range.

use std::{
    hash::{BuildHasher, RandomState},
    net::{Ipv4Addr, TcpListener},
};

use anyhow::{Context, Result};

const FIRST: u16 = 12_000;

/// A loopback port that nobody listens on at the moment.
///
/// # Errors
/// None was found.
pub fn free() -> Result<u16> {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .context("read the ephemeral port range")?;
    let end: u16 = range
        .split_whitespace()
        .next()
        .and_then(|first| first.parse().ok())
        .filter(|&first| first > FIRST + 1000)
        .unwrap_or(u16::MAX);
    for _ in 0..1000 {
        let random = RandomState::new().hash_one(());
        let offset = random % u64::from(end - FIRST);
        let port = FIRST + u16::try_from(offset)?;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    anyhow::bail!("no free port on 127.0.0.1 between {FIRST} and {end}")
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_free_port_can_be_served_on() {
        let port = super::free().unwrap();
        std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    }
}
