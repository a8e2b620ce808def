//! The syntax tree of an expression, free of the source's lifetime and checked against the catalogue.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::expression::catalogue::{Filter, Test};
use crate::expression::scope::ROOTS;

/// A part of an expression and where it begins.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) at: usize,
    pub(super) kind: Kind,
}

/// What a part of an expression is.
#[derive(Debug)]
pub(super) enum Kind {
    Literal(Value),
    Root(String),
    Field(Box<Node>, String),
    Item(Box<Node>, Box<Node>),
    Slice(Box<Node>, Option<Box<Node>>, Option<Box<Node>>),
    Not(Box<Node>),
    Negative(Box<Node>),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    Arithmetic(Arithmetic, Box<Node>, Box<Node>),
    Concat(Box<Node>, Box<Node>),
    /// `a < b <= c` is true when each neighbours compare.
    Compare(Box<Node>, Vec<(Comparison, Node)>),
    If(Box<Node>, Box<Node>, Option<Box<Node>>),
    /// The arguments stand in the order of the catalogue.
    Filter(Filter, Box<Node>, Vec<Option<Node>>),
    Test(Test, Box<Node>, Option<Box<Node>>),
    List(Vec<Node>),
    Object(Vec<(Node, Node)>),
}

/// An operator on numbers; `+` also joins two texts or two lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    DivideFloor,
    Remainder,
    Power,
}

/// A comparison of two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    NotIn,
}

/// What an expression refers to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct References {
    /// Names of the steps that are named in the text.
    pub steps: BTreeSet<String>,
    /// All names that it begins a path with: known ones such as `context` and unknown ones.
    pub roots: BTreeSet<String>,
    /// Whether it reads `steps` in a way that names no step, such as `steps[context.name]`.
    pub any_step: bool,
}

impl References {
    /// The roots that no scope has.
    pub fn unknown_roots(&self) -> impl Iterator<Item = &str> {
        self.roots.iter().map(String::as_str).filter(|root| !ROOTS.contains(root))
    }

    /// Adds those of another expression.
    pub fn merge(&mut self, other: Self) {
        self.steps.extend(other.steps);
        self.roots.extend(other.roots);
        self.any_step |= other.any_step;
    }
}

impl Node {
    /// Adds what this part refers to.
    pub(super) fn collect(&self, found: &mut References) {
        if let Kind::Field(base, _) | Kind::Item(base, _) = &self.kind
            && matches!(&base.kind, Kind::Root(root) if root == "steps")
        {
            found.roots.insert("steps".to_owned());
            match self.field_name() {
                Some(name) => {
                    found.steps.insert(name.to_owned());
                }
                None => found.any_step = true,
            }
            if let Kind::Item(_, key) = &self.kind {
                key.collect(found);
            }
            return;
        }
        match &self.kind {
            Kind::Literal(_) => {}
            Kind::Root(root) => {
                found.any_step |= root == "steps";
                found.roots.insert(root.clone());
            }
            Kind::Field(node, _) | Kind::Not(node) | Kind::Negative(node) => node.collect(found),
            Kind::Item(a, b) | Kind::And(a, b) | Kind::Or(a, b) | Kind::Concat(a, b) | Kind::Arithmetic(_, a, b) => {
                a.collect(found);
                b.collect(found);
            }
            Kind::Slice(base, from, to) => {
                base.collect(found);
                [from, to].into_iter().flatten().for_each(|node| node.collect(found));
            }
            Kind::Compare(first, rest) => {
                first.collect(found);
                rest.iter().for_each(|(_, node)| node.collect(found));
            }
            Kind::If(test, yes, no) => {
                test.collect(found);
                yes.collect(found);
                no.iter().for_each(|node| node.collect(found));
            }
            Kind::Filter(_, subject, arguments) => {
                subject.collect(found);
                arguments.iter().flatten().for_each(|node| node.collect(found));
            }
            Kind::Test(_, subject, argument) => {
                subject.collect(found);
                argument.iter().for_each(|node| node.collect(found));
            }
            Kind::List(items) => items.iter().for_each(|node| node.collect(found)),
            Kind::Object(entries) => entries.iter().for_each(|(key, value)| {
                key.collect(found);
                value.collect(found);
            }),
        }
    }

    /// The name that this part reads of its base, when it stands in the text.
    pub(super) fn field_name(&self) -> Option<&str> {
        match &self.kind {
            Kind::Field(_, name) => Some(name),
            Kind::Item(_, key) => match &key.kind {
                Kind::Literal(Value::String(name)) => Some(name),
                _ => None,
            },
            _ => None,
        }
    }

    /// The name that the path begins with.
    pub(super) fn root(&self) -> Option<&str> {
        match &self.kind {
            Kind::Root(root) => Some(root),
            Kind::Field(base, _) | Kind::Item(base, _) => base.root(),
            _ => None,
        }
    }

    /// How a message names this part: a path such as `steps.fetch.output`.
    pub(super) fn described(&self) -> String {
        match &self.kind {
            Kind::Root(root) => root.clone(),
            Kind::Field(base, name) => format!("{}.{name}", base.described()),
            Kind::Item(base, key) => match &key.kind {
                Kind::Literal(literal @ (Value::String(_) | Value::Number(_))) => {
                    format!("{}[{literal}]", base.described())
                }
                _ => format!("{}[…]", base.described()),
            },
            Kind::Filter(filter, subject, _) => format!("{} | {}", subject.described(), filter.name()),
            Kind::Literal(literal @ (Value::Number(_) | Value::Bool(_) | Value::Null)) => literal.to_string(),
            _ => "(…)".to_owned(),
        }
    }
}
