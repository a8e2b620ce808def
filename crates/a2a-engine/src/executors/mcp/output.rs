//! From the result of a tool to the output of a step.

use a2a_core::json;
use a2a_core::limits::STEP_OUTPUT_BYTES_MAX;
use rmcp::model::{CallToolResult, ContentBlock};
use serde_json::{Value, json};

use crate::executors::excerpt;

pub(super) const ERROR_CHARS_MAX: usize = 1_000;

/// Whether a JSON-RPC error says that the call itself is wrong, so that it is wrong the next time too.
pub(super) fn is_refusal(code: i32) -> bool {
    /// That a person opens a web page first.
    const URL_ELICITATION_REQUIRED: i32 = -32_042;
    matches!(code, -32_700 | -32_602..=-32_600 | URL_ELICITATION_REQUIRED)
}

/// The output, or what the tool says about its failure.
///
/// # Errors
/// What is wrong with the result.
pub(super) fn of(result: CallToolResult) -> Result<Result<Value, String>, String> {
    let texts: Vec<&str> = result.content.iter().filter_map(text).collect();
    if result.is_error == Some(true) {
        let said = match (&result.structured_content, texts.is_empty()) {
            (Some(structured), true) => structured.to_string(),
            _ => texts.join(" "),
        };
        let said = excerpt(said.as_bytes(), ERROR_CHARS_MAX);
        return Ok(Err(if said.is_empty() { "it does not say why".to_owned() } else { said }));
    }
    let output = match &result.structured_content {
        Some(structured) => structured.clone(),
        None => match &*texts {
            [text] if result.content.len() == 1 => json_of(text)?.unwrap_or_else(|| json!({"text": text})),
            _ if texts.len() == result.content.len() => json!({"text": texts.join("\n")}),
            _ => {
                let content = serde_json::to_value(&result.content)
                    .map_err(|error| format!("content that can't be kept: {error}"))?;
                if texts.is_empty() {
                    json!({"content": content})
                } else {
                    json!({"text": texts.join("\n"), "content": content})
                }
            }
        },
    };
    checked(&output)?;
    Ok(Ok(output))
}

fn text(content: &ContentBlock) -> Option<&str> {
    match content {
        ContentBlock::Text(text) => Some(&text.text),
        _ => None,
    }
}

/// A text that is a JSON document. A number or a word stays text, because it is not clear what was meant.
fn json_of(text: &str) -> Result<Option<Value>, String> {
    if !text.trim_start().starts_with(['{', '[']) || text.len() > STEP_OUTPUT_BYTES_MAX {
        return Ok(None);
    }
    match json::parse_strict(text.as_bytes()) {
        Ok(value) => Ok(Some(value)),
        Err(json::JsonProblem::Refused(problem)) => Err(format!("JSON that can't be kept: {problem}")),
        Err(json::JsonProblem::Syntax { .. }) => Ok(None),
    }
}

fn checked(output: &Value) -> Result<(), String> {
    let bytes = output.to_string();
    if bytes.len() > STEP_OUTPUT_BYTES_MAX {
        return Err(format!("{} bytes; at most {STEP_OUTPUT_BYTES_MAX} are taken", bytes.len()));
    }
    // What came over the wire was not read strictly.
    json::parse_strict(bytes.as_bytes()).map_err(|problem| format!("content that can't be kept: {problem}"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(value: Value) -> Result<Result<Value, String>, String> {
        of(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn results_become_outputs_as_the_table_says() {
        let text = |text: &str| json!({"type": "text", "text": text});
        let image = json!({"type": "image", "data": "AA==", "mimeType": "image/png"});
        for (given, output) in [
            (json!({"content": [text("x")], "structuredContent": {"n": 1}}), json!({"n": 1})),
            (json!({"content": [text(" {\"n\": 1} ")]}), json!({"n": 1})),
            (json!({"content": [text("[1]")]}), json!([1])),
            (json!({"content": [text("{no")]}), json!({"text": "{no"})),
            (json!({"content": [text("5")]}), json!({"text": "5"})),
            (json!({"content": [text("a"), text("b")]}), json!({"text": "a\nb"})),
            (json!({"content": []}), json!({"text": ""})),
            (
                json!({"content": [text("a"), image.clone()]}),
                json!({"text": "a", "content": [text("a"), image.clone()]}),
            ),
            (json!({"content": [image.clone()]}), json!({"content": [image]})),
        ] {
            assert_eq!(result(given), Ok(Ok(output)));
        }
    }

    #[test]
    fn errors_say_what_the_tool_said() {
        let said = |value: Value| result(value).unwrap().unwrap_err();
        assert_eq!(said(json!({"content": [{"type": "text", "text": "no\nfile"}], "isError": true})), "no file");
        assert_eq!(said(json!({"content": [], "structuredContent": {"code": 5}, "isError": true})), r#"{"code":5}"#);
        assert_eq!(said(json!({"content": [], "isError": true})), "it does not say why");
    }

    #[test]
    fn what_can_not_be_kept_is_refused() {
        let long = "x".repeat(STEP_OUTPUT_BYTES_MAX);
        assert!(result(json!({"content": [{"type": "text", "text": long}]})).is_err());
        assert!(result(json!({"content": [], "structuredContent": {"a": "\u{0}"}})).is_err());
        assert!(result(json!({"content": [{"type": "text", "text": "{\"a\":1,\"a\":2}"}]})).is_err());
    }
}
