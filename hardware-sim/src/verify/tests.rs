//! Tables of truth, documents and findings.

use super::*;
use crate::truth::tests::line;

const EPOCH: &str = "gw:00000000000a";

/// Pipeline sequence, source sequence, value.
fn stored(at: u32, seq: u32, power: f64) -> Stored {
    Stored {
        id: format!("{EPOCH}:{at:012x}"),
        device: "d".into(),
        source: Some((9, seq.into())),
        values: BTreeMap::from([("power_w".into(), Exact::Float(power))]),
    }
}

fn compare(truth: &[Line], documents: &[Stored]) -> Verdict {
    let mut comparison = Comparison::new(5);
    for line in truth {
        comparison.expect(line.clone());
    }
    for document in documents {
        comparison.see(document);
    }
    comparison.verdict(true)
}

fn acknowledged(count: u32) -> Vec<Line> {
    (0..count)
        .map(|seq| line("d", seq, State::Acknowledged, f64::from(seq)))
        .collect()
}

fn counts(verdict: &Verdict) -> [u64; 5] {
    [
        &verdict.lost,
        &verdict.duplicated,
        &verdict.altered,
        &verdict.disordered,
        &verdict.unexpected,
    ]
    .map(|finding| finding.count)
}

#[test]
fn each_departure_from_the_truth_is_found_under_its_name() {
    let good = || vec![stored(0, 0, 0.0), stored(1, 1, 1.0), stored(2, 2, 2.0)];
    let with = |change: fn(&mut Vec<Stored>)| {
        let mut documents = good();
        change(&mut documents);
        documents
    };
    for (what, documents, expected) in [
        ("all there", good(), [0, 0, 0, 0, 0]),
        ("lost", with(|d| drop(d.remove(1))), [1, 0, 0, 0, 0]),
        (
            "twice",
            with(|d| d.push(stored(3, 0, 0.0))),
            [0, 1, 0, 0, 0],
        ),
        (
            "altered",
            with(|d| d[1] = stored(1, 1, 1.0 + f64::EPSILON)),
            [0, 0, 1, 0, 0],
        ),
        (
            "other type",
            with(|d| drop(d[1].values.insert("power_w".into(), Exact::Int(1)))),
            [0, 0, 1, 0, 0],
        ),
        (
            "a value more",
            with(|d| drop(d[1].values.insert("x".into(), Exact::Int(1)))),
            [0, 0, 1, 0, 0],
        ),
        (
            "swapped values",
            vec![stored(0, 0, 1.0), stored(1, 1, 0.0), stored(2, 2, 2.0)],
            [0, 0, 2, 0, 0],
        ),
        (
            "swapped order",
            vec![stored(0, 1, 1.0), stored(1, 0, 0.0), stored(2, 2, 2.0)],
            [0, 0, 0, 1, 0],
        ),
        (
            "never sent",
            with(|d| d.push(stored(3, 3, 3.0))),
            [0, 0, 0, 0, 1],
        ),
        ("nothing", vec![], [3, 0, 0, 0, 0]),
    ] {
        let verdict = compare(&acknowledged(3), &documents);
        assert_eq!(counts(&verdict), expected, "{what}: {verdict}");
        assert_eq!(verdict.clean, expected == [0; 5], "{what}");
    }
}

#[test]
fn what_was_not_acknowledged_is_no_obligation_but_must_be_exact() {
    for (state, power, clean) in [
        (State::Sent, None, true),
        (State::Sent, Some(0.0), true),
        (State::Sent, Some(1.0), false),
        (State::Damaged, None, true),
        (State::Damaged, Some(1.0), true),
        (State::Acknowledged, None, false),
        (State::Rejected, None, false),
    ] {
        let documents: Vec<_> = power.into_iter().map(|power| stored(0, 0, power)).collect();
        let verdict = compare(&[line("d", 0, state, 0.0)], &documents);
        assert_eq!(verdict.clean, clean, "{state:?} {power:?}");
    }
}

#[test]
fn order_is_not_asked_of_what_was_sent_again_or_reordered() {
    let swapped = [stored(0, 1, 1.0), stored(1, 0, 0.0)];
    let mut truth = acknowledged(2);
    truth[0].sends = 2;
    assert!(compare(&truth, &swapped).clean);
    let mut truth = acknowledged(2);
    truth[0].reordered = true;
    assert!(compare(&truth, &swapped).clean);
}

#[test]
fn order_holds_along_the_chain_of_epochs_that_the_gateway_told() {
    const LATER: &str = "gw:000000000001";
    const BETWEEN: &str = "gw:00000000000b";
    let later = |seq: u32| Stored {
        id: format!("{LATER}:000000000000"),
        ..stored(0, seq, f64::from(seq))
    };
    for (first, second, chain, disordered) in [
        (1, 0, &[][..], 0),
        (1, 0, &[(LATER, EPOCH)][..], 1),
        (0, 1, &[(LATER, EPOCH)][..], 0),
        (1, 0, &[(LATER, BETWEEN), (BETWEEN, EPOCH)][..], 1),
        (1, 0, &[(LATER, EPOCH), (EPOCH, LATER)][..], 1),
    ] {
        let mut comparison = Comparison::new(5);
        acknowledged(2)
            .into_iter()
            .for_each(|line| comparison.expect(line));
        comparison.see(&later(second));
        comparison.see(&stored(0, first, f64::from(first)));
        for (epoch, previous) in chain {
            comparison.follows((*epoch).into(), (*previous).into());
        }
        let verdict = comparison.verdict(true);
        assert_eq!(verdict.disordered.count, disordered, "{chain:?} {verdict}");
    }
}

#[test]
fn declared_losses_explain_only_as_many_as_they_name() {
    for (last, clean) in [(Some(0), false), (Some(1), true), (None, false)] {
        let mut comparison = Comparison::new(5);
        acknowledged(2)
            .into_iter()
            .for_each(|line| comparison.expect(line));
        comparison.declare(0, last);
        assert_eq!(comparison.verdict(true).clean, clean, "{last:?}");
    }
}

#[test]
fn documents_of_earlier_runs_are_not_compared() {
    let mut earlier = stored(0, 0, 0.0);
    earlier.source = Some((4, 0));
    let mut anonymous = stored(1, 0, 0.0);
    anonymous.source = None;
    let verdict = compare(&acknowledged(1), &[earlier, anonymous, stored(2, 0, 0.0)]);
    assert!(verdict.clean, "{verdict}");
    assert_eq!(verdict.not_compared, 2);
    assert!(!compare(&[], &[]).clean, "an empty run proves nothing");
}
