//! The running system: [`hub::Hub`] opens the store, fills the cache, and owns the writer and the feed.
//!
//! One async method for each operation; every face (tools, command line) calls these and nothing below them. The crate
//! serves no protocol and knows no command line; of other protocols it is a client, in its executors.
//!
//! Invariants:
//! - [`hub::Hub::open`] returns at once. Operations wait a bounded time for the first load and then say so; they never
//!   answer from a cache that is not filled.
//! - Reads of agents never wait for the database.
//! - Validation comes first, is pure, and reports all problems at once.

pub mod backup;
pub mod config;
mod contacts;
pub mod doctor;
pub mod egress;
pub mod embedder;
pub mod error;
pub mod executors;
mod heartbeat;
pub mod hub;
mod learner;
pub mod maintenance;
pub mod operator;
pub mod prisma;
pub mod runner;
pub mod sync;
