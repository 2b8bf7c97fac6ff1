//! docs/walkthrough.md, followed word by word. Only addresses are those of our own servers; where it says that
//! MongoDB is stopped and started by systemd, it is killed and started.

use std::fs;

use anyhow::{Context, Result, ensure};
use harness::{browser::Scheme, chaos::power, port, service::Kind, stack::Stack};

use crate::{
    documentation::blocks,
    page::{browser, shows, skip},
    transcript::{Folder, steps},
};

#[test]
fn the_walk_through_is_followed_from_a_package_to_an_audit() -> Result<()> {
    let page = fs::read_to_string(harness::tree().join("docs/walkthrough.md"))?;
    let mut stack = Stack::up(&[Kind::Kafka, Kind::Mosquitto, Kind::Mongodb])?;
    let mut replaced = vec![(
        "mongodb://127.0.0.1:27017",
        stack.service(Kind::Mongodb)?.address(),
    )];
    replaced.push((
        "mqtt://127.0.0.1:1883",
        stack.service(Kind::Mosquitto)?.address(),
    ));
    replaced.push(("127.0.0.1:9092", stack.service(Kind::Kafka)?.address()));
    let (agent, sink) = (port::free()?, port::free()?);
    replaced.push(("127.0.0.1:9600", format!("127.0.0.1:{agent}")));
    replaced.push(("127.0.0.1:9601", format!("127.0.0.1:{sink}")));
    let ours = |text: &str| {
        let all = replaced.iter();
        all.fold(text.to_owned(), |text, (theirs, ours)| {
            text.replace(theirs, ours)
        })
    };

    let dir = tempfile::tempdir()?;
    for (name, kind, port) in [
        ("plant.toml", "toml hardware-sim", None),
        ("edge-agent.toml", "toml edge-agent", Some(agent)),
        ("cloud-sink.toml", "toml cloud-sink", Some(sink)),
    ] {
        let (_, text) = blocks(&page, kind).into_iter().next().context(kind)?;
        let status = port.map(|port| format!("[status]\nlisten = \"127.0.0.1:{port}\"\n"));
        let text = format!("{}\n{}", ours(&text), status.unwrap_or_default());
        fs::write(dir.path().join(name), text)?;
    }
    let mut folder = Folder::new(dir.path(), &[harness::binary("edge-agent")?], vec![]);
    let transcripts = blocks(&page, "console");
    ensure!(transcripts.len() > 7, "{transcripts:?}");
    for (at, (_, transcript)) in transcripts.iter().enumerate() {
        // The first is about a package.
        if at == 0 {
            if !power::is_possible() {
                skip("the first part: installing into a folder needs root")?;
                continue;
            }
            let package = crate::packaging::package("edge-agent", "0.1.0-1", "once")?;
            fs::copy(package, dir.path().join("edge-agent.deb"))?;
        }
        for step in steps(&ours(transcript)) {
            match &*step.command {
                "sudo systemctl stop mongod" => stack.service(Kind::Mongodb)?.kill()?,
                "sudo systemctl start mongod" => stack.service(Kind::Mongodb)?.start()?,
                _ => drop(folder.follow(&step)?),
            }
            // The last that is asked while the devices are unplugged.
            if step.command.ends_with("/livez") {
                the_page_is_that_of_the_picture(&format!("http://127.0.0.1:{agent}/"))?;
            }
        }
    }
    folder.end()?;
    stack.down()
}

/// Two lines down, three devices with their last values: `docs/walkthrough-page.png`, which is
/// `target/pictures/walkthrough.png` of such a run.
fn the_page_is_that_of_the_picture(url: &str) -> Result<()> {
    let Some(browser) = browser()? else {
        return Ok(());
    };
    let expected = [
        "<title>! gw7</title>",
        ">not ready<",
        ">meter-1<",
        ">press-1<",
        ">room<",
        "class=\"badge bad\">down<",
        "is it plugged in?",
        "link down, trying again",
    ];
    shows(&browser, url, "walkthrough", &expected)?;
    let to = harness::target().join("pictures/walkthrough.png");
    browser.picture(url, 1000, Scheme::Light, &to)
}
