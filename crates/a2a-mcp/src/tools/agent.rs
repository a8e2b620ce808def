//! Tools on agents.

mod deploy;
mod list;
mod remove;
mod row;
mod search;
mod update;

use rmcp::handler::server::router::tool::ToolRoute;

use crate::server::Server;

/// All tools on agents.
pub(crate) fn routes() -> Vec<ToolRoute<Server>> {
    vec![deploy::route(), list::route(), search::route(), update::route(), remove::route()]
}
