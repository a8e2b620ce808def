//! The start of a process over a large registry.

use std::process::Command;
use std::time::{Duration, Instant};

use a2a_testing::postgres::PostgresServer;
use diesel::{QueryableByName, RunQueryDsl as _};
use futures_util::TryStreamExt as _;

use crate::database::{Database, Running, fill};
use crate::floor::sqlite_connection;
use crate::table::{Aim, Figure, Table, median, resident_bytes};

/// The argument that makes this program the process that loads.
pub(crate) const CHILD: &str = "--load-child";
const RATIO_MOST: f64 = 2.0;

const SELECT: &str = "SELECT namespace, id, revision, name, version, description, instructions, category, tags, \
    enabled, capabilities, executor_kind, executor_settings, config, deprecated, created_at, updated_at, \
    deployed_at, updated_by, removed_at FROM agents WHERE removed_at IS NULL";

pub(crate) async fn measure(table: &mut Table, server: Option<&PostgresServer>, agents: usize, rounds: usize) {
    if let Some(server) = server {
        one(table, &Database::postgres(server).await, agents, rounds).await;
    }
    one(table, &Database::sqlite().await, agents, rounds).await;
}

async fn one(table: &mut Table, database: &Database, agents: usize, rounds: usize) {
    let url = database.url();
    fill(&url, agents).await;
    let name = database.name();
    let (mut floors, mut ours, mut searchable, mut memory) = (Vec::new(), Vec::new(), Vec::new(), 0.0);
    for _ in 0..rounds {
        floors.push(Start::of(CHILD, "floor", &url, agents).loaded);
        let start = Start::of(CHILD, "ours", &url, agents);
        ours.push(start.loaded);
        searchable.push(start.searchable);
        memory = start.memory;
    }
    let what = format!("{name}: load of {agents} agents");
    let (floor, took) = (Figure::Time(median(&floors)), Figure::Time(median(&ours)));
    table.row(what, Some(floor), took, Aim::RatioMost(RATIO_MOST));
    let took = Figure::Time(median(&searchable));
    table.row(format!("{name}: until search knows {agents} agents"), Some(floor), took, Aim::None);
    let per_agent = Figure::Bytes(memory / agents as f64);
    table.row(format!("{name}: resident memory per agent"), None, per_agent, Aim::None);
}

/// What another process took.
pub(crate) struct Start {
    pub(crate) loaded: Duration,
    pub(crate) searchable: Duration,
    /// Bytes that came on top.
    pub(crate) memory: f64,
}

impl Start {
    /// Starts it and reads what it prints.
    pub(crate) fn of(child: &str, side: &str, url: &str, count: usize) -> Self {
        let output = Command::new(std::env::current_exe().unwrap()).args([child, side, url]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let parts: Vec<f64> = text.split_whitespace().map(|part| part.parse().unwrap()).collect();
        let &[loaded, searchable, memory, read] = parts.as_slice() else {
            panic!("the other process failed: {}", String::from_utf8_lossy(&output.stderr));
        };
        assert_eq!(read as usize, count);
        Self { loaded: Duration::from_secs_f64(loaded), searchable: Duration::from_secs_f64(searchable), memory }
    }

    /// Prints the seconds until everything is there and until search knows it, the bytes of memory that came on top of
    /// `before`, and how many were read.
    pub(crate) fn print(loaded: Duration, searchable: Duration, before: f64, read: usize) {
        let memory = resident_bytes() - before;
        println!("{} {} {memory} {read}", loaded.as_secs_f64(), searchable.as_secs_f64());
    }
}

pub(crate) async fn child(side: &str, url: &str) {
    let before = resident_bytes();
    let start = Instant::now();
    let (took, loaded) = if side == "ours" {
        let running = Running::start(url).await;
        let took = start.elapsed();
        running.searchable().await;
        (took, running.cache.read().len())
    } else if url.starts_with("sqlite:") {
        let loaded = floor_sqlite(url);
        (start.elapsed(), loaded)
    } else {
        let loaded = floor_postgres(url).await;
        (start.elapsed(), loaded)
    };
    Start::print(took, start.elapsed(), before, loaded);
}

/// Reads every row and looks at its id.
async fn floor_postgres(url: &str) -> usize {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let none: [&str; 0] = [];
    let mut rows = std::pin::pin!(client.query_raw(SELECT, none).await.unwrap());
    let mut loaded = 0;
    while let Some(row) = rows.try_next().await.unwrap() {
        loaded += usize::from(!row.get::<_, &str>(1).is_empty());
    }
    loaded
}

#[derive(QueryableByName)]
#[expect(dead_code, reason = "reading the columns is what is measured")]
struct Raw {
    #[diesel(sql_type = diesel::sql_types::Text)]
    namespace: String,
    #[diesel(sql_type = diesel::sql_types::Text)]
    id: String,
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    revision: i64,
    #[diesel(sql_type = diesel::sql_types::Text)]
    name: String,
    #[diesel(sql_type = diesel::sql_types::Text)]
    version: String,
    #[diesel(sql_type = diesel::sql_types::Text)]
    description: String,
    #[diesel(sql_type = diesel::sql_types::Text)]
    instructions: String,
    #[diesel(sql_type = diesel::sql_types::Text)]
    category: String,
    #[diesel(sql_type = diesel::sql_types::Text)]
    tags: String,
    #[diesel(sql_type = diesel::sql_types::Bool)]
    enabled: bool,
    #[diesel(sql_type = diesel::sql_types::Text)]
    capabilities: String,
    #[diesel(sql_type = diesel::sql_types::Text)]
    executor_kind: String,
    #[diesel(sql_type = diesel::sql_types::Text)]
    executor_settings: String,
    #[diesel(sql_type = diesel::sql_types::Text)]
    config: String,
    #[diesel(sql_type = diesel::sql_types::Nullable<diesel::sql_types::Text>)]
    deprecated: Option<String>,
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    created_at: i64,
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    updated_at: i64,
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    deployed_at: i64,
    #[diesel(sql_type = diesel::sql_types::Text)]
    updated_by: String,
    #[diesel(sql_type = diesel::sql_types::Nullable<diesel::sql_types::BigInt>)]
    removed_at: Option<i64>,
}

fn floor_sqlite(url: &str) -> usize {
    let mut conn = sqlite_connection(url);
    let rows: Vec<Raw> = diesel::sql_query(SELECT).load(&mut conn).unwrap();
    rows.len()
}
