//! The domain: agents, the in-memory registry, search and validation. Pure and synchronous.
//!
//! Nothing here does IO, waits, or asks a clock: time is passed in. The crate knows neither tokio nor diesel nor rmcp.
//!
//! Invariants:
//! - The registry holds committed states only, and an agent in it never goes back to an older revision.
//! - Every index equals what would be computed from the agents themselves.
//! - What a caller sends is validated whole: all problems of one input are reported at once.

pub mod agent;
pub mod agent_check;
pub mod agent_document;
pub mod change;
pub mod embedding;
pub mod error;
pub mod expression;
pub mod ids;
mod index;
pub mod input;
pub mod json;
pub mod json_schema;
pub mod json_text;
pub mod limits;
pub mod memory;
pub mod registry;
pub mod time;
pub mod workflow;
