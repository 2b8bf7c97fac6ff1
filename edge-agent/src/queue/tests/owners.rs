//! Lanes of other gateways: renamed ones, and those brought from elsewhere.

use std::{cell::RefCell, io, rc::Rc};

use super::*;

fn named(gateway: &str) -> GatewayId {
    GatewayId::new(gateway).unwrap()
}

fn opened(dir: &Path, gateway: &str) -> Result<Opened, OpenError> {
    open(
        dir,
        &named(gateway),
        &topic(),
        &settings(),
        Arc::default(),
        at(0),
    )
}

fn store(opened: &mut Opened, values: std::ops::Range<i64>) {
    let batch: Vec<_> = values.map(plain).collect();
    opened.lane.conservation.received(batch.len() as u64);
    opened.writer.commit(&batch, at(0)).unwrap();
}

/// Every reading on the disk with its gateway, as a start of this gateway would send them.
fn all(dir: &Path, gateway: &str) -> Vec<(String, i64)> {
    let mut readers = vec![opened(dir, gateway).unwrap().reader];
    for name in inspect::lanes(dir).unwrap() {
        if name != "t" {
            let opened = open_to_drain(
                dir,
                &name,
                &named(gateway),
                |_| settings(),
                Arc::default(),
                at(0),
            );
            readers.push(opened.unwrap().0);
        }
    }
    let mut found = Vec::new();
    for reader in &mut readers {
        let entries = reader.next(10_000, at(0)).unwrap();
        let gateways = entries.iter().map(|e| e.record.id.gateway.to_string());
        found.extend(gateways.zip(values(&entries)));
    }
    found.sort();
    found
}

fn expected(readings: &[(&str, std::ops::Range<i64>)]) -> Vec<(String, i64)> {
    let each = readings
        .iter()
        .flat_map(|(gateway, values)| values.clone().map(|value| ((*gateway).to_owned(), value)));
    let mut all: Vec<_> = each.collect();
    all.sort();
    all
}

#[test]
fn a_renamed_gateway_drains_what_it_has_under_the_old_name_and_counts_anew() {
    let temp = temp_dir();
    let mut old = opened(temp.path(), "old").unwrap();
    store(&mut old, 0..5);
    drop(old);
    let mut new = opened(temp.path(), "new").unwrap();
    store(&mut new, 5..7);
    drop(new);
    assert_eq!(inspect::lanes(temp.path()).unwrap(), ["t", "t@old"]);

    let drained = open_to_drain(
        temp.path(),
        "t@old",
        &named("new"),
        |_| settings(),
        Arc::default(),
        at(0),
    );
    let (mut reader, lane) = drained.unwrap();
    let entries = reader.next(100, at(0)).unwrap();
    assert_eq!(values(&entries), [0, 1, 2, 3, 4]);
    assert_eq!(entries[0].record.id.gateway, named("old"));
    reader.acknowledge(5, &BTreeMap::new(), at(0)).unwrap();
    let facts = lane.facts(at(1));
    let [protocol::control::Fact::Epoch(fact)] = facts.as_slice() else {
        panic!("{facts:?}");
    };
    assert_eq!(fact.gateway, named("old"));
    assert_eq!((fact.acknowledged, fact.closed), (Some(4), true));
    drop((reader, lane));
    assert_eq!(all(temp.path(), "new"), expected(&[("new", 5..7)]));
}

#[test]
fn a_gateway_that_gets_its_old_name_back_goes_on_where_it_was() {
    let temp = temp_dir();
    for (gateway, values) in [("a", 0..2), ("b", 2..4), ("a", 4..6), ("b", 6..8)] {
        store(&mut opened(temp.path(), gateway).unwrap(), values);
    }
    assert_eq!(inspect::lanes(temp.path()).unwrap(), ["t", "t@a"]);
    let wanted = [("a", 0..2), ("b", 2..4), ("a", 4..6), ("b", 6..8)];
    assert_eq!(all(temp.path(), "b"), expected(&wanted));
    let lane = opened(temp.path(), "b").unwrap().lane;
    let epochs = lane.state().book.epochs.clone();
    assert_eq!(epochs[1].previous.unwrap().0, epochs[0].epoch, "one chain");
}

#[test]
fn a_kill_at_any_step_of_a_renaming_loses_and_doubles_nothing() {
    for names in [["a", "b", "b"], ["a", "b", "a"]] {
        let temp = temp_dir();
        let dir = temp.path().to_owned();
        let mut next = 0;
        let mut wanted = Vec::new();
        let crashes = Rc::new(RefCell::new(Vec::new()));
        for gateway in names {
            let before = expected(&wanted);
            let (hook_dir, seen) = (dir.clone(), Rc::clone(&crashes));
            fault::set(Some(Box::new(move |step| {
                seen.borrow_mut().push(step);
                for start_as in ["a", "b"] {
                    let crash = temp_dir();
                    copy(&hook_dir, crash.path());
                    assert_eq!(all(crash.path(), start_as), before, "{step} {start_as}");
                }
                Ok(())
            })));
            let mut lane = opened(&dir, gateway).unwrap();
            fault::set(None);
            store(&mut lane, next..next + 3);
            wanted.push((gateway, next..next + 3));
            next += 3;
        }
        let seen = crashes.borrow();
        assert!(seen.contains(&"aside: renamed"), "{seen:?}");
    }
}

#[test]
fn a_renaming_that_fails_leaves_everything_where_it_is() {
    let temp = temp_dir();
    store(&mut opened(temp.path(), "a").unwrap(), 0..3);
    fault::set(Some(Box::new(|step| match step {
        "aside: before rename" => Err(io::Error::from_raw_os_error(5)),
        _ => Ok(()),
    })));
    let refused = opened(temp.path(), "b");
    fault::set(None);
    assert!(matches!(refused, Err(OpenError::Io { .. })));
    assert_eq!(all(temp.path(), "a"), expected(&[("a", 0..3)]));
}

#[test]
fn a_lane_in_use_is_not_taken_away_from_its_process() {
    let temp = temp_dir();
    let _running = opened(temp.path(), "a").unwrap();
    assert!(matches!(opened(temp.path(), "b"), Err(OpenError::InUse(_))));
    assert_eq!(inspect::lanes(temp.path()).unwrap(), ["t"]);
}

#[test]
fn a_lane_whose_record_is_damaged_is_known_by_its_name() {
    let temp = temp_dir();
    store(&mut opened(temp.path(), "a").unwrap(), 0..3);
    drop(opened(temp.path(), "b").unwrap());
    std::fs::write(temp.path().join("t@a/lane"), b"?").unwrap();
    assert_eq!(all(temp.path(), "b"), expected(&[("a", 0..3)]));
}

#[test]
fn the_longest_names_there_can_be_are_set_aside_as_well() {
    let temp = temp_dir();
    let long = Topic::new("t".repeat(249)).unwrap();
    for gateway in ["a".repeat(64), "b".repeat(64)] {
        let gateway = named(&gateway);
        let opened = open(
            temp.path(),
            &gateway,
            &long,
            &settings(),
            Arc::default(),
            at(0),
        );
        assert_eq!(opened.unwrap().lane.topic(), &long);
    }
    let names = inspect::lanes(temp.path()).unwrap();
    assert_eq!(names.len(), 2);
    for name in names {
        assert_eq!(inspect::stat(temp.path(), &name).unwrap().topic, long);
    }
}

#[test]
fn a_lane_that_does_not_say_whose_it_is_is_left_alone() {
    let temp = temp_dir();
    store(&mut opened(temp.path(), "a").unwrap(), 0..3);
    std::fs::rename(temp.path().join("t"), temp.path().join("t@?")).unwrap();
    std::fs::write(temp.path().join("t@?/lane"), b"?").unwrap();
    let refused = open_to_drain(
        temp.path(),
        "t@?",
        &named("a"),
        |_| settings(),
        Arc::default(),
        at(0),
    );
    assert!(matches!(refused, Err(OpenError::Nobody(_))));
    assert_eq!(std::fs::read(temp.path().join("t@?/lane")).unwrap(), b"?");
}
