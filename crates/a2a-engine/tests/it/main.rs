//! The running system against real databases and real executors.

// The futures of whole runs, of calls inside calls, are deeper than the compiler looks without this.
#![recursion_limit = "256"]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a failed expectation is a failed test"
)]

mod a2a;
mod a2a_runs;
mod agent_checks;
mod attempts;
mod confinement;
mod embeddings;
mod external;
mod loading;
mod mcp;
mod mcp_server;
mod places;
mod runs;
mod secrets;
