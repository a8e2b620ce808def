//! Random workflows, and a world in which random things happen to a run of one and every rule is checked.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::fixtures::{BEGIN, claimer, completed, definition, failed, new_run};
use super::{OutputsNeeded, Transition, Verdict, apply, claim, note, start};
use crate::ids::Actor;
use crate::json_text::JsonText;
use crate::time::Timestamp;
use crate::workflow::command::{ClaimNext, ClaimRef, Claimer, Event, NewRun, StepResult};
use crate::workflow::run::{Payload, RunState, RunStatus, Step, StepStatus, Wait};

/// What a step of a random workflow is.
#[derive(Debug, Clone)]
struct RandomStep {
    depends_on: Vec<(prop::sample::Index, bool)>,
    kind: u8,
    condition: u8,
    on_failure: u8,
    attempts: u16,
    timeout: bool,
    reads: bool,
}

fn random_step() -> impl Strategy<Value = RandomStep> {
    (
        prop::collection::vec((any::<prop::sample::Index>(), prop::bool::weighted(0.3)), 0..3),
        0..9_u8,
        0..8_u8,
        0..5_u8,
        1..4_u16,
        prop::bool::weighted(0.2),
        any::<bool>(),
    )
        .prop_map(|(depends_on, kind, condition, on_failure, attempts, timeout, reads)| RandomStep {
            depends_on,
            kind,
            condition,
            on_failure,
            attempts,
            timeout,
            reads,
        })
}

/// A document whose last `compensations` steps compensate failures; `rotation` moves the steps so that they are not in
/// the order in which they run.
pub(in crate::workflow) fn random_document() -> impl Strategy<Value = Value> {
    let steps = prop::collection::vec(random_step(), 1..9);
    (steps, 0..3_usize, 0..9_usize, prop::option::weighted(0.3, 1..4_u16), prop::bool::weighted(0.2)).prop_map(
        |(steps, compensations, rotation, max_parallel, timeout)| {
            let normal = steps.len().saturating_sub(compensations).max(1);
            let mut documents: Vec<Value> =
                steps.iter().enumerate().map(|(i, step)| step_document(i, step, normal, steps.len())).collect();
            let by = rotation % documents.len();
            documents.rotate_left(by);
            let mut document = json!({"steps": documents, "context": {"x": 1}});
            if let Some(max_parallel) = max_parallel {
                document["max_parallel"] = json!(max_parallel);
            }
            if timeout {
                document["timeout_s"] = json!(5_000);
            }
            document
        },
    )
}

fn step_document(i: usize, step: &RandomStep, normal: usize, all: usize) -> Value {
    // Normal steps depend on normal ones; compensations on anything that comes before.
    let mut dependencies: BTreeMap<usize, bool> = BTreeMap::new();
    if i > 0 {
        for (index, required) in &step.depends_on {
            let earlier = index.index(i);
            if earlier != i && (i >= normal || earlier < normal) {
                // What requires the step that it compensates would be skipped with it.
                let compensates = i >= normal && earlier < normal && normal + earlier % (all - normal) == i;
                dependencies.insert(earlier, *required && !compensates);
            }
        }
    }
    let agent = match step.kind {
        0 => "builtin:wait",
        1 => "builtin:gate",
        2 => "push",
        3 => "builtin:echo",
        8 => "builtin:transform",
        _ => "pull",
    };
    let first = dependencies.keys().next().copied();
    let mut document = json!({
        "name": format!("s{i}"), "agent": agent,
        "retry": {"max_attempts": step.attempts, "backoff_ms": 1000 * u32::from(step.attempts)},
        "depends_on": dependencies.iter().map(|(d, required)| json!({"step": format!("s{d}"), "required": required})).collect::<Vec<_>>(),
        "input": match (agent, first) {
            ("builtin:wait", _) => json!({"seconds": 10 * i}),
            ("builtin:gate", _) => json!({"question": "Go?"}),
            ("builtin:transform", _) => json!({"expression": "input.n + input.missing", "n": "{{ input.n }}"}),
            (_, Some(d)) if step.reads => json!({"got": format!("{{{{ steps.s{d}.output | default('none') }}}}")}),
            _ => json!({"n": "{{ input.n }}"}),
        },
    });
    match (step.condition, first) {
        (0, _) => document["skip_if"] = json!("input.n == 1"),
        (1, Some(d)) => document["run_if"] = json!(format!("steps.s{d}.status == 'COMPLETED'")),
        (2, Some(d)) => document["skip_if"] = json!(format!("steps.s{d}.output | default(0) == 3")),
        (3, Some(d)) => document["run_if"] = json!(format!("steps.s{d}.output.missing or true")),
        _ => {}
    }
    document["on_failure"] = match step.on_failure {
        0 | 1 => json!("continue"),
        2 if i < normal && normal < all => json!({"compensate": format!("s{}", normal + i % (all - normal))}),
        _ => json!("fail"),
    };
    if step.timeout {
        document["timeout_s"] = json!(30);
    }
    document
}

/// Something that somebody does. Which step is meant is drawn among those where it is likely to matter.
#[derive(Debug, Clone)]
pub(in crate::workflow) struct Act {
    kind: u8,
    step: prop::sample::Index,
    attempt: i8,
    value: u8,
    seconds: u16,
    repeats: bool,
}

pub(in crate::workflow) fn random_act() -> impl Strategy<Value = Act> {
    (0..28_u8, any::<prop::sample::Index>(), 0..12_u8, 0..4_u8, 0..60_u16, prop::bool::weighted(0.15)).prop_map(
        |(kind, step, attempt, value, seconds, repeats)| Act {
            kind,
            step,
            // Mostly the right one.
            attempt: match attempt {
                0 => -1,
                1 => 1,
                _ => 0,
            },
            value,
            seconds,
            repeats,
        },
    )
}

/// What was done to a run, for doing it again.
#[derive(Debug, Clone)]
pub(super) enum Done {
    Event(Event, Timestamp),
    Claim(usize, Claimer, Timestamp),
    Note(ClaimRef, Timestamp),
}

/// A run in a store that keeps payloads apart, with everything that was done to it.
#[derive(Debug, Clone)]
pub(in crate::workflow) struct World {
    pub(in crate::workflow) state: RunState,
    pub(in crate::workflow) now: Timestamp,
    outputs: BTreeMap<usize, Payload>,
    inputs: BTreeMap<usize, Payload>,
    pub(super) log: Vec<Done>,
    claims: usize,
}

pub(super) fn actor() -> Actor {
    Actor::new("tester")
}

fn is_active(step: &Step) -> bool {
    matches!(step.status, StepStatus::Ready | StepStatus::Running | StepStatus::Waiting)
}

/// The header of a run without its shared definition, and its steps, comparable.
pub(super) fn facts(state: &RunState) -> (String, Vec<Step>) {
    let run = &state.run;
    let header = format!(
        "{} {} {:?} {:?} {} {:?} {:?} {:?} {:?}",
        run.status,
        run.paused,
        run.result,
        run.error,
        run.revision,
        run.started_at,
        run.finished_at,
        run.timeout_at,
        run.updated_at
    );
    (header, state.steps.clone())
}

impl World {
    pub(in crate::workflow) fn new(document: &Value) -> Self {
        Self::begin(&new_run(&definition(document)), BEGIN)
    }

    pub(super) fn begin(new: &NewRun, now: Timestamp) -> Self {
        let state = start(new, now).state;
        let (outputs, inputs) = (BTreeMap::new(), BTreeMap::new());
        let mut world = Self { state, now, outputs, inputs, log: Vec::new(), claims: 0 };
        world.store();
        world.check_state();
        world
    }

    /// Writes payloads to the store and forgets them, as the database does.
    fn store(&mut self) {
        for step in &mut self.state.steps {
            for (payload, kept) in [(&mut step.output, &mut self.outputs), (&mut step.input, &mut self.inputs)] {
                match payload {
                    Payload::Loaded(_) => {
                        kept.insert(step.order, std::mem::replace(payload, Payload::Stored));
                    }
                    Payload::None => {
                        kept.remove(&step.order);
                    }
                    Payload::Stored => assert!(kept.contains_key(&step.order)),
                }
            }
        }
    }

    /// The run with all payloads, whatever the store has done meanwhile.
    pub(in crate::workflow) fn whole(&self) -> RunState {
        let mut state = self.state.clone();
        for step in &mut state.steps {
            if step.output == Payload::Stored {
                step.output = self.outputs[&step.order].clone();
            }
            if step.input == Payload::Stored {
                step.input = self.inputs[&step.order].clone();
            }
        }
        state
    }

    /// Applies an event as a store does, and holds what comes of it against the rules.
    pub(super) fn event(&mut self, event: &Event) -> Transition {
        let mut before = self.state.clone();
        let transition = loop {
            match apply(&before, event, &actor(), self.now) {
                Ok(transition) => break transition,
                Err(OutputsNeeded(positions)) => {
                    assert!(positions.is_sorted() && !positions.is_empty());
                    for order in positions {
                        assert_eq!(before.steps[order].output, Payload::Stored, "asked for what is loaded");
                        before.steps[order].output = self.outputs[&order].clone();
                    }
                }
            }
        };
        self.check_transition(&before, event, &transition);
        self.log.push(Done::Event(event.clone(), self.now));
        self.state = transition.state.clone();
        self.store();
        self.check_state();
        transition
    }

    fn check_transition(&self, before: &RunState, event: &Event, transition: &Transition) {
        let after = &transition.state;
        if !matches!(transition.verdict, Verdict::Applied) {
            assert_eq!(facts(before), facts(after), "nothing changes unless it is applied");
        }
        let retries = matches!(event, Event::Retry) && before.run.status == RunStatus::Failed;
        if before.run.status.is_finished() && !retries {
            assert_eq!(facts(before), facts(after), "a finished run never changes: {event:?}");
            assert!(!transition.run_changed && transition.steps_changed.is_empty());
        }
        assert_eq!(after.run.revision, before.run.revision + i64::from(transition.run_changed));
        if !transition.run_changed {
            assert_eq!(facts(before).0, facts(after).0, "a change of the run that was not told");
        }
        for (old, new) in before.steps.iter().zip(&after.steps) {
            let is_told = transition.steps_changed.binary_search(&new.order).is_ok();
            assert_eq!(new.revision, old.revision + i64::from(is_told));
            let is_claimed = transition.claimed.contains(&new.order);
            assert_eq!(new.attempt, old.attempt + i32::from(is_claimed), "attempts rise by claims only");
            if !is_told {
                assert_eq!(old, new, "a change of a step that was not told");
            }
            if is_claimed {
                assert!(matches!(new.input, Payload::Loaded(_)) && new.status == StepStatus::Running);
            }
            if is_told {
                let is_right = |new: &Payload, old: &Payload| *new != Payload::Stored || *old == Payload::Stored;
                assert!(is_right(&new.output, &old.output) && is_right(&new.input, &old.input));
            }
            if before.run.paused && after.run.paused {
                assert_ne!(new.status, StepStatus::Ready, "a paused run begins nothing");
            }
        }
        if let (Event::Finish { order, attempt, .. } | Event::Ask { order, attempt, .. }, Verdict::Applied) =
            (event, &transition.verdict)
        {
            let step = &before.steps[*order];
            assert_eq!((step.status, step.attempt), (StepStatus::Running, *attempt), "a claim that is over was heard");
        }
        if let (Event::Cancel { .. }, Verdict::Applied) = (event, &transition.verdict) {
            assert_eq!(after.run.status, RunStatus::Cancelled);
        }
    }

    fn is_retried(&self) -> bool {
        self.log.iter().any(|done| matches!(done, Done::Event(Event::Retry, _)))
    }

    /// What holds at every moment.
    fn check_state(&self) {
        let (run, steps) = (&self.state.run, &self.state.steps);
        for (step, compiled) in steps.iter().zip(&run.definition.steps) {
            // A retry keeps what has completed after something that it does again.
            if is_active(step) || (step.status.is_finished() && !self.is_retried()) {
                for (dependency, _) in &compiled.depends_on {
                    assert!(steps[*dependency].status.is_finished(), "s{} began before what it depends on", step.order);
                }
            }
            if is_active(step) {
                assert!(!compiled.is_compensation || run.error.is_some(), "a compensation without a failure");
            }
            assert_eq!(step.status == StepStatus::Running, step.lease_owner.is_some());
            assert_eq!(step.status == StepStatus::Waiting, step.wait.is_some());
            assert_eq!(step.status.is_finished(), step.finished_at.is_some());
            if step.status == StepStatus::Completed {
                assert_ne!(step.output, Payload::None);
            }
        }
        if run.status.is_finished() {
            assert!(steps.iter().all(|step| step.status.is_finished()), "a run has ended before its steps");
            assert_eq!(run.status == RunStatus::Completed, run.result.is_some());
            assert_eq!(run.status == RunStatus::Completed, run.error.is_none());
            assert!(run.finished_at.is_some());
        } else {
            assert!(steps.iter().any(|step| !step.status.is_finished()), "all steps have ended, but not their run");
        }
        let open = steps.iter().filter(|s| matches!(s.status, StepStatus::Ready | StepStatus::Running)).count();
        let places = run.definition.spec.max_parallel.map_or(usize::MAX, usize::from);
        assert!(open <= places, "{open} steps at once");
        if !run.paused && open < places {
            let is_wanted = |order: usize| !run.definition.steps[order].is_compensation || run.error.is_some();
            for step in steps.iter().filter(|s| s.status == StepStatus::Pending && is_wanted(s.order)) {
                let mut dependencies = run.definition.steps[step.order].depends_on.iter();
                let is_free = dependencies.all(|(dependency, _)| steps[*dependency].status.is_finished());
                assert!(!is_free, "s{} could begin, and nobody lets it", step.order);
            }
        }
    }

    fn claim(&mut self, order: usize) {
        self.claims += 1;
        let claimer = claimer(&format!("worker {}", self.claims));
        let spec = &self.state.run.definition.spec.steps[order];
        let before = &self.state.steps[order];
        let Ok(step) = claim(before, spec, &claimer, self.now) else {
            assert_ne!(before.status, StepStatus::Ready);
            return;
        };
        assert_eq!((before.status, step.attempt), (StepStatus::Ready, before.attempt + 1));
        assert!(!self.state.run.paused && !self.state.run.status.is_finished());
        self.state.steps[order] = step;
        self.log.push(Done::Claim(order, claimer, self.now));
        self.check_state();
    }

    fn note(&mut self, order: usize, attempt: i32) {
        let claim = ClaimRef { run: self.state.run.id.clone(), order, attempt };
        let before = &self.state.steps[order];
        let is_current = before.status == StepStatus::Running && before.attempt == attempt;
        let noted = note(before, &claim, Duration::from_secs(45), None, None, Some(JsonText::new(&json!(1))), self.now);
        assert_eq!(noted.is_ok(), is_current, "a note of a claim that is over");
        if let Ok(step) = noted {
            self.state.steps[order] = step;
            self.log.push(Done::Note(claim, self.now));
        }
    }

    /// A step of which `is_likely` holds, or any when there is none.
    fn pick(&self, index: &prop::sample::Index, is_likely: impl Fn(&Step) -> bool) -> usize {
        let likely: Vec<usize> = self.state.steps.iter().filter(|s| is_likely(s)).map(|s| s.order).collect();
        if likely.is_empty() { index.index(self.state.steps.len()) } else { likely[index.index(likely.len())] }
    }

    pub(in crate::workflow) fn act(&mut self, act: &Act) -> Option<Transition> {
        let is_running = |step: &Step| step.status == StepStatus::Running;
        let running = self.pick(&act.step, is_running);
        let attempt = self.state.steps[running].attempt + i32::from(act.attempt);
        let asks = self.pick(&act.step, |step| matches!(step.wait, Some(Wait::Answer { .. })));
        let event = match act.kind {
            0..=8 => {
                self.claim(self.pick(&act.step, |step| step.status == StepStatus::Ready));
                return None;
            }
            9..=14 => {
                let result = match act.value {
                    0 => failed("boom", true),
                    1 if act.seconds.is_multiple_of(3) => failed("broken", false),
                    2 if act.seconds.is_multiple_of(3) => StepResult::Released,
                    value => completed(&json!(value)),
                };
                let claim_next = (act.seconds.is_multiple_of(4)).then(|| ClaimNext {
                    claimer: claimer(&format!("next {}", self.log.len())),
                    can_do: vec![true; self.state.steps.len()].into(),
                    limit: usize::from(act.value),
                });
                Event::Finish { order: running, attempt, result, claim_next }
            }
            15 => Event::Ask {
                order: running,
                attempt,
                question: "Which?".into(),
                schema: None,
                checkpoint: (act.value > 1).then(|| JsonText::new(&json!("here"))),
            },
            16..=18 => {
                // What is asked, or was before: an answer that comes too late.
                let late = i64::from(act.seconds == 1);
                Event::Answer {
                    order: asks,
                    question: self.state.steps[asks].revision - late,
                    answer: JsonText::new(&json!(act.value)),
                    refuse: act.seconds == 0,
                }
            }
            19 => {
                self.note(running, attempt);
                return None;
            }
            20..=23 => {
                self.now = Timestamp(self.now.0 + i64::from(act.seconds) * 1_000);
                Event::Tick
            }
            24 => Event::Pause,
            25 => Event::Resume,
            26 => Event::Retry,
            _ if act.seconds < 20 => Event::Cancel { reason: "enough".into() },
            _ => Event::Resume,
        };
        let transition = self.event(&event);
        if act.repeats {
            let again = self.event(&event);
            // A run may fail again at once, and can then be retried again.
            let is_same = matches!(event, Event::Tick | Event::Retry) || again.verdict != Verdict::Applied;
            assert!(is_same, "{event:?} was applied twice");
        }
        Some(transition)
    }

    /// Lets workers do whatever there is to do, and time pass, until the run has ended.
    pub(in crate::workflow) fn run_to_its_end(&mut self, outcome: impl Fn(usize) -> StepResult) {
        self.event(&Event::Resume);
        for _ in 0..1_000 {
            if self.state.run.status.is_finished() {
                return;
            }
            let done_before = self.log.len();
            for order in 0..self.state.steps.len() {
                match &self.state.steps[order] {
                    step if step.status == StepStatus::Ready => self.claim(order),
                    step if step.status == StepStatus::Running => {
                        let attempt = step.attempt;
                        self.event(&Event::Finish { order, attempt, result: outcome(order), claim_next: None });
                    }
                    step if matches!(step.wait, Some(Wait::Answer { .. })) => {
                        let question = step.revision;
                        self.event(&Event::Answer { order, question, answer: JsonText::new(&json!(1)), refuse: false });
                    }
                    _ => {}
                }
            }
            if self.log.len() > done_before {
                continue;
            }
            let due = self.state.steps.iter().filter_map(Step::next_due).min();
            self.now = self.now.max(due.unwrap_or(self.now));
            self.event(&Event::Tick);
        }
        panic!("the run does not end: {:?}", facts(&self.state));
    }
}

/// Does the same again to a new run, this time with all payloads at hand.
pub(super) fn replayed(document: &Value, log: &[Done]) -> RunState {
    let mut state = start(&new_run(&definition(document)), BEGIN).state;
    for done in log {
        match done {
            Done::Event(event, now) => state = apply(&state, event, &actor(), *now).unwrap().state,
            Done::Claim(order, claimer, now) => {
                let spec = &state.run.definition.spec.steps[*order];
                state.steps[*order] = claim(&state.steps[*order], spec, claimer, *now).unwrap();
            }
            Done::Note(claim, now) => {
                let checkpoint = Some(JsonText::new(&json!(1)));
                let lease = Duration::from_secs(45);
                let noted = note(&state.steps[claim.order], claim, lease, None, None, checkpoint, *now);
                state.steps[claim.order] = noted.unwrap();
            }
        }
    }
    state
}
