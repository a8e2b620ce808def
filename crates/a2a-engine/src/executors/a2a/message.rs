//! From the input of a step to a message, and from a task or a message to its output.
//!
//! | input or answer | parts of the message |
//! |---|---|
//! | a text | one text part |
//! | an object with `text`, and nothing else but `data` | a text part, and a data part with `data` |
//! | null | a data part with an empty object |
//! | anything else | one data part |
//!
//! The output has `text` (all text parts, a line each), `data` (the value of the only data part, or a list of the values
//! when there are several), `artifacts` when there is more than one of them or one has a file, and `task_id` unless the
//! agent has answered without a task. What is not there has no field.

use a2a_core::limits::STEP_OUTPUT_BYTES_MAX;
use serde_json::{Map, Value, json};

use super::checkpoint::{Checkpoint, Question};
use super::client::{object, text};
use crate::executors::{StepWork, excerpt};

const QUESTION_CHARS_MAX: usize = 4_000;
const ERROR_CHARS_MAX: usize = 1_000;

/// The message with this content, as the checkpoint says where it belongs.
pub(super) fn message(work: &StepWork, content: &Value, checkpoint: &Checkpoint) -> Value {
    let mut metadata = Map::new();
    metadata.insert("idempotency_key".to_owned(), work.idempotency_key().into());
    if let Some(capability) = &work.capability {
        metadata.insert("capability".to_owned(), capability.to_string().into());
    }
    let mut fields = vec![
        ("messageId", json!(checkpoint.message_id)),
        ("role", json!("ROLE_USER")),
        ("parts", parts(content)),
        ("metadata", Value::Object(metadata)),
    ];
    fields.extend(checkpoint.task_id.as_ref().map(|id| ("taskId", json!(id))));
    fields.extend(checkpoint.context_id.as_ref().map(|id| ("contextId", json!(id))));
    object(fields)
}

fn parts(content: &Value) -> Value {
    let data = |value: &Value| json!({"data": value, "mediaType": "application/json"});
    match content {
        Value::String(text) => json!([{"text": text}]),
        Value::Null => json!([data(&json!({}))]),
        Value::Object(fields) => match (fields.get("text"), fields.get("data"), fields.len()) {
            (Some(Value::String(text)), None, 1) => json!([{"text": text}]),
            (Some(Value::String(text)), Some(value), 2) => json!([{"text": text}, data(value)]),
            _ => json!([data(content)]),
        },
        _ => json!([data(content)]),
    }
}

/// The output of a step whose task is completed.
pub(super) fn output_of_task(task: &Value) -> Result<Value, String> {
    let none = Vec::new();
    let artifacts = task.get("artifacts").and_then(Value::as_array).unwrap_or(&none);
    let mut output = Contents::default();
    for artifact in artifacts {
        output.add(artifact);
    }
    if artifacts.is_empty()
        && let Some(message) = task.get("status").and_then(|status| status.get("message"))
    {
        output.add(message);
    }
    let told = artifacts.len() > 1 || !output.files.is_empty();
    let mut fields = output.fields();
    if told {
        fields.push(("artifacts", artifacts.iter().map(compact_artifact).collect()));
    }
    fields.extend(text(task, "id").map(|id| ("task_id", json!(id))));
    limited(object(fields))
}

/// The output of a step that the agent has answered without a task.
pub(super) fn output_of_message(message: &Value) -> Result<Value, String> {
    let mut output = Contents::default();
    output.add(message);
    let files = std::mem::take(&mut output.files);
    let mut fields = output.fields();
    if !files.is_empty() {
        fields.push(("artifacts", json!([{"files": files}])));
    }
    limited(object(fields))
}

fn limited(output: Value) -> Result<Value, String> {
    let bytes = output.to_string().len();
    if bytes > STEP_OUTPUT_BYTES_MAX {
        return Err(format!("the output of the agent has {bytes} bytes; at most {STEP_OUTPUT_BYTES_MAX} are taken"));
    }
    Ok(output)
}

/// What parts hold, by kind.
#[derive(Default)]
struct Contents {
    texts: Vec<String>,
    data: Vec<Value>,
    files: Vec<Value>,
}

impl Contents {
    fn add(&mut self, holder: &Value) {
        for part in holder.get("parts").and_then(Value::as_array).into_iter().flatten() {
            if let Some(text) = part.get("text").and_then(Value::as_str) {
                self.texts.push(text.to_owned());
            } else if let Some(data) = part.get("data") {
                self.data.push(data.clone());
            } else {
                let kept = ["url", "raw", "filename", "mediaType"];
                let kept = kept.into_iter().filter_map(|name| Some((name, text(part, name)?.into())));
                self.files.push(object(kept.collect()));
            }
        }
    }

    fn fields(mut self) -> Vec<(&'static str, Value)> {
        let mut fields = Vec::new();
        if !self.texts.is_empty() {
            fields.push(("text", self.texts.join("\n").into()));
        }
        match self.data.len() {
            0 => {}
            1 => fields.extend(self.data.pop().map(|value| ("data", value))),
            _ => fields.push(("data", self.data.into())),
        }
        fields
    }
}

fn compact_artifact(artifact: &Value) -> Value {
    let mut contents = Contents::default();
    contents.add(artifact);
    let files = std::mem::take(&mut contents.files);
    let mut fields = contents.fields();
    if !files.is_empty() {
        fields.push(("files", files.into()));
    }
    for (name, field) in [("id", "artifactId"), ("name", "name"), ("description", "description")] {
        fields.extend(text(artifact, field).map(|value| (name, json!(value))));
    }
    object(fields)
}

/// What the agent asks, in words.
pub(super) fn question(task: &Value) -> String {
    let said = said(task, QUESTION_CHARS_MAX);
    if said.is_empty() { "the agent needs more input, and does not say which".to_owned() } else { said }
}

/// Which question it is.
pub(super) fn question_of(task: &Value) -> Question {
    let status = task.get("status").unwrap_or(&Value::Null);
    Question {
        message_id: status.get("message").and_then(|message| text(message, "messageId")).map(str::to_owned),
        timestamp: text(status, "timestamp").map(str::to_owned),
    }
}

/// What the agent says about the state of the task, as the end of a sentence.
pub(super) fn explanation(task: &Value) -> String {
    let said = said(task, ERROR_CHARS_MAX);
    if said.is_empty() { String::new() } else { format!(": {said}") }
}

/// What the agent says about the state of the task.
fn said(task: &Value, chars_max: usize) -> String {
    let mut contents = Contents::default();
    if let Some(message) = task.get("status").and_then(|status| status.get("message")) {
        contents.add(message);
    }
    let data = contents.data.iter().map(Value::to_string);
    let texts: Vec<String> = contents.texts.iter().cloned().chain(data).collect();
    excerpt(texts.join(" ").as_bytes(), chars_max)
}

/// What the agent says about its work, and how far it is if it says so.
pub(super) fn progress(task: &Value) -> Option<String> {
    let said = said(task, ERROR_CHARS_MAX);
    (!said.is_empty()).then_some(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_become_parts_as_the_table_says() {
        let data = |value: Value| json!({"data": value, "mediaType": "application/json"});
        for (input, expected) in [
            (json!("hello"), json!([{"text": "hello"}])),
            (json!({"text": "hello"}), json!([{"text": "hello"}])),
            (json!({"text": "hello", "data": [1]}), json!([{"text": "hello"}, data(json!([1]))])),
            (json!({"text": "hello", "n": 1}), json!([data(json!({"text": "hello", "n": 1}))])),
            (json!({"text": 5}), json!([data(json!({"text": 5}))])),
            (json!(null), json!([data(json!({}))])),
            (json!([1, 2]), json!([data(json!([1, 2]))])),
        ] {
            assert_eq!(parts(&input), expected);
        }
    }

    #[test]
    fn an_output_has_what_the_task_has_and_nothing_twice() {
        let task = json!({"id": "t", "status": {"message": {"parts": [{"text": "done"}]}},
            "artifacts": [{"artifactId": "a", "parts": [{"text": "one"}, {"text": "two"}, {"data": {"n": 1}}]}]});
        assert_eq!(output_of_task(&task), Ok(json!({"text": "one\ntwo", "data": {"n": 1}, "task_id": "t"})));
        let without = json!({"id": "t", "status": {"message": {"parts": [{"text": "done"}]}}});
        assert_eq!(output_of_task(&without), Ok(json!({"text": "done", "task_id": "t"})));
        let files = json!({"id": "t", "artifacts": [
            {"artifactId": "a", "name": "first", "parts": [{"data": 1}]},
            {"artifactId": "b", "parts": [{"data": 2}, {"url": "https://x.example/y", "mediaType": "image/png"}]}]});
        let expected = json!({"data": [1, 2], "task_id": "t", "artifacts": [
            {"id": "a", "name": "first", "data": 1},
            {"id": "b", "data": 2, "files": [{"url": "https://x.example/y", "mediaType": "image/png"}]}]});
        assert_eq!(output_of_task(&files), Ok(expected));
        assert_eq!(output_of_message(&json!({"parts": [{"text": "hi"}]})), Ok(json!({"text": "hi"})));
    }

    #[test]
    fn an_output_over_the_limit_is_refused() {
        let output = |bytes: usize| output_of_message(&json!({"parts": [{"text": "x".repeat(bytes)}]}));
        let around = json!({"text": ""}).to_string().len();
        assert!(output(STEP_OUTPUT_BYTES_MAX - around).is_ok());
        assert!(output(STEP_OUTPUT_BYTES_MAX - around + 1).is_err());
    }
}
