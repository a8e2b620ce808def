//! Documents of workflows as the database holds them, and the definitions that were made of them.

use std::collections::HashMap;
use std::sync::Arc;

use a2a_core::agent::{ContentHash, content_hash};
use a2a_core::ids::{AgentId, Namespace, RunId, StepName, WorkflowId};
use a2a_core::json_text::JsonText;
use a2a_core::workflow::definition::{Definition, Dependency, OnFailure, Retry, StepSpec, WorkflowSpec};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::StoreError;

#[derive(Deserialize)]
struct StoredSpec<'a> {
    namespace: String,
    id: String,
    name: String,
    #[serde(default)]
    description: String,
    #[serde(borrow)]
    context: &'a RawValue,
    #[serde(borrow)]
    steps: Vec<StoredStepSpec<'a>>,
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
    #[serde(default)]
    timeout_s: Option<u32>,
    #[serde(default)]
    max_parallel: Option<u16>,
}

#[derive(Deserialize)]
struct StoredStepSpec<'a> {
    name: String,
    agent: String,
    #[serde(default)]
    capability: Option<String>,
    #[serde(borrow)]
    input: &'a RawValue,
    #[serde(default)]
    depends_on: Vec<StoredDependency>,
    #[serde(default)]
    run_if: Option<String>,
    #[serde(default)]
    skip_if: Option<String>,
    retry: StoredRetry,
    #[serde(default)]
    timeout_s: Option<u32>,
    on_failure: StoredOnFailure,
}

#[derive(Deserialize)]
struct StoredDependency {
    step: String,
    #[serde(default)]
    required: bool,
}

#[derive(Deserialize)]
struct StoredRetry {
    max_attempts: u16,
    backoff_ms: u32,
    backoff_max_ms: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredOnFailure {
    Fail,
    Continue,
    Compensate(String),
}

/// Reads a document that this program has written.
pub(crate) fn stored_spec(document: &str) -> Result<WorkflowSpec, serde_json::Error> {
    let stored: StoredSpec<'_> = serde_json::from_str(document)?;
    let json = |raw: &RawValue| JsonText::from_stored(raw.get());
    let steps = stored.steps.into_iter().map(|step| StepSpec {
        name: StepName::from_stored(step.name),
        agent: AgentId::from_stored(step.agent),
        capability: step.capability.map(Into::into),
        input: json(step.input),
        depends_on: step
            .depends_on
            .into_iter()
            .map(|d| Dependency { step: StepName::from_stored(d.step), required: d.required })
            .collect(),
        run_if: step.run_if.map(Into::into),
        skip_if: step.skip_if.map(Into::into),
        retry: Retry {
            max_attempts: step.retry.max_attempts,
            backoff_ms: step.retry.backoff_ms,
            backoff_max_ms: step.retry.backoff_max_ms,
        },
        timeout_s: step.timeout_s,
        on_failure: match step.on_failure {
            StoredOnFailure::Fail => OnFailure::Fail,
            StoredOnFailure::Continue => OnFailure::Continue,
            StoredOnFailure::Compensate(name) => OnFailure::Compensate(StepName::from_stored(name)),
        },
    });
    Ok(WorkflowSpec {
        namespace: Namespace::from_stored(stored.namespace),
        id: WorkflowId::from_stored(stored.id),
        name: stored.name.into(),
        description: stored.description.into(),
        context: json(stored.context),
        steps: steps.collect(),
        result: stored.result.map(json),
        timeout_s: stored.timeout_s,
        max_parallel: stored.max_parallel,
    })
}

/// The document of a definition, with the hash that names it.
pub(crate) fn document_of(definition: &Definition) -> Result<(String, ContentHash), StoreError> {
    let document = definition.spec.to_json().map_err(|error| StoreError::Row {
        table: "runs",
        key: definition.spec.id.to_string(),
        reason: error.to_string(),
    })?;
    let hash = content_hash(&document);
    Ok((document, hash))
}

/// Definitions by the hash of their document: a document is read and compiled once, and shared by all runs of it.
#[derive(Debug, Default)]
pub(crate) struct Definitions {
    /// Held for the time of a look-up only.
    known: Mutex<HashMap<ContentHash, Arc<Definition>>>,
}

/// From so many on, those that no run uses are forgotten. A definition takes some kilobytes.
const KEPT_MAX: usize = 1_000;

/// What the rows of runs need to become runs.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) by_hash: HashMap<ContentHash, Arc<Definition>>,
    /// For each definition that is not known here, a run that has it.
    pub(crate) missing: Vec<String>,
}

impl Definitions {
    /// Looks for the definitions of runs, given with their ids.
    pub(crate) fn find<'r>(&self, runs: impl Iterator<Item = (&'r ContentHash, &'r str)>) -> Found {
        let known = self.known.lock();
        let mut missing: HashMap<ContentHash, String> = HashMap::new();
        let mut found = Found::default();
        for (hash, run) in runs {
            if let Some(definition) = known.get(hash) {
                found.by_hash.entry(*hash).or_insert_with(|| definition.clone());
            } else {
                missing.entry(*hash).or_insert_with(|| run.to_owned());
            }
        }
        found.missing = missing.into_values().collect();
        found
    }

    /// Keeps a definition.
    pub(crate) fn keep(&self, hash: ContentHash, definition: &Arc<Definition>) {
        let mut known = self.known.lock();
        if known.len() >= KEPT_MAX {
            known.retain(|_, definition| Arc::strong_count(definition) > 1);
        }
        if known.len() < KEPT_MAX {
            known.entry(hash).or_insert_with(|| definition.clone());
        }
    }

    /// Reads and keeps the definition of a run.
    pub(crate) fn read(&self, run: &str, hash: ContentHash, document: &str) -> Result<Arc<Definition>, StoreError> {
        let unreadable = |reason: String| StoreError::Row { table: "runs", key: run.to_owned(), reason };
        let spec = stored_spec(document).map_err(|error| unreadable(format!("definition: {error}")))?;
        let definition =
            Definition::compile(spec, "").map_err(|problems| unreadable(format!("definition: {problems}")))?;
        let definition = Arc::new(definition);
        self.keep(hash, &definition);
        Ok(definition)
    }

    /// Reads the definitions that were missing. One that can't be read is left out: only its own runs miss it.
    pub(crate) fn add(&self, found: &mut Found, stored: Vec<(RunId, ContentHash, String)>) {
        for (run, hash, document) in stored {
            match self.read(run.as_str(), hash, &document) {
                Ok(definition) => {
                    found.by_hash.insert(hash, definition);
                }
                Err(error) => tracing::error!(%error, "a run can't be read"),
            }
        }
    }
}
