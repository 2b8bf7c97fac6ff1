//! Tables of what is wanted, what is found, and what there is to do.

use std::time::Duration;

use super::*;

fn topic(role: Role) -> Wanted {
    Wanted {
        name: "t".into(),
        role,
        partitions: None,
        replication: None,
        retention: None,
        max_message_bytes: None,
    }
}

fn found(settings: &[(&str, &str, bool)]) -> Found {
    let setting = |(name, value, is_own): &(&str, &str, bool)| {
        let value = (*value).to_owned();
        (
            (*name).to_owned(),
            Setting {
                value,
                is_own: *is_own,
            },
        )
    };
    Found {
        partitions: 3,
        replication: 3,
        settings: Some([STAMPED].iter().chain(settings).map(setting).collect()),
    }
}

const STAMPED: (&str, &str, bool) = ("message.timestamp.type", "LogAppendTime", false);
const WEEK: (&str, &str, bool) = ("retention.ms", "604800000", false);
const DELETE: (&str, &str, bool) = ("cleanup.policy", "delete", false);

/// What a plan says, in the order in which it is shown.
fn said(plan: &Plan) -> Vec<String> {
    let changes = plan.changes.iter().map(ToString::to_string);
    let refusals = plan.refusals.iter().map(|refusal| refusal.message.clone());
    changes.chain(refusals).collect()
}

#[test]
fn a_topic_that_is_missing_is_made_as_its_use_demands() {
    let create = |wanted: &Wanted| said(&plan(wanted, &Seen::Missing, false));
    assert_eq!(
        create(&topic(Role::Readings)),
        [
            "create with 6 partitions, the cluster's replication, cleanup.policy delete, message.timestamp.type LogAppendTime"
        ]
    );
    assert_eq!(
        create(&topic(Role::Facts)),
        ["create with 1 partition, the cluster's replication, cleanup.policy compact"]
    );
    let declared = Wanted {
        partitions: Some(12),
        replication: Some(3),
        retention: Some(Retention::For(Duration::from_secs(14 * 86_400))),
        max_message_bytes: Some(2 << 20),
        ..topic(Role::DeadLetters)
    };
    assert_eq!(
        create(&declared),
        [
            "create with 12 partitions, replication 3, cleanup.policy delete, max.message.bytes 2MiB, retention.ms 14d"
        ]
    );
}

#[test]
fn only_what_differs_is_changed_and_what_else_is_set_stays() {
    let wanted = Wanted {
        retention: Some(Retention::Forever),
        max_message_bytes: Some(1 << 20),
        ..topic(Role::Readings)
    };
    let there = found(&[
        DELETE,
        ("retention.ms", "604800000", true),
        ("max.message.bytes", "1048576", false),
        ("segment.ms", "3600000", true),
    ]);
    let plan = plan(&wanted, &Seen::There(there), false);
    assert_eq!(said(&plan), ["alter retention.ms 7d -> for ever"]);
    let [Change::Set { all, .. }] = &plan.changes[..] else {
        panic!("{plan:?}");
    };
    let expected = [("retention.ms", "-1"), ("segment.ms", "3600000")];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(*all, BTreeMap::from(expected));
}

#[test]
fn how_a_topic_is_cleaned_is_not_up_to_anybody() {
    for (role, policy, expected) in [
        (Role::Readings, "delete", None),
        (
            Role::Readings,
            "compact",
            Some("alter cleanup.policy compact -> delete"),
        ),
        (
            Role::Readings,
            "compact,delete",
            Some("alter cleanup.policy compact,delete -> delete"),
        ),
        (Role::Facts, "compact", None),
        (
            Role::Facts,
            "delete",
            Some("alter cleanup.policy delete -> compact"),
        ),
        (
            Role::Facts,
            "delete,compact",
            Some("alter cleanup.policy delete,compact -> compact"),
        ),
        (
            Role::DeadLetters,
            "compact",
            Some("alter cleanup.policy compact -> delete"),
        ),
    ] {
        let there = Seen::There(found(&[WEEK, ("cleanup.policy", policy, true)]));
        let plan = plan(&topic(role), &there, false);
        assert_eq!(
            said(&plan).first().map(String::as_str),
            expected,
            "{role:?} {policy}"
        );
    }
}

#[test]
fn readings_are_stamped_by_the_brokers_and_by_no_gateway_s_clock() {
    let by_gateways = ("message.timestamp.type", "CreateTime", false);
    let there = || Seen::There(found(&[WEEK, DELETE, by_gateways]));
    assert_eq!(
        said(&plan(&topic(Role::Readings), &there(), false)),
        ["alter message.timestamp.type CreateTime -> LogAppendTime"]
    );
    assert!(said(&plan(&topic(Role::DeadLetters), &there(), false)).is_empty());
}

#[test]
fn partitions_are_added_only_on_purpose_and_never_taken_away() {
    for (declared, on_purpose, expected) in [
        (None, false, ""),
        (Some(3), false, ""),
        (
            Some(6),
            false,
            "has 3 partitions, not 6: with more, gateways move",
        ),
        (Some(6), true, "add partitions 3 -> 6"),
        (Some(1), true, "has 3 partitions, more than 1"),
    ] {
        let wanted = Wanted {
            partitions: declared,
            ..topic(Role::Readings)
        };
        let there = Seen::There(found(&[WEEK, DELETE]));
        let said = said(&plan(&wanted, &there, on_purpose)).join("\n");
        assert!(said.starts_with(expected), "{declared:?}: {said}");
        assert_eq!(said.is_empty(), expected.is_empty(), "{declared:?}: {said}");
    }
}

#[test]
fn copies_are_somebody_elses_business() {
    let wanted = Wanted {
        replication: Some(1),
        ..topic(Role::Readings)
    };
    let plan = plan(&wanted, &Seen::There(found(&[WEEK, DELETE])), true);
    assert_eq!(said(&plan), ["has replication 3, not 1"]);
    assert!(
        plan.refusals[0].fix.contains("declare replication = 3"),
        "{plan:?}"
    );
}

#[test]
fn the_week_that_nobody_chose_is_explained_where_it_bites() {
    let note = |role, retention, declared| {
        let wanted = Wanted {
            retention: declared,
            ..topic(role)
        };
        let plan = plan(&wanted, &Seen::There(found(&[retention, DELETE])), false);
        plan.notes.join("\n")
    };
    let week = note(Role::Readings, WEEK, None);
    assert!(
        week.starts_with(
            "retention 7d (the cluster's default): a sink that is away for longer loses"
        ),
        "{week}"
    );
    let own = note(Role::Readings, ("retention.ms", "3600000", true), None);
    assert!(
        own.starts_with("retention 1h (nobody declared it)"),
        "{own}"
    );
    let for_ever = note(Role::Readings, ("retention.ms", "-1", true), None);
    assert!(for_ever.starts_with("kept for ever"), "{for_ever}");
    let declared = Some(Retention::For(Duration::from_secs(7 * 86_400)));
    assert_eq!(note(Role::Readings, WEEK, declared), "");
    assert_eq!(note(Role::DeadLetters, WEEK, None), "");
}

#[test]
fn what_may_not_be_seen_is_said_and_not_guessed() {
    let hidden = Found {
        settings: None,
        ..found(&[])
    };
    let plan = plan(&topic(Role::Facts), &Seen::There(hidden), false);
    assert!(
        plan.changes.is_empty() && plan.refusals.is_empty(),
        "{plan:?}"
    );
    assert_eq!(
        plan.notes,
        ["its settings may not be seen, so they are not compared"]
    );
    let denied = super::plan(&topic(Role::Facts), &Seen::Denied, false);
    assert_eq!(said(&denied), ["may not be seen"]);
}
