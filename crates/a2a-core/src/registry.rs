//! All agents in memory, with the indices that find them.
//!
//! The registry is pure and synchronous; whoever shares it puts a lock around it. It holds committed states only.
//!
//! Invariants:
//! - An agent never goes back to an older revision, and a removed one does not come back by a late older put.
//! - What is known of a contact with an agent is about the agent as it is, and never goes back to an older revision.
//! - Indices, counts and scores after any sequence of changes equal those of a registry built anew from what is live.
//! - Equal schemas, settings, tags, categories and actors share one allocation while an agent uses them.

mod checks;
mod filter;
mod intern;
mod list;
mod resolve;
mod search;
mod shard;
mod stats;
mod vectors;
mod words;

#[cfg(test)]
mod checks_tests;
#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod list_tests;
#[cfg(test)]
mod meaning_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod registry_tests;
#[cfg(test)]
mod search_tests;

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;

use self::intern::Pool;
use self::search::{vector_of_agent, words_of_agent};
use self::shard::Shard;
use crate::agent::{Agent, AgentSpec};
use crate::change::Committed;
use crate::embedding::ModelVector;
use crate::error::Problems;
use crate::ids::{Actor, AgentKey, Namespace, Revision};
use crate::json_text::JsonText;
use crate::time::Timestamp;

pub use self::filter::Filters;
pub use self::list::{Count, Facets, ListPage, ListQuery};
pub use self::resolve::Resolved;
pub use self::search::{AgentRanking, Factor, Hit, SearchPage, SearchQuery};
pub use self::stats::RegistryStats;
pub use self::vectors::{agent_passage, agent_passage_hash};
pub use crate::index::Reading;

/// The committed agents of all namespaces.
#[derive(Default)]
pub struct Registry {
    shards: HashMap<Namespace, Shard, RandomState>,
    texts: Pool<JsonText>,
    actors: Pool<Actor>,
    len: usize,
}

impl Reading {
    /// Reads the words of an agent and what they mean. It is the slow part of applying a state and needs no lock.
    #[must_use]
    pub fn of_agent(spec: &AgentSpec) -> Self {
        Self { words: words_of_agent(spec), vector: vector_of_agent(spec) }
    }
}

/// A committed state whose words have been read.
#[derive(Debug)]
pub struct Prepared {
    committed: Committed,
    reading: Option<Reading>,
}

impl Prepared {
    /// Reads the words of a committed state.
    #[must_use]
    pub fn new(committed: Committed) -> Self {
        let reading = match &committed {
            Committed::Agent(agent) => Some(Reading::of_agent(&agent.spec)),
            Committed::Removed(..) => None,
        };
        Self { committed, reading }
    }

    /// Takes what was read of an agent's document before it was committed.
    #[must_use]
    pub fn with_reading(agent: Arc<Agent>, reading: Reading) -> Self {
        Self { committed: Committed::Agent(agent), reading: Some(reading) }
    }
}

impl Registry {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes over a committed state. Returns false and changes nothing when it is not newer than what is known.
    pub fn apply(&mut self, committed: Committed, now: Timestamp) -> bool {
        let (key, revision) = match &committed {
            Committed::Agent(agent) => (agent.key(), agent.revision),
            Committed::Removed(key, revision) => (key.clone(), *revision),
        };
        // Looked at here too, because reading the words of a state that is dropped would be in vain.
        self.is_news(&key, revision) && self.apply_prepared(Prepared::new(committed), now)
    }

    /// Like [`Registry::apply`], for a state that was prepared without the lock.
    pub fn apply_prepared(&mut self, prepared: Prepared, now: Timestamp) -> bool {
        self.accept(prepared.committed, prepared.reading.as_ref(), now)
    }

    /// Like [`Registry::apply`], but search finds the agent only after [`Registry::make_searchable`]. For loading many
    /// agents: everything else can be asked long before their words have been read.
    pub fn apply_unread(&mut self, committed: Committed, now: Timestamp) -> bool {
        self.accept(committed, None, now)
    }

    /// Whether search knows every agent.
    #[must_use]
    pub fn is_searchable(&self) -> bool {
        self.shards.values().all(Shard::is_searchable)
    }

    /// Some of the agents that search does not know yet, for [`Registry::make_searchable`].
    #[must_use]
    pub fn unread(&self, max: usize) -> Vec<Arc<Agent>> {
        self.shards.values().flat_map(Shard::unread).take(max).cloned().collect()
    }

    /// Makes agents that [`Registry::unread`] gave known to search. Those that have been replaced or removed since are
    /// left out.
    pub fn make_searchable(&mut self, read: &[Prepared]) {
        for prepared in read {
            if let Prepared { committed: Committed::Agent(agent), reading: Some(reading) } = prepared
                && let Some(shard) = self.shards.get_mut(&agent.spec.namespace)
            {
                shard.make_searchable(agent, reading);
            }
        }
    }

    fn accept(&mut self, committed: Committed, reading: Option<&Reading>, now: Timestamp) -> bool {
        match committed {
            Committed::Agent(agent) => {
                if !self.is_news(&agent.key(), agent.revision) {
                    return false;
                }
                self.put(agent, reading);
            }
            Committed::Removed(key, revision) => {
                if !self.is_news(&key, revision) {
                    return false;
                }
                let _of_no_use = self.take(&key);
                self.forget_check(&key);
                self.shards.entry(key.namespace).or_default().remember_removed(key.id, revision, now);
            }
        }
        true
    }

    fn is_news(&self, key: &AgentKey, revision: Revision) -> bool {
        self.known_revision(key).is_none_or(|known| revision > known)
    }

    fn put(&mut self, agent: Arc<Agent>, reading: Option<&Reading>) {
        let agent = self.sharing(agent);
        // The new values are acquired before the old ones are released, so that what stays the same is kept.
        self.acquire(&agent);
        let replaced = self.take(&agent.key());
        // A change of anything else leaves the vector of what the model reads.
        let of_model = replaced
            .and_then(|(old, vector)| vector.filter(|_| agent_passage(&old.spec) == agent_passage(&agent.spec)));
        let shard = self.shards.entry(agent.spec.namespace.clone()).or_default();
        let id = agent.spec.id.clone();
        shard.insert(agent, reading);
        if let (Some(doc), Some(vector)) = (shard.doc(id.as_str()), of_model) {
            shard.texts.model.set(doc, &vector);
        }
        self.len += 1;
    }

    fn take(&mut self, key: &AgentKey) -> Option<(Arc<Agent>, Option<ModelVector>)> {
        let taken = self.shards.get_mut(&key.namespace).and_then(|shard| shard.take(key.id.as_str()))?;
        self.release(&taken.0);
        self.len -= 1;
        Some(taken)
    }

    /// The agent with its texts replaced by equal ones that are shared already.
    fn sharing(&self, mut agent: Arc<Agent>) -> Arc<Agent> {
        let shard = self.shards.get_key_value(&agent.spec.namespace);
        let is_shared = json_texts(&agent)
            .all(|text| self.texts.shared(text).is_none_or(|shared| Arc::ptr_eq(shared.as_arc(), text.as_arc())));
        let keys = shard.map(|(_, shard)| (&shard.tags, &shard.categories));
        let keys_are_shared = keys.is_none_or(|(tags, categories)| {
            let same = |shared: Option<&Arc<str>>, key| shared.is_none_or(|shared| Arc::ptr_eq(shared, key));
            let category = &agent.spec.category;
            same(categories.shared(category), category) && agent.spec.tags.iter().all(|tag| same(tags.shared(tag), tag))
        });
        if is_shared && keys_are_shared {
            return agent;
        }
        // Clones the agent when someone else holds it too.
        let Agent { spec, updated_by, .. } = Arc::make_mut(&mut agent);
        let share = |text: &mut JsonText| {
            if let Some(shared) = self.texts.shared(text) {
                *text = shared.clone();
            }
        };
        share(&mut spec.config);
        share(&mut spec.executor.settings);
        for capability in &mut spec.capabilities {
            [&mut capability.input_schema, &mut capability.output_schema].into_iter().flatten().for_each(share);
        }
        if let Some(shared) = self.actors.shared(updated_by) {
            *updated_by = shared.clone();
        }
        if let Some((namespace, shard)) = shard {
            spec.namespace = namespace.clone();
            if let Some(shared) = shard.categories.shared(&spec.category) {
                spec.category = Arc::clone(shared);
            }
            for tag in &mut spec.tags {
                if let Some(shared) = shard.tags.shared(tag) {
                    *tag = Arc::clone(shared);
                }
            }
        }
        agent
    }

    fn acquire(&mut self, agent: &Agent) {
        for text in json_texts(agent) {
            self.texts.acquire(text);
        }
        self.actors.acquire(&agent.updated_by);
    }

    fn release(&mut self, agent: &Agent) {
        for text in json_texts(agent) {
            self.texts.release(text);
        }
        self.actors.release(&agent.updated_by);
    }

    /// Drops whatever is known of an agent, its removal too, so that any state of it is news. For a database that has
    /// gone back, as after a restore.
    pub fn forget(&mut self, key: &AgentKey) {
        let _of_no_use = self.take(key);
        self.forget_check(key);
        if let Some(shard) = self.shards.get_mut(&key.namespace) {
            shard.forget_removed(key.id.as_str());
        }
    }

    /// The agent with exactly this id.
    #[must_use]
    pub fn get(&self, namespace: &Namespace, id: &str) -> Option<&Arc<Agent>> {
        self.shards.get(namespace)?.get(id)
    }

    /// The revision that was applied last, of an agent or of a removal that is still remembered.
    #[must_use]
    pub fn known_revision(&self, key: &AgentKey) -> Option<Revision> {
        self.shards.get(&key.namespace)?.known_revision(key.id.as_str())
    }

    /// Lists agents by conditions.
    ///
    /// The total costs nothing extra without conditions, with conditions on flags alone, or with a single tag,
    /// category or capability; else it costs a walk over the smallest of the sets that the conditions name.
    ///
    /// # Errors
    /// When the cursor is none, or belongs to other conditions.
    pub fn list(&self, query: &ListQuery) -> Result<ListPage, Problems> {
        self.shards.get(&query.namespace).map_or_else(|| query.nothing(), |shard| shard.list(query))
    }

    /// Finds agents by what is needed, among those that search knows ([`Registry::is_searchable`]).
    ///
    /// # Errors
    /// When the cursor is none, or belongs to another query.
    pub fn search(&self, query: &SearchQuery) -> Result<SearchPage, Problems> {
        self.shards.get(&query.namespace).map_or_else(|| query.nothing(), |shard| shard.search(query))
    }

    /// The agent that a text means: an id, or the beginning of one.
    #[must_use]
    pub fn resolve(&self, namespace: &Namespace, text: &str) -> Resolved {
        self.shards.get(namespace).map_or(Resolved::NotFound { nearest: Vec::new() }, |shard| shard.resolve(text))
    }

    /// Every agent, in no particular order.
    pub fn live(&self) -> impl Iterator<Item = &Arc<Agent>> {
        self.shards.values().flat_map(Shard::live)
    }

    /// How many agents there are in all namespaces.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no agent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets the removals that were applied before `time`; from then on, a put that is older than such a removal
    /// would be taken for news.
    pub fn forget_removed_before(&mut self, time: Timestamp) {
        self.shards.retain(|_, shard| {
            shard.forget_removed_before(time);
            !shard.is_unused()
        });
    }
}

fn json_texts(agent: &Agent) -> impl Iterator<Item = &JsonText> {
    let spec = &agent.spec;
    let schemas = spec.capabilities.iter().flat_map(|c| [&c.input_schema, &c.output_schema]).flatten();
    [&spec.config, &spec.executor.settings].into_iter().chain(schemas)
}
