//! The database: two backends, migrations, the writer task and the change feed.
//!
//! - [`store::Store`] is one interface over Postgres and SQLite.
//! - [`writer::Writer`] is the only one that writes agents. It commits first and puts into the cache after, in the order
//!   of commits, and then answers.
//! - [`workflow_writer::WorkflowWriter`] does the same for what happens to workflows and runs.
//! - [`memory_writer::MemoryWriter`] does it for memories, and notes that they were recalled.
//! - [`snapshot`] reads and writes everything as a whole.
//! - [`prisma`] reads the database of the system that came before.
//! - [`feed::run`] puts into the cache what other processes commit.
//!
//! The crate knows nothing of the wire protocol, of tools, or of how work is executed.
//!
//! Invariants:
//! - A caller is told "committed" after the transaction with its change has committed, never before.
//! - The revision of an entity is raised by the database, and goes on after removal and purge.
//! - Each committed change has a row in `change_log`, written in the same transaction. One of an agent or a workflow has a
//!   row in `applied_ops` too, and so has a claim that was given back or has failed. Other commands about runs and contacts
//!   with agents need none, because each can be sent twice without being done twice.

pub mod agent_cache;
pub mod clock;
pub mod database_url;
pub mod error;
pub mod feed;
pub mod memory_view;
pub mod memory_writer;
pub mod postgres;
pub mod prisma;
pub mod query_log;
pub mod snapshot;
pub mod store;
pub mod workflow_view;
pub mod workflow_writer;
pub mod writer;

mod agent_check;
mod agent_row;
mod agent_vectors;
mod batch_writer;
mod bisect;
mod check_feed;
mod in_order;
mod memory_commit;
mod memory_feed;
mod memory_row;
mod migrations;
mod process;
mod queue;
mod round;
mod sqlite;
mod statement;
mod stored_text;
mod timing;
mod workflow_commit;
mod workflow_definition;
mod workflow_feed;
mod workflow_row;

pub use agent_check::{NotedCheck, StoredCheck};
pub use round::Unit;
