//! Reading the fields of a workflow document.

use std::collections::HashMap;

use serde_json::Value;

use crate::error::Problem;
use crate::expression::EXPRESSION_BYTES_MAX;
use crate::ids::{AgentId, IdError, Namespace, StepName, WorkflowId};
use crate::input::{ObjectReader, quoted, type_name};
use crate::json_text::JsonText;
use crate::limits;
use crate::workflow::definition::{Dependency, OnFailure, Retry, StepSpec, WorkflowSpec};

/// Attempts of a step that says nothing else.
const MAX_ATTEMPTS: u16 = 3;
/// The pause after the first failure of a step that says nothing else.
const BACKOFF_MS: u32 = 1_000;
/// The longest pause of a step that says nothing else.
const BACKOFF_MAX_MS: u32 = 60_000;

impl Default for Retry {
    fn default() -> Self {
        Self { max_attempts: MAX_ATTEMPTS, backoff_ms: BACKOFF_MS, backoff_max_ms: BACKOFF_MAX_MS }
    }
}

/// Stands for an id that could not be read, so that the rest of the document is looked at all the same.
const UNREAD: &str = "unread";

/// Reads what can be read. What it returns is whole when it has noted no problem.
pub(super) fn workflow(r: &mut ObjectReader<'_, '_>, namespace: &Namespace) -> Option<WorkflowSpec> {
    let named = id(r, "namespace", Namespace::parse);
    let workflow_id = id(r, "id", WorkflowId::parse);
    if !r.has("id") {
        r.problem("id", "is required: the name that callers use, such as \"review-release\"");
    }
    let name = r.text_chars("name", limits::NAME_CHARS_MAX);
    if name.is_some_and(|name| name.trim().is_empty()) {
        r.problem("name", "is empty; leave it out to use the id");
    }
    let description = r.text_bytes("description", limits::DESCRIPTION_BYTES_MAX).unwrap_or_default();
    let context = context(r);
    let steps = steps(r);
    let result = json(r, "result");
    let timeout_s = timeout_s(r);
    let max_parallel = integer(r, "max_parallel", 1, limits::WORKFLOW_STEPS_MAX);
    let workflow_id = workflow_id.unwrap_or_else(|| WorkflowId::from_stored(UNREAD));
    Some(WorkflowSpec {
        namespace: named.unwrap_or_else(|| namespace.clone()),
        name: name.map_or_else(|| workflow_id.as_str().into(), Into::into),
        id: workflow_id,
        description: description.into(),
        context,
        steps: steps?.into(),
        result,
        timeout_s,
        max_parallel,
    })
}

fn id<T>(
    r: &mut ObjectReader<'_, '_>,
    name: &'static str,
    parse: impl FnOnce(&str) -> Result<T, IdError>,
) -> Option<T> {
    parse(r.text(name)?).map_err(|error| r.problem(name, error.to_string())).ok()
}

fn integer<T: TryFrom<i64>>(
    r: &mut ObjectReader<'_, '_>,
    name: &'static str,
    from: i64,
    to: impl TryInto<i64>,
) -> Option<T> {
    let to = to.try_into().unwrap_or(i64::MAX);
    r.integer(name, from..=to).and_then(|number| T::try_from(number).ok())
}

pub(super) fn timeout_s(r: &mut ObjectReader<'_, '_>) -> Option<u32> {
    integer(r, "timeout_s", 1, limits::TIMEOUT_S_MAX)
}

/// Any JSON that can be stored.
pub(super) fn json(r: &mut ObjectReader<'_, '_>, name: &'static str) -> Option<JsonText> {
    let value = r.value(name)?;
    if let Some(problem) = unstorable(value) {
        r.problem(&format!("{name}{}", problem.path), problem.message);
        return None;
    }
    Some(JsonText::new(value))
}

/// Why a value cannot be stored, with the rest of its path.
pub(super) fn unstorable(value: &Value) -> Option<Problem> {
    if depth_exceeds(value, limits::JSON_DEPTH_MAX) {
        let message = format!("is nested deeper than {} levels; flatten it", limits::JSON_DEPTH_MAX);
        return Some(Problem { path: String::new(), message });
    }
    nul_in(value).map(|path| Problem { path, message: "holds a NUL character; remove it".to_owned() })
}

fn depth_exceeds(value: &Value, levels: usize) -> bool {
    match (value, levels.checked_sub(1)) {
        (Value::Array(_) | Value::Object(_), None) => true,
        (Value::Array(items), Some(left)) => items.iter().any(|item| depth_exceeds(item, left)),
        (Value::Object(map), Some(left)) => map.values().any(|item| depth_exceeds(item, left)),
        _ => false,
    }
}

/// The path of the first text or key with a NUL character.
fn nul_in(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => text.contains('\0').then(String::new),
        Value::Array(items) => {
            items.iter().enumerate().find_map(|(i, item)| nul_in(item).map(|rest| format!("[{i}]{rest}")))
        }
        Value::Object(map) => map.iter().find_map(|(key, item)| {
            if key.contains('\0') {
                Some(format!(".{}", quoted(key)))
            } else {
                nul_in(item).map(|rest| format!(".{key}{rest}"))
            }
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

fn context(r: &mut ObjectReader<'_, '_>) -> JsonText {
    match r.value("context") {
        None => JsonText::empty_object(),
        Some(value) if !value.is_object() => {
            r.problem("context", format!("must be an object, not {}", type_name(value)));
            JsonText::empty_object()
        }
        Some(_) => json(r, "context").unwrap_or_else(JsonText::empty_object),
    }
}

fn steps(r: &mut ObjectReader<'_, '_>) -> Option<Vec<StepSpec>> {
    let list = r.list("steps", limits::WORKFLOW_STEPS_MAX);
    if !r.has("steps") || list.is_some_and(<[Value]>::is_empty) {
        r.problem("steps", "is required: at least one step, such as {\"name\": \"draft\", \"agent\": \"writer\"}");
    }
    let mut steps: Vec<StepSpec> = Vec::new();
    let mut positions: HashMap<StepName, usize> = HashMap::new();
    for (i, item) in list?.iter().enumerate() {
        let path = r.path_of(&format!("steps[{i}]"));
        // Each keeps its position, which paths of problems name. No step can have this name.
        let unnamed = StepName::from_stored(format!("steps[{i}]"));
        let Some(mut inner) = ObjectReader::open(item, path, r.problems()) else {
            steps.push(unread_step(unnamed));
            continue;
        };
        let named = inner.has("name");
        let step = step(&mut inner, unnamed);
        if let Some(first) = positions.insert(step.name.clone(), i) {
            inner.problem("name", format!("{:?} is the name of steps[{first}] already; names are unique", step.name));
        }
        if !named {
            inner.problem("name", "is required: what other steps call it, such as \"draft\"");
        }
        inner.finish();
        steps.push(step);
    }
    Some(steps)
}

fn unread_step(name: StepName) -> StepSpec {
    StepSpec {
        name,
        agent: AgentId::from_stored(UNREAD),
        capability: None,
        input: JsonText::empty_object(),
        depends_on: [].into(),
        run_if: None,
        skip_if: None,
        retry: Retry::default(),
        timeout_s: None,
        on_failure: OnFailure::Fail,
    }
}

/// The name of a step: short enough for a table, and without characters that paths give a meaning to.
fn step_name(text: &str) -> Result<StepName, String> {
    if let Some(wrong) = text.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))) {
        return Err(format!("has the character {wrong:?}; use only A-Z a-z 0-9 _ -"));
    }
    if text.is_empty() || text.len() > limits::STEP_NAME_CHARS_MAX {
        return Err(format!("has {} characters; use 1 to {}", text.len(), limits::STEP_NAME_CHARS_MAX));
    }
    StepName::parse(text).map_err(|error| error.to_string())
}

fn read_step_name(r: &mut ObjectReader<'_, '_>, name: &'static str) -> Option<StepName> {
    step_name(r.text(name)?).map_err(|error| r.problem(name, error)).ok()
}

fn step(r: &mut ObjectReader<'_, '_>, unnamed: StepName) -> StepSpec {
    let name = read_step_name(r, "name");
    let agent = id(r, "agent", AgentId::parse);
    if !r.has("agent") {
        r.problem(
            "agent",
            "is required: a deployed agent, or builtin:echo, builtin:transform, builtin:wait, builtin:gate",
        );
    }
    let capability = r.text_chars("capability", limits::NAME_CHARS_MAX).map(Into::into);
    let input = json(r, "input").unwrap_or_else(JsonText::empty_object);
    let depends_on = depends_on(r);
    let run_if = condition(r, "run_if");
    let skip_if = condition(r, "skip_if");
    let retry = retry(r, Retry::default());
    let timeout_s = timeout_s(r);
    let on_failure = on_failure(r);
    StepSpec {
        name: name.unwrap_or(unnamed),
        agent: agent.unwrap_or_else(|| AgentId::from_stored(UNREAD)),
        capability,
        input,
        depends_on: depends_on.into(),
        run_if,
        skip_if,
        retry,
        timeout_s,
        on_failure,
    }
}

/// A condition, true or false included.
pub(super) fn condition(r: &mut ObjectReader<'_, '_>, name: &'static str) -> Option<Box<str>> {
    if let Some(Value::Bool(constant)) = r.value(name) {
        return Some(constant.to_string().into());
    }
    let text = r.text_bytes(name, EXPRESSION_BYTES_MAX)?;
    if text.trim().is_empty() {
        r.problem(name, "is empty; leave it out or write an expression such as \"input.urgent\"");
        return None;
    }
    Some(text.into())
}

fn depends_on(r: &mut ObjectReader<'_, '_>) -> Vec<Dependency> {
    let one;
    let list: &[Value] = match r.value("depends_on") {
        Some(name @ (Value::String(_) | Value::Object(_))) => {
            one = [name.clone()];
            &one
        }
        _ => r.list("depends_on", limits::WORKFLOW_STEPS_MAX).unwrap_or_default(),
    };
    let mut dependencies: Vec<Dependency> = Vec::new();
    for (i, item) in list.iter().enumerate() {
        let at = format!("depends_on[{i}]");
        let dependency = match item {
            Value::String(text) => match step_name(text) {
                Ok(step) => Some(Dependency { step, required: false }),
                Err(error) => {
                    r.problem(&at, error);
                    None
                }
            },
            _ => {
                let path = r.path_of(&at);
                ObjectReader::open(item, path, r.problems()).and_then(|mut inner| {
                    let step = read_step_name(&mut inner, "step");
                    if !inner.has("step") {
                        inner.problem("step", "is required: the name of a step");
                    }
                    let required = inner.boolean("required").unwrap_or(false);
                    inner.finish();
                    Some(Dependency { step: step?, required })
                })
            }
        };
        let Some(dependency) = dependency else { continue };
        if dependencies.iter().any(|known| known.step == dependency.step) {
            r.problem(&at, format!("{:?} is listed twice", dependency.step));
            continue;
        }
        dependencies.push(dependency);
    }
    dependencies
}

/// The fields of `retry` that are there, over those of `base`.
pub(super) fn retry(r: &mut ObjectReader<'_, '_>, base: Retry) -> Retry {
    let Some(value) = r.value("retry") else { return base };
    let path = r.path_of("retry");
    let Some(mut inner) = ObjectReader::open(value, path, r.problems()) else { return base };
    let max_attempts = integer(&mut inner, "max_attempts", 1, limits::ATTEMPTS_MAX).unwrap_or(base.max_attempts);
    let backoff_ms = integer(&mut inner, "backoff_ms", 0, limits::BACKOFF_MS_MAX).unwrap_or(base.backoff_ms);
    let longest = integer(&mut inner, "backoff_max_ms", 0, limits::BACKOFF_MS_MAX);
    // A first pause over the usual longest one means that pauses stay as long as the first.
    let backoff_max_ms = longest.unwrap_or(base.backoff_max_ms.max(backoff_ms));
    if backoff_max_ms < backoff_ms {
        inner.problem("backoff_max_ms", format!("is {backoff_max_ms}, less than backoff_ms, which is {backoff_ms}"));
    }
    inner.finish();
    Retry { max_attempts, backoff_ms, backoff_max_ms }
}

fn on_failure(r: &mut ObjectReader<'_, '_>) -> OnFailure {
    const EXPECTED: &str = "use \"fail\", \"continue\" or {\"compensate\": \"step\"}";
    match r.value("on_failure") {
        None => OnFailure::Fail,
        Some(Value::String(text)) if text == "fail" => OnFailure::Fail,
        Some(Value::String(text)) if text == "continue" => OnFailure::Continue,
        Some(value @ Value::Object(_)) => {
            let path = r.path_of("on_failure");
            let step = ObjectReader::open(value, path, r.problems()).and_then(|mut inner| {
                let step = read_step_name(&mut inner, "compensate");
                if !inner.has("compensate") {
                    inner.problem("compensate", "is required: the name of a step");
                }
                inner.finish();
                step
            });
            step.map_or(OnFailure::Fail, OnFailure::Compensate)
        }
        Some(Value::String(text)) => {
            r.problem("on_failure", format!("is {}; {EXPECTED}", quoted(text)));
            OnFailure::Fail
        }
        Some(other) => {
            r.problem("on_failure", format!("must not be {}; {EXPECTED}", type_name(other)));
            OnFailure::Fail
        }
    }
}
