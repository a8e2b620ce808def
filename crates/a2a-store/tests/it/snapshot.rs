//! Everything as a whole: what one backend holds arrives in the other exactly as it is.

use a2a_store::snapshot::{Digests, Kind, Part, RestoreMode, SnapshotError, TABLES, Table, parts};
use a2a_store::store::{Location, Store};
use diesel::prelude::*;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::world::World;

/// The rows of each table, in order.
type Rows = Vec<Vec<String>>;

async fn read(store: &Store) -> Rows {
    let mut found = vec![Vec::new(); TABLES.len()];
    let mut parts = store.snapshot();
    let mut digests = Digests::default();
    while let Some(part) = parts.recv().await {
        match part.unwrap() {
            Part::Rows { table, rows } => {
                rows.iter().for_each(|row| digests.add(table, row));
                found[table].extend(rows);
            }
            Part::End(end) => {
                assert_eq!(end, digests.finish());
                return found;
            }
        }
    }
    panic!("the snapshot has no end");
}

async fn write(store: &Store, rows: &Rows, mode: RestoreMode) -> Result<Vec<(&'static str, u64)>, SnapshotError> {
    let (to, parts) = parts();
    let rows = rows.clone();
    let sending = tokio::spawn(async move {
        let mut digests = Digests::default();
        for (table, rows) in rows.into_iter().enumerate() {
            rows.iter().for_each(|row| digests.add(table, row));
            for part in rows.chunks(3) {
                if to.send(Part::Rows { table, rows: part.to_vec() }).await.is_err() {
                    return;
                }
            }
        }
        // Whoever has found an error takes no end.
        let _gone = to.send(Part::End(digests.finish())).await;
    });
    let restored = store.restore(parts, mode).await;
    sending.await.unwrap();
    restored
}

fn position(name: &str) -> usize {
    TABLES.iter().position(|table| table.name == name).unwrap()
}

/// A row with these columns, and what a column must have by its kind otherwise.
fn row(table: &str, columns: &[(&str, Value)]) -> String {
    let table: &Table = &TABLES[position(table)];
    let value = |name: &str, kind: Kind| match columns.iter().find(|(known, _)| *known == name) {
        Some((_, value)) => value.clone(),
        None => match kind {
            Kind::Text => json!("x"),
            Kind::Json => json!("[]"),
            Kind::Integer | Kind::Time => json!(1),
            Kind::Boolean => json!(true),
            Kind::Real => json!(0.5),
            Kind::Bytes => json!("00".repeat(32)),
        },
    };
    let values: Vec<Value> = table.columns.iter().map(|column| value(column.name, column.kind)).collect();
    Value::from(values).to_string()
}

fn agent(id: &str, revision: i64, name: &str) -> String {
    row(
        "agents",
        &[("id", json!(id)), ("revision", json!(revision)), ("name", json!(name)), ("removed_at", Value::Null)],
    )
}

fn with(tables: &[(&str, Vec<String>)]) -> Rows {
    let mut rows = vec![Vec::new(); TABLES.len()];
    for (table, found) in tables {
        rows[position(table)].clone_from(found);
    }
    rows
}

async fn memory() -> Store {
    Store::open(&Location::Memory).await.unwrap()
}

prop_compose! {
    fn hostile()(
        id in "[a-z]{1,8}",
        text in "[^\\x00]{0,30}",
        number in prop_oneof![Just(i64::MAX), Just(1_i64), 1_i64..1_000_000_000_000],
        // As far as both databases know dates.
        time in -60_000_000_000_000_i64..200_000_000_000_000,
        real in prop_oneof![Just(0.0_f32), Just(1.0), Just(0.1), Just(f32::MIN_POSITIVE), 0.0_f32..=1.0],
        truth: bool,
        bytes in "[0-9a-f]{64}",
        none: bool,
    ) -> Vec<(&'static str, String)> {
        let stored = json!({"a": text, "b": [number, null]}).to_string().replace(',', " ,");
        let nullable = |value: Value| if none { Value::Null } else { value };
        vec![
            ("agents", row("agents", &[
                ("id", json!(id)), ("revision", json!(number)), ("content_hash", json!(bytes)), ("name", json!(text)),
                ("instructions", json!(text)), ("enabled", json!(truth)), ("config", json!(stored)),
                ("deprecated", nullable(json!(stored))), ("deployed_at", json!(time)), ("removed_at", nullable(json!(time))),
            ])),
            ("memories", row("memories", &[
                ("id", json!(id)), ("kind", json!("semantic")), ("trust", json!("user")), ("content", json!(text)),
                ("data", nullable(json!(stored))), ("importance", json!(f64::from(real))), ("decay", json!(f64::from(real))),
                ("expires_at", nullable(json!(time))), ("key", nullable(json!(text))), ("content_hash", json!(bytes)),
                ("accesses", json!(number)), ("created_at", json!(time)), ("removed_at", nullable(json!(time))),
            ])),
            ("tool_usage", row("tool_usage", &[
                ("at", json!(time)), ("tool", json!(text)), ("agent", nullable(json!(text))), ("duration_us", json!(number)),
            ])),
        ]
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_row_arrives_in_the_other_backend_as_it_is() {
    let Some(World::Postgres(database)) = World::postgres().await else { return };
    let client = database.client().await;
    let postgres = Store::open(&crate::world::postgres_location(&database.url())).await.unwrap();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(24));
    let runtime = tokio::runtime::Handle::current();
    tokio::task::block_in_place(|| {
        runner
            .run(&proptest::collection::vec(hostile(), 1..6), |generated| {
                let mut rows: Rows = vec![Vec::new(); TABLES.len()];
                let mut ids = std::collections::BTreeSet::new();
                let mut sorted = generated;
                sorted.sort_by_key(|row| serde_json::from_str::<Vec<Value>>(&row[1].1).unwrap()[0].to_string());
                for found in sorted {
                    let id = serde_json::from_str::<Vec<Value>>(&found[1].1).unwrap()[0].to_string();
                    if ids.insert(id) {
                        found.into_iter().for_each(|(table, row)| rows[position(table)].push(row));
                    }
                }
                runtime.block_on(async {
                    let first = memory().await;
                    write(&first, &rows, RestoreMode::Empty).await.unwrap();
                    let in_sqlite = read(&first).await;
                    assert_eq!(in_sqlite, rows);
                    client
                        .batch_execute("TRUNCATE agents, memories, tool_usage RESTART IDENTITY CASCADE")
                        .await
                        .unwrap();
                    write(&postgres, &in_sqlite, RestoreMode::Empty).await.unwrap();
                    let in_postgres = read(&postgres).await;
                    assert_eq!(in_postgres, rows);
                    let back = memory().await;
                    write(&back, &in_postgres, RestoreMode::Empty).await.unwrap();
                    assert_eq!(read(&back).await, rows);
                });
                Ok(())
            })
            .unwrap();
    });
}

crate::world::on_both!(
    a_database_with_content_is_left_alone,
    what_ends_early_or_is_not_right_leaves_nothing,
    of_two_states_the_newer_stays,
    a_purge_is_a_state_too,
    a_run_is_taken_whole,
);

async fn a_database_with_content_is_left_alone(world: World) {
    let store = world.store().await;
    let rows = with(&[("agents", vec![agent("a", 1, "A")])]);
    write(&store, &rows, RestoreMode::Empty).await.unwrap();
    let error = write(&store, &with(&[("agents", vec![agent("b", 1, "B")])]), RestoreMode::Empty).await.unwrap_err();
    assert!(matches!(error, SnapshotError::NotEmpty { table: "agents", rows: 1 }), "{error}");
    assert_eq!(read(&store).await, rows);
}

async fn what_ends_early_or_is_not_right_leaves_nothing(world: World) {
    let store = world.store().await;
    let (to, early) = parts();
    let agents = position("agents");
    to.send(Part::Rows { table: agents, rows: vec![agent("a", 1, "A")] }).await.unwrap();
    drop(to);
    let error = store.restore(early, RestoreMode::Empty).await.unwrap_err();
    assert!(matches!(error, SnapshotError::Incomplete), "{error}");

    let (to, wrong) = parts();
    to.send(Part::Rows { table: agents, rows: vec![agent("a", 1, "A")] }).await.unwrap();
    let mut digests = Digests::default();
    digests.add(agents, &agent("a", 1, "another"));
    to.send(Part::End(digests.finish())).await.unwrap();
    let error = store.restore(wrong, RestoreMode::Empty).await.unwrap_err();
    assert!(matches!(&error, SnapshotError::Differs { table } if table == "agents"), "{error}");

    // The last row breaks a rule of the table.
    let bad = with(&[("agents", vec![agent("a", 1, "A"), agent("b", 0, "B")])]);
    write(&store, &bad, RestoreMode::Empty).await.unwrap_err();
    write(&store, &bad, RestoreMode::Merge).await.unwrap_err();
    assert_eq!(read(&store).await, with(&[]));
}

fn history(id: &str, revision: i64, name: &str) -> String {
    agent(id, revision, name)
}

async fn of_two_states_the_newer_stays(world: World) {
    let store = world.store().await;
    let here = with(&[
        ("agents", vec![agent("newer-here", 3, "here"), agent("newer-there", 2, "here"), agent("same", 1, "here")]),
        ("agent_history", vec![history("newer-here", 2, "here, before"), history("newer-there", 1, "first")]),
    ]);
    write(&store, &here, RestoreMode::Empty).await.unwrap();
    let there = with(&[
        (
            "agents",
            vec![
                agent("newer-here", 1, "there"),
                agent("newer-there", 4, "there"),
                agent("only-there", 1, "there"),
                agent("same", 1, "there"),
            ],
        ),
        ("agent_history", vec![history("newer-there", 1, "first"), history("newer-there", 3, "third")]),
    ]);
    let taken = write(&store, &there, RestoreMode::Merge).await.unwrap();
    assert!(taken.contains(&("agents", 2)), "{taken:?}");
    let expected = with(&[
        (
            "agents",
            vec![
                agent("newer-here", 3, "here"),
                agent("newer-there", 4, "there"),
                agent("only-there", 1, "there"),
                agent("same", 1, "here"),
            ],
        ),
        (
            "agent_history",
            vec![
                history("newer-here", 1, "there"),
                history("newer-here", 2, "here, before"),
                history("newer-there", 1, "first"),
                history("newer-there", 2, "here"),
                history("newer-there", 3, "third"),
            ],
        ),
    ]);
    assert_eq!(read(&store).await, expected);
    write(&store, &there, RestoreMode::Merge).await.unwrap();
    assert_eq!(read(&store).await, expected, "it can be repeated");
}

async fn a_purge_is_a_state_too(world: World) {
    let store = world.store().await;
    let purged = |id: &str, revision: i64| {
        row("tombstones", &[("entity", json!("agent")), ("id", json!(id)), ("revision", json!(revision))])
    };
    let here = with(&[
        ("tombstones", vec![purged("purged-here", 5), purged("revived-there", 2)]),
        ("agents", vec![agent("newer-here", 9, "here"), agent("purged-there", 2, "here")]),
        ("agent_history", vec![history("purged-there", 1, "here")]),
    ]);
    write(&store, &here, RestoreMode::Empty).await.unwrap();
    let there = with(&[
        ("tombstones", vec![purged("newer-here", 4), purged("purged-there", 3)]),
        ("agents", vec![agent("purged-here", 3, "there"), agent("revived-there", 4, "there")]),
        ("agent_history", vec![history("purged-here", 2, "there"), history("revived-there", 3, "there")]),
    ]);
    write(&store, &there, RestoreMode::Merge).await.unwrap();
    let expected = with(&[
        ("tombstones", vec![purged("purged-here", 5), purged("purged-there", 3)]),
        ("agents", vec![agent("newer-here", 9, "here"), agent("revived-there", 4, "there")]),
        ("agent_history", vec![history("revived-there", 3, "there")]),
    ]);
    assert_eq!(read(&store).await, expected);
}

async fn a_run_is_taken_whole(world: World) {
    let store = world.store().await;
    let run = |id: &str, revision: i64, key: &str| {
        row(
            "runs",
            &[
                ("id", json!(id)),
                ("revision", json!(revision)),
                ("status", json!("RUNNING")),
                ("finished_at", Value::Null),
                ("idempotency_key", if key.is_empty() { Value::Null } else { json!(key) }),
            ],
        )
    };
    let step = |id: &str, ord: i64, error: &str| {
        row("steps", &[("run_id", json!(id)), ("ord", json!(ord)), ("status", json!("READY")), ("error", json!(error))])
    };
    let here = with(&[
        ("runs", vec![run("r1", 2, "k"), run("r2", 5, "")]),
        ("steps", vec![step("r1", 0, "here"), step("r1", 1, "here"), step("r2", 0, "here")]),
    ]);
    write(&store, &here, RestoreMode::Empty).await.unwrap();
    let there = with(&[
        ("runs", vec![run("r1", 3, "k"), run("r2", 4, ""), run("r3", 1, "k")]),
        ("steps", vec![step("r1", 0, "there"), step("r2", 0, "there"), step("r3", 0, "there")]),
    ]);
    // The file of one database never has a key twice; here it is the other run's.
    let there = {
        let mut there = there;
        there[position("runs")][0] = run("r1", 3, "");
        there
    };
    let taken = write(&store, &there, RestoreMode::Merge).await.unwrap();
    assert!(taken.contains(&("runs", 2)) && taken.contains(&("steps", 2)), "{taken:?}");
    let expected = with(&[
        ("runs", vec![run("r1", 3, ""), run("r2", 5, ""), run("r3", 1, "k")]),
        ("steps", vec![step("r1", 0, "there"), step("r2", 0, "here"), step("r3", 0, "there")]),
    ]);
    assert_eq!(read(&store).await, expected);
    let other = with(&[("runs", vec![run("r4", 1, "k")])]);
    write(&store, &other, RestoreMode::Merge).await.unwrap();
    assert_eq!(read(&store).await[position("runs")][3], run("r4", 1, ""), "the key stays with the run that is here");
}

#[derive(QueryableByName)]
struct NameRow {
    #[diesel(sql_type = diesel::sql_types::Text)]
    name: String,
}

/// A column that a migration adds travels, or this fails.
#[tokio::test]
async fn every_table_and_column_travels_or_is_left_out_knowingly() {
    const LEFT_OUT: [&str; 8] = [
        "store_meta",
        "change_log",
        "applied_ops",
        "__diesel_schema_migrations",
        // Who runs now, and what a model makes anew.
        "processes",
        "embedding_models",
        "memory_embeddings",
        "agent_embeddings",
    ];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    Store::open(&Location::SqliteFile(path.clone())).await.unwrap();
    let mut conn = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
    let mut names = |sql: &str| -> Vec<String> {
        let rows: Vec<NameRow> = diesel::sql_query(sql).load(&mut conn).unwrap();
        rows.into_iter().map(|row| row.name).collect()
    };
    let tables = names("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'");
    for name in tables {
        let Some(table) = TABLES.iter().find(|table| table.name == name) else {
            assert!(LEFT_OUT.contains(&name.as_str()), "{name} is in no backup");
            continue;
        };
        let mut columns = names(&format!("SELECT name FROM pragma_table_info('{name}')"));
        // The number of a row is made anew.
        columns.retain(|column| name != "tool_usage" || column != "id");
        let travelling: Vec<&str> = table.columns.iter().map(|column| column.name).collect();
        assert_eq!(travelling, columns, "{name}");
    }
}
