//! The test support itself, against real processes and a real Postgres.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "shared parts of tests are tests too"
)]

mod fault_proxy;
mod postgres;
mod stdio;
