//! From JSON that a caller sends to a [`WorkflowSpec`], and from that to a [`Definition`] that can run.

mod compile;
mod graph;
mod overrides;
mod read;
mod schema;

#[cfg(test)]
mod tests;

use serde_json::Value;

use crate::agent::{Executor, ExecutorKind};
use crate::error::Problems;
use crate::ids::{AgentId, Namespace};
use crate::input::read_object;
use crate::json_text::JsonText;
use crate::limits;
use crate::workflow::definition::{Definition, WorkflowSpec};

pub use overrides::{merged_context, with_overrides};
pub use schema::{DependencyDocument, RetryDocument, StepDocument, WorkflowDocument};

/// What the ids of the built-in agents begin with; nobody can deploy one.
pub const BUILTIN_PREFIX: &str = "builtin:";

/// The built-in agents with the settings of their executors.
const BUILTINS: [(&str, &str); 4] = [
    ("builtin:echo", r#"{"operation":"echo"}"#),
    ("builtin:transform", r#"{"operation":"transform"}"#),
    ("builtin:wait", r#"{"operation":"wait"}"#),
    ("builtin:gate", r#"{"operation":"gate"}"#),
];

/// The executor of a built-in agent.
#[must_use]
pub fn builtin(agent: &AgentId) -> Option<Executor> {
    let (_, settings) = BUILTINS.iter().find(|(id, _)| *id == agent.as_str())?;
    Some(Executor { kind: ExecutorKind::Builtin, settings: JsonText::from_stored(*settings) })
}

/// The ids of the built-in agents.
pub fn builtin_ids() -> impl Iterator<Item = &'static str> {
    BUILTINS.iter().map(|(id, _)| *id)
}

/// Whether an id is kept for built-in agents.
#[must_use]
pub fn is_reserved(agent: &AgentId) -> bool {
    agent.as_str().starts_with(BUILTIN_PREFIX)
}

impl WorkflowSpec {
    /// Reads a whole document; what it leaves out has its default. `path` is where the document stands in the caller's
    /// input, `namespace` the one to use when the document names none.
    ///
    /// # Errors
    /// All problems of the document itself; [`Definition::compile`] finds those of its graph.
    pub fn from_document(value: &Value, path: &str, namespace: &Namespace) -> Result<Self, Problems> {
        let spec = read_object(value, path, |r| read::workflow(r, namespace))?;
        spec.check_size(path)?;
        Ok(spec)
    }

    fn check_size(&self, path: &str) -> Result<(), Problems> {
        let bytes = self.to_json().map_err(|error| Problems::one(path, error.to_string()))?.len();
        if bytes > limits::DOCUMENT_BYTES_MAX {
            return Err(Problems::one(
                path,
                format!(
                    "the whole document has {bytes} bytes as compact JSON; shorten inputs, context or descriptions to at \
                     most {}",
                    limits::DOCUMENT_BYTES_MAX
                ),
            ));
        }
        Ok(())
    }
}

impl Definition {
    /// Resolves the graph and compiles the expressions.
    ///
    /// # Errors
    /// All problems: unknown names, cycles, doubles, steps that can't be reached, wrong expressions.
    pub fn compile(spec: WorkflowSpec, path: &str) -> Result<Self, Problems> {
        compile::compile(spec, path)
    }

    /// Reads the compact JSON that [`WorkflowSpec::to_json`] has written.
    ///
    /// # Errors
    /// When something else wrote it, or a newer version whose documents this one does not know.
    pub fn from_stored(document: &str) -> Result<Self, Problems> {
        let value: Value = serde_json::from_str(document).map_err(|error| Problems::one("", error.to_string()))?;
        Self::compile(WorkflowSpec::from_document(&value, "", &Namespace::default())?, "")
    }
}
