//! From text to tree: the grammar is minijinja's, the limits and what is refused are ours.
//!
//! Only the lexer and the parser of that crate are used. Its virtual machine is not: it folds constants while it
//! compiles, and its lazy lists are formatted and compared before their cost is known.

use minijinja::machinery::{Token, Tokenizer, ast, parse_expr};
use minijinja::value::{Value as Constant, ValueKind};
use serde_json::{Number, Value};

use crate::expression::catalogue::{Filter, Test};
use crate::expression::error::{ExpressionError, suggestion};
use crate::expression::scope::ROOTS;
use crate::expression::tree::{Arithmetic, Comparison, Kind, Node};

/// Longest expression, in bytes.
pub const EXPRESSION_BYTES_MAX: usize = 4 * 1024;
/// Blanks and the closing `}}` around the longest expression in a template.
const WINDOW_MARGIN_BYTES: usize = 64;
/// Most words, numbers, texts and signs of one expression.
const TOKENS_MAX: usize = 512;
/// Deepest nesting of brackets: each costs the parser about twenty calls on the stack.
const BRACKETS_DEEP_MAX: usize = 24;
/// Most `not` and `-` in a row, each of which costs the parser a call on the stack.
const PREFIXES_MAX: usize = 8;
/// Deepest tree: a chain such as `a ~ b ~ c` is as deep as it is long.
const TREE_DEEP_MAX: usize = 64;

/// Where an expression ends inside a template.
pub(super) struct Ending {
    /// Bytes of the expression.
    pub(super) length: usize,
    /// Bytes up to the end of the closing `}}`.
    pub(super) consumed: usize,
}

/// Goes over the tokens before the parser does, so that the parser never recurses deeper than its stack allows.
///
/// In a template the expression ends at the first `}}` that is neither in a text nor in brackets.
pub(super) fn scan(source: &str, in_template: bool) -> Result<Ending, ExpressionError> {
    if !in_template && source.len() > EXPRESSION_BYTES_MAX {
        return Err(too_long());
    }
    // Cut at a character, so that a missing end does not make each expression read the whole rest of the template. What
    // is found is scanned again without the blanks around it; for these there is some room.
    let cut = source.char_indices().map(|(at, _)| at).find(|at| *at > EXPRESSION_BYTES_MAX + WINDOW_MARGIN_BYTES);
    let window = cut.and_then(|at| source.get(..at)).unwrap_or(source);
    let mut tokenizer = Tokenizer::new(window, "expression", true, minijinja::syntax::SyntaxConfig::default());
    let mut open: Vec<(Bracket, usize)> = Vec::new();
    let (mut tokens, mut prefixes, mut ends_at) = (0, 0, 0);
    loop {
        let next = tokenizer
            .next_token()
            .map_err(|error| if window.len() < source.len() { too_long() } else { parser_error(&error, source) })?;
        let Some((token, span)) = next else { break };
        let at = span.start_offset as usize;
        tokens += 1;
        if tokens > TOKENS_MAX {
            return Err(ExpressionError::size(format!(
                "the expression has more than {TOKENS_MAX} words and signs; split it into several steps or fields"
            )));
        }
        let is_prefix = matches!(token, Token::Minus | Token::Ident("not"));
        prefixes = if is_prefix { prefixes + 1 } else { 0 };
        if prefixes > PREFIXES_MAX {
            return Err(ExpressionError::size("too many `not` or `-` in a row; remove those that cancel out").or_at(at));
        }
        match token {
            Token::VariableEnd if in_template => {
                let length = window.get(..at).unwrap_or(window).len();
                let closing = window.get(at..).unwrap_or_default();
                if closing.starts_with(['-', '+']) {
                    return Err(ExpressionError::syntax(
                        "signs for white space such as `-}}` are not known; write ` }}`",
                    )
                    .or_at(at));
                }
                return Ok(Ending { length, consumed: span.end_offset as usize });
            }
            Token::VariableEnd => {
                return Err(ExpressionError::syntax(
                    "`}}` does not belong here: write one bare expression, such as `context.approved and not input.dry_run`",
                )
                .or_at(at));
            }
            Token::ParenOpen | Token::BracketOpen | Token::BraceOpen => {
                open.push((Bracket::of(&token), at));
                if open.len() > BRACKETS_DEEP_MAX {
                    return Err(ExpressionError::size(format!(
                        "brackets are nested deeper than {BRACKETS_DEEP_MAX} levels; split the expression into several steps or fields"
                    ))
                    .or_at(at));
                }
            }
            Token::ParenClose | Token::BracketClose | Token::BraceClose
                if open.pop().map(|(bracket, _)| bracket) != Some(Bracket::of(&token)) =>
            {
                return Err(
                    ExpressionError::syntax(format!("{token} closes nothing that was opened; remove it")).or_at(at)
                );
            }
            Token::Assign if open.is_empty() => {
                return Err(ExpressionError::syntax("`=` assigns nothing here; to compare write `==`").or_at(at));
            }
            _ => {}
        }
        ends_at = span.end_offset as usize;
    }
    if in_template {
        if window.len() < source.len() {
            return Err(too_long());
        }
        return Err(ExpressionError::syntax(
            "`{{` is not closed; add `}}`, or write `{{ \"{{\" }}` for the signs themselves",
        ));
    }
    if let Some((_, at)) = open.last() {
        return Err(ExpressionError::syntax("this bracket is not closed; close it").or_at(*at));
    }
    Ok(Ending { length: ends_at, consumed: ends_at })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Bracket {
    Round,
    Square,
    Curly,
}

impl Bracket {
    fn of(token: &Token<'_>) -> Self {
        match token {
            Token::ParenOpen | Token::ParenClose => Self::Round,
            Token::BracketOpen | Token::BracketClose => Self::Square,
            _ => Self::Curly,
        }
    }
}

fn too_long() -> ExpressionError {
    ExpressionError::size(format!(
        "the expression is longer than {EXPRESSION_BYTES_MAX} bytes (or a `{{{{` is not closed); put long texts beside \
         the `{{{{ }}}}`, and split long expressions into several steps or fields"
    ))
}

/// Reads an expression whose tokens have been gone over.
pub(super) fn parse(source: &str) -> Result<Node, ExpressionError> {
    if source.trim().is_empty() {
        return Err(ExpressionError::syntax("the expression is empty; write one, such as `context.title`"));
    }
    let parsed = parse_expr(source).map_err(|error| parser_error(&error, source))?;
    lower(&parsed, 0)
}

fn parser_error(error: &minijinja::Error, source: &str) -> ExpressionError {
    let detail = error.detail().unwrap_or("not an expression");
    let at = error.range().map_or(source.len(), |range| range.start);
    let rest = source.get(at..).unwrap_or_default();
    let hint = if rest.starts_with('&') || source.contains("&&") {
        "; write `and`"
    } else if source.contains("||") {
        "; write `or`"
    } else if rest.starts_with('!') {
        "; write `not`"
    } else if rest.starts_with('?') {
        "; a choice is written `a if condition else b`"
    } else if rest.starts_with('=') {
        "; to compare write `==`"
    } else if detail.contains("unexpected end of string") {
        "; close the text with the quote that opens it"
    } else if detail.contains("end of input") {
        "; the expression is not complete"
    } else {
        "; check what stands before it, texts need quotes"
    };
    ExpressionError::syntax(format!("{detail}{hint}")).or_at(at)
}

fn boxed(expression: &ast::Expr<'_>, depth: usize) -> Result<Box<Node>, ExpressionError> {
    lower(expression, depth).map(Box::new)
}

fn lower(expression: &ast::Expr<'_>, depth: usize) -> Result<Node, ExpressionError> {
    let at = expression.span().start_offset as usize;
    if depth > TREE_DEEP_MAX {
        return Err(ExpressionError::size(format!(
            "the expression is a chain of more than {TREE_DEEP_MAX} parts; use `join` on a list, or split it into several fields"
        ))
        .or_at(at));
    }
    let depth = depth + 1;
    let kind = match expression {
        ast::Expr::Var(name) => Kind::Root(name.id.to_owned()),
        ast::Expr::Const(constant) => Kind::Literal(literal(&constant.value).map_err(|error| error.or_at(at))?),
        ast::Expr::GetAttr(field) => Kind::Field(boxed(&field.expr, depth)?, field.name.to_owned()),
        ast::Expr::GetItem(item) => Kind::Item(boxed(&item.expr, depth)?, boxed(&item.subscript_expr, depth)?),
        ast::Expr::Slice(slice) => {
            if slice.step.is_some() {
                let message = "a part such as `x[0:3]` has no step; use `reverse` to turn a list around";
                return Err(ExpressionError::syntax(message).or_at(at));
            }
            let bound = |bound: &Option<ast::Expr<'_>>| bound.as_ref().map(|bound| boxed(bound, depth)).transpose();
            Kind::Slice(boxed(&slice.expr, depth)?, bound(&slice.start)?, bound(&slice.stop)?)
        }
        ast::Expr::UnaryOp(unary) => match unary.op {
            ast::UnaryOpKind::Not => Kind::Not(boxed(&unary.expr, depth)?),
            ast::UnaryOpKind::Neg => Kind::Negative(boxed(&unary.expr, depth)?),
        },
        ast::Expr::BinOp(binary) => lower_binary(binary, depth)?,
        ast::Expr::Compare(compare) => {
            let rest = compare
                .ops
                .iter()
                .map(|op| Ok((comparison(op.op), lower(&op.expr, depth)?)))
                .collect::<Result<_, ExpressionError>>()?;
            Kind::Compare(boxed(&compare.expr, depth)?, rest)
        }
        ast::Expr::IfExpr(choice) => Kind::If(
            boxed(&choice.test_expr, depth)?,
            boxed(&choice.true_expr, depth)?,
            choice.false_expr.as_ref().map(|other| boxed(other, depth)).transpose()?,
        ),
        ast::Expr::Filter(filter) => lower_filter(filter, depth).map_err(|error| error.or_at(at))?,
        ast::Expr::Test(test) => lower_test(test, depth).map_err(|error| error.or_at(at))?,
        ast::Expr::Call(_) => {
            return Err(ExpressionError::syntax(
                "nothing can be called here; use a filter, such as `x | length`, or a test, such as `x is defined`",
            )
            .or_at(at));
        }
        ast::Expr::List(list) => Kind::List(lower_all(&list.items, depth)?),
        ast::Expr::Tuple(tuple) => Kind::List(lower_all(&tuple.items, depth)?),
        ast::Expr::Map(map) => {
            let mut entries = Vec::with_capacity(map.keys.len());
            for (key, value) in map.keys.iter().zip(&map.values) {
                entries.push((lower(key, depth)?, lower(value, depth)?));
            }
            Kind::Object(entries)
        }
    };
    Ok(Node { at, kind })
}

fn lower_all(items: &[ast::Expr<'_>], depth: usize) -> Result<Vec<Node>, ExpressionError> {
    items.iter().map(|item| lower(item, depth)).collect()
}

fn comparison(op: ast::CompareOpKind) -> Comparison {
    match op {
        ast::CompareOpKind::Eq => Comparison::Equal,
        ast::CompareOpKind::Ne => Comparison::NotEqual,
        ast::CompareOpKind::Lt => Comparison::Less,
        ast::CompareOpKind::Lte => Comparison::LessOrEqual,
        ast::CompareOpKind::Gt => Comparison::Greater,
        ast::CompareOpKind::Gte => Comparison::GreaterOrEqual,
        ast::CompareOpKind::In => Comparison::In,
        ast::CompareOpKind::NotIn => Comparison::NotIn,
    }
}

fn lower_binary(binary: &ast::BinOp<'_>, depth: usize) -> Result<Kind, ExpressionError> {
    let left = boxed(&binary.left, depth)?;
    let right = boxed(&binary.right, depth)?;
    let compare = |comparison, left, right: Box<Node>| Kind::Compare(left, vec![(comparison, *right)]);
    Ok(match binary.op {
        ast::BinOpKind::Eq => compare(Comparison::Equal, left, right),
        ast::BinOpKind::Ne => compare(Comparison::NotEqual, left, right),
        ast::BinOpKind::Lt => compare(Comparison::Less, left, right),
        ast::BinOpKind::Lte => compare(Comparison::LessOrEqual, left, right),
        ast::BinOpKind::Gt => compare(Comparison::Greater, left, right),
        ast::BinOpKind::Gte => compare(Comparison::GreaterOrEqual, left, right),
        ast::BinOpKind::In => compare(Comparison::In, left, right),
        ast::BinOpKind::ScAnd => Kind::And(left, right),
        ast::BinOpKind::ScOr => Kind::Or(left, right),
        ast::BinOpKind::Concat => Kind::Concat(left, right),
        ast::BinOpKind::Sub => {
            refuse_hyphenated_name(&left, &right)?;
            Kind::Arithmetic(Arithmetic::Subtract, left, right)
        }
        ast::BinOpKind::Add => Kind::Arithmetic(Arithmetic::Add, left, right),
        ast::BinOpKind::Mul => Kind::Arithmetic(Arithmetic::Multiply, left, right),
        ast::BinOpKind::Div => Kind::Arithmetic(Arithmetic::Divide, left, right),
        ast::BinOpKind::FloorDiv => Kind::Arithmetic(Arithmetic::DivideFloor, left, right),
        ast::BinOpKind::Rem => Kind::Arithmetic(Arithmetic::Remainder, left, right),
        ast::BinOpKind::Pow => Kind::Arithmetic(Arithmetic::Power, left, right),
    })
}

/// `steps.fetch-data.output` reads as a difference of two paths, which no author means.
fn refuse_hyphenated_name(left: &Node, right: &Node) -> Result<(), ExpressionError> {
    let (Some(last), Some(root)) = (left.field_name(), right.root()) else { return Ok(()) };
    if left.root().is_some_and(|root| ROOTS.contains(&root)) && !ROOTS.contains(&root) {
        let base = match &left.kind {
            Kind::Field(base, _) | Kind::Item(base, _) => base.described(),
            _ => return Ok(()),
        };
        return Err(ExpressionError::syntax(format!(
            "`{last}-{root}` reads as a difference; a name with `-` is written `{base}[\"{last}-{root}\"]`"
        ))
        .or_at(left.at));
    }
    Ok(())
}

fn lower_filter(filter: &ast::Filter<'_>, depth: usize) -> Result<Kind, ExpressionError> {
    let Some(subject) = &filter.expr else {
        return Err(ExpressionError::syntax("a filter follows a value, such as `x | length`"));
    };
    let kind = Filter::named(filter.name)?;
    let known = kind.arguments();
    let usage = || format!("it is written `{}({})`", kind.name(), known.join(", "));
    let mut arguments: Vec<Option<Node>> = known.iter().map(|_| None).collect();
    for (position, argument) in filter.args.iter().enumerate() {
        let (slot, value) = match argument {
            ast::CallArg::Pos(value) => (position, value),
            ast::CallArg::Kwarg(name, value) => {
                let Some(slot) = known.iter().position(|known| known == name) else {
                    let hint = suggestion(name, known.iter().copied());
                    let message = format!("the filter `{}` has no argument `{name}`.{hint}", kind.name());
                    return Err(ExpressionError::unknown(message));
                };
                (slot, value)
            }
            ast::CallArg::PosSplat(_) | ast::CallArg::KwargSplat(_) => {
                return Err(ExpressionError::syntax("arguments cannot be spread with `*`; write each of them"));
            }
        };
        let value = lower(value, depth)?;
        match arguments.get_mut(slot) {
            Some(place @ None) => *place = Some(value),
            Some(Some(_)) => {
                let message = format!("the filter `{}` is given an argument twice; {}", kind.name(), usage());
                return Err(ExpressionError::syntax(message));
            }
            None => {
                let message = format!("the filter `{}` is given too many arguments; {}", kind.name(), usage());
                return Err(ExpressionError::syntax(message));
            }
        }
    }
    if let Some((name, _)) = known.iter().zip(&arguments).take(kind.required()).find(|(_, argument)| argument.is_none())
    {
        let message = format!("the filter `{}` needs the argument `{name}`; {}", kind.name(), usage());
        return Err(ExpressionError::syntax(message));
    }
    check_names_in_arguments(kind, &arguments)?;
    Ok(Kind::Filter(kind, boxed(subject, depth)?, arguments))
}

/// Tests and filters that are named by a text are looked up here, so that a wrong name is found before anything runs.
fn check_names_in_arguments(filter: Filter, arguments: &[Option<Node>]) -> Result<(), ExpressionError> {
    let name_of = |position: usize| match arguments.get(position).and_then(Option::as_ref) {
        None => Ok(None),
        Some(Node { kind: Kind::Literal(Value::String(name)), .. }) => Ok(Some(name.as_str())),
        Some(node) => {
            let message = "the name of a test or filter is written as a text in quotes";
            Err(ExpressionError::syntax(message).or_at(node.at))
        }
    };
    let test_at = match filter {
        Filter::Select | Filter::Reject => 0,
        Filter::SelectAttr | Filter::RejectAttr => 1,
        Filter::Map => {
            let inner = name_of(0)?.map(Filter::named).transpose()?;
            let attribute = arguments.get(1).is_some_and(Option::is_some);
            return match inner {
                Some(_) if attribute => {
                    Err(ExpressionError::syntax("`map` takes either a filter or `attribute=`, not both"))
                }
                Some(Filter::Map | Filter::Default) => Err(ExpressionError::syntax("`map` cannot apply this filter")),
                Some(inner) if inner.required() > 0 => Err(ExpressionError::syntax(format!(
                    "`map` applies filters without arguments only, and `{}` needs some",
                    inner.name()
                ))),
                None if !attribute => {
                    Err(ExpressionError::syntax("`map` needs `attribute=\"name\"` or the name of a filter"))
                }
                _ => Ok(()),
            };
        }
        _ => return Ok(()),
    };
    if let Some(name) = name_of(test_at)? {
        let test = Test::named(name)?;
        let given = arguments.get(test_at + 1).is_some_and(Option::is_some);
        check_test_value(test, given)?;
    }
    Ok(())
}

fn check_test_value(test: Test, given: bool) -> Result<(), ExpressionError> {
    match (test.takes_value(), given) {
        (true, false) => {
            Err(ExpressionError::syntax(format!("the test `{}` needs a value to compare with", test.name())))
        }
        (false, true) => Err(ExpressionError::syntax(format!("the test `{}` takes no value", test.name()))),
        _ => Ok(()),
    }
}

fn lower_test(test: &ast::Test<'_>, depth: usize) -> Result<Kind, ExpressionError> {
    let kind = Test::named(test.name)?;
    let argument = match test.args.as_slice() {
        [] => None,
        [ast::CallArg::Pos(value)] => Some(boxed(value, depth)?),
        _ => return Err(ExpressionError::syntax("a test takes one value at most, such as `x is in [1, 2]`")),
    };
    check_test_value(kind, argument.is_some())?;
    Ok(Kind::Test(kind, boxed(&test.expr, depth)?, argument))
}

fn literal(constant: &Constant) -> Result<Value, ExpressionError> {
    let number = |number: Option<Number>| {
        number.map(Value::Number).ok_or_else(|| {
            ExpressionError::syntax(
                "the number is beyond what JSON holds (64-bit integers, finite doubles); write it as a text",
            )
        })
    };
    match constant.kind() {
        ValueKind::None => Ok(Value::Null),
        ValueKind::Bool => Ok(Value::Bool(constant.is_true())),
        ValueKind::Number if constant.is_integer() => number(u64::try_from(constant.clone()).ok().map(Number::from)),
        ValueKind::Number => number(f64::try_from(constant.clone()).ok().and_then(Number::from_f64)),
        _ => match constant.as_str() {
            Some(text) if text.contains('\0') => {
                Err(ExpressionError::syntax("the text holds the character NUL, which cannot be stored; remove it"))
            }
            Some(text) => Ok(Value::from(text)),
            None => Err(ExpressionError::syntax("this is no value of JSON")),
        },
    }
}
