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
        time_ms: None,
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
fn a_declared_loss_explains_what_is_missing_at_its_place_and_nothing_else() {
    // Six readings with the ids 10 to 15; those of sequence 2 and 3 are missing.
    let documents: Vec<_> = [0, 1, 4, 5]
        .map(|seq| stored(10 + seq, seq, f64::from(seq)))
        .into();
    for (what, declared, explained, clean) in [
        ("nothing", &[][..], 0, false),
        ("both", &[(EPOCH, 12, Some(13))][..], 2, true),
        (
            "both, in two statements that overlap",
            &[(EPOCH, 12, Some(13)), (EPOCH, 13, Some(13))],
            2,
            true,
        ),
        (
            "one of them, twice",
            &[(EPOCH, 12, Some(12)), (EPOCH, 12, Some(12))],
            1,
            false,
        ),
        ("as many, elsewhere", &[(EPOCH, 20, Some(21))], 0, false),
        (
            "as many, of another epoch",
            &[("gw:00000000000b", 12, Some(13))],
            0,
            false,
        ),
        ("what is there", &[(EPOCH, 10, Some(11))], 0, false),
        ("more than is missing", &[(EPOCH, 10, Some(15))], 2, true),
        ("an end that nobody knows", &[(EPOCH, 12, None)], 0, false),
    ] {
        let mut comparison = Comparison::new(5);
        acknowledged(6)
            .into_iter()
            .for_each(|line| comparison.expect(line));
        documents.iter().for_each(|one| comparison.see(one));
        for (epoch, first, last) in declared {
            comparison.declare(epoch, *first, *last);
        }
        comparison.follows("gw:00000000000b".into(), EPOCH.into());
        let verdict = comparison.verdict(true);
        assert_eq!(
            (verdict.explained, verdict.clean),
            (explained, clean),
            "{what}: {verdict}"
        );
        assert_eq!(verdict.lost.count, 2, "{what}");
    }
}

#[test]
fn a_time_that_the_device_told_is_compared_to_the_millisecond() {
    for (stored_ms, altered) in [
        (Some(1_700_000_000_250), 0),
        (Some(1_700_000_000_251), 1),
        (None, 0),
    ] {
        let mut truth = acknowledged(1);
        truth[0].time = Some(1_700_000_000_250_999);
        let mut document = stored(0, 0, 0.0);
        document.time_ms = stored_ms;
        assert_eq!(
            compare(&truth, &[document]).altered.count,
            altered,
            "{stored_ms:?}"
        );
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
