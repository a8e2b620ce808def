//! What an expression can see.

use std::collections::BTreeMap;

use serde_json::Value;

/// The names an expression may begin with.
pub const ROOTS: [&str; 5] = ["context", "input", "run", "steps", "value"];

/// What an expression can see: borrowed data, so that building it copies nothing of what the steps gave.
///
/// `context` and `input` are the run's; `steps.<name>` has `status`, `output` and `error`; `run` holds what is told of
/// the run itself, such as its id; `value` is there only where one value is worked on, as in the builtin transform.
#[derive(Debug, Clone)]
pub struct Scope<'a> {
    pub(super) context: &'a Value,
    pub(super) input: &'a Value,
    pub(super) run: Value,
    pub(super) value: Option<&'a Value>,
    pub(super) steps: BTreeMap<String, StepScope<'a>>,
}

/// What an expression can see of a step.
#[derive(Debug, Clone)]
pub(super) struct StepScope<'a> {
    /// A text.
    pub(super) status: Value,
    pub(super) output: Option<&'a Value>,
    /// A text, or null.
    pub(super) error: Value,
}

impl<'a> Scope<'a> {
    /// The run's context and input, without steps.
    #[must_use]
    pub fn new(context: &'a Value, input: &'a Value) -> Self {
        Self { context, input, run: Value::Object(serde_json::Map::new()), value: None, steps: BTreeMap::new() }
    }

    /// Tells what is known as `run`, an object such as `{"id": "..."}`.
    #[must_use]
    pub fn with_run(mut self, run: Value) -> Self {
        self.run = run;
        self
    }

    /// Tells what is known as `value`.
    #[must_use]
    pub fn with_value(mut self, value: &'a Value) -> Self {
        self.value = Some(value);
        self
    }

    /// Adds a step. Without an output, `steps.<name>.output` is not defined; without an error, `.error` is null.
    #[must_use]
    pub fn with_step(mut self, name: &str, status: &str, output: Option<&'a Value>, error: Option<&str>) -> Self {
        self.step_insert(name, status, output, error);
        self
    }

    /// Adds a step or replaces it, as [`Scope::with_step`].
    pub fn step_insert(&mut self, name: &str, status: &str, output: Option<&'a Value>, error: Option<&str>) {
        let step = StepScope { status: Value::from(status), output, error: error.map_or(Value::Null, Value::from) };
        self.steps.insert(name.to_owned(), step);
    }
}
