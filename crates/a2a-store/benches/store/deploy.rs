//! Deploys: one after the other, from many callers at once, and in batches.

use std::sync::Arc;
use std::time::{Duration, Instant};

use a2a_core::agent::AgentSpec;
use a2a_core::ids::Actor;
use a2a_engine::config::{Config, Settings};
use a2a_engine::hub::{DeployOptions, Hub};
use a2a_testing::postgres::PostgresServer;
use diesel::SqliteConnection;
use futures_util::future::join_all;
use serde_json::Value;

use crate::database::{Database, Running, deploy_of};
use crate::floor::{PostgresFloor, RawRow, sqlite_connection, sqlite_upsert};
use crate::roster;
use crate::table::{Aim, Figure, Table, median};

const SEQUENTIAL_MOST: f64 = 1.5;
const THROUGHPUT_LEAST: f64 = 0.6;
const BATCH: usize = 1_000;
/// Batches that one client has on their way at once.
const AT_ONCE: usize = 4;
const CALLERS: usize = 64;
/// The other floor of Postgres.
const LOGGED: &str = "against upserts with change log and op ids";
/// Deploys of one caller in one round.
const CALLS: usize = 8;

/// The raw way to write into a database of its own.
enum Floor {
    Postgres(PostgresFloor),
    Sqlite(Box<SqliteConnection>),
}

impl Floor {
    async fn one(&mut self, row: &RawRow) -> Duration {
        let start = Instant::now();
        match self {
            Self::Postgres(floor) => floor.upsert_one(row).await,
            Self::Sqlite(conn) => sqlite_upsert(conn, std::slice::from_ref(row)),
        }
        start.elapsed()
    }

    async fn many(&mut self, rows: &[RawRow], at_once: usize) -> Duration {
        let start = Instant::now();
        for part in rows.chunks(at_once) {
            match self {
                Self::Postgres(floor) => floor.upsert_many(part, false).await,
                Self::Sqlite(conn) => sqlite_upsert(conn, part),
            }
        }
        start.elapsed()
    }

    /// The same rows with what the promises of the store cost.
    async fn many_logged(&mut self, rows: &[RawRow], at_once: usize) -> Option<Duration> {
        let Self::Postgres(floor) = self else { return None };
        let start = Instant::now();
        for part in rows.chunks(at_once) {
            floor.upsert_many(part, true).await;
        }
        Some(start.elapsed())
    }
}

pub(crate) async fn postgres(table: &mut Table, server: &PostgresServer, agents: usize, quick: bool) {
    let raw = Database::postgres(server).await;
    let Database::Postgres(database) = &raw else { return };
    let floor = Floor::Postgres(PostgresFloor::new(database.client().await).await);
    let databases = (Database::postgres(server).await, Database::postgres(server).await);
    all(table, floor, databases, agents, quick).await;
}

pub(crate) async fn sqlite(table: &mut Table, agents: usize, quick: bool) {
    let raw = Database::sqlite().await;
    let floor = Floor::Sqlite(Box::new(sqlite_connection(&raw.url())));
    all(table, floor, (Database::sqlite().await, Database::sqlite().await), agents, quick).await;
}

async fn all(table: &mut Table, mut floor: Floor, databases: (Database, Database), agents: usize, quick: bool) {
    let (ours, through_hub) = databases;
    let name = ours.name();
    let running = Arc::new(Running::start(&ours.url()).await);
    let settings = Settings { database_url: Some(through_hub.url()), ..Settings::default() };
    let hub = Hub::open(Config::new(&settings).unwrap());
    hub.ready().await.unwrap();

    batches(table, name, &mut floor, &running, &hub, agents).await;
    let aim = if name == "Postgres" { Aim::RatioMost(SEQUENTIAL_MOST) } else { Aim::None };
    let blocks = if quick { 8 } else { 40 };
    sequential(table, &format!("{name}: deploy of one new agent"), &mut floor, &running, agents, 0, blocks, aim).await;
    sequential(table, &format!("{name}: deploy of one changed agent"), &mut floor, &running, 0, 1, blocks, aim).await;
    callers(table, name, &mut floor, &running, 2 * agents, if quick { 6 } else { 40 }).await;
    running.writer.close(Duration::from_secs(5)).await;
    hub.close().await;
}

/// All agents in batches of a thousand, a few of them on their way at once, through the writer and through the Hub.
async fn batches(table: &mut Table, name: &str, floor: &mut Floor, running: &Running, hub: &Hub, agents: usize) {
    let (mut floors, mut writers, mut hubs, mut logged) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let actor = Actor::new("bench");
    for first in (0..agents).step_by(BATCH * AT_ONCE) {
        let batches = || {
            (0..AT_ONCE).map(move |batch| {
                let first = first + batch * BATCH;
                (first..first + BATCH).map(|number| roster::spec(number, 0))
            })
        };
        let rows: Vec<RawRow> = batches().flatten().map(RawRow::of).collect();
        let documents: Vec<Vec<Value>> =
            batches().map(|specs| specs.map(|spec| serde_json::to_value(&spec).unwrap()).collect()).collect();
        let own: Vec<Vec<AgentSpec>> = batches().map(Iterator::collect).collect();

        floors.push(floor.many(&rows, BATCH).await);
        // New rows, as those of the others are.
        let others: Vec<RawRow> = batches().flatten().map(RawRow::of_other).collect();
        logged.extend(floor.many_logged(&others, BATCH).await);

        let start = Instant::now();
        join_all(own.into_iter().map(|specs| async {
            running.commit(specs.into_iter().map(deploy_of).collect()).await;
        }))
        .await;
        writers.push(start.elapsed());

        let start = Instant::now();
        join_all(documents.iter().map(|documents| async {
            let deployed = hub.agent_deploy(documents, "agents", &DeployOptions::default(), &actor).await.unwrap();
            assert!(deployed.iter().all(Result::is_ok));
        }))
        .await;
        hubs.push(start.elapsed());
    }
    assert_eq!(running.cache.read().len(), agents);
    let rate = |times: &[Duration]| Figure::Rate((BATCH * AT_ONCE) as f64 / median(times).as_secs_f64());
    let what = format!("{name}: batch deploy");
    table.row(&what, Some(rate(&floors)), rate(&writers), Aim::RatioLeast(THROUGHPUT_LEAST));
    if !logged.is_empty() {
        let what = format!("{what}, {LOGGED}");
        table.row(what, Some(rate(&logged)), rate(&writers), Aim::None);
    }
    table.row(format!("{what} through the Hub, validation included"), Some(rate(&floors)), rate(&hubs), Aim::None);
}

/// One agent after the other.
#[expect(clippy::too_many_arguments, reason = "two lines of a table differ in all of these")]
async fn sequential(
    table: &mut Table,
    what: &str,
    floor: &mut Floor,
    running: &Running,
    first: usize,
    edition: usize,
    blocks: usize,
    aim: Aim,
) {
    const BLOCK: usize = 25;
    let (mut floors, mut ours, mut logged) = (Vec::new(), Vec::new(), Vec::new());
    for block in 0..blocks {
        let numbers = first + block * BLOCK..first + (block + 1) * BLOCK;
        for number in numbers.clone() {
            floors.push(floor.one(&RawRow::of(roster::spec(number, edition))).await);
        }
        for number in numbers.clone() {
            logged.extend(floor.many_logged(&[RawRow::of_other(roster::spec(number, edition))], 1).await);
        }
        for number in numbers {
            let spec = roster::spec(number, edition);
            let start = Instant::now();
            running.commit(vec![deploy_of(spec)]).await;
            ours.push(start.elapsed());
        }
    }
    table.row(what, Some(Figure::Time(median(&floors))), Figure::Time(median(&ours)), aim);
    if !logged.is_empty() {
        let what = format!("{what}, {LOGGED}");
        table.row(what, Some(Figure::Time(median(&logged))), Figure::Time(median(&ours)), Aim::None);
    }
}

/// Many callers at once, each waiting for its answer before its next deploy.
async fn callers(
    table: &mut Table,
    name: &str,
    floor: &mut Floor,
    running: &Arc<Running>,
    first: usize,
    rounds: usize,
) {
    let (mut floors, mut ours, mut logged) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let from = first + round * CALLERS * CALLS;
        let rows: Vec<RawRow> = (from..from + CALLERS * CALLS).map(|n| RawRow::of(roster::spec(n, 0))).collect();
        floors.push(floor.many(&rows, CALLERS).await);
        let others = (from..from + CALLERS * CALLS).map(|n| RawRow::of_other(roster::spec(n, 0)));
        logged.extend(floor.many_logged(&others.collect::<Vec<_>>(), CALLERS).await);

        let specs: Vec<Vec<_>> =
            (0..CALLERS).map(|c| (0..CALLS).map(|i| roster::spec(from + c * CALLS + i, 0)).collect()).collect();
        let start = Instant::now();
        let tasks: Vec<_> = specs
            .into_iter()
            .map(|own| {
                let running = running.clone();
                tokio::spawn(async move {
                    for spec in own {
                        running.commit(vec![deploy_of(spec)]).await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        ours.push(start.elapsed());
    }
    let rate = |times: &[Duration]| Figure::Rate((CALLERS * CALLS) as f64 / median(times).as_secs_f64());
    let aim = if name == "Postgres" { Aim::RatioLeast(THROUGHPUT_LEAST) } else { Aim::None };
    let what = format!("{name}: {CALLERS} callers at once, against statements of {CALLERS} rows");
    table.row(&what, Some(rate(&floors)), rate(&ours), aim);
    if !logged.is_empty() {
        table.row(format!("{what}, with change log and op ids"), Some(rate(&logged)), rate(&ours), Aim::None);
    }
}
