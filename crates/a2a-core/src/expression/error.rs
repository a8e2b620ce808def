//! Why an expression was refused or gave no value: one line that says what is wrong, where, and how to mend it.

use std::fmt;

/// Most characters of an expression that a message repeats.
const SHOWN_CHARS_MAX: usize = 80;
/// Most names that a message lists when none of them is near.
const NAMES_SHOWN_MAX: usize = 8;
/// Names beyond these are not compared, so that an error costs the same whatever the size of the data.
const NAMES_COMPARED_MAX: usize = 200;
/// Longest name that is compared and shown.
const NAME_BYTES_MAX: usize = 64;
/// From this similarity on (Jaro-Winkler) a name is taken for a slip of the other.
const NEAR: f64 = 0.8;

/// The kind of an [`ExpressionError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpressionErrorKind {
    /// The text is no expression of this language.
    Syntax,
    /// A name stands for nothing: a root, a step, a field, a filter or a test.
    Unknown,
    /// An operation does not fit its values.
    Type,
    /// The evaluations of this transition have used up the work or the memory they may use together.
    Fuel,
    /// A value, or the expression itself, is too large or nested too deeply.
    Size,
}

/// Why an expression was refused or gave no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpressionError {
    /// What sort of mistake it is.
    pub kind: ExpressionErrorKind,
    /// What is wrong, where, and how to mend it: one line.
    pub message: String,
    /// Where in the template, such as `items[0].title`; empty for a bare expression and for a template that is one text.
    pub path: String,
    /// Byte offset in the expression, until it is told in the message.
    pub(super) at: Option<usize>,
}

impl fmt::Display for ExpressionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", self.path, self.message) }
    }
}

impl std::error::Error for ExpressionError {}

impl ExpressionError {
    pub(super) fn new(kind: ExpressionErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), path: String::new(), at: None }
    }

    pub(super) fn syntax(message: impl Into<String>) -> Self {
        Self::new(ExpressionErrorKind::Syntax, message)
    }

    pub(super) fn unknown(message: impl Into<String>) -> Self {
        Self::new(ExpressionErrorKind::Unknown, message)
    }

    pub(super) fn of_type(message: impl Into<String>) -> Self {
        Self::new(ExpressionErrorKind::Type, message)
    }

    pub(super) fn size(message: impl Into<String>) -> Self {
        Self::new(ExpressionErrorKind::Size, message)
    }

    /// Remembers a place, unless a part of the expression has already told a more exact one.
    pub(super) fn or_at(mut self, offset: usize) -> Self {
        self.at.get_or_insert(offset);
        self
    }

    /// Completes the message with the place in the source.
    pub(super) fn placed_in(mut self, source: &str) -> Self {
        if let Some(at) = self.at.take() {
            let before = source.get(..at).unwrap_or(source).chars().count();
            self.message = format!("{} (at character {} of `{}`)", self.message, before + 1, excerpt(source, before));
        }
        self
    }
}

/// The part of a text around a character, on one line.
pub(super) fn excerpt(source: &str, around: usize) -> String {
    let from = around.saturating_sub(SHOWN_CHARS_MAX / 2);
    let mut shown = String::new();
    if from > 0 {
        shown.push('…');
    }
    let mut rest = source.chars().skip(from);
    shown.extend(rest.by_ref().take(SHOWN_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }));
    if rest.next().is_some() {
        shown.push('…');
    }
    shown
}

/// " Did you mean `x`?" or " Known are `a`, `b`.", or nothing when there are no names.
pub(super) fn suggestion<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> String {
    let names: Vec<&str> = names
        .take(NAMES_COMPARED_MAX)
        .filter(|name| name.len() <= NAME_BYTES_MAX && !name.contains(char::is_control))
        .collect();
    let nearest = names
        .iter()
        .filter(|_| name.len() <= NAME_BYTES_MAX)
        .map(|known| (strsim::jaro_winkler(name, known), known))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match nearest {
        Some((similarity, known)) if similarity >= NEAR => format!(" Did you mean `{known}`?"),
        None if names.is_empty() => String::new(),
        _ => {
            let shown: Vec<String> = names.iter().take(NAMES_SHOWN_MAX).map(|name| format!("`{name}`")).collect();
            let more = if names.len() > NAMES_SHOWN_MAX { ", …" } else { "" };
            format!(" Known are {}{more}.", shown.join(", "))
        }
    }
}
