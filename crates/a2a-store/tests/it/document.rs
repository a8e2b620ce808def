//! Documents and changes to write.

use std::sync::Arc;

use a2a_core::agent::{Agent, AgentSpec, Executor};
use a2a_core::change::{AgentPut, Change, Mutation, Outcome};
use a2a_core::ids::{Actor, AgentId, AgentKey, Namespace, OpId, Revision};
use a2a_core::json_text::JsonText;
use serde_json::json;

pub(crate) fn key(id: &str) -> AgentKey {
    AgentKey { namespace: Namespace::default(), id: AgentId::from_stored(id) }
}

/// A small document; `content` tells one from another.
pub(crate) fn spec(id: &str, content: impl std::fmt::Display) -> AgentSpec {
    AgentSpec {
        namespace: Namespace::default(),
        id: AgentId::from_stored(id),
        name: format!("Agent {id}").into(),
        version: "1.0.0".into(),
        description: format!("Says {content}").into(),
        instructions: "".into(),
        category: "general".into(),
        tags: Box::new(["b".into(), "z".into()]),
        enabled: true,
        capabilities: Box::new([]),
        executor: Executor::default(),
        config: JsonText::new(&json!({"content": content.to_string()})),
        deprecated: None,
    }
}

pub(crate) fn change(mutation: Mutation) -> Change {
    Change { op_id: OpId::new(), mutation, expected_revision: None, actor: Actor::new("tester") }
}

pub(crate) fn put_spec(spec: AgentSpec) -> Change {
    change(Mutation::AgentPut(Box::new(AgentPut::new(spec, true).unwrap())))
}

pub(crate) fn put(id: &str, content: impl std::fmt::Display) -> Change {
    put_spec(spec(id, content))
}

/// A put that is no deploy.
pub(crate) fn update(id: &str, content: impl std::fmt::Display) -> Change {
    change(Mutation::AgentPut(Box::new(AgentPut::new(spec(id, content), false).unwrap())))
}

pub(crate) fn remove(id: &str) -> Change {
    change(Mutation::AgentRemove(key(id)))
}

pub(crate) fn purge(id: &str) -> Change {
    change(Mutation::AgentPurge(key(id)))
}

pub(crate) fn expecting(revision: Revision, change: Change) -> Change {
    Change { expected_revision: Some(revision), ..change }
}

/// The agent that was written.
#[track_caller]
pub(crate) fn written(outcome: &Outcome) -> Arc<Agent> {
    match outcome {
        Outcome::Put { agent, .. } => agent.clone(),
        other => panic!("not written: {other:?}"),
    }
}

/// The revision that was made and the one that it replaced.
#[track_caller]
pub(crate) fn revisions(outcome: &Outcome) -> (Revision, Option<Revision>) {
    match outcome {
        Outcome::Put { agent, replaced_revision } => (agent.revision, *replaced_revision),
        other => panic!("not written: {other:?}"),
    }
}
