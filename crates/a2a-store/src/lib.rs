//! The database: two backends, migrations, the writer task and the change feed.
//!
//! - [`store::Store`] is one interface over Postgres and SQLite.
//! - [`writer::Writer`] is the only one that opens write transactions. It commits first and puts into the cache after,
//!   in the order of commits, and then answers.
//! - [`feed::run`] puts into the cache what other processes commit.
//!
//! The crate knows nothing of the wire protocol, of tools, or of how work is executed.
//!
//! Invariants:
//! - A caller is told "committed" after the transaction with its change has committed, never before.
//! - The revision of an entity is raised by the database, and goes on after removal and purge.
//! - Each committed change has a row in `change_log` and in `applied_ops`, written in the same transaction.

pub mod database_url;
pub mod error;
pub mod feed;
pub mod postgres;
pub mod store;
pub mod writer;

mod agent_row;
mod bisect;
mod migrations;
mod round;
mod sqlite;
mod statement;

pub use round::Unit;
