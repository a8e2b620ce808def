//! The result of a run.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::evaluate::OUTPUTS_AT_ONCE;
use super::work::Work;
use crate::json_text::JsonText;
use crate::limits;
use crate::workflow::run::{Payload, RunStatus, StepStatus};

impl Work {
    /// Ends a run whose steps are done.
    pub(super) fn complete_run(&mut self) {
        let definition = Arc::clone(&self.definition);
        let result = match &definition.result {
            Some(template) => match self.load(&definition.result_reads) {
                Ok(false) => return,
                Err(error) => Err(error),
                Ok(true) => {
                    self.refuel();
                    self.evaluate(template, &definition.result_reads).map_err(|error| error.to_string())
                }
            },
            None => match self.last_outputs(&definition.result_reads) {
                Some(result) => Ok(result),
                None => return,
            },
        };
        // What is left are compensations of failures that did not happen.
        for order in self.unfinished() {
            self.end_step(order, StepStatus::Skipped);
        }
        match result {
            Ok(result) => {
                self.run_mut().result = Some(result);
                self.end_run(RunStatus::Completed);
            }
            Err(error) => self.fail_run(&format!("the result of the run could not be made: {error}")),
        }
    }

    /// The output of the only last step, or an object of those of the last steps. `None` when some must be loaded first.
    fn last_outputs(&mut self, last: &[usize]) -> Option<JsonText> {
        let mut outputs: BTreeMap<&str, JsonText> = BTreeMap::new();
        let mut bytes = 0_usize;
        let definition = Arc::clone(&self.definition);
        for order in last {
            let (Some(spec), Some(step)) = (definition.spec.steps.get(*order), self.steps.get(*order)) else {
                continue;
            };
            if step.status != StepStatus::Completed {
                continue;
            }
            let has_room = bytes < limits::STEP_OUTPUT_BYTES_MAX;
            match &step.output {
                // What the result has no room for is not asked for at all.
                Payload::Stored if has_room => {
                    self.needed.insert(*order);
                    if self.needed.len() >= OUTPUTS_AT_ONCE {
                        return None;
                    }
                }
                Payload::Loaded(text) if bytes + text.as_str().len() <= limits::STEP_OUTPUT_BYTES_MAX => {
                    bytes += text.as_str().len();
                    outputs.insert(spec.name.as_str(), text.clone());
                }
                Payload::None => {}
                Payload::Stored | Payload::Loaded(_) => {
                    // From here on nothing has room, so that the rest need not be loaded.
                    bytes = limits::STEP_OUTPUT_BYTES_MAX;
                    let note = "is too large for the result; read the output of the step";
                    outputs.insert(spec.name.as_str(), JsonText::new(&json!({ "omitted": note })));
                }
            }
        }
        if !self.needed.is_empty() {
            return None;
        }
        if last.len() == 1 {
            return Some(outputs.into_values().next().unwrap_or_else(|| JsonText::new(&Value::Null)));
        }
        // The outputs are JSON texts already; parsing and printing them again would cost more than all the rest.
        let fields: Vec<String> =
            outputs.iter().map(|(name, text)| format!("{}:{}", Value::from(*name), text.as_str())).collect();
        Some(JsonText::from_stored(format!("{{{}}}", fields.join(","))))
    }
}
