//! What a part of an expression stands for while it is evaluated: borrowed from the scope as long as possible.

use std::borrow::Cow;

use serde_json::Value;

use crate::expression::error::{ExpressionError, suggestion};
use crate::expression::scope::{Scope, StepScope};
use crate::expression::tree::Node;

/// A value, or that there is none.
#[derive(Debug)]
pub(super) enum Val<'a> {
    Json(Cow<'a, Value>),
    /// A list whose items are borrowed, so that filters on lists copy nothing.
    List(Vec<Cow<'a, Value>>),
    /// All steps.
    Steps,
    Step(&'a StepScope<'a>),
    /// Nothing: an error as soon as it is used, unless by `default` or `is defined`.
    Undefined(Undefined<'a>),
}

/// What is not defined and why.
#[derive(Debug)]
pub(super) struct Undefined<'a> {
    pub(super) node: &'a Node,
    pub(super) why: Why<'a>,
}

#[derive(Debug)]
pub(super) enum Why<'a> {
    /// The object, when it is at hand, has no such key.
    Key(Option<&'a Value>),
    Step,
    StepField,
    /// The step has this status and no output.
    Output(&'a Value),
    /// What it is read of has no parts.
    NoParts(&'static str),
    /// The list has so many items.
    Index(usize),
    Empty,
    NoElse,
}

impl<'a> From<Value> for Val<'a> {
    fn from(value: Value) -> Self {
        Self::Json(Cow::Owned(value))
    }
}

impl<'a> Val<'a> {
    pub(super) fn text(text: Cow<'a, str>) -> Self {
        Self::Json(Cow::Owned(Value::String(text.into_owned())))
    }

    /// Whether a condition holds: not for null, false, zero, and empty texts, lists and objects.
    pub(super) fn is_true(&self, scope: &Scope<'_>) -> Result<bool, ExpressionError> {
        Ok(match self {
            Self::Undefined(undefined) => return Err(undefined.error(scope)),
            Self::List(items) => !items.is_empty(),
            Self::Steps => !scope.steps.is_empty(),
            Self::Step(_) => true,
            Self::Json(value) => match value.as_ref() {
                Value::Null => false,
                Value::Bool(value) => *value,
                Value::Number(number) => number.as_f64() != Some(0.0),
                Value::String(text) => !text.is_empty(),
                Value::Array(items) => !items.is_empty(),
                Value::Object(entries) => !entries.is_empty(),
            },
        })
    }

    /// What a message calls it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Json(value) => kind_of(value),
            Self::List(_) => "a list",
            Self::Steps | Self::Step(_) => "an object",
            Self::Undefined(_) => "not defined",
        }
    }
}

impl Undefined<'_> {
    /// The error that its use is.
    pub(super) fn error(&self, scope: &Scope<'_>) -> ExpressionError {
        let path = self.node.described();
        let name = self.node.field_name().unwrap_or_default();
        let optional = format!("If it may be missing, write `{path} | default(...)` or test `is defined`.");
        let message = match &self.why {
            Why::Key(object) => {
                let keys = object.and_then(Value::as_object).into_iter().flat_map(|entries| entries.keys());
                let hint = suggestion(name, keys.map(String::as_str));
                format!("`{path}` is not defined.{hint} {optional}")
            }
            Why::Step => {
                let hint = suggestion(name, scope.steps.keys().map(String::as_str));
                format!("`{path}` is not defined: there is no such step.{hint}")
            }
            Why::StepField => {
                let hint = suggestion(name, ["status", "output", "error"].into_iter());
                format!("`{path}` is not defined.{hint} What a step gave is in its `output`.")
            }
            Why::Output(status) => {
                format!("`{path}` is not defined: the step has given no output, its status is {status}. {optional}")
            }
            Why::NoParts(kind) => format!("`{path}` is not defined: what it is read of is {kind}. {optional}"),
            Why::Index(length) => {
                format!("`{path}` is not defined: the list has {length} items, counted from 0. {optional}")
            }
            Why::Empty => format!("`{path}` is not defined: the list is empty. {optional}"),
            Why::NoElse => "the condition is false and there is no `else`; write `a if condition else b`".to_owned(),
        };
        ExpressionError::unknown(message).or_at(self.node.at)
    }
}

/// What a message calls a value.
pub(super) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
