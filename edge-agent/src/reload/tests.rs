use std::path::Path;

use super::*;
use crate::config::{Secrets, parse};

const FRAME: &str =
    "[agent]\ngateway = \"gw7\"\n[kafka]\nbootstrap = \"localhost:1\"\ntopic = \"readings\"\n";
const METER: &str = "[[serial]]\nname = \"meter\"\nport = \"/dev/ttyUSB0\"\nmode = \"frames\"\n";
const BUS: &str = "[[modbus]]\nname = \"bus\"\naddress = \"10.0.0.7\"\n[[modbus.device]]\nid = \"m1\"\nprofile = \"sdm120\"\n";
const HOUSE: &str = "[[mqtt]]\nname = \"house\"\nurl = \"mqtt://localhost\"\nsubscribe = [{ topic = \"a/{device}\" }]\n";

fn config(text: &str) -> Config {
    parse(Path::new("agent.toml"), text, Secrets::Leave)
        .unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn plan_of(before: &str, after: &str) -> Result<Plan, NeedsRestart> {
    let before = config(before);
    let lanes = before.lanes().cloned().collect();
    plan(&before, &config(after), &lanes)
}

fn names(keys: &[Key]) -> Vec<&str> {
    keys.iter().map(|(_, name)| name.as_str()).collect()
}

#[test]
fn only_the_sources_that_changed_are_touched() {
    let all = format!("{FRAME}{METER}{BUS}{HOUSE}");
    let second = "[[modbus.device]]\nid = \"m2\"\nunit = 2\nprofile = \"sdm120\"\n";
    let renamed = METER.replace("\"meter\"", "\"bus\"");
    for (what, before, after, added, removed, altered, unchanged) in [
        (
            "the same",
            all.clone(),
            all.clone(),
            vec![],
            vec![],
            vec![],
            3,
        ),
        (
            "another order",
            all.clone(),
            format!("{FRAME}{HOUSE}{METER}{BUS}"),
            vec![],
            vec![],
            vec![],
            3,
        ),
        (
            "comments and defaults",
            all.clone(),
            all.replace(
                "mode = \"frames\"",
                "baud = 115200 # usual\nmode = \"frames\"",
            ),
            vec![],
            vec![],
            vec![],
            3,
        ),
        (
            "a source more",
            format!("{FRAME}{METER}"),
            format!("{FRAME}{METER}{BUS}"),
            vec!["bus"],
            vec![],
            vec![],
            1,
        ),
        (
            "the last source",
            format!("{FRAME}{METER}"),
            FRAME.to_owned(),
            vec![],
            vec!["meter"],
            vec![],
            0,
        ),
        (
            "a device more",
            all.clone(),
            format!("{FRAME}{METER}{BUS}{second}{HOUSE}"),
            vec![],
            vec![],
            vec!["bus"],
            2,
        ),
        (
            "another speed",
            all.clone(),
            all.replace("mode = \"frames\"", "baud = 9600\nmode = \"frames\""),
            vec![],
            vec![],
            vec!["meter"],
            2,
        ),
        (
            "a subscription more",
            all.clone(),
            all.replace(
                "{ topic = \"a/{device}\" }",
                "{ topic = \"a/{device}\" }, { topic = \"b/{device}\" }",
            ),
            vec![],
            vec![],
            vec!["house"],
            2,
        ),
        (
            "a new name",
            all.clone(),
            all.replace("\"house\"", "\"garden\""),
            vec!["garden"],
            vec!["house"],
            vec![],
            2,
        ),
        (
            "one name, another kind",
            format!("{FRAME}{BUS}"),
            format!("{FRAME}{renamed}"),
            vec!["bus"],
            vec!["bus"],
            vec![],
            0,
        ),
    ] {
        let plan = plan_of(&before, &after).unwrap_or_else(|why| panic!("{what}: {why}"));
        assert_eq!(
            (
                names(&plan.added),
                names(&plan.removed),
                names(&plan.altered),
                plan.unchanged
            ),
            (added, removed, altered, unchanged),
            "{what}"
        );
        assert_eq!(
            plan.is_empty(),
            before == after || plan.unchanged == 3,
            "{what}"
        );
    }
}

#[test]
fn the_first_source_of_all_needs_a_start_for_its_lane() {
    let NeedsRestart(named) = plan_of(FRAME, &format!("{FRAME}{METER}")).unwrap_err();
    assert_eq!(named, ["topic readings, which has no lane yet"]);
}

#[test]
fn what_only_a_start_can_change_is_named_and_nothing_is_done() {
    let all = format!("{FRAME}{METER}{HOUSE}");
    let with = |more: &str| format!("{all}{more}");
    for (what, after, expected) in [
        ("the name", all.replace("gw7", "gw8"), vec!["[agent]"]),
        (
            "its metadata",
            all.replace(
                "gateway = \"gw7\"",
                "gateway = \"gw7\"\nmeta = { site = \"b\" }",
            ),
            vec!["[agent]"],
        ),
        (
            "a rule",
            with("[[process]]\nfield = \"x\"\ndrop = true\n"),
            vec!["[[process]]"],
        ),
        (
            "a bound",
            with("[queue]\nmax_age = \"1d\"\n"),
            vec!["[queue]"],
        ),
        (
            "the cluster",
            all.replace("localhost:1", "localhost:2"),
            vec!["[kafka]"],
        ),
        (
            "a property",
            all.replace(
                "topic = \"readings\"",
                "topic = \"readings\"\nproperties = { \"linger.ms\" = \"7\" }",
            ),
            vec!["[kafka]"],
        ),
        (
            "a registry",
            with("[registry]\nurl = \"https://r\"\n"),
            vec!["[registry]"],
        ),
        (
            "a form",
            with("[[topic]]\nname = \"readings\"\nvalue = \"postcard\"\n"),
            vec!["[[topic]]"],
        ),
        (
            "the page",
            with("[status]\nlisten = \"off\"\n"),
            vec!["[status]"],
        ),
        (
            "a lane",
            all.replace("mode = \"frames\"", "mode = \"frames\"\ntopic = \"alarms\""),
            vec!["topic alarms, which has no lane yet"],
        ),
        (
            "everything, and a source",
            format!(
                "{}{BUS}[queue]\nmax_age = \"1d\"\n[status]\nlisten = \"off\"\n",
                all.replace("gw7", "gw8")
            ),
            vec!["[agent]", "[queue]", "[status]"],
        ),
    ] {
        let NeedsRestart(named) = plan_of(&all, &after).expect_err(what);
        // A box of another name is another MQTT client as well, but that follows.
        assert_eq!(named, expected, "{what}");
    }
}

#[test]
fn a_topic_that_had_a_lane_at_the_start_may_come_back() {
    let alarms = METER.replace("mode = \"frames\"", "mode = \"frames\"\ntopic = \"alarms\"");
    let (both, one) = (
        config(&format!("{FRAME}{alarms}{HOUSE}")),
        config(&format!("{FRAME}{HOUSE}")),
    );
    let lanes: BTreeSet<Topic> = both.lanes().cloned().collect();
    assert_eq!(
        names(&plan(&both, &one, &lanes).unwrap().removed),
        ["meter"]
    );
    assert_eq!(names(&plan(&one, &both, &lanes).unwrap().added), ["meter"]);
    let lanes = one.lanes().cloned().collect();
    assert!(plan(&one, &both, &lanes).is_err());
}
