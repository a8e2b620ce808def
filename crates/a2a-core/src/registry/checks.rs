//! Contacts with agents: kept beside the agents and not in them, because a contact is no change of an agent.

use std::sync::Arc;

use super::Registry;
use crate::agent::{Agent, ExecutorKind};
use crate::agent_check::{AgentCheck, AgentContact, AgentStatus};
use crate::ids::{AgentKey, Revision};

impl Registry {
    /// Takes over a committed contact. Returns false and changes nothing when it is not newer than what is known, when
    /// it is about an earlier state of the agent, or when there is no such agent.
    pub fn apply_check(&mut self, key: &AgentKey, check: AgentCheck) -> bool {
        let Some(shard) = self.shards.get_mut(&key.namespace) else { return false };
        let id = key.id.as_str();
        // What runs in every process need not be contacted.
        let is_about = |agent: &Arc<Agent>| agent.spec.executor.kind != ExecutorKind::Builtin && check.is_about(agent);
        if !shard.get(id).is_some_and(is_about) || shard.check(id).is_some_and(|known| known.revision >= check.revision)
        {
            return false;
        }
        shard.set_check(id, Some(Arc::new(check)));
        true
    }

    /// Drops what is known of the contacts with an agent, so that any is news.
    pub fn forget_check(&mut self, key: &AgentKey) {
        if let Some(shard) = self.shards.get_mut(&key.namespace) {
            shard.set_check(key.id.as_str(), None);
        }
    }

    /// The last contact with an agent since it was changed.
    #[must_use]
    pub fn check(&self, key: &AgentKey) -> Option<&Arc<AgentCheck>> {
        self.shards.get(&key.namespace)?.check(key.id.as_str())
    }

    /// The revision of the last contact that is known.
    #[must_use]
    pub fn check_revision(&self, key: &AgentKey) -> Option<Revision> {
        self.check(key).map(|check| check.revision)
    }

    /// All contacts, in no particular order.
    pub fn checks(&self) -> impl Iterator<Item = (AgentKey, &Arc<AgentCheck>)> {
        self.shards.iter().flat_map(|(namespace, shard)| {
            shard.checks().map(|(id, check)| (AgentKey { namespace: namespace.clone(), id: id.clone() }, check))
        })
    }

    /// Whether an agent can be reached, as far as is known. `agent` may be another state of it than the current one.
    #[must_use]
    pub fn contact(&self, agent: &Agent) -> AgentContact {
        let shard = self.shards.get(&agent.spec.namespace);
        let check = shard.and_then(|shard| shard.check(agent.spec.id.as_str())).filter(|check| check.is_about(agent));
        AgentContact { status: AgentStatus::of(agent, check.map(Arc::as_ref)), check: check.cloned() }
    }
}
