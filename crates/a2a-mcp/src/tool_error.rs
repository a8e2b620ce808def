//! What a model sees when a tool call did not succeed: what failed, on what, how to mend it, whether to try again.

use a2a_core::error::Problems;
use a2a_engine::error::HubError;
use rmcp::model::{CallToolResult, ContentBlock};
use serde_json::{Value, json};

/// Most problems that are shown at once; a batch may have thousands.
const PROBLEMS_SHOWN: usize = 20;
/// Longest error text.
const TEXT_CHARS_MAX: usize = 8_000;

/// An error of a tool call.
#[derive(Debug)]
pub(crate) struct ToolError {
    code: &'static str,
    message: String,
    retryable: bool,
    details: Option<Value>,
}

impl ToolError {
    /// Says what can be done, in a line of its own.
    pub(crate) fn with_hint(mut self, hint: &str) -> Self {
        self.message.push('\n');
        self.message.push_str(hint);
        self
    }

    /// The short name of the error.
    pub(crate) fn code(&self) -> &'static str {
        self.code
    }

    /// A tool panicked. The text of the panic is in the log.
    pub(crate) fn internal() -> Self {
        Self {
            code: "internal",
            message: "this call failed inside of the server; other calls are not affected. The server's log has the \
                      reason"
                .to_owned(),
            retryable: false,
            details: None,
        }
    }

    /// The client has cancelled the call; nobody reads this.
    pub(crate) fn cancelled() -> Self {
        Self { code: "cancelled", message: "cancelled by the client".to_owned(), retryable: true, details: None }
    }

    /// Nothing of a batch could be done.
    pub(crate) fn nothing_done(errors: &[(String, HubError)]) -> Self {
        let retryable = errors.iter().all(|(_, error)| error.is_retryable());
        let code = errors.first().map_or("invalid", |(_, error)| error.code());
        let shown: Vec<String> = errors.iter().take(PROBLEMS_SHOWN).map(|(id, e)| item_text(id, e)).collect();
        let more = errors.len().saturating_sub(shown.len());
        let mut message = shown.join("\n");
        if more > 0 {
            message.push_str(&format!("\nand {more} more"));
        }
        Self { code, message, retryable, details: None }
    }

    /// The result that the client gets. It has no structured content, since that must match the schema of a success.
    pub(crate) fn into_result(self) -> CallToolResult {
        let Self { code, message, retryable, details } = self;
        let mut tail = json!({"code": code, "retryable": retryable});
        if let (Some(tail), Some(Value::Object(details))) = (tail.as_object_mut(), details) {
            tail.extend(details);
        }
        let message: String = message.chars().take(TEXT_CHARS_MAX).collect();
        CallToolResult::error(vec![ContentBlock::text(format!("{message}\n{tail}"))])
    }
}

/// One failed item in one line.
pub(crate) fn item_text(id: &str, error: &HubError) -> String {
    match error {
        // The paths of the problems say which item it is.
        HubError::Invalid(problems) => problems_text(problems, "; "),
        error if id.is_empty() => error.to_string(),
        error => format!("{id}: {error}"),
    }
}

fn problems_text(problems: &Problems, separator: &str) -> String {
    let shown: Vec<String> = problems.0.iter().take(PROBLEMS_SHOWN).map(ToString::to_string).collect();
    let more = problems.0.len().saturating_sub(shown.len());
    let mut text = shown.join(separator);
    if more > 0 {
        text.push_str(&format!("{separator}and {more} more"));
    }
    text
}

impl From<Problems> for ToolError {
    fn from(problems: Problems) -> Self {
        Self { code: "invalid", message: problems_text(&problems, "\n"), retryable: false, details: None }
    }
}

impl From<HubError> for ToolError {
    fn from(error: HubError) -> Self {
        let details = match &error {
            HubError::Invalid(problems) => return problems.clone().into(),
            HubError::NotFound { nearest, .. } => Some(json!({"nearest": nearest})),
            HubError::Ambiguous { candidates, .. } => Some(json!({"candidates": candidates})),
            HubError::Conflict { current, .. } => Some(json!({"current_revision": current})),
            HubError::Overloaded { retry_after } => Some(json!({"retry_after_ms": retry_after.as_millis() as u64})),
            HubError::Unknown { op_ids } => Some(json!({
                "outcome": "unknown",
                "op_ids": op_ids.iter().take(PROBLEMS_SHOWN).collect::<Vec<_>>(),
            })),
            _ => None,
        };
        Self { code: error.code(), message: error.to_string(), retryable: error.is_retryable(), details }
    }
}
