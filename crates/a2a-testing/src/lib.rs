//! Test support: what the other crates' tests need to talk to real servers and to break them.
//!
//! | module | what it gives |
//! |---|---|
//! | [`postgres`] | a throwaway Postgres cluster, a database per test, migrated templates |
//! | [`stdio`] | a client that drives the real server binary over pipes or socket pairs and checks every byte of its stdout |
//! | [`fault_proxy`] | a TCP proxy in front of Postgres that cuts, delays or swallows at a chosen protocol message |
//! | [`history`] | a checker: logs of operations in, consistency anomalies out |
//! | [`binary`] | where the server binary is |
//! | [`sqlite_wal`] | what a SQLite database has committed, transaction by transaction |
//! | [`sqlite_fault`] | the death of a process at a chosen row that it writes to a SQLite database |
//! | [`wait`] | waiting for a condition, with a limit |
//! | [`embeddings`] | an endpoint for embeddings that counts what it has read |
//! | [`installed`] | what others have made, fetched once |
//! | [`webhook`] | a webhook that counts its effects by idempotency key |
//! | [`figure`] | how often a test repeats what it proves |
//!
//! The crate knows nothing of the product's own crates: what it checks, it checks from the outside.
//!
//! Invariants: every wait has a limit; no Postgres process and no temporary folder outlives the test process, also
//! when that is killed with SIGKILL; a server under test never sees the developer's own settings or data.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "test support: a failed expectation is a failed test"
)]

pub mod binary;
pub mod embeddings;
pub mod fault_proxy;
pub mod figure;
pub mod history;
pub mod installed;
pub mod postgres;
pub mod sqlite_fault;
pub mod sqlite_wal;
pub mod stdio;
pub mod wait;
pub mod webhook;
