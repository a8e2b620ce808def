//! Tools for memories.

mod filters;
mod forget;
pub(in crate::tools) mod row;
mod search;
mod store;
mod update;

use rmcp::handler::server::router::tool::ToolRoute;

use crate::server::Server;

/// The tools of this noun.
pub(crate) fn routes() -> Vec<ToolRoute<Server>> {
    vec![store::route(), search::route(), update::route(), forget::route()]
}
