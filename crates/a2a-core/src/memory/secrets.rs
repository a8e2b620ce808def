//! Finds what looks like a secret, so that it is refused or cut out before anything keeps it.
//!
//! Four kinds of finds: tokens that begin as a known issuer's do, private keys, passwords inside URLs, and values that are
//! assigned to a name such as `api_key` or that are too random for words, names, hashes and ids.

#[cfg(test)]
mod corpus;
mod formats;
mod random;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Range;

use serde_json::Value;

use super::MemorySpec;
use crate::error::{Problem, Problems};
use crate::json_text::JsonText;

/// Something that looks like a secret. It does not hold the secret, so that it can be told and logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// What it looks like, such as `GitHub token`.
    pub kind: &'static str,
    /// Where it is, in bytes of the text.
    pub range: Range<usize>,
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind)
    }
}

/// Everything in a text that looks like a secret, in order, without overlaps.
#[must_use]
pub fn find(text: &str) -> Vec<Secret> {
    let mut found = formats::private_keys(text);
    found.extend(formats::url_passwords(text));
    for run in runs(text) {
        let Some(token) = text.get(run.clone()) else { continue };
        if let Some((kind, inner)) = formats::known_token(token) {
            found.push(Secret { kind, range: run.start + inner.start..run.start + inner.end });
        } else if random::is_assigned_secret(text, &run) {
            found.push(Secret { kind: "value of a secret", range: run });
        } else if random::is_random(token) {
            found.push(Secret { kind: "random token", range: run });
        }
    }
    // Of overlapping finds the first one that was begun says more: a whole key and not a line of it.
    found.sort_by(|a, b| a.range.start.cmp(&b.range.start).then(b.range.end.cmp(&a.range.end)));
    let mut end = 0;
    found.retain(|secret| {
        let apart = secret.range.start >= end;
        if apart {
            end = secret.range.end;
        }
        apart
    });
    found
}

/// The text with `[redacted: kind]` in place of each secret; `None` when there is none.
#[must_use]
pub fn redacted(text: &str) -> Option<String> {
    let found = find(text);
    if found.is_empty() {
        return None;
    }
    let mut clean = String::with_capacity(text.len());
    let mut at = 0;
    for secret in found {
        clean.push_str(text.get(at..secret.range.start).unwrap_or_default());
        clean.push_str("[redacted: ");
        clean.push_str(secret.kind);
        clean.push(']');
        at = secret.range.end;
    }
    clean.push_str(text.get(at..).unwrap_or_default());
    Some(clean)
}

impl MemorySpec {
    /// Refuses a document in which anything looks like a secret. `path` is where it stands in the caller's input.
    ///
    /// # Errors
    /// A problem for each secret, which says where it is and what it looks like and never the secret itself.
    pub fn refuse_secrets(&self, path: &str) -> Result<(), Problems> {
        let mut problems = Vec::new();
        self.each_text(&mut |field, text| {
            for secret in find(text) {
                let line = text.get(..secret.range.start).unwrap_or_default().matches('\n').count() + 1;
                problems.push(Problem {
                    path: if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") },
                    message: format!(
                        "holds what looks like a secret ({secret}, line {line}); store where it is kept and not the \
                         secret, or set `redact` to store the text without it"
                    ),
                });
            }
        });
        if problems.is_empty() { Ok(()) } else { Err(Problems(problems)) }
    }

    /// Cuts whatever looks like a secret out of every text, and tells how many there were.
    pub fn redact_secrets(&mut self) -> usize {
        let mut count = 0;
        self.each_text(&mut |_, text| count += find(text).len());
        if count == 0 {
            return 0;
        }
        if let Some(clean) = redacted(&self.content) {
            self.content = clean.into();
        }
        for text in self.tags.iter_mut().chain(&mut self.key).chain(&mut self.session).chain(&mut self.user) {
            if let Some(clean) = redacted(text) {
                *text = clean.into();
            }
        }
        for relation in &mut self.relations {
            if let Some(clean) = redacted(&relation.kind) {
                relation.kind = clean.into();
            }
        }
        if let Some(Ok(mut value)) = self.data.as_ref().map(JsonText::value) {
            redact_value(&mut value);
            self.data = Some(JsonText::new(&value));
        }
        count
    }

    fn each_text(&self, see: &mut impl FnMut(&str, &str)) {
        see("content", &self.content);
        for tag in &self.tags {
            see("tags", tag);
        }
        for (field, text) in [("key", &self.key), ("session", &self.session), ("user", &self.user)] {
            if let Some(text) = text {
                see(field, text);
            }
        }
        for relation in &self.relations {
            see("relations", &relation.kind);
        }
        if let Some(Ok(value)) = self.data.as_ref().map(JsonText::value) {
            each_text_of(&value, "data", see);
        }
    }
}

/// Each text of a JSON value. A text under a key is seen as `key: "text"`, because the key may say that it is a secret.
fn each_text_of(value: &Value, path: &str, see: &mut impl FnMut(&str, &str)) {
    match value {
        Value::String(text) => see(path, text),
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                each_text_of(item, &format!("{path}[{i}]"), see);
            }
        }
        Value::Object(map) => {
            for (key, item) in map {
                see(path, key);
                match item {
                    Value::String(text) => see(&format!("{path}.{key}"), &assignment(key, text)),
                    other => each_text_of(other, &format!("{path}.{key}"), see),
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn assignment(key: &str, text: &str) -> String {
    format!("{key}: {text}")
}

fn redact_value(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Some(clean) = redacted(text) {
                *text = clean;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(redact_value),
        Value::Object(map) => {
            for (key, mut item) in std::mem::take(map) {
                if let Value::String(text) = &mut item {
                    let prefix = assignment(&key, "");
                    if let Some(clean) = redacted(&assignment(&key, text)) {
                        *text = clean.strip_prefix(prefix.as_str()).unwrap_or("[redacted]").to_owned();
                    }
                } else {
                    redact_value(&mut item);
                }
                map.insert(redacted(&key).unwrap_or(key), item);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The runs of characters that tokens are made of.
fn runs(text: &str) -> impl Iterator<Item = Range<usize>> + '_ {
    let bytes = text.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        while bytes.get(at).is_some_and(|b| !is_token_byte(*b)) {
            at += 1;
        }
        let start = at;
        while bytes.get(at).is_some_and(|b| is_token_byte(*b)) {
            at += 1;
        }
        (at > start).then_some(start..at)
    })
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'_' | b'-' | b'.' | b'+' | b'/' | b'~' | b'=' | b'!' | b'@' | b'%' | b'^' | b'*')
}
