use super::*;

fn partition() -> Partition {
    Partition {
        topic: "t".into(),
        number: 0,
    }
}

fn message(offset: i64) -> Message {
    let at = Coordinates {
        partition: partition(),
        offset,
        timestamp_ms: Some(7),
    };
    let value = offset.to_string();
    Message::new(at, Some(b"gw7"), Some(value.as_bytes()), std::iter::empty())
}

fn note(checkpoints: &mut Checkpoints, offset: i64) {
    let id = format!("gw7:000000000001:{offset:012x}");
    let message = message(offset);
    checkpoints.note(&message.at, &id.parse().unwrap(), Verdict::Present(None));
}

fn only(mut work: Vec<Progress>) -> Progress {
    assert_eq!(work.len(), 1);
    work.pop().unwrap()
}

#[test]
fn a_checkpoint_carries_what_came_since_the_last_and_a_mark_of_its_life() {
    let start = Instant::now();
    let mut checkpoints = Checkpoints::new(start);
    checkpoints.taken(partition(), 3, None);
    assert_eq!(checkpoints.due(start), None);
    for offset in 0..3 {
        checkpoints.read(&message(offset));
        note(&mut checkpoints, offset);
    }
    checkpoints.advanced(&partition(), 2);
    assert_eq!(checkpoints.due(start), Some(start + EVERY));
    let first = only(checkpoints.take(start, |_| true));
    assert_eq!((first.fence, first.next), (3, Some(2)));
    assert_eq!(first.mark, Some(Mark::of(&message(0))));
    assert_eq!(first.coverage.len(), 1);
    assert!(!checkpoints.is_settled(&partition()), "under way");

    // One at a time for a partition.
    checkpoints.advanced(&partition(), 3);
    assert_eq!(checkpoints.due(start), None);
    assert!(checkpoints.take(start, |_| true).is_empty());
    checkpoints.finished(&first, Written::Yes);
    let second = only(checkpoints.take(start, |_| true));
    // Nothing new of the stream, but whether it has a gap could not be told before.
    assert_eq!((second.next, second.coverage.len()), (Some(3), 1));
    checkpoints.finished(&second, Written::Yes);
    assert!(checkpoints.all_settled());
}

#[test]
fn a_fenced_partition_is_not_written_any_more() {
    let mut checkpoints = Checkpoints::new(Instant::now());
    checkpoints.taken(partition(), 3, None);
    checkpoints.advanced(&partition(), 5);
    let old = only(checkpoints.take(Instant::now(), |_| true));
    checkpoints.finished(&old, Written::Fenced);
    checkpoints.advanced(&partition(), 6);
    assert!(checkpoints.take(Instant::now(), |_| true).is_empty());
    assert!(checkpoints.all_settled());

    // Taken again, it has a higher fence; the end of the former life changes nothing.
    checkpoints.taken(partition(), 8, None);
    checkpoints.advanced(&partition(), 6);
    let new = only(checkpoints.take(Instant::now(), |_| true));
    checkpoints.finished(&old, Written::Fenced);
    assert!(!checkpoints.is_settled(&partition()));
    checkpoints.finished(&new, Written::Yes);
    assert!(checkpoints.all_settled());
}

#[test]
fn a_topic_made_anew_ends_a_life_and_goes_back() {
    let mut checkpoints = Checkpoints::new(Instant::now());
    checkpoints.taken(partition(), 1, None);
    checkpoints.read(&message(4));
    checkpoints.advanced(&partition(), 5);
    checkpoints.gap(&partition(), Gap { from: 5, to: 0 });
    let progress = only(checkpoints.take(Instant::now(), |_| true));
    let found = (progress.next, progress.mark, progress.ended());
    assert_eq!(found, (Some(0), None, Some(5)));
}

#[test]
fn a_mark_gives_way_only_to_a_record_that_was_read_before_it_was_seen_again() {
    let mark = |offset| Mark::of(&message(offset));
    let mut checkpoints = Checkpoints::new(Instant::now());
    checkpoints.taken(partition(), 4, Some(mark(7)));
    let look = |checkpoints: &mut Checkpoints| {
        let mut looks = checkpoints.look();
        assert_eq!(looks.len(), 1);
        looks.remove(0)
    };
    checkpoints.read(&message(8));
    checkpoints.read(&message(9));
    let first = look(&mut checkpoints);
    assert_eq!((first.mark, first.fence), (mark(7), 4));
    // Read while the look is under way: it may be of a life that the look did not see.
    checkpoints.read(&message(10));
    // No answer, another try.
    assert_eq!(look(&mut checkpoints), first);
    assert!(!checkpoints.looked(&first, Found::Same));
    let second = look(&mut checkpoints);
    assert_eq!(second.mark, mark(8));
    // The proof is gone with the record.
    assert!(!checkpoints.looked(&second, Found::Gone));
    let third = look(&mut checkpoints);
    assert_eq!(third.mark, mark(10));
    assert!(!checkpoints.looked(&third, Found::Same));
    assert_eq!(look(&mut checkpoints), third, "nothing was read since");

    // What was asked for by an assignment that went says nothing of the one that came.
    let stale = Look {
        fence: 3,
        ..third.clone()
    };
    assert!(!checkpoints.looked(&stale, Found::Another));
    for _ in 0..2 {
        assert!(checkpoints.looked(&third, Found::Another));
        checkpoints.read(&message(90));
        assert_eq!(look(&mut checkpoints), third, "until it is taken again");
    }
}

#[test]
fn another_record_at_its_offset_or_none_so_far_is_a_new_life_and_a_later_one_says_nothing() {
    let mark = Mark::new(5, Some(7), None, Some(b"v"));
    for (record, found) in [
        (mark, Found::Same),
        (Mark::new(5, Some(8), None, Some(b"v")), Found::Another),
        (Mark::new(5, Some(7), None, Some(b"w")), Found::Another),
        (Mark::new(0, Some(9), None, Some(b"v")), Found::Another),
        (Mark::new(6, Some(7), None, Some(b"v")), Found::Gone),
    ] {
        assert_eq!(Found::at(mark, record), found, "{record:?}");
    }
}

#[test]
fn a_lease_is_given_back_with_the_last_checkpoint_and_only_when_nothing_is_in_flight() {
    let now = Instant::now();
    let mut checkpoints = Checkpoints::new(now);
    checkpoints.taken(partition(), 1, None);
    checkpoints.leased(&partition());
    checkpoints.advanced(&partition(), 5);
    let usual = only(checkpoints.take(now, |_| true));
    assert!(!usual.release);
    checkpoints.finished(&usual, Written::Yes);
    assert!(checkpoints.all_settled());

    checkpoints.ending(None);
    assert!(!checkpoints.is_settled(&partition()), "the lease");
    let early = only(checkpoints.take(now, |_| false));
    assert!(!early.release, "a record is in flight");
    checkpoints.finished(&early, Written::Yes);
    let last = only(checkpoints.take(now, |_| true));
    assert!(last.release);
    checkpoints.finished(&last, Written::Yes);
    assert!(checkpoints.all_settled());
}

#[test]
fn a_gap_travels_with_the_checkpoint_that_passes_it() {
    let start = Instant::now();
    let mut checkpoints = Checkpoints::new(start);
    checkpoints.taken(partition(), 1, None);
    let gap = Gap { from: 5, to: 90 };
    checkpoints.gap(&partition(), gap);
    assert_eq!(checkpoints.due(start), Some(start), "a person should know");
    checkpoints.advanced(&partition(), 90);
    let progress = only(checkpoints.take(start, |_| true));
    assert_eq!((progress.next, progress.ended()), (Some(90), None));
    assert_eq!(progress.gaps, [gap]);
    assert!(!checkpoints.is_settled(&partition()), "not durable yet");
    checkpoints.finished(&progress, Written::Yes);
    assert!(checkpoints.take(start, |_| true).is_empty(), "once");
}

#[test]
fn many_streams_are_written_at_once() {
    let mut checkpoints = Checkpoints::new(Instant::now());
    checkpoints.taken(partition(), 1, None);
    for epoch in 0..MAX_STREAMS {
        let id = format!("gw7:{epoch:012x}:000000000000");
        let verdict = Verdict::Present(None);
        checkpoints.note(&message(0).at, &id.parse().unwrap(), verdict);
    }
    let now = Instant::now();
    assert_eq!(checkpoints.due(now), Some(now));
}
