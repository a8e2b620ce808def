//! What operators see: who runs, what is slow, where agents are that do not appear, and what persistence costs.

use std::time::Duration;

use a2a_testing::wait::wait_for;
use serde_json::{Value, json};

use crate::cli::{Ended, Home};
use crate::world::{World, call, deploy, open};

/// A command line that uses what the servers of a world use.
fn home_of(world: &World) -> Home {
    match world {
        World::Postgres(database) => Home::with_database(database.url()),
        World::Sqlite(folder) => Home::with_database(format!("sqlite:{}/a2a.db", folder.path().display())),
    }
}

fn run(home: &Home, args: &[&str]) -> Ended {
    tokio::task::block_in_place(|| home.run(args))
}

fn check<'v>(found: &'v Value, name: &str) -> &'v Value {
    let checks = found["checks"].as_array().unwrap();
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no {name} in {found:#}"))
}

crate::world::on_both!(the_doctor_lists_who_runs_and_where_agents_are);

async fn the_doctor_lists_who_runs_and_where_agents_are(world: World) {
    let home = home_of(&world);
    let first = world.server().await;
    deploy(&first, json!({"id": "a", "description": "x"})).await;
    let second = open(world.options().env("A2A_NAMESPACE", "elsewhere")).await;
    let lines = wait_for(Duration::from_secs(20), "both are listed", async || {
        let found = run(&home, &["doctor", "--json"]).json();
        let lines = check(&found, "processes")["lines"].as_array().cloned().unwrap_or_default();
        (lines.len() == 2 && lines.iter().any(|line| line.as_str().unwrap().contains("integration-test")))
            .then_some(lines)
    })
    .await;
    let line = |pid: u32| -> &str {
        let found = lines.iter().filter_map(Value::as_str).find(|line| line.starts_with(&format!("serve {pid} at ")));
        found.unwrap_or_else(|| panic!("{pid} is not in {lines:?}"))
    };
    assert!(line(first.pid()).contains(", persisted, namespace default, since 20"), "{lines:?}");
    assert!(line(second.pid()).contains("namespace elsewhere"), "{lines:?}");
    let found = run(&home, &["doctor", "--json"]).code(0).json();
    assert_eq!(check(&found, "processes")["code"], "other_namespace");
    assert_eq!((check(&found, "agents")["code"].as_str(), found["worst"].as_str()), (Some("ok"), Some("warn")));
    run(&home, &["doctor", "--strict"]).code(1);
    // From a namespace without agents it says where there are some, and how to get there.
    let empty = run(&home, &["doctor", "--json", "--namespace", "empty"]).code(0).json();
    assert_eq!(check(&empty, "agents")["code"], "other_namespace");
    assert_eq!(check(&empty, "agents")["next"], "A2A_NAMESPACE=default a2a-mcp agents list");
    if let World::Postgres(database) = &world {
        database.execute("UPDATE processes SET version = '0.0.9' WHERE namespace = 'elsewhere'").await;
        let found = run(&home, &["doctor", "--json"]).code(0).json();
        assert_eq!(check(&found, "processes")["code"], "several_versions");
        assert!(check(&found, "processes")["detail"].as_str().unwrap().contains("0.0.9, "), "{found:#}");
    }
    // Who ends is gone at once.
    assert!(second.finish().await.success());
    let found = run(&home, &["doctor", "--json"]).code(0).json();
    assert_eq!(check(&found, "processes")["lines"].as_array().unwrap().len(), 1);
    assert_eq!(check(&found, "processes")["status"], "ok");
    assert!(first.finish().await.success());
    let found = run(&home, &["doctor", "--json"]).code(0).json();
    assert!(check(&found, "processes")["detail"].as_str().unwrap().starts_with("no other process"), "{found}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_in_another_schema_are_pointed_to() {
    let Some(World::Postgres(database)) = World::postgres().await else { return };
    let in_schema = |schema: &str| {
        let url = database.url();
        let separator = if url.contains('?') { '&' } else { '?' };
        Home::with_database(format!("{url}{separator}schema={schema}"))
    };
    run(&in_schema("theirs"), &["seed"]).code(0);
    run(&in_schema("mine"), &["migrate", "run"]).code(0);
    let found = run(&in_schema("mine"), &["doctor", "--json"]).code(0).json();
    assert_eq!(check(&found, "agents")["code"], "other_schema", "{found:#}");
    assert!(check(&found, "agents")["next"].as_str().unwrap().contains("?schema=theirs"));
}

#[test]
fn the_doctor_reads_what_clients_are_configured_with() {
    let home = Home::new();
    let none = home.run(&["doctor", "--json"]).code(0).json();
    assert_eq!(check(&none, "clients")["next"], "a2a-mcp init");
    std::fs::create_dir(home.path().join(".cursor")).unwrap();
    home.run(&["init", "cursor"]).code(0);
    let same = home.run(&["doctor", "--json"]).code(0).json();
    assert_eq!(check(&same, "clients")["status"], "ok", "{same:#}");
    assert!(check(&same, "clients")["lines"][0].as_str().unwrap().ends_with("a2a: the same agents"));
    let other = home.path().join("other.db");
    let elsewhere = home.run(&["doctor", "--json", "--database-url", &format!("sqlite:{}", other.display())]).code(0);
    let elsewhere = elsewhere.json();
    assert_eq!(check(&elsewhere, "clients")["code"], "differ");
    let line = check(&elsewhere, "clients")["lines"][0].as_str().unwrap();
    assert!(line.contains("another database, sqlite:") && line.contains("data/a2a.db"), "{line}");
    let open =
        r#"{"mcpServers": {"a2a": {"command": "a2a-mcp", "env": {"DATABASE_URL": "postgres://u:hunter2@h/d"}}}}"#;
    home.write(".cursor/mcp.json", open);
    let open = home.run(&["doctor"]).code(0).out;
    assert!(open.contains("chmod 600") && open.contains("another database, h:5432/d"), "{open}");
    assert!(!open.contains("hunter2"), "{open}");
    home.write(".cursor/mcp.json", "{");
    let broken = home.run(&["doctor", "--json"]).code(0).json();
    assert!(check(&broken, "clients")["lines"][0].as_str().unwrap().contains("line 1, column"), "{broken:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_are_logged_on_request_without_their_values() {
    let home = Home::new();
    let file = home.write("a.json", r#"{"id": "quite-secret-id", "description": "quite-secret-text"}"#);
    let logged = home.command(&["agents", "deploy", &file]).env("A2A_LOG", "warn,a2a_sql=debug").output().unwrap();
    let logged = Ended::from(logged).code(0).err;
    assert!(logged.contains("DEBUG") && logged.contains("INSERT INTO agents") && logged.contains("ms="), "{logged}");
    assert!(!logged.contains("quite-secret"), "{logged}");
    assert_eq!(home.run(&["agents", "list"]).code(0).err, "");

    let Some(world) = World::postgres().await else { return };
    let World::Postgres(database) = &world else { unreachable!() };
    let server = open(world.options().env("A2A_SLOW_QUERY_MS", "400")).await;
    deploy(&server, json!({"id": "a", "description": "quick"})).await;
    // Somebody holds the row for longer than that.
    let client = database.client().await;
    client.batch_execute("BEGIN; SELECT 1 FROM agents WHERE id = 'a' FOR UPDATE").await.unwrap();
    let held = async {
        wait_for(Duration::from_secs(10), "the write waits", async || {
            let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
                           AND datname = current_database() AND now() - query_start > interval '500 ms'";
            let count: i64 = database.client().await.query_one(waiting, &[]).await.unwrap().get(0);
            (count > 0).then_some(())
        })
        .await;
        client.batch_execute("ROLLBACK").await.unwrap();
    };
    tokio::join!(deploy(&server, json!({"id": "a", "description": "waits"})), held);
    let told = wait_for(Duration::from_secs(5), "it is logged", async || {
        Some(server.stderr_tail()).filter(|text| text.contains("slow statement"))
    })
    .await;
    assert!(told.contains("WARN") && !told.contains("waits"), "{told}");
    let stats = call(&server, "registry_stats", json!({})).await;
    let operations = stats["operations"].as_array().unwrap();
    let commit = operations.iter().find(|row| row["operation"] == "agent_commit").unwrap();
    assert!(commit["calls"].as_u64().unwrap() >= 2, "{stats:#}");
    assert!(commit["max_ms"].as_f64().unwrap() >= 400.0 && operations.len() <= 8, "{stats:#}");
}

fn measured(home: &Home) {
    home.run(&["agents", "deploy", &home.write("mine.json", r#"{"id": "mine", "description": "x"}"#)]).code(0);
    let done = home.run(&["bench", "--agents", "50", "--json"]).code(0).json();
    let named: Vec<&str> =
        done["operations"].as_array().unwrap().iter().map(|row| row["operation"].as_str().unwrap()).collect();
    assert_eq!(named, ["get by id", "list all", "deploy", "search"]);
    for row in done["operations"].as_array().unwrap() {
        let [memory, cold, warm] =
            ["memory_ms", "persisted_cold_ms", "persisted_warm_ms"].map(|name| row[name].as_f64().unwrap());
        assert!(memory > 0.0 && warm > 0.0 && cold > warm, "{row}");
    }
    let left = home.run(&["agents", "list", "--json"]).code(0).json();
    assert_eq!((&left["total"], &left["agents"][0]["id"]), (&json!(1), &json!("mine")));
    let text = home.run(&["bench", "--agents", "10"]).code(0).out;
    assert!(text.contains("PERSISTED, WARM") && text.contains("get by id"), "{text}");
    home.run(&["bench", "--agents", "5"]).code(2);
}

#[test]
fn what_persistence_costs_is_measured_beside_the_agents_of_the_user() {
    measured(&Home::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_postgres_costs_is_measured_and_nothing_stays() {
    let Some(World::Postgres(database)) = World::postgres().await else { return };
    let url = database.url();
    tokio::task::block_in_place(|| measured(&Home::with_database(url)));
    let rows = database.client().await.query_one("SELECT count(*) FROM agents", &[]).await.unwrap();
    assert_eq!(rows.get::<_, i64>(0), 1);
}
