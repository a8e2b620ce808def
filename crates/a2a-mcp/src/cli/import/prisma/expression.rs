//! From expressions of the older system, which read variables of JavaScript, to ours.

use std::collections::HashMap;

use serde_json::Value;

/// What the result of a step was called: its name and this.
const RESULT: &str = "_result";

/// The names of steps here, by what they were called there.
pub(super) type StepNames = HashMap<String, String>;

/// Puts ours in the place of each `{{variable}}` in the texts of a value.
pub(super) fn template(value: Value, steps: &StepNames) -> Value {
    match value {
        Value::String(text) => Value::String(text_template(&text, steps)),
        Value::Array(items) => items.into_iter().map(|item| template(item, steps)).collect(),
        Value::Object(fields) => {
            Value::Object(fields.into_iter().map(|(name, item)| (name, template(item, steps))).collect())
        }
        other => other,
    }
}

fn text_template(text: &str, steps: &StepNames) -> String {
    let mut new = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, (inner, after))) =
        rest.split_once("{{").and_then(|(before, open)| Some((before, open.split_once("}}")?)))
    {
        new.push_str(before);
        // What was no variable stood for itself there; here it is told as what it is, an expression that is wrong.
        new.push_str(&format!("{{{{ {} }}}}", condition(inner.trim(), steps)));
        rest = after;
    }
    new.push_str(rest);
    new
}

/// Translates a condition. What can't be said here stays as it is, and is told when the workflow is checked.
pub(super) fn condition(text: &str, steps: &StepNames) -> String {
    let mut new = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$');
        let length = if is_word(first) {
            rest.find(|c: char| !is_word(c)).unwrap_or(rest.len())
        } else if matches!(first, '\'' | '"') {
            end_of_text(rest, first)
        } else {
            let signs = ["===", "!==", "!=", "&&", "||"];
            signs.iter().find(|sign| rest.starts_with(**sign)).map_or(first.len_utf8(), |sign| sign.len())
        };
        let (token, after) = rest.split_at(length);
        match token {
            "===" => new.push_str("=="),
            "!==" => new.push_str("!="),
            "&&" => new.push_str("and"),
            "||" => new.push_str("or"),
            "!" => new.push_str("not "),
            "undefined" => new.push_str("none"),
            token if is_word(first) && !first.is_ascii_digit() && !new.trim_end().ends_with('.') => {
                new.push_str(&variable(token, steps));
            }
            token => new.push_str(token),
        }
        rest = after;
    }
    new
}

fn end_of_text(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

/// A variable: the result of a step, or something of the context. Words of the language, and what reads like our own
/// variables, stay.
fn variable(name: &str, steps: &StepNames) -> String {
    const KEPT: [&str; 11] = ["true", "false", "null", "none", "and", "or", "not", "in", "is", "context", "steps"];
    if KEPT.contains(&name) {
        return name.to_owned();
    }
    match name.strip_suffix(RESULT).and_then(|step| steps.get(step)) {
        Some(step) => format!("steps.{step}.output"),
        None => format!("context.{name}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn variables_become_ours() {
        let steps =
            StepNames::from_iter([("Fetch Data".to_owned(), "Fetch_Data".to_owned()), ("a".into(), "a".into())]);
        for (old, new) in [
            ("a_result.success === true && !(tries > 3)", "steps.a.output.success == true and not (context.tries > 3)"),
            (
                "mode !== 'a === b' || x.a_result == undefined",
                "context.mode != 'a === b' or context.x.a_result == none",
            ),
            ("b_result.ok", "context.b_result.ok"),
            ("context.urgent != \"it's \\\" so\"", "context.urgent != \"it's \\\" so\""),
            ("1e3 < größe", "1e3 < context.größe"),
            ("'open", "'open"),
        ] {
            assert_eq!(condition(old, &steps), new);
        }
        let input = json!({"a": ["{{task}}: {{ a_result.data }}!", 1], "b": {"c": "{{"}});
        let expected = json!({"a": ["{{ context.task }}: {{ steps.a.output.data }}!", 1], "b": {"c": "{{"}});
        assert_eq!(template(input, &steps), expected);
    }
}
