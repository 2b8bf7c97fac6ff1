//! kill -9, again and again, while devices play.

use anyhow::Result;
use harness::rig::Rig;

use super::whole_way::Play;

const CYCLES: u32 = 6;

#[test]
fn an_agent_killed_again_and_again_loses_and_doubles_nothing() -> Result<()> {
    let mut rig = Rig::new(&[])?;
    let play = Play::start(&mut rig, "")?;
    rig.sink.start()?;
    for _ in 0..CYCLES {
        play.wait_sent(150)?;
        rig.agent.kill()?;
        rig.agent.start()?;
    }
    play.end(&rig)?;
    rig.done()
}

#[test]
fn a_sink_killed_again_and_again_loses_and_doubles_nothing() -> Result<()> {
    let mut rig = Rig::new(&[])?;
    let play = Play::start(&mut rig, "")?;
    rig.sink.start()?;
    for _ in 0..CYCLES {
        play.wait_sent(150)?;
        rig.sink.kill()?;
        rig.sink.start()?;
    }
    play.end(&rig)?;
    rig.done()
}
