//! Strict reading of JSON: what a database cannot hold, or what could mean two things, is refused at the edge.

use std::fmt;

use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::map::Entry;
use serde_json::{Map, Number, Value};

use crate::error::Problem;
use crate::limits::JSON_DEPTH_MAX;

/// Longest part of a key that an error message repeats.
const KEY_CHARS_SHOWN_MAX: usize = 64;

/// Why a document was not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonProblem {
    /// The text is not JSON.
    #[error("{message}")]
    Syntax {
        /// What the parser expected, and where.
        message: String,
    },
    /// The text is JSON, but holds something that is refused.
    #[error("{0}")]
    Refused(Problem),
}

/// Reads one JSON document in one pass.
///
/// # Errors
/// [`JsonProblem::Syntax`] when the bytes are not JSON in UTF-8. [`JsonProblem::Refused`], with the path of the first
/// offending value, for a key that stands twice in one object, nesting deeper than [`JSON_DEPTH_MAX`], the character
/// NUL, half of a surrogate pair, and a number beyond the range of a double.
pub fn parse_strict(bytes: &[u8]) -> Result<Value, JsonProblem> {
    let mut trail = Trail::default();
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let read = Strict { trail: &mut trail, depth: 0 }
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value));
    read.map_err(|error| trail.into_problem(&error))
}

/// What is known about a failure: filled from the innermost value outwards while the error returns, so that a
/// document without failure pays nothing for its paths.
#[derive(Default)]
struct Trail {
    refused: Option<String>,
    segments: Vec<Segment>,
}

enum Segment {
    Key(String),
    Index(usize),
}

impl Trail {
    fn refuse<E: serde::de::Error>(&mut self, message: impl Into<String>) -> E {
        self.refused = Some(message.into());
        E::custom("refused")
    }

    fn into_problem(self, error: &serde_json::Error) -> JsonProblem {
        let path = self.path();
        if let Some(message) = self.refused {
            return JsonProblem::Refused(Problem { path, message });
        }
        // The parser itself stops at these two; it tells them apart from bad syntax by its text only.
        let text = error.to_string();
        if text.starts_with("number out of range") {
            let message =
                "the number is beyond the range of a double (about 1.8e308); send a smaller number, or a string";
            JsonProblem::Refused(Problem { path, message: message.into() })
        } else if text.starts_with("lone leading surrogate") || text.starts_with("unexpected end of hex escape") {
            let message =
                "the string holds half of a surrogate pair (\\uD800-\\uDFFF); send both halves, or leave it out";
            JsonProblem::Refused(Problem { path, message: message.into() })
        } else {
            JsonProblem::Syntax { message: text }
        }
    }

    fn path(&self) -> String {
        let mut path = String::new();
        for segment in self.segments.iter().rev() {
            match segment {
                Segment::Index(index) => path.push_str(&format!("[{index}]")),
                Segment::Key(key) => {
                    let plain =
                        !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '$'));
                    let shown = shortened(key);
                    if !plain {
                        path.push_str(&format!("[{}]", Value::String(shown)));
                    } else {
                        if !path.is_empty() {
                            path.push('.');
                        }
                        path.push_str(&shown);
                    }
                }
            }
        }
        path
    }
}

fn shortened(key: &str) -> String {
    match key.char_indices().nth(KEY_CHARS_SHOWN_MAX) {
        Some((end, _)) => format!("{}…", key.get(..end).unwrap_or_default()),
        None => key.to_owned(),
    }
}

/// Reads one value at a depth of containers above it.
struct Strict<'t> {
    trail: &'t mut Trail,
    depth: usize,
}

impl Strict<'_> {
    fn text_checked<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        if text.as_bytes().contains(&0) {
            return Err(self
                .trail
                .refuse("the string holds the character NUL (\\u0000), which cannot be stored; remove it"));
        }
        Ok(())
    }

    fn deeper<E: serde::de::Error>(&mut self) -> Result<usize, E> {
        if self.depth >= JSON_DEPTH_MAX {
            let message =
                format!("nested deeper than {JSON_DEPTH_MAX} levels; flatten it, or send the inner part as a string");
            return Err(self.trail.refuse(message));
        }
        Ok(self.depth + 1)
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| self.trail.refuse("the number is not finite; send a finite number, or a string"))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        self.text_checked(value)?;
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E: serde::de::Error>(self, value: String) -> Result<Value, E> {
        self.text_checked(&value)?;
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Value, A::Error> {
        let depth = self.deeper()?;
        let mut values = Vec::new();
        loop {
            match items.next_element_seed(Strict { trail: &mut *self.trail, depth }) {
                Ok(Some(value)) => values.push(value),
                Ok(None) => return Ok(Value::Array(values)),
                Err(error) => {
                    self.trail.segments.push(Segment::Index(values.len()));
                    return Err(error);
                }
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<Value, A::Error> {
        let depth = self.deeper()?;
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if key.as_bytes().contains(&0) {
                self.trail.segments.push(Segment::Key(key));
                return Err(self
                    .trail
                    .refuse("the key holds the character NUL (\\u0000), which cannot be stored; remove it"));
            }
            let value = match entries.next_value_seed(Strict { trail: &mut *self.trail, depth }) {
                Ok(value) => value,
                Err(error) => {
                    self.trail.segments.push(Segment::Key(key));
                    return Err(error);
                }
            };
            match map.entry(key) {
                Entry::Vacant(place) => {
                    place.insert(value);
                }
                Entry::Occupied(place) => {
                    self.trail.segments.push(Segment::Key(place.key().clone()));
                    return Err(self.trail.refuse("the key stands twice in this object; send it once"));
                }
            }
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn refused(text: &str) -> Problem {
        match parse_strict(text.as_bytes()) {
            Err(JsonProblem::Refused(problem)) => problem,
            other => panic!("not refused but {other:?}"),
        }
    }

    #[test]
    fn a_key_that_stands_twice_is_refused_with_its_path() {
        let problem = refused(r#"{"params":{"arguments":{"agents":[1,2,3,{"name":"a","name":"b"}]}}}"#);
        assert_eq!(problem.path, "params.arguments.agents[3].name");
        assert!(problem.message.contains("send it once"), "{problem}");
        assert_eq!(refused(r#"{"a":1,"\u0061":2}"#).path, "a");
    }

    #[test]
    fn the_character_nul_is_refused_in_values_and_in_keys() {
        assert_eq!(refused(r#"{"a":["x","y\u0000z"]}"#).path, "a[1]");
        assert_eq!(refused("{\"a\":{\"k\\u0000\":1}}").path, "a[\"k\\u0000\"]");
        assert_eq!(refused(r#""\u0000""#).path, "");
    }

    #[test]
    fn half_of_a_surrogate_pair_is_refused() {
        for text in [
            r#"{"a":"\ud800"}"#,
            r#"{"a":"\ud800x"}"#,
            r#"{"a":"\udc00"}"#,
            r#"{"a":"\ud800\u0041"}"#,
            r#"{"a":"\ud800\n"}"#,
        ] {
            let problem = refused(text);
            assert_eq!(problem.path, "a", "{text}");
            assert!(problem.message.contains("surrogate"), "{text}: {problem}");
        }
        assert_eq!(parse_strict(br#""\ud83d\ude00""#), Ok(json!("😀")));
    }

    #[test]
    fn a_number_beyond_a_double_is_refused() {
        for text in [r#"{"a":[0,1e400000]}"#, r#"{"a":[0,-1e309]}"#] {
            let problem = refused(text);
            assert_eq!(problem.path, "a[1]");
            assert!(problem.message.contains("range"), "{problem}");
        }
        assert_eq!(parse_strict(b"1e308"), Ok(json!(1e308)));
    }

    #[test]
    fn nesting_is_refused_one_level_past_the_limit() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(parse_strict(nested(JSON_DEPTH_MAX - 1).as_bytes()).is_ok());
        assert!(parse_strict(nested(JSON_DEPTH_MAX).as_bytes()).is_ok());
        let problem = refused(&nested(JSON_DEPTH_MAX + 1));
        assert!(problem.message.contains("deeper than 64 levels; flatten"), "{problem}");
        assert!(problem.path.starts_with("[0][0]"), "{problem}");
        // Far past the limit the answer is the same, and the stack is not at risk.
        assert_eq!(refused(&"[".repeat(1_000_000)).message, problem.message);
    }

    #[test]
    fn what_is_not_json_is_a_syntax_problem() {
        for text in ["", "{", "{\"a\":1}x", "nul", "{'a':1}", "[1,]", "\"\u{1}\"", "NaN", "\"a\\u12\""] {
            assert!(matches!(parse_strict(text.as_bytes()), Err(JsonProblem::Syntax { .. })), "{text}");
        }
        assert!(matches!(parse_strict(b"\"\xff\""), Err(JsonProblem::Syntax { .. })));
    }

    #[test]
    fn odd_keys_are_quoted_and_shortened_in_a_path() {
        assert_eq!(refused(r#"{"a b":{"c":"\u0000"}}"#).path, r#"["a b"].c"#);
        let long = "k".repeat(1000);
        assert!(refused(&format!(r#"{{"{long}":"\u0000"}}"#)).path.len() < 100);
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_filter("finite", |number| number.is_finite()).prop_map(Value::from),
            "[^\u{0}]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(6, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                prop::collection::btree_map("[^\u{0}]{0,6}", inner, 0..8)
                    .prop_map(|entries| Value::Object(entries.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn valid_documents_read_as_serde_json_reads_them(document in any_json()) {
            for text in [document.to_string(), serde_json::to_string_pretty(&document).unwrap()] {
                let expected: Value = serde_json::from_str(&text).unwrap();
                prop_assert_eq!(parse_strict(text.as_bytes()), Ok(expected));
            }
        }

        #[test]
        fn damaged_documents_are_never_read_differently(document in any_json(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = document.to_string().into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let plain = serde_json::from_slice::<Value>(&bytes);
            match parse_strict(&bytes) {
                Ok(value) => prop_assert_eq!(value, plain.unwrap()),
                Err(JsonProblem::Syntax { .. }) => prop_assert!(plain.is_err()),
                Err(JsonProblem::Refused(problem)) => prop_assert!(!problem.message.is_empty()),
            }
        }
    }
}
