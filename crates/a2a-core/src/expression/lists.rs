//! The filters on lists.

use std::borrow::Cow;
use std::collections::HashSet;

use serde_json::Value;

use crate::expression::catalogue::{Filter, Test};
use crate::expression::error::ExpressionError;
use crate::expression::evaluate::{Evaluated, Evaluator};
use crate::expression::filters::Call;
use crate::expression::numbers::Num;
use crate::expression::tree::{Arithmetic, Kind, Node};
use crate::expression::value::{Undefined, Val, Why, kind_of};

type Items<'a> = Vec<Cow<'a, Value>>;

impl<'a> Evaluator<'a, '_> {
    /// The items of a list, borrowed where the list is.
    pub(super) fn items(&mut self, value: Val<'a>, what: &str) -> Evaluated<Items<'a>> {
        let value = match value {
            Val::List(items) => return Ok(items),
            other => self.json(other)?,
        };
        match value {
            Cow::Borrowed(Value::Array(items)) => {
                self.fuel.slots::<Cow<'_, Value>>(items.len())?;
                Ok(items.iter().map(Cow::Borrowed).collect())
            }
            Cow::Owned(Value::Array(items)) => {
                self.fuel.slots::<Cow<'_, Value>>(items.len())?;
                Ok(items.into_iter().map(Cow::Owned).collect())
            }
            other => {
                let hint = match other.as_ref() {
                    Value::Object(_) => "use `items`, `keys` or `values` before it",
                    Value::String(_) => "use `split` before it",
                    Value::Null => "use `default([], true)` before it",
                    _ => "give it a list",
                };
                Err(ExpressionError::of_type(format!(
                    "{what} works on a list, but this is {}; {hint}",
                    kind_of(&other)
                )))
            }
        }
    }

    pub(super) fn list_filter(&mut self, subject: Val<'a>, call: &Call<'a>) -> Evaluated<Val<'a>> {
        let items = self.items(subject, &format!("`{}`", call.filter.name()))?;
        self.fuel.work(items.len())?;
        match call.filter {
            Filter::Join => self.join(items, call),
            Filter::Map => self.map(items, call),
            Filter::Max | Filter::Min => self.extreme(items, call),
            Filter::Select | Filter::Reject => self.select(items, call, None, 0),
            Filter::SelectAttr | Filter::RejectAttr => {
                let attribute = self.text_argument(call, 0)?;
                self.select(items, call, attribute, 1)
            }
            Filter::Sort => self.sort(items, call),
            Filter::Sum => self.sum(items, call),
            _ => self.unique(items, call),
        }
    }

    /// A part of an item, named by a path such as `author.name`.
    fn part<'v>(&mut self, item: &'v Value, path: Option<&str>) -> Evaluated<Option<&'v Value>> {
        let Some(path) = path else { return Ok(Some(item)) };
        let mut value = item;
        for name in path.split('.') {
            self.fuel.work_text(name.len())?;
            let next = match value {
                Value::Object(entries) => entries.get(name),
                Value::Array(items) => name.parse::<usize>().ok().and_then(|at| items.get(at)),
                _ => None,
            };
            match next {
                Some(next) => value = next,
                None => return Ok(None),
            }
        }
        Ok(Some(value))
    }

    /// The same, where a missing part is an error.
    fn needed_part<'v>(
        &mut self,
        item: &'v Value,
        path: Option<&str>,
        at: usize,
        call: &Call<'_>,
    ) -> Evaluated<&'v Value> {
        self.part(item, path)?.ok_or_else(|| {
            let shown: String = path.unwrap_or_default().chars().take(64).collect();
            let hint = match call.filter {
                Filter::Map => "give `map` a `default=`",
                _ => "leave such items out with `selectattr` before",
            };
            ExpressionError::unknown(format!("item {at} of the list has no `{shown}`; {hint}"))
        })
    }

    fn join(&mut self, items: Items<'a>, call: &Call<'a>) -> Evaluated<Val<'a>> {
        let separator = self.text_argument(call, 0)?.unwrap_or_default();
        let attribute = self.text_argument(call, 1)?;
        let mut text = String::new();
        for (at, item) in items.iter().enumerate() {
            if at > 0 {
                self.append_text(&mut text, &separator)?;
            }
            let part = self.needed_part(item, attribute.as_deref(), at, call)?;
            self.append(&mut text, part)?;
        }
        Ok(Val::from(Value::String(text)))
    }

    fn map(&mut self, items: Items<'a>, call: &Call<'a>) -> Evaluated<Val<'a>> {
        self.fuel.slots::<Cow<'_, Value>>(items.len())?;
        let mut mapped = Vec::with_capacity(items.len());
        if let Some(name) = named(call, 0) {
            let inner = Filter::named(name)?;
            for item in items {
                let value = self.filter(inner, Val::Json(item), &[], call.node)?;
                mapped.push(self.json(value)?);
            }
            return Ok(Val::List(mapped));
        }
        let attribute = self.text_argument(call, 1)?;
        let attribute = attribute.as_deref();
        let default = self.argument(call, 2)?;
        for (at, item) in items.into_iter().enumerate() {
            let part = match (item, &default) {
                (Cow::Borrowed(item), None) => Cow::Borrowed(self.needed_part(item, attribute, at, call)?),
                (Cow::Borrowed(item), Some(default)) => match self.part(item, attribute)? {
                    Some(part) => Cow::Borrowed(part),
                    None => self.copied(default)?,
                },
                (Cow::Owned(item), None) => {
                    let part = self.needed_part(&item, attribute, at, call)?;
                    self.fuel.copy(part)?;
                    Cow::Owned(part.clone())
                }
                (Cow::Owned(item), Some(default)) => match self.part(&item, attribute)? {
                    Some(part) => {
                        self.fuel.copy(part)?;
                        Cow::Owned(part.clone())
                    }
                    None => self.copied(default)?,
                },
            };
            mapped.push(part);
        }
        Ok(Val::List(mapped))
    }

    fn copied(&mut self, value: &Cow<'a, Value>) -> Evaluated<Cow<'a, Value>> {
        if let Cow::Owned(value) = value {
            self.fuel.copy(value)?;
        }
        Ok(value.clone())
    }

    fn select(
        &mut self,
        items: Items<'a>,
        call: &Call<'a>,
        attribute: Option<Cow<'a, str>>,
        test_at: usize,
    ) -> Evaluated<Val<'a>> {
        let keeps = matches!(call.filter, Filter::Select | Filter::SelectAttr);
        let test = named(call, test_at).map(Test::named).transpose()?;
        let argument = self.argument(call, test_at + 1)?;
        let argument = argument.as_deref().unwrap_or(&Value::Null);
        self.fuel.slots::<[Cow<'_, Value>; 3]>(items.len())?;
        let mut kept = Vec::new();
        for item in items {
            let part = self.part(&item, attribute.as_deref())?;
            let holds = match (test, part) {
                (Some(Test::Defined), part) => part.is_some(),
                (Some(Test::Undefined), part) => part.is_none(),
                // What is missing in some items of a list counts as null, so that lists need not be uniform; and null
                // has no order, so it is neither less nor greater.
                (
                    Some(Test::Less | Test::LessOrEqual | Test::Greater | Test::GreaterOrEqual),
                    None | Some(Value::Null),
                ) => false,
                (Some(Test::Contains | Test::StartingWith | Test::EndingWith | Test::Even | Test::Odd), None) => false,
                (Some(test), part) => self.test_json(test, part.unwrap_or(&Value::Null), argument)?,
                (None, None) => false,
                (None, Some(part)) => Val::Json(Cow::Borrowed(part)).is_true(self.scope)?,
            };
            if holds == keeps {
                kept.push(item);
            }
        }
        Ok(Val::List(kept))
    }

    fn sort(&mut self, items: Items<'a>, call: &Call<'a>) -> Evaluated<Val<'a>> {
        let reverse = match self.argument(call, 0)? {
            Some(flag) => Val::Json(flag).is_true(self.scope)?,
            None => false,
        };
        let attribute = self.text_argument(call, 1)?;
        self.fuel.slots::<[Cow<'_, Value>; 4]>(items.len())?;
        let mut keys = Vec::with_capacity(items.len());
        let mut text_bytes: usize = 0;
        for (at, item) in items.iter().enumerate() {
            let key = self.needed_part(item, attribute.as_deref(), at, call)?;
            text_bytes = text_bytes.saturating_add(key.as_str().map_or(0, str::len));
            keys.push((key, at));
        }
        // All are of the first one's type, so the comparison below can be one that never fails.
        if let Some(((first, _), rest)) = keys.split_first() {
            self.order(first, first)?;
            for (key, _) in rest {
                if key.is_string() != first.is_string() || key.is_number() != first.is_number() {
                    self.order(first, key)?;
                }
            }
        }
        let rounds = usize::try_from(keys.len().checked_ilog2().unwrap_or(0)).unwrap_or(0) + 1;
        self.fuel.work(keys.len().saturating_mul(rounds))?;
        self.fuel.work_text(text_bytes.saturating_mul(rounds))?;
        keys.sort_by(|(a, _), (b, _)| {
            let order = match (a, b) {
                (Value::String(a), Value::String(b)) => a.cmp(b),
                (a, b) => match (Num::of(a), Num::of(b)) {
                    (Some(a), Some(b)) => a.compare(b),
                    _ => std::cmp::Ordering::Equal,
                },
            };
            if reverse { order.reverse() } else { order }
        });
        let order: Vec<usize> = keys.into_iter().map(|(_, at)| at).collect();
        let mut places: Vec<Option<Cow<'a, Value>>> = items.into_iter().map(Some).collect();
        Ok(Val::List(order.into_iter().filter_map(|at| places.get_mut(at).and_then(Option::take)).collect()))
    }

    fn extreme(&mut self, items: Items<'a>, call: &Call<'a>) -> Evaluated<Val<'a>> {
        let attribute = self.text_argument(call, 0)?;
        let mut best: Option<(usize, &Value)> = None;
        for (at, item) in items.iter().enumerate() {
            let key = self.needed_part(item, attribute.as_deref(), at, call)?;
            let better = match best {
                None => {
                    self.order(key, key)?;
                    true
                }
                Some((_, held)) if call.filter == Filter::Max => self.order(key, held)?.is_gt(),
                Some((_, held)) => self.order(key, held)?.is_lt(),
            };
            if better {
                best = Some((at, key));
            }
        }
        let at = best.map(|(at, _)| at);
        let found = at.and_then(|at| items.into_iter().nth(at));
        Ok(found.map_or(Val::Undefined(Undefined { node: call.node, why: Why::Empty }), Val::Json))
    }

    fn sum(&mut self, items: Items<'a>, call: &Call<'a>) -> Evaluated<Val<'a>> {
        let attribute = self.text_argument(call, 0)?;
        let mut total = Num::Int(0);
        for (at, item) in items.iter().enumerate() {
            let part = self.needed_part(item, attribute.as_deref(), at, call)?;
            let Some(number) = Num::of(part) else {
                let message = format!("`sum` adds numbers, but item {at} of the list is {}", kind_of(part));
                return Err(ExpressionError::of_type(message));
            };
            total = Num::apply(Arithmetic::Add, total, number)?;
        }
        total.into_value().map(Val::from)
    }

    fn unique(&mut self, items: Items<'a>, call: &Call<'a>) -> Evaluated<Val<'a>> {
        let attribute = self.text_argument(call, 0)?;
        self.fuel.slots::<[String; 4]>(items.len())?;
        self.fuel.slots::<[Cow<'_, Value>; 3]>(items.len())?;
        let mut seen = HashSet::new();
        let mut kept = Vec::new();
        for (at, item) in items.into_iter().enumerate() {
            let part = self.needed_part(&item, attribute.as_deref(), at, call)?;
            // `1` and `1.0` are the same.
            let whole = Num::of(part).filter(|number| number.as_f64().fract() == 0.0).and_then(Num::truncated);
            let key = match whole {
                Some(whole) => whole.to_string(),
                None => self.json_text(part, false)?,
            };
            if seen.insert(key) {
                kept.push(item);
            }
        }
        Ok(Val::List(kept))
    }
}

/// The name of a test or filter among the arguments, which parsing has made sure is a text.
fn named<'a>(call: &Call<'a>, position: usize) -> Option<&'a str> {
    match call.arguments.get(position) {
        Some(Some(Node { kind: Kind::Literal(Value::String(name)), .. })) => Some(name),
        _ => None,
    }
}
