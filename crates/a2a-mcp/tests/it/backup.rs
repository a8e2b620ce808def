//! Backup, restore and moving from one database to another.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use a2a_testing::postgres::{TestDatabase, postgres_or_skip};
use a2a_testing::stdio::ServerOptions;
use serde_json::{Value, json};

use crate::cli::Home;
use crate::world::{call, figure};

/// Agents with a history, workflows, a run and memories.
pub(crate) fn fill(home: &Home) {
    let all = json!({
        "agents": [{"id": "a", "description": "One \u{1f980}\n\"two\"", "config": {"x": 1.50, "y": "\\u"}},
            {"id": "b", "description": "Goes"}, {"id": "c", "description": "Purged"}],
        "workflows": [{"id": "w", "steps": [{"name": "s", "agent": "builtin:echo", "input": {"x": "{{ input.x }}"}}]}],
        "memories": [{"content": "We deploy on Tuesdays", "key": "day", "importance": 0.1}, {"content": "Ann likes tea"}],
    });
    home.write("all.json", &all.to_string());
    home.run(&["import", "json", "all.json"]).code(0);
    home.write("again.json", "{\"id\": \"a\", \"description\": \"Changed\"}");
    home.run(&["import", "json", "again.json"]).code(0);
    home.run(&["agents", "remove", "b"]).code(0);
    home.run(&["agents", "remove", "c", "--purge", "--yes"]).code(0);
    home.run(&["runs", "start", "w", "--input", "{\"x\": 1}"]).code(0);
    home.run(&["memory", "feedback", "--agent", "a", "--score", "1"]).code(0);
}

/// What each table holds: rows and hash.
#[track_caller]
pub(crate) fn content(home: &Home) -> Value {
    let file = home.path().join("content.gz");
    let made = home.run(&["backup", file.to_str().unwrap(), "--force", "--json"]).code(0).json();
    made["tables"].clone()
}

#[track_caller]
fn rows(content: &Value, table: &str) -> u64 {
    let tables = content.as_array().unwrap();
    tables.iter().find(|found| found["table"] == table).unwrap()["rows"].as_u64().unwrap()
}

#[test]
fn a_backup_brings_everything_back() {
    let home = Home::new();
    fill(&home);
    let expected = content(&home);
    for (table, count) in [("agents", 2), ("agent_history", 2), ("tombstones", 1), ("runs", 1), ("memories", 3)] {
        assert!(rows(&expected, table) >= count - u64::from(table == "memories"), "{table}: {expected}");
    }
    let made = home.run(&["backup", "b.gz"]).code(0).out;
    assert!(made.contains("2 agents,") && made.contains("written to b.gz"), "{made}");
    assert!(home.run(&["backup", "b.gz"]).code(2).err.contains("--force"));
    use std::os::unix::fs::PermissionsExt as _;
    let file = home.path().join("b.gz");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    let other = Home::new();
    let restored = other.run(&["restore", file.to_str().unwrap()]).code(0).out;
    assert!(restored.starts_with("1 tombstones, 2 agents,"), "{restored}");
    assert_eq!(content(&other), expected);
    let full = other.run(&["restore", file.to_str().unwrap()]).code(2).err;
    assert!(full.contains("not empty") && full.contains("--merge"), "{full}");
    other.run(&["restore", file.to_str().unwrap(), "--merge"]).code(0);
    assert_eq!(content(&other), expected, "merging what is there changes nothing");
    // It goes on from there: the revisions of what was purged too.
    other.run(&["agents", "remove", "a"]).code(0);
    other.write("c.json", "{\"id\": \"c\", \"description\": \"Again\"}");
    let again = other.run(&["import", "json", "c.json", "--json"]).code(0).json();
    assert_eq!(again["items"][0]["revision"], 3, "{again}");
}

#[test]
fn nothing_is_written_from_a_file_that_was_cut_or_altered() {
    let home = Home::new();
    fill(&home);
    home.run(&["backup", "b.gz"]).code(0);
    let whole = std::fs::read(home.path().join("b.gz")).unwrap();
    let refused = |bytes: &[u8], what: &str| {
        let other = Home::new();
        std::fs::write(other.path().join("x.gz"), bytes).unwrap();
        let ended = other.run(&["restore", "x.gz"]).code(1);
        // What is altered may look as if a newer program had written it, as far as it can be read.
        let is_told = ended.err.contains("not a whole backup") || ended.err.contains("does not know");
        assert!(is_told && ended.err.contains("nothing was written"), "{what}: {}", ended.err);
        assert!(!other.path().join("data").exists(), "{what}: a database was made");
    };
    let step = (whole.len() / 12).max(1);
    for length in (0..whole.len()).step_by(step).chain([whole.len() - 1]) {
        refused(&whole[..length], &format!("cut after {length}"));
    }
    for place in (20..whole.len()).step_by(step) {
        let mut altered = whole.clone();
        altered[place] ^= 0x10;
        refused(&altered, &format!("altered at {place}"));
    }
    refused(&[&whole[..], b"more"].concat(), "lengthened");
    refused(b"{\"agents\": []}", "something else");
    assert!(Home::new().run(&["restore", "nowhere.gz"]).code(1).err.contains("can't be read"));
    assert!(Home::new().run(&["backup", "b.gz"]).code(2).err.contains("there is no database"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_moves_to_postgres_and_back() {
    let Some(server) = postgres_or_skip().await else { return };
    let database = TestDatabase::create(&server).await;
    let home = Home::new();
    fill(&home);
    let expected = content(&home);
    let moved = home.run(&["move", "--to", &database.url()]).code(0);
    assert!(moved.out.contains("2 agents,") && moved.err.contains("set DATABASE_URL"), "{}{}", moved.out, moved.err);
    assert_eq!(content(&home), expected, "the source stays as it is");
    let there = Home::with_database(database.url());
    assert_eq!(content(&there), expected);
    assert!(home.run(&["move", "--to", &database.url()]).code(2).err.contains("not empty"));
    home.run(&["move", "--to", &database.url(), "--merge"]).code(0);
    assert_eq!(content(&there), expected);
    let back = Home::new();
    let url = format!("sqlite:{}", back.path().join("back.db").display());
    there.run(&["move", "--to", &url]).code(0);
    assert_eq!(content(&Home::with_database(url.clone())), expected);
    let same = Home::with_database(url.clone());
    assert!(same.run(&["move", "--to", &url]).code(2).err.contains("the database itself"));
    assert!(home.run(&["move", "--to", "nowhere"]).code(2).err.contains("--to: "));
}

/// A backup of so many agents and memories, which another process has made.
fn large(home: &Home, agents: usize, memories: usize) -> String {
    let source = Home::new();
    source.run(&["migrate", "run"]).code(0);
    let part = 5_000;
    for first in (0..agents).step_by(part) {
        let documents: Vec<Value> = (first..(first + part).min(agents))
            .map(
                |i| json!({"id": format!("agent-{i:06}"), "description": format!("Agent {i}: {}", "word ".repeat(40))}),
            )
            .collect();
        let ended = source.run_with_input(&["import", "json", "-"], &json!({"agents": documents}).to_string());
        ended.code(0);
    }
    for first in (0..memories).step_by(part) {
        let documents: Vec<Value> = (first..(first + part).min(memories))
            .map(|i| json!({"content": format!("Fact {i}: {}", "word ".repeat(40)), "tags": [format!("t{}", i % 100)]}))
            .collect();
        let ended = source.run_with_input(&["import", "json", "-"], &json!({"memories": documents}).to_string());
        ended.code(0);
    }
    let file = home.path().join(format!("{agents}.gz")).to_str().unwrap().to_owned();
    source.run(&["backup", &file]).code(0);
    file
}

fn killed(home: &Home, file: &str, after: Duration) -> bool {
    let mut command = home.command(&["restore", file]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let started = Instant::now();
    while started.elapsed() < after {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    true
}

fn a_restore_that_is_killed_leaves_nothing_or_all(home: &Home) {
    let file = large(home, 2_000, 0);
    home.run(&["migrate", "run"]).code(0);
    let started = Instant::now();
    let timed = Home::new();
    timed.run(&["restore", &file]).code(0);
    let whole = started.elapsed();
    let (mut kills, mut empty) = (0, 0);
    for tenth in 1..=10 {
        if killed(home, &file, whole * tenth / 10) {
            kills += 1;
        }
        match rows(&content(home), "agents") {
            0 => empty += 1,
            2_000 => {
                assert!(kills > 0 || tenth > 1, "it was done at once");
                return;
            }
            half => panic!("{half} agents are there"),
        }
    }
    assert!(empty > 0 && kills > 0);
    home.run(&["restore", &file]).code(0);
    assert_eq!(rows(&content(home), "agents"), 2_000, "after that it can be restored");
}

#[test]
fn a_restore_into_sqlite_that_is_killed_leaves_nothing_or_all() {
    a_restore_that_is_killed_leaves_nothing_or_all(&Home::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_into_postgres_that_is_killed_leaves_nothing_or_all() {
    let Some(server) = postgres_or_skip().await else { return };
    let database = TestDatabase::create(&server).await;
    a_restore_that_is_killed_leaves_nothing_or_all(&Home::with_database(database.url()));
}

async fn running_clients_see_what_is_restored(home: &Home, options: ServerOptions) {
    let other = Home::new();
    fill(&other);
    let file = other.path().join("b.gz").to_str().unwrap().to_owned();
    other.run(&["backup", &file]).code(0);
    let server = crate::world::open(options).await;
    let before = call(&server, "agent_list", json!({})).await;
    assert_eq!(before["total"], 0, "{before}");
    home.run(&["restore", &file]).code(0);
    let started = Instant::now();
    loop {
        let agents = call(&server, "agent_list", json!({})).await;
        let memories = call(&server, "memory_search", json!({"query": "when do we deploy"})).await;
        if agents["total"] == 1 && memories.to_string().contains("Tuesdays") {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(10), "{agents} {memories}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn running_clients_on_sqlite_see_what_is_restored() {
    let home = Home::new();
    let data = home.path().join("data").to_str().unwrap().to_owned();
    let options = ServerOptions::new(&["serve"], &[("A2A_DATA_DIR", &data)]);
    running_clients_see_what_is_restored(&home, options).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn running_clients_on_postgres_see_what_is_restored() {
    let Some(server) = postgres_or_skip().await else { return };
    let database = TestDatabase::create(&server).await;
    let options = ServerOptions::new(&["serve"], &[("DATABASE_URL", &database.url())]);
    running_clients_see_what_is_restored(&Home::with_database(database.url()), options).await;
}

/// The most memory that a command took, in KiB.
fn peak(home: &Home, args: &[&str]) -> u64 {
    let mut child = home.command(args).stdout(Stdio::null()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let text = std::fs::read_to_string(Path::new(&status)).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let now = line.and_then(|line| line.split_whitespace().next()).and_then(|number| number.parse().ok());
        peak = peak.max(now.unwrap_or(0));
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(child.wait().unwrap().success(), "{args:?}");
    peak
}

#[test]
fn memory_stays_bounded_however_much_there_is() {
    let many_of_each = figure(4_000, 100_000);
    let home = Home::new();
    let few = large(&home, 100, 100);
    let little = peak(&Home::new(), &["restore", &few]);
    let many = large(&home, many_of_each, many_of_each);
    let into = Home::new();
    let restore = peak(&into, &["restore", &many]);
    let content = content(&into);
    for table in ["agents", "memories"] {
        assert_eq!(rows(&content, table), many_of_each as u64, "{table}");
    }
    let backup = peak(&into, &["backup", "again.gz"]);
    let text = format!("restore {restore} KiB, backup {backup} KiB, restore of 100 of each {little} KiB");
    println!("{many_of_each} agents and as many memories: {text}");
    assert!(restore.max(backup) < little + 64 * 1024, "{text}");
}
