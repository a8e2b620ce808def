//! The filters on single values; those on lists are in `lists`.

use std::borrow::Cow;

use serde_json::Value;

use crate::expression::catalogue::Filter;
use crate::expression::error::ExpressionError;
use crate::expression::evaluate::{Evaluated, Evaluator};
use crate::expression::numbers::Num;
use crate::expression::tree::Node;
use crate::expression::value::{Undefined, Val, Why, kind_of};
use crate::json::{JsonProblem, parse_strict};

/// What a filter is applied with.
pub(super) struct Call<'a> {
    pub(super) filter: Filter,
    /// The filter's own place in the tree.
    pub(super) node: &'a Node,
    /// In the order of the catalogue.
    pub(super) arguments: &'a [Option<Node>],
}

impl<'a> Evaluator<'a, '_> {
    /// Applies a filter.
    pub(super) fn filter(
        &mut self,
        filter: Filter,
        subject: Val<'a>,
        arguments: &'a [Option<Node>],
        node: &'a Node,
    ) -> Evaluated<Val<'a>> {
        let call = Call { filter, node, arguments };
        match filter {
            Filter::Default => return self.default(subject, &call),
            Filter::Length => return self.length(subject),
            _ => {}
        }
        if let Val::Undefined(undefined) = subject {
            return Err(undefined.error(self.scope));
        }
        match filter {
            Filter::First | Filter::Last => {
                let mut items = self.items(subject, filter.name())?;
                let found = if filter == Filter::First {
                    (!items.is_empty()).then(|| items.swap_remove(0))
                } else {
                    items.pop()
                };
                Ok(found.map_or(Val::Undefined(Undefined { node, why: Why::Empty }), Val::Json))
            }
            Filter::Join
            | Filter::Map
            | Filter::Max
            | Filter::Min
            | Filter::Reject
            | Filter::RejectAttr
            | Filter::Select
            | Filter::SelectAttr
            | Filter::Sort
            | Filter::Sum
            | Filter::Unique => self.list_filter(subject, &call),
            Filter::Reverse => match subject {
                Val::Json(value) if value.is_string() => {
                    let text = self.text_of(value, filter)?;
                    self.fuel.text(text.len().saturating_mul(3))?;
                    Ok(Val::from(Value::from(text.chars().rev().collect::<String>())))
                }
                subject => {
                    let mut items = self.items(subject, filter.name())?;
                    items.reverse();
                    Ok(Val::List(items))
                }
            },
            Filter::Contains => {
                let Some(needle) = self.argument(&call, 0)? else { return Ok(Val::from(Value::Bool(false))) };
                Ok(Val::from(Value::Bool(self.contains(&subject, &needle)?)))
            }
            Filter::Items | Filter::Keys | Filter::Values => self.entries(subject, filter),
            Filter::Merge => self.merge(subject, &call),
            _ => {
                let subject = self.json(subject)?;
                self.single(subject, &call)
            }
        }
    }

    fn default(&mut self, subject: Val<'a>, call: &Call<'a>) -> Evaluated<Val<'a>> {
        let also_false = match self.argument(call, 1)? {
            Some(flag) => Val::Json(flag).is_true(self.scope)?,
            None => false,
        };
        let missing = matches!(subject, Val::Undefined(_)) || (also_false && !subject.is_true(self.scope)?);
        match call.arguments.first() {
            Some(Some(other)) if missing => self.eval(other),
            _ => Ok(subject),
        }
    }

    fn length(&mut self, subject: Val<'a>) -> Evaluated<Val<'a>> {
        let length = match &subject {
            Val::Undefined(undefined) => return Err(undefined.error(self.scope)),
            Val::List(items) => items.len(),
            Val::Steps => self.scope.steps.len(),
            Val::Step(_) => 3,
            Val::Json(value) => match value.as_ref() {
                Value::Array(items) => items.len(),
                Value::Object(entries) => entries.len(),
                Value::String(text) => {
                    self.fuel.work_text(text.len())?;
                    text.chars().count()
                }
                other => {
                    return Err(ExpressionError::of_type(format!(
                        "`length` works on texts, lists and objects, but this is {}",
                        kind_of(other)
                    )));
                }
            },
        };
        Ok(Val::from(Value::from(length)))
    }

    /// An argument of a filter, when it is given.
    pub(super) fn argument(&mut self, call: &Call<'a>, position: usize) -> Evaluated<Option<Cow<'a, Value>>> {
        match call.arguments.get(position) {
            Some(Some(node)) => self.eval_json(node).map(Some),
            _ => Ok(None),
        }
    }

    /// An argument that is a text.
    pub(super) fn text_argument(&mut self, call: &Call<'a>, position: usize) -> Evaluated<Option<Cow<'a, str>>> {
        let name = call.filter.arguments().get(position).copied().unwrap_or_default();
        match self.argument(call, position)? {
            None => Ok(None),
            Some(Cow::Borrowed(Value::String(text))) => Ok(Some(Cow::Borrowed(text))),
            Some(Cow::Owned(Value::String(text))) => Ok(Some(Cow::Owned(text))),
            Some(other) => Err(ExpressionError::of_type(format!(
                "the argument `{name}` of `{}` is a text, not {}",
                call.filter.name(),
                kind_of(&other)
            ))),
        }
    }

    /// An argument that is a whole number.
    fn int_argument(&mut self, call: &Call<'a>, position: usize) -> Evaluated<Option<i128>> {
        let name = call.filter.arguments().get(position).copied().unwrap_or_default();
        match self.argument(call, position)? {
            None => Ok(None),
            Some(value) => match Num::of(&value) {
                Some(Num::Int(int)) => Ok(Some(int)),
                _ => Err(ExpressionError::of_type(format!(
                    "the argument `{name}` of `{}` is a whole number, not {}",
                    call.filter.name(),
                    kind_of(&value)
                ))),
            },
        }
    }

    /// The text that a filter on texts works on.
    fn text_of(&mut self, value: Cow<'a, Value>, filter: Filter) -> Evaluated<Cow<'a, str>> {
        let text = match value {
            Cow::Borrowed(Value::String(text)) => Cow::Borrowed(text.as_str()),
            Cow::Owned(Value::String(text)) => Cow::Owned(text),
            other => {
                return Err(ExpressionError::of_type(format!(
                    "`{}` works on a text, but this is {}; use `| string` before it",
                    filter.name(),
                    kind_of(&other)
                )));
            }
        };
        self.fuel.work_text(text.len())?;
        Ok(text)
    }

    fn single(&mut self, subject: Cow<'a, Value>, call: &Call<'a>) -> Evaluated<Val<'a>> {
        let filter = call.filter;
        match filter {
            Filter::Lower | Filter::Upper => {
                let text = self.text_of(subject, filter)?;
                // A letter becomes three at most.
                self.fuel.memory(text.len().saturating_mul(9))?;
                let changed = if filter == Filter::Lower { text.to_lowercase() } else { text.to_uppercase() };
                self.fuel.text(changed.len())?;
                Ok(Val::from(Value::String(changed)))
            }
            Filter::Trim => {
                let text = self.text_of(subject, filter)?;
                let trimmed = text.trim();
                self.fuel.text(trimmed.len())?;
                Ok(Val::from(Value::from(trimmed)))
            }
            Filter::Truncate => self.truncate(subject, call),
            Filter::Replace => self.replace(subject, call),
            Filter::Split => self.split(subject, call),
            Filter::Text => {
                if subject.is_string() {
                    return Ok(Val::Json(subject));
                }
                let mut text = String::new();
                self.append(&mut text, &subject)?;
                Ok(Val::from(Value::String(text)))
            }
            Filter::ToJson => {
                let indented = match self.argument(call, 0)? {
                    Some(flag) => Val::Json(flag).is_true(self.scope)?,
                    None => false,
                };
                self.json_text(&subject, indented).map(|text| Val::from(Value::String(text)))
            }
            Filter::FromJson => {
                let text = self.text_of(subject, filter)?;
                self.fuel.parse(&text)?;
                parse_strict(text.as_bytes()).map(Val::from).map_err(|problem| {
                    let detail = match problem {
                        JsonProblem::Syntax { message } => message,
                        JsonProblem::Refused(problem) => problem.to_string(),
                    };
                    let detail: String = detail.chars().take(200).collect();
                    ExpressionError::of_type(format!("the text is not JSON: {detail}"))
                })
            }
            Filter::Abs => match Num::of(&subject) {
                Some(Num::Int(int)) => Num::Int(int.abs()).into_value().map(Val::from),
                Some(Num::Float(float)) => Num::Float(float.abs()).into_value().map(Val::from),
                None => Err(not_a_number(filter, &subject)),
            },
            Filter::Round => self.round(&subject, call),
            Filter::Int | Filter::Float => self.number(&subject, call),
            _ => Err(ExpressionError::of_type(format!("`{}` does not work on {}", filter.name(), kind_of(&subject)))),
        }
    }

    fn truncate(&mut self, subject: Cow<'a, Value>, call: &Call<'a>) -> Evaluated<Val<'a>> {
        let text = self.text_of(subject, call.filter)?;
        let length = self.int_argument(call, 0)?.unwrap_or(0);
        let Ok(length) = usize::try_from(length) else {
            return Err(ExpressionError::of_type("the argument `length` of `truncate` is zero or more"));
        };
        let end = self.text_argument(call, 1)?.unwrap_or(Cow::Borrowed("…"));
        self.fuel.work_text(text.len().saturating_add(end.len()))?;
        if text.chars().nth(length).is_none() {
            self.fuel.text(text.len())?;
            return Ok(Val::text(text));
        }
        let kept = length.saturating_sub(end.chars().count());
        let cut = text.char_indices().nth(kept).map_or(text.len(), |(at, _)| at);
        let mut shortened = String::new();
        self.append_text(&mut shortened, text.get(..cut).unwrap_or_default())?;
        self.append_text(&mut shortened, &end)?;
        Ok(Val::from(Value::String(shortened)))
    }

    fn replace(&mut self, subject: Cow<'a, Value>, call: &Call<'a>) -> Evaluated<Val<'a>> {
        let text = self.text_of(subject, call.filter)?;
        let old = self.text_argument(call, 0)?.unwrap_or_default();
        let new = self.text_argument(call, 1)?.unwrap_or_default();
        if old.is_empty() {
            return Err(ExpressionError::of_type("the argument `old` of `replace` is empty; say what to replace"));
        }
        self.fuel.work_text(text.len().saturating_mul(2))?;
        // The exact length is known before the text is built.
        let count = text.matches(old.as_ref()).count();
        let length = (text.len() - count * old.len()).saturating_add(count.saturating_mul(new.len()));
        self.fuel.text(length)?;
        self.fuel.memory(length.saturating_mul(2).saturating_add(text.len()))?;
        Ok(Val::from(Value::String(text.replace(old.as_ref(), &new))))
    }

    fn split(&mut self, subject: Cow<'a, Value>, call: &Call<'a>) -> Evaluated<Val<'a>> {
        let text = self.text_of(subject, call.filter)?;
        let separator = self.text_argument(call, 0)?;
        if separator.as_deref() == Some("") {
            let message = "the argument `separator` of `split` is empty; leave it out to split at white space";
            return Err(ExpressionError::of_type(message));
        }
        let pieces: Box<dyn Iterator<Item = &str>> = match separator.as_deref() {
            Some(separator) => Box::new(text.split(separator)),
            None => Box::new(text.split_whitespace()),
        };
        let mut items = Vec::new();
        for piece in pieces {
            // A growing list holds up to three times what is in it while it moves.
            self.fuel.slots::<[Cow<'_, Value>; 3]>(1)?;
            self.fuel.text(piece.len())?;
            items.push(Cow::Owned(Value::from(piece)));
        }
        Ok(Val::List(items))
    }

    fn round(&mut self, subject: &Value, call: &Call<'a>) -> Evaluated<Val<'a>> {
        let precision = self.int_argument(call, 0)?.unwrap_or(0);
        let Some(precision) = i32::try_from(precision).ok().filter(|p| (0..=15).contains(p)) else {
            return Err(ExpressionError::of_type("the argument `precision` of `round` is between 0 and 15"));
        };
        match Num::of(subject) {
            None => Err(not_a_number(call.filter, subject)),
            Some(int @ Num::Int(_)) => int.into_value().map(Val::from),
            Some(Num::Float(float)) if precision == 0 => {
                let rounded = Num::Float(float.round());
                let whole = rounded.truncated().map(Num::Int).and_then(|whole| whole.into_value().ok());
                whole.map_or_else(|| rounded.into_value(), Ok).map(Val::from)
            }
            Some(Num::Float(float)) => {
                let factor = 10_f64.powi(precision);
                let scaled = float * factor;
                // Beyond this a double has no digits after the point to round.
                let rounded = if scaled.abs() < 1e15 { scaled.round() / factor } else { float };
                Num::Float(rounded).into_value().map(Val::from)
            }
        }
    }

    /// A number out of a number, a text or a boolean.
    fn number(&mut self, subject: &Value, call: &Call<'a>) -> Evaluated<Val<'a>> {
        let read = match subject {
            Value::Number(_) => Num::of(subject),
            Value::Bool(value) => Some(Num::Int(i128::from(*value))),
            Value::String(text) => {
                self.fuel.work_text(text.len())?;
                let text = text.trim();
                text.parse().map(Num::Int).ok().or_else(|| text.parse().map(Num::Float).ok())
            }
            _ => None,
        };
        let value = match (call.filter, read) {
            (Filter::Int, Some(number)) => number.truncated().map(Num::Int),
            (_, Some(number)) => Some(Num::Float(number.as_f64())),
            (_, None) => None,
        };
        if let Some(value) = value.and_then(|number| number.into_value().ok()) {
            return Ok(Val::from(value));
        }
        if let Some(other) = self.argument(call, 0)? {
            return Ok(Val::Json(other));
        }
        let name = call.filter.name();
        Err(ExpressionError::of_type(format!(
            "`{name}` finds no such number in {}; give one to fall back to, as in `{name}(default=0)`",
            kind_of(subject)
        )))
    }

    fn entries(&mut self, subject: Val<'a>, filter: Filter) -> Evaluated<Val<'a>> {
        let object = self.json(subject)?;
        let entries = match object {
            Cow::Borrowed(Value::Object(entries)) => {
                self.fuel.slots::<[Cow<'_, Value>; 2]>(entries.len())?;
                entries.iter().map(|(key, value)| (Cow::Borrowed(key), Cow::Borrowed(value))).collect::<Vec<_>>()
            }
            Cow::Owned(Value::Object(entries)) => {
                self.fuel.slots::<[Cow<'_, Value>; 2]>(entries.len())?;
                entries.into_iter().map(|(key, value)| (Cow::Owned(key), Cow::Owned(value))).collect()
            }
            other => {
                return Err(ExpressionError::of_type(format!(
                    "`{}` works on an object, but this is {}",
                    filter.name(),
                    kind_of(&other)
                )));
            }
        };
        self.fuel.slots::<Cow<'_, Value>>(entries.len())?;
        let mut items = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            if filter == Filter::Values {
                items.push(value);
                continue;
            }
            if let Cow::Borrowed(key) = key {
                self.fuel.text(key.len())?;
            }
            let key = Value::String(key.into_owned());
            if filter == Filter::Keys {
                items.push(Cow::Owned(key));
                continue;
            }
            self.fuel.slots::<Value>(2)?;
            if let Cow::Borrowed(value) = value {
                self.fuel.copy(value)?;
            }
            items.push(Cow::Owned(Value::Array(vec![key, value.into_owned()])));
        }
        Ok(Val::List(items))
    }

    fn merge(&mut self, subject: Val<'a>, call: &Call<'a>) -> Evaluated<Val<'a>> {
        let subject = self.owned(subject)?;
        let other = self.argument(call, 0)?;
        match (subject, other.as_deref()) {
            (Value::Object(mut entries), Some(Value::Object(more))) => {
                for (key, value) in more {
                    self.fuel.entry(key)?;
                    self.fuel.copy(value)?;
                    entries.insert(key.clone(), value.clone());
                }
                Ok(Val::from(Value::Object(entries)))
            }
            (subject, other) => Err(ExpressionError::of_type(format!(
                "`merge` works on two objects, but has {} and {}",
                kind_of(&subject),
                other.map_or("nothing", kind_of)
            ))),
        }
    }
}

fn not_a_number(filter: Filter, value: &Value) -> ExpressionError {
    ExpressionError::of_type(format!(
        "`{}` works on a number, but this is {}; use `| int` or `| float` before it",
        filter.name(),
        kind_of(value)
    ))
}
