//! What the built-in agents do without a worker and without a transition of their own.

use serde_json::{Value, json};

use super::fixtures::{BEGIN, Sim, definition, new_run};
use super::start;
use crate::agent::{Executor, ExecutorKind};
use crate::json_text::JsonText;
use crate::limits;
use crate::workflow::command::Event;
use crate::workflow::run::{RunStatus, StepStatus};

fn transform(expression: &str) -> Sim {
    Sim::new(&json!({"steps": [
        {"name": "a", "agent": "builtin:transform", "input": {"expression": expression, "n": "{{ input.n }}"}}]}))
}

#[test]
fn a_chain_of_them_is_done_when_its_run_begins() {
    let run = new_run(&definition(&json!({"steps": [
        {"name": "a", "agent": "builtin:echo", "input": {"n": "{{ input.n + 1 }}"}},
        {"name": "b", "agent": "builtin:transform", "depends_on": ["a"],
         "input": {"expression": "value.n * 21", "n": "{{ steps.a.output.n }}"}},
        {"name": "c", "agent": "builtin:echo", "run_if": "steps.b.output > 50", "depends_on": ["b"]},
        {"name": "d", "agent": "builtin:echo", "input": "{{ steps.b.output }}", "depends_on": ["c"]}]})));
    let begun = start(&run, BEGIN);
    assert_eq!(begun.state.run.status, RunStatus::Completed);
    assert_eq!(begun.state.run.result, Some(JsonText::new(&json!(42))));
    assert_eq!((begun.state.run.started_at, begun.state.run.finished_at), (Some(BEGIN), Some(BEGIN)));
    let statuses: Vec<StepStatus> = begun.state.steps.iter().map(|step| step.status).collect();
    assert_eq!(
        statuses[..],
        [StepStatus::Completed, StepStatus::Completed, StepStatus::Skipped, StepStatus::Completed]
    );
    assert!(begun.state.steps.iter().all(|step| step.attempt == 0 && step.revision == 1));
}

#[test]
fn they_go_on_from_what_a_worker_hands_in_and_make_the_next_one_ready() {
    let mut sim = Sim::new(&json!({"max_parallel": 1, "steps": [
        {"name": "a", "agent": "x"},
        {"name": "b", "agent": "builtin:echo", "input": "{{ steps.a.output }}", "depends_on": ["a"]},
        {"name": "c", "agent": "x", "input": "{{ steps.b.output.text }}", "depends_on": ["b"]}]}));
    sim.done("a", &json!({"text": "hi"}));
    assert_eq!((sim.status("b"), sim.status("c")), (StepStatus::Completed, StepStatus::Ready));
    assert_eq!(sim.input("c"), json!("hi"));
}

#[test]
fn a_transform_that_can_not_be_evaluated_fails_for_good() {
    for (expression, message) in [
        ("{{ 'input.(' }}", "the expression of the transform failed"),
        ("input.missing + 1", "the expression of the transform failed"),
        ("range(1000000000) | sum", "the expression of the transform failed"),
    ] {
        let sim = transform(expression);
        assert_eq!(sim.run_status(), RunStatus::Failed, "{expression}");
        assert!(sim.error().contains(message), "{}", sim.error());
    }
    let passed_over = Sim::new(&json!({"steps": [
        {"name": "a", "agent": "builtin:transform", "input": {"expression": "input.x.y"}, "on_failure": "continue"},
        {"name": "b", "agent": "builtin:echo", "input": "{{ steps.a.status }}", "depends_on": ["a"]}]}));
    assert_eq!((passed_over.run_status(), passed_over.output("b")), (RunStatus::Completed, json!("FAILED")));
}

#[test]
fn a_paused_run_does_nothing_until_it_goes_on() {
    let mut sim = Sim::new(&json!({"steps": [
        {"name": "a", "agent": "x"}, {"name": "b", "agent": "builtin:echo", "depends_on": ["a"]}]}));
    let attempt = sim.claim("a").unwrap();
    sim.happens(&Event::Pause);
    let finish = sim.finish_event("a", attempt, super::fixtures::completed(&json!(1)));
    sim.happens(&finish);
    assert_eq!(sim.status("b"), StepStatus::Pending);
    sim.happens(&Event::Resume);
    assert_eq!((sim.status("b"), sim.run_status()), (StepStatus::Completed, RunStatus::Completed));
}

#[test]
fn what_one_transition_writes_is_bounded_and_the_rest_is_done_in_others() {
    let steps: Vec<Value> =
        (0..20).map(|n| json!({"name": format!("s{n}"), "agent": "builtin:echo", "input": "{{ input }}"})).collect();
    let mut run = new_run(&definition(&json!({"steps": steps})));
    run.input = JsonText::new(&json!("x".repeat(limits::STEP_OUTPUT_BYTES_MAX - 2)));
    let mut sim = Sim::of(&run);
    let done = |sim: &Sim| sim.state.steps.iter().filter(|step| step.status == StepStatus::Completed).count();
    assert_eq!(done(&sim), limits::EXPRESSION_READ_BYTES_MAX / limits::STEP_OUTPUT_BYTES_MAX);
    let mut transitions = 1;
    while sim.run_status() != RunStatus::Completed {
        let before = done(&sim);
        sim.passes(0);
        transitions += 1;
        assert!(done(&sim) > before, "{before}");
    }
    assert_eq!(transitions, 3);
}

#[test]
fn a_deployed_agent_that_echoes_has_a_worker() {
    let mut run = new_run(&definition(&json!({"steps": [{"name": "a", "agent": "parrot"}]})));
    let settings = JsonText::new(&json!({"operation": "echo"}));
    run.executors = vec![Executor { kind: ExecutorKind::Builtin, settings }];
    assert_eq!(Sim::of(&run).status("a"), StepStatus::Ready);
}
