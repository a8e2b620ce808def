//! What a hit says about a deprecated agent.

use crate::agent::Agent;

/// Puts what a caller must know about a deprecated agent before the reason.
pub(super) fn with_deprecation(agent: &Agent, reason: String) -> String {
    match agent.spec.deprecated.as_ref().map(|deprecation| &deprecation.successor) {
        None => reason,
        Some(None) => format!("deprecated; {reason}"),
        Some(Some(successor)) => format!("deprecated, use {successor}; {reason}"),
    }
}
