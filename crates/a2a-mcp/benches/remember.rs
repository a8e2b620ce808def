//! Storing and recalling memories over stdio, against the memory server of the protocol's authors on the same data. Run it
//! with `cargo xtask bench remember`.
//!
//! Both are processes that one client speaks to over pipes. Ours commits each memory to SQLite with a sync; the other
//! one writes its whole file at each change.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark prints, and ends when something does not hold"
)]

#[path = "../../a2a-core/benches/bench/roster.rs"]
#[allow(dead_code, reason = "only the words are used here")]
mod roster;
#[path = "../../a2a-core/benches/bench/table.rs"]
#[allow(dead_code, reason = "other benchmarks use the rest")]
mod table;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use a2a_testing::stdio::{ServerOptions, ServerProcess};
use serde_json::{Value, json};

use table::{Aim, Asked, Figure, Table, median, percentile};

const PACKAGE: &str = "@modelcontextprotocol/server-memory@2026.8.31";
/// Facts of one call while the data is loaded.
const BATCH: usize = 500;
/// At this size the aims are set.
const AIMED_AT: usize = 10_000;
/// How many times quicker a write with commit should be.
const WRITE_TIMES: f64 = 50.0;
/// How many times quicker a search should be.
const SEARCH_TIMES: f64 = 20.0;

fn main() {
    let Some(asked) = Asked::from_args() else { return };
    let sizes: &[usize] = if asked.quick { &[1_000] } else { &[1_000, 10_000, 100_000] };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let other = other_server();
    let mut table = Table::new(
        "remember",
        "one memory_store with commit and one memory_search over stdio, SQLite; floor: create_entities and search_nodes of \
         @modelcontextprotocol/server-memory on the same facts; the ratio is ours to theirs",
    );
    for size in sizes {
        // The other server writes its whole file for each batch, which takes minutes at the largest size.
        let other = other.as_deref().filter(|_| *size <= AIMED_AT);
        runtime.block_on(compare(&mut table, *size, other));
    }
    table.finish();
}

fn fact(number: usize) -> String {
    let mut random = roster::Random::new(number);
    format!("{} {number}", random.text(12))
}

/// Two neighbouring words of a fact: the other server looks for them as they are.
fn question(number: usize) -> String {
    let fact = fact(number);
    let mut words = fact.split(' ').skip(4);
    format!("{} {}", words.next().unwrap(), words.next().unwrap())
}

async fn compare(table: &mut Table, size: usize, other: Option<&Path>) {
    let folder = tempfile::tempdir().unwrap();
    let theirs = match other {
        Some(script) => Some(Theirs::start(script, &folder.path().join("memory.jsonl")).await),
        None => None,
    };
    let ours = Ours::start(&folder.path().join("ours")).await;
    ours.load(size).await;
    let (writes, searches) = (ours.writes(size, 200).await, ours.searches(size, 500).await);
    let mut floors = None;
    if let Some(theirs) = theirs {
        theirs.load(size).await;
        floors = Some((theirs.writes(size, 30).await, theirs.searches(size, 60).await));
        theirs.server.finish().await;
    }
    let aims = if size == AIMED_AT {
        (Aim::RatioMost(1.0 / WRITE_TIMES), Aim::RatioMost(1.0 / SEARCH_TIMES))
    } else {
        (Aim::None, Aim::None)
    };
    let p50 = |samples: &[Duration]| Figure::Time(median(samples));
    let (write_floor, search_floor) = (floors.as_ref().map(|f| p50(&f.0)), floors.as_ref().map(|f| p50(&f.1)));
    table.row(format!("store one, with {size} memories, p50"), write_floor, p50(&writes), aims.0);
    table.row(format!("search, with {size} memories, p50"), search_floor, p50(&searches), aims.1);
    table.row(format!("search, with {size} memories, p99"), None, Figure::Time(percentile(&searches, 99)), Aim::None);
    ours.server.finish().await;
}

/// Times calls one after the other.
async fn timed(server: &ServerProcess, tool: &str, calls: impl Iterator<Item = Value>) -> Vec<Duration> {
    let mut samples = Vec::new();
    for arguments in calls {
        let started = Instant::now();
        let reply = server.call_tool(tool, arguments).await.unwrap();
        samples.push(started.elapsed());
        assert!(!reply.is_error, "{tool}: {}", reply.text);
    }
    samples
}

struct Ours {
    server: ServerProcess,
}

impl Ours {
    async fn start(folder: &Path) -> Self {
        let options = ServerOptions::new(&["serve"], &[("A2A_DATA_DIR", folder.to_str().unwrap())]);
        let server = ServerProcess::spawn_with(Path::new(env!("CARGO_BIN_EXE_a2a-mcp")), options).await;
        server.initialize("bench").await.unwrap();
        Self { server }
    }

    async fn load(&self, size: usize) {
        for start in (0..size).step_by(BATCH) {
            let end = (start + BATCH).min(size);
            let memories: Vec<Value> = (start..end).map(|n| json!({"content": fact(n)})).collect();
            let reply = self.server.call_tool("memory_store", json!({"memories": memories})).await.unwrap();
            assert_eq!(reply.structured["stored"], end - start, "{}", reply.text);
        }
    }

    async fn writes(&self, size: usize, count: usize) -> Vec<Duration> {
        let calls = (size..size + count).map(|n| json!({"memories": [{"content": fact(n)}]}));
        timed(&self.server, "memory_store", calls).await
    }

    async fn searches(&self, size: usize, count: usize) -> Vec<Duration> {
        let calls = (0..count).map(|n| json!({"query": question(n * 7_919 % size)}));
        timed(&self.server, "memory_search", calls).await
    }
}

struct Theirs {
    server: ServerProcess,
}

impl Theirs {
    async fn start(script: &Path, file: &Path) -> Self {
        let variables = [("MEMORY_FILE_PATH", file.to_str().unwrap())];
        let options = ServerOptions::new(&[script.to_str().unwrap()], &variables);
        let server = ServerProcess::spawn_with(&program("node").expect("node is on the PATH"), options).await;
        server.initialize("bench").await.unwrap();
        Self { server }
    }

    fn entity(number: usize) -> Value {
        json!({"name": format!("fact-{number}"), "entityType": "fact", "observations": [fact(number)]})
    }

    async fn load(&self, size: usize) {
        for start in (0..size).step_by(BATCH) {
            let entities: Vec<Value> = (start..(start + BATCH).min(size)).map(Self::entity).collect();
            let reply = self.server.call_tool("create_entities", json!({"entities": entities})).await.unwrap();
            assert!(!reply.is_error, "{}", reply.text);
        }
    }

    async fn writes(&self, size: usize, count: usize) -> Vec<Duration> {
        let calls = (size..size + count).map(|n| json!({"entities": [Self::entity(n)]}));
        timed(&self.server, "create_entities", calls).await
    }

    async fn searches(&self, size: usize, count: usize) -> Vec<Duration> {
        let calls = (0..count).map(|n| json!({"query": question(n * 7_919 % size)}));
        timed(&self.server, "search_nodes", calls).await
    }
}

fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Installs the other server into the target folder, once. `None` when that is not possible here.
fn other_server() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("node-server-memory");
    let script = folder.join("node_modules/@modelcontextprotocol/server-memory/dist/index.js");
    if script.exists() {
        return Some(script);
    }
    std::fs::create_dir_all(&folder).ok()?;
    let installed = Command::new("npm")
        .args(["install", "--no-audit", "--no-fund", "--no-save", "--fetch-retries", "1", "--prefix"])
        .arg(&folder)
        .arg(PACKAGE)
        .status();
    if installed.is_ok_and(|status| status.success()) && script.exists() {
        return Some(script);
    }
    eprintln!("{PACKAGE} can't be installed here; there is no floor");
    None
}
