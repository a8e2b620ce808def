//! Evaluation: every step of work and every byte is taken from the fuel before it is spent.

use std::borrow::Cow;
use std::cmp::Ordering;

use serde_json::{Map, Value};

use crate::expression::catalogue::Test;
use crate::expression::error::{ExpressionError, suggestion};
use crate::expression::fuel::Fuel;
use crate::expression::numbers::Num;
use crate::expression::scope::{ROOTS, Scope, StepScope};
use crate::expression::tree::{Arithmetic, Comparison, Kind, Node};
use crate::expression::value::{Undefined, Val, Why, kind_of};

pub(super) type Evaluated<T> = Result<T, ExpressionError>;

/// One evaluation.
pub(super) struct Evaluator<'a, 'f> {
    pub(super) scope: &'a Scope<'a>,
    pub(super) fuel: &'f mut Fuel,
}

impl<'a> Evaluator<'a, '_> {
    /// The value of a part of an expression; an error names its place.
    pub(super) fn eval(&mut self, node: &'a Node) -> Evaluated<Val<'a>> {
        self.fuel.work(1).and_then(|()| self.eval_kind(node)).map_err(|error| error.or_at(node.at))
    }

    fn eval_kind(&mut self, node: &'a Node) -> Evaluated<Val<'a>> {
        match &node.kind {
            Kind::Literal(value) => Ok(Val::Json(Cow::Borrowed(value))),
            Kind::Root(name) => self.root(name),
            Kind::Field(base, name) => {
                let base = self.eval(base)?;
                self.field(base, name, node)
            }
            Kind::Item(base, key) => self.item(base, key, node),
            Kind::Slice(base, from, to) => self.slice(base, from.as_deref(), to.as_deref()),
            Kind::Not(inner) => Ok(Val::from(Value::Bool(!self.condition(inner)?))),
            Kind::Negative(inner) => self.negative(inner),
            Kind::And(a, b) => self.either(a, b, false),
            Kind::Or(a, b) => self.either(a, b, true),
            Kind::Arithmetic(op, a, b) => self.arithmetic(*op, a, b),
            Kind::Concat(a, b) => self.concat(a, b),
            Kind::Compare(first, rest) => self.compare(first, rest),
            Kind::If(test, yes, no) => match (self.condition(test)?, no) {
                (true, _) => self.eval(yes),
                (false, Some(no)) => self.eval(no),
                (false, None) => Ok(Val::Undefined(Undefined { node, why: Why::NoElse })),
            },
            Kind::Filter(filter, subject, arguments) => {
                let subject = self.eval(subject)?;
                self.filter(*filter, subject, arguments, node)
            }
            Kind::Test(test, subject, argument) => {
                let subject = self.eval(subject)?;
                let argument = match argument {
                    Some(argument) => Some(self.eval_json(argument)?),
                    None => None,
                };
                Ok(Val::from(Value::Bool(self.test(*test, subject, argument.as_deref())?)))
            }
            Kind::List(nodes) => {
                self.fuel.slots::<Cow<'_, Value>>(nodes.len())?;
                let items = nodes.iter().map(|node| self.eval_json(node)).collect::<Evaluated<Vec<_>>>()?;
                Ok(Val::List(items))
            }
            Kind::Object(nodes) => self.object(nodes),
        }
    }

    /// The value of a part that must be defined.
    pub(super) fn eval_json(&mut self, node: &'a Node) -> Evaluated<Cow<'a, Value>> {
        let value = self.eval(node)?;
        self.json(value).map_err(|error| error.or_at(node.at))
    }

    fn condition(&mut self, node: &'a Node) -> Evaluated<bool> {
        self.eval(node)?.is_true(self.scope)
    }

    /// One value of JSON; an error when it is not defined.
    pub(super) fn json(&mut self, value: Val<'a>) -> Evaluated<Cow<'a, Value>> {
        match value {
            Val::Json(value) => Ok(value),
            Val::Undefined(undefined) => Err(undefined.error(self.scope)),
            other => self.owned(other).map(Cow::Owned),
        }
    }

    /// A value that is ours: copied when it is borrowed.
    pub(super) fn owned(&mut self, value: Val<'a>) -> Evaluated<Value> {
        match value {
            Val::Json(value) => self.owned_json(value),
            Val::List(items) => {
                self.fuel.slots::<Value>(items.len())?;
                let mut owned = Vec::with_capacity(items.len());
                for item in items {
                    owned.push(self.owned_json(item)?);
                }
                Ok(Value::Array(owned))
            }
            Val::Step(step) => self.step_object(step),
            Val::Steps => {
                self.fuel.object()?;
                let mut entries = Map::new();
                for (name, step) in &self.scope.steps {
                    self.fuel.entry(name)?;
                    entries.insert(name.clone(), self.step_object(step)?);
                }
                Ok(Value::Object(entries))
            }
            Val::Undefined(undefined) => Err(undefined.error(self.scope)),
        }
    }

    fn owned_json(&mut self, value: Cow<'a, Value>) -> Evaluated<Value> {
        if let Cow::Borrowed(value) = value {
            self.fuel.copy(value)?;
        }
        Ok(value.into_owned())
    }

    fn step_object(&mut self, step: &StepScope<'_>) -> Evaluated<Value> {
        self.fuel.object()?;
        let mut entries = Map::new();
        for (name, value) in [("status", Some(&step.status)), ("output", step.output), ("error", Some(&step.error))] {
            if let Some(value) = value {
                self.fuel.entry(name)?;
                self.fuel.copy(value)?;
                entries.insert(name.to_owned(), value.clone());
            }
        }
        Ok(Value::Object(entries))
    }

    fn root(&mut self, name: &str) -> Evaluated<Val<'a>> {
        let scope = self.scope;
        let value = match name {
            "context" => scope.context,
            "input" => scope.input,
            "run" => &scope.run,
            "steps" => return Ok(Val::Steps),
            "value" => match scope.value {
                Some(value) => value,
                None => {
                    let message = "`value` is known only where a single value is worked on, as in the builtin transform; \
                                   use `input`, `context` or `steps`";
                    return Err(ExpressionError::unknown(message));
                }
            },
            _ => return Err(unknown_root(name)),
        };
        Ok(Val::Json(Cow::Borrowed(value)))
    }

    fn field(&mut self, base: Val<'a>, name: &str, node: &'a Node) -> Evaluated<Val<'a>> {
        self.fuel.work_text(name.len())?;
        let why = match base {
            // The first part that is missing is the one to tell of.
            Val::Undefined(undefined) => return Ok(Val::Undefined(undefined)),
            Val::Steps => match self.scope.steps.get(name) {
                Some(step) => return Ok(Val::Step(step)),
                None => Why::Step,
            },
            Val::Step(step) => match (name, step.output) {
                ("status", _) => return Ok(Val::Json(Cow::Borrowed(&step.status))),
                ("error", _) => return Ok(Val::Json(Cow::Borrowed(&step.error))),
                ("output", Some(output)) => return Ok(Val::Json(Cow::Borrowed(output))),
                ("output", None) => Why::Output(&step.status),
                _ => Why::StepField,
            },
            Val::List(_) => Why::NoParts("a list, whose items are read by number"),
            Val::Json(Cow::Borrowed(value)) => match value {
                Value::Object(entries) => match entries.get(name) {
                    Some(value) => return Ok(Val::Json(Cow::Borrowed(value))),
                    None => Why::Key(Some(value)),
                },
                other => Why::NoParts(kind_of(other)),
            },
            Val::Json(Cow::Owned(Value::Object(mut entries))) => match entries.remove(name) {
                Some(value) => return Ok(Val::from(value)),
                None => Why::Key(None),
            },
            Val::Json(Cow::Owned(other)) => Why::NoParts(kind_of(&other)),
        };
        Ok(Val::Undefined(Undefined { node, why }))
    }

    fn item(&mut self, base: &'a Node, key: &'a Node, node: &'a Node) -> Evaluated<Val<'a>> {
        let base = self.eval(base)?;
        let key = self.eval_json(key)?;
        if let Value::String(name) = key.as_ref() {
            return self.field(base, name, node);
        }
        let Some(Num::Int(index)) = Num::of(&key) else {
            let message =
                format!("what stands in `[ ]` is {}; write a number for a list or a text for an object", kind_of(&key));
            return Err(ExpressionError::of_type(message));
        };
        let why = match base {
            Val::Undefined(undefined) => return Ok(Val::Undefined(undefined)),
            Val::Json(Cow::Borrowed(Value::Array(items))) => {
                match position(index, items.len()).and_then(|at| items.get(at)) {
                    Some(item) => return Ok(Val::Json(Cow::Borrowed(item))),
                    None => Why::Index(items.len()),
                }
            }
            Val::Json(Cow::Owned(Value::Array(mut items))) => match position(index, items.len()) {
                Some(at) => return Ok(Val::from(items.swap_remove(at))),
                None => Why::Index(items.len()),
            },
            Val::List(mut items) => match position(index, items.len()) {
                Some(at) => return Ok(Val::Json(items.swap_remove(at))),
                None => Why::Index(items.len()),
            },
            Val::Json(value) if value.is_string() => Why::NoParts("a text, of which a part is read as `[0:1]`"),
            other => Why::NoParts(other.kind()),
        };
        Ok(Val::Undefined(Undefined { node, why }))
    }

    fn slice(&mut self, base: &'a Node, from: Option<&'a Node>, to: Option<&'a Node>) -> Evaluated<Val<'a>> {
        let base = self.eval(base)?;
        let mut bound = |node: Option<&'a Node>| -> Evaluated<Option<i128>> {
            let Some(node) = node else { return Ok(None) };
            let value = self.eval_json(node)?;
            match (Num::of(&value), value.as_ref()) {
                (Some(Num::Int(bound)), _) => Ok(Some(bound)),
                (_, Value::Null) => Ok(None),
                _ => Err(ExpressionError::of_type("the bounds in `[0:3]` are whole numbers").or_at(node.at)),
            }
        };
        let (from, to) = (bound(from)?, bound(to)?);
        if let Val::Json(value) = &base
            && let Value::String(text) = value.as_ref()
        {
            self.fuel.work_text(text.len().saturating_mul(2))?;
            let (start, end) = range(from, to, text.chars().count());
            let part: &str = {
                let mut places = text.char_indices().map(|(at, _)| at).chain([text.len()]);
                let first = places.by_ref().nth(start).unwrap_or(text.len());
                let last = if end > start { places.nth(end - start - 1).unwrap_or(text.len()) } else { first };
                text.get(first..last).unwrap_or_default()
            };
            self.fuel.text(part.len())?;
            return Ok(Val::from(Value::from(part)));
        }
        let mut items = self.items(base, "a part such as `[0:3]`")?;
        let (start, end) = range(from, to, items.len());
        items.truncate(end);
        items.drain(..start.min(items.len()));
        Ok(Val::List(items))
    }

    fn negative(&mut self, inner: &'a Node) -> Evaluated<Val<'a>> {
        let value = self.eval_json(inner)?;
        let number = match Num::of(&value) {
            Some(Num::Int(int)) => Num::Int(-int),
            Some(Num::Float(float)) => Num::Float(-float),
            None => {
                return Err(ExpressionError::of_type(format!(
                    "`-` needs a number, but this is {}; use `| int`",
                    kind_of(&value)
                )));
            }
        };
        number.into_value().map(Val::from)
    }

    /// `and` and `or` give one of their sides, as in Jinja.
    fn either(&mut self, a: &'a Node, b: &'a Node, stops_at: bool) -> Evaluated<Val<'a>> {
        let first = self.eval(a)?;
        if first.is_true(self.scope)? == stops_at { Ok(first) } else { self.eval(b) }
    }

    fn arithmetic(&mut self, op: Arithmetic, a: &'a Node, b: &'a Node) -> Evaluated<Val<'a>> {
        let (left, right) = (self.eval(a)?, self.eval(b)?);
        if op == Arithmetic::Add && left.kind() == "a list" && right.kind() == "a list" {
            let mut items = self.items(left, "`+`")?;
            let more = self.items(right, "`+`")?;
            self.fuel.slots::<Cow<'_, Value>>(2 * (items.len() + more.len()))?;
            items.extend(more);
            return Ok(Val::List(items));
        }
        let (left, right) = (self.json(left)?, self.json(right)?);
        if let (Some(left), Some(right)) = (Num::of(&left), Num::of(&right)) {
            return Num::apply(op, left, right)?.into_value().map(Val::from);
        }
        if op == Arithmetic::Add && left.is_string() && right.is_string() {
            return self.joined(&left, &right);
        }
        let hint = match (op, left.is_string() || right.is_string()) {
            (Arithmetic::Add, true) => "use `~` to join texts, or `| int` to read a number",
            (_, true) => "use `| int` or `| float` to read a number",
            (Arithmetic::Add, _) => "`+` adds two numbers, two texts or two lists",
            _ => "it works on two numbers",
        };
        let sign = match op {
            Arithmetic::Add => "+",
            Arithmetic::Subtract => "-",
            Arithmetic::Multiply => "*",
            Arithmetic::Divide => "/",
            Arithmetic::DivideFloor => "//",
            Arithmetic::Remainder => "%",
            Arithmetic::Power => "**",
        };
        Err(ExpressionError::of_type(format!(
            "`{sign}` does not go with {} and {}; {hint}",
            kind_of(&left),
            kind_of(&right)
        )))
    }

    fn concat(&mut self, a: &'a Node, b: &'a Node) -> Evaluated<Val<'a>> {
        let (left, right) = (self.eval_json(a)?, self.eval_json(b)?);
        self.joined(&left, &right)
    }

    fn joined(&mut self, left: &Value, right: &Value) -> Evaluated<Val<'a>> {
        let mut text = String::new();
        self.append(&mut text, left)?;
        self.append(&mut text, right)?;
        Ok(Val::from(Value::String(text)))
    }

    /// Appends a value as text: a text as it is, anything else as compact JSON.
    pub(super) fn append(&mut self, text: &mut String, value: &Value) -> Evaluated<()> {
        match value {
            Value::String(part) => self.append_text(text, part),
            Value::Null => self.append_text(text, "null"),
            Value::Bool(value) => self.append_text(text, if *value { "true" } else { "false" }),
            other => {
                let json = self.json_text(other, false)?;
                self.append_text(text, &json)
            }
        }
    }

    pub(super) fn append_text(&mut self, text: &mut String, part: &str) -> Evaluated<()> {
        self.fuel.append_text(text, part)
    }

    /// The JSON of a value.
    pub(super) fn json_text(&mut self, value: &Value, indented: bool) -> Evaluated<String> {
        let bytes = if indented { self.fuel.json_bytes_indented(value)? } else { self.fuel.json_bytes(value)? };
        // The writer begins with 128 bytes and grows by doubling.
        self.fuel.memory(bytes.saturating_mul(3).saturating_add(128))?;
        let written = if indented { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
        written.map_err(|error| ExpressionError::of_type(format!("this is no value of JSON: {error}")))
    }

    fn compare(&mut self, first: &'a Node, rest: &'a [(Comparison, Node)]) -> Evaluated<Val<'a>> {
        let mut left = self.eval(first)?;
        for (comparison, node) in rest {
            let right = self.eval(node)?;
            if matches!(comparison, Comparison::In | Comparison::NotIn) {
                let needle = self.json(left)?;
                if self.contains(&right, &needle)? != (*comparison == Comparison::In) {
                    return Ok(Val::from(Value::Bool(false)));
                }
                left = right;
                continue;
            }
            let (a, b) = (self.json(left)?, self.json(right)?);
            let holds = match comparison {
                Comparison::Equal => self.equal(&a, &b)?,
                Comparison::NotEqual => !self.equal(&a, &b)?,
                Comparison::Less => self.order(&a, &b)?.is_lt(),
                Comparison::LessOrEqual => self.order(&a, &b)?.is_le(),
                Comparison::Greater => self.order(&a, &b)?.is_gt(),
                Comparison::GreaterOrEqual => self.order(&a, &b)?.is_ge(),
                Comparison::In | Comparison::NotIn => false,
            };
            if !holds {
                return Ok(Val::from(Value::Bool(false)));
            }
            left = Val::Json(b);
        }
        Ok(Val::from(Value::Bool(true)))
    }

    /// Whether two values are the same; `1` and `1.0` are.
    pub(super) fn equal(&mut self, a: &Value, b: &Value) -> Evaluated<bool> {
        self.fuel.work(1)?;
        match (a, b) {
            (Value::String(a), Value::String(b)) => {
                self.fuel.work_text(a.len().min(b.len()))?;
                Ok(a == b)
            }
            (Value::Array(a), Value::Array(b)) => {
                if a.len() != b.len() {
                    return Ok(false);
                }
                for (a, b) in a.iter().zip(b) {
                    if !self.equal(a, b)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            (Value::Object(a), Value::Object(b)) => {
                if a.len() != b.len() {
                    return Ok(false);
                }
                for (key, a) in a {
                    self.fuel.work_text(key.len())?;
                    match b.get(key) {
                        Some(b) if self.equal(a, b)? => {}
                        _ => return Ok(false),
                    }
                }
                Ok(true)
            }
            _ => Ok(match (Num::of(a), Num::of(b)) {
                (Some(a), Some(b)) => a.compare(b).is_eq(),
                _ => a == b,
            }),
        }
    }

    /// The order of two numbers or of two texts.
    pub(super) fn order(&mut self, a: &Value, b: &Value) -> Evaluated<Ordering> {
        self.fuel.work(1)?;
        if let (Value::String(a), Value::String(b)) = (a, b) {
            self.fuel.work_text(a.len().min(b.len()))?;
            return Ok(a.cmp(b));
        }
        match (Num::of(a), Num::of(b)) {
            (Some(a), Some(b)) => Ok(a.compare(b)),
            _ => Err(ExpressionError::of_type(format!(
                "{} and {} have no order; compare two numbers or two texts, with `| int`, `| string` or `| default(...)` \
                 where needed",
                kind_of(a),
                kind_of(b)
            ))),
        }
    }

    /// Whether a list has an item, a text a part, an object a key.
    pub(super) fn contains(&mut self, container: &Val<'a>, needle: &Value) -> Evaluated<bool> {
        let key = || {
            needle.as_str().ok_or_else(|| {
                ExpressionError::of_type(format!("what is looked for in an object is a text, not {}", kind_of(needle)))
            })
        };
        match container {
            Val::Json(value) => self.contains_json(value, needle),
            Val::Undefined(undefined) => Err(undefined.error(self.scope)),
            Val::Steps => Ok(self.scope.steps.contains_key(key()?)),
            Val::Step(step) => Ok(match key()? {
                "status" | "error" => true,
                "output" => step.output.is_some(),
                _ => false,
            }),
            Val::List(items) => {
                for item in items {
                    if self.equal(item, needle)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
        }
    }

    fn contains_json(&mut self, container: &Value, needle: &Value) -> Evaluated<bool> {
        match (container, needle) {
            (Value::Array(items), _) => {
                for item in items {
                    if self.equal(item, needle)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            (Value::String(text), Value::String(part)) => {
                self.fuel.work_text(text.len().saturating_add(part.len()))?;
                Ok(text.contains(part.as_str()))
            }
            (Value::Object(entries), Value::String(key)) => {
                self.fuel.work_text(key.len())?;
                Ok(entries.contains_key(key))
            }
            (Value::String(_) | Value::Object(_), other) => Err(ExpressionError::of_type(format!(
                "what is looked for in {} is a text, not {}",
                kind_of(container),
                kind_of(other)
            ))),
            _ => Err(ExpressionError::of_type(format!(
                "nothing can be looked for in {}; `in` works on lists, texts and objects",
                kind_of(container)
            ))),
        }
    }

    fn object(&mut self, nodes: &'a [(Node, Node)]) -> Evaluated<Val<'a>> {
        self.fuel.object()?;
        let mut entries = Map::new();
        for (key, value) in nodes {
            let name = match self.eval_json(key)?.as_ref() {
                Value::String(name) => {
                    self.fuel.entry(name)?;
                    name.clone()
                }
                other => {
                    let message = format!("a key is a text, not {}; put it in quotes", kind_of(other));
                    return Err(ExpressionError::of_type(message).or_at(key.at));
                }
            };
            let value = self.eval_json(value)?;
            let value = self.owned_json(value)?;
            entries.insert(name, value);
        }
        Ok(Val::from(Value::Object(entries)))
    }

    pub(super) fn test(&mut self, test: Test, subject: Val<'a>, argument: Option<&Value>) -> Evaluated<bool> {
        match test {
            Test::Defined => return Ok(!matches!(subject, Val::Undefined(_))),
            Test::Undefined => return Ok(matches!(subject, Val::Undefined(_))),
            _ => {}
        }
        let subject = self.json(subject)?;
        self.test_json(test, &subject, argument.unwrap_or(&Value::Null))
    }

    /// A test of a value that is defined.
    pub(super) fn test_json(&mut self, test: Test, subject: &Value, argument: &Value) -> Evaluated<bool> {
        let number = Num::of(subject);
        Ok(match test {
            Test::Defined => true,
            Test::Undefined => false,
            Test::Boolean => subject.is_boolean(),
            Test::True => *subject == Value::Bool(true),
            Test::False => *subject == Value::Bool(false),
            Test::Null => subject.is_null(),
            Test::Number => subject.is_number(),
            Test::Integer => matches!(number, Some(Num::Int(_))),
            Test::Float => matches!(number, Some(Num::Float(_))),
            Test::Text => subject.is_string(),
            Test::List => subject.is_array(),
            Test::Object => subject.is_object(),
            Test::Empty => match subject {
                Value::Null => true,
                Value::String(text) => text.is_empty(),
                Value::Array(items) => items.is_empty(),
                Value::Object(entries) => entries.is_empty(),
                Value::Bool(_) | Value::Number(_) => false,
            },
            Test::Even | Test::Odd => match number {
                Some(Num::Int(int)) => (int % 2 == 0) == (test == Test::Even),
                _ => {
                    let message =
                        format!("`is {}` needs a whole number, but this is {}", test.name(), kind_of(subject));
                    return Err(ExpressionError::of_type(message));
                }
            },
            Test::Equal => self.equal(subject, argument)?,
            Test::NotEqual => !self.equal(subject, argument)?,
            Test::Less => self.order(subject, argument)?.is_lt(),
            Test::LessOrEqual => self.order(subject, argument)?.is_le(),
            Test::Greater => self.order(subject, argument)?.is_gt(),
            Test::GreaterOrEqual => self.order(subject, argument)?.is_ge(),
            Test::In => self.contains_json(argument, subject)?,
            Test::Contains => self.contains_json(subject, argument)?,
            Test::StartingWith | Test::EndingWith => match (subject, argument) {
                (Value::String(text), Value::String(part)) => {
                    self.fuel.work_text(part.len())?;
                    if test == Test::StartingWith { text.starts_with(part) } else { text.ends_with(part) }
                }
                _ => {
                    let message = format!(
                        "`is {}` needs two texts, but has {} and {}",
                        test.name(),
                        kind_of(subject),
                        kind_of(argument)
                    );
                    return Err(ExpressionError::of_type(message));
                }
            },
        })
    }
}

fn unknown_root(name: &str) -> ExpressionError {
    let shown: String = name.chars().take(64).collect();
    let hint = suggestion(name, ROOTS.into_iter());
    ExpressionError::unknown(format!(
        "`{shown}` is not known.{hint} A path begins with `context`, `input`, `run` or `steps`; a text needs quotes"
    ))
}

/// The place of an index, which counts from the end when it is negative.
fn position(index: i128, length: usize) -> Option<usize> {
    let length_wide = i128::try_from(length).ok()?;
    let index = if index < 0 { index + length_wide } else { index };
    usize::try_from(index).ok().filter(|at| *at < length)
}

/// The bounds of a part, within the length.
fn range(from: Option<i128>, to: Option<i128>, length: usize) -> (usize, usize) {
    let wide = i128::try_from(length).unwrap_or(i128::MAX);
    let clamp = |bound: i128| {
        let bound = if bound < 0 { bound + wide } else { bound };
        usize::try_from(bound.clamp(0, wide)).unwrap_or(length)
    };
    let start = from.map_or(0, clamp);
    (start, to.map_or(length, clamp).max(start))
}
