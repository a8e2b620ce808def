//! Mode `backup`: memory at run time, brought together with the database at intervals and at the end.

use std::time::Duration;

use a2a_testing::fault_proxy::{FaultProxy, Moment};
use a2a_testing::postgres::{TestDatabase, postgres_or_skip};
use a2a_testing::stdio::{ServerOptions, ServerProcess};
use a2a_testing::wait::wait_until;
use serde_json::{Value, json};

use crate::backup::{content, fill};
use crate::cli::Home;
use crate::world::{World, call, deploy, document, on_both, open, rows, whole_call};

const LIMIT: Duration = Duration::from_secs(20);

on_both!(
    everything_is_in_the_database_after_the_end,
    what_others_write_meanwhile_is_kept,
    no_mode_loses_anything_of_another,
);

fn backup(options: ServerOptions, interval: &str) -> ServerOptions {
    options.env("A2A_STORAGE", "backup").env("A2A_BACKUP_INTERVAL", interval)
}

/// Deploys an agent into memory.
async fn put(server: &ServerProcess, id: &str, description: &str) {
    let agents = json!({"agents": [{"id": id, "description": description}]});
    let reply = whole_call(server, "agent_deploy", agents).await;
    assert_eq!(reply.structured["durability"], "accepted", "{}", reply.raw);
    assert!(reply.structured["synced_by"].is_string(), "{}", reply.raw);
    assert!(reply.raw.to_string().contains("in memory until it is synced to the database at 2"), "{}", reply.raw);
}

async fn description(server: &ServerProcess, id: &str) -> Option<String> {
    Some(document(server, id).await?["description"].as_str().unwrap().to_owned())
}

async fn sync_stats(server: &ServerProcess) -> Value {
    let stats = call(server, "registry_stats", json!({})).await;
    assert_eq!(stats["storage"]["mode"], "backup");
    stats["sync"].clone()
}

async fn everything_is_in_the_database_after_the_end(world: World) {
    let other = world.server().await;
    deploy(&other, json!({"id": "goes", "description": "d"})).await;
    deploy(&other, json!({"id": "purged", "description": "d"})).await;
    deploy(&other, json!({"id": "changes", "description": "before"})).await;
    let server = open(backup(world.options(), "1h")).await;
    assert_eq!(rows(&server).await.unwrap().len(), 3, "what the database holds is loaded");
    put(&server, "new", "d").await;
    put(&server, "changes", "after").await;
    call(&server, "agent_remove", json!({"ids": ["goes"]})).await;
    call(&server, "agent_remove", json!({"ids": ["purged"], "purge": true})).await;
    call(&server, "memory_store", json!({"memories": [{"content": "We deploy on Tuesdays"}]})).await;
    assert!(sync_stats(&server).await["waiting"].as_u64().unwrap() >= 5);
    assert!(document(&other, "new").await.is_none(), "it is in memory only");
    server.finish().await;
    wait_until(LIMIT, "the other process sees it all", async || {
        description(&other, "changes").await.as_deref() == Some("after") && rows(&other).await.unwrap().len() == 2
    })
    .await;
    assert_eq!(description(&other, "new").await.as_deref(), Some("d"));
    wait_until(LIMIT, "and the memory", async || {
        let found = call(&other, "memory_search", json!({"query": "when do we deploy?"})).await;
        found["memories"][0]["content"] == "We deploy on Tuesdays"
    })
    .await;
    other.finish().await;
    let again = open(backup(world.options(), "1h")).await;
    assert_eq!(rows(&again).await.unwrap().len(), 2);
    again.finish().await;
}

async fn what_others_write_meanwhile_is_kept(world: World) {
    let other = world.server().await;
    deploy(&other, json!({"id": "both", "description": "base"})).await;
    let server = open(backup(world.options(), "1s")).await;
    deploy(&other, json!({"id": "theirs", "description": "d"})).await;
    put(&server, "ours", "d").await;
    wait_until(LIMIT, "each has what the other wrote", async || {
        document(&server, "theirs").await.is_some() && document(&other, "ours").await.is_some()
    })
    .await;
    server.finish().await;
    let server = open(backup(world.options(), "1h")).await;
    put(&server, "both", "ours 2").await;
    put(&server, "both", "ours 3").await;
    deploy(&other, json!({"id": "both", "description": "theirs 2"})).await;
    call(&server, "agent_remove", json!({"ids": ["ours"], "purge": true})).await;
    server.finish().await;
    wait_until(LIMIT, "the higher revision stays", async || {
        description(&other, "both").await.as_deref() == Some("ours 3")
    })
    .await;
    assert_eq!(document(&other, "both").await.unwrap()["revision"], 5, "theirs is revision 4, in the history");
    assert!(document(&other, "ours").await.is_none());
    assert!(document(&other, "theirs").await.is_some());
    other.finish().await;
}

async fn no_mode_loses_anything_of_another(world: World) {
    for round in 0..2 {
        let persisted = world.server().await;
        assert_eq!(rows(&persisted).await.unwrap().len(), 2 * round);
        deploy(&persisted, json!({"id": format!("persisted-{round}"), "description": "d"})).await;
        persisted.finish().await;
        let server = open(backup(world.options(), "1h")).await;
        assert_eq!(rows(&server).await.unwrap().len(), 2 * round + 1);
        put(&server, &format!("backup-{round}"), "d").await;
        server.terminate();
        assert!(server.wait_exit(LIMIT).await.is_some());
        for (mode, count) in [("memory", 0), ("replica", 2 * round + 2)] {
            let server = open(world.options().env("A2A_STORAGE", mode)).await;
            assert_eq!(rows(&server).await.unwrap().len(), count, "{mode}");
            server.finish().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_away_is_waited_for_and_nothing_is_lost() {
    let Some(cluster) = postgres_or_skip().await else { return };
    let database = TestDatabase::create(&cluster).await;
    let proxy = FaultProxy::start_for(&database.url()).await;
    let options = || ServerOptions::new(&["serve"], &[("DATABASE_URL", &proxy.url(&database.url()))]);
    let server = open(backup(options(), "1s")).await;
    wait_until(LIMIT, "it is loaded", async || {
        server.call_tool("agent_list", json!({})).await.is_ok_and(|r| !r.is_error)
    })
    .await;
    proxy.refuse(true);
    proxy.cut_all();
    put(&server, "a", "written while it is away").await;
    wait_until(LIMIT, "syncs fail", async || sync_stats(&server).await["failures"].as_u64().unwrap() >= 2).await;
    let stats = sync_stats(&server).await;
    assert!(stats["waiting"].as_u64().unwrap() >= 1 && stats["error"].is_string(), "{stats}");
    assert!(server.stderr_tail().contains("was not synced"), "{}", server.stderr_tail());
    proxy.heal();
    wait_until(LIMIT, "it is synced", async || {
        let stats = sync_stats(&server).await;
        stats["failures"] == 0 && stats["waiting"] == 0
    })
    .await;
    let other = open(ServerOptions::new(&["serve"], &[("DATABASE_URL", &database.url())])).await;
    assert!(document(&other, "a").await.is_some());
    // An end that can't sync says so, and does not hang.
    proxy.refuse(true);
    proxy.cut_all();
    put(&server, "lost", "d").await;
    server.terminate();
    assert!(server.wait_exit(LIMIT).await.is_some());
    assert!(server.stderr_tail().contains("the last sync to the database has failed"), "{}", server.stderr_tail());
    assert!(document(&other, "lost").await.is_none());
    other.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_killed_in_a_sync_leaves_the_database_as_it_was() {
    let Some(cluster) = postgres_or_skip().await else { return };
    let database = TestDatabase::create(&cluster).await;
    let proxy = FaultProxy::start_for(&database.url()).await;
    let options = || ServerOptions::new(&["serve"], &[("DATABASE_URL", &proxy.url(&database.url()))]);
    let server = open(backup(options(), "1h")).await;
    put(&server, "kept", "before").await;
    server.finish().await;
    let server = open(backup(options(), "1s")).await;
    assert!(document(&server, "kept").await.is_some());
    let fault = proxy.arm_cut_at_statement("UPDATE store_meta SET epoch", Moment::Before);
    put(&server, "kept", "after").await;
    assert!(fault.wait_fired(1, LIMIT).await, "a sync has begun to write");
    server.kill();
    assert!(server.wait_exit(LIMIT).await.is_some());
    let other = open(ServerOptions::new(&["serve"], &[("DATABASE_URL", &database.url())])).await;
    assert_eq!(description(&other, "kept").await.as_deref(), Some("before"));
    deploy(&other, json!({"id": "more", "description": "it takes writes"})).await;
    other.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_at_any_moment_leave_whole_syncs_in_a_file() {
    const AT_ONCE: usize = 100;
    let world = World::sqlite();
    for round in 0..8_u64 {
        let server = open(backup(world.options(), "1s")).await;
        assert_eq!(rows(&server).await.unwrap().len() % AT_ONCE, 0, "a part of a write is there");
        let agents: Vec<Value> =
            (0..AT_ONCE).map(|i| json!({"id": format!("r{round}-{i}"), "description": "d"})).collect();
        call(&server, "agent_deploy", json!({"agents": agents})).await;
        // Any moment is as good as another; most of these are around that of the sync.
        tokio::time::sleep(Duration::from_millis(850 + 30 * round)).await;
        server.kill();
        assert!(server.wait_exit(LIMIT).await.is_some());
    }
    let last = world.server().await;
    assert_eq!(rows(&last).await.unwrap().len() % AT_ONCE, 0);
    last.finish().await;
}

/// What each table holds, but for tool calls, of which each process leaves some.
fn lasting(home: &Home) -> Value {
    let tables = content(home);
    tables.as_array().unwrap().iter().filter(|table| table["table"] != "tool_usage").cloned().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_whole_way_from_memory_to_postgres_and_back() {
    let Some(cluster) = postgres_or_skip().await else { return };
    let database = TestDatabase::create(&cluster).await;
    // In memory, and from there into the embedded file.
    let memory = ServerProcess::spawn(crate::world::binary(), &["serve"], &[("A2A_STORAGE", "memory")]).await;
    memory.initialize("way").await.unwrap();
    call(&memory, "agent_deploy", json!({"agents": [{"id": "first", "description": "From memory"}]})).await;
    let mut agent = document(&memory, "first").await.unwrap();
    memory.finish().await;
    let home = Home::new();
    fill(&home);
    agent.as_object_mut().unwrap().retain(|field, _| ["id", "description"].contains(&field.as_str()));
    home.write("first.json", &agent.to_string());
    home.run(&["import", "json", "first.json"]).code(0);
    let expected = lasting(&home);
    // To Postgres.
    home.run(&["move", "--to", &database.url()]).code(0);
    let there = Home::with_database(database.url());
    assert_eq!(lasting(&there), expected);
    // Memory with syncs: nothing changes by itself, and what is written arrives.
    // The run that waits for somebody is left alone.
    let variables = [("DATABASE_URL", database.url()), ("A2A_STEPS_MAX", "0".to_owned())];
    let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
    let options = || backup(ServerOptions::new(&["serve"], &variables), "1h");
    let server = open(options()).await;
    assert_eq!(description(&server, "first").await.as_deref(), Some("From memory"));
    server.finish().await;
    assert_eq!(lasting(&there), expected, "a sync without changes changes nothing");
    let server = open(options()).await;
    put(&server, "second", "In memory, synced at the end").await;
    server.finish().await;
    let with_second = lasting(&there);
    assert_ne!(with_second, expected);
    there.run(&["agents", "show", "second"]).code(0);
    // A command writes straight through.
    there.write("third.json", "{\"id\": \"third\", \"description\": \"By a command\"}");
    let command = ["import", "json", "third.json"];
    let done = there.command(&command).env("A2A_STORAGE", "backup").output().unwrap();
    assert!(String::from_utf8_lossy(&done.stdout).contains("committed"), "{done:?}");
    there.run(&["agents", "show", "third"]).code(0);
    // Back to memory only, and back again.
    let before = lasting(&there);
    let gone = there.command(&["agents", "list", "--json"]).env("A2A_STORAGE", "memory").output().unwrap();
    assert!(!String::from_utf8_lossy(&gone.stdout).contains("second"));
    assert_eq!(lasting(&there), before);
    let back = Home::with_database(format!("sqlite:{}", home.path().join("back.db").display()));
    there.run(&["move", "--to", &format!("sqlite:{}", home.path().join("back.db").display())]).code(0);
    assert_eq!(lasting(&back), before);
    let doctor = there.command(&["doctor"]).env("A2A_STORAGE", "backup").output().unwrap();
    assert!(String::from_utf8_lossy(&doctor.stdout).contains("syncs to the database every 1h"), "{doctor:?}");
}
