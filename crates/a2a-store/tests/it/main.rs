//! The store against real databases: every case of a list runs on Postgres and on SQLite.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a failed expectation is a failed test"
)]

mod document;
mod process;
mod processes;
mod workflow_document;
mod world;

mod agent_checks;
mod connect;
mod contract;
mod cuts;
mod embeddings;
mod feed;
mod hostile_text;
mod memory_contract;
mod memory_document;
mod memory_feed;
mod migrations;
mod model;
mod op_id;
mod outage;
mod poison;
mod short_cut;
mod snapshot;
mod workflow_contract;
mod workflow_cuts;
mod workflow_feed;
mod workflow_races;
mod writer;
