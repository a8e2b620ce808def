//! A client that brings one run to its end, whichever process it talks to.

use std::time::Duration;

use a2a_testing::stdio::{RpcError, ServerProcess, ToolReply};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::fault::Armed;
use super::ways::Way;
use crate::world::call;

/// How long a run may take with one process.
const LIMIT: Duration = Duration::from_secs(60);
/// What of a step depends on when it was done and how often it was tried.
const PASSING: [&str; 8] =
    ["attempt", "failures", "why", "ready_at", "started_at", "finished_at", "due_at", "checkpoint"];

/// What the client knows; it outlives the processes.
pub(super) struct Client<'w> {
    way: &'w Way,
    run: Option<String>,
    /// What was asked of a process that did not answer.
    unanswered: Option<(&'static str, Value)>,
}

impl<'w> Client<'w> {
    pub(super) fn new(way: &'w Way) -> Self {
        Self { way, run: None, unanswered: None }
    }

    /// Does whatever the run needs until it has ended; `None` when the process has ended before.
    pub(super) async fn go_on(&mut self, server: &ServerProcess, armed: &Armed) -> Option<()> {
        let until = Instant::now() + LIMIT;
        self.ask_again(server, armed).await?;
        let mut wait_s = 0;
        loop {
            let Some(run) = self.run.clone() else {
                let request = json!({"workflow": self.way.workflow, "input": self.way.input, "context": self.way.context,
                    "idempotency_key": "the only one"});
                let reply = self.ask(server, armed, "workflow_run", request).await?;
                self.begun(&reply);
                continue;
            };
            let status = json!({"run": run, "wait_s": wait_s});
            let shown = good(self.ask(server, armed, "workflow_status", status).await?).structured;
            assert!(Instant::now() < until, "{}: the run does not end: {shown:#}", self.way);
            if shown["run"]["finished_at"].is_string() {
                return Some(());
            }
            let steps = shown["steps"].as_array().unwrap();
            let pulled =
                |step: &&Value| step["status"] == "READY" && self.way.is_pulled(step["step"].as_str().unwrap());
            let asks = |step: &&Value| step["status"] == "WAITING" && step["agent"] == "builtin:gate";
            wait_s = 0;
            if steps.iter().any(|step| pulled(&step)) {
                self.work(server, armed).await?;
            } else if let Some(step) = steps.iter().find(asks) {
                let name = step["step"].as_str().unwrap();
                let answer = json!({"run": run, "step": name, "answer": self.way.answer(name)});
                good(self.ask(server, armed, "workflow_signal", answer).await?);
            } else {
                // Somebody dead has a step, or a time has to come.
                wait_s = 1;
            }
        }
    }

    async fn work(&mut self, server: &ServerProcess, armed: &Armed) -> Option<()> {
        let item = good(self.ask(server, armed, "work_next", json!({"wait_s": 1})).await?).structured;
        // Nothing, when the status was of the moment before the step got lost or taken.
        let Some(name) = item["step"]["step"].as_str() else { return Some(()) };
        let mut finish = self.way.result(name);
        finish["claim"] = item["claim"].clone();
        let reply = self.ask(server, armed, "work_finish", finish).await?;
        assert!(!reply.is_error || reply.text.contains("claim is over"), "{}: {}", self.way, reply.text);
        Some(())
    }

    /// Asks a new process for what the old one did not answer.
    async fn ask_again(&mut self, server: &ServerProcess, armed: &Armed) -> Option<()> {
        let Some((tool, arguments)) = self.unanswered.take() else { return Some(()) };
        match tool {
            "workflow_run" => {
                let reply = self.ask(server, armed, tool, arguments).await?;
                self.begun(&reply);
            }
            // Whether it was taken then or now, or comes too late for a lease: what the run says next decides.
            "work_finish" | "workflow_signal" => drop(self.ask(server, armed, tool, arguments).await?),
            _ => {}
        }
        Some(())
    }

    fn begun(&mut self, reply: &ToolReply) {
        assert!(!reply.is_error, "{}: {}", self.way, reply.text);
        self.run = Some(reply.structured["run"].as_str().unwrap().to_owned());
    }

    /// Sends a call; `None` when the process ends before the answer comes, or at the moment when it does.
    async fn ask(
        &mut self,
        server: &ServerProcess,
        armed: &Armed,
        tool: &'static str,
        arguments: Value,
    ) -> Option<ToolReply> {
        self.unanswered = Some((tool, arguments.clone()));
        let reply = tokio::select! {
            reply = server.call_tool(tool, arguments) => reply,
            () = armed.fired() => return None,
        };
        match reply {
            Ok(_) if armed.has_fired() => None,
            Ok(reply) => {
                self.unanswered = None;
                Some(reply)
            }
            Err(RpcError::Closed) => None,
            Err(error) => panic!("{}: {tool}: {error}\n{}", self.way, server.stderr_tail()),
        }
    }

    /// The run and its steps in all that does not depend on when and how often something was tried.
    pub(super) async fn end(&self, server: &ServerProcess) -> Value {
        let id = self.run.as_ref().unwrap();
        let runs = call(server, "workflow_status", json!({"workflow": self.way.workflow, "limit": 1})).await;
        let shown = call(server, "workflow_status", json!({"run": id})).await;
        let run = &shown["run"];
        let mut steps = Vec::new();
        for step in shown["steps"].as_array().unwrap() {
            let arguments = json!({"run": id, "step": step["step"]});
            let mut step = call(server, "workflow_status", arguments).await["step"].take();
            step.as_object_mut().unwrap().retain(|field, _| !PASSING.contains(&field.as_str()));
            if let Some(time) = step["output"].get_mut("waited_until") {
                assert!(time.take().is_string());
            }
            steps.push(step);
        }
        let end = json!({
            "runs": runs["total"],
            "run": {"status": run["status"], "error": run["error"], "result": run["result"], "steps": run["steps"]},
            "steps": steps,
        });
        // The id is the only thing that no two runs have in common.
        serde_json::from_str(&end.to_string().replace(id, "<run>")).unwrap()
    }
}

#[track_caller]
fn good(reply: ToolReply) -> ToolReply {
    assert!(!reply.is_error, "{}", reply.text);
    reply
}
