//! The connection to Postgres is cut at the moments that matter: every command about workflows is done once.

use a2a_core::ids::RunId;
use a2a_core::json_text::JsonText;
use a2a_core::workflow::command::{Event, Refusal, StepResult, WorkflowCommand, WorkflowOutcome};
use a2a_core::workflow::run::{RunStatus, StepStatus};
use a2a_store::writer::WriteError;
use a2a_testing::fault_proxy::{Action, FaultProxy, Trigger};
use serde_json::json;
use std::time::Duration;

use crate::process::{Process, in_secs};
use crate::workflow_document::{
    cancel, chain, claim, claim_next, claim_ref, claimed, event, finish, new_run, one, put, remove, start, started,
    workflow_key,
};
use crate::world::{World, postgres_location};

const TRIGGERS: [Trigger; 3] = [Trigger::BeforeCommit, Trigger::DuringCommit, Trigger::AfterCommit];

/// Submits one command while the connection is cut, and returns what the writer found out.
async fn cut(proxy: &FaultProxy, process: &Process, trigger: &Trigger, command: WorkflowCommand) -> WorkflowOutcome {
    let fault = proxy.arm_cut_at(trigger.clone());
    let shown = format!("{trigger:?} of {command:?}");
    let mut outcomes = process.workflow_writer.submit(vec![command], in_secs(20)).await.unwrap();
    assert_eq!(fault.fired(), 1, "{shown}");
    outcomes.remove(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_at_commit_does_each_command_once() {
    let Some(world) = World::postgres().await else { return };
    let url = world.database().url();
    let proxy = FaultProxy::start_for(&url).await;
    let process = Process::start(&postgres_location(&proxy.url(&url))).await;
    let store = world.store().await;
    for (round, trigger) in TRIGGERS.iter().cycle().take(9).enumerate() {
        let run = format!("r{round}");
        let run_id = RunId::from_stored(run.as_str());
        let mut revision = i64::try_from(round).unwrap() * 3;
        for (name, expected) in [("one", Some(0)), ("two", Some(revision + 1))] {
            let outcome = cut(&proxy, &process, trigger, put("w", name, expected)).await;
            revision += 1;
            match outcome {
                WorkflowOutcome::WorkflowPut { workflow, .. } => assert_eq!(workflow.revision, revision),
                other => panic!("{trigger:?}: {other:?}"),
            }
        }
        let outcome = cut(&proxy, &process, trigger, remove("w", Some(revision))).await;
        assert!(
            matches!(outcome, WorkflowOutcome::WorkflowRemoved { revision: r } if r == revision + 1),
            "{outcome:?}"
        );

        let mut new = new_run(&run, &chain(4));
        new.claim_next = Some(claim_next("start", 4));
        new.idempotency_key = Some(run.as_str().into());
        let (_, taken) = started(cut(&proxy, &process, trigger, start(new)).await);
        assert_eq!(taken, [0], "{trigger:?}");
        let result = StepResult::Completed { output: JsonText::new(&json!("first")) };
        let next = Some(claim_next("next", 4));
        let handing_in = event(&run, Event::Finish { order: 0, attempt: 1, result, claim_next: next });
        let outcome = cut(&proxy, &process, trigger, handing_in).await;
        let WorkflowOutcome::Applied { claimed: taken, .. } = outcome else { panic!("{outcome:?}") };
        assert_eq!(taken, [1], "{trigger:?}");
        let release = Event::Finish { order: 1, attempt: 1, result: StepResult::Released, claim_next: None };
        cut(&proxy, &process, trigger, event(&run, release)).await;
        let (_, step) = claimed(cut(&proxy, &process, trigger, claim(&run, 1, "p")).await);
        assert_eq!((step.attempt, step.failures), (2, 0), "{trigger:?}");
        let note = WorkflowCommand::StepNote {
            claim: claim_ref(&run, 1, 2),
            progress: None,
            checkpoint: Some(JsonText::new(&json!({"n": round}))),
            lease: Duration::from_secs(45),
            progress_within: None,
        };
        let noted = cut(&proxy, &process, trigger, note).await;
        assert!(matches!(noted, WorkflowOutcome::Noted), "{noted:?}");
        let ask = Event::Ask { order: 1, attempt: 2, question: "?".into(), schema: None, checkpoint: None };
        let asked = cut(&proxy, &process, trigger, event(&run, ask)).await;
        let WorkflowOutcome::Applied { state, .. } = asked else { panic!("{asked:?}") };
        let question = state.steps[1].question().unwrap().number;
        let answer = Event::Answer { order: 1, question, answer: JsonText::new(&json!(1)), refuse: false };
        let answered = cut(&proxy, &process, trigger, event(&run, answer)).await;
        assert!(matches!(answered, WorkflowOutcome::Applied { .. }), "{answered:?}");
        for control in [Event::Pause, Event::Resume] {
            let outcome = cut(&proxy, &process, trigger, event(&run, control)).await;
            assert!(matches!(outcome, WorkflowOutcome::Applied { .. }), "{outcome:?}");
        }
        claimed(cut(&proxy, &process, trigger, claim(&run, 1, "q")).await);
        cut(&proxy, &process, trigger, finish(&run, 1, 3, &json!("second"))).await;
        claimed(cut(&proxy, &process, trigger, claim(&run, 2, "q")).await);
        let result = StepResult::Failed { error: "broken".into(), retryable: false };
        let failing = event(&run, Event::Finish { order: 2, attempt: 1, result, claim_next: None });
        let failed = cut(&proxy, &process, trigger, failing).await;
        let WorkflowOutcome::Applied { state, .. } = failed else { panic!("{failed:?}") };
        assert_eq!(state.run.status, RunStatus::Failed);
        let retried = cut(&proxy, &process, trigger, event(&run, Event::Retry)).await;
        // A run that goes on again can't be retried: that is what the second attempt is told.
        assert!(
            matches!(&retried, WorkflowOutcome::Applied { .. } | WorkflowOutcome::Refused(Refusal::Run { .. })),
            "{trigger:?}: {retried:?}"
        );
        let state = store.run_read(&run_id, false).await.unwrap().unwrap();
        assert_eq!((state.steps[2].status, state.steps[2].attempt), (StepStatus::Ready, 1), "{trigger:?}");
        cut(&proxy, &process, trigger, cancel(&run)).await;
        let state = store.run_read(&run_id, true).await.unwrap().unwrap();
        assert_eq!(state.run.status, RunStatus::Cancelled);
        let found: Vec<(StepStatus, i32)> = state.steps.iter().map(|step| (step.status, step.attempt)).collect();
        let expected = [
            (StepStatus::Completed, 1),
            (StepStatus::Completed, 3),
            (StepStatus::Cancelled, 1),
            (StepStatus::Cancelled, 0),
        ];
        assert_eq!(found, expected, "{trigger:?}");
    }
    let revisions = store.workflow_history(&workflow_key("w"), None, 100).await.unwrap();
    assert_eq!(revisions.len(), 27, "no revision was made twice");
    assert_eq!(world.count("SELECT count(*) FROM runs").await, 9);
    process.stop().await;
}

/// The caller's deadline comes while nobody can know, and somebody else writes before it asks again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workflow_that_was_saved_with_an_unknown_outcome_is_not_saved_over_a_later_one() {
    let Some(world) = World::postgres().await else { return };
    let url = world.database().url();
    let proxy = FaultProxy::start_for(&url).await;
    let process = Process::start(&postgres_location(&proxy.url(&url))).await;
    let store = world.store().await;
    let (saved, removed) = (put("w", "mine", None), remove("w", None));
    for (mine, revision) in [(saved, 1), (removed, 3)] {
        let fault = proxy.arm(Trigger::AfterCommit, Action::BlackHole, 1);
        let deadline = tokio::time::Instant::now() + Duration::from_millis(500);
        let told = process.workflow_writer.submit(vec![mine.clone()], deadline).await;
        assert!(matches!(told, Err(WriteError::Unknown { .. })), "{told:?}");
        assert_eq!(fault.fired(), 1);
        let theirs = one(&store, put("w", "theirs", None)).await;
        let WorkflowOutcome::WorkflowPut { workflow: theirs, .. } = theirs else { panic!("{theirs:?}") };
        assert_eq!(theirs.revision, revision + 1);
        proxy.heal();
        let mut again = process.workflow_writer.submit(vec![mine], in_secs(20)).await.unwrap();
        match again.remove(0) {
            WorkflowOutcome::WorkflowPut { workflow, .. } => assert_eq!(workflow.revision, revision),
            WorkflowOutcome::WorkflowRemoved { revision: told } => assert_eq!(told, revision),
            other => panic!("{other:?}"),
        }
        let current = store.workflow_history(&workflow_key("w"), None, 1).await.unwrap().remove(0);
        assert_eq!((current.workflow, current.removed_at), (theirs, None));
    }
    process.stop().await;
}
