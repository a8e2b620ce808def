//! Whether agents can be reached: what is known of it, and finding out.

use std::sync::Arc;
use std::time::SystemTime;

use a2a_core::agent::{Agent, ExecutorKind};
use a2a_core::agent_check::{AgentContact, ago};
use a2a_core::ids::{Actor, Namespace};
use a2a_core::limits::PAGE_ROWS_MAX;
use a2a_core::registry::{Filters, ListQuery};
use a2a_core::time::Timestamp;
use futures_util::{StreamExt as _, stream};

use super::{Hub, Running};
use crate::error::HubError;
use crate::executors::Contact;

/// Agents that are contacted at once.
const CHECKS_AT_ONCE: usize = 8;

/// An agent that was to be contacted.
#[derive(Debug, Clone)]
pub struct CheckedAgent {
    /// The agent.
    pub agent: Arc<Agent>,
    /// What came of it.
    pub outcome: CheckOutcome,
}

/// What came of a contact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckOutcome {
    /// The agent has answered.
    Reachable {
        /// What is remarkable about its answer.
        remark: Option<String>,
    },
    /// It could not be reached.
    Unreachable {
        /// Why not.
        reason: String,
    },
    /// No contact can be made from here; nothing is known now that was not known before.
    NotChecked {
        /// What is missing.
        reason: String,
    },
}

impl Hub {
    /// Whether agents can be reached, as far as is known, in the order of `agents`.
    #[must_use]
    pub fn agent_contacts<'a>(&self, agents: impl IntoIterator<Item = &'a Arc<Agent>>) -> Vec<AgentContact> {
        let cache = self.inner.cache.read();
        agents.into_iter().map(|agent| cache.contact(agent)).collect()
    }

    /// Whether one agent can be reached, as far as is known.
    #[must_use]
    pub fn agent_contact(&self, agent: &Agent) -> AgentContact {
        self.inner.cache.read().contact(agent)
    }

    /// Contacts agents, without giving them any work, and notes what has come of it. Without ids those of the namespace
    /// that are enabled and can be contacted, so no pull agents. The result has one item for each agent.
    ///
    /// # Errors
    /// When the agents are not loaded. Ids that name none are errors of their items.
    pub async fn agent_check(
        &self,
        namespace: Option<&Namespace>,
        ids: &[String],
        actor: &Actor,
    ) -> Result<Vec<Result<CheckedAgent, HubError>>, HubError> {
        self.writable()?;
        let running = self.running().await?;
        let namespace = self.namespace(namespace);
        let mut agents: Vec<Result<Arc<Agent>, HubError>> = Vec::with_capacity(ids.len());
        if ids.is_empty() {
            agents.extend(self.enabled_pushed(&namespace).await?.into_iter().map(Ok));
        } else {
            for id in ids {
                agents.push(self.agent_get(Some(&namespace), id).await);
            }
        }
        let checks = agents.into_iter().map(|agent| async { Ok(self.check_one(running, agent?, actor).await) });
        Ok(stream::iter(checks).buffered(CHECKS_AT_ONCE).collect().await)
    }

    async fn enabled_pushed(&self, namespace: &Namespace) -> Result<Vec<Arc<Agent>>, HubError> {
        let mut query = ListQuery {
            namespace: namespace.clone(),
            filters: Filters { enabled: Some(true), ..Filters::default() },
            limit: PAGE_ROWS_MAX,
            ..ListQuery::default()
        };
        let mut agents = Vec::new();
        loop {
            let page = self.agent_list(&query).await?;
            agents.extend(page.agents.into_iter().filter(|agent| agent.spec.executor.kind != ExecutorKind::Pull));
            query.cursor = page.next_cursor;
            if query.cursor.is_none() {
                return Ok(agents);
            }
        }
    }

    async fn check_one(&self, running: &Running, agent: Arc<Agent>, actor: &Actor) -> CheckedAgent {
        let executor = &agent.spec.executor;
        let outcome = match executor.kind {
            ExecutorKind::Builtin => CheckOutcome::Reachable { remark: None },
            ExecutorKind::Pull => CheckOutcome::NotChecked { reason: self.pulled_last(&agent) },
            _ => match running.runner.executors().check(executor).await {
                Ok(Contact::Reached { remark }) => {
                    running.contacts.note(&agent, true, remark.as_deref(), actor);
                    CheckOutcome::Reachable { remark }
                }
                Ok(Contact::NotReached { reason }) => {
                    running.contacts.note(&agent, false, Some(&reason), actor);
                    CheckOutcome::Unreachable { reason }
                }
                Err(missing) => CheckOutcome::NotChecked { reason: missing.to_string() },
            },
        };
        CheckedAgent { agent, outcome }
    }

    /// What is known of an agent whose work is fetched.
    fn pulled_last(&self, agent: &Agent) -> String {
        let known = match self.agent_contact(agent).last_checked() {
            Some(at) => {
                format!("one last did {}", ago(at, Timestamp::from_system_time(SystemTime::now())))
            }
            None => "none has since the agent was last changed".to_owned(),
        };
        format!("it is reached when a session asks for its work; {known}")
    }
}
