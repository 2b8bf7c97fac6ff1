//! The sink's status page, while readings go by.

use anyhow::{Result, ensure};
use harness::rig::{Rig, kafka::Foreign};

use crate::page::{browser, pictures, shows};

#[test]
fn the_page_of_the_sink_shows_lag_dead_letters_and_links() -> Result<()> {
    let Some(browser) = browser()? else {
        return Ok(());
    };
    let mut rig = Rig::new(&[])?;
    rig.configure_agent(super::MQTT)?;
    rig.agent.start()?;
    rig.sink.start()?;
    super::publish(&rig, "press", 0..500)?;
    rig.wait_until_stored(500)?;
    let nonsense = Foreign {
        key: "somebody",
        value: b"<script>alert(1)</script>",
        headers: &[],
    };
    rig.kafka.write(rig.kafka.readings(), &[nonsense])?;
    rig.wait_sink("the dead letter", |sink| {
        sink.ready && sink.balance.dead_letters == 1 && sink.lag == Some(0)
    })?;
    let expected = [
        ">ready<".to_owned(),
        format!("<title>{}</title>", rig.name()),
        format!(">{}<", rig.kafka.readings()),
        ">mongodb<".to_owned(),
        "class=\"badge good\">up<".to_owned(),
        "id=\"written\">500<".to_owned(),
        "id=\"dead-letters\" class=\"bad\">1<".to_owned(),
        " dead letter<".to_owned(),
        "id=\"lag\">0<".to_owned(),
    ];
    let document = shows(&browser, &rig.sink.url(), "sink", &expected)?;
    // Reasons that there were, and no others.
    let has = |reason: &str| document.contains(&format!(">{reason}<"));
    ensure!(has("magic_unknown") && has("in all"), "{document}");
    ensure!(!has("decode_failed"), "{document}");
    pictures(&browser, &rig.sink.url(), "sink")?;
    rig.done()
}
