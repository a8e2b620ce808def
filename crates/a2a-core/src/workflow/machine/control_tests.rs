//! What people decide: cancel, pause, resume, retry, fork.

use serde_json::json;

use super::Verdict;
use super::fixtures::{BEGIN, Sim, completed};
use super::{fork, start};
use crate::ids::{Actor, RunId};
use crate::workflow::command::{Event, Refusal};
use crate::workflow::run::{Payload, RunStatus, StepStatus};

fn cancel() -> Event {
    Event::Cancel { reason: "not needed".into() }
}

#[test]
fn cancel_ends_everything_and_wins_over_what_comes_later() {
    let mut sim = Sim::new(&json!({"steps": [
        {"name": "a", "agent": "x"}, {"name": "b", "agent": "x"}, {"name": "c", "agent": "x", "depends_on": ["a"]}]}));
    let attempt = sim.claim("a").unwrap();
    sim.happens(&cancel());
    assert_eq!((sim.run_status(), sim.error()), (RunStatus::Cancelled, "cancelled by tester: not needed"));
    assert!(sim.state.steps.iter().all(|step| step.status == StepStatus::Cancelled && step.lease_owner.is_none()));
    assert!(matches!(sim.finish("a", attempt, completed(&json!(1))), Verdict::Refused(Refusal::Stale { .. })));
    assert_eq!(sim.event(&cancel()), Verdict::Repeated);
    for event in [Event::Pause, Event::Resume, Event::Retry] {
        assert_eq!(sim.event(&event), Verdict::Refused(Refusal::Run { status: RunStatus::Cancelled }));
    }
}

#[test]
fn cancel_is_refused_once_the_run_has_completed() {
    let mut sim = Sim::new(&json!({"steps": [{"name": "a", "agent": "x"}]}));
    sim.done("a", &json!(1));
    assert_eq!(sim.event(&cancel()), Verdict::Refused(Refusal::Run { status: RunStatus::Completed }));
    assert_eq!(sim.result(), json!(1));
}

#[test]
fn a_paused_run_begins_nothing_and_finishes_what_is_worked_on() {
    let mut sim = Sim::new(&json!({"steps": [
        {"name": "a", "agent": "x"}, {"name": "b", "agent": "x"}, {"name": "c", "agent": "x", "depends_on": ["a"]}]}));
    let attempt = sim.claim("a").unwrap();
    let input = sim.input("b");
    sim.happens(&Event::Pause);
    assert_eq!(sim.event(&Event::Pause), Verdict::Repeated);
    assert_eq!((sim.status("a"), sim.status("b")), (StepStatus::Running, StepStatus::Pending));
    assert!(sim.claim("b").is_err());
    assert_eq!(sim.finish("a", attempt, completed(&json!(1))), Verdict::Applied);
    assert_eq!((sim.status("c"), sim.run_status()), (StepStatus::Pending, RunStatus::Waiting));
    sim.happens(&Event::Resume);
    assert_eq!(sim.event(&Event::Resume), Verdict::Repeated);
    assert_eq!((sim.status("b"), sim.status("c")), (StepStatus::Ready, StepStatus::Ready));
    assert_eq!(sim.input("b"), input);
}

#[test]
fn a_pause_holds_for_attempts_that_failed_vanished_or_were_answered() {
    let mut sim = Sim::new(&json!({"steps": [
        {"name": "a", "agent": "x"}, {"name": "b", "agent": "x"}, {"name": "c", "agent": "x"}]}));
    sim.fails("a", true);
    sim.claim("b").unwrap();
    let attempt = sim.claim("c").unwrap();
    sim.happens(&Event::Ask { order: 2, attempt, question: "?".into(), schema: None, checkpoint: None });
    sim.happens(&Event::Pause);
    let answer = sim.answer_event("c", &json!(1), false);
    sim.happens(&answer);
    sim.passes(60);
    for name in ["a", "b", "c"] {
        assert_eq!(sim.status(name), StepStatus::Pending, "{name}");
    }
    sim.happens(&Event::Resume);
    for name in ["a", "b", "c"] {
        assert_eq!(sim.status(name), StepStatus::Ready, "{name}");
    }
    assert_eq!(sim.step("c").answer.as_ref().unwrap().as_str(), "1");
}

#[test]
fn retry_does_what_failed_again_and_keeps_what_was_done() {
    let mut sim = Sim::new(&json!({"steps": [
        {"name": "a", "agent": "x"},
        {"name": "b", "agent": "x", "depends_on": ["a"], "input": "{{ steps.a.output }}"},
        {"name": "skipped", "agent": "x", "depends_on": [{"step": "b", "required": true}]},
        {"name": "c", "agent": "x", "depends_on": ["b"]}]}));
    assert_eq!(sim.event(&Event::Retry), Verdict::Refused(Refusal::Run { status: RunStatus::Pending }));
    sim.done("a", &json!("kept"));
    sim.fails("b", false);
    let late = sim.step("b").attempt;
    sim.happens(&Event::Retry);
    assert_eq!(
        (sim.status("a"), sim.status("b"), sim.status("c")),
        (StepStatus::Completed, StepStatus::Ready, StepStatus::Pending)
    );
    assert_eq!((sim.step("b").failures, sim.step("b").attempt, &sim.step("b").error), (0, late, &None));
    assert_eq!((sim.run_status(), &sim.state.run.error, sim.state.run.finished_at), (RunStatus::Waiting, &None, None));
    assert!(matches!(sim.finish("b", late, completed(&json!(1))), Verdict::Refused(Refusal::Stale { .. })));
    sim.done("b", &json!(1));
    sim.done("c", &json!(2));
    sim.done("skipped", &json!(3));
    assert_eq!(sim.run_status(), RunStatus::Completed);
    assert_eq!(sim.event(&Event::Retry), Verdict::Refused(Refusal::Run { status: RunStatus::Completed }));
}

#[test]
fn retry_runs_a_compensation_again_that_has_failed_and_is_refused_once_one_has_completed() {
    let mut sim = Sim::new(&json!({"steps": [
        {"name": "a", "agent": "x", "on_failure": {"compensate": "undo"}}, {"name": "undo", "agent": "x"}]}));
    for _ in 0..2 {
        sim.fails("a", false);
        sim.fails("undo", false);
        assert_eq!(sim.run_status(), RunStatus::Failed);
        sim.happens(&Event::Retry);
        assert_eq!((sim.status("a"), sim.status("undo")), (StepStatus::Ready, StepStatus::Pending));
    }
    sim.fails("a", false);
    sim.done("undo", &json!(1));
    assert_eq!(sim.run_status(), RunStatus::Failed);
    assert_eq!(sim.event(&Event::Retry), Verdict::Refused(Refusal::Compensated));
}

#[test]
fn retry_asks_for_the_outputs_that_it_reads_again() {
    let mut sim = Sim::new(&json!({"steps": [
        {"name": "a", "agent": "x"},
        {"name": "b", "agent": "x", "depends_on": ["a"], "input": "{{ steps.a.output }}"}]}));
    sim.done("a", &json!(1));
    sim.fails("b", false);
    sim.state.steps[0].output = Payload::Stored;
    assert_eq!(sim.try_apply(&Event::Retry).unwrap_err().0, [0]);
}

#[test]
fn a_fork_does_a_step_and_all_that_follow_again() {
    let mut sim = Sim::new(&json!({"steps": [
        {"name": "a", "agent": "x"}, {"name": "side", "agent": "x"},
        {"name": "b", "agent": "x", "depends_on": ["a"], "input": "{{ steps.a.output }}"},
        {"name": "c", "agent": "x", "depends_on": ["b", "side"]}]}));
    sim.done("a", &json!("kept"));
    sim.done("side", &json!("kept too"));
    sim.done("b", &json!("again"));
    sim.fails("c", false);
    let new = fork(&sim.state, sim.order("b"), RunId::from_stored("run-b"), Actor::new("forker"));
    assert_eq!(new.forked_from, Some(sim.state.run.id.clone()));
    let mut forked = Sim::of(&new);
    let statuses = ["a", "side", "b", "c"].map(|name| forked.status(name));
    use StepStatus::{Completed, Pending, Ready};
    assert_eq!(statuses, [Completed, Completed, Ready, Pending]);
    assert_eq!((forked.input("b"), forked.output("side")), (json!("kept"), json!("kept too")));
    forked.done("b", &json!(1));
    forked.done("c", &json!("new"));
    assert_eq!(forked.result(), json!("new"));
}

#[test]
fn a_fork_does_again_what_is_not_done_and_what_it_cannot_take_over() {
    let mut sim = Sim::new(&json!({"steps": [
        {"name": "a", "agent": "x"}, {"name": "b", "agent": "x", "on_failure": "continue"}, {"name": "c", "agent": "x"},
        {"name": "d", "agent": "x", "depends_on": ["a"], "run_if": "false"}]}));
    sim.done("a", &json!(1));
    sim.fails("b", false);
    sim.claim("c").unwrap();
    let statuses = |new| start(&new, BEGIN).state.steps.iter().map(|step| step.status).collect::<Vec<_>>();
    use StepStatus::{Completed, Failed, Ready, Skipped};
    let from_d = fork(&sim.state, 3, RunId::from_stored("run-b"), Actor::new("f"));
    assert_eq!(statuses(from_d), [Completed, Failed, Ready, Skipped]);
    sim.state.steps[0].output = Payload::Stored;
    let unloaded = fork(&sim.state, 2, RunId::from_stored("run-b"), Actor::new("f"));
    assert_eq!(unloaded.kept.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true, false, false]);
}
