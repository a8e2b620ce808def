//! Whether agents can be reached: what real attempts, sessions and checks leave behind.

use std::time::Duration;

use a2a_core::agent_check::{AgentContact, AgentStatus};
use a2a_core::ids::Actor;
use a2a_engine::config::{Config, Settings};
use a2a_engine::hub::{CheckOutcome, DeployOptions, Hub, InvokeRequest, RunRequest};
use a2a_testing::wait::wait_until;
use a2a_testing::webhook::Webhook;
use serde_json::{Value, json};

use crate::mcp_server::Server;

const LIMIT: Duration = Duration::from_secs(20);

fn actor() -> Actor {
    Actor::new("test")
}

/// A data folder with an operator's file.
struct World {
    folder: tempfile::TempDir,
    file: std::path::PathBuf,
}

impl World {
    fn new(operator: &Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.yaml");
        // YAML reads JSON too.
        std::fs::write(&file, operator.to_string()).unwrap();
        Self { folder, file }
    }

    fn hub(&self) -> Hub {
        let settings = Settings {
            data_dir: Some(self.folder.path().to_owned()),
            operator_file: Some(self.file.clone()),
            ..Settings::default()
        };
        Hub::open(Config::new(&settings).unwrap())
    }
}

fn allowing(origins: &[&str]) -> Value {
    let allow: Vec<Value> = origins.iter().map(|origin| json!({"origin": origin, "private": true})).collect();
    json!({"egress": {"allow": allow}})
}

/// An address that nobody listens at.
fn nobody() -> String {
    format!("http://{}", std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap())
}

async fn deploy(hub: &Hub, id: &str, executor: Value) {
    let document = json!({"id": id, "description": "d", "executor": executor});
    let deployed = hub.agent_deploy(&[document], "agents", &DeployOptions::default(), &actor()).await.unwrap();
    assert!(deployed[0].is_ok(), "{deployed:?}");
}

async fn contact(hub: &Hub, id: &str) -> AgentContact {
    hub.agent_contact(&hub.agent_get(None, id).await.unwrap())
}

async fn becomes(hub: &Hub, id: &str, status: AgentStatus) -> AgentContact {
    wait_until(LIMIT, &format!("{id} {status}"), async || contact(hub, id).await.status == status).await;
    contact(hub, id).await
}

/// Lets an agent do one thing, and waits for the end of it.
async fn invoke(hub: &Hub, id: &str) {
    let request = InvokeRequest { agent: id.to_owned(), input: json!({"n": 1}), ..InvokeRequest::default() };
    let run = hub.agent_invoke(request, &actor()).await.unwrap().id;
    wait_until(LIMIT, "the run to end", async || {
        hub.run_wait(&run, Duration::from_millis(100)).await.unwrap().run.status.is_finished()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_shows_whether_a_webhook_is_there_and_a_change_makes_it_declared_again() {
    let (webhook, gone) = (Webhook::start().await, nobody());
    let world = World::new(&allowing(&[&webhook.origin(), &gone]));
    let (hub, other) = (world.hub(), world.hub());
    deploy(&hub, "hook", json!({"kind": "http", "settings": {"url": format!("{}/x", webhook.origin())}})).await;
    assert_eq!(contact(&hub, "hook").await, AgentContact::default());
    let before = hub.agent_get(None, "hook").await.unwrap();
    invoke(&hub, "hook").await;
    let reached = becomes(&hub, "hook", AgentStatus::Reachable).await;
    assert!(reached.last_checked().unwrap() >= before.updated_at);
    assert!(reached.check.unwrap().checked_by.as_str().contains("runner"));
    wait_until(Duration::from_secs(1), "the other process", async || {
        contact(&other, "hook").await.status == AgentStatus::Reachable
    })
    .await;
    // It is no change of the agent.
    assert_eq!(hub.agent_get(None, "hook").await.unwrap(), before);
    assert_eq!(hub.agent_history(None, "hook", None, 10).await.unwrap().len(), 1);

    deploy(&hub, "hook", json!({"kind": "http", "settings": {"url": format!("{gone}/x")}})).await;
    assert_eq!(contact(&hub, "hook").await, AgentContact::default());
    invoke(&hub, "hook").await;
    let lost = becomes(&hub, "hook", AgentStatus::Unreachable).await;
    assert!(lost.detail().unwrap().contains("refused"), "{lost:?}");
    assert_eq!(hub.registry_stats(None).await.unwrap().registry.unreachable, 1);
    hub.close().await;
    other.close().await;

    let again = world.hub();
    again.ready().await.unwrap();
    assert_eq!(contact(&again, "hook").await, lost, "it is there after a restart");
    again.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_operators_file_lacks_leaves_nothing_behind() {
    let webhook = Webhook::start().await;
    let world = World::new(&json!({}));
    let hub = world.hub();
    deploy(&hub, "hook", json!({"kind": "http", "settings": {"url": webhook.origin()}})).await;
    let checked = hub.agent_check(None, &["hook".to_owned()], &actor()).await.unwrap().remove(0).unwrap();
    let CheckOutcome::NotChecked { reason } = checked.outcome else { panic!("{checked:?}") };
    assert!(reason.contains("egress.allow"), "{reason}");
    assert_eq!(webhook.requests(), 0);
    // What was noted would be written now.
    hub.close().await;
    let hub = world.hub();
    hub.ready().await.unwrap();
    assert_eq!(contact(&hub, "hook").await, AgentContact::default());
    hub.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_asks_for_work_shows_that_a_pull_agent_is_there() {
    let world = World::new(&json!({}));
    let (hub, other) = (world.hub(), world.hub());
    for id in ["asked", "claimed", "idle"] {
        deploy(&hub, id, json!({"kind": "pull"})).await;
    }
    let ask = async |hub: &Hub, agents: &[&str]| {
        let agents: Vec<String> = agents.iter().map(|id| (*id).to_owned()).collect();
        hub.work_next(None, &agents, Duration::ZERO, &Actor::new("session")).await.unwrap()
    };
    let pulled = hub.agent_check(None, &["asked".to_owned()], &actor()).await.unwrap().remove(0).unwrap();
    let CheckOutcome::NotChecked { reason } = pulled.outcome else { panic!("{pulled:?}") };
    assert!(reason.contains("none has since"), "{reason}");
    assert!(ask(&hub, &["asked"]).await.is_none());
    let reached = becomes(&hub, "asked", AgentStatus::Reachable).await;
    assert_eq!(reached.check.unwrap().checked_by.as_str(), "session");
    let pulled = hub.agent_check(None, &["asked".to_owned()], &actor()).await.unwrap().remove(0).unwrap();
    let CheckOutcome::NotChecked { reason } = pulled.outcome else { panic!("{pulled:?}") };
    assert!(reason.contains("one last did"), "{reason}");

    let steps = json!({"steps": [{"name": "s", "agent": "claimed"}]});
    hub.run_start(RunRequest { inline: Some(steps), ..RunRequest::default() }, &actor()).await.unwrap();
    // Whoever takes any work works as the agent whose step it gets.
    wait_until(LIMIT, "the work", async || ask(&other, &[]).await.is_some()).await;
    becomes(&other, "claimed", AgentStatus::Reachable).await;
    becomes(&hub, "claimed", AgentStatus::Reachable).await;
    assert_eq!(contact(&hub, "idle").await.status, AgentStatus::Declared);
    hub.close().await;
    other.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_contacts_every_enabled_agent_that_can_be_contacted() {
    let (webhook, gone, mut tools) = (Webhook::start().await, nobody(), Server::start().await);
    let mut operator = allowing(&[&webhook.origin(), &gone, &format!("http://{}", tools.address)]);
    operator["mcp"] = json!({"servers": {"s":
        {"url": format!("http://{}/mcp", tools.address), "tools": ["sum", "no-such-tool"]}}});
    operator["commands"] = json!({"true": {"argv": ["/bin/true"]}, "lost": {"argv": ["/no/such/program"]}});
    let world = World::new(&operator);
    let hub = world.hub();
    for (id, executor) in [
        ("a2a-gone", json!({"kind": "a2a", "settings": {"url": gone}})),
        ("builtin", json!({"kind": "builtin", "settings": {"operation": "echo"}})),
        ("command", json!({"kind": "command", "settings": {"name": "true"}})),
        ("command-lost", json!({"kind": "command", "settings": {"name": "lost"}})),
        ("command-unknown", json!({"kind": "command", "settings": {"name": "unknown"}})),
        ("hook", json!({"kind": "http", "settings": {"url": webhook.origin()}})),
        ("hook-gone", json!({"kind": "http", "settings": {"url": gone}})),
        ("pull", json!({"kind": "pull"})),
        ("tool", json!({"kind": "mcp", "settings": {"server": "s", "tool": "sum"}})),
        ("tool-missing", json!({"kind": "mcp", "settings": {"server": "s", "tool": "no-such-tool"}})),
    ] {
        deploy(&hub, id, executor).await;
    }
    let document = json!({"id": "off", "description": "d", "enabled": false,
        "executor": {"kind": "http", "settings": {"url": gone}}});
    hub.agent_deploy(&[document], "agents", &DeployOptions::default(), &actor()).await.unwrap();
    let outcomes = async || {
        let checked = hub.agent_check(None, &[], &actor()).await.unwrap();
        let shown = |outcome: &CheckOutcome| match outcome {
            CheckOutcome::Reachable { .. } => "reachable",
            CheckOutcome::Unreachable { .. } => "unreachable",
            CheckOutcome::NotChecked { .. } => "not checked",
        };
        let item = |item: Result<a2a_engine::hub::CheckedAgent, _>| {
            let checked = item.unwrap();
            (checked.agent.spec.id.to_string(), shown(&checked.outcome))
        };
        checked.into_iter().map(item).collect::<Vec<_>>()
    };
    let expected = [
        ("a2a-gone", "unreachable"),
        ("builtin", "reachable"),
        ("command", "reachable"),
        ("command-lost", "unreachable"),
        ("command-unknown", "not checked"),
        ("hook", "reachable"),
        ("hook-gone", "unreachable"),
        ("tool", "reachable"),
        ("tool-missing", "unreachable"),
    ]
    .map(|(id, outcome)| (id.to_owned(), outcome));
    assert_eq!(outcomes().await, expected);
    for (id, outcome) in &expected {
        let status = match *outcome {
            "reachable" => AgentStatus::Reachable,
            "unreachable" => AgentStatus::Unreachable,
            _ => AgentStatus::Declared,
        };
        becomes(&hub, id, status).await;
    }
    assert_eq!(contact(&hub, "builtin").await.check, None);
    assert_eq!(webhook.effects().len(), 0, "nothing was done");
    assert_eq!(tools.calls(), 0, "no tool was called");
    // The connection to the server of tools is kept, and its end is noticed.
    tools.stop();
    let (number, _) = expected.iter().enumerate().find(|(_, (id, _))| id == "tool").unwrap();
    wait_until(LIMIT, "the end of the tools", async || outcomes().await[number].1 == "unreachable").await;
    becomes(&hub, "tool", AgentStatus::Unreachable).await;
    // Ids that name nothing are told one by one.
    let ids = ["hook", "nothing"].map(str::to_owned);
    let checked = hub.agent_check(None, &ids, &actor()).await.unwrap();
    assert!(checked[0].is_ok() && checked[1].as_ref().unwrap_err().to_string().contains("nothing"));
    hub.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_of_a_tool_shows_whether_its_server_is_there() {
    let mut tools = Server::start().await;
    let origin = format!("http://{}", tools.address);
    let mut operator = allowing(&[&origin]);
    operator["mcp"] = json!({"servers": {"s": {"url": format!("{origin}/mcp"), "tools": ["sum", "fail"]}}});
    let world = World::new(&operator);
    let hub = world.hub();
    for tool in ["sum", "fail"] {
        deploy(&hub, tool, json!({"kind": "mcp", "settings": {"server": "s", "tool": tool}})).await;
        // A tool that fails has answered.
        invoke(&hub, tool).await;
        becomes(&hub, tool, AgentStatus::Reachable).await;
    }
    tools.stop();
    // The end of the kept connection is noticed by one attempt or another.
    for _ in 0..2 {
        invoke(&hub, "sum").await;
    }
    let lost = becomes(&hub, "sum", AgentStatus::Unreachable).await;
    assert!(lost.detail().is_some(), "{lost:?}");
    hub.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_works_with_an_earlier_state_of_an_agent_says_nothing_of_the_new_one() {
    let (webhook, gone) = (Webhook::start().await, nobody());
    let world = World::new(&allowing(&[&webhook.origin(), &gone]));
    let hub = world.hub();
    deploy(&hub, "hook", json!({"kind": "http", "settings": {"url": webhook.origin()}})).await;
    let steps = json!({"steps": [
        {"name": "gate", "agent": "builtin:gate", "input": {"question": "Go on?"}},
        {"name": "call", "agent": "hook", "depends_on": ["gate"], "input": {}},
    ]});
    let run = hub.run_start(RunRequest { inline: Some(steps), ..RunRequest::default() }, &actor()).await.unwrap().id;
    deploy(&hub, "hook", json!({"kind": "http", "settings": {"url": gone}})).await;
    hub.run_signal(run.as_str(), Some("gate"), None, &json!(true), false, &actor()).await.unwrap();
    wait_until(LIMIT, "the run to end", async || {
        hub.run_wait(&run, Duration::from_millis(100)).await.unwrap().run.status.is_finished()
    })
    .await;
    assert_eq!(webhook.effects().len(), 1, "the run has worked as it was started");
    // What was noted would be written now.
    hub.close().await;
    let hub = world.hub();
    hub.ready().await.unwrap();
    assert_eq!(contact(&hub, "hook").await, AgentContact::default());
    hub.close().await;
}
