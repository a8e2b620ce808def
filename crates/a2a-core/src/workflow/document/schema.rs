//! The JSON Schema of a workflow document, whose every word a model reads in every session.

use schemars::JsonSchema;
use serde_json::{Map, Value};

/// The fields of a workflow document. This type exists for its JSON Schema; a test holds it against the reader.
#[derive(Debug, JsonSchema)]
#[schemars(inline, deny_unknown_fields, description = "")]
pub struct WorkflowDocument {
    /// A-Z a-z 0-9 . _ : - ; max 128
    pub id: String,
    #[allow(missing_docs, reason = "the name says it, and every word here is sent to the model")]
    pub steps: Vec<StepDocument>,
    /// Default: the id.
    #[schemars(default)]
    pub name: String,
    /// When to use it.
    #[schemars(default)]
    pub description: String,
    /// Default `context` of its runs.
    #[schemars(default)]
    pub context: Map<String, Value>,
    /// Template; default: output of the last steps.
    #[schemars(default)]
    pub result: Value,
    #[allow(missing_docs, reason = "the name says it, and every word here is sent to the model")]
    #[schemars(default)]
    pub timeout_s: u32,
    #[allow(missing_docs, reason = "the name says it, and every word here is sent to the model")]
    #[schemars(default)]
    pub max_parallel: u16,
    /// Default: default
    #[schemars(default)]
    pub namespace: String,
}

/// One step in a workflow document.
#[derive(Debug, JsonSchema)]
#[schemars(inline, deny_unknown_fields, description = "")]
#[allow(missing_docs, reason = "the names say it, and every word here is sent to the model")]
pub struct StepDocument {
    /// A-Z a-z 0-9 _ -
    pub name: String,
    /// Agent id, or builtin:echo|transform|wait|gate
    pub agent: String,
    #[schemars(default)]
    pub capability: String,
    /// Template: "{{ steps.draft.output.text }}"; sees context, input, run, steps.
    #[schemars(default)]
    pub input: Value,
    #[schemars(default)]
    pub depends_on: Vec<DependencyDocument>,
    /// Expression: steps.test.output.ok and input.urgent
    #[schemars(default)]
    pub run_if: String,
    #[schemars(default)]
    pub skip_if: String,
    #[schemars(default)]
    pub retry: RetryDocument,
    #[schemars(default)]
    pub timeout_s: u32,
    /// "fail", "continue" or {"compensate": step}
    #[schemars(default)]
    pub on_failure: Value,
}

/// A step name, or an object that says that the step is required.
#[derive(Debug, JsonSchema)]
#[schemars(inline, untagged, description = "")]
#[allow(missing_docs, reason = "the names say it, and every word here is sent to the model")]
pub enum DependencyDocument {
    Step(String),
    Detailed {
        step: String,
        /// Skip this one when that one was not completed.
        #[schemars(default)]
        required: bool,
    },
}

/// The retry settings in a workflow document.
#[derive(Debug, Default, JsonSchema)]
#[schemars(inline, deny_unknown_fields, description = "")]
#[allow(missing_docs, reason = "the names say it, and every word here is sent to the model")]
pub struct RetryDocument {
    /// Default: 3
    #[schemars(default)]
    pub max_attempts: u16,
    #[schemars(default)]
    pub backoff_ms: u32,
    #[schemars(default)]
    pub backoff_max_ms: u32,
}
