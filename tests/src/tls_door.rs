//! TLS in front of a server that speaks HTTP: with a certificate that is wrong in one way, or asking the client for
//! one. One request a connection, which is all that a client needs to be told what is wrong; one that refuses the
//! certificate may speak anything.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::Result;
use openssl::ssl::{HandshakeError, SslAcceptor, SslFiletype, SslMethod, SslVerifyMode};

use crate::service::certificates::Authority;

const WITHIN: Duration = Duration::from_secs(20);

/// What is wrong with it, or what it wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// Its certificate has expired.
    Expired,
    /// Its certificate is of another host.
    Elsewhere,
    /// Its certificate is right, and the client needs one of its authority.
    AsksForOne,
}

/// A door, until it is dropped.
#[derive(Debug)]
pub struct TlsDoor {
    dir: PathBuf,
    port: u16,
    ended: Arc<AtomicBool>,
}

impl TlsDoor {
    /// Opens one before `upstream`, `host:port`. In `dir` are `ca.pem`, which signed everything here, and for
    /// clients `client.pem` and `former.pem`, which has expired.
    ///
    /// # Errors
    /// OpenSSL's, or a file or a port cannot be had.
    pub fn open(dir: &Path, upstream: &str, guard: Guard) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let authority = Authority::new(dir)?;
        authority.sign("right", "127.0.0.1", 9)?;
        authority.sign("expired", "127.0.0.1", 0)?;
        authority.sign("elsewhere", "registry.example", 9)?;
        authority.sign("client", "agent.example", 9)?;
        authority.sign("former", "agent.example", 0)?;
        let own = match guard {
            Guard::Expired => "expired.pem",
            Guard::Elsewhere => "elsewhere.pem",
            Guard::AsksForOne => "right.pem",
        };
        let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls())?;
        acceptor.set_private_key_file(dir.join(own), SslFiletype::PEM)?;
        acceptor.set_certificate_chain_file(dir.join(own))?;
        if guard == Guard::AsksForOne {
            acceptor.set_ca_file(dir.join("ca.pem"))?;
            acceptor.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
        }
        let acceptor = acceptor.build();
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let door = Self {
            dir: dir.to_owned(),
            port: listener.local_addr()?.port(),
            ended: Arc::default(),
        };
        let (ended, upstream) = (Arc::clone(&door.ended), upstream.to_owned());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let (acceptor, upstream) = (acceptor.clone(), upstream.clone());
                // Who is refused, or goes away, has been told why by TLS.
                thread::spawn(move || drop(pass(&acceptor, stream, &upstream)));
            }
        });
        Ok(door)
    }

    /// How it is reached.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A file of it.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

impl Drop for TlsDoor {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // So that the listener looks.
        drop(TcpStream::connect(self.address()));
    }
}

/// One request and its answer.
fn pass(acceptor: &SslAcceptor, stream: TcpStream, upstream: &str) -> Result<()> {
    stream.set_read_timeout(Some(WITHIN))?;
    stream.set_write_timeout(Some(WITHIN))?;
    let mut client = match acceptor.accept(stream) {
        Ok(client) => client,
        Err(HandshakeError::Failure(refused)) => {
            // What the client has sent meanwhile is read: else the connection is reset, and why is lost.
            io::copy(&mut refused.get_ref(), &mut io::sink())?;
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    let request = request(&mut client)?;
    let mut server = TcpStream::connect(upstream)?;
    server.set_read_timeout(Some(WITHIN))?;
    server.write_all(&request)?;
    io::copy(&mut server, &mut client)?;
    client.shutdown()?;
    Ok(())
}

/// A whole request, asking for the connection to be closed after its answer.
fn request(client: &mut impl io::Read) -> Result<Vec<u8>> {
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        match client.read(&mut piece)? {
            0 => anyhow::bail!("the client went away"),
            n => bytes.extend_from_slice(&piece[..n]),
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        let is_length = name.eq_ignore_ascii_case("content-length");
        is_length.then(|| value.trim().parse::<usize>().ok())?
    };
    let length = head.lines().find_map(header).unwrap_or(0);
    let missing = (end + length).saturating_sub(bytes.len());
    let mut body = bytes.split_off(end);
    client.take(missing as u64).read_to_end(&mut body)?;
    let lines = head.trim_end().split("\r\n");
    let kept: Vec<&str> = lines
        .filter(|line| !line.to_ascii_lowercase().starts_with("connection:"))
        .collect();
    let mut request = format!("{}\r\nConnection: close\r\n\r\n", kept.join("\r\n")).into_bytes();
    request.extend(body);
    Ok(request)
}
