//! A JSON document kept as its canonical text.

use std::fmt;
use std::sync::Arc;

use serde::ser::Error as _;
use serde::{Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

/// Compact JSON with sorted keys. Cheap to clone and to compare; equal documents have equal text, so that
/// the registry can share them. As text it takes a fraction of the memory of a parsed value.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct JsonText(Arc<str>);

impl JsonText {
    /// Writes a value as canonical text.
    #[must_use]
    pub fn new(value: &Value) -> Self {
        // A map of serde_json is sorted by key, so that printing it is canonical.
        Self(value.to_string().into())
    }

    /// Wraps text that the database holds, which [`JsonText::new`] wrote.
    #[must_use]
    pub fn from_stored(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// An empty object.
    #[must_use]
    pub fn empty_object() -> Self {
        Self("{}".into())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The shared text itself.
    #[must_use]
    pub fn as_arc(&self) -> &Arc<str> {
        &self.0
    }

    /// The parsed value.
    ///
    /// # Errors
    /// When the stored text is not JSON, which means that something else wrote it.
    pub fn value(&self) -> Result<Value, serde_json::Error> {
        serde_json::from_str(&self.0)
    }
}

impl fmt::Debug for JsonText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for JsonText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serde_json::from_str::<&RawValue>(&self.0).map_err(S::Error::custom)?.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn text_is_canonical_and_embeds_as_json() {
        let text = JsonText::new(&json!({"b": 1, "a": [1.0, "x"]}));
        assert_eq!(text.as_str(), r#"{"a":[1.0,"x"],"b":1}"#);
        assert_eq!(serde_json::to_string(&json!({"doc": text})).unwrap(), r#"{"doc":{"a":[1.0,"x"],"b":1}}"#);
    }
}
