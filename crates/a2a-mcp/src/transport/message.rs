//! From the text of a line to a message of the protocol, or to the answer that says why it is none.

use std::borrow::Cow;

use a2a_core::json::{JsonProblem, parse_strict};
use rmcp::model::{
    CallToolRequest, CallToolRequestParams, ClientJsonRpcMessage, ClientNotification, ClientRequest, CompleteRequest,
    DiscoverRequest, ErrorCode, GetPromptRequest, InitializeRequest, JsonObject, ListPromptsRequest,
    ListResourceTemplatesRequest, ListResourcesRequest, ListToolsRequest, PingRequest, ReadResourceRequest, RequestId,
    RequestMetaObject, SubscriptionsListenRequest,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::envelope::EnvelopeScanner;

/// UTF-8 byte order mark, which a reader of JSON may skip.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// An error that the transport answers itself: the message never reaches the server.
#[derive(Debug, PartialEq)]
pub(super) struct Rejection {
    id: Option<RequestId>,
    code: ErrorCode,
    message: Cow<'static, str>,
}

impl Rejection {
    pub(super) fn invalid_request(id: Option<RequestId>, message: impl Into<Cow<'static, str>>) -> Self {
        Self { id, code: ErrorCode::INVALID_REQUEST, message: message.into() }
    }

    pub(super) fn oversized(id: Option<RequestId>, line_bytes_max: usize) -> Self {
        let message = format!(
            "the message is longer than the limit of {line_bytes_max} bytes for one line; split it, for example into smaller batches"
        );
        Self::invalid_request(id, message)
    }

    pub(super) fn internal(id: Option<RequestId>, message: String) -> Self {
        Self { id, code: ErrorCode::INTERNAL_ERROR, message: message.into() }
    }

    /// The answer as one line. JSON-RPC wants `"id": null` where the id is not known.
    pub(super) fn into_line(self) -> Vec<u8> {
        let id = self.id.map_or(Value::Null, RequestId::into_json_value);
        let error = json!({"code": self.code.0, "message": self.message});
        let mut line = json!({"jsonrpc": "2.0", "id": id, "error": error}).to_string().into_bytes();
        line.push(b'\n');
        line
    }
}

/// Reads one line. `None` for a line without content.
pub(super) fn message_of(line: &[u8]) -> Result<Option<ClientJsonRpcMessage>, Rejection> {
    let line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
    if line.trim_ascii().is_empty() {
        return Ok(None);
    }
    let object = match parse_strict(line) {
        Ok(Value::Object(object)) => object,
        Ok(Value::Array(_)) => {
            return Err(Rejection::invalid_request(
                None,
                "batches of messages are not supported; send each message on a line of its own",
            ));
        }
        Ok(_) => {
            return Err(Rejection::invalid_request(
                None,
                "a message must be a JSON object with jsonrpc, method and params",
            ));
        }
        Err(JsonProblem::Syntax { message }) => {
            let message = format!("the line is not JSON: {message}; send one whole JSON-RPC message per line");
            return Err(Rejection { id: None, code: ErrorCode::PARSE_ERROR, message: message.into() });
        }
        Err(JsonProblem::Refused(problem)) => {
            return Err(Rejection::invalid_request(EnvelopeScanner::id_of(line), problem.to_string()));
        }
    };
    envelope_opened(object).map(Some)
}

fn envelope_opened(mut object: JsonObject) -> Result<ClientJsonRpcMessage, Rejection> {
    let version_is_right = object.get("jsonrpc").is_some_and(|version| version == "2.0");
    let has_outcome = object.contains_key("result") || object.contains_key("error");
    if has_outcome || !object.contains_key("method") {
        // The id of a response belongs to a request of ours, so that no error may carry it.
        let response_is_right = version_is_right && has_outcome && !object.contains_key("method");
        let response = response_is_right.then(|| serde_json::from_value(Value::Object(object)).ok()).flatten();
        return response.ok_or_else(|| {
            Rejection::invalid_request(None, "not a JSON-RPC 2.0 message: a request has jsonrpc, id and method")
        });
    }
    let id = match object.remove("id") {
        None => None,
        Some(id) => match serde_json::from_value::<RequestId>(id) {
            Ok(id) => Some(id),
            Err(_) => return Err(Rejection::invalid_request(None, "id must be a string or a whole number of 64 bits")),
        },
    };
    if !version_is_right {
        return Err(Rejection::invalid_request(id, "jsonrpc must be \"2.0\""));
    }
    object.remove("jsonrpc");
    let Some(Value::String(method)) = object.get("method") else {
        return Err(Rejection::invalid_request(id, "method must be a string"));
    };
    let method = method.clone();
    match id {
        Some(id) => match request_of(&method, object) {
            Ok(request) => Ok(ClientJsonRpcMessage::request(request, id)),
            Err(problem) => {
                let message = format!("params of {method} are not valid: {problem}");
                Err(Rejection { id: Some(id), code: ErrorCode::INVALID_PARAMS, message: message.into() })
            }
        },
        None => serde_json::from_value::<ClientNotification>(Value::Object(object))
            .map(ClientJsonRpcMessage::notification)
            .map_err(|problem| {
                Rejection::invalid_request(None, format!("the notification {method} is not valid: {problem}"))
            }),
    }
}

/// Builds a request by its method. The untagged union of the library tries each of its types in turn, and turns a
/// known method with bad params into an unknown method; here it is only the way for rare methods.
fn request_of(method: &str, object: JsonObject) -> Result<ClientRequest, String> {
    fn typed<T: DeserializeOwned + Into<ClientRequest>>(object: JsonObject) -> Result<ClientRequest, String> {
        serde_json::from_value::<T>(Value::Object(object)).map(Into::into).map_err(|problem| problem.to_string())
    }
    match method {
        "tools/call" => call_tool_request_of(object).map(Into::into),
        "tools/list" => typed::<ListToolsRequest>(object),
        "initialize" => typed::<InitializeRequest>(object),
        "server/discover" => typed::<DiscoverRequest>(object),
        "ping" => typed::<PingRequest>(object),
        "resources/list" => typed::<ListResourcesRequest>(object),
        "resources/templates/list" => typed::<ListResourceTemplatesRequest>(object),
        "resources/read" => typed::<ReadResourceRequest>(object),
        "prompts/list" => typed::<ListPromptsRequest>(object),
        "prompts/get" => typed::<GetPromptRequest>(object),
        "completion/complete" => typed::<CompleteRequest>(object),
        "subscriptions/listen" => typed::<SubscriptionsListenRequest>(object),
        _ => typed::<ClientRequest>(object),
    }
}

/// Moves the arguments of a tool call where they belong without building them anew: they are nearly all of the
/// message, and deserializing them once more is what a call would spend most of its time on.
fn call_tool_request_of(mut object: JsonObject) -> Result<CallToolRequest, String> {
    fn optional<T: DeserializeOwned>(params: &mut JsonObject, key: &str) -> Result<Option<T>, String> {
        match params.remove(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => serde_json::from_value(value).map(Some).map_err(|problem| format!("{key}: {problem}")),
        }
    }
    let Some(Value::Object(mut params)) = object.remove("params") else {
        return Err("they must be an object such as {\"name\": \"agent_list\", \"arguments\": {}}".into());
    };
    let Some(Value::String(name)) = params.remove("name") else {
        return Err("name must be a string, the name of a tool".into());
    };
    let mut call = CallToolRequestParams::new(name);
    call.arguments = match params.remove("arguments") {
        None | Some(Value::Null) => None,
        Some(Value::Object(arguments)) => Some(arguments),
        Some(_) => return Err("arguments must be an object".into()),
    };
    call.input_responses = optional(&mut params, "inputResponses")?;
    call.request_state = optional(&mut params, "requestState")?;
    let mut request = CallToolRequest::new(call);
    match params.remove("_meta") {
        None | Some(Value::Null) => {}
        Some(Value::Object(meta)) => {
            request.extensions.insert(RequestMetaObject::from(meta));
        }
        Some(_) => return Err("_meta must be an object".into()),
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejected(line: &str) -> Value {
        let rejection = message_of(line.as_bytes()).unwrap_err();
        serde_json::from_slice(&rejection.into_line()).unwrap()
    }

    fn accepted(line: &str) -> Value {
        serde_json::to_value(message_of(line.as_bytes()).unwrap().unwrap()).unwrap()
    }

    #[test]
    fn a_tool_call_reads_as_the_library_reads_it() {
        for params in [
            r#"{"name":"t"}"#,
            r#"{"name":"t","arguments":{"a":[1,{"b":null}]},"_meta":{"progressToken":"p","x":1}}"#,
            r#"{"name":"t","arguments":null,"unknown":1,"requestState":"s","inputResponses":{}}"#,
        ] {
            let line = format!(r#"{{"jsonrpc":"2.0","id":"i","method":"tools/call","params":{params}}}"#);
            let ours = message_of(line.as_bytes()).unwrap().unwrap();
            let theirs: ClientJsonRpcMessage = serde_json::from_str(&line).unwrap();
            assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
        }
    }

    #[test]
    fn each_method_becomes_its_own_type() {
        let client = r#""capabilities":{},"clientInfo":{"name":"c","version":"1"}"#;
        for (method, params) in [
            ("initialize", format!(r#"{{"protocolVersion":"2025-11-25",{client}}}"#)),
            ("ping", "{}".into()),
            ("server/discover", r#"{"_meta":{"a":1}}"#.into()),
            ("tools/list", r#"{"cursor":"c"}"#.into()),
            ("resources/list", "{}".into()),
            ("resources/templates/list", "{}".into()),
            ("resources/read", r#"{"uri":"a://b"}"#.into()),
            ("prompts/list", "{}".into()),
            ("prompts/get", r#"{"name":"p"}"#.into()),
            (
                "completion/complete",
                r#"{"ref":{"type":"ref/prompt","name":"p"},"argument":{"name":"a","value":"v"}}"#.into(),
            ),
            ("subscriptions/listen", r#"{"notifications":{}}"#.into()),
            ("logging/setLevel", r#"{"level":"info"}"#.into()),
            ("no/such", "{}".into()),
        ] {
            let line = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
            let ours = message_of(line.as_bytes()).unwrap().unwrap();
            let theirs: ClientJsonRpcMessage = serde_json::from_str(&line).unwrap();
            assert_eq!(format!("{ours:?}"), format!("{theirs:?}"), "{method}");
        }
        assert_eq!(accepted(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#)["method"], "tools/list");
    }

    #[test]
    fn bad_params_of_a_known_method_are_told_apart_from_an_unknown_method() {
        for params in
            [r#"{}"#, r#"{"name":1}"#, r#"{"name":"t","arguments":"x"}"#, r#"{"name":"t","_meta":1}"#, "[]", "null"]
        {
            let answer = rejected(&format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#));
            assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(1), &json!(-32602)), "{params}");
        }
        let answer = rejected(r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}"#);
        assert!(answer["error"]["message"].as_str().unwrap().contains("protocolVersion"), "{answer}");
    }

    #[test]
    fn what_is_no_message_is_answered_with_the_reason() {
        for (line, code, id, reason) in [
            ("{", -32700, Value::Null, "not JSON"),
            ("{\"id\":1} trailing", -32700, Value::Null, "one whole JSON-RPC message per line"),
            ("[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}]", -32600, Value::Null, "batches"),
            ("17", -32600, Value::Null, "JSON object"),
            ("{}", -32600, Value::Null, "not a JSON-RPC 2.0 message"),
            ("{\"id\":1,\"method\":\"ping\"}", -32600, json!(1), "jsonrpc"),
            ("{\"jsonrpc\":\"2.0\",\"id\":1.5,\"method\":\"ping\"}", -32600, Value::Null, "id must be"),
            ("{\"jsonrpc\":\"2.0\",\"id\":null,\"method\":\"ping\"}", -32600, Value::Null, "id must be"),
            ("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":5}", -32600, json!(1), "method must be"),
            ("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\",\"result\":{}}", -32600, Value::Null, "not a JSON-RPC"),
            (
                "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"a\\u0000\"}}",
                -32600,
                json!(1),
                "params.name: ",
            ),
            (
                "{\"jsonrpc\":\"2.0\",\"method\":\"x\",\"params\":{\"a\":1,\"a\":2},\"id\":\"z\"}",
                -32600,
                json!("z"),
                "params.a: ",
            ),
        ] {
            let answer = rejected(line);
            assert_eq!((&answer["error"]["code"], &answer["id"]), (&json!(code), &id), "{line}: {answer}");
            assert!(answer["error"]["message"].as_str().unwrap().contains(reason), "{line}: {answer}");
            assert_eq!(answer["jsonrpc"], "2.0");
        }
    }

    #[test]
    fn blank_lines_and_byte_order_marks_are_tolerated() {
        for line in [&b""[..], b"\r", b"  \t\r", b"\xEF\xBB\xBF"] {
            assert!(message_of(line).unwrap().is_none());
        }
        assert!(message_of(b"\xEF\xBB\xBF{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\r").unwrap().is_some());
    }

    #[test]
    fn responses_and_notifications_pass() {
        for line in [
            r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"m"}}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#,
            r#"{"jsonrpc":"2.0","method":"$/unknown","params":{"a":1}}"#,
        ] {
            let ours = message_of(line.as_bytes()).unwrap().unwrap();
            let theirs: ClientJsonRpcMessage = serde_json::from_str(line).unwrap();
            assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
        }
    }
}
