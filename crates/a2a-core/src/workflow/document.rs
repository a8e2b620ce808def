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
use crate::error::{Problem, Problems};
use crate::ids::{AgentId, Namespace};
use crate::input::{ObjectReader, check_document_size, read_object};
use crate::json_text::JsonText;
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
    /// All problems of the document itself; [`Definition::from_document`] finds those of its graph too.
    pub fn from_document(value: &Value, path: &str, namespace: &Namespace) -> Result<Self, Problems> {
        let spec = read_object(value, path, |r| read::workflow(r, namespace))?;
        spec.check_size(path)?;
        Ok(spec)
    }

    fn check_size(&self, path: &str) -> Result<(), Problems> {
        check_document_size(self.to_json(), path, "inputs, context or descriptions")
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

    /// Reads a whole document and compiles it: [`WorkflowSpec::from_document`] and [`Definition::compile`] in one.
    ///
    /// # Errors
    /// All problems of both, as far as the document could be read.
    pub fn from_document(value: &Value, path: &str, namespace: &Namespace) -> Result<Self, Problems> {
        let mut problems = Vec::new();
        let spec = ObjectReader::open(value, path.to_owned(), &mut problems).and_then(|mut reader| {
            let spec = read::workflow(&mut reader, namespace);
            reader.finish();
            spec
        });
        let Some(spec) = spec else { return Err(Problems(problems)) };
        let too_large = spec.check_size(path).err();
        let compiled = Self::compile(spec, path);
        if let Err(Problems(of_graph)) = &compiled {
            let is_new = |problem: &&Problem| !problems.iter().any(|told| covers(&told.path, &problem.path));
            let of_graph: Vec<Problem> = of_graph.iter().filter(is_new).cloned().collect();
            problems.extend(of_graph);
        }
        problems.extend(too_large.into_iter().flat_map(|problems| problems.0));
        if problems.is_empty() { compiled } else { Err(Problems(problems)) }
    }

    /// Reads the compact JSON that [`WorkflowSpec::to_json`] has written.
    ///
    /// # Errors
    /// When something else wrote it, or a newer version whose documents this one does not know.
    pub fn from_stored(document: &str) -> Result<Self, Problems> {
        let value: Value = serde_json::from_str(document).map_err(|error| Problems::one("", error.to_string()))?;
        Self::from_document(&value, "", &Namespace::default())
    }
}

/// Whether what was told of one place is the reason for what is found at another: that lies within it, or holds it as a
/// field, without which it could not be read.
fn covers(told: &str, found: &str) -> bool {
    let within = |outer: &str, inner: &str, ends: &[char]| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(ends))
    };
    within(told, found, &['.', '[']) || within(found, told, &['.'])
}
