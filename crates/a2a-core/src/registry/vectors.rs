//! Vectors that the model which an operator has chosen has made of agents.

use std::sync::Arc;

use super::Registry;
use crate::agent::{Agent, AgentSpec, ContentHash, content_hash};
use crate::embedding::ModelVector;
use crate::ids::AgentKey;

/// What a model reads of an agent, chosen by `cargo xtask eval --model`: what it is for, and how it is asked. A model reads
/// some hundred words, so that what tells most comes first.
#[must_use]
pub fn agent_passage(spec: &AgentSpec) -> String {
    let mut passage = String::with_capacity(spec.name.len() + spec.description.len() + 256);
    let mut add = |text: &str, end: &str| {
        if !text.is_empty() {
            passage.push_str(text);
            passage.push_str(end);
        }
    };
    add(&spec.name, ". ");
    add(&spec.description, " ");
    for capability in &spec.capabilities {
        add(&capability.name, ": ");
        add(&capability.description, " ");
        capability.example_queries.iter().for_each(|example| add(example, " "));
    }
    passage
}

/// Tells whether a vector is of an agent as it is.
#[must_use]
pub fn agent_passage_hash(passage: &str) -> ContentHash {
    content_hash(passage)
}

impl Registry {
    /// Takes over the vector that a model has made of a passage of an agent. All that a registry gets are of one model.
    /// Returns false and changes nothing when there is no such agent, when its passage is another one by now, or when the
    /// vector has not the dimensions of the others.
    pub fn set_model_vector(&mut self, key: &AgentKey, of: &ContentHash, vector: &ModelVector) -> bool {
        let Some(shard) = self.shards.get_mut(&key.namespace) else { return false };
        let is_current = |agent: &Arc<Agent>| agent_passage_hash(&agent_passage(&agent.spec)) == *of;
        match shard.doc(key.id.as_str()) {
            Some(doc) if shard.agent(doc).is_some_and(is_current) => shard.texts.model.set(doc, vector),
            _ => false,
        }
    }

    /// Whether there is a vector of the model of this agent as it is.
    #[must_use]
    pub fn has_model_vector(&self, key: &AgentKey) -> bool {
        let shard = self.shards.get(&key.namespace);
        shard.is_some_and(|shard| shard.doc(key.id.as_str()).is_some_and(|doc| shard.texts.model.has(doc)))
    }

    /// How many agents have a vector of the model.
    #[must_use]
    pub fn model_vectors(&self) -> usize {
        self.shards.values().map(|shard| shard.texts.model.count()).sum()
    }

    /// How many numbers the vectors of the model have, if there are any.
    #[must_use]
    pub fn model_dimensions(&self) -> Option<usize> {
        self.shards.values().find_map(|shard| shard.texts.model.dimensions())
    }

    /// Agents that have no vector of the model, those first that came last.
    pub fn without_model_vector(&self) -> impl Iterator<Item = &Arc<Agent>> {
        let lacking = self.shards.values().filter(|shard| shard.texts.model.count() < shard.len());
        lacking.flat_map(|shard| shard.without_model_vector())
    }
}
