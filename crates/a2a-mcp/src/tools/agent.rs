//! Tools on agents.

mod deploy;
pub(crate) mod invoke;
mod list;
mod remove;
mod row;
mod search;
mod update;

use rmcp::handler::server::router::tool::ToolRoute;

use crate::server::Server;

/// All tools on agents.
pub(crate) fn routes() -> Vec<ToolRoute<Server>> {
    vec![deploy::route(), invoke::route(), list::route(), search::route(), update::route(), remove::route()]
}
