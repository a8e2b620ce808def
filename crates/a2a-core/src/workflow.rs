//! Workflows: a directed graph of steps over agents, and its runs.
//!
//! - [`definition`] is what an author writes, [`document`] reads it and reports every problem at once.
//! - [`run`] is one execution with its steps, [`machine`] the only rule by which it changes: pure, with time passed in.
//! - [`command`] is what callers ask the store for, [`live`] what every process keeps in memory of runs that go on.
//!
//! Invariants:
//! - A step starts only after what it depends on is done.
//! - A run that has completed or was cancelled never changes; one that has failed changes by an explicit retry only.
//! - `attempt` rises at every claim of a step, and whatever a worker sends is refused unless it names the current one.

pub mod command;
pub mod definition;
pub mod document;
pub mod live;
pub mod machine;
pub mod mermaid;
pub mod run;
