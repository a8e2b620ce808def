//! JSON whose texts hold expressions.

use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::expression::error::ExpressionError;
use crate::expression::fuel::Fuel;
use crate::expression::scope::Scope;
use crate::expression::tree::References;
use crate::expression::{Expression, syntax};

/// Most expressions of one template.
pub const EXPRESSIONS_MAX: usize = 500;
/// Most problems of one template that are told at once.
const PROBLEMS_MAX: usize = 50;

/// A JSON value whose texts may hold `{{ expression }}`. Cheap to clone.
///
/// A text that is one `{{ expression }}` and nothing else keeps the JSON type of its value; in any other text the values stand as
/// text, where lists and objects are compact JSON. Keys are taken as they are.
#[derive(Clone)]
pub struct Template {
    part: Arc<Part>,
}

/// A part of a template; a part without expressions is one constant, however large.
#[derive(Debug)]
enum Part {
    Constant(Value),
    Whole(Expression),
    Text(Vec<Piece>),
    List(Vec<Part>),
    Object(Vec<(String, Part)>),
}

#[derive(Debug)]
enum Piece {
    Constant(String),
    Expression(Expression),
}

impl Template {
    /// Compiles all expressions of a value.
    ///
    /// # Errors
    /// All that are wrong, each with its path in the value such as `items[0].title`.
    pub fn parse(value: &Value) -> Result<Self, Vec<(String, ExpressionError)>> {
        let mut parser = Parser { path: Vec::new(), problems: Vec::new(), expressions: 0 };
        let part = parser.part(value);
        if parser.expressions > EXPRESSIONS_MAX {
            let message = format!("it holds more than {EXPRESSIONS_MAX} expressions; split it into several steps");
            parser.problems.push((String::new(), ExpressionError::size(message)));
        }
        if parser.problems.is_empty() { Ok(Self { part: Arc::new(part) }) } else { Err(parser.problems) }
    }

    /// What its expressions refer to.
    #[must_use]
    pub fn references(&self) -> References {
        let mut found = References::default();
        self.part.collect(&mut found);
        found
    }

    /// Whether it holds no expression, so that its value is always the same.
    #[must_use]
    pub fn is_constant(&self) -> bool {
        matches!(*self.part, Part::Constant(_))
    }

    /// The value with all expressions evaluated.
    ///
    /// # Errors
    /// The first that fails, with its path in the value; or that the whole is too large or nested too deeply.
    pub fn evaluate(&self, scope: &Scope<'_>, fuel: &mut Fuel) -> Result<Value, ExpressionError> {
        let mut path = Vec::new();
        let value = self.part.evaluate(scope, fuel, &mut path).map_err(|mut error| {
            error.path = path_text(&path);
            error
        })?;
        fuel.result(&value)?;
        Ok(value)
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Template").field(&self.part).finish()
    }
}

/// A step of a path in a value.
enum Segment<'v> {
    Key(&'v str),
    Index(usize),
}

fn path_text(path: &[Segment<'_>]) -> String {
    let mut text = String::new();
    for segment in path {
        match segment {
            Segment::Index(at) => text.push_str(&format!("[{at}]")),
            Segment::Key(key) => {
                let plain = !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-'));
                let shown: String = key.chars().take(64).collect();
                if !plain {
                    text.push_str(&format!("[{}]", Value::from(shown)));
                } else if text.is_empty() {
                    text.push_str(&shown);
                } else {
                    text.push('.');
                    text.push_str(&shown);
                }
            }
        }
    }
    text
}

/// Compiles a value and gathers what is wrong with it.
struct Parser<'v> {
    path: Vec<Segment<'v>>,
    problems: Vec<(String, ExpressionError)>,
    expressions: usize,
}

impl<'v> Parser<'v> {
    fn part(&mut self, value: &'v Value) -> Part {
        match value {
            Value::String(text) => self.text(text),
            Value::Array(items) => {
                let mut parts = Vec::with_capacity(items.len());
                for (at, item) in items.iter().enumerate() {
                    self.path.push(Segment::Index(at));
                    parts.push(self.part(item));
                    self.path.pop();
                }
                if parts.iter().all(Part::is_constant) { Part::Constant(value.clone()) } else { Part::List(parts) }
            }
            Value::Object(entries) => {
                let mut parts = Vec::with_capacity(entries.len());
                for (key, item) in entries {
                    self.path.push(Segment::Key(key));
                    if key.contains("{{") {
                        let message = "a key cannot hold `{{ }}`; build the object with an expression, such as `{{ {context.name: 1} }}`";
                        self.problem(ExpressionError::syntax(message));
                    }
                    parts.push((key.clone(), self.part(item)));
                    self.path.pop();
                }
                let is_constant = parts.iter().all(|(_, part)| part.is_constant());
                if is_constant { Part::Constant(value.clone()) } else { Part::Object(parts) }
            }
            constant => Part::Constant(constant.clone()),
        }
    }

    fn problem(&mut self, error: ExpressionError) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push((path_text(&self.path), error));
        }
    }

    fn text(&mut self, text: &str) -> Part {
        let constant = || Part::Constant(Value::from(text));
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(at) = sign(rest) {
            let (before, from) = rest.split_at_checked(at).unwrap_or((rest, ""));
            if !before.is_empty() {
                pieces.push(Piece::Constant(before.to_owned()));
            }
            let Some(source) = from.strip_prefix("{{") else {
                self.problem(not_an_expression(from));
                return constant();
            };
            self.expressions += 1;
            // Beyond the limit the whole is refused: what is left need not be read.
            if self.expressions > EXPRESSIONS_MAX {
                return constant();
            }
            match compile(source) {
                Ok((expression, consumed)) => {
                    pieces.push(Piece::Expression(expression));
                    rest = source.get(consumed..).unwrap_or_default();
                }
                Err(error) => {
                    self.problem(error);
                    return constant();
                }
            }
        }
        if pieces.is_empty() {
            return constant();
        }
        if !rest.is_empty() {
            pieces.push(Piece::Constant(rest.to_owned()));
        }
        // White space around a lone expression is not meant: YAML ends its blocks with a line break.
        let mut meant = pieces.iter().filter(|piece| !matches!(piece, Piece::Constant(text) if text.trim().is_empty()));
        match (meant.next(), meant.next()) {
            (Some(Piece::Expression(expression)), None) => Part::Whole(expression.clone()),
            _ => Part::Text(pieces),
        }
    }
}

/// Where the next `{{`, `{%` or `{#` begins. One pass: a text may hold many expressions and none of the other signs.
fn sign(text: &str) -> Option<usize> {
    let mut braces = text.match_indices('{').map(|(at, _)| at);
    braces.find(|at| matches!(text.as_bytes().get(at + 1), Some(b'{' | b'%' | b'#')))
}

/// Compiles what follows a `{{`, and tells how much it and its `}}` are.
fn compile(source: &str) -> Result<(Expression, usize), ExpressionError> {
    if source.starts_with(['-', '+']) {
        let message = "signs for white space such as `{{-` are not known; write a blank after `{{`";
        return Err(ExpressionError::syntax(message));
    }
    let ending = syntax::scan(source, true).map_err(|error| error.placed_in(source))?;
    let inner = source.get(..ending.length).unwrap_or_default();
    Ok((Expression::parse_bare(inner.trim())?, ending.consumed))
}

fn not_an_expression(from: &str) -> ExpressionError {
    let shown = super::error::excerpt(from, 0);
    ExpressionError::syntax(if from.starts_with("{%") {
        format!(
            "statements `{{% %}}` are not known, only expressions `{{{{ }}}}`; write `{{{{ a if condition else b }}}}` or a \
             filter such as `map`; for the signs themselves write `{{{{ \"{{%\" }}}}` (at `{shown}`)"
        )
    } else {
        format!(
            "comments `{{# #}}` are not known; remove it; for the signs themselves write `{{{{ \"{{#\" }}}}` (at `{shown}`)"
        )
    })
}

impl Part {
    fn is_constant(&self) -> bool {
        matches!(self, Self::Constant(_))
    }

    fn collect(&self, found: &mut References) {
        match self {
            Self::Constant(_) => {}
            Self::Whole(expression) => found.merge(expression.references()),
            Self::Text(pieces) => {
                for piece in pieces {
                    if let Piece::Expression(expression) = piece {
                        found.merge(expression.references());
                    }
                }
            }
            Self::List(parts) => parts.iter().for_each(|part| part.collect(found)),
            Self::Object(parts) => parts.iter().for_each(|(_, part)| part.collect(found)),
        }
    }

    /// On an error the path is left where it happened.
    fn evaluate<'t>(
        &'t self,
        scope: &Scope<'_>,
        fuel: &mut Fuel,
        path: &mut Vec<Segment<'t>>,
    ) -> Result<Value, ExpressionError> {
        fuel.work(1)?;
        match self {
            Self::Constant(value) => {
                fuel.copy(value)?;
                Ok(value.clone())
            }
            Self::Whole(expression) => expression.value(scope, fuel),
            Self::Text(pieces) => {
                let mut text = String::new();
                for piece in pieces {
                    match piece {
                        Piece::Constant(part) => {
                            fuel.append_text(&mut text, part)?;
                        }
                        Piece::Expression(expression) => expression.append(&mut text, scope, fuel)?,
                    }
                }
                Ok(Value::String(text))
            }
            Self::List(parts) => {
                fuel.slots::<Value>(parts.len())?;
                let mut items = Vec::with_capacity(parts.len());
                for (at, part) in parts.iter().enumerate() {
                    path.push(Segment::Index(at));
                    items.push(part.evaluate(scope, fuel, path)?);
                    path.pop();
                }
                Ok(Value::Array(items))
            }
            Self::Object(parts) => {
                fuel.object()?;
                let mut entries = Map::new();
                for (key, part) in parts {
                    path.push(Segment::Key(key));
                    fuel.entry(key)?;
                    entries.insert(key.clone(), part.evaluate(scope, fuel, path)?);
                    path.pop();
                }
                Ok(Value::Object(entries))
            }
        }
    }
}
