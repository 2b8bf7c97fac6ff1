//! Mosquitto with the settings that a pipeline needs: its defaults keep no session over a restart,
//! have 20 messages in flight and drop silently beyond 1000 queued.

use std::{
    net::{Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use super::Place;

pub(super) fn command(place: &Place) -> Result<Command> {
    let Place { dir, port, .. } = place;
    // Started as root it would change to a user of its own, who cannot write here.
    let user = if rustix::process::geteuid().is_root() {
        "user root\n"
    } else {
        ""
    };
    let config = format!(
        "{user}listener {port} 127.0.0.1
allow_anonymous true
persistence true
persistence_location {}/
autosave_interval 1
max_inflight_messages 4000
max_queued_messages 0
log_dest stdout
",
        dir.display()
    );
    let file = dir.join("mosquitto.conf");
    std::fs::write(&file, config)?;
    let mut command = Command::new(program());
    command.arg("-c").arg(&file);
    Ok(command)
}

/// Debian keeps it where only root's PATH looks.
fn program() -> PathBuf {
    let packaged = Path::new("/usr/sbin/mosquitto");
    if packaged.exists() {
        packaged.to_owned()
    } else {
        PathBuf::from("mosquitto")
    }
}

pub(super) fn answers(place: &Place) -> Result<()> {
    TcpStream::connect((Ipv4Addr::LOCALHOST, place.port))?;
    Ok(())
}
