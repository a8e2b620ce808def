//! What a run changes of the workflow that it executes.

use serde_json::{Map, Value};

use super::read;
use crate::error::{Problem, Problems};
use crate::ids::AgentId;
use crate::input::{ObjectReader, did_you_mean, quoted};
use crate::json_text::JsonText;
use crate::limits;
use crate::workflow::definition::{StepSpec, WorkflowSpec};

/// The workflow with other settings for some of its steps: an object by the name of the step, with `input`, `timeout_s`,
/// `retry`, `run_if`, `skip_if` and `agent`. Fields of `input` and `retry` replace one by one; null takes away a timeout
/// or a condition.
///
/// # Errors
/// All problems of the overrides.
pub fn with_overrides(
    spec: &WorkflowSpec,
    overrides: &Map<String, Value>,
    path: &str,
) -> Result<WorkflowSpec, Problems> {
    let mut problems = Vec::new();
    let mut steps = spec.steps.to_vec();
    for (name, changes) in overrides {
        let at = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let Some(step) = steps.iter_mut().find(|step| step.name.as_str() == name) else {
            let hint = did_you_mean(name, spec.steps.iter().map(|step| step.name.as_str()));
            let message = format!("there is no step {}{hint}", quoted(name));
            problems.push(Problem { path: at, message });
            continue;
        };
        if let Some(mut reader) = ObjectReader::open(changes, at, &mut problems) {
            change_step(&mut reader, step);
            reader.finish();
        }
    }
    if !problems.is_empty() {
        return Err(Problems(problems));
    }
    let changed = WorkflowSpec { steps: steps.into(), ..spec.clone() };
    changed.check_size(path)?;
    Ok(changed)
}

fn change_step(r: &mut ObjectReader<'_, '_>, step: &mut StepSpec) {
    if let Some(agent) = r.text("agent") {
        match AgentId::parse(agent) {
            Ok(agent) => step.agent = agent,
            Err(error) => r.problem("agent", error.to_string()),
        }
    }
    if let Some(input) = read::json(r, "input") {
        step.input = match (step.input.value(), input.value()) {
            (Ok(Value::Object(mut fields)), Ok(Value::Object(changes))) => {
                fields.extend(changes);
                JsonText::new(&Value::Object(fields))
            }
            _ => input,
        };
    }
    step.retry = read::retry(r, step.retry);
    let cleared = |r: &ObjectReader<'_, '_>, name| r.is_null(name);
    if cleared(r, "timeout_s") {
        step.timeout_s = None;
    }
    step.timeout_s = read::timeout_s(r).or(step.timeout_s);
    if cleared(r, "run_if") {
        step.run_if = None;
    }
    if let Some(condition) = read::condition(r, "run_if") {
        step.run_if = Some(condition);
    }
    if cleared(r, "skip_if") {
        step.skip_if = None;
    }
    if let Some(condition) = read::condition(r, "skip_if") {
        step.skip_if = Some(condition);
    }
}

/// The context of a run: the fields of the caller over those of the workflow.
///
/// # Errors
/// When it is too large, nested too deeply or holds a NUL character.
pub fn merged_context(
    spec: &WorkflowSpec,
    context: Option<&Map<String, Value>>,
    path: &str,
) -> Result<JsonText, Problems> {
    let Some(context) = context else { return Ok(spec.context.clone()) };
    let mut fields = match spec.context.value() {
        Ok(Value::Object(fields)) => fields,
        Ok(_) => Map::new(),
        Err(error) => return Err(Problems::one(path, format!("the context of the workflow is not JSON: {error}"))),
    };
    fields.extend(context.clone());
    let merged = Value::Object(fields);
    if let Some(problem) = read::unstorable(&merged) {
        return Err(Problems::one(format!("{path}{}", problem.path), problem.message));
    }
    let text = JsonText::new(&merged);
    if text.as_str().len() > limits::DOCUMENT_BYTES_MAX {
        let message = format!(
            "has {} bytes with that of the workflow; at most {} are taken; pass a reference to what is larger",
            text.as_str().len(),
            limits::DOCUMENT_BYTES_MAX
        );
        return Err(Problems::one(path, message));
    }
    Ok(text)
}
