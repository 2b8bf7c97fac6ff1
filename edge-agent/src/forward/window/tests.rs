//! Tables, and a topic played by hand.

use super::*;

fn acknowledge(count: usize, offsets: &[(i32, i64)]) -> Next {
    Next::Acknowledge {
        count,
        offsets: offsets.iter().copied().collect(),
    }
}

fn restart(failure: Failure) -> Next {
    let refused = false;
    Next::Restart { failure, refused }
}

fn send(window: &mut Window, records: usize, bytes: usize) -> Vec<usize> {
    (0..records)
        .map(|_| {
            let ticket = window.ticket();
            window.sent(bytes);
            ticket
        })
        .collect()
}

/// Brings one record through.
fn prove(window: &mut Window, now: Instant) {
    let tickets = send(window, 1, 1);
    window.delivered(tickets[0], 0, 0);
    assert_eq!(window.next(now), acknowledge(1, &[(0, 0)]));
}

#[test]
fn only_the_contiguous_prefix_is_acknowledged_with_the_highest_offset_per_partition() {
    let now = Instant::now();
    for (delivered, expected, then) in [
        (vec![], None, None),
        (vec![(1, 0, 11)], None, None),
        (vec![(0, 0, 10)], Some((1, vec![(0, 10)])), None),
        (vec![(1, 0, 11), (0, 0, 10)], Some((2, vec![(0, 11)])), None),
        (
            vec![(0, 0, 10), (2, 0, 12)],
            Some((1, vec![(0, 10)])),
            Some((1, 0, 11)),
        ),
        (
            vec![(0, 0, 10), (1, 3, 7), (2, 0, 9)],
            Some((3, vec![(0, 10), (3, 7)])),
            None,
        ),
        (vec![(3, 0, 1), (usize::MAX, 0, 1)], None, None),
    ] {
        let mut window = Window::new(FULL_BATCH_BYTES);
        send(&mut window, 3, 100);
        for (ticket, partition, offset) in &delivered {
            window.delivered(*ticket, *partition, *offset);
        }
        let expected = match expected {
            Some((count, offsets)) => acknowledge(count, &offsets),
            None => Next::Send(TRIAL_RECORDS - 3),
        };
        assert_eq!(window.next(now), expected, "{delivered:?}");
        if let Some((ticket, partition, offset)) = then {
            window.delivered(ticket, partition, offset);
            assert_eq!(window.next(now), acknowledge(2, &[(0, 12)]));
        }
    }
}

#[test]
fn tickets_may_wrap_around() {
    let now = Instant::now();
    let mut window = Window::new(FULL_BATCH_BYTES);
    window.first = usize::MAX;
    let tickets = send(&mut window, 3, 1);
    assert_eq!(tickets, [usize::MAX, 0, 1]);
    for ticket in tickets {
        window.delivered(ticket, 0, 5);
    }
    assert_eq!(window.next(now), acknowledge(3, &[(0, 5)]));
}

#[test]
fn what_is_under_way_is_bounded_in_records_and_bytes() {
    let now = Instant::now();
    let mut window = Window::new(FULL_BATCH_BYTES);
    prove(&mut window, now);
    assert_eq!(window.next(now), Next::Send(MAX_RECORDS));
    send(&mut window, MAX_RECORDS, 1);
    assert_eq!(window.next(now), Next::Full);
    let mut window = Window::new(FULL_BATCH_BYTES);
    send(&mut window, 1, MAX_BYTES);
    assert_eq!(window.next(now), Next::Full);
}

#[test]
fn a_producer_gets_many_records_only_once_it_has_brought_one_through() {
    let now = Instant::now();
    let mut window = Window::new(FULL_BATCH_BYTES);
    assert_eq!(window.next(now), Next::Send(TRIAL_RECORDS));
    let tickets = send(&mut window, TRIAL_RECORDS, 100);
    // However long: a broker that is dead is given no more.
    let later = now + Duration::from_secs(3600);
    assert_eq!(window.next(later), Next::Full);
    window.delivered(tickets[0], 0, 7);
    assert_eq!(window.next(later), acknowledge(1, &[(0, 7)]));
    let room = MAX_RECORDS - TRIAL_RECORDS + 1;
    assert_eq!(window.next(later), Next::Send(room));
    // The next producer has not.
    window.failed(Failure::Broken);
    assert_eq!(window.next(later), restart(Failure::Broken));
    window.restarted();
    let later = later + BROKEN.1;
    assert_eq!(window.next(later), Next::Send(TRIAL_RECORDS));
}

#[test]
fn what_was_delivered_before_a_failure_is_settled_first() {
    let now = Instant::now();
    let mut window = Window::new(FULL_BATCH_BYTES);
    send(&mut window, 3, 100);
    window.delivered(0, 0, 10);
    window.failed(Failure::Broken);
    assert_eq!(window.next(now), acknowledge(1, &[(0, 10)]));
    assert_eq!(window.next(now), restart(Failure::Broken));
    window.restarted();
    assert_eq!(window.len(), 0);
}

#[test]
fn an_end_waits_a_little_for_its_cause() {
    let now = Instant::now();
    for (under_way, cause, after_ms, expected) in [
        (1, None, 0, Next::Hold(now + CAUSE)),
        (1, None, 499, Next::Hold(now + CAUSE)),
        (1, None, 500, restart(Failure::Ended)),
        (1, Some(Failure::TooLarge), 1, restart(Failure::TooLarge)),
        (1, Some(Failure::Denied), 1, restart(Failure::Denied)),
        (1, Some(Failure::Broken), 1, restart(Failure::Broken)),
        (0, None, 0, restart(Failure::Ended)),
    ] {
        let mut window = Window::new(FULL_BATCH_BYTES);
        send(&mut window, under_way, 100);
        window.failed(Failure::Ended);
        if under_way > 0 {
            assert_eq!(window.next(now), Next::Hold(now + CAUSE));
            assert_eq!(window.room(), 0);
        }
        cause.map(|cause| window.failed(cause));
        let later = now + Duration::from_millis(after_ms);
        assert_eq!(
            window.next(later),
            expected,
            "{cause:?} after {after_ms} ms"
        );
    }
}

#[test]
fn pauses_grow_with_each_failure_and_start_anew_after_a_delivery() {
    for (failure, pauses_ms) in [
        (
            Failure::Broken,
            [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000],
        ),
        (
            Failure::Denied,
            [
                1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000, 60_000,
            ],
        ),
    ] {
        let now = Instant::now();
        let mut window = Window::new(FULL_BATCH_BYTES);
        for pause in pauses_ms.map(Duration::from_millis) {
            window.failed(failure);
            assert_eq!(window.next(now), restart(failure));
            window.restarted();
            assert_eq!(window.next(now), Next::Hold(now + pause), "{failure:?}");
            assert!(matches!(window.next(now + pause), Next::Send(_)));
            window.sent(1);
        }
        window.restarted();
        window.sent(1);
        window.delivered(0, 0, 1);
        assert_eq!(window.next(now), acknowledge(1, &[(0, 1)]));
        window.failed(failure);
        window.next(now);
        let first = now + Duration::from_millis(pauses_ms[0]);
        assert_eq!(window.next(now), Next::Hold(first));
    }
}

#[test]
fn after_a_denial_one_record_probes_and_then_batches_return() {
    let now = Instant::now();
    let mut window = Window::new(FULL_BATCH_BYTES);
    send(&mut window, 50, 100);
    // Of several failures the gravest counts: purged records follow the one that was denied.
    window.failed(Failure::Denied);
    window.failed(Failure::Broken);
    assert_eq!(window.next(now), restart(Failure::Denied));
    window.restarted();
    let later = now + Duration::from_secs(1);
    assert_eq!(window.next(later), Next::Send(1));
    window.sent(100);
    assert_eq!(window.next(later), Next::Full);
    window.delivered(0, 0, 0);
    assert_eq!(window.next(later), acknowledge(1, &[(0, 0)]));
    assert_eq!(window.next(later), Next::Send(MAX_RECORDS));
    assert_eq!(window.batch_bytes(), FULL_BATCH_BYTES);
}

/// Plays a topic that refuses every batch above `batch_limit` bytes and every record above
/// `record_limit`; returns what was delivered, what was refused, and how many producers it took.
fn play(records: &[usize], batch_limit: usize, record_limit: usize) -> (usize, Vec<usize>, usize) {
    let now = Instant::now();
    let mut window = Window::new(FULL_BATCH_BYTES);
    let (mut front, mut handed_out, mut delivered, mut restarts) = (0, 0, 0, 0);
    let mut refused_records = Vec::new();
    for _ in 0..100_000 {
        if front == records.len() {
            return (delivered, refused_records, restarts);
        }
        match window.next(now) {
            Next::Acknowledge { count, .. } => {
                delivered += count;
                front += count;
            }
            Next::Restart { refused, .. } => {
                restarts += 1;
                if refused {
                    refused_records.push(front);
                    front += 1;
                }
                window.restarted();
                handed_out = front;
            }
            Next::Send(room) if handed_out < records.len() => {
                let end = records.len().min(handed_out + room);
                for bytes in &records[handed_out..end] {
                    window.sent(*bytes);
                }
                handed_out = end;
            }
            Next::Hold(_) => panic!("too large is no reason to wait"),
            Next::Send(_) | Next::Full => {
                // The broker looks at the oldest batch as librdkafka would cut it.
                let mut batch = (0, 0);
                for bytes in &records[front..handed_out] {
                    if batch.0 > 0 && batch.1 + bytes > window.batch_bytes() {
                        break;
                    }
                    batch = (batch.0 + 1, batch.1 + bytes);
                }
                let largest = records[front..front + batch.0].iter().max();
                if batch.1 > batch_limit || largest > Some(&record_limit) {
                    window.failed(Failure::TooLarge);
                } else {
                    for ticket in 0..batch.0 {
                        window.delivered(window.first.wrapping_add(ticket), 0, 0);
                    }
                }
            }
        }
    }
    panic!("no end: {window:?}");
}

#[test]
fn a_batch_that_is_too_large_costs_no_record_and_smaller_ones_are_learnt() {
    let (delivered, refused, restarts) = play(&[300; 20_000], 100_000, 100_000);
    assert_eq!((delivered, refused), (20_000, vec![]));
    assert!(restarts <= 4, "{restarts}");
}

#[test]
fn exactly_the_records_that_are_too_large_are_lost() {
    let mut records = vec![300; 10_000];
    records[0] = 3000;
    records[4321] = 3000;
    records[9999] = 3000;
    let (delivered, refused, restarts) = play(&records, usize::MAX, 2999);
    assert_eq!(delivered, 9997);
    assert_eq!(refused, [0, 4321, 9999]);
    assert!(restarts < 40, "{restarts}");
}

#[test]
fn a_topic_that_takes_nothing_loses_one_at_a_time() {
    let (delivered, refused, _) = play(&[300; 30], 200, 200);
    assert_eq!(delivered, 0);
    assert_eq!(refused.len(), 30);
}
