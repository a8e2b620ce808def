//! Conditions and inputs of steps, and what their expressions see.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::work::Work;
use crate::expression::{ExpressionError, ExpressionErrorKind, Fuel, Scope, Template};
use crate::json_text::JsonText;
use crate::limits;
use crate::workflow::definition::CompiledStep;
use crate::workflow::run::{Payload, StepStatus};

/// Most outputs that are asked for at once: each may have a mebibyte.
pub(super) const OUTPUTS_AT_ONCE: usize = 16;

/// What the expressions of a step say.
pub(super) enum Evaluated {
    /// Outputs must be loaded first.
    Needed,
    /// Other steps have used up the fuel of this transition, or read as much as one can.
    Later,
    Skip,
    Failed(String),
    Input(JsonText),
}

/// Values that expressions have read, each parsed once.
#[derive(Default)]
pub(super) struct Values {
    context: Option<Value>,
    input: Option<Value>,
    outputs: BTreeMap<usize, Value>,
    /// What the texts of the outputs weigh that were read or made.
    pub(super) bytes: usize,
    pub(super) fuel: Fuel,
    /// Whether some of the fuel is used already.
    pub(super) is_used: bool,
}

impl Work {
    pub(super) fn evaluate_step(&mut self, compiled: &CompiledStep) -> Evaluated {
        let is_first = !std::mem::replace(&mut self.values.is_used, true);
        if self.values.bytes >= limits::EXPRESSION_READ_BYTES_MAX {
            return Evaluated::Later;
        }
        let failed = |what: &str, error: &ExpressionError| {
            if error.kind == ExpressionErrorKind::Fuel && !is_first {
                return Evaluated::Later;
            }
            // The path of an error goes on from the field: `input.items[0]`.
            let dot = if error.path.is_empty() || error.path.starts_with('[') { "" } else { "." };
            let place = format!("{what}{dot}{}", error.path);
            Evaluated::Failed(format!("{place}: {}", error.message))
        };
        let conditions = [("skip_if", &compiled.skip_if, true), ("run_if", &compiled.run_if, false)];
        if compiled.skip_if.is_some() || compiled.run_if.is_some() {
            match self.load(&compiled.condition_reads) {
                Ok(true) => {}
                Ok(false) => return Evaluated::Needed,
                Err(error) => return Evaluated::Failed(error),
            }
        }
        for (name, condition, skips_when) in conditions {
            let Some(condition) = condition else { continue };
            let mut fuel = std::mem::take(&mut self.values.fuel);
            let is_true = condition.is_true(&self.scope(&compiled.condition_reads), &mut fuel);
            self.values.fuel = fuel;
            match is_true {
                Ok(is_true) if is_true == skips_when => return Evaluated::Skip,
                Ok(_) => {}
                Err(error) => return failed(name, &error),
            }
        }
        match self.load(&compiled.input_reads) {
            Ok(true) => {}
            Ok(false) => return Evaluated::Needed,
            Err(error) => return Evaluated::Failed(error),
        }
        match self.evaluate(&compiled.input, &compiled.input_reads) {
            Ok(input) => Evaluated::Input(input),
            Err(error) => failed("input", &error),
        }
    }

    /// Evaluates a template whose values are loaded.
    pub(super) fn evaluate(&mut self, template: &Template, reads: &[usize]) -> Result<JsonText, ExpressionError> {
        let mut fuel = std::mem::take(&mut self.values.fuel);
        let value = template.evaluate(&self.scope(reads), &mut fuel);
        self.values.fuel = fuel;
        value.map(|value| JsonText::new(&value))
    }

    /// Fresh fuel, for what must not fail because of what others have used.
    pub(super) fn refuel(&mut self) {
        self.values.fuel = Fuel::new();
    }

    /// Parses what expressions with these references can see. False when outputs must be loaded first.
    pub(super) fn load(&mut self, reads: &[usize]) -> Result<bool, String> {
        let parse = |text: &JsonText, what: &str| {
            text.value().map_err(|error| format!("the stored {what} is not JSON: {error}"))
        };
        if self.values.context.is_none() {
            self.values.context = Some(parse(&self.run.context, "context")?);
        }
        if self.values.input.is_none() {
            self.values.input = Some(parse(&self.run.input, "input")?);
        }
        let mut is_loaded = true;
        let mut bytes = 0_usize;
        for order in reads {
            let Some(step) = self.steps.get(*order).filter(|step| step.status == StepStatus::Completed) else {
                continue;
            };
            match &step.output {
                Payload::None => {}
                Payload::Stored => {
                    is_loaded = false;
                    // The rest is asked for when it is known that there is room for it.
                    if self.needed.len() < OUTPUTS_AT_ONCE {
                        self.needed.insert(*order);
                    }
                }
                Payload::Loaded(text) => {
                    bytes += text.as_str().len();
                    if bytes > limits::EXPRESSION_READ_BYTES_MAX {
                        return Err(format!(
                            "the outputs that are read here have more than {} bytes together; read fewer steps, or let \
                             them give a reference to what is large",
                            limits::EXPRESSION_READ_BYTES_MAX
                        ));
                    }
                    if !self.values.outputs.contains_key(order) {
                        self.values.bytes += text.as_str().len();
                        self.values.outputs.insert(*order, parse(text, "output")?);
                    }
                }
            }
        }
        Ok(is_loaded)
    }

    fn scope(&self, reads: &[usize]) -> Scope<'_> {
        static NULL: Value = Value::Null;
        let context = self.values.context.as_ref().unwrap_or(&NULL);
        let input = self.values.input.as_ref().unwrap_or(&NULL);
        let mut scope = Scope::new(context, input).with_run(json!({
            "id": self.run.id,
            "workflow": self.run.workflow,
            "namespace": self.run.namespace,
        }));
        for order in reads {
            if let (Some(spec), Some(step)) = (self.spec(*order), self.steps.get(*order)) {
                let output = self.values.outputs.get(order);
                scope.step_insert(spec.name.as_str(), step.status.as_str(), output, step.error.as_deref());
            }
        }
        scope
    }
}
