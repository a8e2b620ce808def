//! What the built-in agents do without anybody claiming them.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::work::later;
use crate::agent::{Executor, ExecutorKind};
use crate::expression::{Expression, ExpressionError, ExpressionErrorKind, Fuel, Scope};
use crate::ids::RunId;
use crate::input::type_name;
use crate::json_schema;
use crate::json_text::JsonText;
use crate::limits;
use crate::time::Timestamp;

/// What a built-in executor does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuiltinOperation {
    /// The output is the input.
    Echo,
    /// The output is the value of an expression.
    Transform,
    /// Waits for a time.
    Wait,
    /// Waits for an answer.
    Gate,
}

impl BuiltinOperation {
    /// Every operation with its name.
    pub const ALL: [(&str, Self); 4] =
        [("echo", Self::Echo), ("transform", Self::Transform), ("wait", Self::Wait), ("gate", Self::Gate)];
}

/// What an executor does when it is a built-in one.
#[must_use]
pub fn builtin_operation(executor: &Executor) -> Option<BuiltinOperation> {
    if executor.kind != ExecutorKind::Builtin {
        return None;
    }
    let settings = executor.settings.value().ok()?;
    let name = settings.get("operation")?.as_str()?;
    BuiltinOperation::ALL.iter().find(|(known, _)| *known == name).map(|(_, operation)| *operation)
}

fn object(input: &JsonText, example: &str) -> Result<Map<String, Value>, String> {
    match input.value() {
        Ok(Value::Object(map)) => Ok(map),
        Ok(other) => Err(format!("input: must be an object such as {example}, not {}", type_name(&other))),
        Err(error) => Err(format!("input: is not JSON: {error}")),
    }
}

/// When a waiting step goes on: `{"seconds": 90}` or `{"until": "2026-01-31T08:00:00Z"}`.
pub(super) fn wait_until(input: &JsonText, now: Timestamp) -> Result<Timestamp, String> {
    let map = object(input, r#"{"seconds": 90}"#)?;
    let latest = later(now, Duration::from_secs(limits::WAIT_S_MAX.into()));
    let due = match (map.get("seconds"), map.get("until")) {
        (Some(seconds), None) => seconds
            .as_f64()
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .map(|duration| later(now, duration))
            .ok_or_else(|| format!("input.seconds: must be a number of seconds from 0, not {seconds}"))?,
        (None, Some(until)) => until.as_str().and_then(rfc_3339).ok_or_else(|| {
            format!("input.until: must be a time such as \"2026-01-31T08:00:00Z\" or with +01:00, not {until}")
        })?,
        _ => return Err("input: needs either seconds or until".to_owned()),
    };
    if due > latest {
        return Err(format!("input: is further ahead than {} days", limits::WAIT_S_MAX / (24 * 60 * 60)));
    }
    Ok(due)
}

/// A time as RFC 3339 writes it, with Z or with the offset of a zone.
fn rfc_3339(text: &str) -> Option<Timestamp> {
    let (local, offset_s) = match text.strip_suffix(['Z', 'z']) {
        Some(local) => (local, 0),
        None => {
            let (local, zone) = text.split_at_checked(text.len().checked_sub(6)?)?;
            let sign = if zone.starts_with('-') { -1 } else { 1 };
            let (hours, minutes) = zone.strip_prefix(['+', '-'])?.split_once(':')?;
            let number = |digits: &str, most: i64| -> Option<i64> {
                let is_plain = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
                digits.parse().ok().filter(|number| is_plain && *number <= most)
            };
            (local, sign * (number(hours, 23)? * 3_600 + number(minutes, 59)? * 60))
        }
    };
    let utc = humantime::parse_rfc3339(&format!("{}Z", local.replacen(['t', ' '], "T", 1))).ok()?;
    Some(Timestamp(Timestamp::from_system_time(utc).0.saturating_sub(offset_s * 1_000)))
}

/// What is wrong with the input of a built-in step, as far as that is known before it runs. `input` has no template.
pub(crate) fn input_problem(operation: BuiltinOperation, input: &JsonText) -> Option<String> {
    match operation {
        BuiltinOperation::Echo => None,
        BuiltinOperation::Transform => transform_problem(input).err(),
        BuiltinOperation::Gate => question(input).err(),
        BuiltinOperation::Wait => {
            let until = input.value().ok().and_then(|value| value.get("until")?.as_str().and_then(rfc_3339));
            // Whether a time is too far ahead is known when the step begins.
            wait_until(input, until.unwrap_or(Timestamp(0))).err()
        }
    }
}

fn transform_problem(input: &JsonText) -> Result<(), String> {
    match object(input, r#"{"expression": "input.n + 1", "n": 41}"#)?.get("expression") {
        Some(Value::String(text)) => {
            Expression::parse(text).map(|_| ()).map_err(|error| format!("input.expression: {}", error.message))
        }
        Some(other) => Err(format!("input.expression: must be a text, not {}", type_name(other))),
        None => Err("input.expression: is required, such as \"input.n + 1\" over the rest of the input".to_owned()),
    }
}

/// Why a transform has no output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransformError {
    /// What to tell.
    pub message: String,
    /// Whether it needed more than the fuel that it was given.
    pub is_out_of_fuel: bool,
}

/// The output of a transform: the value of the `expression` of its settings, or else of its input. The expression sees
/// that whole input as `input`, and as `value`.
///
/// # Errors
/// When there is no expression, or it can't be evaluated.
pub fn transform(settings: &Value, input: &Value, run: &RunId, fuel: &mut Fuel) -> Result<Value, TransformError> {
    let failed = |message: String| TransformError { message, is_out_of_fuel: false };
    let text = settings.get("expression").or_else(|| input.get("expression")).and_then(Value::as_str);
    let text = text.ok_or_else(|| {
        failed("transform has no expression; give the step an input with a text \"expression\"".to_owned())
    })?;
    let scope = Scope::new(&Value::Null, input).with_run(json!({"id": run})).with_value(input);
    let evaluated = Expression::parse(text).and_then(|expression| expression.evaluate(&scope, fuel));
    evaluated.map_err(|error: ExpressionError| TransformError {
        is_out_of_fuel: error.kind == ExpressionErrorKind::Fuel,
        ..failed(format!("the expression of the transform failed: {error}"))
    })
}

/// The output of a step that has waited.
pub(super) fn waited(until: Timestamp) -> JsonText {
    JsonText::new(&json!({ "waited_until": until }))
}

/// What a gate asks, with the schema of the answer: `{"question": "...", "schema": {...}}`.
pub(super) fn question(input: &JsonText) -> Result<(Box<str>, Option<Box<str>>), String> {
    let map = object(input, r#"{"question": "May it be released?"}"#)?;
    let question = match map.get("question") {
        Some(Value::String(text)) if !text.trim().is_empty() => text,
        Some(Value::String(_)) | None => return Err("input.question: is required: what to ask".to_owned()),
        Some(other) => return Err(format!("input.question: must be a text, not {}", type_name(other))),
    };
    if question.chars().count() > limits::QUESTION_CHARS_MAX {
        return Err(format!("input.question: is longer than {} characters", limits::QUESTION_CHARS_MAX));
    }
    let schema = match map.get("schema") {
        None | Some(Value::Null) => None,
        Some(schema) => {
            if let Some(problem) = json_schema::problems(schema).first() {
                return Err(format!("input.schema{}: {}", problem.path, problem.message));
            }
            Some(schema.to_string().into())
        }
    };
    Ok((question.as_str().into(), schema))
}
