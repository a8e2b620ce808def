//! The running system against real databases and real executors.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a failed expectation is a failed test"
)]

mod a2a;
mod attempts;
mod external;
mod mcp;
mod mcp_server;
mod runs;
