//! The shapes of requests and replies.

use std::fmt;

use serde_json::{Map, Value, json};

use super::MODERN_VERSION;

/// Which of the two protocol eras a client speaks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Era {
    /// Nothing has been agreed: requests go out as they are.
    #[default]
    Opening,
    /// After `initialize`: requests go out as they are.
    Legacy,
    /// After `server/discover`: each request carries version, client and capabilities in `_meta`.
    Modern {
        /// The name of the client.
        client: String,
    },
}

impl Era {
    /// Adds what this era requires of every request.
    pub(super) fn complete(&self, params: Value) -> Value {
        let Self::Modern { client } = self else { return params };
        let mut params = match params {
            Value::Object(map) => map,
            Value::Null => Map::new(),
            // A test that sends malformed parameters wants them sent as they are.
            other => return other,
        };
        let meta = params.entry("_meta").or_insert_with(|| json!({}));
        if let (Value::Object(meta), Value::Object(context)) = (meta, context(client)) {
            for (key, value) in context {
                meta.entry(key).or_insert(value);
            }
        }
        Value::Object(params)
    }
}

fn context(client: &str) -> Value {
    json!({
        "io.modelcontextprotocol/protocolVersion": MODERN_VERSION,
        "io.modelcontextprotocol/clientInfo": {"name": client, "version": "1.0.0"},
        "io.modelcontextprotocol/clientCapabilities": {},
    })
}

/// Why a request has no result.
#[derive(Debug, Clone, PartialEq)]
pub enum RpcError {
    /// The server answered with an error.
    Error {
        /// The JSON-RPC error code.
        code: i64,
        /// The message.
        message: String,
        /// The data, null when absent.
        data: Value,
    },
    /// There was no answer within the limit. Whether the request was done is unknown.
    Timeout,
    /// The connection ended before the answer. Whether the request was done is unknown.
    Closed,
}

impl RpcError {
    /// Returns the JSON-RPC error code, if the server answered.
    #[must_use]
    pub fn code(&self) -> Option<i64> {
        match self {
            Self::Error { code, .. } => Some(*code),
            Self::Timeout | Self::Closed => None,
        }
    }

    /// Takes the `error` member of a response.
    pub(super) fn from_member(error: &Value) -> Self {
        Self::Error {
            code: error["code"].as_i64().unwrap_or_default(),
            message: error["message"].as_str().unwrap_or_default().to_owned(),
            data: error["data"].clone(),
        }
    }
}

impl fmt::Display for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error { code, message, .. } => write!(f, "error {code}: {message}"),
            Self::Timeout => f.write_str("no answer within the limit"),
            Self::Closed => f.write_str("the server closed the connection before it answered"),
        }
    }
}

impl std::error::Error for RpcError {}

/// The result of a tool call.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolReply {
    /// Whether the tool reports an error.
    pub is_error: bool,
    /// The structured content, null when absent.
    pub structured: Value,
    /// The text parts, joined by line breaks.
    pub text: String,
    /// The whole result.
    pub raw: Value,
}

impl ToolReply {
    pub(super) fn from_result(raw: Value) -> Self {
        let texts: Vec<&str> =
            raw["content"].as_array().into_iter().flatten().filter_map(|part| part["text"].as_str()).collect();
        Self {
            is_error: raw["isError"].as_bool().unwrap_or(false),
            structured: raw["structuredContent"].clone(),
            text: texts.join("\n"),
            raw,
        }
    }
}
