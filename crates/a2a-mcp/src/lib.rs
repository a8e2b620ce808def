//! One durable registry of agents, their workflows and their memory, shared by every MCP client.

pub mod cli;
mod clients;
mod run_view;
pub mod server;
mod text;
mod tool_error;
mod tools;
pub mod transport;
mod workflow_preview;
