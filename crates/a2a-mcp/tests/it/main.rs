//! Tests of the real program from the outside.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "test support: a failed expectation is a failed test"
)]

mod mixed_runs;
mod model_cli;
mod world;

mod agents;
mod append_history;
mod backup;
mod backup_mode;
mod bad_input;
mod cli;
mod cold_start;
mod compare_and_set;
mod examples;
mod exchange;
mod exits;
mod failovers;
mod guide;
mod hostile_text;
mod init;
mod kills;
mod limits;
mod many_writers;
mod memory_cli;
mod memory_kills;
mod memory_secrets;
mod memory_tools;
mod migrations;
mod operations;
mod poolers;
mod protocol;
mod replicas;
mod reset;
mod run_faults;
mod run_kills;
mod run_outages;
mod run_pauses;
mod seed;
mod unreachable;
mod visibility;
mod workflow_cli;
mod workflow_flow;
mod workflow_tasks;
mod workflow_tools;
