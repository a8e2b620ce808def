//! A small agent of the A2A protocol 1.0 that drafts announcements. It counts what it is sent.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::Failure;

/// Larger requests are not for this agent.
const REQUEST_BYTES_MAX: usize = 64 * 1024;

/// The running agent.
pub(crate) struct Announcer {
    pub(crate) address: SocketAddr,
    messages: Arc<AtomicUsize>,
}

impl Announcer {
    pub(crate) async fn start() -> Result<Self, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let messages = Arc::new(AtomicUsize::new(0));
        let counter = messages.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let counter = counter.clone();
                // A caller that goes away in the middle is no concern of the agent.
                tokio::spawn(async move { answer_all(stream, address, &counter).await });
            }
        });
        Ok(Self { address, messages })
    }

    /// How many messages have come.
    pub(crate) fn messages(&self) -> usize {
        self.messages.load(Ordering::SeqCst)
    }
}

async fn answer_all(stream: TcpStream, address: SocketAddr, messages: &AtomicUsize) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut length = 0;
        let mut line = String::new();
        stream.read_line(&mut line).await.ok().filter(|bytes| *bytes > 0)?;
        let asks_for_card = line.starts_with("GET ");
        loop {
            line.clear();
            stream.read_line(&mut line).await.ok()?;
            let Some((name, value)) = line.split_once(':') else { break };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().ok().filter(|length| *length <= REQUEST_BYTES_MAX)?;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.ok()?;
        let answer = if asks_for_card { card(address) } else { called(&serde_json::from_slice(&body).ok()?, messages) };
        let answer = answer.to_string();
        let head =
            format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", answer.len());
        stream.get_mut().write_all((head + &answer).as_bytes()).await.ok()?;
    }
}

fn card(address: SocketAddr) -> Value {
    json!({
        "name": "Announcer", "description": "Drafts announcements.", "version": "1.0.0",
        "supportedInterfaces":
            [{"url": format!("http://{address}/rpc"), "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}],
        "capabilities": {}, "defaultInputModes": ["text/plain"], "defaultOutputModes": ["text/plain"],
        "skills": [{"id": "announce", "name": "Announce", "description": "Drafts one.", "tags": ["releases"]}],
    })
}

fn called(request: &Value, messages: &AtomicUsize) -> Value {
    let id = request.get("id").cloned().unwrap_or_default();
    if request.get("method").is_none_or(|method| method != "SendMessage") {
        return json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32601, "message": "only SendMessage is known"}});
    }
    messages.fetch_add(1, Ordering::SeqCst);
    let asked = request.pointer("/params/message/parts/0/text").and_then(Value::as_str).unwrap_or_default();
    let text = match asked.strip_prefix("announce ").and_then(|text| text.split_once(": ")) {
        Some((version, changes)) => format!("Version {version} is out. {changes}"),
        None => "Nothing to announce.".to_owned(),
    };
    let reply = json!({"messageId": "reply", "role": "ROLE_AGENT", "parts": [{"text": text}]});
    json!({"jsonrpc": "2.0", "id": id, "result": {"message": reply}})
}
