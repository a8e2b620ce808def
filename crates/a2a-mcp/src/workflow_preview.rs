//! What saving a workflow would do, without doing it.

use std::collections::BTreeSet;

use a2a_core::ids::{Namespace, Revision};
use a2a_core::workflow::definition::Definition;
use a2a_core::workflow::document::builtin;
use a2a_engine::error::HubError;
use a2a_engine::hub::{Hub, WriteStatus};
use serde_json::Value;

/// What would happen.
#[derive(Debug)]
pub(crate) struct Preview {
    pub(crate) id: String,
    pub(crate) status: WriteStatus,
    /// The revision there is now.
    pub(crate) revision: Option<Revision>,
    /// What would keep a run from starting now.
    pub(crate) warnings: Vec<String>,
}

/// Checks a document as saving does, and compares it with what is saved.
///
/// # Errors
/// All problems of the document, or that the registry is not loaded.
pub(crate) async fn preview(
    hub: &Hub,
    document: &Value,
    path: &str,
    namespace: Option<&Namespace>,
) -> Result<Preview, HubError> {
    let namespace = namespace.unwrap_or_else(|| hub.default_namespace());
    let spec = Definition::from_document(document, path, namespace)?.spec;
    let (status, revision) = match hub.workflow_get(Some(&spec.namespace), spec.id.as_str()).await {
        // The start of an id finds a workflow too; here the whole id is meant.
        Ok(saved) if saved.spec.id != spec.id => (WriteStatus::Created, None),
        Ok(saved) if saved.spec == spec => (WriteStatus::Unchanged, Some(saved.revision)),
        Ok(saved) => (WriteStatus::Updated, Some(saved.revision)),
        Err(HubError::NotFound { .. } | HubError::Ambiguous { .. }) => (WriteStatus::Created, None),
        Err(error) => return Err(error),
    };
    let mut warnings = Vec::new();
    let mut seen = BTreeSet::new();
    for step in spec.steps.iter() {
        if builtin(&step.agent).is_some() || !seen.insert((step.agent.as_str(), step.capability.as_deref())) {
            continue;
        }
        let problem = match hub.agent_get(Some(&spec.namespace), step.agent.as_str()).await {
            Ok(agent) if agent.spec.id != step.agent => Some("is not deployed".to_owned()),
            Ok(agent) if !agent.spec.enabled => Some("is disabled".to_owned()),
            Ok(agent) => step
                .capability
                .as_deref()
                .filter(|name| agent.spec.capabilities.iter().all(|capability| &*capability.name != *name))
                .map(|name| format!("has no capability {name:?}")),
            Err(HubError::NotFound { .. } | HubError::Ambiguous { .. }) => Some("is not deployed".to_owned()),
            Err(error) => return Err(error),
        };
        warnings.extend(problem.map(|problem| format!("step {}: agent {:?} {problem}", step.name, step.agent)));
    }
    Ok(Preview { id: spec.id.to_string(), status, revision, warnings })
}
