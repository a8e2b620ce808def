//! The schema: made once by whoever comes first, undone, and the same as the code believes.

use a2a_core::change::Outcome;
use a2a_store::error::StoreError;
use a2a_store::store::{Location, Store};
use a2a_testing::figure::figure;
use a2a_testing::postgres::{TestDatabase, postgres_or_skip};
use futures_util::future::join_all;

use crate::document::{put, revisions};
use crate::world::{World, commit_one, on_both, postgres_location};

on_both!(
    a_schema_is_undone_and_made_again,
    a_newer_schema_is_refused_by_name,
    the_code_believes_the_tables_to_be_what_they_are,
    an_open_of_what_is_up_to_date_changes_nothing,
);

async fn eight_open(location: &Location) {
    let stores = join_all((0..8).map(|_| {
        let location = location.clone();
        tokio::spawn(async move { Store::open(&location).await })
    }))
    .await;
    let stores: Vec<Store> = stores.into_iter().map(|store| store.unwrap().unwrap()).collect();
    let writes = stores.iter().enumerate().map(|(n, store)| commit_one(store, put(&format!("a{n}"), n)));
    for outcome in join_all(writes).await {
        assert_eq!(revisions(&outcome), (1, None));
    }
    let steps = stores[0].migrate_status().await.unwrap();
    assert!(!steps.is_empty() && steps.iter().all(|step| step.applied), "{steps:?}");
}

async fn check_made_once(world: &World) {
    assert_eq!(world.count("SELECT count(*) FROM store_meta").await, 1);
    let versions = world.texts("SELECT version FROM __diesel_schema_migrations").await;
    assert_eq!(
        world.count("SELECT count(DISTINCT version) FROM __diesel_schema_migrations").await,
        versions.len() as i64
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_processes_make_the_schema_of_postgres_once() {
    let Some(server) = postgres_or_skip().await else { return };
    for _ in 0..figure(10, 100) {
        let world = World::Postgres(TestDatabase::create(&server).await);
        eight_open(&world.location()).await;
        check_made_once(&world).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_processes_make_the_schema_of_sqlite_once() {
    for _ in 0..figure(10, 100) {
        let world = World::sqlite_empty();
        eight_open(&world.location()).await;
        check_made_once(&world).await;
    }
}

async fn a_schema_is_undone_and_made_again(world: World) {
    let store = world.store().await;
    commit_one(&store, put("lost", 1)).await;
    let steps = store.migrate_status().await.unwrap();
    for step in steps.iter().rev() {
        let undone = store.migrate_revert().await.unwrap();
        assert_eq!(undone, step.name);
    }
    assert!(store.migrate_status().await.unwrap().iter().all(|step| !step.applied));
    let tables = if world.is_postgres() {
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' \
         AND table_name <> '__diesel_schema_migrations'"
    } else {
        "SELECT name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' AND name <> '__diesel_schema_migrations'"
    };
    assert!(world.texts(tables).await.is_empty(), "every step undoes all that it did");
    let nothing_left = store.migrate_revert().await.unwrap_err();
    assert!(matches!(nothing_left, StoreError::Migration(_)), "{nothing_left:?}");
    let made: Vec<String> = steps.iter().map(|step| step.name.clone()).collect();
    assert_eq!(store.migrate().await.unwrap(), made);
    assert_eq!(store.migrate_status().await.unwrap(), steps);
    assert_eq!(revisions(&commit_one(&store, put("lost", 1)).await), (1, None), "a new store");
}

async fn an_open_of_what_is_up_to_date_changes_nothing(world: World) {
    let store = world.store().await;
    let epoch = world.texts("SELECT epoch FROM store_meta").await;
    assert!(store.migrate().await.unwrap().is_empty());
    drop(world.store().await);
    assert_eq!(world.texts("SELECT epoch FROM store_meta").await, epoch);
}

async fn a_newer_schema_is_refused_by_name(world: World) {
    let store = world.store().await;
    let newest = store.health().await.unwrap().schema;
    world.execute("INSERT INTO __diesel_schema_migrations (version) VALUES ('29991231000001')").await;
    let refused = Store::open(&world.location()).await.unwrap_err();
    let text = refused.to_string();
    assert!(matches!(refused, StoreError::SchemaNewer { .. }), "{refused:?}");
    assert!(text.contains("29991231000001") && text.contains(&newest), "{text}");
    assert!(!refused.is_transient());
    let steps = store.migrate_status().await.unwrap();
    assert!(steps.last().is_some_and(|step| step.applied && step.name == "29991231000001"), "{steps:?}");
    world.execute("DELETE FROM __diesel_schema_migrations WHERE version = '29991231000001'").await;
    drop(world.store().await);
}

/// Reads `table (keys) { column -> Type, ... }` of each `table!` into one text per column.
fn columns_of(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut table = None;
    let mut position = 0;
    for line in source.lines().map(str::trim) {
        if let Some((name, _)) = line.split_once(" (").filter(|_| line.ends_with(") {")) {
            table = Some(name.to_owned());
            position = 0;
        } else if let (Some(table), Some((column, kind))) = (&table, line.split_once(" -> ")) {
            position += 1;
            let kind = kind.trim_end_matches(',');
            let inner = kind.strip_prefix("Nullable<").and_then(|kind| kind.strip_suffix('>'));
            found.push(format!("{table}.{position} {column} {} null={}", inner.unwrap_or(kind), inner.is_some()));
        } else if line == "}" {
            table = None;
        }
    }
    found.sort();
    found
}

async fn the_code_believes_the_tables_to_be_what_they_are(world: World) {
    let (source, query) = if world.is_postgres() {
        (
            include_str!("../../src/postgres/schema.rs"),
            "SELECT table_name || '.' || ordinal_position || ' ' || column_name || ' ' || CASE udt_name \
             WHEN 'text' THEN 'Text' WHEN 'int8' THEN 'BigInt' WHEN 'bool' THEN 'Bool' WHEN 'json' THEN 'Json' WHEN 'float4' THEN 'Float' \
             WHEN 'bytea' THEN 'Bytea' WHEN 'timestamptz' THEN 'Timestamptz' WHEN 'uuid' THEN 'Uuid' \
             WHEN 'xid8' THEN 'Xid8' ELSE udt_name END || ' null=' || (is_nullable = 'YES')::text \
             FROM information_schema.columns WHERE table_schema = 'public' \
             AND table_name <> '__diesel_schema_migrations'",
        )
    } else {
        (
            include_str!("../../src/sqlite/schema.rs"),
            "SELECT t.name || '.' || (c.cid + 1) || ' ' || c.name || ' ' || CASE upper(c.type) \
             WHEN 'TEXT' THEN 'Text' WHEN 'BIGINT' THEN 'BigInt' WHEN 'INTEGER' THEN 'BigInt' \
             WHEN 'BOOLEAN' THEN 'Bool' WHEN 'BLOB' THEN 'Binary' WHEN 'REAL' THEN 'Float' ELSE c.type END || ' null=' || \
             CASE c.\"notnull\" WHEN 1 THEN 'false' ELSE 'true' END \
             FROM sqlite_master t JOIN pragma_table_info(t.name) c WHERE t.type = 'table' \
             AND t.name NOT LIKE 'sqlite_%' AND t.name <> '__diesel_schema_migrations'",
        )
    };
    let mut stored = world.texts(query).await;
    stored.sort();
    let believed = columns_of(source);
    assert!(believed.len() > 60, "the source was read: {believed:?}");
    assert_eq!(believed, stored);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_table_and_column_of_postgres_is_explained() {
    let Some(world) = World::postgres().await else { return };
    let silent = world
        .texts(
            "SELECT c.relname || coalesce('.' || a.attname, '') FROM pg_class c \
             LEFT JOIN LATERAL (SELECT 0::int2 AS attnum, NULL::name AS attname UNION ALL \
             SELECT attnum, attname FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped) a \
             ON true WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace \
             AND c.relname <> '__diesel_schema_migrations' \
             AND coalesce(length(CASE a.attnum WHEN 0 THEN obj_description(c.oid, 'pg_class') \
             ELSE col_description(c.oid, a.attnum) END), 0) < 3",
        )
        .await;
    assert!(silent.is_empty(), "{silent:?} have no comment");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_schemas_of_one_database_are_two_stores() {
    let Some(server) = postgres_or_skip().await else { return };
    let database = TestDatabase::create(&server).await;
    let in_schema = |name: &str| {
        let url = database.url();
        let separator = if url.contains('?') { '&' } else { '?' };
        postgres_location(&format!("{url}{separator}schema={name}"))
    };
    let plain = Store::open(&postgres_location(&database.url())).await.unwrap();
    commit_one(&plain, put("a", "plain")).await;
    for name in ["Name", "%22Of%20mine%22", "lower_case"] {
        let store = Store::open(&in_schema(name)).await.unwrap();
        assert_eq!(revisions(&commit_one(&store, put("a", name)).await), (1, None), "{name}");
        let process = crate::process::Process::with_store(store).await;
        assert_eq!(process.agents().len(), 1);
        process.write(put("b", 1)).await;
        process.stop().await;
        let again = Store::open(&in_schema(name)).await.unwrap();
        assert_eq!(commit_one(&again, put("a", name)).await, Outcome::Unchanged { revision: 1 });
    }
    let world = World::Postgres(database);
    let schemas = world
        .texts("SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_|^information_schema$' ORDER BY nspname COLLATE \"C\"")
        .await;
    assert_eq!(schemas, ["Name", "Of mine", "lower_case", "public"]);
    assert_eq!(world.count("SELECT count(*) FROM public.agents").await, 1);
    assert_eq!(world.count("SELECT count(*) FROM \"Name\".agents").await, 2);
}

/// A step that fails in the middle leaves nothing behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_step_leaves_nothing() {
    let Some(server) = postgres_or_skip().await else { return };
    let world = World::Postgres(TestDatabase::create(&server).await);
    // The last table of the first step is there already.
    world.execute("CREATE TABLE tool_usage (mine int)").await;
    let failed = Store::open(&world.location()).await.unwrap_err();
    assert!(matches!(failed, StoreError::Migration(_)), "{failed:?}");
    let tables = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'";
    let left: Vec<String> =
        world.texts(tables).await.into_iter().filter(|t| t != "__diesel_schema_migrations").collect();
    assert_eq!(left, ["tool_usage"]);
    world.execute("DROP TABLE tool_usage").await;
    eight_open(&world.location()).await;
}
