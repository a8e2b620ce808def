//! The expression language of workflows: conditions such as `run_if`, and `{{ }}` in the inputs of steps.
//!
//! The grammar is Jinja's, read by the parser of the crate `minijinja`: `steps.fetch.output.items[0].title`,
//! `steps["fetch-data"].output`, comparison, `and` / `or` / `not`, `in`, `a if condition else b`, `is defined`, filters
//! such as `default`, `join`, `selectattr`. Evaluation is done here, on JSON: numbers, texts, lists, objects and null
//! keep their types, and null is not the same as missing.
//!
//! What is missing is an error as soon as it is used; `x | default(y)` and `x is defined` are not a use, whichever part
//! of the path is missing. A wrong first name (`contxt.title`) is an error in any case.
//!
//! Only expressions: no statements, comments, functions, methods or assignments; nothing reaches beyond the data in the
//! [`Scope`]. Everything is bounded: the length and depth of the text before it is parsed, and, in [`Fuel`], the work and
//! the memory before they are spent. A result is at most [`VALUE_BYTES_MAX`] bytes of JSON.
//!
//! Conditions hold unless they are null, false, zero, or an empty text, list or object.

mod catalogue;
mod error;
mod evaluate;
mod filters;
mod fuel;
mod lists;
mod numbers;
mod scope;
mod syntax;
mod template;
mod tree;
mod value;

#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde_json::Value;

pub use crate::expression::error::{ExpressionError, ExpressionErrorKind};
pub use crate::expression::fuel::{Fuel, VALUE_BYTES_MAX};
pub use crate::expression::scope::{ROOTS, Scope};
pub use crate::expression::syntax::EXPRESSION_BYTES_MAX;
pub use crate::expression::template::{EXPRESSIONS_MAX, Template};
pub use crate::expression::tree::References;

use crate::expression::evaluate::Evaluator;
use crate::expression::tree::Node;

/// A compiled `run_if` / `skip_if` condition or other bare expression. Cheap to clone.
#[derive(Clone)]
pub struct Expression {
    compiled: Arc<Compiled>,
}

/// A tree and the text it comes from, which messages repeat.
struct Compiled {
    source: Box<str>,
    node: Node,
}

impl Expression {
    /// Compiles an expression. One that stands alone in `{{ }}` is read as if it were bare.
    ///
    /// # Errors
    /// Text that is no expression, that is too long or nested too deeply, and names of filters and tests that are not
    /// known. Unknown roots are not an error here: see [`References::unknown_roots`].
    pub fn parse(text: &str) -> Result<Self, ExpressionError> {
        let trimmed = text.trim();
        let bare = trimmed.strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}")).unwrap_or(trimmed).trim();
        Self::parse_bare(bare)
    }

    fn parse_bare(source: &str) -> Result<Self, ExpressionError> {
        let parsed = syntax::scan(source, false).and_then(|_| syntax::parse(source));
        let node = parsed.map_err(|error| error.placed_in(source))?;
        Ok(Self { compiled: Arc::new(Compiled { source: source.into(), node }) })
    }

    /// The text it was compiled from.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.compiled.source
    }

    /// What it refers to.
    #[must_use]
    pub fn references(&self) -> References {
        let mut found = References::default();
        self.compiled.node.collect(&mut found);
        found
    }

    /// Its value.
    ///
    /// # Errors
    /// What is missing, operations that do not fit their values, more work or memory than the fuel has, a result that
    /// is too large or too deep.
    pub fn evaluate(&self, scope: &Scope<'_>, fuel: &mut Fuel) -> Result<Value, ExpressionError> {
        let value = self.value(scope, fuel)?;
        fuel.result(&value).map_err(|error| self.placed(error))?;
        Ok(value)
    }

    /// Its value without the check of its size, for the template that it is a part of.
    fn value(&self, scope: &Scope<'_>, fuel: &mut Fuel) -> Result<Value, ExpressionError> {
        let mut evaluator = Evaluator { scope, fuel };
        let value = evaluator.eval(&self.compiled.node).and_then(|value| evaluator.owned(value));
        value.map_err(|error| self.placed(error))
    }

    /// Appends its value to a text.
    fn append(&self, text: &mut String, scope: &Scope<'_>, fuel: &mut Fuel) -> Result<(), ExpressionError> {
        let mut evaluator = Evaluator { scope, fuel };
        let value = evaluator.eval_json(&self.compiled.node);
        value.and_then(|value| evaluator.append(text, &value)).map_err(|error| self.placed(error))
    }

    /// Whether it holds: not when its value is null, false, zero, or an empty text, list or object.
    ///
    /// # Errors
    /// Those of [`Expression::evaluate`].
    pub fn is_true(&self, scope: &Scope<'_>, fuel: &mut Fuel) -> Result<bool, ExpressionError> {
        let value = Evaluator { scope, fuel }.eval(&self.compiled.node);
        value.and_then(|value| value.is_true(scope)).map_err(|error| self.placed(error))
    }

    fn placed(&self, error: ExpressionError) -> ExpressionError {
        error.placed_in(&self.compiled.source)
    }
}

impl FromStr for Expression {
    type Err = ExpressionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Expression({:?})", self.source())
    }
}
