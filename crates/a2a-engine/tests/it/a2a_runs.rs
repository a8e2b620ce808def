//! Runs whose steps are done by an agent of the A2A protocol, carried on by several processes.

use std::time::Duration;

use a2a_core::ids::{Actor, RunId};
use a2a_core::workflow::run::{RunStatus, StepStatus};
use a2a_engine::config::{Config, Settings};
use a2a_engine::hub::{DeployOptions, Hub, RunControl, RunRequest};
use a2a_testing::wait::wait_until;
use serde_json::{Value, json};

use crate::a2a::Agent;

const LIMIT: Duration = Duration::from_secs(30);

fn actor() -> Actor {
    Actor::new("test")
}

/// Processes that share a database and may speak to the agent.
struct World {
    agent: Agent,
    folder: tempfile::TempDir,
}

impl World {
    fn start() -> Option<Self> {
        Some(Self { agent: Agent::start()?, folder: tempfile::tempdir().unwrap() })
    }

    fn hub(&self) -> Hub {
        self.hub_with(Settings::default())
    }

    /// A process that takes no step.
    fn only_looking(&self) -> Hub {
        self.hub_with(Settings { steps_max: Some("0".to_owned()), ..Settings::default() })
    }

    fn hub_with(&self, settings: Settings) -> Hub {
        let settings = Settings { data_dir: Some(self.folder.path().to_owned()), ..settings };
        Hub::open(Config { operator: self.agent.operator.clone(), ..Config::new(&settings).unwrap() })
    }

    async fn cancel_calls(&self) -> u64 {
        self.agent.control(json!({})).await["calls"]["CancelTask"].as_u64().unwrap_or_default()
    }

    /// Starts a run of one step.
    async fn run(&self, hub: &Hub, input: &str) -> RunId {
        let url = format!("http://127.0.0.1:{}", self.agent.port);
        let document = json!({"id": "remote", "description": "works elsewhere",
            "executor": {"kind": "a2a", "settings": {"url": url}}});
        let deployed = hub.agent_deploy(&[document], "agents", &DeployOptions::default(), &actor()).await.unwrap();
        assert!(deployed[0].is_ok(), "{deployed:?}");
        let inline = json!({"steps": [{"name": "ask", "agent": "remote", "input": input}]});
        let request = RunRequest { inline: Some(inline), ..RunRequest::default() };
        hub.run_start(request, &actor()).await.unwrap().id
    }

    async fn messages(&self, id: &RunId) -> (u64, u64) {
        self.agent.messages_of(id.as_str()).await
    }
}

async fn until_ended(hub: &Hub, id: &RunId) -> (RunStatus, Value) {
    wait_until(LIMIT, "the run ends", async || {
        hub.run_get(id.as_str(), false).await.is_ok_and(|state| state.run.status.is_finished())
    })
    .await;
    let state = hub.run_get(id.as_str(), true).await.unwrap();
    let result = state.run.result.as_ref().map_or(Value::Null, |text| text.value().unwrap());
    (state.run.status, result)
}

/// Waits until the task is noted, so that another process can go on with it.
async fn until_noted(hub: &Hub, id: &RunId) {
    wait_until(LIMIT, "the task is noted", async || {
        let state = hub.run_get(id.as_str(), false).await.unwrap();
        let note = state.steps[0].checkpoint.as_ref().map(|note| note.value().unwrap()).unwrap_or_default();
        note["phase"] == "waiting"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_process_goes_on_with_a_task_and_sends_nothing() {
    let Some(world) = World::start() else { return };
    let here = world.hub();
    let id = world.run(&here, "slow gate").await;
    world.agent.control(json!({"reached": "gate"})).await;
    until_noted(&here, &id).await;
    here.close().await;
    let there = world.hub();
    wait_until(LIMIT, "the other process has the step", async || {
        let state = there.run_get(id.as_str(), false).await;
        state.is_ok_and(|state| state.steps[0].attempt == 2 && state.steps[0].status == StepStatus::Running)
    })
    .await;
    world.agent.control(json!({"release": "gate"})).await;
    let (status, result) = until_ended(&there, &id).await;
    assert_eq!((status, &result["text"]), (RunStatus::Completed, &json!("gate")));
    assert_eq!(world.messages(&id).await, (1, 1));
    let told = world.agent.control(json!({})).await;
    assert_eq!(told["cancelled"], json!({}), "the process that ended left the task alone");
    there.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_of_an_agent_waits_for_a_person() {
    let Some(world) = World::start() else { return };
    let here = world.hub();
    let id = world.run(&here, "ask").await;
    wait_until(LIMIT, "the run waits", async || {
        let state = here.run_get(id.as_str(), false).await.unwrap();
        state.run.status == RunStatus::Waiting && state.steps[0].wait.is_some()
    })
    .await;
    let wait = here.run_get(id.as_str(), false).await.unwrap().steps[0].wait.clone();
    assert!(format!("{wait:?}").contains("which colour?"), "{wait:?}");
    here.close().await;
    let there = world.hub();
    there.run_signal(id.as_str(), None, None, &json!("blue"), false, &actor()).await.unwrap();
    let (status, result) = until_ended(&there, &id).await;
    assert_eq!((status, &result["text"]), (RunStatus::Completed, &json!("you said blue")));
    assert_eq!(world.messages(&id).await, (2, 2));
    there.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_a_run_cancels_the_task_at_the_agent() {
    let Some(world) = World::start() else { return };
    let hub = world.hub();
    let id = world.run(&hub, "slow for-ever").await;
    until_noted(&hub, &id).await;
    hub.run_control(id.as_str(), RunControl::Cancel { reason: "enough".to_owned() }, &actor()).await.unwrap();
    wait_until(LIMIT, "the agent has heard of it", async || {
        world.agent.control(json!({})).await["cancelled"].as_object().unwrap().len() == 1
    })
    .await;
    assert_eq!(until_ended(&hub, &id).await.0, RunStatus::Cancelled);
    until_closed(&hub, &id).await;
    assert_eq!(world.cancel_calls().await, 1, "it is for the process that has the step");
    hub.close().await;
}

async fn until_asked(hub: &Hub, id: &RunId) {
    wait_until(LIMIT, "the agent asks", async || {
        hub.run_get(id.as_str(), false).await.unwrap().steps[0].wait.is_some()
    })
    .await;
}

/// The note goes when the agent has answered that its task is cancelled.
async fn until_closed(hub: &Hub, id: &RunId) {
    wait_until(LIMIT, "the task is closed", async || {
        hub.run_get(id.as_str(), true).await.unwrap().steps[0].checkpoint.is_none()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_no_process_holds_is_cancelled_with_its_step() {
    let Some(world) = World::start() else { return };
    let hub = world.hub();
    let cancelled = world.run(&hub, "ask").await;
    let refused = world.run(&hub, "ask").await;
    until_asked(&hub, &cancelled).await;
    until_asked(&hub, &refused).await;
    assert_eq!(world.cancel_calls().await, 0);
    hub.run_control(cancelled.as_str(), RunControl::Cancel { reason: "enough".to_owned() }, &actor()).await.unwrap();
    until_closed(&hub, &cancelled).await;
    assert_eq!(world.cancel_calls().await, 1);
    hub.run_signal(refused.as_str(), None, None, &Value::Null, true, &actor()).await.unwrap();
    until_closed(&hub, &refused).await;
    assert_eq!(world.cancel_calls().await, 2);
    assert_eq!(until_ended(&hub, &cancelled).await.0, RunStatus::Cancelled);
    assert_eq!(until_ended(&hub, &refused).await.0, RunStatus::Failed);
    hub.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_whose_process_has_gone_is_cancelled_by_another_one() {
    let Some(world) = World::start() else { return };
    let here = world.hub();
    let (waits, is_ready) = (world.run(&here, "ask").await, world.run(&here, "slow gate").await);
    until_asked(&here, &waits).await;
    world.agent.control(json!({"reached": "gate"})).await;
    until_noted(&here, &is_ready).await;
    here.close().await;
    // Whoever cancels does not speak with agents, and ends at once.
    let looking = world.only_looking();
    for id in [&waits, &is_ready] {
        let state = looking.run_get(id.as_str(), false).await.unwrap();
        assert!(matches!(state.steps[0].status, StepStatus::Waiting | StepStatus::Ready), "nobody holds it");
        looking.run_control(id.as_str(), RunControl::Cancel { reason: "enough".to_owned() }, &actor()).await.unwrap();
    }
    looking.close().await;
    assert_eq!(world.cancel_calls().await, 0);
    let there = world.hub();
    until_closed(&there, &waits).await;
    until_closed(&there, &is_ready).await;
    assert_eq!(world.cancel_calls().await, 2);
    there.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_that_are_waited_for_leave_the_places_to_other_steps() {
    let Some(world) = World::start() else { return };
    let hub = world.hub_with(Settings { steps_max: Some("1".to_owned()), ..Settings::default() });
    let slow =
        [world.run(&hub, "slow one").await, world.run(&hub, "slow two").await, world.run(&hub, "slow three").await];
    for id in &slow {
        until_noted(&hub, id).await;
    }
    let inline = Some(json!({"steps": [
        {"name": "a", "agent": "builtin:echo", "input": 1}, {"name": "b", "agent": "builtin:echo", "input": 2}]}));
    let other = hub.run_start(RunRequest { inline, ..RunRequest::default() }, &actor()).await.unwrap().id;
    assert_eq!(until_ended(&hub, &other).await.0, RunStatus::Completed);
    for (id, gate) in slow.iter().zip(["one", "two", "three"]) {
        assert_eq!(hub.run_get(id.as_str(), false).await.unwrap().steps[0].status, StepStatus::Running);
        world.agent.control(json!({"release": gate})).await;
    }
    for id in &slow {
        assert_eq!(until_ended(&hub, id).await.0, RunStatus::Completed);
    }
    hub.close().await;
}
