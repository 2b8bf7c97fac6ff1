//! The status page as a browser shows it. Pictures are kept in `target/pictures/`; where no browser can be had,
//! what needs one says that it is skipped.

use std::{io::Write as _, path::PathBuf};

use anyhow::{Context, Result, ensure};
use harness::{
    browser::{Browser, Scheme},
    daemon::{AgentStatus, Daemon},
    rig::{PATIENCE, line::Line},
    wait,
};

/// What would be run if a text were not text.
const EVIL: &str = "<img src=x onerror=document.title='owned'>";

/// A browser; `None`, said aloud, where there is none.
pub fn browser() -> Result<Option<Browser>> {
    let browser = Browser::find()?;
    if browser.is_none() {
        skip("no chromium on this machine")?;
    }
    Ok(browser)
}

/// Says why a test is not run.
pub fn skip(why: &str) -> Result<()> {
    let test = std::thread::current();
    let name = test.name().unwrap_or("a test").to_owned();
    // Not through the macros, whose output a test that passes keeps to itself.
    Ok(writeln!(std::io::stderr(), "skipped {name}: {why}")?)
}

/// Pictures of a page for a phone and a desk, light and dark, as `target/pictures/NAME-WIDTH-SCHEME.png`.
pub fn pictures(browser: &Browser, url: &str, name: &str) -> Result<()> {
    let folder = harness::target().join("pictures");
    std::fs::create_dir_all(&folder)?;
    for width in [360, 1280] {
        for (scheme, word) in [(Scheme::Light, "light"), (Scheme::Dark, "dark")] {
            let to = folder.join(format!("{name}-{width}-{word}.png"));
            browser.picture(url, width, scheme, &to)?;
        }
    }
    Ok(())
}

/// Waits until a page shows all of this, and gives the document, which is kept as `target/pictures/NAME.html`. What one
/// look finds is that moment's: a link that is being tried again, a page that was asked before it was answered.
pub fn shows(
    browser: &Browser,
    url: &str,
    name: &str,
    expected: &[impl AsRef<str>],
) -> Result<String> {
    let kept = harness::target().join("pictures");
    std::fs::create_dir_all(&kept)?;
    let kept = kept.join(format!("{name}.html"));
    wait::until(
        &format!("a whole page in {}", kept.display()),
        PATIENCE,
        || {
            let document = browser.document(url)?;
            std::fs::write(&kept, &document)?;
            let mut expected = expected.iter().map(AsRef::as_ref);
            if let Some(missing) = expected.find(|shown| !document.contains(shown)) {
                anyhow::bail!("{missing} is not in it");
            }
            Ok(Some(document))
        },
    )
}

/// What is between two marks.
fn between<'t>(text: &'t str, from: &str, to: &str) -> Result<&'t str> {
    let (_, rest) = text
        .split_once(from)
        .with_context(|| format!("no {from}"))?;
    let (inner, _) = rest.split_once(to).with_context(|| format!("no {to}"))?;
    Ok(inner)
}

fn sha256(text: &str) -> String {
    openssl::base64::encode_block(&openssl::sha::sha256(text.as_bytes()))
}

/// An agent with one line to read and nobody to send to, and a sink that finds nobody.
pub fn alone(program: &'static str, dir: &std::path::Path) -> Result<Daemon> {
    let nobody = "127.0.0.1:1";
    let config = match program {
        "edge-agent" => format!(
            "[agent]\ngateway = \"gw7\"\nstate_dir = \"{0}/state\"\nshutdown_timeout = \"1s\"\n\
             [kafka]\nbootstrap = \"{nobody}\"\ntopic = \"readings\"\n[status]\nlisten = \"{{{{status}}}}\"\n\
             [[serial]]\nname = \"cabinet\"\nport = \"{0}/cabinet\"\nmode = \"lines\"\nformat = \"json\"\n\
             device = {{ field = \"id\" }}\n",
            dir.display()
        ),
        _ => format!(
            "[kafka]\nbootstrap = \"{nobody}\"\ngroup = \"sinks\"\n\
             [mongodb]\nuri = \"mongodb://{nobody}/\"\ndatabase = \"readings\"\n\
             [[route]]\ntopic = \"readings\"\ncollection = \"readings\"\n[status]\nlisten = \"{{{{status}}}}\"\n"
        ),
    };
    Daemon::new(program, dir, &config)
}

#[test]
fn the_policy_of_a_page_allows_its_own_script_and_style_and_nothing_else() -> Result<()> {
    for program in ["edge-agent", "cloud-sink"] {
        let dir = tempfile::tempdir()?;
        let mut daemon = alone(program, dir.path())?;
        daemon.start()?;
        let mut answer = ureq::get(daemon.url()).call()?;
        let header = |name: &str| {
            let value = answer
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok());
            value
                .map(str::to_owned)
                .with_context(|| format!("no {name}"))
        };
        let policy = header("content-security-policy")?;
        ensure!(header("content-type")?.starts_with("text/html"));
        ensure!(header("x-content-type-options")? == "nosniff");
        let html = answer.body_mut().read_to_string()?;
        ensure!(html.len() < 32 << 10, "{program}: {} bytes", html.len());
        for (what, from, to) in [
            ("script", "<script>", "</script>"),
            ("style", "<style>", "</style>"),
        ] {
            let hash = sha256(between(&html, from, to)?);
            ensure!(
                policy.contains(&format!("{what}-src 'sha256-{hash}'")),
                "the hash of the {what} of {program} has to be {hash}: {policy}"
            );
            ensure!(html.matches(from).count() == 1, "one {what}");
        }
        ensure!(policy.starts_with("default-src 'none'"), "{policy}");
        // A name that nobody fetches.
        let html = html.replace("http://www.w3.org/2000/svg", "");
        for outside in [
            "http://",
            "https://",
            " style=",
            " onclick=",
            "innerHTML",
            "eval(",
        ] {
            ensure!(!html.contains(outside), "{program}: {outside} in the page");
        }
        daemon.kill()?;
    }
    Ok(())
}

#[test]
fn the_page_of_the_agent_shows_devices_queue_and_links_and_text_stays_text() -> Result<()> {
    let Some(browser) = browser()? else {
        return Ok(());
    };
    let dir = tempfile::tempdir()?;
    let mut agent = alone("edge-agent", dir.path())?;
    let mut line = Line::plug(&dir.path().join("cabinet"))?;
    agent.start()?;
    wait::until_true("the line", PATIENCE, || {
        let status: AgentStatus = agent.status()?;
        Ok(status
            .links
            .iter()
            .any(|link| link.kind == "serial" && link.state == "up"))
    })?;
    line.send(b"\n")?;
    let mut sent = 0;
    // Until the curves have points: the agent makes one a second.
    wait::until_true("curves", PATIENCE, || {
        line.send(
            format!(
                "{{\"id\":\"meter-1\",\"voltage_v\":{}.25,\"power_w\":288.5,\"energy_wh\":123456789.25}}\n",
                230 - sent % 3
            )
            .as_bytes(),
        )?;
        line.send(format!("{{\"id\":\"{EVIL}\",\"state\":\"{EVIL}\"}}\n").as_bytes())?;
        sent += 1;
        let status: serde_json::Value = agent.status()?;
        let curve = &status["devices"][1]["fields"][1]["curve"];
        Ok(curve.as_array().is_some_and(|curve| curve.len() >= 4))
    })?;
    line.send(b"no reading\n")?;
    wait::until_true("the incidents", PATIENCE, || {
        let status: serde_json::Value = agent.status()?;
        let incidents = status["incidents"]
            .as_array()
            .map_or(&[][..], Vec::as_slice);
        let told = |text: &str| incidents.iter().any(|one| one["message"] == text);
        Ok(told("rejected") && told("link down, trying again"))
    })?;

    let expected = [
        "<title>! gw7</title>",
        ">not ready<",
        ">meter-1<",
        ">voltage_<wbr>v<",
        "<polyline",
        ">power_<wbr>w</span><span class=\"number\">288.5<",
        // A meter counts on for years: no digit of it is rounded away.
        ">energy_<wbr>wh</span><span class=\"number\">123456789.25<",
        // Names are kept in characters that nobody escapes; texts are as they came.
        ">%3Cimg%20src%3Dx%20onerror%3Ddocument.title%3D%27owned%27%3E<",
        "&lt;img src=x onerror=document.title='owned'&gt;<",
        "role=\"meter\"",
        ">offline budget<",
        "class=\"badge good\">up<",
        "class=\"badge bad\">down<",
        "link down, trying again",
        "rejected",
    ];
    let document = shows(&browser, &agent.url(), "agent", &expected)?;
    pictures(&browser, &agent.url(), "agent")?;
    ensure!(
        !document.contains("<img"),
        "a text of a device became an element"
    );
    ensure!(
        document.contains("id=\"stale\" role=\"alert\" hidden"),
        "the page does not poll"
    );
    agent.kill()?;
    Ok(())
}

#[test]
fn a_page_that_is_not_answered_says_so() -> Result<()> {
    let Some(browser) = browser()? else {
        return Ok(());
    };
    // The page alone, without what it asks: as after the daemon has ended.
    let dir = tempfile::tempdir()?;
    let mut agent = alone("edge-agent", dir.path())?;
    agent.start()?;
    let html = agent.page("/")?;
    agent.kill()?;
    let file: PathBuf = dir.path().join("page.html");
    std::fs::write(&file, html)?;
    let document = browser.document(&format!("file://{}", file.display()))?;
    let alert = between(&document, "role=\"alert\">", "</p>")?;
    ensure!(alert.contains("what is shown is old"), "{document}");
    Ok(())
}
