//! Secrets of the operator's file which others say again: nothing of them is kept or shown.
#![cfg(unix)]

use std::path::Path;
use std::time::Duration;

use a2a_core::ids::Actor;
use a2a_core::workflow::run::RunState;
use a2a_engine::config::{Config, Settings};
use a2a_engine::hub::{CheckOutcome, DeployOptions, Hub, InvokeRequest};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

const SECRETS: [&str; 5] =
    ["command-secret-1", "mcp-secret-22222", "header-secret-33", "signing-secret-4", "mcp-header-55555"];
const LIMIT: Duration = Duration::from_secs(30);

/// An MCP server as a script: its tools say the secret in a result, in an error, or on the way to their death.
const MCP: &str = r#"
echo "starting with $KEY" >&2
while read -r line; do
  id=${line#*\"id\":}; id=${id%%[,\}]*}
  case "$line" in
    *'"initialize"'*)
      echo '{"jsonrpc":"2.0","id":'$id',"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}}' ;;
    *'"tools/list"'*)
      tool='"inputSchema":{"type":"object"},"annotations":{"readOnlyHint":true}'
      echo '{"jsonrpc":"2.0","id":'$id',"result":{"tools":[{"name":"tell",'$tool'},{"name":"fail",'$tool'},{"name":"die",'$tool'}]}}' ;;
    *'"name":"tell"'*)
      echo '{"jsonrpc":"2.0","id":'$id',"result":{"content":[{"type":"text","text":"{\"'$KEY'\":[\"it is '$KEY'\"]}"}]}}' ;;
    *'"name":"fail"'*)
      echo '{"jsonrpc":"2.0","id":'$id',"result":{"isError":true,"content":[{"type":"text","text":"refused: '$KEY'"}]}}' ;;
    *'"name":"die"'*) exit 1 ;;
    *'"id"'*) echo '{"jsonrpc":"2.0","id":'$id',"error":{"code":-32601,"message":"not with '$KEY'"}}' ;;
  esac
done
"#;

/// A server that answers everything with what it was sent, and with the key that it shares.
async fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 8192];
            let read = stream.read(&mut request).await.unwrap();
            let request = String::from_utf8_lossy(&request[..read]).into_owned();
            let status = if request.contains("/fine") { "200 OK" } else { "400 Bad Request" };
            let said = json!({"you": request.lines().collect::<Vec<_>>(), "key": SECRETS[3]}).to_string();
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", said.len());
            stream.write_all(format!("{head}{said}").as_bytes()).await.unwrap();
        }
    });
    origin
}

fn operator(origin: &str) -> Value {
    let shell = |script: &str| json!({"argv": ["/bin/sh", "-c", script], "env": {"KEY": SECRETS[0]}});
    json!({
        "egress": {"allow": [
            {"origin": origin, "private": true, "headers": {"Authorization": format!("Bearer {}", SECRETS[2])}}]},
        "http": {"signing_keys": {origin: SECRETS[3]}},
        "mcp": {"servers": {
            "script": {"argv": ["/bin/sh", "-c", MCP], "env": {"KEY": SECRETS[1]}, "tools": ["tell", "fail", "die"]},
            "broken": {"argv": ["/bin/sh", "-c", "echo \"no $KEY\" >&2"], "env": {"KEY": SECRETS[1]}, "tools": ["tell"]},
            "remote": {"url": format!("{origin}/mcp"), "headers": {"X-Key": SECRETS[4]}, "tools": ["tell"]},
        }},
        "commands": {
            "tell": shell("printf '{\"key\":\"%s\"}' \"$KEY\""),
            "fail": shell("echo \"can't log in with $KEY\" >&2; exit 3"),
            "cut": shell("i=0; while [ $i -lt 2000 ]; do printf %s \"$KEY\" >&2; i=$((i+1)); done; exit 3"),
        },
    })
}

struct World {
    hub: Hub,
    folder: tempfile::TempDir,
}

impl World {
    async fn start(agents: &[(&str, Value)], origin: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.yaml");
        std::fs::write(&file, operator(origin).to_string()).unwrap();
        let data_dir = folder.path().join("data");
        let settings = Settings { data_dir: Some(data_dir), operator_file: Some(file), ..Settings::default() };
        let hub = Hub::open(Config::new(&settings).unwrap());
        let documents: Vec<Value> =
            agents.iter().map(|(id, executor)| json!({"id": id, "description": "d", "executor": executor})).collect();
        let deployed = hub.agent_deploy(&documents, "agents", &DeployOptions::default(), &actor()).await.unwrap();
        assert!(deployed.iter().all(Result::is_ok), "{deployed:?}");
        Self { hub, folder }
    }

    /// Lets an agent do one thing, once.
    async fn invoke(&self, agent: &str) -> RunState {
        let request = InvokeRequest {
            agent: agent.to_owned(),
            input: json!({}),
            timeout_s: Some(20),
            ..InvokeRequest::default()
        };
        let run = self.hub.agent_invoke(request, &actor()).await.unwrap().id;
        let until = std::time::Instant::now() + LIMIT;
        while !self.hub.run_wait(&run, Duration::from_secs(1)).await.unwrap().run.status.is_finished() {
            assert!(std::time::Instant::now() < until, "the run of {agent} ends");
        }
        (*self.hub.run_get(run.as_str(), true).await.unwrap()).clone()
    }
}

fn actor() -> Actor {
    Actor::new("test")
}

#[track_caller]
fn has_no_secret(what: &str, text: &str) {
    for secret in SECRETS {
        assert!(!text.contains(secret), "{what} has {secret}: {text:.2000}");
    }
}

fn files_of(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| (path.display().to_string(), std::fs::read(path).unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_others_say_is_neither_kept_nor_shown() {
    let origin = echo().await;
    let command = |name: &str| json!({"kind": "command", "settings": {"name": name}});
    let tool = |server: &str, tool: &str| json!({"kind": "mcp", "settings": {"server": server, "tool": tool}});
    let at = |kind: &str, path: &str| json!({"kind": kind, "settings": {"url": format!("{origin}{path}")}});
    // What each of them says besides.
    let agents = [
        ("command-tell", command("tell"), r#"{"key":"[redacted]"}"#),
        ("command-fail", command("fail"), "exited with 3: can't log in with [redacted]"),
        ("command-cut", command("cut"), "exited with 3: …[redacted]"),
        ("mcp-tell", tool("script", "tell"), r#"{"[redacted]":["it is [redacted]"]}"#),
        ("mcp-fail", tool("script", "fail"), "refused: [redacted]"),
        ("mcp-die", tool("script", "die"), "it wrote: starting with [redacted]"),
        ("mcp-broken", tool("broken", "tell"), "it wrote: no [redacted]"),
        ("mcp-remote", tool("remote", "tell"), "[redacted]"),
        ("http-tell", at("http", "/fine"), r#""authorization: [redacted]""#),
        ("http-fail", at("http", "/bad"), "400 Bad Request: {\"key\":\"[redacted]\""),
        ("a2a", at("a2a", "/agent"), "the agent card could not be read: the agent answered 400 Bad Request: "),
    ];
    let deployed: Vec<(&str, Value)> = agents.iter().map(|(id, executor, _)| (*id, executor.clone())).collect();
    let world = World::start(&deployed, &origin).await;
    for (id, _, said) in &agents {
        let state = world.invoke(id).await;
        let shown = format!("{state:?}");
        has_no_secret(id, &shown);
        let step = &state.steps[0];
        let output = match &step.output {
            a2a_core::workflow::run::Payload::Loaded(text) => text.as_str().to_owned(),
            _ => step.error.as_deref().unwrap_or_default().to_owned(),
        };
        assert!(output.contains(said), "{id}: {output}");
    }
    let ids: Vec<String> = agents.iter().map(|(id, ..)| (*id).to_owned()).collect();
    for checked in world.hub.agent_check(None, &ids, &actor()).await.unwrap() {
        let checked = checked.unwrap();
        let id = checked.agent.spec.id.as_str();
        has_no_secret(id, &format!("{:?}", checked.outcome));
        has_no_secret(id, &format!("{:?}", world.hub.agent_contact(&checked.agent)));
        if id == "mcp-broken" {
            let said = |reason: &str| reason.contains("it wrote: no [redacted]");
            assert!(matches!(&checked.outcome, CheckOutcome::Unreachable { reason } if said(reason)));
        }
    }
    world.hub.close().await;
    for (name, bytes) in files_of(&world.folder.path().join("data")) {
        has_no_secret(&name, &String::from_utf8_lossy(&bytes));
    }
}
