//! One durable agent registry shared by every MCP client on the machine.

pub mod cli;
pub mod server;
mod tool_error;
mod tools;
pub mod transport;
