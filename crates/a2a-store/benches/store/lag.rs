//! How long after the answer to a write another process shows it.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use a2a_core::ids::{AgentKey, Namespace};
use a2a_testing::postgres::PostgresServer;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::database::{Database, Running, deploy_of};
use crate::roster::{self, Random};
use crate::table::{Aim, Figure, Table, median, percentile};

/// The argument that makes this program the other process.
pub(crate) const CHILD: &str = "--lag-child";
const P99_MOST: Duration = Duration::from_millis(50);
/// Kills a measurement in which a write never arrives.
const LIMIT: Duration = Duration::from_secs(5);

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

pub(crate) async fn measure(table: &mut Table, server: Option<&PostgresServer>, writes: usize) {
    if let Some(server) = server {
        one(table, &Database::postgres(server).await, writes).await;
    }
    one(table, &Database::sqlite().await, writes).await;
}

async fn one(table: &mut Table, database: &Database, writes: usize) {
    let url = database.url();
    let running = Running::start(&url).await;
    let mut other = tokio::process::Command::from(Command::new(std::env::current_exe().unwrap()))
        .args([CHILD, &url])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut seen = BufReader::new(other.stdout.take().unwrap()).lines();
    let mut next = async || tokio::time::timeout(LIMIT, seen.next_line()).await.unwrap().unwrap().unwrap();
    assert_eq!(next().await, "ready");

    let mut random = Random::new(5);
    let mut lags = Vec::new();
    for edition in 1..=writes {
        // The other process looks from time to time; a write comes at any moment in between.
        tokio::time::sleep(Duration::from_micros(random.below(60_000) as u64)).await;
        running.commit(vec![deploy_of(roster::spec(0, edition))]).await;
        let answered = since_1970();
        let line = next().await;
        let (revision, at) = line.split_once(' ').unwrap();
        assert_eq!(revision, edition.to_string());
        // It may well be there before the answer is.
        lags.push(Duration::from_nanos(at.parse().unwrap()).saturating_sub(answered));
    }
    other.kill().await.unwrap();
    let name = database.name();
    table.row(format!("{name}: seen by another process, p50"), None, Figure::Time(median(&lags)), Aim::None);
    let p99 = Figure::Time(percentile(&lags, 99));
    table.row(format!("{name}: seen by another process, p99"), None, p99, Aim::Within(P99_MOST));
}

/// Prints each revision of the agent with the time at which this process shows it.
pub(crate) async fn child(url: &str) {
    let running = Running::start(url).await;
    let key = AgentKey { namespace: Namespace::default(), id: roster::id(0) };
    let watching = tokio::task::spawn_blocking(move || {
        let mut out = std::io::stdout().lock();
        writeln!(out, "ready").unwrap();
        out.flush().unwrap();
        let mut last = 0;
        loop {
            let revision = running.cache.read().known_revision(&key).unwrap_or(0);
            if revision > last {
                last = revision;
                if writeln!(out, "{revision} {}", since_1970().as_nanos()).and_then(|()| out.flush()).is_err() {
                    return;
                }
            }
            std::thread::sleep(Duration::from_micros(100));
        }
    });
    watching.await.unwrap();
}
