//! MQTT messages without numbers of their own: what is taken for a repetition of the broker's, and what is not.

use super::*;

/// A message of two readings that nobody numbered, on the connection of that number.
fn mqtt(packet_id: u16, value: i64, connection: u32, is_dup: bool) -> Message {
    Message {
        origin: came(packet_id, 99, connection, is_dup),
        ..message(vec![reading("d", value, None), reading("e", value, None)])
    }
}

/// Commits the messages together; how many of them were new.
fn new(rig: &mut Rig, batch: &[Message]) -> u64 {
    let before = rig.lane.stat().stored;
    rig.commit(batch).unwrap();
    (rig.lane.stat().stored - before) / 2
}

#[test]
fn a_redelivered_mqtt_message_matches_once_on_a_connection_and_only_where_the_broker_may_repeat() {
    let mut rig = Rig::new(settings());
    let first = [mqtt(1, 10, 0, false), mqtt(2, 20, 0, false)];
    assert_eq!(new(&mut rig, &first), 2);
    assert_eq!(new(&mut rig, &[mqtt(1, 10, 0, false)]), 1);
    let mut rig = rig.killed();
    assert_eq!(new(&mut rig, &[mqtt(2, 20, 1, true)]), 0);
    // Matched once; other content or another packet id is no match.
    let others = [
        mqtt(2, 20, 1, true),
        mqtt(1, 11, 1, true),
        mqtt(3, 10, 1, true),
    ];
    assert_eq!(new(&mut rig, &others), 3);
}

/// Each repetition was matched once in a process: the acknowledgement of a repetition that was lost as well made
/// two readings of one.
#[test]
fn a_message_is_one_reading_over_any_number_of_broken_connections() {
    let messages = |connection: u32| -> Vec<_> {
        let is_dup = connection > 0;
        (0..40)
            .map(|n| mqtt(n + 1, n.into(), connection, is_dup))
            .collect()
    };
    let mut rig = Rig::new(settings());
    assert_eq!(new(&mut rig, &messages(0)), 40);
    for connection in 1..=3 {
        assert_eq!(new(&mut rig, &messages(connection)), 0, "{connection}");
    }
    let mut rig = rig.killed();
    for connection in 1..=3 {
        assert_eq!(
            new(&mut rig, &messages(connection)),
            0,
            "{connection}, killed"
        );
    }
    // Two connections may be in one group: the disk was slow.
    let mut rig = Rig::new(settings());
    let both: Vec<_> = (0..3).flat_map(messages).collect();
    assert_eq!(new(&mut rig, &both), 40);
}

/// A broker gives the id of a message to another once the message is acknowledged. One that takes the lowest free
/// id does so at once, and a door only ever says open and shut.
#[test]
fn a_message_whose_packet_id_went_to_another_is_not_taken_for_a_later_one_like_it() {
    let mut rig = Rig::new(settings());
    let heard = [mqtt(1, 0, 0, false), mqtt(1, 1, 0, false)];
    assert_eq!(new(&mut rig, &heard), 2);
    // Sent when the connection broke: this one never came.
    assert_eq!(new(&mut rig, &[mqtt(1, 0, 1, true)]), 1);
    assert_eq!(new(&mut rig, &[mqtt(1, 0, 2, true)]), 0);
}

#[test]
fn two_parts_of_one_packet_and_two_brokers_with_the_same_ids_do_not_disturb_each_other() {
    let part = |value, connection, is_dup, delivery| {
        let mut part = mqtt(1, value, connection, is_dup);
        if let Origin::Mqtt {
            delivery: place, ..
        } = &mut part.origin
        {
            *place = delivery;
        }
        part
    };
    let mut rig = Rig::new(settings());
    let both = [
        part(1, 0, false, Delivery::First),
        part(2, 0, false, Delivery::Further),
    ];
    assert_eq!(new(&mut rig, &both), 2);
    let mut elsewhere = mqtt(1, 3, 0, false);
    if let Origin::Mqtt { connection, .. } = &mut elsewhere.origin {
        connection.client = 4;
    }
    assert_eq!(new(&mut rig, &[elsewhere]), 1);
    let again = [
        part(1, 1, true, Delivery::Again),
        part(2, 1, true, Delivery::Again),
    ];
    assert_eq!(new(&mut rig, &again), 0);
}
