//! Contacts with agents: whoever has spoken with one, or tried to, tells it here.
//!
//! Only what is news is written, so that an agent that is busy costs a row every now and then and not for each step.

use std::sync::Arc;
use std::time::{Duration, Instant};

use a2a_core::agent::{Agent, Executor, ExecutorKind};
use a2a_core::agent_check::{AgentCheck, check_detail};
use a2a_core::ids::{Actor, AgentKey};
use a2a_core::time::Timestamp;
use a2a_store::NotedCheck;
use a2a_store::feed::Cache;
use a2a_store::writer::Writer;

/// After so long the same result is worth noting again, for the time of it.
const SAME_AGAIN: Duration = Duration::from_secs(60);

/// Where contacts are noted. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Contacts {
    cache: Arc<Cache>,
    writer: Writer,
}

impl std::fmt::Debug for Contacts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Contacts").finish_non_exhaustive()
    }
}

impl Contacts {
    pub(crate) fn new(cache: Arc<Cache>, writer: Writer) -> Self {
        Self { cache, writer }
    }

    /// Notes a contact with an agent: whether it was reached, and why not or what is remarkable about its answer.
    pub(crate) fn note(&self, agent: &Agent, reachable: bool, detail: Option<&str>, actor: &Actor) {
        let detail = detail.and_then(check_detail);
        let known = self.cache.read().contact(agent).check;
        if known.is_some_and(|known| !is_news(&known, reachable, detail.as_deref(), now())) {
            return;
        }
        self.writer.agent_checked(NotedCheck {
            key: agent.key(),
            agent_revision: agent.revision,
            reachable,
            detail,
            at: Instant::now(),
            checked_by: actor.clone(),
        });
    }

    /// Notes what a step has shown. The agent may work in another way by now than when the run was started, of which
    /// the step then says nothing.
    pub(crate) fn step(&self, key: &AgentKey, executor: &Executor, reached: Result<(), &str>, actor: &Actor) {
        let agent = self.cache.read().get(&key.namespace, key.id.as_str()).cloned();
        if let Some(agent) = agent.filter(|agent| agent.spec.executor == *executor) {
            self.note(&agent, reached.is_ok(), reached.err(), actor);
        }
    }

    /// Notes that a session works as this agent.
    pub(crate) fn pulled(&self, agent: &Agent, actor: &Actor) {
        if agent.spec.executor.kind == ExecutorKind::Pull {
            self.note(agent, true, None, actor);
        }
    }
}

fn now() -> Timestamp {
    Timestamp::from_system_time(std::time::SystemTime::now())
}

fn is_news(known: &AgentCheck, reachable: bool, detail: Option<&str>, now: Timestamp) -> bool {
    // The clock of the database may be ahead of this one.
    let apart = now.since(known.checked_at).max(known.checked_at.since(now));
    known.reachable != reachable || known.detail.as_deref() != detail || apart >= SAME_AGAIN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_result_is_news_after_a_minute_only() {
        let known = AgentCheck {
            reachable: false,
            detail: Some("no connection".into()),
            checked_at: Timestamp(1_000_000),
            checked_by: Actor::new("test"),
            revision: 1,
        };
        for (reachable, detail, at, expected) in [
            (false, Some("no connection"), 1_059_999, false),
            (false, Some("no connection"), 1_060_000, true),
            (false, Some("no connection"), 940_001, false),
            (false, Some("no connection"), 940_000, true),
            (false, Some("no address"), 1_000_000, true),
            (false, None, 1_000_000, true),
            (true, Some("no connection"), 1_000_000, true),
        ] {
            assert_eq!(is_news(&known, reachable, detail, Timestamp(at)), expected, "{reachable} {detail:?} {at}");
        }
    }
}
