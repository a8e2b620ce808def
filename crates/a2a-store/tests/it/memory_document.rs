//! Memories and commands as the tests make them.

use std::sync::Arc;

use a2a_core::ids::{Actor, AgentId, AgentKey, MemoryId, Namespace, OpId};
use a2a_core::memory::command::{MemoryAction, MemoryCommand, MemoryOutcome, NewMemory};
use a2a_core::memory::experience::Experience;
use a2a_core::memory::{Memory, MemorySpec, Trust};
use a2a_core::time::Timestamp;
use serde_json::{Value, json};

pub(crate) fn now() -> Timestamp {
    Timestamp::from_system_time(std::time::SystemTime::now())
}

pub(crate) fn spec(document: &Value) -> MemorySpec {
    MemorySpec::from_document(document, "", &Namespace::default(), now()).unwrap()
}

pub(crate) fn command(action: MemoryAction) -> MemoryCommand {
    MemoryCommand { op_id: OpId::new(), actor: Actor::new("tester"), action }
}

/// Stores a document under an id that is made for it.
pub(crate) fn store(document: &Value) -> MemoryCommand {
    store_as(document, Trust::Agent, &[])
}

pub(crate) fn store_as(document: &Value, trust: Trust, derived_from: &[MemoryId]) -> MemoryCommand {
    command(MemoryAction::Store(Box::new(NewMemory {
        id: MemoryId::generate(),
        spec: spec(document),
        trust,
        derived_from: derived_from.into(),
        created_at: None,
    })))
}

pub(crate) fn say(content: &str) -> MemoryCommand {
    store(&json!({"content": content}))
}

pub(crate) fn forget(id: &MemoryId, purge: bool) -> MemoryCommand {
    command(MemoryAction::Forget { id: id.clone(), expected_revision: None, purge })
}

/// Sets the importance.
pub(crate) fn update(memory: &Memory, expected_revision: i64, importance: f32) -> MemoryCommand {
    let spec = Box::new(MemorySpec { importance, ..memory.spec.clone() });
    command(MemoryAction::Update { id: memory.id.clone(), expected_revision, spec })
}

pub(crate) fn agent(id: &str) -> AgentKey {
    AgentKey { namespace: Namespace::default(), id: AgentId::from_stored(id) }
}

pub(crate) fn learn(id: &str, success: bool) -> MemoryCommand {
    let experience = Experience::Outcome { success };
    command(MemoryAction::Learn { agent: agent(id), capability: Some("review".into()), experience })
}

/// The memory of an outcome that has one.
#[track_caller]
pub(crate) fn memory(outcome: &MemoryOutcome) -> Arc<Memory> {
    match outcome {
        MemoryOutcome::Stored { memory, .. }
        | MemoryOutcome::Repeated { memory }
        | MemoryOutcome::Updated { memory }
        | MemoryOutcome::Unchanged { memory } => Arc::clone(memory),
        other => panic!("{other:?}"),
    }
}
