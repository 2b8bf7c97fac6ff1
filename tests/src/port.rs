//! Ports to serve on.
//!
//! A port got by binding 0 is an ephemeral one: while its server is away, the kernel may hand it to
//! any outgoing connection, even to a client that is just trying to reach that server, which is then
//! connected to itself. Services here are taken away and come back on the same port, so their ports
//! come from below the ephemeral range.
//!
//! Nor may two ask for a port, see that it is free and then both serve on it, or a test take the port of
//! another's server that is away at the moment. So a process claims a block of ports for as long as it lives,
//! by a name in the abstract namespace of sockets, which the kernel forgets with the process; and it gives
//! none of them twice.

use std::{
    hash::{BuildHasher, RandomState},
    net::{Ipv4Addr, TcpListener},
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener},
    },
    sync::{Mutex, PoisonError},
};

use anyhow::{Context, Result};

const FIRST: u16 = 12_000;
/// Ports of a block.
const BLOCK: u16 = 32;

/// What this process may give out.
#[derive(Debug)]
struct Claimed {
    /// The blocks are ours as long as these are open.
    claims: Vec<UnixListener>,
    left: Vec<u16>,
}

static CLAIMED: Mutex<Claimed> = Mutex::new(Claimed {
    claims: Vec::new(),
    left: Vec::new(),
});

/// A loopback port that nobody listens on, and that nobody else is given while this process lives.
///
/// # Errors
/// None was found.
pub fn free() -> Result<u16> {
    let mut claimed = CLAIMED.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        while let Some(port) = claimed.left.pop() {
            // A server that was left running by a process that is gone, or one that is none of ours.
            if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return Ok(port);
            }
        }
        let (claim, first) = claim()?;
        claimed.claims.push(claim);
        claimed.left = (first..first + BLOCK).rev().collect();
    }
}

/// A block that no living process has, and its first port.
fn claim() -> Result<(UnixListener, u16)> {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .context("read the ephemeral port range")?;
    let end: u16 = range
        .split_whitespace()
        .next()
        .and_then(|first| first.parse().ok())
        .filter(|&first| first > FIRST + 1000)
        .unwrap_or(u16::MAX);
    let blocks = u64::from((end - FIRST) / BLOCK);
    let random = RandomState::new().hash_one(());
    for at in 0..blocks {
        let block = u16::try_from((random % blocks + at) % blocks)?;
        let first = FIRST + block * BLOCK;
        let name = SocketAddr::from_abstract_name(format!("edge-tests-ports-{first}"))?;
        if let Ok(claim) = UnixListener::bind_addr(&name) {
            return Ok((claim, first));
        }
    }
    anyhow::bail!("no block of {BLOCK} ports on 127.0.0.1 between {FIRST} and {end} is unclaimed")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn a_free_port_can_be_served_on() {
        let port = super::free().unwrap();
        std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    }

    #[test]
    fn a_port_is_given_once_whoever_asks() {
        let asked = || (0..100).map(|_| super::free().unwrap()).collect::<Vec<_>>();
        let given: Vec<u16> = std::thread::scope(|scope| {
            let all: Vec<_> = (0..4).map(|_| scope.spawn(asked)).collect();
            all.into_iter()
                .flat_map(|one| one.join().unwrap())
                .collect()
        });
        let different: BTreeSet<u16> = given.iter().copied().collect();
        assert_eq!(different.len(), given.len());
    }
}
