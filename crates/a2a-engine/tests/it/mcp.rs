//! Tools of MCP servers: one of the protocol's authors, over both transports, and a small one that can be cut off.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use a2a_core::agent::ExecutorKind;
use a2a_engine::executors::{Done, Executors};
use a2a_engine::operator::OperatorFile;
use serde_json::{Value, json};

use crate::attempts::{Death, Step, failure, operator};
use crate::external;
use crate::mcp_server::Server;

fn step(operator: &Arc<OperatorFile>, tool: &str, input: Value) -> Step {
    Step::new(operator, ExecutorKind::Mcp, &json!({"server": "s", "tool": tool}), input)
}

fn output(done: Option<Done>) -> Value {
    let Some(Done::Completed(output)) = done else { panic!("{done:?}") };
    output
}

const EVERYTHING: [&str; 6] =
    ["echo", "get-env", "get-tiny-image", "get-structured-content", "trigger-long-running-operation", "no-such-tool"];

/// The big server as a program. It and a companion write their process ids into the folder.
fn everything_stdio(folder: &Path) -> Option<Arc<OperatorFile>> {
    let script = external::everything()?;
    let node = external::program("node").expect("npm comes with node");
    let shell = format!(
        "cd {}; echo $$ >server; sleep 1000 & echo $! >companion; exec {} {} stdio",
        folder.display(),
        node.display(),
        script.display()
    );
    let entry = json!({"argv": ["/bin/sh", "-c", shell], "env": {"GREETING": "hello", "PATH": "/usr/bin:/bin"}, "tools": EVERYTHING});
    Some(operator(&json!({"mcp": {"servers": {"s": entry}}}).to_string()))
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}

fn is_running(folder: &Path, name: &str) -> bool {
    let id = fs::read_to_string(folder.join(name)).unwrap();
    // A dead process that nobody has asked about yet is still listed, without its program.
    fs::read(format!("/proc/{}/cmdline", id.trim())).is_ok_and(|command| !command.is_empty())
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_of_a_program_are_called_over_one_connection() {
    let folder = tempfile::tempdir().unwrap();
    let Some(file) = everything_stdio(folder.path()) else { return };
    let executors = Executors::new(file.clone());
    let echo = step(&file, "echo", json!({"message": "hi"})).attempt_of(&executors).await;
    assert_eq!(output(echo), json!({"text": "Echo: hi"}));
    let first = fs::read_to_string(folder.path().join("server")).unwrap();

    let weather = step(&file, "get-structured-content", json!({"location": "Chicago"})).attempt_of(&executors).await;
    assert_eq!(output(weather), json!({"temperature": 36, "conditions": "Light rain / drizzle", "humidity": 82}));
    let image = output(step(&file, "get-tiny-image", Value::Null).attempt_of(&executors).await);
    assert_eq!(image["content"][1]["mimeType"], "image/png");

    // Its environment is that of the file, and nothing of this process.
    let env = output(step(&file, "get-env", json!({})).attempt_of(&executors).await);
    assert_eq!(env["GREETING"], "hello");
    assert!(env.get("CARGO_MANIFEST_DIR").is_none() && env.get("HOME").is_none(), "{env}");

    // Progress is passed on.
    let mut long = step(&file, "trigger-long-running-operation", json!({"duration": 0.2, "steps": 4}));
    let done = output(long.attempt_of(&executors).await);
    assert!(done["text"].as_str().unwrap().contains("completed"), "{done}");
    let told = long.context.progress.lock().clone();
    assert!(told.contains(&("2 of 4".to_owned(), Some(50))), "{told:?}");

    // What is wrong with the call is an error of the tool, and echo may be tried again.
    let wrong = step(&file, "echo", json!({"message": 5})).attempt_of(&executors).await;
    assert!(matches!(&wrong, Some(Done::Failed { error, .. }) if error.contains("\"echo\"")), "{wrong:?}");
    let missing = step(&file, "no-such-tool", json!({})).attempt_of(&executors).await;
    assert!(failure(missing, false).contains("has no tool"));
    let text = step(&file, "echo", json!("hi")).attempt_of(&executors).await;
    assert!(failure(text, false).contains("must be an object"));

    assert_eq!(fs::read_to_string(folder.path().join("server")).unwrap(), first, "one server for all");
    assert!(is_running(folder.path(), "server") && is_running(folder.path(), "companion"));
    drop(executors);
    until("the server and all that it has started are killed", || {
        !is_running(folder.path(), "server") && !is_running(folder.path(), "companion")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_dies_is_started_again() {
    let folder = tempfile::tempdir().unwrap();
    let Some(file) = everything_stdio(folder.path()) else { return };
    let executors = Executors::new(file.clone());
    let mut long = step(&file, "trigger-long-running-operation", json!({"duration": 3000, "steps": 30_000}));
    let context = long.context.clone();
    let kill = async {
        until("the call goes on", || !context.progress.lock().is_empty()).await;
        let id = fs::read_to_string(folder.path().join("server")).unwrap();
        assert!(Command::new("/bin/sh").args(["-c", &format!("kill -9 {id}")]).status().unwrap().success());
    };
    let (done, ()) = tokio::join!(long.attempt_of(&executors), kill);
    // The tool says that it is read-only.
    assert!(failure(done, true).contains("was lost during the call"));
    let again = step(&file, "echo", json!({"message": "again"})).attempt_of(&executors).await;
    assert_eq!(output(again), json!({"text": "Echo: again"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_no_server_says_what_it_said() {
    let program = |script: &str| {
        let entry = json!({"argv": ["/bin/sh", "-c", script], "tools": ["echo"]});
        operator(&json!({"mcp": {"servers": {"s": entry}}}).to_string())
    };
    let error = failure(step(&program("echo no licence >&2; exit 3"), "echo", json!({})).attempt().await, true);
    assert!(error.contains("no licence"), "{error}");
    let missing = json!({"argv": ["/no/such/server"], "tools": ["echo"]});
    let missing = operator(&json!({"mcp": {"servers": {"s": missing}}}).to_string());
    assert!(failure(step(&missing, "echo", json!({})).attempt().await, false).contains("could not be started"));
    let mut silent = step(&program("exec sleep 1000"), "echo", json!({}));
    silent.work.timeout = Some(Duration::from_millis(500));
    assert!(failure(silent.attempt().await, true).contains("longer than"));
}

#[tokio::test]
async fn only_what_the_operator_lists_is_called() {
    let file = operator("mcp: {servers: {s: {argv: [/bin/false], tools: [echo]}}}");
    let executors = Executors::new(file.clone());
    for (server, tool, said) in [("other", "echo", "no MCP server"), ("s", "delete", "is not allowed")] {
        let mut step = Step::new(&file, ExecutorKind::Mcp, &json!({"server": server, "tool": tool}), json!({}));
        assert!(executors.can_run(&step.work.executor).unwrap_err().to_string().contains(said));
        assert!(failure(step.attempt_of(&executors).await, false).contains(said));
    }
}

/// A server in a process of its own, which is killed with this.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended by itself, which a test has noticed then.
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}

fn http(url: &str) -> Arc<OperatorFile> {
    let origin = url.rsplit_once('/').unwrap().0;
    let entry =
        json!({"url": url, "headers": {"X-Test": "yes"}, "tools": EVERYTHING.iter().chain(&SMALL).collect::<Vec<_>>()});
    operator(
        &json!({"egress": {"allow": [{"origin": origin, "private": true}]}, "mcp": {"servers": {"s": entry}}})
            .to_string(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_of_the_older_era_are_called_over_http() {
    let Some(script) = external::everything() else { return };
    // The port is free when it is asked for, and the server says when it has it.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let node = external::program("node").expect("npm comes with node");
    let mut command = Command::new(node);
    command.arg(script).arg("streamableHttp").env("PORT", port.to_string());
    let _server = Killed(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    until("the server listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()).await;
    let file = http(&format!("http://127.0.0.1:{port}/mcp"));
    let executors = Executors::new(file.clone());
    let echo = step(&file, "echo", json!({"message": "hi"})).attempt_of(&executors).await;
    assert_eq!(output(echo), json!({"text": "Echo: hi"}));
    let mut long = step(&file, "trigger-long-running-operation", json!({"duration": 0.2, "steps": 4}));
    output(long.attempt_of(&executors).await);
    assert!(!long.context.progress.lock().is_empty());
}

const SMALL: [&str; 8] = ["sum", "fail", "fail_reading", "hang", "hang_again", "ask", "steps", "secret"];

async fn small() -> (Server, Arc<OperatorFile>) {
    let server = Server::start().await;
    let file = http(&format!("http://{}/mcp", server.address));
    (server, file)
}

#[tokio::test(flavor = "multi_thread")]
async fn results_and_failures_mean_what_the_tool_says_of_itself() {
    let (server, file) = small().await;
    let executors = Executors::new(file.clone());
    let sum = step(&file, "sum", json!({"a": 2, "b": 3})).attempt_of(&executors).await;
    assert_eq!(output(sum), json!({"sum": 5}));
    let failed = step(&file, "fail", json!({})).attempt_of(&executors).await;
    assert_eq!(failure(failed, false), "the tool \"fail\" failed: it is broken");
    failure(step(&file, "fail_reading", json!({})).attempt_of(&executors).await, true);
    let asks = step(&file, "ask", json!({})).attempt_of(&executors).await;
    assert!(failure(asks, false).contains("asks for input"));
    let refused = step(&file, "secret", json!({})).attempt_of(&executors).await;
    assert!(failure(refused, false).contains("no such tool"));
    let mut steps = step(&file, "steps", json!({}));
    let context = steps.context.clone();
    let end = async {
        let all = ("4 of 4".to_owned(), Some(100));
        until("all progress is told", || context.progress.lock().contains(&all)).await;
        server.counts.end.notify_one();
    };
    let (done, ()) = tokio::join!(steps.attempt_of(&executors), end);
    assert_eq!(output(done), json!({"text": "four steps"}));
    assert_eq!(server.calls(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_that_may_do_harm_is_called_once_wherever_the_process_dies() {
    let (server, file) = small().await;
    for (death, calls, completes) in [(Death::Before(0), 1, true), (Death::After(0), 0, false)] {
        let before = server.calls();
        server.counts.end.notify_one();
        let mut step = step(&file, "steps", json!({})).dying(death);
        match step.until_done(&[]).await {
            Done::Completed(_) => assert!(completes),
            Done::Failed { error, .. } => {
                assert!(!completes && error.contains("not called again"), "{error}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(server.calls() - before, calls, "{death:?}");
    }
    // The process dies in the middle of the call.
    for (tool, again) in [("hang", false), ("hang_again", true)] {
        let before = server.calls();
        let mut step = step(&file, tool, json!({}));
        tokio::select! {
            done = step.attempt() => panic!("{done:?}"),
            () = until("it has begun", || server.calls() > before) => {}
        }
        step.work.timeout = Some(Duration::from_secs(2));
        let done = step.attempt().await;
        if again {
            assert!(failure(done, true).contains("took longer"));
        } else {
            assert!(failure(done, false).contains("not called again"));
        }
        assert_eq!(server.calls() - before, 1 + usize::from(again), "{tool}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_no_longer_wanted_is_cancelled_at_the_server() {
    let (server, file) = small().await;
    let executors = Executors::new(file.clone());
    let mut hanging = step(&file, "hang", json!({}));
    let context = hanging.context.clone();
    let cancel = async {
        until("it has begun", || server.calls() == 1).await;
        context.cancelled.cancel();
    };
    let (done, ()) = tokio::join!(hanging.attempt_of(&executors), cancel);
    failure(done, false);
    until("the server has heard of it", || server.counts.cancelled.load(Ordering::SeqCst) == 1).await;
    // The same when it takes too long, and when nobody waits any more.
    let mut slow = step(&file, "hang", json!({}));
    slow.work.timeout = Some(Duration::from_millis(500));
    assert!(failure(slow.attempt_of(&executors).await, false).contains("took longer than 0.45 s"));
    until("the server has heard of it", || server.counts.cancelled.load(Ordering::SeqCst) == 2).await;
    {
        let mut dropped = step(&file, "hang", json!({}));
        tokio::select! {
            done = dropped.attempt_of(&executors) => panic!("{done:?}"),
            () = until("it has begun", || server.calls() == 3) => {}
        }
    }
    until("the server has heard of it", || server.counts.cancelled.load(Ordering::SeqCst) == 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_breaks_off_is_tried_again_only_if_that_does_no_harm() {
    for (tool, retryable) in [("hang", false), ("hang_again", true)] {
        let (mut server, file) = small().await;
        let executors = Executors::new(file.clone());
        let mut hanging = step(&file, tool, json!({}));
        hanging.work.timeout = Some(Duration::from_secs(20));
        let counts = server.counts.clone();
        let cut = async {
            until("it has begun", || counts.calls.load(Ordering::SeqCst) == 1).await;
            server.stop();
        };
        let (done, ()) = tokio::join!(hanging.attempt_of(&executors), cut);
        failure(done, retryable);
        // Nobody is there: the tool was surely not called.
        let gone = failure(step(&file, tool, json!({})).attempt_of(&executors).await, true);
        assert!(gone.contains("no connection"), "{gone}");
        // The connection is made again when the server is back.
        let server = server.restart().await;
        let sum = step(&file, "sum", json!({"a": 1, "b": 1})).attempt_of(&executors).await;
        assert_eq!(output(sum), json!({"sum": 2}), "{}", server.address);
    }
}

/// Has no tools at first, and then does not say which.
#[cfg(unix)]
const FORGETFUL: &str = r#"
asked=0
while read -r line; do
  id=${line#*\"id\":}; id=${id%%[,\}]*}
  case "$line" in
    *'"initialize"'*)
      result='{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}'
      echo '{"jsonrpc":"2.0","id":'$id',"result":'$result'}' ;;
    *'"tools/list"'*)
      asked=$((asked+1))
      if [ $asked = 1 ]; then echo '{"jsonrpc":"2.0","id":'$id',"result":{"tools":[]}}'
      else echo '{"jsonrpc":"2.0","id":'$id',"error":{"code":-32603,"message":"busy"}}'; fi ;;
    *'"id"'*) echo '{"jsonrpc":"2.0","id":'$id',"error":{"code":-32601,"message":"unknown"}}' ;;
  esac
done
"#;

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_say_which_tools_it_has_is_tried_again() {
    let entry = json!({"argv": ["/bin/sh", "-c", FORGETFUL], "tools": ["sum"]});
    let file = operator(&json!({"mcp": {"servers": {"s": entry}}}).to_string());
    let mut step = step(&file, "sum", json!({}));
    let error = failure(step.attempt().await, true);
    assert!(error.contains("does not say which tools it has") && error.contains("busy"), "{error}");
    assert!(step.context.checkpoint.lock().is_none(), "nothing was about to be called");
}
