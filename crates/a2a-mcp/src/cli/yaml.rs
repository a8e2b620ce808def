//! Writes documents as YAML that people read easily and that can be deployed again.

use serde_json::{Map, Value};

use super::output::{push_escape, steers_terminal};

/// The order in which people expect the fields of an agent; what is not named follows by name.
const AGENT_FIELDS: [&str; 13] = [
    "id",
    "namespace",
    "name",
    "version",
    "description",
    "category",
    "tags",
    "enabled",
    "deprecated",
    "instructions",
    "capabilities",
    "executor",
    "config",
];
const CAPABILITY_FIELDS: [&str; 5] = ["name", "description", "input_schema", "output_schema", "example_queries"];

const WORKFLOW_FIELDS: [&str; 9] =
    ["id", "namespace", "name", "description", "context", "timeout_s", "max_parallel", "steps", "result"];
const STEP_FIELDS: [&str; 10] =
    ["name", "agent", "capability", "depends_on", "run_if", "skip_if", "input", "retry", "timeout_s", "on_failure"];

const MEMORY_FIELDS: [&str; 16] = [
    "namespace",
    "type",
    "content",
    "key",
    "tags",
    "importance",
    "decay",
    "expires_at",
    "agent",
    "user",
    "session",
    "run",
    "step",
    "supersedes",
    "relations",
    "data",
];

/// Writes one memory document.
pub(crate) fn memory(document: &Map<String, Value>) -> String {
    let mut text = String::new();
    ordered(document, &MEMORY_FIELDS).into_iter().for_each(|(key, value)| entry(&mut text, key, value, 0));
    text
}

/// Writes one agent document.
pub(crate) fn agent(document: &Map<String, Value>) -> String {
    let mut text = String::new();
    for (key, value) in ordered(document, &AGENT_FIELDS) {
        match (key, value) {
            ("capabilities", Value::Array(items)) if !items.is_empty() => {
                text.push_str("capabilities:\n");
                items.iter().for_each(|item| item_of(&mut text, item, 2, &CAPABILITY_FIELDS));
            }
            _ => entry(&mut text, key, value, 0),
        }
    }
    text
}

/// Writes one workflow document, without what is the default anyway.
pub(crate) fn workflow(document: &Map<String, Value>) -> String {
    let mut text = String::new();
    for (key, value) in ordered(document, &WORKFLOW_FIELDS) {
        match (key, value) {
            ("context", Value::Object(fields)) if fields.is_empty() => {}
            ("steps", Value::Array(items)) => {
                text.push_str("steps:\n");
                items.iter().for_each(|item| item_of(&mut text, &plain_step(item), 2, &STEP_FIELDS));
            }
            _ => entry(&mut text, key, value, 0),
        }
    }
    text
}

/// A step as people write it: dependencies that say nothing more by their names.
fn plain_step(step: &Value) -> Value {
    let mut step = step.clone();
    let Some(fields) = step.as_object_mut() else { return step };
    if let Some(Value::Array(dependencies)) = fields.get_mut("depends_on") {
        for dependency in dependencies {
            if let Some(name) = dependency.get("step").filter(|_| dependency.get("required").is_none()) {
                *dependency = name.clone();
            }
        }
    }
    if fields.get("on_failure").is_some_and(|value| value == "fail") {
        fields.remove("on_failure");
    }
    step
}

fn ordered<'m>(map: &'m Map<String, Value>, order: &[&str]) -> Vec<(&'m str, &'m Value)> {
    let mut entries: Vec<(&str, &Value)> = map.iter().map(|(key, value)| (key.as_str(), value)).collect();
    entries.sort_by_key(|(key, _)| (order.iter().position(|named| named == key).unwrap_or(order.len()), *key));
    entries
}

/// `key: value`, at an indentation that is already there when `text` ends in `- `.
fn entry(text: &mut String, key: &str, value: &Value, indent: usize) {
    if !text.ends_with("- ") {
        text.push_str(&" ".repeat(indent));
    }
    text.push_str(&scalar_text(key));
    text.push(':');
    match value {
        Value::Object(map) if !map.is_empty() => {
            text.push('\n');
            ordered(map, &[]).into_iter().for_each(|(key, value)| entry(text, key, value, indent + 2));
        }
        Value::Array(items) if !items.is_empty() => {
            if let Some(line) = flow(items) {
                text.push(' ');
                text.push_str(&line);
                text.push('\n');
                return;
            }
            text.push('\n');
            items.iter().for_each(|item| item_of(text, item, indent + 2, &[]));
        }
        Value::String(string) if is_block(string) => block(text, string, indent + 2),
        other => {
            text.push(' ');
            text.push_str(&leaf(other));
            text.push('\n');
        }
    }
}

/// `- value`.
fn item_of(text: &mut String, item: &Value, indent: usize, order: &[&str]) {
    text.push_str(&" ".repeat(indent));
    text.push_str("- ");
    match item {
        Value::Object(map) if !map.is_empty() => {
            ordered(map, order).into_iter().for_each(|(key, value)| entry(text, key, value, indent + 2));
        }
        // A list in a list is rare and short, and JSON is YAML.
        Value::Array(_) => {
            text.push_str(&escaped(&item.to_string()));
            text.push('\n');
        }
        other => {
            text.push_str(&leaf(other));
            text.push('\n');
        }
    }
}

/// A short list of words in one line.
fn flow(items: &[Value]) -> Option<String> {
    const CHARS_MAX: usize = 80;
    let words: Vec<String> = items
        .iter()
        .map(|item| match item {
            Value::String(text) if text.contains([',', '[', ']', '{', '}']) => None,
            Value::String(text) => Some(scalar_text(text)),
            Value::Array(_) | Value::Object(_) => None,
            other => Some(other.to_string()),
        })
        .collect::<Option<_>>()?;
    let line = format!("[{}]", words.join(", "));
    (line.len() <= CHARS_MAX).then_some(line)
}

fn leaf(value: &Value) -> String {
    match value {
        Value::String(text) => scalar_text(text),
        other => escaped(&other.to_string()),
    }
}

/// A text without quotation marks where no YAML reader can take it for something else, and in them otherwise.
fn scalar_text(text: &str) -> String {
    let begins_plainly = text.starts_with(|c: char| c.is_alphabetic());
    let ends_plainly = !text.ends_with([' ', ':']);
    let is_plain = text.chars().all(|c| c.is_alphanumeric() || " -_./()?!'+%;=,".contains(c) || (c == ':'));
    let is_safe = !text.contains(": ") && !text.contains(" #");
    // Words that some readers take for a truth value, nothing, or a number.
    const WORDS: [&str; 13] =
        ["true", "false", "yes", "no", "on", "off", "null", "y", "n", "nan", "inf", "infinity", "none"];
    let is_word = WORDS.iter().any(|word| text.eq_ignore_ascii_case(word));
    if begins_plainly && ends_plainly && is_plain && is_safe && !is_word {
        return text.to_owned();
    }
    escaped(&Value::from(text).to_string())
}

/// JSON strings are YAML strings; what steers a terminal is written by its number.
fn escaped(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if steers_terminal(c) { push_escape(&mut text, c) } else { text.push(c) }
    }
    text
}

/// Whether a text of several lines can stand as it is.
fn is_block(text: &str) -> bool {
    text.contains('\n')
        && !text.starts_with([' ', '\n', '\t'])
        && !text.contains(" \n")
        && !text.ends_with(' ')
        && text.chars().all(|c| c == '\n' || !steers_terminal(c))
}

fn block(text: &mut String, string: &str, indent: usize) {
    let body = string.trim_end_matches('\n');
    // How the end of the text is told: no line end, one, or all that are there.
    text.push_str(match string.len() - body.len() {
        0 => " |-\n",
        1 => " |\n",
        _ => " |+\n",
    });
    for line in body.split('\n') {
        if !line.is_empty() {
            text.push_str(&" ".repeat(indent));
            text.push_str(line);
        }
        text.push('\n');
    }
    let more = (string.len() - body.len()).saturating_sub(1);
    text.push_str(&"\n".repeat(more));
}

#[cfg(test)]
pub(super) mod tests {
    use a2a_core::ids::Namespace;
    use a2a_core::workflow::definition::WorkflowSpec;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::cli::{documents, export, output};

    pub(in crate::cli) fn read_back(text: &str) -> Value {
        let mut documents = documents::parse_yaml(text.as_bytes()).unwrap_or_else(|error| panic!("{error}\n{text}"));
        documents.pop().unwrap()
    }

    #[test]
    fn a_document_is_written_for_people() {
        let document = json!({
            "id": "a", "description": "Reviews: all of it", "instructions": "One.\n\n  Two.\n",
            "tags": ["x", "no"], "enabled": true, "config": {},
            "capabilities": [{"name": "run", "input_schema": {"type": "object"}}],
        });
        let text = agent(document.as_object().unwrap());
        assert_eq!(
            text,
            "id: a\ndescription: \"Reviews: all of it\"\ntags: [x, \"no\"]\nenabled: true\ninstructions: |\n  One.\n\n    \
             Two.\ncapabilities:\n  - name: run\n    input_schema:\n      type: object\nconfig: {}\n"
        );
        assert_eq!(read_back(&text), document);
    }

    pub(in crate::cli) fn any_text() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-z]{0,8}",
            "[ -~]{0,20}",
            "[a-z #:|>\\-\n\t\"']{0,30}",
            "[^\u{0}]{0,12}",
            Just("yes".to_owned()),
            Just("0x1f".to_owned()),
            Just("1e3".to_owned()),
            Just("~".to_owned()),
            Just("two\n\n\n".to_owned()),
            Just("2024-01-01".to_owned()),
        ]
    }

    /// Any JSON object.
    pub(in crate::cli) fn any_object() -> impl Strategy<Value = Value> {
        prop::collection::btree_map(any_text(), any_json(), 0..4)
            .prop_map(|entries| Value::Object(entries.into_iter().collect()))
    }

    pub(in crate::cli) fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_filter("finite", |number| number.is_finite()).prop_map(Value::from),
            any_text().prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(any_text(), inner, 0..6)
                    .prop_map(|entries| Value::Object(entries.into_iter().collect())),
            ]
        })
    }

    /// A text that says something.
    pub(in crate::cli) fn any_words() -> impl Strategy<Value = String> {
        any_text().prop_map(|text| format!("{}x", text.replace('\0', "")))
    }

    /// What `import json` and `import yaml` read of an exported document.
    pub(in crate::cli) fn exported(document: &Map<String, Value>, yaml: &str) -> [Value; 2] {
        let mut json = String::new();
        output::push_json(&mut json, &serde_json::to_string_pretty(document).unwrap());
        [documents::parse_json(json.as_bytes()).unwrap().pop().unwrap(), read_back(yaml)]
    }

    prop_compose! {
        fn any_step()(
            capability in prop::option::of(any_words()),
            input in any_json(),
            depends_on in prop::option::of(any::<bool>()),
            conditions in prop::array::uniform2(prop::option::of(any_words())),
            retry in prop::option::of((1..100u16, 0..1_000u32)),
            timeout_s in prop::option::of(1..10_000u32),
            on_failure in prop::option::of(prop_oneof![
                Just(json!("fail")), Just(json!("continue")), Just(json!({"compensate": "step-0"}))
            ]),
        ) -> Value {
            let [run_if, skip_if] = conditions;
            json!({
                "agent": "no", "capability": capability, "input": input, "run_if": run_if, "skip_if": skip_if,
                "depends_on": depends_on.map(|required| json!([{"step": "step-0", "required": required}])),
                "retry": retry.map(|(max_attempts, backoff_ms)| json!({"max_attempts": max_attempts, "backoff_ms": backoff_ms})),
                "timeout_s": timeout_s, "on_failure": on_failure,
            })
        }
    }

    prop_compose! {
        fn any_workflow()(
            name in any_words(),
            description in any_text(),
            context in any_object(),
            steps in prop::collection::vec(any_step(), 1..4),
            result in prop::option::of(any_json()),
            numbers in prop::option::of((1..10_000u32, 1..500u16)),
        ) -> Value {
            let named = steps.into_iter().enumerate().map(|(n, mut step)| {
                step["name"] = json!(format!("step-{n}"));
                step.as_object_mut().unwrap().retain(|_, value| !value.is_null());
                step
            });
            let mut document = json!({
                "id": "on", "name": name, "description": description, "context": context,
                "steps": named.collect::<Vec<_>>(),
            });
            let fields = document.as_object_mut().unwrap();
            fields.extend(result.filter(|result| !result.is_null()).map(|result| ("result".to_owned(), result)));
            if let Some((timeout_s, max_parallel)) = numbers {
                fields.insert("timeout_s".to_owned(), json!(timeout_s));
                fields.insert("max_parallel".to_owned(), json!(max_parallel));
            }
            document
        }
    }

    proptest! {
        #[test]
        fn an_exported_workflow_reads_back_the_same(document in any_workflow()) {
            let read = |document: &Value| WorkflowSpec::from_document(document, "", &Namespace::default());
            // What no document may hold is none of this.
            let Ok(spec) = read(&document) else { return Err(TestCaseError::reject("not valid")) };
            let written = export::documents::document(&spec).unwrap();
            for document in exported(&written, &workflow(&written)) {
                let back = read(&document).unwrap_or_else(|problems| panic!("{problems}\n{document:#}"));
                prop_assert_eq!(&back, &spec);
            }
        }

        #[test]
        fn what_is_written_reads_back_the_same(config in any_json(), text in any_text(), name in any_text()) {
            let document = json!({
                "id": "a", "instructions": text, "config": {"value": config},
                "capabilities": [{"name": name, "input_schema": config}],
            });
            let written = agent(document.as_object().unwrap());
            prop_assert_eq!(read_back(&written), document, "{}", written);
            prop_assert!(!written.chars().any(|c| steers_terminal(c) && c != '\n'));
        }
    }
}
