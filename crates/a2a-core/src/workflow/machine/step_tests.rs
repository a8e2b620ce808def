//! What becomes of steps: dependencies, conditions, failures, time.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::Verdict;
use super::fixtures::{Sim, claimer, completed, definition, failed, new_run};
use super::{OutputsNeeded, note, start};
use crate::json_text::JsonText;
use crate::limits;
use crate::workflow::command::{ClaimNext, ClaimRef, Event, Refusal};
use crate::workflow::run::{Payload, RunStatus, StepStatus, Wait};

#[test]
fn a_chain_runs_in_order_and_its_result_is_the_output_of_the_last_step() {
    let mut sim = Sim::new(&json!({"context": {"who": "you"}, "steps": [
        {"name": "b", "agent": "x", "depends_on": ["a"], "input": {"text": "{{ steps.a.output.text }} {{ context.who }}"}},
        {"name": "a", "agent": "x", "input": {"n": "{{ input.n }}", "run": "{{ run.id }}"}}]}));
    assert_eq!(sim.run_status(), RunStatus::Pending);
    assert_eq!((sim.status("a"), sim.status("b")), (StepStatus::Ready, StepStatus::Pending));
    assert_eq!(sim.input("a"), json!({"n": 1, "run": "run-a"}));
    assert_eq!(sim.claim("b"), Err(Refusal::Step { status: StepStatus::Pending }));
    sim.done("a", &json!({"text": "hello"}));
    assert_eq!(sim.run_status(), RunStatus::Waiting);
    assert_eq!(sim.input("b"), json!({"text": "hello you"}));
    sim.done("b", &json!([1, 2]));
    assert_eq!((sim.run_status(), sim.result()), (RunStatus::Completed, json!([1, 2])));
    assert_eq!(sim.state.run.finished_at, Some(sim.now));
}

#[test]
fn the_result_is_an_object_of_the_last_outputs_or_a_template() {
    let steps = json!([{"name": "a", "agent": "x"}, {"name": "b", "agent": "x"}]);
    let mut sim = Sim::new(&json!({"steps": steps}));
    sim.done("b", &json!("two"));
    sim.done("a", &json!(1));
    assert_eq!(sim.state.run.result.as_ref().unwrap().as_str(), r#"{"a":1,"b":"two"}"#);

    let mut sim = Sim::new(&json!({"steps": steps, "result": {"sum": "{{ steps.a.output + 1 }}"}}));
    sim.done("b", &json!("two"));
    sim.done("a", &json!(1));
    assert_eq!(sim.result(), json!({"sum": 2}));

    let mut sim = Sim::new(&json!({"steps": steps, "result": "{{ steps.a.output.missing.field }}"}));
    sim.done("b", &json!("two"));
    sim.done("a", &json!(1));
    assert_eq!(sim.run_status(), RunStatus::Failed);
    assert!(sim.error().contains("result of the run"), "{}", sim.error());
}

#[test]
fn a_result_that_would_be_too_large_names_the_steps_whose_outputs_it_leaves_out() {
    let mut sim = Sim::new(&json!({"steps": [{"name": "a", "agent": "x"}, {"name": "b", "agent": "x"}]}));
    sim.done("a", &json!("x".repeat(600_000)));
    sim.done("b", &json!("y".repeat(600_000)));
    let result = sim.result();
    assert!(result["a"].is_string() && result["b"]["omitted"].is_string());
}

#[test]
fn conditions_skip_steps_and_skipped_dependencies_count_as_done_unless_required() {
    let sim = Sim::new(&json!({"steps": [
        {"name": "a", "agent": "x", "run_if": "input.n > 5"},
        {"name": "b", "agent": "x", "skip_if": "input.n == 1"},
        {"name": "c", "agent": "x", "depends_on": ["a", "b"]},
        {"name": "d", "agent": "x", "depends_on": [{"step": "a", "required": true}]},
        {"name": "e", "agent": "x", "depends_on": ["d"], "run_if": "steps.d.status == 'COMPLETED'"}]}));
    let statuses = ["a", "b", "c", "d", "e"].map(|name| sim.status(name));
    use StepStatus::{Ready, Skipped};
    assert_eq!(statuses, [Skipped, Skipped, Ready, Skipped, Skipped]);
}

#[test]
fn a_step_with_a_missing_required_dependency_is_not_skipped_before_the_others_are_done() {
    let mut sim = Sim::new(&json!({"steps": [
        {"name": "a", "agent": "x", "run_if": "false"},
        {"name": "b", "agent": "x"},
        {"name": "c", "agent": "x", "depends_on": [{"step": "a", "required": true}, "b"]},
        {"name": "d", "agent": "x", "depends_on": ["c"]}]}));
    assert_eq!((sim.status("c"), sim.status("d")), (StepStatus::Pending, StepStatus::Pending));
    sim.done("b", &json!(null));
    assert_eq!((sim.status("c"), sim.status("d")), (StepStatus::Skipped, StepStatus::Ready));
}

#[test]
fn an_expression_that_fails_fails_its_step_at_once_with_the_place() {
    let mut sim = Sim::new(&json!({"steps": [
        {"name": "a", "agent": "x"},
        {"name": "b", "agent": "x", "depends_on": ["a"], "input": {"deep": ["{{ steps.a.output.title | upper }}"]},
         "on_failure": "continue"},
        {"name": "c", "agent": "x", "depends_on": ["b"]}]}));
    sim.done("a", &json!({"titel": 1}));
    assert_eq!(sim.status("b"), StepStatus::Failed);
    let error = sim.step("b").error.as_deref().unwrap();
    assert!(error.starts_with("input.deep[0]: "), "{error}");
    assert_eq!(sim.status("c"), StepStatus::Ready);
}

#[test]
fn failed_attempts_are_repeated_with_growing_pauses_until_there_were_enough() {
    let mut sim = Sim::new(&json!({"steps": [
        {"name": "a", "agent": "x", "retry": {"max_attempts": 4, "backoff_ms": 1000, "backoff_max_ms": 3000}}]}));
    for longest in [1_250, 2_500, 3_750] {
        let before = sim.now;
        sim.fails("a", true);
        let step = sim.step("a");
        assert_eq!((step.status, &step.wait), (StepStatus::Waiting, &Some(Wait::Retry)));
        let pause = step.due_at.unwrap().0 - before.0;
        assert!((longest * 4 / 5..=longest).contains(&pause), "{pause} against {longest}");
        assert_eq!(step.error.as_deref(), Some("boom"));
        sim.passes(4);
        assert_eq!(sim.status("a"), StepStatus::Ready);
    }
    sim.fails("a", true);
    assert_eq!((sim.run_status(), sim.step("a").failures, sim.step("a").attempt), (RunStatus::Failed, 4, 4));
    assert_eq!(sim.error(), r#"step "a" failed: boom"#);
}

#[test]
fn a_failure_that_is_not_retryable_fails_the_run_and_cancels_the_rest() {
    let mut sim = Sim::new(&json!({"steps": [
        {"name": "a", "agent": "x"}, {"name": "b", "agent": "x"}, {"name": "c", "agent": "x", "depends_on": ["a"]}]}));
    let late = sim.claim("b").unwrap();
    sim.fails("a", false);
    assert_eq!(sim.run_status(), RunStatus::Failed);
    assert_eq!((sim.status("b"), sim.status("c")), (StepStatus::Cancelled, StepStatus::Cancelled));
    let stale = Refusal::Stale { status: StepStatus::Cancelled, attempt: late };
    assert_eq!(sim.finish("b", late, completed(&json!(1))), Verdict::Refused(stale));
}

#[test]
fn a_failure_that_is_passed_over_lets_the_run_go_on() {
    let mut sim = Sim::new(&json!({"steps": [
        {"name": "a", "agent": "x", "on_failure": "continue"},
        {"name": "b", "agent": "x", "depends_on": ["a"], "input": "{{ steps.a.error }}"},
        {"name": "c", "agent": "x", "depends_on": [{"step": "a", "required": true}]}]}));
    sim.fails("a", false);
    assert_eq!((sim.status("b"), sim.status("c")), (StepStatus::Ready, StepStatus::Skipped));
    assert_eq!(sim.input("b"), json!("boom"));
    sim.done("b", &json!("ok"));
    assert_eq!((sim.run_status(), sim.result()), (RunStatus::Completed, json!({"b": "ok"})));
}

const COMPENSATED: &str = r#"{"steps": [
    {"name": "book", "agent": "x"},
    {"name": "pay", "agent": "x", "depends_on": ["book"], "on_failure": {"compensate": "unbook"}},
    {"name": "other", "agent": "x"},
    {"name": "unbook", "agent": "x", "depends_on": [{"step": "book", "required": true}],
     "input": {"why": "{{ steps.pay.error }}", "what": "{{ steps.book.output }}"}},
    {"name": "tell", "agent": "x", "depends_on": ["unbook"]}]}"#;

#[test]
fn a_compensation_runs_after_the_failure_and_then_the_run_has_failed() {
    let mut sim = Sim::new(&serde_json::from_str(COMPENSATED).unwrap());
    assert_eq!(sim.status("unbook"), StepStatus::Pending);
    sim.done("book", &json!("seat 1"));
    assert_eq!(sim.status("unbook"), StepStatus::Pending);
    sim.fails("pay", false);
    assert_eq!((sim.status("other"), sim.status("unbook")), (StepStatus::Cancelled, StepStatus::Ready));
    assert_eq!(sim.input("unbook"), json!({"why": "boom", "what": "seat 1"}));
    assert!(!sim.run_status().is_finished());
    sim.done("unbook", &json!(null));
    assert_eq!(sim.status("tell"), StepStatus::Ready);
    sim.done("tell", &json!(null));
    assert_eq!(sim.run_status(), RunStatus::Failed);
    assert_eq!(sim.error(), r#"step "pay" failed: boom"#);
}

#[test]
fn compensations_are_skipped_when_nothing_is_to_be_compensated() {
    let mut sim = Sim::new(&serde_json::from_str(COMPENSATED).unwrap());
    for name in ["book", "pay", "other"] {
        sim.done(name, &json!(name));
    }
    assert_eq!((sim.status("unbook"), sim.status("tell")), (StepStatus::Skipped, StepStatus::Skipped));
    assert_eq!((sim.run_status(), sim.result()), (RunStatus::Completed, json!({"pay": "pay", "other": "other"})));
}

#[test]
fn a_compensation_that_fails_ends_the_run_with_both_errors() {
    let mut sim = Sim::new(&serde_json::from_str(COMPENSATED).unwrap());
    sim.done("book", &json!("seat 1"));
    sim.fails("pay", false);
    sim.fails("unbook", false);
    assert_eq!((sim.run_status(), sim.status("tell")), (RunStatus::Failed, StepStatus::Skipped));
    assert!(
        sim.error().contains(r#"step "pay" failed"#) && sim.error().contains(r#"step "unbook""#),
        "{}",
        sim.error()
    );
}

#[test]
fn a_worker_that_vanished_is_replaced_at_once_and_its_late_result_refused() {
    let mut sim = Sim::new(&json!({"steps": [{"name": "a", "agent": "x", "retry": {"max_attempts": 2}}]}));
    let first = sim.claim("a").unwrap();
    sim.passes(44);
    assert_eq!(sim.status("a"), StepStatus::Running);
    sim.passes(1);
    assert_eq!(sim.status("a"), StepStatus::Ready);
    let second = sim.claim("a").unwrap();
    assert_eq!((first, second), (1, 2));
    let stale = Refusal::Stale { status: StepStatus::Running, attempt: 2 };
    assert_eq!(sim.finish("a", first, completed(&json!(1))), Verdict::Refused(stale));
    sim.passes(45);
    assert_eq!(sim.run_status(), RunStatus::Failed);
    assert!(sim.error().contains("vanished"), "{}", sim.error());
}

#[test]
fn a_note_renews_the_lease_and_is_refused_when_the_claim_is_over() {
    let mut sim = Sim::new(&json!({"steps": [{"name": "a", "agent": "x"}]}));
    let attempt = sim.claim("a").unwrap();
    let claim = ClaimRef { run: sim.state.run.id.clone(), order: 0, attempt };
    let lease = claimer("").lease;
    sim.passes(40);
    let checkpoint = JsonText::new(&json!({"task": 7}));
    let noted = note(&sim.state.steps[0], &claim, lease, None, None, Some(checkpoint.clone()), sim.now).unwrap();
    assert_eq!(noted.revision, sim.state.steps[0].revision + 1);
    sim.state.steps[0] = noted;
    sim.passes(40);
    assert_eq!(sim.status("a"), StepStatus::Running);
    // Whoever takes over goes on where the other one stood.
    sim.passes(5);
    assert_eq!(sim.step("a").checkpoint.as_ref(), Some(&checkpoint));
    let late = note(&sim.state.steps[0], &claim, lease, None, None, None, sim.now);
    assert_eq!(late, Err(Refusal::Stale { status: StepStatus::Ready, attempt: 1 }));
}

#[test]
fn the_progress_deadline_takes_a_claim_away_although_its_lease_is_renewed() {
    let mut sim = Sim::new(&json!({"steps": [{"name": "a", "agent": "x"}]}));
    let attempt = sim.claim("a").unwrap();
    let claim = ClaimRef { run: sim.state.run.id.clone(), order: 0, attempt };
    for _ in 0..44 {
        sim.passes(40);
        sim.state.steps[0] = note(&sim.state.steps[0], &claim, claimer("").lease, None, None, None, sim.now).unwrap();
    }
    sim.passes(40);
    assert_eq!(sim.status("a"), StepStatus::Ready);
}

#[test]
fn a_released_step_is_ready_again_without_counting_as_a_failure() {
    let mut sim = Sim::new(&json!({"steps": [{"name": "a", "agent": "x", "retry": {"max_attempts": 1}}]}));
    let attempt = sim.claim("a").unwrap();
    let released = crate::workflow::command::StepResult::Released;
    assert_eq!(sim.finish("a", attempt, released.clone()), Verdict::Applied);
    assert_eq!((sim.status("a"), sim.step("a").failures, sim.step("a").attempt), (StepStatus::Ready, 0, 1));
    assert_eq!(sim.finish("a", attempt, released), Verdict::Repeated);
}

#[test]
fn a_result_that_is_sent_again_is_told_apart_from_a_stale_one() {
    let mut sim = Sim::new(&json!({"steps": [{"name": "a", "agent": "x"}, {"name": "b", "agent": "x"}]}));
    let attempt = sim.claim("a").unwrap();
    assert_eq!(sim.finish("a", attempt, completed(&json!(1))), Verdict::Applied);
    assert_eq!(sim.finish("a", attempt, completed(&json!(1))), Verdict::Repeated);
    let stale = Verdict::Refused(Refusal::Stale { status: StepStatus::Completed, attempt });
    assert_eq!(sim.finish("a", attempt, completed(&json!(2))), stale);
    assert_eq!(sim.finish("a", attempt, failed("x", true)), stale);
    // An output that is in the database only is compared too.
    sim.state.steps[0].output = Payload::Stored;
    let again = sim.finish_event("a", attempt, completed(&json!(1)));
    assert_eq!(sim.try_apply(&again).unwrap_err(), OutputsNeeded(vec![0]));
    let attempt = sim.claim("b").unwrap();
    assert_eq!(sim.finish("b", attempt, failed("x", true)), Verdict::Applied);
    assert_eq!(sim.finish("b", attempt, failed("x", true)), Verdict::Repeated);
    let never_claimed = sim.finish_event("b", 0, completed(&json!(1)));
    assert!(matches!(sim.event(&never_claimed), Verdict::Refused(Refusal::Stale { .. })));
}

#[test]
fn an_attempt_that_takes_too_long_counts_as_failed() {
    let mut sim = Sim::new(&json!({"steps": [
        {"name": "a", "agent": "x", "timeout_s": 10, "retry": {"max_attempts": 2, "backoff_ms": 0}}]}));
    sim.claim("a").unwrap();
    sim.passes(10);
    assert_eq!(sim.status("a"), StepStatus::Ready);
    sim.claim("a").unwrap();
    sim.passes(10);
    assert_eq!(sim.error(), r#"step "a" failed: took longer than 10 s"#);
}

#[test]
fn a_run_that_takes_too_long_fails_without_compensation() {
    let mut document: serde_json::Value = serde_json::from_str(COMPENSATED).unwrap();
    document["timeout_s"] = json!(60);
    let mut sim = Sim::new(&document);
    sim.done("book", &json!(1));
    sim.claim("pay").unwrap();
    sim.passes(60);
    assert_eq!((sim.run_status(), sim.error()), (RunStatus::Failed, "the run took longer than 60 s"));
    assert_eq!((sim.status("pay"), sim.status("unbook")), (StepStatus::Cancelled, StepStatus::Skipped));
}

#[test]
fn a_timer_waits_without_a_worker_and_goes_on_by_itself() {
    let mut sim = Sim::new(&json!({"steps": [
        {"name": "a", "agent": "builtin:wait", "input": {"seconds": 90}},
        {"name": "b", "agent": "builtin:wait", "input": {"until": "2023-11-14T23:13:20+01:00"}},
        {"name": "c", "agent": "x", "depends_on": ["a"]}]}));
    assert_eq!((sim.status("a"), &sim.step("a").wait), (StepStatus::Waiting, &Some(Wait::Timer)));
    // That moment is the one at which the run began.
    assert_eq!(sim.status("b"), StepStatus::Completed);
    sim.passes(89);
    assert_eq!(sim.status("a"), StepStatus::Waiting);
    sim.passes(1);
    assert_eq!(sim.output("a"), json!({"waited_until": "2023-11-14T22:14:50.000Z"}));
    assert_eq!(sim.status("c"), StepStatus::Ready);
}

#[test]
fn a_timer_with_a_wrong_input_fails_with_what_is_wrong() {
    for (input, message) in [
        (json!({"seconds": "{{ -1 }}"}), "seconds"),
        (json!({"seconds": "{{ 1e300 }}"}), "seconds"),
        (json!({"seconds": "{{ 999999999999 }}"}), "further ahead"),
        (json!({"until": "{{ 'tomorrow' }}"}), "input.until"),
        (json!({"until": "{{ '2026-13-01T00:00:00Z' }}"}), "input.until"),
        (json!({"until": "{{ '2026-01-01T00:00:00+24:00' }}"}), "input.until"),
        (json!("{{ input.n }}"), "must be an object"),
    ] {
        let sim = Sim::new(&json!({"steps": [{"name": "a", "agent": "builtin:wait", "input": input}]}));
        assert_eq!(sim.run_status(), RunStatus::Failed, "{input}");
        assert!(sim.error().contains(message), "{}", sim.error());
    }
}

#[test]
fn a_gate_waits_for_an_answer_which_becomes_its_output() {
    let gate = json!({"steps": [
        {"name": "a", "agent": "builtin:gate", "timeout_s": 60,
         "input": {"question": "May {{ input.n }} go?", "schema": {"type": "boolean"}}},
        {"name": "b", "agent": "x", "depends_on": ["a"], "run_if": "steps.a.output"}]});
    let mut sim = Sim::new(&gate);
    let Some(Wait::Answer { question, schema, completes: true }) = &sim.step("a").wait else { panic!() };
    assert_eq!((&**question, schema.as_deref()), ("May 1 go?", Some(r#"{"type":"boolean"}"#)));
    let answer = sim.answer_event("a", &json!(true), false);
    sim.happens(&answer);
    assert_eq!((sim.output("a"), sim.status("b")), (json!(true), StepStatus::Ready));
    assert_eq!(sim.event(&answer), Verdict::Repeated);
    let other = sim.answer_event("a", &json!(false), false);
    assert_eq!(sim.event(&other), Verdict::Refused(Refusal::Step { status: StepStatus::Completed }));

    let mut sim = Sim::new(&gate);
    let refusal = sim.answer_event("a", &json!("too early"), true);
    sim.happens(&refusal);
    assert_eq!(sim.error(), r#"step "a" failed: refused by tester: too early"#);
    assert_eq!(sim.event(&refusal), Verdict::Repeated);

    let mut sim = Sim::new(&gate);
    sim.passes(60);
    assert_eq!(sim.error(), r#"step "a" failed: nobody answered within 60 s"#);
}

#[test]
fn a_question_of_a_worker_ends_its_claim_and_the_answer_comes_with_the_next() {
    let mut sim = Sim::new(&json!({"steps": [{"name": "a", "agent": "x", "timeout_s": 60}]}));
    let attempt = sim.claim("a").unwrap();
    let ask = Event::Ask {
        order: 0,
        attempt,
        question: "Which one?".into(),
        schema: None,
        checkpoint: Some(JsonText::new(&json!({"at": 3}))),
    };
    sim.happens(&ask);
    assert_eq!(sim.event(&ask), Verdict::Repeated);
    assert_eq!((sim.status("a"), sim.step("a").lease_owner.as_deref()), (StepStatus::Waiting, None));
    // The time that people take to answer is not that of the attempt.
    sim.passes(3_600);
    let answer = sim.answer_event("a", &json!("the first"), false);
    sim.happens(&answer);
    assert_eq!(sim.status("a"), StepStatus::Ready);
    assert_eq!(sim.claim("a"), Ok(attempt + 1));
    let step = sim.step("a");
    assert_eq!(step.answer.as_ref().unwrap().as_str(), r#""the first""#);
    assert_eq!(step.checkpoint.as_ref().unwrap().as_str(), r#"{"at":3}"#);
    assert_eq!(sim.event(&answer), Verdict::Repeated);
    // An answer to the first question does not answer the second.
    sim.happens(&Event::Ask {
        order: 0,
        attempt: attempt + 1,
        question: "And which after it?".into(),
        schema: None,
        checkpoint: None,
    });
    let current = sim.step("a").question().unwrap().number;
    assert_eq!(sim.event(&answer), Verdict::Refused(Refusal::OtherQuestion { current }));
    let second = sim.answer_event("a", &json!("the first"), false);
    sim.happens(&second);
    assert_eq!(sim.event(&second), Verdict::Repeated);
}

#[test]
fn an_answer_to_a_gate_does_not_answer_it_once_it_asks_again() {
    let mut sim = Sim::new(&json!({"steps": [
        {"name": "gate", "agent": "builtin:gate", "input": {"question": "Go?"}},
        {"name": "other", "agent": "x", "retry": {"max_attempts": 1}}]}));
    let first = sim.answer_event("gate", &json!(true), false);
    sim.fails("other", false);
    sim.happens(&Event::Retry);
    let current = sim.step("gate").question().unwrap().number;
    assert_eq!(sim.event(&first), Verdict::Refused(Refusal::OtherQuestion { current }));
}

#[test]
fn no_more_steps_are_ready_or_running_than_allowed() {
    let steps: Vec<_> = ["a", "b", "c", "d"].iter().map(|name| json!({"name": name, "agent": "x"})).collect();
    let mut sim = Sim::new(&json!({"max_parallel": 2, "steps": steps}));
    let open = |sim: &Sim| {
        let is_open = |status| matches!(status, StepStatus::Ready | StepStatus::Running);
        ["a", "b", "c", "d"].into_iter().filter(|name| is_open(sim.status(name))).collect::<Vec<_>>()
    };
    assert_eq!(open(&sim), ["a", "b"]);
    sim.done("b", &json!(1));
    assert_eq!(open(&sim), ["a", "c"]);
    // A step that waits for another attempt leaves its place, and queues for one afterwards.
    sim.fails("a", true);
    assert_eq!(open(&sim), ["c", "d"]);
    sim.passes(2);
    assert_eq!((sim.status("a"), open(&sim)), (StepStatus::Pending, vec!["c", "d"]));
    sim.done("d", &json!(1));
    assert_eq!(open(&sim), ["a", "c"]);
}

#[test]
fn outputs_that_are_not_loaded_are_asked_for_once_all_together() {
    let mut sim = Sim::new(&json!({"steps": [
        {"name": "a", "agent": "x"}, {"name": "b", "agent": "x"}, {"name": "other", "agent": "x"},
        {"name": "c", "agent": "x", "depends_on": ["a", "b", "other"],
         "run_if": "steps.a.output > 0 and steps.other.status == 'COMPLETED'",
         "input": "{{ steps.a.output + steps.b.output }}"}]}));
    sim.done("a", &json!(1));
    sim.done("other", &json!("not read as a value"));
    let attempt = sim.claim("b").unwrap();
    for step in &mut sim.state.steps {
        if step.output != Payload::None {
            step.output = Payload::Stored;
        }
    }
    let event = sim.finish_event("b", attempt, completed(&json!(2)));
    let needed = sim.try_apply(&event).unwrap_err();
    assert!(needed.0.contains(&0) && needed.0.iter().all(|order| [0, 2].contains(order)), "{needed:?}");
    for order in needed.0 {
        sim.state.steps[order].output = Payload::Loaded(JsonText::new(&json!(1)));
    }
    sim.happens(&event);
    assert_eq!(sim.input("c"), json!(3));
}

#[test]
fn steps_that_become_ready_are_claimed_in_the_same_transition() {
    let definition = definition(&json!({"steps": [
        {"name": "a", "agent": "push"}, {"name": "b", "agent": "push", "depends_on": ["a"]},
        {"name": "c", "agent": "x", "depends_on": ["a"]}, {"name": "d", "agent": "push", "depends_on": ["a"]},
        {"name": "e", "agent": "push", "depends_on": ["a"]}]}));
    let can_do: Arc<[bool]> = [true, true, false, true, true].into();
    let next = ClaimNext { claimer: claimer("me"), can_do, limit: 2 };
    let begun = start(
        &crate::workflow::command::NewRun { claim_next: Some(next.clone()), ..new_run(&definition) },
        super::fixtures::BEGIN,
    );
    assert_eq!(begun.claimed, [0]);
    assert_eq!((begun.state.run.status, begun.state.steps[0].revision), (RunStatus::Running, 1));
    let event = Event::Finish { order: 0, attempt: 1, result: completed(&json!(1)), claim_next: Some(next) };
    let actor = crate::ids::Actor::new("me");
    let after = super::apply(&begun.state, &event, &actor, super::fixtures::BEGIN).unwrap();
    assert_eq!((after.claimed, after.steps_changed), (vec![1, 3], vec![0, 1, 2, 3, 4]));
    let statuses: Vec<StepStatus> = after.state.steps.iter().map(|step| step.status).collect();
    use StepStatus::{Completed, Ready, Running};
    assert_eq!(statuses, [Completed, Running, Ready, Running, Ready]);
    assert_eq!(after.state.steps[3].lease_owner.as_deref(), Some("me/3"));
    assert!(after.state.steps.iter().all(|step| step.revision == 2 || step.order == 2 || step.revision <= 2));
}

#[test]
fn a_claim_that_is_sent_again_is_the_same_claim() {
    let sim = Sim::new(&json!({"steps": [{"name": "a", "agent": "x"}]}));
    let spec = &sim.state.run.definition.spec.steps[0];
    let first = super::claim(&sim.state.steps[0], spec, &claimer("me"), sim.now).unwrap();
    assert_eq!(super::claim(&first, spec, &claimer("me"), sim.now).unwrap(), first);
    let other = super::claim(&first, spec, &claimer("you"), sim.now);
    assert_eq!(other, Err(Refusal::Step { status: StepStatus::Running }));
}

#[test]
fn steps_whose_expressions_use_up_the_work_have_their_turns_one_after_the_other() {
    // Each of these needs most of the work of a transition.
    let list: Vec<u32> = (0..7_000).collect();
    let heavy = "{{ input.list | map(attribute='x') | sort | unique | length }}";
    let steps: Vec<_> = (0..4)
        .map(|i| json!({"name": format!("s{i}"), "agent": "x", "input": {"n": [heavy, heavy, heavy, heavy, heavy]}}))
        .collect();
    let definition = definition(&json!({"steps": steps}));
    let items: Vec<_> = list.iter().map(|x| json!({"x": x})).collect();
    let new =
        crate::workflow::command::NewRun { input: JsonText::new(&json!({"list": items})), ..new_run(&definition) };
    let mut sim = Sim::of(&new);
    let mut ticks = 0;
    while sim.state.steps.iter().any(|step| step.status == StepStatus::Waiting) {
        sim.passes(0);
        ticks += 1;
        assert!(ticks < 10);
    }
    assert!(sim.state.steps.iter().all(|s| s.status == StepStatus::Ready), "{:?}", sim.state.run.error);
    assert!(ticks > 0, "all of it fits one transition; the test shows nothing");
}

#[test]
fn a_step_that_ends_with_a_note_keeps_it_until_what_it_tells_of_is_closed() {
    let noted = |sim: &mut Sim| {
        let attempt = sim.claim("a").unwrap();
        let claim = ClaimRef { run: sim.state.run.id.clone(), order: 0, attempt };
        let text = Some(JsonText::new(&json!({"task": 1})));
        let lease = Duration::from_secs(30);
        sim.state.steps[0] = note(&sim.state.steps[0], &claim, lease, None, None, text, sim.now).unwrap();
        attempt
    };
    let document = json!({"steps": [{"name": "a", "agent": "x", "timeout_s": 10, "retry": {"max_attempts": 2}}]});
    let mut sim = Sim::new(&document);
    let attempt = noted(&mut sim);
    let closed = Event::Closed { order: 0, attempt };
    assert_eq!(sim.event(&closed), Verdict::Refused(Refusal::Stale { status: StepStatus::Running, attempt }));
    let lease_until = sim.step("a").lease_until;
    sim.happens(&Event::Cancel { reason: "enough".into() });
    // Whoever has the step closes it, as long as the lease lasts.
    assert!(sim.step("a").checkpoint.is_some() && sim.step("a").lease_owner.is_none());
    assert!(lease_until.is_some() && sim.step("a").lease_until == lease_until);
    let other = Event::Closed { order: 0, attempt: attempt + 1 };
    assert!(matches!(sim.event(&other), Verdict::Refused(Refusal::Stale { .. })));
    let before = sim.state.run.revision;
    sim.happens(&closed);
    assert!(sim.step("a").checkpoint.is_none() && sim.step("a").lease_until.is_none());
    assert_eq!((sim.event(&closed), sim.state.run.revision), (Verdict::Repeated, before));

    // An attempt that takes too long: the next one begins anew, and the last one leaves its note.
    let mut sim = Sim::new(&document);
    noted(&mut sim);
    sim.passes(10);
    assert!(!sim.status("a").is_finished() && sim.step("a").checkpoint.is_none());
    sim.passes(5);
    noted(&mut sim);
    sim.passes(10);
    assert!(sim.status("a") == StepStatus::Failed && sim.step("a").checkpoint.is_some());

    let mut sim = Sim::new(&document);
    let attempt = noted(&mut sim);
    assert_eq!(sim.finish("a", attempt, completed(&json!(1))), Verdict::Applied);
    assert!(sim.step("a").checkpoint.is_none() && sim.step("a").lease_until.is_none());
}

#[test]
fn expressions_read_outputs_up_to_a_limit() {
    const HALF: usize = limits::EXPRESSION_READ_BYTES_MAX / 2;
    let around = json!([1, ""]).to_string().len();
    let run = |more: usize| {
        let mut sim = Sim::new(&json!({"steps": [
            {"name": "a", "agent": "x"}, {"name": "b", "agent": "x"},
            {"name": "c", "agent": "x", "depends_on": ["a", "b"],
             "input": "{{ steps.a.output[0] + steps.b.output[0] }}"}]}));
        sim.done("a", &json!([1, "x".repeat(HALF - around)]));
        sim.done("b", &json!([1, "x".repeat(HALF - around + more)]));
        sim
    };
    assert_eq!(run(0).input("c"), json!(2));
    let sim = run(1);
    assert_eq!(sim.status("c"), StepStatus::Failed);
    assert!(sim.error().contains("more than 8388608 bytes together; read fewer steps"), "{}", sim.error());
}

#[test]
fn outputs_are_asked_for_a_few_at_once() {
    let names: Vec<String> = (0..40).map(|n| format!("s{n}")).collect();
    let mut steps: Vec<_> = names.iter().map(|name| json!({"name": name, "agent": "x"})).collect();
    let reads: Vec<String> = names.iter().map(|name| format!("steps.{name}.output")).collect();
    steps.push(
        json!({"name": "last", "agent": "x", "depends_on": names, "input": format!("{{{{ {} }}}}", reads.join(" + "))}),
    );
    let mut sim = Sim::new(&json!({ "steps": steps }));
    for name in &names[1..] {
        sim.done(name, &json!(1));
    }
    for step in &mut sim.state.steps[1..40] {
        step.output = Payload::Stored;
    }
    let attempt = sim.claim("s0").unwrap();
    let event = sim.finish_event("s0", attempt, completed(&json!(1)));
    let mut rounds = Vec::new();
    while let Err(OutputsNeeded(needed)) = sim.try_apply(&event) {
        rounds.push(needed.len());
        for order in needed {
            sim.state.steps[order].output = Payload::Loaded(JsonText::new(&json!(1)));
        }
    }
    assert_eq!(rounds, [16, 16, 7]);
    sim.happens(&event);
    assert_eq!(sim.input("last"), json!(40));
}
