//! What may be used, which keeps count, and what may not.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use a2a_core::agent::{Executor, ExecutorKind};
use a2a_engine::operator::OperatorFile;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::documents::Names;
use crate::attempts::operator;
use crate::mcp_server;

/// How often something that is listed was used, or may be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Starts of the command.
    pub(super) commands: usize,
    /// Connections to the origin.
    pub(super) requests: usize,
    /// Calls of tools.
    pub(super) calls: usize,
}

impl std::ops::AddAssign for Seen {
    fn add_assign(&mut self, other: Self) {
        *self = Self {
            commands: self.commands + other.commands,
            requests: self.requests + other.requests,
            calls: self.calls + other.calls,
        };
    }
}

impl std::ops::Sub for Seen {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            commands: self.commands - other.commands,
            requests: self.requests - other.requests,
            calls: self.calls - other.calls,
        }
    }
}

impl std::ops::Mul<usize> for Seen {
    type Output = Self;

    fn mul(self, times: usize) -> Self {
        Self { commands: self.commands * times, requests: self.requests * times, calls: self.calls * times }
    }
}

/// Everything that is there, and the file that says what may be used of it.
pub(super) struct Bait {
    pub(super) operator: Arc<OperatorFile>,
    folder: TempDir,
    origin: Listener,
    /// Nobody may come here.
    trap: Listener,
    tools: mcp_server::Server,
}

/// What the command writes for each start: its arguments, its environment as far as it is its own, and its folder.
const STARTED: &str = "started with 1 argument in / by nobody's environment";

impl Bait {
    pub(super) async fn set() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let trap = Listener::start(|_| String::new()).await;
        let away = format!("http://{}/", trap.address);
        // An answer that leads away: a redirect for webhooks, and the card of an agent that lives elsewhere.
        let origin = Listener::start(move |head| {
            let card = json!({"name": "x", "url": away, "supportedInterfaces":
                [{"url": away, "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}]});
            if head.starts_with("GET") {
                answer("200 OK", "", &card.to_string())
            } else if head.contains("/away") {
                answer("307 Temporary Redirect", &format!("location: {away}\r\n"), "")
            } else {
                answer("200 OK", "", &json!({"url": away, "argv": ["/bin/false"]}).to_string())
            }
        })
        .await;
        let tools = mcp_server::Server::start().await;

        let program = |name: &str, text: &str| {
            fs::write(path(name), format!("#!/bin/sh\n{text}\n")).unwrap();
            fs::set_permissions(path(name), fs::Permissions::from_mode(0o755)).unwrap();
            path(name)
        };
        // The shell itself sets what begins with PWD, OLDPWD, SHLVL and _.
        let listed = program(
            "listed",
            &format!(
                "rest=$(env | grep -v '^\\(PWD\\|OLDPWD\\|SHLVL\\|_\\)=')\n\
                 echo \"started with $# argument in $(pwd) by ${{rest:-nobody's}} environment\" >> {}\n\
                 cat > /dev/null; echo '{{\"argv\": [\"/bin/false\"]}}'",
                path("starts")
            ),
        );
        program("forbidden", &format!("echo forbidden >> {}", path("forbidden-starts")));
        let file = json!({
            "egress": {"allow": [
                {"origin": format!("http://{}", origin.address), "private": true},
                {"origin": format!("http://{}", tools.address), "private": true},
            ]},
            "mcp": {"servers": {"tools": {"url": format!("http://{}/mcp", tools.address), "tools": ["sum"]}}},
            "commands": {"listed": {"argv": [listed, "its own"], "timeout_s": 20}},
        });
        // Another file, which would allow everything, as it would be if somebody could name it.
        let generous = json!({
            "egress": {"allow": [{"origin": format!("http://{}", trap.address), "private": true}]},
            "mcp": {"servers": {"evil": {"argv": [path("forbidden")], "tools": ["secret"]}}},
            "commands": {"evil": {"argv": [path("forbidden")]}},
        });
        fs::write(path("generous.yaml"), generous.to_string()).unwrap();
        fs::set_permissions(path("generous.yaml"), fs::Permissions::from_mode(0o600)).unwrap();
        Self { operator: operator(&file.to_string()), folder, origin, trap, tools }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn names(&self) -> Names {
        Names {
            command: "listed".to_owned(),
            tool: ("tools".to_owned(), "sum".to_owned()),
            origins: vec![format!("http://{}", self.origin.address), format!("http://{}", self.tools.address)],
            origin_port: self.origin.address.port(),
            trap_port: self.trap.address.port(),
            listed: self.path("listed").display().to_string(),
            forbidden: self.path("forbidden").display().to_string(),
            generous: self.path("generous.yaml").display().to_string(),
        }
    }

    /// What one attempt of this executor may use.
    pub(super) fn allows(&self, executor: &Executor) -> Seen {
        let settings = executor.settings.value().unwrap_or_default();
        let says = |name: &str, value: &str| settings.get(name).and_then(Value::as_str) == Some(value);
        let once = |holds: bool| usize::from(holds);
        let url = settings.get("url").and_then(Value::as_str).and_then(|url| reqwest::Url::parse(url).ok());
        let origin = url.filter(|url| url.username().is_empty() && url.password().is_none());
        let origin = origin.map(|url| url.origin().ascii_serialization());
        let names = self.names();
        match executor.kind {
            ExecutorKind::Command => Seen { commands: once(says("name", &names.command)), ..Seen::default() },
            ExecutorKind::Mcp => {
                let (server, tool) = names.tool;
                Seen { calls: once(says("server", &server) && says("tool", &tool)), ..Seen::default() }
            }
            ExecutorKind::Http | ExecutorKind::A2a => {
                Seen { requests: once(origin.is_some_and(|origin| names.origins.contains(&origin))), ..Seen::default() }
            }
            ExecutorKind::Builtin | ExecutorKind::Pull => Seen::default(),
        }
    }

    /// What was used until now.
    pub(super) fn seen(&self) -> Seen {
        let starts = fs::read_to_string(self.path("starts")).unwrap_or_default();
        Seen { commands: starts.lines().count(), requests: self.origin.visits(), calls: self.tools.calls() }
    }

    /// Nothing was used that is not listed, and what is listed was used as it is listed.
    pub(super) fn assert_untouched(&self, what: &str) {
        assert!(!self.path("forbidden-starts").exists(), "a program was started that is not listed: {what}");
        assert_eq!(self.trap.visits(), 0, "an origin was reached that is not listed: {what}");
        let starts = fs::read_to_string(self.path("starts")).unwrap_or_default();
        assert!(starts.lines().all(|line| line == STARTED), "it was started in another way: {starts}\n{what}");
    }
}

fn answer(status: &str, more: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{more}content-length: {length}\r\n\r\n{body}")
}

/// A listener that counts who comes.
struct Listener {
    address: std::net::SocketAddr,
    visits: Arc<AtomicUsize>,
}

impl Listener {
    async fn start(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, visits) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let (count, answer) = (visits.clone(), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let answer = answer.clone();
                tokio::spawn(async move { serve(stream, &*answer).await });
            }
        });
        Self { address, visits }
    }

    fn visits(&self) -> usize {
        self.visits.load(Ordering::SeqCst)
    }
}

/// Answers one request and closes, so that each request is a visit. `None` when the client goes away before.
async fn serve(stream: TcpStream, answer: &(dyn Fn(&str) -> String + Send + Sync)) -> Option<()> {
    let mut stream = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    stream.get_mut().write_all(answer(&head).as_bytes()).await.ok()?;
    stream.get_mut().shutdown().await.ok()
}
