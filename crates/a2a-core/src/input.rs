//! Reads JSON objects field by field and collects every problem instead of stopping at the first.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::error::{Problem, Problems};
use crate::limits;

/// A JSON object being read. Unknown fields become problems when [`finish`](Self::finish) is called.
#[derive(Debug)]
pub struct ObjectReader<'a, 'p> {
    object: &'a Map<String, Value>,
    path: String,
    problems: &'p mut Vec<Problem>,
    known: Vec<&'static str>,
}

/// Refuses a document that is too large as a whole. `shorten` names those of its parts that can be shortened.
pub(crate) fn check_document_size(
    json: Result<String, serde_json::Error>,
    path: &str,
    shorten: &str,
) -> Result<(), Problems> {
    let bytes = json.map_err(|error| Problems::one(path, error.to_string()))?.len();
    if bytes > limits::DOCUMENT_BYTES_MAX {
        return Err(Problems::one(
            path,
            format!(
                "the whole document has {bytes} bytes as compact JSON; shorten {shorten} to at most {}",
                limits::DOCUMENT_BYTES_MAX
            ),
        ));
    }
    Ok(())
}

/// Reads `value` as one object with `read`, and returns all problems when there are any.
///
/// # Errors
/// Every problem that `read` has noted, or that `value` is not an object.
pub fn read_object<T>(
    value: &Value,
    path: &str,
    read: impl FnOnce(&mut ObjectReader<'_, '_>) -> Option<T>,
) -> Result<T, Problems> {
    let mut problems = Vec::new();
    let result = ObjectReader::open(value, path.to_owned(), &mut problems).and_then(|mut reader| {
        let result = read(&mut reader);
        reader.finish();
        result
    });
    match result {
        Some(value) if problems.is_empty() => Ok(value),
        _ if problems.is_empty() => Err(Problems::one(path, "could not be read")),
        _ => Err(Problems(problems)),
    }
}

impl<'a, 'p> ObjectReader<'a, 'p> {
    /// Starts reading; anything but an object is a problem.
    pub fn open(value: &'a Value, path: String, problems: &'p mut Vec<Problem>) -> Option<Self> {
        if let Value::Object(object) = value {
            return Some(Self { object, path, problems, known: Vec::new() });
        }
        problems.push(Problem { path, message: format!("must be an object, not {}", type_name(value)) });
        None
    }

    /// The path of a field of this object.
    #[must_use]
    pub fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Notes a problem with the field `name`.
    pub fn problem(&mut self, name: &str, message: impl Into<String>) {
        let path = self.path_of(name);
        self.problems.push(Problem { path, message: message.into() });
    }

    /// The list that problems go to, for reading what is inside a field.
    pub fn problems(&mut self) -> &mut Vec<Problem> {
        self.problems
    }

    /// Whether the field is there and not null.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.object.get(name).is_some_and(|v| !v.is_null())
    }

    /// Whether the field is there and null.
    #[must_use]
    pub fn is_null(&self, name: &str) -> bool {
        self.object.get(name).is_some_and(Value::is_null)
    }

    /// Any value; null counts as absent, because models send null for what they leave out.
    pub fn value(&mut self, name: &'static str) -> Option<&'a Value> {
        self.known.push(name);
        self.object.get(name).filter(|v| !v.is_null())
    }

    /// The field as it is, null included: for patches, where null clears a field.
    pub fn nullable(&mut self, name: &'static str) -> Option<&'a Value> {
        self.known.push(name);
        self.object.get(name)
    }

    fn typed<T>(
        &mut self,
        name: &'static str,
        expected: &str,
        convert: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Option<T> {
        let value = self.value(name)?;
        let converted = convert(value);
        if converted.is_none() {
            self.problem(name, format!("must be {expected}, not {}", type_name(value)));
        }
        converted
    }

    /// A text without NUL.
    pub fn text(&mut self, name: &'static str) -> Option<&'a str> {
        let text = self.typed(name, "a text", Value::as_str)?;
        if text.contains('\0') {
            self.problem(name, "holds a NUL character; remove it");
            return None;
        }
        Some(text)
    }

    /// A text of at most `chars_max` characters.
    pub fn text_chars(&mut self, name: &'static str, chars_max: usize) -> Option<&'a str> {
        let text = self.text(name)?;
        let chars = text.chars().count();
        if chars > chars_max {
            self.problem(name, format!("has {chars} characters; shorten it to at most {chars_max}"));
            return None;
        }
        Some(text)
    }

    /// A text of at most `bytes_max` bytes.
    pub fn text_bytes(&mut self, name: &'static str, bytes_max: usize) -> Option<&'a str> {
        let text = self.text(name)?;
        if text.len() > bytes_max {
            self.problem(name, format!("has {} bytes; shorten it to at most {bytes_max}", text.len()));
            return None;
        }
        Some(text)
    }

    /// True or false.
    pub fn boolean(&mut self, name: &'static str) -> Option<bool> {
        self.typed(name, "true or false", Value::as_bool)
    }

    /// A whole number within `range`.
    pub fn integer(&mut self, name: &'static str, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
        let number = self.typed(name, "a whole number", Value::as_i64)?;
        if !range.contains(&number) {
            self.problem(name, format!("is {number}; use a number from {} to {}", range.start(), range.end()));
            return None;
        }
        Some(number)
    }

    /// A number within `range`.
    pub fn number(&mut self, name: &'static str, range: std::ops::RangeInclusive<f64>) -> Option<f64> {
        let number = self.typed(name, "a number", Value::as_f64)?;
        if !range.contains(&number) {
            self.problem(name, format!("is {number}; use a number from {} to {}", range.start(), range.end()));
            return None;
        }
        Some(number)
    }

    /// One of the named choices.
    pub fn choice<T: Copy>(&mut self, name: &'static str, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text(name)?;
        let found = choices.iter().find(|(choice, _)| *choice == text);
        if found.is_none() {
            let names: Vec<&str> = choices.iter().map(|(choice, _)| *choice).collect();
            self.problem(name, format!("is {}; use one of: {}", quoted(text), names.join(", ")));
        }
        found.map(|(_, value)| *value)
    }

    /// A list of at most `items_max` values.
    pub fn list(&mut self, name: &'static str, items_max: usize) -> Option<&'a [Value]> {
        let list = self.typed(name, "a list", |v| v.as_array().map(Vec::as_slice))?;
        if list.len() > items_max {
            self.problem(name, format!("has {} items; at most {items_max} are allowed", list.len()));
            return None;
        }
        Some(list)
    }

    /// A list of texts, each of 1 to `chars_max` characters without NUL. A lone text counts as a list of one.
    pub fn texts(&mut self, name: &'static str, items_max: usize, chars_max: usize) -> Option<Vec<&'a str>> {
        if let Some(Value::String(text)) = self.object.get(name) {
            self.known.push(name);
            return self.check_item(name, None, text, chars_max).map(|text| vec![text]);
        }
        let list = self.list(name, items_max)?;
        let mut texts = Vec::with_capacity(list.len());
        for (i, item) in list.iter().enumerate() {
            match item {
                Value::String(text) => texts.extend(self.check_item(name, Some(i), text, chars_max)),
                other => {
                    let at = format!("{name}[{i}]");
                    self.problem(&at, format!("must be a text, not {}", type_name(other)));
                }
            }
        }
        (texts.len() == list.len()).then_some(texts)
    }

    fn check_item(&mut self, name: &str, index: Option<usize>, text: &'a str, chars_max: usize) -> Option<&'a str> {
        let chars = text.chars().count();
        let message = if text.trim().is_empty() {
            "is empty; leave it out or give it a value".to_owned()
        } else if chars > chars_max {
            format!("has {chars} characters; shorten it to at most {chars_max}")
        } else if text.contains('\0') {
            "holds a NUL character; remove it".to_owned()
        } else {
            return Some(text);
        };
        let at = index.map_or_else(|| name.to_owned(), |i| format!("{name}[{i}]"));
        self.problem(&at, message);
        None
    }

    /// Makes a problem of each field that nobody asked for, and names the nearest known one.
    pub fn finish(self) {
        for name in self.object.keys() {
            if self.known.contains(&name.as_str()) {
                continue;
            }
            let mut message = format!("is not a field here{}", did_you_mean(name, self.known.iter().copied()));
            if !message.ends_with('?') {
                let _infallible = write!(message, "; known fields: {}", self.known.join(", "));
            }
            let shown: String = name.chars().take(80).collect();
            let path = if self.path.is_empty() { shown } else { format!("{}.{shown}", self.path) };
            self.problems.push(Problem { path, message });
        }
    }
}

/// `; did you mean "x"?` for the nearest of `candidates`, or nothing when none is near.
#[must_use]
pub fn did_you_mean<'c>(text: &str, candidates: impl Iterator<Item = &'c str>) -> String {
    candidates
        .map(|candidate| (strsim::jaro_winkler(text, candidate), candidate))
        .filter(|(similarity, _)| *similarity > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map_or_else(String::new, |(_, candidate)| format!("; did you mean {candidate:?}?"))
}

/// A text in quotes, cut to a length that fits an error message.
#[must_use]
pub fn quoted(text: &str) -> String {
    const SHOWN: usize = 60;
    let mut short: String = text.chars().take(SHOWN).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("{short:?}")
}

/// The JSON type of a value, for messages.
#[must_use]
pub fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn all_problems_are_reported_at_once_with_their_paths() {
        let value = json!({"name": 1, "tags": ["ok", 2, ""], "enabld": true, "count": 9, "kind": "x"});
        let result = read_object(&value, "agents[0]", |r| {
            let _ = r.text("name");
            let _ = r.texts("tags", 3, 5);
            let _ = r.boolean("enabled");
            let _ = r.integer("count", 0..=8);
            r.choice("kind", &[("pull", ()), ("http", ())])
        });
        let text = result.unwrap_err().to_string();
        for part in [
            "agents[0].name: must be a text, not a number",
            "agents[0].tags[1]: must be a text, not a number",
            "agents[0].tags[2]: is empty",
            "agents[0].enabld: is not a field here; did you mean \"enabled\"?",
            "agents[0].count: is 9; use a number from 0 to 8",
            "agents[0].kind: is \"x\"; use one of: pull, http",
        ] {
            assert!(text.contains(part), "{part} not in {text}");
        }
    }

    #[test]
    fn null_counts_as_absent() {
        let value = json!({"name": null});
        assert_eq!(read_object(&value, "", |r| Some(r.text("name").map(str::to_owned))), Ok(None));
    }
}
