//! Agents for the tests of the registry.

use std::sync::Arc;

use super::Registry;
use crate::agent::{Agent, AgentSpec, Capability, Deprecation, Executor, ExecutorKind};
use crate::change::Committed;
use crate::ids::{Actor, AgentId, AgentKey, Namespace, Revision};
use crate::json_text::JsonText;
use crate::time::Timestamp;

/// An agent under construction.
#[derive(Debug, Clone)]
pub(super) struct AgentBuilder(Agent);

/// An enabled agent with this id, named by it, in the category `general`.
pub(super) fn agent(id: &str) -> AgentBuilder {
    AgentBuilder(Agent {
        spec: AgentSpec {
            namespace: Namespace::default(),
            id: AgentId::parse(id).unwrap(),
            name: id.into(),
            version: "1.0.0".into(),
            description: "".into(),
            instructions: "".into(),
            category: "general".into(),
            tags: Box::new([]),
            enabled: true,
            capabilities: Box::new([]),
            executor: Executor::default(),
            config: JsonText::empty_object(),
            deprecated: None,
        },
        revision: 1,
        created_at: Timestamp(0),
        updated_at: Timestamp(0),
        deployed_at: Timestamp(0),
        updated_by: Actor::new("test"),
    })
}

impl AgentBuilder {
    fn with(mut self, change: impl FnOnce(&mut Agent)) -> Self {
        change(&mut self.0);
        self
    }

    pub(super) fn namespace(self, namespace: &str) -> Self {
        self.with(|a| a.spec.namespace = Namespace::parse(namespace).unwrap())
    }

    pub(super) fn name(self, name: &str) -> Self {
        self.with(|a| a.spec.name = name.into())
    }

    pub(super) fn description(self, text: &str) -> Self {
        self.with(|a| a.spec.description = text.into())
    }

    pub(super) fn instructions(self, text: &str) -> Self {
        self.with(|a| a.spec.instructions = text.into())
    }

    pub(super) fn category(self, category: &str) -> Self {
        self.with(|a| a.spec.category = category.into())
    }

    pub(super) fn tags(self, tags: &[&str]) -> Self {
        self.with(|a| a.spec.tags = tags.iter().map(|tag| Arc::from(*tag)).collect())
    }

    pub(super) fn disabled(self) -> Self {
        self.with(|a| a.spec.enabled = false)
    }

    pub(super) fn executor(self, kind: ExecutorKind) -> Self {
        self.with(|a| a.spec.executor.kind = kind)
    }

    pub(super) fn config(self, text: &str) -> Self {
        self.with(|a| a.spec.config = JsonText::from_stored(text))
    }

    pub(super) fn deprecated(self, successor: Option<&str>) -> Self {
        let successor = successor.map(|id| AgentId::parse(id).unwrap());
        self.with(|a| a.spec.deprecated = Some(Deprecation { successor, reason: "".into() }))
    }

    pub(super) fn capability(self, name: &str, description: &str, examples: &[&str]) -> Self {
        self.with(|a| {
            let mut capabilities = std::mem::take(&mut a.spec.capabilities).into_vec();
            capabilities.push(Capability {
                name: name.into(),
                description: description.into(),
                input_schema: Some(JsonText::from_stored(r#"{"type":"object"}"#)),
                output_schema: None,
                example_queries: examples.iter().map(|e| Box::from(*e)).collect(),
            });
            a.spec.capabilities = capabilities.into();
        })
    }

    pub(super) fn revision(self, revision: Revision) -> Self {
        self.with(|a| a.revision = revision)
    }

    pub(super) fn updated_at(self, millis: i64) -> Self {
        self.with(|a| a.updated_at = Timestamp(millis))
    }

    pub(super) fn build(self) -> Arc<Agent> {
        Arc::new(self.0)
    }

    pub(super) fn committed(self) -> Committed {
        Committed::Agent(self.build())
    }
}

pub(super) fn key(id: &str) -> AgentKey {
    AgentKey { namespace: Namespace::default(), id: AgentId::parse(id).unwrap() }
}

/// A registry that holds these agents.
pub(super) fn registry(agents: impl IntoIterator<Item = AgentBuilder>) -> Registry {
    let mut registry = Registry::new();
    for agent in agents {
        assert!(registry.apply(agent.committed(), Timestamp(0)));
    }
    registry
}

pub(super) fn ids<'a>(agents: impl IntoIterator<Item = &'a Arc<Agent>>) -> Vec<&'a str> {
    agents.into_iter().map(|agent| agent.spec.id.as_str()).collect()
}
