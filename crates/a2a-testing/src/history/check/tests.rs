//! Each anomaly, put into a clean history, is found; the clean history is clean.

use super::*;

const MS: u64 = 1_000_000;
const BOUND: Duration = Duration::from_secs(1);

fn op(process: &str, start_ms: u64, end_ms: u64, kind: OpKind) -> Op {
    Op { process: process.into(), start_ns: start_ms * MS, end_ns: end_ms * MS, key: "k".into(), kind }
}

fn write(process: &str, start: u64, value: &str, expected_revision: u64, outcome: Outcome) -> Op {
    let kind = OpKind::Write { value: value.into(), expected_revision, outcome };
    op(process, start, start + 10, kind)
}

fn committed(process: &str, start: u64, value: &str, revision: u64) -> Op {
    write(process, start, value, revision - 1, Outcome::Committed { revision })
}

fn read(process: &str, start: u64, revision: u64, values: &[&str]) -> Op {
    let values = values.iter().map(|value| (*value).into()).collect();
    op(process, start, start + 1, OpKind::Read { revision, values })
}

fn state(revision: u64, values: &[&str]) -> FinalState {
    let values: Vec<String> = values.iter().map(|value| (*value).into()).collect();
    FinalState::from([("k".into(), (revision, values).into())])
}

/// Two processes, every outcome, reads that lag within the bound.
fn clean() -> (Vec<Op>, FinalState) {
    let ops = vec![
        read("p", 0, 1, &[]),
        committed("p", 10, "a", 2),
        read("p", 30, 2, &["a"]),
        read("q", 40, 1, &[]),
        write("q", 50, "x", 1, Outcome::Conflict { current: 2 }),
        write("q", 70, "y", 2, Outcome::Failed),
        write("q", 90, "b", 2, Outcome::Unknown),
        write("p", 110, "z", 3, Outcome::Unknown),
        read("p", 130, 3, &["a", "b"]),
        committed("q", 150, "c", 4),
        read("q", 170, 4, &["a", "b", "c"]),
        read("p", 1100, 3, &["a", "b"]),
        read("p", 3000, 4, &["a", "b", "c"]),
    ];
    (ops, state(4, &["a", "b", "c"]))
}

fn anomalies_with(change: impl FnOnce(&mut Vec<Op>, &mut FinalState)) -> Vec<String> {
    let (mut ops, mut last) = clean();
    change(&mut ops, &mut last);
    let mut names: Vec<String> = check(&ops, &last, BOUND)
        .iter()
        .map(|anomaly| format!("{anomaly:?}").split([' ', '{']).next().unwrap().to_owned())
        .collect();
    names.dedup();
    names
}

#[test]
fn a_clean_history_is_clean() {
    let (ops, last) = clean();
    assert_eq!(check(&ops, &last, BOUND), []);
    assert_eq!(check(&[], &FinalState::new(), BOUND), []);
}

#[test]
fn a_committed_value_missing_at_the_end_is_a_lost_write() {
    let found = anomalies_with(|ops, _| ops.push(committed("s", 6000, "d", 5)));
    assert_eq!(found, ["LostWrite", "WrongRevision"]);
    let found = anomalies_with(|ops, last| {
        ops.push(committed("s", 6000, "d", 5));
        last.get_mut("k").unwrap().revision = 5;
    });
    assert_eq!(found, ["LostWrite"]);
}

#[test]
fn the_loss_of_a_whole_key_is_a_lost_write() {
    let found = anomalies_with(|_, last| last.clear());
    assert!(found.contains(&"LostWrite".to_owned()), "{found:?}");
}

#[test]
fn a_value_that_nobody_wrote_is_a_phantom() {
    assert_eq!(anomalies_with(|_, last| last.get_mut("k").unwrap().values.push("w".into())), ["Phantom"]);
    let found = anomalies_with(|ops, _| ops.push(read("p", 4000, 5, &["a", "b", "c", "w"])));
    assert_eq!(found, ["Phantom"]);
}

#[test]
fn a_value_whose_write_was_reported_as_not_done_is_a_phantom() {
    for value in ["x", "y"] {
        assert_eq!(anomalies_with(|_, last| last.get_mut("k").unwrap().values.push(value.into())), ["Phantom"]);
    }
}

#[test]
fn a_value_that_is_read_before_its_write_begins_is_a_phantom() {
    let found = anomalies_with(|ops, _| ops.push(read("r", 80, 3, &["a", "b"])));
    assert_eq!(found, ["Phantom"]);
}

#[test]
fn a_second_attempt_may_do_what_the_first_did_not() {
    let found = anomalies_with(|ops, last| {
        ops.push(committed("s", 6000, "x", 5));
        *last = state(5, &["a", "b", "c", "x"]);
    });
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn a_read_value_that_is_never_committed_is_a_dirty_read() {
    let found = anomalies_with(|ops, _| ops.push(read("r", 190, 5, &["a", "b", "c", "z"])));
    assert_eq!(found, ["DirtyRead"]);
}

#[test]
fn a_commit_unseen_after_the_bound_is_a_stale_read() {
    let at_bound = anomalies_with(|ops, _| ops.push(read("r", 1160, 3, &["a", "b"])));
    assert_eq!(at_bound, Vec::<String>::new());
    let beyond = anomalies_with(|ops, _| ops.push(read("r", 1161, 3, &["a", "b"])));
    assert_eq!(beyond, ["StaleRead"]);
    let key_unseen = anomalies_with(|ops, _| ops.push(read("r", 5000, 0, &[])));
    assert_eq!(key_unseen, ["StaleRead"]);
}

#[test]
fn an_own_commit_must_be_seen_at_once() {
    let found = anomalies_with(|ops, _| {
        // Not a revision of the past, so only the missing value tells.
        ops.retain(|op| !(op.process == "q" && op.start_ns == 170 * MS));
        ops.push(read("q", 165, 4, &["a", "b"]));
        ops.retain(|op| op.start_ns < 1000 * MS);
    });
    assert_eq!(found, ["OwnWriteUnseen"]);
}

#[test]
fn an_older_revision_after_a_newer_one_in_a_process_is_found() {
    let found = anomalies_with(|ops, _| ops.push(read("p", 140, 2, &["a"])));
    assert_eq!(found, ["RevisionWentBack"]);
    // Reads that overlap have no order.
    let (start, end) = (129, 160);
    let overlapping = OpKind::Read { revision: 2, values: vec!["a".into()] };
    assert_eq!(anomalies_with(|ops, _| ops.push(op("p", start, end, overlapping))), Vec::<String>::new());
}

#[test]
fn a_revision_older_than_an_own_commit_is_found() {
    let found = anomalies_with(|ops, _| ops.push(read("p", 25, 1, &[])));
    assert_eq!(found, ["OwnWriteUnseen", "RevisionWentBack"]);
}

#[test]
fn two_winners_on_one_revision_are_a_lost_update() {
    let same_expected = anomalies_with(|ops, last| {
        ops.push(write("s", 6000, "d", 3, Outcome::Committed { revision: 5 }));
        *last = state(5, &["a", "b", "c", "d"]);
    });
    assert_eq!(same_expected, ["LostUpdate"]);
    let same_made = anomalies_with(|ops, last| {
        ops.push(write("s", 6000, "d", 2, Outcome::Committed { revision: 4 }));
        *last = state(5, &["a", "b", "c", "d"]);
    });
    assert_eq!(same_made, ["LostUpdate"]);
}

#[test]
fn a_commit_that_does_not_raise_the_revision_is_found() {
    let found = anomalies_with(|ops, last| {
        ops.push(write("s", 6000, "d", 5, Outcome::Committed { revision: 5 }));
        *last = state(5, &["a", "b", "c", "d"]);
    });
    assert_eq!(found, ["WrongRevision"]);
}

#[test]
fn a_value_that_is_there_twice_was_applied_twice() {
    let at_the_end = anomalies_with(|_, last| *last = state(5, &["a", "b", "c", "b"]));
    assert_eq!(at_the_end, ["AppliedTwice"]);
    let in_a_read = anomalies_with(|ops, _| ops.push(read("r", 300, 5, &["a", "b", "c", "c"])));
    assert_eq!(in_a_read, ["AppliedTwice"]);
}

#[test]
fn another_order_or_a_gap_is_an_order_violation() {
    for list in [&["b", "a", "c"][..], &["a", "c"], &["c"]] {
        let found = anomalies_with(|ops, _| ops.push(read("r", 300, 9, list)));
        assert_eq!(found, ["OrderViolation"], "{list:?}");
    }
}

#[test]
fn two_lists_at_one_revision_are_ambiguous() {
    let found = anomalies_with(|ops, _| ops.push(read("r", 300, 4, &["a", "b"])));
    assert_eq!(found, ["RevisionAmbiguous"]);
}

#[test]
fn keys_are_checked_apart() {
    let found = anomalies_with(|ops, last| {
        let mut other = read("p", 5000, 1, &[]);
        other.key = "other".into();
        ops.push(other);
        last.insert("other".into(), (1, vec![]).into());
    });
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn an_anomaly_says_what_happened() {
    let (mut ops, mut last) = clean();
    ops.push(committed("s", 6000, "d", 5));
    last.get_mut("k").unwrap().revision = 5;
    let texts: Vec<String> = check(&ops, &last, BOUND).iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["lost write: s was told that d is committed in k as revision 5, and it is not there"]);
}

#[test]
fn a_long_history_is_checked_quickly() {
    let count = 100_000;
    let mut ops = Vec::with_capacity(2 * count);
    let mut last = FinalState::new();
    for n in 0..count {
        let key = format!("k{}", n % 2_000);
        let value = last.entry(key.clone()).or_default();
        value.revision += 1;
        value.values.push(format!("v{n}"));
        let mut done = committed(&format!("p{}", n % 4), n as u64, &format!("v{n}"), value.revision);
        done.key.clone_from(&key);
        let mut seen = read(&format!("p{}", n % 3), n as u64 + 20, value.revision, &[]);
        if let OpKind::Read { values, .. } = &mut seen.kind {
            values.clone_from(&value.values);
        }
        seen.key = key;
        ops.extend([done, seen]);
    }
    let started = std::time::Instant::now();
    assert_eq!(check(&ops, &last, BOUND), []);
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
}
