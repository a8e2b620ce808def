//! Tools for sessions that do the work of agents.

mod finish;
mod next;
mod update;

use a2a_core::input::ObjectReader;
use rmcp::handler::server::router::tool::ToolRoute;

use crate::server::Server;

/// All tools on work.
pub(crate) fn routes() -> Vec<ToolRoute<Server>> {
    vec![finish::route(), next::route(), update::route()]
}

/// Reads the name of a claim.
fn read_claim(r: &mut ObjectReader<'_, '_>) -> Option<String> {
    let claim = r.text_chars("claim", 400).map(str::to_owned);
    if !r.has("claim") {
        r.problem("claim", "is required: as work_next gave it");
    }
    claim
}
