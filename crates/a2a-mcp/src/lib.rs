//! One durable agent registry shared by every MCP client on the machine.

pub mod cli;
mod run_view;
pub mod server;
mod text;
mod tool_error;
mod tools;
pub mod transport;
mod workflow_preview;
