//! The start of a process over many memories: until they are loaded, so that they can be read by id and by filters, and
//! until the last one can be recalled, its words read and its vector computed.

use std::time::Instant;

use a2a_core::ids::{Actor, MemoryId, Namespace, OpId};
use a2a_core::memory::command::{MemoryAction, MemoryCommand, NewMemory};
use a2a_core::memory::{MemorySpec, Trust};
use a2a_core::time::Timestamp;
use a2a_testing::postgres::PostgresServer;
use diesel::{QueryableByName, RunQueryDsl as _};
use futures_util::TryStreamExt as _;
use serde_json::json;

use crate::database::{Database, Running, open};
use crate::floor::sqlite_connection;
use crate::load::Start;
use crate::roster::Random;
use crate::table::{Aim, Figure, Table, median, resident_bytes};

/// The argument that makes this program the process that loads.
pub(crate) const CHILD: &str = "--load-memories-child";
const RATIO_MOST: f64 = 2.0;
/// Memories of one commit while the database is filled.
const BATCH: usize = 1_000;

const SELECT: &str = "SELECT id, namespace, kind, content, data, tags, importance, decay, expires_at, key, agent, session, \
    user_name, run_id, step, supersedes, relations, author, trust, derived_from, content_hash, frequency, accesses, \
    last_accessed, superseded_by, revision, created_at, updated_at, updated_by FROM memories WHERE removed_at IS NULL";

pub(crate) async fn measure(table: &mut Table, server: Option<&PostgresServer>, memories: usize, rounds: usize) {
    if let Some(server) = server {
        one(table, &Database::postgres(server).await, memories, rounds).await;
    }
    one(table, &Database::sqlite().await, memories, rounds).await;
}

async fn fill(url: &str, memories: usize) {
    let store = open(url).await;
    for start in (0..memories).step_by(BATCH) {
        let commands = (start..(start + BATCH).min(memories)).map(|number| {
            let mut random = Random::new(number);
            let document = json!({"content": format!("{} {number}", random.text(14)), "tags": [random.text(1)]});
            let spec = MemorySpec::from_document(&document, "", &Namespace::default(), Timestamp(0)).unwrap();
            let new = NewMemory {
                id: MemoryId::generate(),
                spec,
                trust: Trust::Agent,
                derived_from: [].into(),
                created_at: None,
            };
            let action = MemoryAction::Store(Box::new(new));
            MemoryCommand { op_id: OpId::new(), actor: Actor::new("bench"), action }
        });
        store.memory_commit(commands.collect()).await.unwrap();
    }
}

async fn one(table: &mut Table, database: &Database, memories: usize, rounds: usize) {
    let url = database.url();
    fill(&url, memories).await;
    let name = database.name();
    let (mut floors, mut ours, mut searchable, mut bytes) = (Vec::new(), Vec::new(), Vec::new(), 0.0);
    for _ in 0..rounds {
        floors.push(Start::of(CHILD, "floor", &url, memories).loaded);
        let start = Start::of(CHILD, "ours", &url, memories);
        ours.push(start.loaded);
        searchable.push(start.searchable);
        bytes = start.memory;
    }
    let (floor, took) = (Figure::Time(median(&floors)), Figure::Time(median(&ours)));
    table.row(format!("{name}: load of {memories} memories"), Some(floor), took, Aim::RatioMost(RATIO_MOST));
    let took = Figure::Time(median(&searchable));
    table.row(format!("{name}: until {memories} memories can be recalled"), Some(floor), took, Aim::None);
    let each = Figure::Bytes(bytes / memories as f64);
    table.row(format!("{name}: resident memory per memory"), None, each, Aim::None);
}

pub(crate) async fn child(side: &str, url: &str) {
    let before = resident_bytes();
    let start = Instant::now();
    if side == "ours" {
        let running = Running::start(url).await;
        running.remembering().await;
        let loaded = start.elapsed();
        running.recallable().await;
        Start::print(loaded, start.elapsed(), before, running.memories.read().len());
        return;
    }
    let count = if url.starts_with("sqlite:") { floor_sqlite(url) } else { floor_postgres(url).await };
    Start::print(start.elapsed(), start.elapsed(), before, count);
}

/// Reads every row and looks at its id.
async fn floor_postgres(url: &str) -> usize {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let none: [&str; 0] = [];
    let mut rows = std::pin::pin!(client.query_raw(SELECT, none).await.unwrap());
    let mut loaded = 0;
    while let Some(row) = rows.try_next().await.unwrap() {
        loaded += usize::from(!row.get::<_, &str>(0).is_empty());
    }
    loaded
}

/// The columns that have something in them; SQLite steps through the others too.
#[derive(QueryableByName)]
#[expect(dead_code, reason = "reading the columns is what is measured")]
struct Raw {
    #[diesel(sql_type = diesel::sql_types::Text)]
    id: String,
    #[diesel(sql_type = diesel::sql_types::Text)]
    namespace: String,
    #[diesel(sql_type = diesel::sql_types::Text)]
    kind: String,
    #[diesel(sql_type = diesel::sql_types::Text)]
    content: String,
    #[diesel(sql_type = diesel::sql_types::Text)]
    tags: String,
    #[diesel(sql_type = diesel::sql_types::Float)]
    importance: f32,
    #[diesel(sql_type = diesel::sql_types::Float)]
    decay: f32,
    #[diesel(sql_type = diesel::sql_types::Text)]
    author: String,
    #[diesel(sql_type = diesel::sql_types::Text)]
    trust: String,
    #[diesel(sql_type = diesel::sql_types::Binary)]
    content_hash: Vec<u8>,
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    revision: i64,
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    created_at: i64,
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    updated_at: i64,
    #[diesel(sql_type = diesel::sql_types::Text)]
    updated_by: String,
}

fn floor_sqlite(url: &str) -> usize {
    let mut conn = sqlite_connection(url);
    let rows: Vec<Raw> = diesel::sql_query(SELECT).load(&mut conn).unwrap();
    rows.len()
}
