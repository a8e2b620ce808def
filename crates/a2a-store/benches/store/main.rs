//! The store against the least that the same database can do: `cargo xtask bench store`, `load` or `lag`.
//!
//! Floor and ours alternate in one run on one server, so that whatever else the machine does falls on both.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark prints, and ends when something does not hold"
)]

mod database;
mod deploy;
mod floor;
mod lag;
mod load;
mod load_memories;
#[path = "../../../a2a-core/benches/bench/roster.rs"]
#[allow(dead_code, reason = "other benchmarks use the rest")]
mod roster;
#[path = "../../../a2a-core/benches/bench/table.rs"]
mod table;

use a2a_testing::postgres::postgres_or_skip;

use table::{Asked, Table};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        // This program is also the other process that some measurements need.
        [load::CHILD, side, url] => runtime().block_on(load::child(side, url)),
        [load_memories::CHILD, side, url] => runtime().block_on(load_memories::child(side, url)),
        [lag::CHILD, url] => runtime().block_on(lag::child(url)),
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

async fn measure(asked: &Asked) {
    let server = postgres_or_skip().await;
    let agents = if asked.quick { 12_000 } else { 100_000 };
    if asked.wants("store") {
        let mut table = Table::new(
            "store",
            format!(
                "committed, fsync on; floor on Postgres: tokio-postgres, prepared, on one connection; on SQLite: json_each \
                 with the same pragmas; batches of 1,000, 4 on their way at once, \
                 {agents} agents; medians, alternating"
            ),
        );
        if let Some(server) = &server {
            deploy::postgres(&mut table, server, agents, asked.quick).await;
        }
        deploy::sqlite(&mut table, agents, asked.quick).await;
        table.finish();
    }
    if asked.wants("load") {
        let note = "from a new process to the filled cache; floor: connect and a SELECT of the same columns; medians";
        let mut table = Table::new("load", note);
        let rounds = if asked.quick { 3 } else { 7 };
        load::measure(&mut table, server.as_ref(), agents, rounds).await;
        load_memories::measure(&mut table, server.as_ref(), agents, rounds).await;
        table.finish();
    }
    if asked.wants("lag") {
        let note = "from the answer to a write until another process shows it; the other process looks every 0.1 ms";
        let mut table = Table::new("lag", note);
        lag::measure(&mut table, server.as_ref(), if asked.quick { 60 } else { 500 }).await;
        table.finish();
    }
}
