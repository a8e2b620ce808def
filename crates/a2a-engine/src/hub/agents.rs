//! Operations on agents.

use std::collections::HashMap;
use std::sync::Arc;

use a2a_core::agent::{Agent, AgentSpec};
use a2a_core::change::{AgentPut, Change, Mutation, Outcome};
use a2a_core::embedding::ModelVector;
use a2a_core::error::Problems;
use a2a_core::ids::{Actor, AgentId, AgentKey, Namespace, OpId, Revision};
use a2a_core::limits;
use a2a_core::registry::{Factor, ListPage, ListQuery, Resolved, SearchPage, SearchQuery};
use a2a_store::Unit;
use a2a_store::store::AgentVersion;
use serde::Serialize;
use serde_json::Value;

use super::{Hub, Running};
use crate::error::HubError;

/// What is certain of a write when its reply is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Its transaction has committed.
    Committed,
    /// It is in memory only.
    Accepted,
}

impl Durability {
    /// The word in replies.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::Accepted => "accepted",
        }
    }
}

/// What a write did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WriteStatus {
    /// The agent is new, or was removed before.
    Created,
    /// The agent has a new document.
    Updated,
    /// The document was already so; there is no new revision.
    Unchanged,
}

/// How agents are deployed.
#[derive(Debug, Clone, Default)]
pub struct DeployOptions {
    /// All or none.
    pub atomic: bool,
    /// Where documents go that name no namespace; `None` means the configured one.
    pub namespace: Option<Namespace>,
    /// Deploy only when the agent has this revision, 0 for none; for one document only.
    pub expected_revision: Option<Revision>,
    /// The name of an earlier call whose outcome is not known; for one document only.
    pub op_id: Option<OpId>,
}

/// An agent that was deployed or updated.
#[derive(Debug, Clone)]
pub struct DeployedAgent {
    /// Its key.
    pub key: AgentKey,
    /// What happened.
    pub status: WriteStatus,
    /// Its revision now.
    pub revision: Revision,
    /// The revision that was replaced.
    pub replaced_revision: Option<Revision>,
}

/// How an agent is updated.
#[derive(Debug, Clone, Default)]
pub struct UpdateOptions {
    /// Where the agent is; `None` means the configured namespace.
    pub namespace: Option<Namespace>,
    /// The revision that the patch was made for.
    pub expected_revision: Option<Revision>,
    /// Take the document of this revision instead of the current one.
    pub rollback_to: Option<Revision>,
    /// The name of an earlier call whose outcome is not known.
    pub op_id: Option<OpId>,
}

/// How agents are removed.
#[derive(Debug, Clone, Default)]
pub struct RemoveOptions {
    /// Where they are; `None` means the configured namespace.
    pub namespace: Option<Namespace>,
    /// Erase the history too.
    pub purge: bool,
    /// Remove only at this revision; for one agent only.
    pub expected_revision: Option<Revision>,
}

/// An agent that was removed.
#[derive(Debug, Clone)]
pub struct RemovedAgent {
    /// Its key.
    pub key: AgentKey,
    /// The revision of the removal.
    pub revision: Revision,
    /// Whether its history was erased.
    pub purged: bool,
}

/// One entry of the history of an agent.
#[derive(Debug, Clone)]
pub struct AgentHistoryEntry {
    /// The agent as it was.
    pub agent: Arc<Agent>,
    /// Whether this revision was its removal.
    pub removed: bool,
}

type Item<T> = Result<T, HubError>;

/// What an agent whose work always ends well gains in a search, and one whose work never does loses.
const RELIABILITY_WEIGHT: f32 = 0.1;

impl Hub {
    pub(super) fn namespace(&self, named: Option<&Namespace>) -> Namespace {
        named.unwrap_or(self.default_namespace()).clone()
    }

    /// Deploys documents. `path` is where the list stands in the caller's input, for error texts. The result has one
    /// item for each document, in order.
    ///
    /// # Errors
    /// When nothing was done: the input as a whole is not valid, an atomic call has an invalid document, or the
    /// database did not take it.
    pub async fn agent_deploy(
        &self,
        documents: &[Value],
        path: &str,
        options: &DeployOptions,
        actor: &Actor,
    ) -> Result<Vec<Item<DeployedAgent>>, HubError> {
        let running = self.running().await?;
        if documents.is_empty() {
            return Err(Problems::one(path, "is empty; give at least one agent document").into());
        }
        if documents.len() > 1 && (options.expected_revision.is_some() || options.op_id.is_some()) {
            let message = "goes with one agent only; deploy agents one by one, or leave it out";
            return Err(Problems::one("expected_revision", message).into());
        }
        let namespace = self.namespace(options.namespace.as_ref());
        let read =
            |(i, document): (usize, &Value)| AgentSpec::from_document(document, &format!("{path}[{i}]"), &namespace);
        let mut specs: Vec<Result<AgentSpec, Problems>> = documents.iter().enumerate().map(read).collect();
        refuse_doubles(&mut specs, path);
        if options.atomic {
            let problems: Vec<_> =
                specs.iter().filter_map(|spec| spec.as_ref().err()).flat_map(|p| p.0.clone()).collect();
            if !problems.is_empty() {
                return Err(Problems(problems).into());
            }
        }
        self.agent_deploy_specs(running, specs, options, actor).await
    }

    async fn agent_deploy_specs(
        &self,
        running: &Running,
        specs: Vec<Result<AgentSpec, Problems>>,
        options: &DeployOptions,
        actor: &Actor,
    ) -> Result<Vec<Item<DeployedAgent>>, HubError> {
        let mut results: Vec<Option<Item<DeployedAgent>>> = Vec::with_capacity(specs.len());
        let mut changes = Vec::with_capacity(specs.len());
        for spec in specs {
            let put =
                spec.and_then(|spec| AgentPut::new(spec, true).map_err(|error| Problems::one("", error.to_string())));
            match put {
                Ok(put) => {
                    results.push(None);
                    changes.push(Change {
                        op_id: options.op_id.unwrap_or_default(),
                        mutation: Mutation::AgentPut(Box::new(put)),
                        expected_revision: options.expected_revision,
                        actor: actor.clone(),
                    });
                }
                Err(problems) => results.push(Some(Err(problems.into()))),
            }
        }
        let expected: Vec<(AgentKey, Option<Revision>)> =
            changes.iter().map(|c| (c.mutation.key(), c.expected_revision)).collect();
        let outcomes = self.commit(running, changes, options.atomic, options.op_id.is_some()).await?;
        let mut done =
            expected.into_iter().zip(outcomes).map(|((key, expected), outcome)| self.deployed(key, expected, outcome));
        Ok(results.into_iter().filter_map(|result| result.or_else(|| done.next())).collect())
    }

    async fn commit(
        &self,
        running: &Running,
        changes: Vec<Change>,
        atomic: bool,
        recheck: bool,
    ) -> Result<Vec<Outcome>, HubError> {
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        let units: Vec<Unit> =
            if atomic { vec![Unit { changes }] } else { changes.into_iter().map(Unit::one).collect() };
        let outcomes = running.writer.submit(units, recheck, self.deadline()).await?;
        Ok(outcomes.into_iter().flatten().collect())
    }

    fn deployed(&self, key: AgentKey, expected: Option<Revision>, outcome: Outcome) -> Item<DeployedAgent> {
        match outcome {
            Outcome::Put { agent, replaced_revision } => Ok(DeployedAgent {
                key,
                status: if replaced_revision.is_some() { WriteStatus::Updated } else { WriteStatus::Created },
                revision: agent.revision,
                replaced_revision,
            }),
            Outcome::Unchanged { revision } => {
                Ok(DeployedAgent { key, status: WriteStatus::Unchanged, revision, replaced_revision: None })
            }
            other => Err(self.failed(&key, expected, other)),
        }
    }

    fn failed(&self, key: &AgentKey, expected: Option<Revision>, outcome: Outcome) -> HubError {
        match outcome {
            Outcome::Conflict { current } => HubError::Conflict {
                entity: "agent",
                id: key.id.to_string(),
                expected: expected.unwrap_or_default(),
                current,
            },
            Outcome::Rejected { reason } => HubError::Rejected { reason },
            Outcome::Aborted => HubError::Aborted,
            _ => self.not_found(&key.namespace, key.id.as_str()),
        }
    }

    fn not_found(&self, namespace: &Namespace, id: &str) -> HubError {
        let nearest = match self.inner.cache.read().resolve(namespace, id) {
            Resolved::NotFound { nearest } => nearest.iter().map(ToString::to_string).collect(),
            Resolved::Ambiguous(candidates) => candidates.iter().map(ToString::to_string).collect(),
            Resolved::Exact(agent) | Resolved::UniquePrefix(agent) => vec![agent.spec.id.to_string()],
        };
        HubError::NotFound { entity: "agent", id: id.chars().take(limits::ID_CHARS_MAX).collect(), nearest }
    }

    /// One agent by its id or the unique start of it.
    ///
    /// # Errors
    /// When there is none, or several.
    pub async fn agent_get(&self, namespace: Option<&Namespace>, id: &str) -> Result<Arc<Agent>, HubError> {
        self.running().await?;
        let namespace = self.namespace(namespace);
        let resolved = self.inner.cache.read().resolve(&namespace, id);
        match resolved {
            Resolved::Exact(agent) | Resolved::UniquePrefix(agent) => Ok(agent),
            Resolved::Ambiguous(candidates) => Err(HubError::Ambiguous {
                entity: "agent",
                id: id.to_owned(),
                candidates: candidates.iter().map(ToString::to_string).collect(),
            }),
            Resolved::NotFound { .. } => Err(self.not_found(&namespace, id)),
        }
    }

    /// A page of agents.
    ///
    /// # Errors
    /// When the query is not valid.
    pub async fn agent_list(&self, query: &ListQuery) -> Result<ListPage, HubError> {
        self.running().await?;
        if query.text.is_some() {
            // Words are looked up where search looks them up; before it knows every agent some would be missing.
            self.searchable().await?;
        }
        Ok(self.inner.cache.read().list(query)?)
    }

    /// The agents that fit a need best.
    ///
    /// # Errors
    /// When the query is not valid, or the words of the agents have not been read in time.
    pub async fn agent_search(&self, query: &SearchQuery) -> Result<SearchPage, HubError> {
        self.searchable().await?;
        let factors = self.reliabilities(&query.namespace, query.filters.capability.as_deref());
        let meaning = self.agent_meaning(&query.namespace, query.query.trim()).await;
        if factors.is_empty() && meaning.is_none() {
            return Ok(self.inner.cache.read().search(query)?);
        }
        let query = SearchQuery { factors: Arc::new(factors), meaning, ..query.clone() };
        Ok(self.inner.cache.read().search(&query)?)
    }

    /// What the model of the operator makes of a need, if there is one that has read agents, and it answers in time.
    async fn agent_meaning(&self, namespace: &Namespace, need: &str) -> Option<Arc<ModelVector>> {
        let embeddings = self.inner.embeddings.as_ref()?;
        {
            let agents = self.inner.cache.read();
            // Whoever writes an id means that agent.
            if agents.model_vectors() == 0 || agents.get(namespace, need).is_some() {
                return None;
            }
        }
        embeddings.question(need).await
    }

    /// How the work of agents has ended of late, as a mild factor: for one capability or for all together. Those of whom
    /// nothing is known are left out.
    fn reliabilities(&self, namespace: &Namespace, capability: Option<&str>) -> HashMap<AgentId, Factor> {
        let now = super::memories::now();
        let experiences = self.inner.memories.experiences();
        let here = experiences.values().filter(|experience| experience.agent.namespace == *namespace);
        here.filter_map(|experience| {
            let record = experience.record(capability, now)?;
            let (worked, all) = (record.worked, record.worked.saturating_add(record.failed));
            let factor = Factor {
                times: 1.0 + RELIABILITY_WEIGHT * (2.0 * record.reliability(now) - 1.0),
                reason: format!("{worked} of {all} steps worked").into(),
            };
            Some((experience.agent.id.clone(), factor))
        })
        .collect()
    }

    /// The revisions of an agent, newest first, read from the database.
    ///
    /// # Errors
    /// When there is no such agent, or the database can't be reached.
    pub async fn agent_history(
        &self,
        namespace: Option<&Namespace>,
        id: &str,
        before: Option<Revision>,
        limit: usize,
    ) -> Result<Vec<AgentHistoryEntry>, HubError> {
        let running = self.running().await?;
        let key = self.key(namespace, id)?;
        let versions = read(running.store.agent_history(&key, before, limit).await)?;
        if versions.is_empty() && before.is_none() {
            return Err(self.not_found(&key.namespace, id));
        }
        Ok(versions
            .into_iter()
            .map(|version| AgentHistoryEntry { agent: version.agent, removed: version.removed_at.is_some() })
            .collect())
    }

    fn key(&self, namespace: Option<&Namespace>, id: &str) -> Result<AgentKey, HubError> {
        let namespace = self.namespace(namespace);
        match AgentId::parse(id) {
            Ok(id) => Ok(AgentKey { namespace, id }),
            Err(error) => Err(Problems::one("id", error.to_string()).into()),
        }
    }

    /// Changes some fields of an agent, or takes an earlier document of it.
    ///
    /// # Errors
    /// When the patch is not valid, the agent is not at the expected revision, or the database did not take it.
    pub async fn agent_update(
        &self,
        id: &str,
        patch: &Value,
        path: &str,
        options: &UpdateOptions,
        actor: &Actor,
    ) -> Result<DeployedAgent, HubError> {
        let running = self.running().await?;
        let key = self.key(options.namespace.as_ref(), id)?;
        let Some(expected) = options.expected_revision else {
            let cached = self.inner.cache.read().get(&key.namespace, id).map(|agent| agent.revision);
            let Some(current) = cached else { return Err(self.not_found(&key.namespace, id)) };
            let message = format!(
                "is required, so that nobody's change is lost; {id:?} is at revision {current} now, which you should \
                 have read before you change it"
            );
            return Err(Problems::one("expected_revision", message).into());
        };
        let base = match self.base_of_update(running, &key, expected, options).await {
            // An update that was applied already has moved the revision on; the database knows it by its name.
            Err(HubError::Conflict { .. }) if options.op_id.is_some() => {
                self.base_of_update(
                    running,
                    &key,
                    expected,
                    &UpdateOptions { rollback_to: Some(expected), ..options.clone() },
                )
                .await?
            }
            base => base?,
        };
        let spec = base.spec.patched(patch, path)?;
        let put = AgentPut::new(spec, false).map_err(|error| Problems::one(path, error.to_string()))?;
        let change = Change {
            op_id: options.op_id.unwrap_or_default(),
            mutation: Mutation::AgentPut(Box::new(put)),
            expected_revision: Some(expected),
            actor: actor.clone(),
        };
        let outcome = self.commit(running, vec![change], true, options.op_id.is_some()).await?.pop();
        self.deployed(key, Some(expected), outcome.unwrap_or(Outcome::NotFound))
    }

    /// The document that an update starts from.
    async fn base_of_update(
        &self,
        running: &Running,
        key: &AgentKey,
        expected: Revision,
        options: &UpdateOptions,
    ) -> Result<Arc<Agent>, HubError> {
        if let Some(revision) = options.rollback_to {
            let version = read(running.store.agent_version(key, revision).await)?;
            return version.filter(|v| v.removed_at.is_none()).map(|v| v.agent).ok_or_else(|| {
                let message =
                    format!("there is no document of {:?} at revision {revision}; list its history first", key.id);
                Problems::one("rollback_to", message).into()
            });
        }
        let cached = self.inner.cache.read().get(&key.namespace, key.id.as_str()).cloned();
        if let Some(agent) = cached.filter(|agent| agent.revision == expected) {
            return Ok(agent);
        }
        // The caller may have seen a newer state through another process than this one has.
        let latest = read(running.store.agent_history(key, None, 1).await)?.pop();
        match latest {
            Some(AgentVersion { agent, removed_at: None }) if agent.revision == expected => Ok(agent),
            Some(AgentVersion { agent, removed_at: None }) => {
                Err(HubError::Conflict { entity: "agent", id: key.id.to_string(), expected, current: agent.revision })
            }
            _ => Err(self.not_found(&key.namespace, key.id.as_str())),
        }
    }

    /// Removes agents. The result has one item for each id, in order.
    ///
    /// # Errors
    /// When nothing was done.
    pub async fn agent_remove(
        &self,
        ids: &[String],
        options: &RemoveOptions,
        actor: &Actor,
    ) -> Result<Vec<Item<RemovedAgent>>, HubError> {
        let running = self.running().await?;
        if ids.len() > 1 && options.expected_revision.is_some() {
            return Err(Problems::one("expected_revision", "goes with one id only").into());
        }
        let keys: Vec<Result<AgentKey, HubError>> =
            ids.iter().map(|id| self.key(options.namespace.as_ref(), id)).collect();
        let changes: Vec<Change> = keys
            .iter()
            .flatten()
            .map(|key| Change {
                op_id: OpId::new(),
                mutation: if options.purge {
                    Mutation::AgentPurge(key.clone())
                } else {
                    Mutation::AgentRemove(key.clone())
                },
                expected_revision: options.expected_revision,
                actor: actor.clone(),
            })
            .collect();
        let mut outcomes = self.commit(running, changes, false, false).await?.into_iter();
        Ok(keys
            .into_iter()
            .map(|key| {
                let key = key?;
                match outcomes.next().unwrap_or(Outcome::NotFound) {
                    Outcome::Removed { revision, purged } => Ok(RemovedAgent { key, revision, purged }),
                    other => Err(self.failed(&key, options.expected_revision, other)),
                }
            })
            .collect())
    }
}

/// An error of a read of the database, for a caller.
pub(super) fn read<T>(result: Result<T, a2a_store::error::StoreError>) -> Result<T, HubError> {
    result.map_err(|error| {
        tracing::warn!(%error, "a read of the database failed");
        HubError::Unavailable
    })
}

/// Two documents with one id in one call: the second would silently replace the first.
fn refuse_doubles(specs: &mut [Result<AgentSpec, Problems>], path: &str) {
    let mut seen = std::collections::HashMap::new();
    for (i, spec) in specs.iter_mut().enumerate() {
        let Ok(key) = spec.as_ref().map(AgentSpec::key) else { continue };
        if let Some(first) = seen.insert(key, i) {
            let message = format!("is the same as that of {path}[{first}]; give each agent of a call its own");
            *spec = Err(Problems::one(format!("{path}[{i}].id"), message));
        }
    }
}
