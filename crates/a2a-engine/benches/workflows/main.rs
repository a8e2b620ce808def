//! Runs against the least that the same database can do, and against another engine: `cargo xtask bench workflows`.
//!
//! All alternate in one run on one server, so that whatever else the machine does falls on each of them.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark prints, and ends when something does not hold"
)]

mod dbos;
mod floor;
mod latency;
mod python;
#[path = "../../../a2a-core/benches/bench/table.rs"]
mod table;

use std::time::{Duration, Instant};

use a2a_core::ids::Actor;
use a2a_core::workflow::run::RunStatus;
use a2a_engine::config::{Config, Settings};
use a2a_engine::hub::{DeployOptions, Hub, RunRequest};
use a2a_testing::postgres::{TestDatabase, postgres_or_skip};
use serde_json::{Value, json};

use dbos::Dbos;
use floor::Floor;
use table::{Aim, Asked, Figure, Table, median};

/// A run that takes longer has stopped.
const LIMIT: Duration = Duration::from_secs(120);
/// Steps per second, against the other engine.
const TIMES_DBOS: f64 = 5.0;

/// A shape of work: so many runs at once, of so many steps.
#[derive(Debug, Clone, Copy)]
struct Shape {
    what: &'static str,
    runs: usize,
    steps: usize,
    /// Each step depends on the one before.
    chained: bool,
}

const SHAPES: [Shape; 3] = [
    Shape { what: "a chain of 100 steps", runs: 1, steps: 100, chained: true },
    Shape { what: "400 steps of one run at once", runs: 1, steps: 400, chained: false },
    Shape { what: "50 runs at once, chains of 8 steps", runs: 50, steps: 8, chained: true },
];

/// Agents that give their input back, with what their steps cost: what is built in is done as soon as it can begin, and
/// a worker claims a step and commits what came of it.
const AGENTS: [(&str, &str); 2] = [("builtin:echo", "built in"), ("parrot", "by a worker")];

impl Shape {
    fn total(self) -> usize {
        self.runs * self.steps
    }

    fn rate(self, times: &[Duration]) -> Figure {
        Figure::Rate(self.total() as f64 / median(times).as_secs_f64())
    }

    fn document(self, agent: &str) -> Value {
        let steps: Vec<Value> = (0..self.steps)
            .map(|number| {
                let before = if self.chained && number > 0 { vec![format!("s{}", number - 1)] } else { Vec::new() };
                json!({"name": format!("s{number}"), "agent": agent, "input": {"number": number},
                    "depends_on": before})
            })
            .collect();
        json!({"steps": steps, "result": "done"})
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        // This program is also the other process that a measurement needs.
        [latency::CHILD, url, folder] => runtime().block_on(latency::child(url, folder)),
        _ => {
            if let Some(asked) = Asked::from_args() {
                runtime().block_on(measure(&asked));
            }
        }
    }
}

/// As the server has it.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// A database, and where the embedded one is.
enum Database {
    Postgres(TestDatabase),
    Sqlite(tempfile::TempDir),
}

impl Database {
    fn name(&self) -> &'static str {
        match self {
            Self::Postgres(_) => "Postgres",
            Self::Sqlite(_) => "SQLite",
        }
    }

    /// The URL of the server, or nothing, and the folder of the file.
    fn place(&self) -> (String, String) {
        match self {
            Self::Postgres(database) => (database.url(), String::new()),
            Self::Sqlite(folder) => (String::new(), folder.path().display().to_string()),
        }
    }
}

/// The running system over a database.
fn open((url, folder): &(String, String)) -> Hub {
    let given = |text: &String| (!text.is_empty()).then(|| text.clone());
    let settings =
        Settings { database_url: given(url), data_dir: given(folder).map(Into::into), ..Settings::default() };
    Hub::open(Config::new(&settings).unwrap())
}

fn actor() -> Actor {
    Actor::new("bench")
}

async fn measure(asked: &Asked) {
    let server = postgres_or_skip().await;
    let note = "committed, fsync on; echo steps in one process; floor: the same number of single inserts, each committed, \
                on one connection; medians, alternating";
    let mut table = Table::new("workflows", note);
    let rounds = if asked.quick { 3 } else { 9 };
    if let Some(server) = &server {
        let database = Database::Postgres(TestDatabase::create(server).await);
        let other = TestDatabase::create(server).await;
        let dbos = Dbos::start(&other.url());
        shapes(&mut table, &database, dbos, rounds).await;
    }
    shapes(&mut table, &Database::Sqlite(tempfile::tempdir().unwrap()), None, rounds).await;
    let samples = if asked.quick { 40 } else { 300 };
    if let Some(server) = &server {
        latency::measure(&mut table, &Database::Postgres(TestDatabase::create(server).await), samples).await;
    }
    latency::measure(&mut table, &Database::Sqlite(tempfile::tempdir().unwrap()), samples).await;
    table.finish();
}

async fn shapes(table: &mut Table, database: &Database, mut dbos: Option<Dbos>, rounds: usize) {
    let hub = open(&database.place());
    let parrot = json!({"id": "parrot", "description": "Says what it is told.",
        "executor": {"kind": "builtin", "settings": {"operation": "echo"}}});
    let deployed = hub.agent_deploy(&[parrot], "agents", &DeployOptions::default(), &actor()).await.unwrap();
    assert!(deployed.iter().all(Result::is_ok), "{deployed:?}");
    let mut floor = Floor::of(database).await;
    for shape in SHAPES {
        let (mut least, mut theirs) = (Vec::new(), Vec::new());
        let mut ours = AGENTS.map(|_| Vec::new());
        // The first round is not counted: connections are opened, statements prepared, modules loaded.
        for round in 0..=rounds {
            let (bare, other) = (floor.commit(shape.total()).await, dbos.as_mut().map(|d| d.run(shape)));
            if round > 0 {
                least.extend(bare);
                theirs.extend(other);
            }
            for ((agent, _), times) in AGENTS.iter().zip(&mut ours) {
                let time = run(&hub, shape, agent).await;
                if round > 0 {
                    times.push(time);
                }
            }
        }
        for ((_, how), ours) in AGENTS.iter().zip(&ours) {
            let what = format!("{}: {}, {how}", database.name(), shape.what);
            let floor = (!least.is_empty()).then(|| shape.rate(&least));
            table.row(what.clone(), floor, shape.rate(ours), Aim::None);
            if !theirs.is_empty() {
                let what = format!("{what}, against DBOS Transact for Python");
                table.row(what, Some(shape.rate(&theirs)), shape.rate(ours), Aim::RatioLeast(TIMES_DBOS));
            }
        }
    }
    hub.close().await;
}

/// From the calls that start the runs until all have ended.
async fn run(hub: &Hub, shape: Shape, agent: &str) -> Duration {
    let document = shape.document(agent);
    let begin = Instant::now();
    let runs = (0..shape.runs).map(|_| async {
        let request = RunRequest { inline: Some(document.clone()), ..RunRequest::default() };
        let id = hub.run_start(request, &actor()).await.unwrap().id.clone();
        let state = hub.run_wait(&id, LIMIT).await.unwrap();
        assert_eq!(state.run.status, RunStatus::Completed, "{:?}", state.run.error);
    });
    futures_util::future::join_all(runs).await;
    begin.elapsed()
}
