//! One workflow over three clients, a killed process, a sleeping laptop, an MCP server and an A2A agent.
//!
//! `cargo run --release -p a2a-mcp --example review-release`
//!
//! Nothing is played: three real servers share one database, and each line is printed after what it says was seen to
//! hold. The sessions' answers are written down below, where a model would think.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to the person who started it")]
#![allow(clippy::indexing_slicing, reason = "indexing a JSON value by name does not panic")]

mod announcer;
mod changelog_server;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use a2a_testing::binary::server_binary;
use a2a_testing::stdio::{ServerOptions, ServerProcess};
use serde_json::{Value, json};

use announcer::Announcer;

/// Who holds a step and is not heard of for so long loses it. Short, because somebody looks on.
const LEASE_MS: &str = "3000";
const LIMIT: Duration = Duration::from_secs(30);

/// Why the scenario did not go as it should.
#[derive(Debug)]
struct Failure(String);

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let done = match (args.next(), args.next()) {
        (Some(flag), Some(changelog)) if flag == "--serve-changelog" => changelog_server::serve(changelog.into()).await,
        _ => scenario().await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(why)) => {
            eprintln!("this did not hold: {why}");
            ExitCode::FAILURE
        }
    }
}

/// A client with the server that it has launched.
struct Client {
    name: &'static str,
    server: ServerProcess,
}

impl Client {
    async fn launch(name: &'static str, home: &Path) -> Result<Self, Failure> {
        let config = home.join("config.yaml");
        let options = ServerOptions::new(&["serve"], &[("A2A_LEASE_MS", LEASE_MS)])
            .env("A2A_CONFIG", &config.to_string_lossy())
            .home(home);
        let server = ServerProcess::spawn_with(&server_binary(), options).await;
        server.initialize(name).await?;
        Ok(Self { name, server })
    }

    /// Calls a tool that must succeed.
    async fn call(&self, tool: &str, arguments: Value) -> Result<Value, Failure> {
        let reply = self.server.call_tool(tool, arguments).await?;
        if reply.is_error {
            return Err(Failure(format!("{tool} said to {}: {}", self.name, reply.text)));
        }
        Ok(reply.structured)
    }

    /// Takes a step as an agent.
    async fn take(&self, agent: &str) -> Result<Value, Failure> {
        let work = self.call("work_next", json!({"agents": [agent], "wait_s": 20})).await?;
        if work["claim"].is_null() {
            return Err(Failure(format!("{} got no work for {agent}: {work}", self.name)));
        }
        Ok(work)
    }

    async fn hand_in(&self, work: &Value, output: Value) -> Result<(), Failure> {
        self.call("work_finish", json!({"claim": work["claim"], "status": "done", "output": output})).await?;
        Ok(())
    }

    /// Waits until a step of the run stands somewhere, and returns the run.
    async fn until(&self, run: &Value, step: &str, status: &str) -> Result<Value, Failure> {
        let started = Instant::now();
        loop {
            let shown = self.call("workflow_status", json!({"run": run, "wait_s": 1})).await?;
            match step_of(&shown, step) {
                Some(row) if row["status"] == status => return Ok(shown),
                row if started.elapsed() > LIMIT => {
                    return Err(Failure(format!("{step} is not {status} but {row:?}")));
                }
                _ => {}
            }
        }
    }
}

fn step_of<'v>(shown: &'v Value, name: &str) -> Option<&'v Value> {
    shown["steps"].as_array()?.iter().find(|row| row["step"] == name)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn holds(what: bool, else_said: &str) -> Result<(), Failure> {
    if what { Ok(()) } else { Err(Failure(else_said.to_owned())) }
}

fn documents(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/review-release").join(name)
}

async fn scenario() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let home = folder.path();
    let announcer = Announcer::start().await?;
    operators_file(home, &announcer)?;
    let code = Client::launch("claude-code", home).await?;
    let desktop = Client::launch("claude-desktop", home).await?;
    let cursor = Client::launch("cursor", home).await?;
    println!("1. Claude Code, Claude Desktop and Cursor have each launched a server on one database.");

    load(&code, &announcer).await?;
    let input = json!({"version": "2.1.0"});
    let begun = code.call("workflow_run", json!({"workflow": "review-release", "input": input})).await?;
    let run = begun["run"].clone();
    println!("2. Claude Code deploys five agents, saves the workflow review-release, and runs it for 2.1.0.");

    let killed = Instant::now();
    code.server.kill();
    desktop.until(&run, "changes", "COMPLETED").await?;
    println!("3. Its process is killed with SIGKILL. Another one goes on and has called the tool of the MCP server.");
    eprintln!("   ({} ms after the kill)", killed.elapsed().as_millis());

    let (review, security) = tokio::try_join!(desktop.take("code-reviewer"), cursor.take("security-reviewer"))?;
    println!("4. Two steps are ready at once. Claude Desktop takes review, Cursor takes security.");
    println!("   review gets {}", review["input"]);
    let findings = json!(["A session that ends in the middle of a payment loses the cart."]);
    desktop.hand_in(&review, json!({"verdict": "request_changes", "findings": findings})).await?;

    cursor.server.pause();
    let again = desktop.take("security-reviewer").await?;
    println!(
        "5. The laptop with Cursor falls asleep. Its step is given to Claude Desktop, attempt {}.",
        text(&again["step"]["attempt"])
    );
    let risks = json!({"risks": ["Sessions that were stolen before the update go on for a day."]});
    desktop.hand_in(&again, risks.clone()).await?;
    cursor.server.resume();
    let late = json!({"claim": security["claim"], "status": "done", "output": risks});
    let late = cursor.server.call_tool("work_finish", late).await?;
    holds(late.is_error, "the late result was taken")?;
    println!("   It wakes up and hands in its result, which is refused:");
    println!("   {}", late.text.lines().next().unwrap_or_default());

    let tests = cursor.take("test-author").await?;
    cursor.hand_in(&tests, json!({"tests": ["a cart outlives its session"]})).await?;
    println!("6. The review asked for changes, so the conditional step runs: Cursor writes the tests.");

    let waiting = desktop.until(&run, "approve", "WAITING").await?;
    let why = step_of(&waiting, "approve").map(|row| text(&row["why"])).unwrap_or_default();
    let question = why.split('"').nth(1).unwrap_or_default();
    println!("7. A person is asked, and any client shows it: {question}");
    let answer = json!({"run": run, "step": "approve", "answer": {"release": true}});
    cursor.call("workflow_signal", answer).await?;
    desktop.until(&run, "announce", "COMPLETED").await?;
    holds(announcer.messages() == 1, "the agent was not sent exactly one message")?;
    println!("8. The approval starts the last step: the A2A agent has got one message and has answered.");

    let code = Client::launch("claude-code", home).await?;
    let shown = code.call("workflow_status", json!({"run": run})).await?;
    holds(shown["run"]["status"] == "COMPLETED", "the run has not completed")?;
    println!("9. Claude Code is opened again and looks at the run: {}", text(&shown["run"]["status"]));
    println!("   result: {}", shown["run"]["result"]);
    for row in shown["steps"].as_array().into_iter().flatten() {
        println!("   {:<9} {}", text(&row["step"]), text(&row["status"]));
    }
    for client in [code, desktop, cursor] {
        client.server.finish().await;
    }
    Ok(())
}

/// The file that says what steps may reach and start: the A2A agent, and the one tool of the MCP server.
fn operators_file(home: &Path, announcer: &Announcer) -> Result<(), Failure> {
    let program = std::env::current_exe()?;
    let text = json!({
        "egress": {"allow": [{"origin": format!("http://{}", announcer.address), "private": true}]},
        "mcp": {"servers": {"changelog": {
            "argv": [program, "--serve-changelog", documents("CHANGELOG.md")], "tools": ["changes_of"],
        }}},
    });
    // YAML holds JSON too.
    std::fs::write(home.join("config.yaml"), text.to_string())?;
    Ok(())
}

/// What a person asks of Claude Code: deploy these agents, save this workflow.
async fn load(code: &Client, announcer: &Announcer) -> Result<(), Failure> {
    let agents = std::fs::read_to_string(documents("agents.yaml"))?;
    let agents = agents.replace(":PORT", &format!(":{}", announcer.address.port()));
    let agents: Value = serde_saphyr::from_str(&agents)?;
    let deployed = code.call("agent_deploy", json!({"agents": agents})).await?;
    holds(deployed["failed"].as_u64().unwrap_or_default() == 0, &deployed.to_string())?;
    let workflow: Value = serde_saphyr::from_str(&std::fs::read_to_string(documents("workflow.yaml"))?)?;
    code.call("workflow_save", workflow).await?;
    Ok(())
}
