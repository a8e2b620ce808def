//! Calls of the JSON-RPC binding, and what their failures say about whether the agent has acted.

use std::time::Duration;

use a2a_core::json;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{RequestBuilder, StatusCode, Url};
use serde_json::{Map, Value, json};

use super::card::Interface;
use crate::egress::{BodyError, Egress, EgressError, read_body_limited, transport_error};
use crate::executors::excerpt;

/// Sent with every call; without it a server takes a call for one of version 0.3.
const VERSION_HEADER: &str = "A2A-Version";
const VERSION: &str = "1.0";
/// A task may hold somewhat more than what is kept of it as output.
const RESPONSE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Looking something up takes no longer. Sending a message may, because an agent may answer with the result.
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(30);
/// Each request has its own response, so that nothing else tells them apart.
const CALL_ID: u64 = 1;
const ERROR_CHARS_MAX: usize = 500;

/// Errors of JSON-RPC and of the protocol with which an agent says that it does nothing.
const REFUSALS: [i64; 10] = [
    -32_700, // not JSON
    -32_600, // not a request
    -32_601, // no such method
    -32_602, // wrong parameters
    TASK_NOT_FOUND,
    -32_002, // the task can't be cancelled
    -32_004, // not supported
    -32_005, // wrong kind of content
    -32_008, // an extension is required
    -32_009, // wrong version
];
pub(super) const TASK_NOT_FOUND: i64 = -32_001;

/// Why a call has no result.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// It may not be sent, or its host is not found.
    #[error(transparent)]
    Egress(#[from] EgressError),
    /// Nothing was sent.
    #[error("the agent can't be reached: {0}")]
    NotSent(String),
    /// It may have been sent, and nothing came back.
    #[error("{0}")]
    Unanswered(String),
    /// It may have been sent, and what came back does not tell what came of it.
    #[error("{0}")]
    Unknown(String),
    /// The response is too long to be read. The agent has acted.
    #[error("{0}")]
    TooLong(String),
    /// The agent, or what stands before it, refuses the call.
    #[error("the agent answered {status}{said}")]
    Http { status: StatusCode, said: String },
    /// The agent answers with an error.
    #[error("the agent answered with error {code}: {message}")]
    Rpc { code: i64, message: String },
}

impl CallError {
    /// Whether the agent may have acted on the call.
    pub(super) fn may_have_acted(&self) -> bool {
        match self {
            Self::Egress(_) | Self::NotSent(_) | Self::Http { .. } => false,
            Self::Unanswered(_) | Self::Unknown(_) | Self::TooLong(_) => true,
            Self::Rpc { code, .. } => !REFUSALS.contains(code),
        }
    }

    /// Whether the same call may be answered later.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Egress(error) => error.is_transient(),
            Self::NotSent(_) | Self::Unanswered(_) | Self::Unknown(_) => true,
            Self::TooLong(_) => false,
            Self::Http { status, .. } => *status == StatusCode::TOO_MANY_REQUESTS,
            Self::Rpc { code, .. } => !REFUSALS.contains(code),
        }
    }
}

impl CallError {
    /// Whether the agent was reached: any answer shows it. Nothing when it was not tried or can't be told.
    pub(super) fn reached(&self) -> Option<bool> {
        match self {
            Self::Egress(error) => error.is_transient().then_some(false),
            Self::NotSent(_) => Some(false),
            Self::Unanswered(_) => None,
            Self::Unknown(_) | Self::TooLong(_) | Self::Http { .. } | Self::Rpc { .. } => Some(true),
        }
    }
}

/// The agent at one interface.
#[derive(Clone, Copy)]
pub(super) struct Remote<'e> {
    pub(super) egress: &'e Egress,
    pub(super) interface: &'e Interface,
}

impl Remote<'_> {
    /// Sends a message. The result has a `task` or a `message`.
    pub(super) async fn send_message(self, message: Value) -> Result<Value, CallError> {
        // Without this an agent answers when its task has ended, which a connection may not live to see.
        let configuration = json!({"returnImmediately": true});
        self.call("SendMessage", json!({"message": message, "configuration": configuration}), None).await
    }

    /// The task with the last of its messages.
    pub(super) async fn get_task(self, id: &str, history: u32) -> Result<Value, CallError> {
        self.call("GetTask", json!({"id": id, "historyLength": history}), Some(LOOK_UP_TIMEOUT)).await
    }

    /// One page of tasks with the last of their messages, those tasks first that have changed last.
    pub(super) async fn list_tasks(
        self,
        page_size: u32,
        history: u32,
        page_token: Option<&str>,
    ) -> Result<Value, CallError> {
        let mut params = json!({"pageSize": page_size, "historyLength": history, "includeArtifacts": false});
        if let (Some(fields), Some(token)) = (params.as_object_mut(), page_token) {
            fields.insert("pageToken".to_owned(), token.into());
        }
        self.call("ListTasks", params, Some(LOOK_UP_TIMEOUT)).await
    }

    /// Asks the agent to cancel a task. The result is the task.
    pub(super) async fn cancel_task(self, id: &str) -> Result<Value, CallError> {
        self.call("CancelTask", json!({"id": id}), Some(LOOK_UP_TIMEOUT)).await
    }

    async fn call(self, method: &str, mut params: Value, timeout: Option<Duration>) -> Result<Value, CallError> {
        if let (Some(fields), Some(tenant)) = (params.as_object_mut(), &self.interface.tenant) {
            fields.insert("tenant".to_owned(), tenant.as_str().into());
        }
        let (client, url) = self.egress.client(&self.interface.url).await?;
        let body = json!({"jsonrpc": "2.0", "id": CALL_ID, "method": method, "params": params});
        let mut request = client.post(url).header(CONTENT_TYPE, "application/json").body(body.to_string());
        if let Some(timeout) = timeout {
            request = request.timeout(timeout);
        }
        let (status, body) = exchange(request).await?;
        result(status, &body)
    }
}

/// Reads a JSON document.
pub(super) async fn get(egress: &Egress, url: &str, place: impl FnOnce(Url) -> Url) -> Result<Value, CallError> {
    let (client, url) = egress.client(url).await?;
    let (status, body) = exchange(client.get(place(url)).timeout(LOOK_UP_TIMEOUT)).await?;
    if !status.is_success() {
        return Err(refused(status, &body));
    }
    json::parse_strict(&body)
        .map_err(|problem| CallError::Unknown(format!("it is not JSON that can be used: {problem}")))
}

async fn exchange(request: RequestBuilder) -> Result<(StatusCode, Vec<u8>), CallError> {
    let request = request.header(ACCEPT, "application/json").header(VERSION_HEADER, VERSION);
    let response = request.send().await.map_err(|error| {
        let said = transport_error(&error);
        if error.is_connect() { CallError::NotSent(said) } else { CallError::Unanswered(said) }
    })?;
    let status = response.status();
    let body = read_body_limited(response, RESPONSE_BYTES_MAX).await.map_err(|error| match error {
        BodyError::TooLong(_) => CallError::TooLong(error.to_string()),
        BodyError::Broken(_) => CallError::Unknown(error.to_string()),
    })?;
    Ok((status, body))
}

/// The result in a response.
fn result(status: StatusCode, body: &[u8]) -> Result<Value, CallError> {
    let response = json::parse_strict(body);
    // Some agents say with the status what the error says too.
    if let Ok(Value::Object(mut response)) = response
        && response.get("jsonrpc").is_some_and(|version| version == "2.0")
    {
        if let Some(error) = response.get("error").filter(|error| error.is_object()) {
            return Err(rpc_error(error));
        }
        if status.is_success()
            && response.get("id").is_some_and(|id| id == CALL_ID)
            && let Some(result @ Value::Object(_)) = response.remove("result")
        {
            return Ok(result);
        }
    }
    if status.is_success() {
        return Err(CallError::Unknown(format!("the agent answered with what is not an answer: {}", said(body))));
    }
    Err(refused(status, body))
}

fn rpc_error(error: &Value) -> CallError {
    let code = error.get("code").and_then(Value::as_i64).unwrap_or_default();
    let message = error.get("message").and_then(Value::as_str).unwrap_or_default();
    CallError::Rpc { code, message: said(message.as_bytes()) }
}

/// What a status says about whether the agent has acted.
fn refused(status: StatusCode, body: &[u8]) -> CallError {
    let mut explained = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            "; it wants credentials, which belong into the headers of its origin in the operator's file".to_owned()
        }
        _ if status.is_redirection() => "; redirects are not followed, so the final URL is needed".to_owned(),
        _ => String::new(),
    };
    let said = said(body);
    if !said.is_empty() {
        explained.push_str(": ");
        explained.push_str(&said);
    }
    if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT {
        return CallError::Unknown(format!("the agent answered {status}{explained}"));
    }
    CallError::Http { status, said: explained }
}

fn said(body: &[u8]) -> String {
    excerpt(body, ERROR_CHARS_MAX)
}

/// Text among the fields of an object; empty text is as good as none.
pub(super) fn text<'v>(object: &'v Value, name: &str) -> Option<&'v str> {
    object.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// The fields of an object.
pub(super) fn object(fields: Vec<(&str, Value)>) -> Value {
    Value::Object(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>())
}
