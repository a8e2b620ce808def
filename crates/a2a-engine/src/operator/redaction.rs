//! Taking the secrets of the operator's file out of texts of others.
//!
//! Whoever gets a secret may say it again: a program prints its environment, a server repeats a header in an error. What
//! others say is kept with the run and shown to models, so every occurrence of a secret in it becomes `[redacted]`.
//!
//! A secret is found as it is, and as it stands in a JSON text, in a URL and inside of base64. A text that was cut has
//! [`CUT`] at the cut, and a part of a secret beside this mark goes too.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use serde_json::{Map, Value};

/// Stands where a text was cut.
pub(crate) const CUT: char = '…';
/// Stands for a secret.
const REDACTED: &str = "[redacted]";
/// A value that is shorter is left alone: it is a word or a number that stands in many texts, which would become
/// unreadable, and which secret it was could be told from that.
const SECRET_BYTES_MIN: usize = 6;
/// A part of a secret at a cut that is shorter helps nobody, and many texts end like the beginning of some secret.
const PART_BYTES_MIN: usize = 4;
/// A text is cut at one or two places; more marks are its own.
const CUTS_MAX: usize = 16;
/// What is left as it is in a URL.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Finds secrets. Cheap to clone.
#[derive(Clone, Default)]
pub struct Redaction {
    /// Absent when there are no secrets.
    search: Option<Arc<Search>>,
}

struct Search {
    /// Every form of every secret.
    forms: Vec<String>,
    automaton: AhoCorasick,
}

impl fmt::Debug for Redaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redaction(…)")
    }
}

impl Redaction {
    /// Looks for these secrets.
    ///
    /// # Errors
    /// When they are too many to be looked for.
    pub(crate) fn new<'s>(secrets: impl IntoIterator<Item = &'s str>) -> Result<Self, String> {
        let forms: BTreeSet<String> = secrets.into_iter().flat_map(forms).collect();
        if forms.is_empty() {
            return Ok(Self::default());
        }
        let forms: Vec<String> = forms.into_iter().collect();
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            // Keys have thousands of bytes; the faster kind would take a kilobyte for each.
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .build(&forms)
            .map_err(|error| format!("has too many secrets: {error}"))?;
        Ok(Self { search: Some(Arc::new(Search { forms, automaton })) })
    }

    /// A text that was not cut.
    #[must_use]
    pub fn whole<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match &self.search {
            Some(search) if search.automaton.is_match(text) => Cow::Owned(search.replaced(text)),
            _ => Cow::Borrowed(text),
        }
    }

    /// A text that may have been cut.
    #[must_use]
    pub fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let whole = self.whole(text);
        match &self.search {
            Some(search) if whole.contains(CUT) => Cow::Owned(search.without_parts(&whole)),
            _ => whole,
        }
    }

    /// All texts in a value, the names of its fields too.
    pub fn value(&self, value: &mut Value) {
        if self.search.is_none() {
            return;
        }
        match value {
            Value::Null | Value::Bool(_) => {}
            Value::Number(number) => {
                if let Cow::Owned(text) = self.whole(&number.to_string()) {
                    *value = Value::String(text);
                }
            }
            Value::String(text) => {
                if let Cow::Owned(without) = self.whole(text) {
                    *text = without;
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.value(item)),
            Value::Object(fields) => {
                fields.values_mut().for_each(|field| self.value(field));
                if fields.keys().any(|name| matches!(self.whole(name), Cow::Owned(_))) {
                    let renamed = std::mem::take(fields).into_iter();
                    *fields =
                        renamed.map(|(name, field)| (self.whole(&name).into_owned(), field)).collect::<Map<_, _>>();
                }
            }
        }
    }
}

impl Search {
    fn replaced(&self, text: &str) -> String {
        let mut replaced = String::with_capacity(text.len());
        self.automaton.replace_all_with(text, &mut replaced, |_, _, to| {
            to.push_str(REDACTED);
            true
        });
        replaced
    }

    /// Takes away what the cuts have left of secrets.
    fn without_parts(&self, text: &str) -> String {
        let mut pieces = text.splitn(CUTS_MAX + 1, CUT).peekable();
        let mut result = String::with_capacity(text.len());
        let mut is_after_cut = false;
        while let Some(piece) = pieces.next() {
            let mut piece = piece;
            if is_after_cut {
                result.push(CUT);
                let rest = self.without_end_of_secret(piece);
                if rest.len() < piece.len() {
                    result.push_str(REDACTED);
                }
                piece = rest;
            }
            is_after_cut = true;
            let rest = if pieces.peek().is_some() { self.without_begin_of_secret(piece) } else { piece };
            result.push_str(rest);
            if rest.len() < piece.len() {
                result.push_str(REDACTED);
            }
        }
        result
    }

    /// `piece` without the longest end of a secret that it begins with.
    fn without_end_of_secret<'p>(&self, piece: &'p str) -> &'p str {
        // A character that was cut in two has become another one.
        let inner = piece.trim_start_matches(char::REPLACEMENT_CHARACTER);
        let ends = |form: &str| {
            let parts = form.char_indices().skip(1).map(|(at, _)| form.get(at..).unwrap_or_default());
            parts.take_while(|part| part.len() >= PART_BYTES_MIN).find(|part| inner.starts_with(part)).map(str::len)
        };
        match self.forms.iter().filter_map(|form| ends(form)).max() {
            Some(length) => inner.get(length..).unwrap_or_default(),
            None => piece,
        }
    }

    /// `piece` without the longest beginning of a secret that it ends with.
    fn without_begin_of_secret<'p>(&self, piece: &'p str) -> &'p str {
        let inner = piece.trim_end_matches(char::REPLACEMENT_CHARACTER);
        let begins = |form: &str| {
            let parts = form.char_indices().rev().map(|(at, _)| form.get(..at).unwrap_or_default());
            parts.take_while(|part| part.len() >= PART_BYTES_MIN).find(|part| inner.ends_with(part)).map(str::len)
        };
        match self.forms.iter().filter_map(|form| begins(form)).max() {
            Some(length) => inner.get(..inner.len() - length).unwrap_or_default(),
            None => piece,
        }
    }
}

/// How a secret may stand in a text.
fn forms(secret: &str) -> Vec<String> {
    let secret = secret.trim();
    if secret.len() < SECRET_BYTES_MIN {
        return Vec::new();
    }
    let percent = percent_encode(secret.as_bytes(), UNRESERVED).to_string();
    let mut forms = vec![secret.to_owned(), json_escaped(secret), lower_case_escapes(&percent), percent];
    // Alone or behind other bytes, such as a user name.
    for before in 0..3 {
        forms.push(inside_base64(&STANDARD_NO_PAD, secret, before));
        forms.push(inside_base64(&URL_SAFE_NO_PAD, secret, before));
    }
    // Keys have several lines, which are said one by one, or made one line.
    forms.extend(secret.lines().map(|line| line.trim().to_owned()));
    forms.push(secret.split_whitespace().collect::<Vec<_>>().join(" "));
    forms.retain(|form| form.len() >= SECRET_BYTES_MIN);
    forms
}

/// As it stands between the quotes of a JSON text.
fn json_escaped(secret: &str) -> String {
    let quoted = Value::from(secret).to_string();
    quoted.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or_default().to_owned()
}

/// The digits of escapes are written in either case.
fn lower_case_escapes(percent: &str) -> String {
    let mut parts = percent.split('%');
    let mut lower = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2).unwrap_or((part, ""));
        lower.push('%');
        lower.push_str(&digits.to_ascii_lowercase());
        lower.push_str(rest);
    }
    lower
}

/// The characters of base64 that a secret alone decides when `before` bytes stand in front of it.
fn inside_base64(engine: &impl base64::Engine, secret: &str, before: usize) -> String {
    let mut bytes = vec![0; before];
    bytes.extend_from_slice(secret.as_bytes());
    let first = (before * 8).div_ceil(6);
    let end = bytes.len() * 8 / 6;
    engine.encode(bytes).get(first..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE};
    use serde_json::json;

    use super::*;

    const SECRET: &str = "p\"a/ss+wörd\\7?";

    fn redaction() -> Redaction {
        Redaction::new([SECRET, "five5", "second-secret"]).unwrap()
    }

    #[test]
    fn a_secret_is_found_in_every_form() {
        let redaction = redaction();
        let json = json!({ "key": SECRET }).to_string();
        for text in [
            format!("it is {SECRET}!"),
            format!("it is {json}!"),
            "it is %3Fp%22a%2Fss%2Bw%C3%B6rd%5C7%3F!".to_owned(),
            "it is %3fp%22a%2fss%2bw%c3%b6rd%5c7%3f!".to_owned(),
            format!("{SECRET}{SECRET}second-secret{SECRET}"),
        ] {
            let without = redaction.text(&text);
            assert!(without.contains(REDACTED) && !without.contains("ss"), "{text}: {without}");
        }
        for before in ["", "u", "us", "user:", "user: "] {
            for engine in [STANDARD, URL_SAFE] {
                let encoded = engine.encode(format!("{before}{SECRET}"));
                let without = redaction.whole(&encoded);
                // The last character may hold bits of nothing else; what is before the secret is nobody's concern.
                assert!(without.contains(REDACTED) && without.len() < before.len() * 2 + 16, "{encoded}: {without}");
            }
        }
    }

    #[test]
    fn what_is_short_and_what_is_no_secret_stays() {
        for text in ["", "five5", "second secret", "nothing …", "… nothing", "seco…", "sec"] {
            let left = if text == "seco…" { "[redacted]…" } else { text };
            assert_eq!(redaction().text(text), left);
        }
        assert_eq!(Redaction::default().text("anything…"), "anything…");
    }

    #[test]
    fn lines_of_a_key_are_found_one_by_one_and_together() {
        let redaction = Redaction::new(["-----BEGIN KEY-----\nline one\r\nline  two\n"]).unwrap();
        for text in ["-----BEGIN KEY-----", "line one", "a line  two b", "-----BEGIN KEY----- line one line two"] {
            let without = redaction.text(text);
            assert!(without.contains(REDACTED) && !without.contains("line") && !without.contains("KEY"), "{without}");
        }
    }

    #[test]
    fn no_part_of_a_secret_is_left_at_a_cut() {
        let redaction = redaction();
        let parts = |text: &str| {
            let has = |part: &[char]| text.contains(&part.iter().collect::<String>());
            SECRET.chars().collect::<Vec<_>>().windows(PART_BYTES_MIN).any(has)
        };
        for (at, _) in SECRET.char_indices() {
            let (begin, end) = SECRET.split_at(at);
            for cut in [format!("it says {begin}{CUT}"), format!("it says {CUT}{end} and more"), format!("{CUT}{end}")]
            {
                let without = redaction.text(&cut);
                assert!(!parts(&without), "{cut}: {without}");
            }
        }
        // A character that was cut in two.
        let bytes = SECRET.as_bytes();
        let at = SECRET.find('ö').unwrap() + 1;
        let end = String::from_utf8_lossy(&bytes[at..]);
        let begin = String::from_utf8_lossy(&bytes[..at]);
        assert!(!parts(&redaction.text(&format!("{CUT}{end}"))));
        assert!(!parts(&redaction.text(&format!("{begin}{CUT}; tried again"))));
    }

    #[test]
    fn values_have_no_secret_in_any_text_or_name() {
        let redaction = Redaction::new(["secret", "1234567"]).unwrap();
        let mut value = json!({"a": ["a secret"], "secret": {"b": 12_345_678}, "c": [null, true, 1.5]});
        redaction.value(&mut value);
        assert_eq!(value, json!({"a": ["a [redacted]"], "[redacted]": {"b": "[redacted]8"}, "c": [null, true, 1.5]}));
    }
}
