//! Whatever agents and workflows say, wherever they say it: nothing is started, called or reached but what the
//! operator's file lists, in the way that it lists it.
//!
//! The file lists a command, an origin and a tool of an MCP server, all of which keep count. Beside them are a program,
//! a listener, a tool and another operator's file that nobody may use. Agents and workflows are made of the names of
//! all these, in every place and under every key that could have a meaning.

mod bait;
mod documents;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use a2a_core::agent::{AgentSpec, Executor, ExecutorKind};
use a2a_core::ids::{Actor, Namespace, RunId};
use a2a_core::json_text::JsonText;
use a2a_core::workflow::document::builtin;
use a2a_core::workflow::run::{RunState, Step, StepStatus};
use a2a_engine::config::{Config, Settings};
use a2a_engine::executors::Executors;
use a2a_engine::hub::{DeployOptions, Hub, RunControl, RunRequest, SaveOptions};
use a2a_testing::wait::wait_for;
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::{Config as ProptestConfig, TestRunner};
use serde_json::{Value, json};

use self::bait::{Bait, Seen};
use self::documents::Case;
use crate::attempts;

const CASES: u32 = 400;
const LIMIT: Duration = Duration::from_secs(20);

fn actor() -> Actor {
    Actor::new("somebody")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stored_documents_reach_only_what_the_operators_file_lists() {
    let bait = Bait::set().await;
    let settings = Settings { storage: Some("memory".to_owned()), ..Settings::default() };
    let hub = Hub::open(Config { operator: bait.operator.clone(), ..Config::new(&settings).unwrap() });
    let strategy = documents::case(&bait.names());
    let mut runner = TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() });
    let mut sums = Sums::default();
    for number in 0..CASES {
        // A tree would be simplified, which takes a synchronous test; the case is small enough to be read as it is.
        let case = strategy.new_tree(&mut runner).unwrap().current();
        let namespace = Namespace::parse(&format!("n{number}")).unwrap();
        Trial { bait: &bait, hub: &hub, case: &case, namespace }.run(&mut sums).await;
    }
    println!("{CASES} cases: {sums:?}");
    // What is listed was used, so that the rest says something.
    let Sums { refused, agents, runs, steps, listed, unlisted } = sums;
    assert!(refused > 100 && agents > 200 && runs > 80 && steps > 100, "{refused} {agents} {runs} {steps}");
    assert!(
        listed.commands > 50 && listed.requests > 20 && listed.calls > 20 && unlisted > 150,
        "{listed:?} {unlisted}"
    );
    hub.close().await;
}

/// What all cases came to.
#[derive(Debug, Default)]
struct Sums {
    /// Documents that were refused.
    refused: usize,
    agents: usize,
    runs: usize,
    /// Steps that were attempted.
    steps: usize,
    listed: Seen,
    /// Executors that name what is not listed.
    unlisted: usize,
}

struct Trial<'t> {
    bait: &'t Bait,
    hub: &'t Hub,
    case: &'t Case,
    namespace: Namespace,
}

impl Trial<'_> {
    async fn run(&self, sums: &mut Sums) {
        let agents = self.deploy(sums).await;
        let mut may = Seen::default();
        let before = self.bait.seen();
        if let Some(id) = self.start(sums).await {
            let state = self.settled(&id).await;
            sums.runs += 1;
            for (spec, step) in state.run.definition.spec.steps.iter().zip(&state.steps) {
                let said = builtin(&spec.agent).or_else(|| agents.get(spec.agent.as_str()).cloned());
                assert_eq!(Some(&step.executor), said.as_ref(), "{}: a step is done as its agent says", self.case);
                sums.steps += usize::from(step.attempt > 0 || step.status == StepStatus::Completed);
                may += self.bait.allows(&step.executor) * usize::try_from(step.attempt).unwrap();
            }
        }
        self.check(before, may);

        // What stands in a row may have passed no validation, and be executed by a process that did not ask whether it
        // can. So it is, here: as the document says, with the input of each step.
        let executors = Executors::new(self.bait.operator.clone());
        for executor in self.case.executors() {
            let allowed = self.bait.allows(&executor);
            let may = allowed * self.case.inputs().len();
            if may == Seen::default() {
                let pushed = !matches!(executor.kind, ExecutorKind::Builtin | ExecutorKind::Pull);
                sums.unlisted += usize::from(pushed);
                assert!(!pushed || executors.can_run(&executor).is_err(), "{}: {executor:?}", self.case);
            }
            let before = self.bait.seen();
            for input in self.case.inputs() {
                let settings = executor.settings.value().unwrap();
                let mut step = attempts::Step::new(&self.bait.operator, executor.kind, &settings, input.clone());
                step.work.timeout = Some(LIMIT);
                step.attempt_of(&executors).await.unwrap();
            }
            self.check(before, may);
            sums.listed += may;
        }
    }

    /// Whatever was seen is listed, and commands are run exactly as often as steps ask for them.
    fn check(&self, before: Seen, may: Seen) {
        let seen = self.bait.seen() - before;
        let what = format!("{}\nseen {seen:?}, allowed {may:?}", self.case);
        self.bait.assert_untouched(&what);
        assert_eq!(seen.commands, may.commands, "{what}");
        assert!(may.requests > 0 || seen.requests == 0, "{what}");
        assert!(seen.calls <= may.calls, "{what}");
    }

    /// Deploys what is valid, and returns how it works as far as it is there.
    async fn deploy(&self, sums: &mut Sums) -> BTreeMap<String, Executor> {
        let options = DeployOptions { namespace: Some(self.namespace.clone()), ..DeployOptions::default() };
        let mut agents = BTreeMap::new();
        for document in &self.case.agents {
            let deployed = self.hub.agent_deploy(std::slice::from_ref(document), "agents", &options, &actor()).await;
            if deployed.is_ok_and(|deployed| deployed[0].is_ok()) {
                let spec = AgentSpec::from_document(document, "", &self.namespace).unwrap();
                agents.insert(spec.id.to_string(), spec.executor);
                sums.agents += 1;
            } else {
                sums.refused += 1;
            }
        }
        agents
    }

    /// Saves the workflow and runs it, with overrides if they are valid.
    async fn start(&self, sums: &mut Sums) -> Option<RunId> {
        let options = SaveOptions { namespace: Some(self.namespace.clone()), ..SaveOptions::default() };
        let saved = self.hub.workflow_save(&self.case.workflow, "", &options, &actor()).await;
        assert!(!(saved.is_ok() && self.case.has_unknown_field), "{}: nothing unknown is taken", self.case);
        if saved.is_err() {
            sums.refused += 1;
            return None;
        }
        for overrides in [Some(&self.case.overrides), None] {
            let request = RunRequest {
                namespace: Some(self.namespace.clone()),
                workflow: Some("w".to_owned()),
                context: self.case.context.as_object().cloned(),
                input: Some(self.case.input.clone()),
                overrides: overrides.and_then(Value::as_object).cloned(),
                ..RunRequest::default()
            };
            match self.hub.run_start(request, &actor()).await {
                Ok(started) => return Some(started.id),
                Err(_) => sums.refused += 1,
            }
        }
        None
    }

    /// Waits until nothing happens by itself any more, and ends the run.
    async fn settled(&self, id: &RunId) -> Arc<RunState> {
        let look = async || {
            let state = self.hub.run_get(id.as_str(), false).await.unwrap();
            let stands = |step: &Step| match step.status {
                StepStatus::Ready => {
                    step.executor.kind == ExecutorKind::Pull || self.hub.step_hindrance(step).is_some()
                }
                StepStatus::Running => false,
                _ => true,
            };
            state.steps.iter().all(stands).then_some(state)
        };
        let state = wait_for(LIMIT, "the run stands still", look).await;
        if !state.run.status.is_finished() {
            let cancel = RunControl::Cancel { reason: "enough seen".to_owned() };
            self.hub.run_control(id.as_str(), cancel, &actor()).await.unwrap();
        }
        self.hub.run_get(id.as_str(), false).await.unwrap()
    }
}

/// An executor as a row could have it.
fn stored(kind: ExecutorKind, settings: &Value) -> Executor {
    Executor { kind, settings: JsonText::new(settings) }
}

/// The name of an executor's kind.
fn kind(document: &Value) -> Option<ExecutorKind> {
    ExecutorKind::from_name(document["executor"]["kind"].as_str()?)
}

/// Nothing at all.
fn nothing() -> Value {
    json!({})
}
