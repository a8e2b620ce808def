use super::*;

/// A row of a table: what is named, and the rest empty.
fn row(table: &str, set: &[(&str, Value)]) -> (usize, String) {
    let table = index(table);
    let mut fields = Fields { table, values: vec![Value::Null; TABLES[table].columns.len()] };
    for (column, value) in set {
        assert!(fields.place(column).is_some(), "{column}");
        fields.set(column, value.clone());
    }
    (table, fields.row())
}

fn agent(id: &str, revision: i64, description: &str) -> (usize, String) {
    row("agents", &agent_fields(id, revision, description))
}

fn history(id: &str, revision: i64, description: &str) -> (usize, String) {
    row("agent_history", &agent_fields(id, revision, description))
}

fn agent_fields<'a>(id: &str, revision: i64, description: &str) -> Vec<(&'a str, Value)> {
    vec![
        ("namespace", "default".into()),
        ("id", id.into()),
        ("revision", revision.into()),
        ("description", description.into()),
        ("updated_at", revision.into()),
    ]
}

fn memory(id: &str, revision: i64, content: &str, accesses: i64) -> (usize, String) {
    row(
        "memories",
        &[("id", id.into()), ("revision", revision.into()), ("content", content.into()), ("accesses", accesses.into())],
    )
}

fn run(id: &str, revision: i64, status: &str, key: Option<&str>) -> (usize, String) {
    row(
        "runs",
        &[
            ("id", id.into()),
            ("namespace", "default".into()),
            ("revision", revision.into()),
            ("status", status.into()),
            ("idempotency_key", key.into()),
        ],
    )
}

fn step(run: &str, ord: i64, status: &str) -> (usize, String) {
    row("steps", &[("run_id", run.into()), ("ord", ord.into()), ("status", status.into())])
}

type Table = Vec<(usize, String)>;

fn side(base: &Base, rows: &Table) -> Changes {
    let mut side = Side::new(base);
    let mut rows = rows.clone();
    rows.sort_by_key(|row| row.0);
    rows.iter().for_each(|(table, row)| side.add(*table, row).unwrap());
    side.finish()
}

fn applied(to: &Table, rows: &Rows) -> Vec<String> {
    let key = |(table, row): &(usize, String)| match name(*table) {
        "tool_usage" => (*table, row.clone()),
        _ => (*table, Fields::read(*table, row).unwrap().key()),
    };
    let mut all: BTreeMap<Key, String> = to.iter().map(|row| (key(row), row.1.clone())).collect();
    for (key, row) in rows {
        match row {
            Some(row) => drop(all.insert(key.clone(), row.clone())),
            None => drop(all.remove(key)),
        }
    }
    all.into_iter().map(|((table, _), row)| format!("{} {row}", name(table))).collect()
}

/// Merges, asserts that both sides are then equal and stay so, and returns what they are.
#[track_caller]
fn merged(base: &Table, ours: &Table, theirs: &Table) -> (Vec<String>, Merged) {
    let mut known = Base::default();
    known.absorb(&side(&Base::default(), base).into_changed());
    let (our_changes, their_changes) = (side(&known, ours), side(&known, theirs));
    let merged = reconcile(&our_changes, &their_changes).unwrap();
    let (left, right) = (applied(ours, &merged.to_ours), applied(theirs, &merged.to_theirs));
    assert_eq!(left, right, "both sides are equal");
    known.absorb(&their_changes.into_changed());
    known.absorb(&merged.to_theirs);
    let as_rows = |rows: &[String]| -> Table {
        rows.iter().map(|row| row.split_once(' ').unwrap()).map(|(table, row)| (index(table), row.to_owned())).collect()
    };
    let (ours, theirs) = (side(&known, &as_rows(&left)), side(&known, &as_rows(&right)));
    assert!(ours.changed.is_empty(), "the base is what both have: {:?}", ours.changed);
    let again = reconcile(&ours, &theirs).unwrap();
    assert!(again.to_ours.is_empty() && again.to_theirs.is_empty(), "the next sync has nothing to do");
    (left, merged)
}

fn descriptions(rows: &[String], table: &str) -> Vec<(i64, String)> {
    let of = |row: &str| {
        let fields = Fields::read(index(table), row).unwrap();
        (fields.integer("revision").unwrap(), fields.text("description").unwrap().to_owned())
    };
    rows.iter().filter_map(|row| row.strip_prefix(&format!("{table} "))).map(of).collect()
}

#[test]
fn what_one_side_has_changed_is_on_both() {
    let base = vec![agent("a", 1, "one"), agent("b", 1, "two"), agent("c", 1, "three")];
    let changed = vec![agent("a", 2, "changed"), history("a", 1, "one"), agent("b", 1, "two"), agent("d", 1, "new")];
    for (ours, theirs) in [(&changed, &base), (&base, &changed)] {
        let (both, _) = merged(&base, ours, theirs);
        assert_eq!(both, applied(&changed, &Rows::new()));
    }
    let other = vec![agent("a", 1, "one"), agent("b", 2, "theirs"), agent("c", 1, "three"), agent("e", 1, "e")];
    let (both, _) = merged(&base, &changed, &other);
    let all = ["changed", "theirs", "new", "e"];
    assert_eq!(descriptions(&both, "agents").into_iter().map(|(_, d)| d).collect::<Vec<_>>(), all);
}

#[test]
fn the_same_change_on_both_sides_is_one() {
    let same = vec![agent("a", 2, "same")];
    let (both, merged) = merged(&vec![agent("a", 1, "x")], &same, &same);
    assert_eq!(both.len(), 1);
    assert!(merged.to_ours.is_empty() && merged.to_theirs.is_empty());
}

#[test]
fn both_states_of_an_agent_are_kept_when_both_sides_changed_it() {
    let base = vec![agent("a", 5, "base")];
    let ours = vec![agent("a", 7, "ours 7"), history("a", 6, "ours 6"), history("a", 5, "base")];
    let theirs = vec![agent("a", 6, "theirs 6"), history("a", 5, "base")];
    for (left, right) in [(&ours, &theirs), (&theirs, &ours)] {
        let (both, _) = merged(&base, left, right);
        assert_eq!(descriptions(&both, "agents"), [(9, "ours 7".to_owned())], "the higher revision stays");
        let kept = [(5, "base"), (6, "ours 6"), (8, "theirs 6")].map(|(r, d)| (r, d.to_owned()));
        assert_eq!(descriptions(&both, "agent_history"), kept);
    }
}

#[test]
fn what_is_alive_stays_over_what_was_purged() {
    let base = vec![agent("a", 1, "base")];
    let tombstone = row(
        "tombstones",
        &[("entity", "agent".into()), ("namespace", "default".into()), ("id", "a".into()), ("revision", 4.into())],
    );
    let updated = vec![agent("a", 2, "updated"), history("a", 1, "base")];
    let purged = vec![tombstone];
    for (ours, theirs) in [(&updated, &purged), (&purged, &updated)] {
        let (both, _) = merged(&base, ours, theirs);
        assert_eq!(descriptions(&both, "agents"), [(5, "updated".to_owned())]);
        assert!(!both.iter().any(|row| row.starts_with("tombstones")), "{both:?}");
    }
    for (ours, theirs) in [(&base, &purged), (&purged, &base)] {
        let (both, _) = merged(&base, ours, theirs);
        assert!(descriptions(&both, "agents").is_empty(), "nobody has changed what was purged");
    }
}

#[test]
fn other_words_of_a_memory_are_kept_beside_it() {
    let base = vec![memory("m", 1, "base", 0)];
    let (ours, theirs) = (vec![memory("m", 2, "ours", 0)], vec![memory("m", 3, "theirs", 0)]);
    let (both, _) = merged(&base, &ours, &theirs);
    let rows: Vec<Fields> =
        both.iter().map(|row| Fields::read(index("memories"), row.split_once(' ').unwrap().1).unwrap()).collect();
    assert_eq!((rows[0].text("content"), rows[0].integer("revision")), (Some("theirs"), Some(4)));
    assert_eq!((rows[1].text("content"), rows[1].text("superseded_by")), (Some("ours"), Some("m")));
    let (both, _) = merged(&base, &vec![memory("m", 1, "base", 3)], &vec![memory("m", 1, "base", 5)]);
    assert_eq!(both.len(), 1, "that both have recalled it makes no other memory of it");
    let (both, _) = merged(&base, &vec![], &base);
    assert!(both.is_empty(), "what we have deleted is deleted");
    let (both, _) = merged(&base, &vec![], &theirs);
    assert_eq!(both.len(), 1, "what they have changed meanwhile is not");
}

#[test]
fn a_run_is_taken_as_a_whole() {
    let base = vec![run("r", 1, "RUNNING", None), step("r", 0, "READY"), step("r", 1, "PENDING")];
    let ours = vec![run("r", 3, "RUNNING", None), step("r", 0, "COMPLETED"), step("r", 1, "PENDING")];
    let theirs = vec![run("r", 2, "RUNNING", None), step("r", 0, "READY"), step("r", 1, "SKIPPED")];
    for (left, right) in [(&ours, &theirs), (&theirs, &ours)] {
        let (both, merged) = merged(&base, left, right);
        assert_eq!(merged.replaced.len(), 1);
        let steps: Vec<&String> = both.iter().filter(|row| row.starts_with("steps")).collect();
        assert!(steps[0].contains("COMPLETED") && steps[1].contains("PENDING"), "{steps:?}");
        assert!(both[0].starts_with("runs") && both[0].contains(",4,"), "{both:?}");
    }
}

#[test]
fn two_runs_with_one_key_both_stay() {
    let (ours, theirs) = (vec![run("r1", 1, "COMPLETED", Some("k"))], vec![run("r2", 1, "COMPLETED", Some("k"))]);
    let (both, _) = merged(&vec![], &ours, &theirs);
    assert_eq!(both.len(), 2);
    assert!(!both[0].contains("\"k\"") && both[1].contains("\"k\""), "{both:?}");
}

#[test]
fn tool_calls_add_up() {
    let usage = |tool: &str| row("tool_usage", &[("at", 1.into()), ("tool", tool.into())]);
    let base = Base::default();
    let ours = side(&base, &vec![usage("x"), usage("x"), usage("y")]);
    let theirs = side(&base, &vec![usage("z")]);
    let merged = reconcile(&ours, &theirs).unwrap();
    assert_eq!((merged.to_theirs.len(), merged.to_ours.len()), (3, 1));
    let mut base = Base::default();
    base.absorb(&ours.into_changed());
    assert!(side(&base, &vec![]).changed.is_empty(), "old calls are deleted by each side by itself");
}
