//! Runs of mixed shape that several processes carry at once, and what must be true of them in the end, whatever was
//! done to processes and database meanwhile.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use a2a_testing::stdio::{RpcError, ServerOptions, ServerProcess};
use a2a_testing::wait::wait_until;
use a2a_testing::webhook::Webhook;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::world::{call, deploy, open, refusal};

const PROCESSES: usize = 3;
/// A dead process holds its steps for so long.
const LEASE_MS: &str = "1500";
/// How long everything may take once nothing more is broken.
const END_LIMIT: Duration = Duration::from_secs(120);

/// What the runs look like: chains, fans, timers, and work that clients pull.
fn workflows() -> Vec<Value> {
    let step = |name: &str, agent: &str, after: &[&str]| {
        json!({
            "name": name, "agent": agent, "depends_on": after, "input": {"run": "{{ run.id }}", "step": name},
            // Each kill costs the steps in work an attempt, and there are many kills.
            "retry": {"max_attempts": 100, "backoff_ms": 20, "backoff_max_ms": 200},
        })
    };
    let wait = |name: &str, after: &[&str]| json!({"name": name, "agent": "builtin:wait", "depends_on": after, "input": {"seconds": 1}});
    vec![
        json!({"id": "chain", "steps": [
            step("a", "hook", &[]), step("b", "hook", &["a"]), step("c", "builtin:echo", &["b"]),
            step("d", "hook", &["c"]),
        ]}),
        json!({"id": "fan", "steps": [
            step("root", "builtin:echo", &[]), step("one", "hook", &["root"]), step("two", "hook", &["root"]),
            step("three", "hook", &["root"]), step("four", "builtin:echo", &["root"]),
            step("join", "hook", &["one", "two", "three", "four"]),
        ]}),
        json!({"id": "timer", "steps": [step("before", "hook", &[]), wait("nap", &["before"]), step("after", "hook", &["nap"])]}),
        json!({"id": "pulled", "steps": [
            step("ask", "human", &[]), step("hook", "hook", &["ask"]), step("again", "human", &["hook"]),
        ]}),
    ]
}

fn is_hook(step: &&Value) -> bool {
    step["agent"] == "hook"
}

/// What the database may do meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outages {
    None,
    /// Calls may then be refused, for now.
    Some,
}

/// Outputs whose hand-in was acknowledged, by claim without its attempt.
type Acknowledged = Arc<Mutex<BTreeMap<String, Value>>>;

/// Calls a tool until it says something other than that it can't just now; nothing when its process was killed.
async fn persist(
    server: &ServerProcess,
    outages: Outages,
    tool: &str,
    arguments: Value,
) -> Option<Result<Value, String>> {
    loop {
        let reply = match server.call_tool(tool, arguments.clone()).await {
            Ok(reply) => reply,
            Err(RpcError::Closed) => return None,
            Err(error) => panic!("{tool}: {error}\n{}", server.stderr_tail()),
        };
        if !reply.is_error {
            return Some(Ok(reply.structured));
        }
        let refused = refusal(&reply);
        if !refused.retryable {
            return Some(Err(reply.text));
        }
        assert_eq!(outages, Outages::Some, "{tool}: {refused:?}");
    }
}

/// A client that takes whatever work there is until its process is killed.
async fn pull(server: Arc<ServerProcess>, outages: Outages, acknowledged: Acknowledged) {
    let mut random = StdRng::from_os_rng();
    loop {
        let Some(item) = persist(&server, outages, "work_next", json!({"wait_s": 1})).await else { return };
        let item = item.unwrap();
        let Some(claim) = item["claim"].as_str() else { continue };
        let output = json!({"by": random.random::<u64>()});
        let finish = json!({"claim": claim, "status": "done", "output": output});
        match persist(&server, outages, "work_finish", finish).await {
            Some(Ok(_)) => {
                let (step, _attempt) = claim.rsplit_once(':').unwrap();
                let earlier = acknowledged.lock().unwrap().insert(step.to_owned(), output);
                assert_eq!(earlier, None, "two results of {step} were acknowledged");
            }
            // Its process was held up for too long, and somebody else has the step.
            Some(Err(refused)) => assert!(refused.contains("claim is over"), "{refused}"),
            None => return,
        }
    }
}

struct Client {
    server: Arc<ServerProcess>,
    pulling: JoinSet<()>,
}

impl Client {
    async fn kill(mut self) {
        self.server.kill();
        while let Some(ended) = self.pulling.join_next().await {
            ended.expect("a client saw what must not be");
        }
        self.server.finish().await;
    }
}

/// The processes, and the runs that they carry.
pub(crate) struct MixedRuns {
    pub(crate) webhook: Webhook,
    outages: Outages,
    options: ServerOptions,
    /// Holds the operator's file.
    _folder: tempfile::TempDir,
    acknowledged: Acknowledged,
    clients: Vec<Client>,
    runs: Vec<String>,
}

impl MixedRuns {
    /// Starts processes with these options, each with clients that pull.
    pub(crate) async fn start(options: ServerOptions, outages: Outages) -> Self {
        let webhook = Webhook::start().await;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("operator.yaml");
        std::fs::write(&file, format!("egress:\n  allow:\n    - {{origin: {}, private: true}}\n", webhook.origin()))
            .unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let options = options.env("A2A_CONFIG", file.to_str().unwrap()).env("A2A_LEASE_MS", LEASE_MS);
        let settings = json!({"url": format!("{}/hook", webhook.origin())});
        let (acknowledged, clients, runs) = (Acknowledged::default(), Vec::new(), Vec::new());
        let mut all = Self { webhook, outages, options, _folder: folder, acknowledged, clients, runs };
        for _ in 0..PROCESSES {
            all.add_process().await;
        }
        let first = all.server();
        deploy(first, json!({"id": "hook", "description": "d", "executor": {"kind": "http", "settings": settings}}))
            .await;
        deploy(first, json!({"id": "human", "description": "d"})).await;
        for workflow in workflows() {
            call(first, "workflow_save", workflow).await;
        }
        for client in &all.clients {
            let limit = Duration::from_secs(1);
            wait_until(limit, "every process knows the workflows", async || {
                let page = call(&client.server, "workflow_status", json!({"list": "workflows"})).await;
                page["total"] == workflows().len()
            })
            .await;
        }
        all
    }

    async fn add_process(&mut self) {
        let server = Arc::new(open(self.options.clone()).await);
        let mut pulling = JoinSet::new();
        for _ in 0..2 {
            pulling.spawn(pull(server.clone(), self.outages, self.acknowledged.clone()));
        }
        self.clients.push(Client { server, pulling });
    }

    fn server(&self) -> &ServerProcess {
        &self.clients[0].server
    }

    /// Kills any of the processes and starts another one.
    pub(crate) async fn replace_one(&mut self, random: &mut StdRng) {
        let killed = self.clients.swap_remove(random.random_range(0..self.clients.len()));
        killed.kill().await;
        self.add_process().await;
        assert_eq!(self.clients.len(), PROCESSES);
    }

    /// How many runs were begun.
    pub(crate) fn len(&self) -> usize {
        self.runs.len()
    }

    /// Begins runs through all processes in turn; the keys make sure that there is one of each.
    pub(crate) async fn begin(&mut self, count: usize) {
        let workflows = workflows();
        for _ in 0..count {
            let number = self.runs.len();
            let workflow = &workflows[number % workflows.len()]["id"];
            let request = json!({"workflow": workflow, "idempotency_key": format!("run {number}")});
            let server = &self.clients[number % self.clients.len()].server;
            let begun = persist(server, self.outages, "workflow_run", request).await.unwrap().unwrap();
            self.runs.push(begun["run"].as_str().unwrap().to_owned());
        }
    }

    /// Waits until so many more effects have happened, so that whatever is done next comes in the middle of work.
    pub(crate) async fn effects(&self, more: usize) {
        let mut count = self.webhook.count();
        let target = *count.borrow() + more;
        // The guard must be gone before the next wait: the webhook could not count meanwhile.
        let reached = tokio::time::timeout(Duration::from_secs(3), count.wait_for(|count| *count >= target)).await;
        drop(reached);
    }

    /// How many effects are still to come.
    pub(crate) fn effects_left(&self) -> usize {
        let workflows = workflows();
        let hooks = |workflow: &Value| workflow["steps"].as_array().unwrap().iter().filter(is_hook).count();
        let expected: usize = workflows.iter().cycle().take(self.runs.len()).map(hooks).sum();
        expected - *self.webhook.count().borrow()
    }

    /// How many runs have completed.
    pub(crate) async fn ended(&self) -> usize {
        let arguments = json!({"status": "COMPLETED", "limit": 1});
        let page = persist(self.server(), self.outages, "workflow_status", arguments).await.unwrap().unwrap();
        usize::try_from(page["total"].as_u64().unwrap()).unwrap()
    }

    /// Waits until every run has completed, and looks at each: every step is done, its result is there once, and is the
    /// one that took effect or was acknowledged. Returns it in figures.
    pub(crate) async fn finish(self) -> String {
        wait_until(END_LIMIT, "every run ends", async || self.ended().await == self.runs.len()).await;
        let effects = self.webhook.effects();
        let mut seen = 0;
        for id in &self.runs {
            let state = call(self.server(), "workflow_status", json!({"run": id, "detail": "full"})).await;
            assert_eq!(state["run"]["status"], "COMPLETED", "{state}");
            for step in state["steps"].as_array().unwrap() {
                assert_eq!(step["status"], "COMPLETED", "{state}");
                let name = step["step"].as_str().unwrap();
                let (key, output) = (format!("{id}:{name}"), &state["run"]["outputs"][name]);
                match step["agent"].as_str().unwrap() {
                    "hook" => {
                        assert_eq!(*output, effects[&key], "the result of {key} is the one that took effect");
                        seen += 1;
                    }
                    "human" => {
                        // A hand-in whose acknowledgement was lost with its process is in the run all the same.
                        if let Some(acknowledged) = self.acknowledged.lock().unwrap().get(&key) {
                            assert_eq!(output, acknowledged, "{key}");
                        }
                    }
                    _ => {}
                }
            }
        }
        assert_eq!(seen, effects.len(), "nothing took effect that no run has asked for");
        let figures = format!(
            "{} runs, {} effects of {} requests, {} pulled results",
            self.runs.len(),
            effects.len(),
            self.webhook.requests(),
            self.acknowledged.lock().unwrap().len(),
        );
        for client in self.clients {
            client.kill().await;
        }
        figures
    }
}
