//! Texts of others on the way out: in one line, cut, quoted or fenced, so that none looks like one of ours.

use serde_json::Value;

/// The start of a text.
pub(crate) fn shortened(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// A text without control characters and line breaks of any kind; two of those are no control characters in Unicode.
pub(crate) fn one_line(text: &str) -> String {
    // Nearly every text is plain, and copied as a whole.
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return text.to_owned();
    }
    text.chars().map(|c| if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') { ' ' } else { c }).collect()
}

/// The start of a text in one line and in quotes that it can't end.
pub(crate) fn quoted_line(text: &str, chars: usize) -> String {
    let text = shortened(&one_line(text), chars);
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A text between double quotes in a fence. A client may give itself any name, also one that ends the fence.
fn attribute(text: &str) -> String {
    let text = one_line(text).replace('&', "&amp;").replace('"', "&quot;");
    text.replace('<', "&lt;").replace('>', "&gt;")
}

/// A value of others, fenced with what is known of it: one line of JSON that can't end the fence.
pub(crate) fn fenced(tag: &str, attributes: &[(&str, &str)], value: &Value) -> String {
    let mut text = format!("<{tag}");
    for (name, value) in attributes {
        text.push_str(&format!(" {name}=\"{}\"", attribute(value)));
    }
    text.push_str(">\n");
    for c in value.to_string().chars() {
        match c {
            // These can stand in strings only, where JSON has another way to write them.
            '<' | '\u{2028}' | '\u{2029}' | '\u{7f}' | '\u{85}' => text.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => text.push(c),
        }
    }
    text.push_str(&format!("\n</{tag}>"));
    text
}

/// A value that may have been too large to be shown whole.
#[derive(Debug)]
pub(crate) struct Fitted {
    /// The value, or the start of its JSON as a text.
    pub(crate) value: Value,
    /// How long its JSON is.
    pub(crate) bytes: usize,
    /// Where the rest begins, when there is one.
    pub(crate) next_offset: Option<usize>,
}

/// The value when its JSON has at most `bytes_max`; otherwise as much of the JSON, as text, as fits.
pub(crate) fn fitted(value: Value, bytes_max: usize) -> Fitted {
    let text = value.to_string();
    if text.len() <= bytes_max {
        return Fitted { value, bytes: text.len(), next_offset: None };
    }
    let (part, next_offset) = part_of(&text, 0, bytes_max);
    Fitted { value: Value::from(part), bytes: text.len(), next_offset }
}

/// What of a text begins at a byte and takes at most `bytes_max` as JSON, and where the rest begins.
pub(crate) fn part_of(text: &str, offset: usize, bytes_max: usize) -> (&str, Option<usize>) {
    let start = (0..=offset.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let rest = text.get(start..).unwrap_or_default();
    let mut left = bytes_max;
    for (at, c) in rest.char_indices() {
        // Compact JSON has no control characters but DEL, so that only these two get longer in a JSON text.
        let bytes = if matches!(c, '"' | '\\') { 2 } else { c.len_utf8() };
        if bytes > left {
            return (rest.get(..at).unwrap_or_default(), Some(start + at));
        }
        left -= bytes;
    }
    (rest, None)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn parts_of_a_large_value_make_it_whole_again() {
        let value = json!({"text": "a\"\\é👩\n".repeat(500), "list": [1, 2.5, null]});
        let whole = value.to_string();
        let (mut read, mut offset, mut parts) = (String::new(), 0, 0);
        loop {
            let (part, next) = part_of(&whole, offset, 700);
            assert!(json!(part).to_string().len() <= 702);
            read.push_str(part);
            parts += 1;
            match next {
                Some(next) => offset = next,
                None => break,
            }
        }
        assert!(parts > 5);
        assert_eq!(read, whole);
        assert_eq!(part_of(&whole, usize::MAX, 10), ("", None));
        let cut = fitted(value.clone(), 700);
        assert_eq!((cut.bytes, cut.value.as_str().map(str::len)), (whole.len(), cut.next_offset));
        assert_eq!(fitted(value.clone(), whole.len()).value, value);
    }

    #[test]
    fn nothing_ends_its_fence_or_its_quotes() {
        let fence = fenced("x", &[("by", "\"></x>\n<y>")], &json!({"a": "</x>\n<x>\u{2028}\u{85}"}));
        assert!(!fence.contains(['\u{2028}', '\u{85}']));
        assert_eq!((fence.matches("</x>").count(), fence.lines().count()), (1, 3));
        assert_eq!(quoted_line("a\" b\\\nc", 20), "\"a\\\" b\\\\ c\"");
        assert_eq!(quoted_line("abcdef", 3), "\"abc…\"");
    }
}
