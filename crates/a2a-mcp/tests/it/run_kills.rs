//! SIGKILL of processes that carry on runs: every run ends, every result is there once and is the right one.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use a2a_testing::stdio::{RpcError, ServerOptions, ServerProcess};
use a2a_testing::wait::wait_until;
use a2a_testing::webhook::Webhook;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::world::{World, call, deploy, figure, machine, on_both, open};

const PROCESSES: usize = 3;
/// Runs that are begun at once.
const RUNS_AT_ONCE: usize = 50;
/// A dead process holds its steps for so long.
const LEASE_MS: &str = "1500";
/// How long everything may take after the last kill.
const END_LIMIT: Duration = Duration::from_secs(120);

on_both!(every_run_ends_although_its_processes_are_killed);

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

/// Outputs whose hand-in was acknowledged, by claim without its attempt.
type Acknowledged = Arc<Mutex<BTreeMap<String, Value>>>;

/// A client that takes whatever work there is until its process is killed.
async fn pull(server: Arc<ServerProcess>, acknowledged: Acknowledged) {
    let mut random = StdRng::from_os_rng();
    loop {
        let item = match server.call_tool("work_next", json!({"wait_s": 1})).await {
            Ok(item) => item,
            Err(RpcError::Closed) => return,
            Err(error) => panic!("work_next: {error}\n{}", server.stderr_tail()),
        };
        assert!(!item.is_error, "{}", item.text);
        let Some(claim) = item.structured["claim"].as_str() else { continue };
        let output = json!({"by": random.random::<u64>()});
        let finish = json!({"claim": claim, "status": "done", "output": output});
        match server.call_tool("work_finish", finish).await {
            Ok(reply) if !reply.is_error => {
                let (step, _attempt) = claim.rsplit_once(':').unwrap();
                let earlier = acknowledged.lock().unwrap().insert(step.to_owned(), output);
                assert_eq!(earlier, None, "two results of {step} were acknowledged");
            }
            // Its process was stopped for too long, and somebody else has the step.
            Ok(reply) => assert!(reply.text.contains("claim is over"), "{}", reply.text),
            Err(RpcError::Closed) => return,
            Err(error) => panic!("work_finish: {error}\n{}", server.stderr_tail()),
        }
    }
}

struct Client {
    server: Arc<ServerProcess>,
    pulling: JoinSet<()>,
}

impl Client {
    async fn start(options: ServerOptions, acknowledged: &Acknowledged) -> Self {
        let server = Arc::new(open(options).await);
        let mut pulling = JoinSet::new();
        for _ in 0..2 {
            pulling.spawn(pull(server.clone(), acknowledged.clone()));
        }
        Self { server, pulling }
    }

    async fn kill(mut self) {
        self.server.kill();
        while let Some(ended) = self.pulling.join_next().await {
            ended.expect("a client saw what must not be");
        }
        self.server.finish().await;
    }
}

async fn every_run_ends_although_its_processes_are_killed(world: World) {
    let _machine = machine().await;
    let kills = figure(30, 300);
    let webhook = Webhook::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("operator.yaml");
    std::fs::write(&file, format!("egress:\n  allow:\n    - {{origin: {}, private: true}}\n", webhook.origin()))
        .unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let options = world.options().env("A2A_CONFIG", file.to_str().unwrap()).env("A2A_LEASE_MS", LEASE_MS);

    let acknowledged = Acknowledged::default();
    let mut clients = Vec::new();
    for _ in 0..PROCESSES {
        clients.push(Client::start(options.clone(), &acknowledged).await);
    }
    let first = clients[0].server.clone();
    let settings = json!({"url": format!("{}/hook", webhook.origin())});
    deploy(&first, json!({"id": "hook", "description": "d", "executor": {"kind": "http", "settings": settings}})).await;
    deploy(&first, json!({"id": "human", "description": "d"})).await;
    for workflow in workflows() {
        call(&first, "workflow_save", workflow).await;
    }
    drop(first);
    for client in &clients {
        let limit = Duration::from_secs(1);
        wait_until(limit, "every process knows the workflows", async || {
            let page = call(&client.server, "workflow_status", json!({"list": "workflows"})).await;
            page["total"] == workflows().len()
        })
        .await;
    }

    let mut random = StdRng::from_os_rng();
    let mut runs: Vec<String> = Vec::new();
    for kill in 0..kills {
        // So many runs that some go on until the last kill.
        if runs.len() < 200 || ended(&clients[0].server).await + 2 * RUNS_AT_ONCE > runs.len() {
            for _ in 0..RUNS_AT_ONCE {
                runs.push(begin(&clients, runs.len()).await);
            }
        }
        // The moment of the kill is counted in effects, so that it is always in the middle of work.
        let mut count = webhook.count();
        let target = *count.borrow() + random.random_range(1..15);
        // The guard must be gone before the next wait: the webhook could not count meanwhile.
        let reached = tokio::time::timeout(Duration::from_secs(3), count.wait_for(|count| *count >= target)).await;
        drop(reached);
        let killed = clients.swap_remove(random.random_range(0..clients.len()));
        killed.kill().await;
        clients.push(Client::start(options.clone(), &acknowledged).await);
        assert_eq!(clients.len(), PROCESSES, "kill {kill}");
    }
    let last_kill = Instant::now();
    let server = clients[0].server.clone();
    wait_until(END_LIMIT, "every run ends", async || ended(&server).await == runs.len()).await;
    let ended_after = last_kill.elapsed();

    let effects = webhook.effects();
    let mut seen = 0;
    for id in &runs {
        let state = call(&server, "workflow_status", json!({"run": id, "detail": "full"})).await;
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
                    if let Some(acknowledged) = acknowledged.lock().unwrap().get(&key) {
                        assert_eq!(output, acknowledged, "{key}");
                    }
                }
                _ => {}
            }
        }
    }
    assert_eq!(seen, effects.len(), "nothing took effect that no run has asked for");
    println!(
        "{}: {kills} kills, {} runs, {} effects of {} requests, {} pulled results; all ended {ended_after:?} after the \
         last kill",
        world.name(),
        runs.len(),
        effects.len(),
        webhook.requests(),
        acknowledged.lock().unwrap().len(),
    );
    for client in clients {
        client.kill().await;
    }
}

/// Begins a run through any process that is alive; the key makes sure that there is one of it.
async fn begin(clients: &[Client], number: usize) -> String {
    let names = ["chain", "fan", "timer", "pulled"];
    let request = json!({"workflow": names[number % names.len()], "idempotency_key": format!("run {number}")});
    let server = &clients[number % clients.len()].server;
    call(server, "workflow_run", request).await["run"].as_str().unwrap().to_owned()
}

async fn ended(server: &ServerProcess) -> usize {
    let page = call(server, "workflow_status", json!({"status": "COMPLETED", "limit": 1})).await;
    usize::try_from(page["total"].as_u64().unwrap()).unwrap()
}
