//! The cache of workflows and runs.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;

use super::indices::Indices;
use super::*;
use crate::ids::{Actor, WorkflowId};
use crate::workflow::command::{Event, NewRun};
use crate::workflow::machine::fixtures::{BEGIN, Sim, completed, definition, new_run, spec};
use crate::workflow::machine::random_runs::{Act, World, random_act, random_document};
use crate::workflow::run::{RunStatus, StepStatus};

fn apply(cache: &mut WorkflowCache, state: &RunState) -> bool {
    cache.apply(WorkflowCommitted::Run(Arc::new(state.clone())), BEGIN)
}

/// Compares every index with what the runs themselves say, and looks for payloads that should not be kept.
fn check(cache: &WorkflowCache) {
    let mut expected = Indices::default();
    for state in cache.runs.values() {
        expected.add_run(state);
        assert_eq!(state.run.status, status_of(&state.steps));
        let is_light =
            |step: &Step| !matches!((&step.input, &step.output), (Payload::Loaded(_), _) | (_, Payload::Loaded(_)));
        assert!(state.steps.iter().all(is_light), "a payload is kept in memory");
        assert!(!state.run.status.is_finished() && !cache.ended.contains_key(&state.run.id));
    }
    assert_eq!(cache.indices, expected);
    let unfinished = cache.runs.values().flat_map(|s| &s.steps).filter(|step| !step.status.is_finished()).count();
    assert_eq!(cache.unfinished_steps_in_all(), unfinished);
}

fn run_named(id: &str, document: &serde_json::Value, priority: i16) -> Sim {
    Sim::of(&NewRun { id: RunId::from_stored(id), priority, ..new_run(&definition(document)) })
}

#[test]
fn steps_to_pull_come_by_priority_then_by_the_time_they_are_ready() {
    let document = json!({"steps": [
        {"name": "a", "agent": "x"}, {"name": "b", "agent": "y"}, {"name": "c", "agent": "push"},
        {"name": "w", "agent": "builtin:wait", "input": {"seconds": 5}}]});
    let mut cache = WorkflowCache::default();
    let mut late = run_named("run-1", &document, 5);
    late.state.steps.iter_mut().for_each(|step| step.ready_at = Some(Timestamp(BEGIN.0 + 1)));
    for sim in [late, run_named("run-2", &document, 5), run_named("run-3", &document, 9)] {
        assert!(apply(&mut cache, &sim.state));
    }
    check(&cache);
    let names = |steps: Vec<ReadyStep>| -> Vec<String> {
        steps.iter().map(|step| format!("{}/{}", step.run, step.order)).collect()
    };
    let (namespace, agent) = (Namespace::default(), AgentId::from_stored("x"));
    let all = ["run-3/0", "run-3/1", "run-2/0", "run-2/1", "run-1/0", "run-1/1"];
    assert_eq!(names(cache.ready_to_pull(&namespace, None)), all);
    assert_eq!(names(cache.ready_to_pull(&namespace, Some(&agent))), ["run-3/0", "run-2/0", "run-1/0"]);
    assert!(cache.ready_to_pull(&Namespace::from_stored("other"), None).is_empty());
    assert_eq!(names(cache.ready_to_push().cloned().collect()), ["run-3/2", "run-2/2", "run-1/2"]);
    let due = Timestamp(BEGIN.0 + 5_000);
    assert_eq!((cache.next_due(), cache.due(Timestamp(due.0 - 1)).len(), cache.due(due).len()), (Some(due), 0, 3));
    assert_eq!((cache.unfinished_steps(&namespace, &agent), cache.live_runs()), (3, 3));
}

#[test]
fn a_claim_changes_where_the_run_stands_although_its_own_row_stays() {
    let mut sim = Sim::new(&json!({"steps": [{"name": "a", "agent": "x"}]}));
    let mut cache = WorkflowCache::default();
    apply(&mut cache, &sim.state);
    let id = sim.state.run.id.clone();
    assert_eq!(cache.run(&id).unwrap().run.status, RunStatus::Pending);
    sim.claim("a").unwrap();
    let claimed = WorkflowCommitted::Step(id.clone(), Box::new(sim.step("a").clone()));
    assert!(cache.apply(claimed.clone(), BEGIN));
    assert!(!cache.apply(claimed, BEGIN));
    assert_eq!(cache.run(&id).unwrap().run.status, RunStatus::Running);
    assert!(cache.ready_to_pull(&Namespace::default(), None).is_empty());
    check(&cache);
}

#[test]
fn a_run_that_has_ended_does_not_come_back_unless_it_is_retried() {
    let mut sim = Sim::new(&json!({"steps": [{"name": "a", "agent": "x"}]}));
    let mut cache = WorkflowCache::default();
    let begun = sim.state.clone();
    let id = begun.run.id.clone();
    apply(&mut cache, &begun);
    sim.fails("a", false);
    assert!(apply(&mut cache, &sim.state) && cache.has_ended(&id) && cache.run(&id).is_none());
    assert!(!apply(&mut cache, &begun) && cache.run(&id).is_none());
    assert!(!cache.apply(WorkflowCommitted::Step(id.clone(), Box::new(begun.steps[0].clone())), BEGIN));
    let failed = sim.state.clone();
    sim.happens(&Event::Retry);
    assert!(apply(&mut cache, &sim.state) && cache.run(&id).is_some() && !cache.has_ended(&id));
    assert!(!apply(&mut cache, &failed) && cache.run(&id).is_some());
    check(&cache);
    sim.done("a", &json!(1));
    // The end may be the first that is heard of it.
    let mut other = WorkflowCache::default();
    assert!(apply(&mut other, &sim.state) && !apply(&mut other, &begun) && other.live_runs() == 0);
    other.forget_before(Timestamp(BEGIN.0));
    assert!(other.has_ended(&id));
    other.forget_before(Timestamp(BEGIN.0 + 1));
    assert!(!other.has_ended(&id));
}

fn workflow(namespace: &str, id: &str, name: &str, revision: Revision) -> WorkflowCommitted {
    let mut spec = spec(&json!({"id": id, "name": name, "steps": [{"name": "a", "agent": "x"}]}));
    spec.namespace = Namespace::from_stored(namespace);
    let (at, by) = (BEGIN, Actor::new("tester"));
    WorkflowCommitted::Workflow(Arc::new(Workflow { spec, revision, created_at: at, updated_at: at, updated_by: by }))
}

fn key(id: &str) -> WorkflowKey {
    WorkflowKey { namespace: Namespace::default(), id: WorkflowId::from_stored(id) }
}

#[test]
fn a_workflow_never_goes_back_to_an_older_revision() {
    let mut cache = WorkflowCache::default();
    assert!(cache.apply(workflow("default", "w", "two", 2), BEGIN));
    assert!(!cache.apply(workflow("default", "w", "one", 1), BEGIN));
    assert!(!cache.apply(WorkflowCommitted::WorkflowRemoved(key("w"), 1), BEGIN));
    assert_eq!(&*cache.workflow(&key("w")).unwrap().spec.name, "two");
    assert!(cache.apply(WorkflowCommitted::WorkflowRemoved(key("w"), 3), BEGIN));
    assert!(!cache.apply(workflow("default", "w", "two", 2), BEGIN));
    assert_eq!((cache.workflow(&key("w")), cache.workflow_revision(&key("w"))), (None, Some(3)));
    assert!(cache.apply(workflow("default", "w", "four", 4), BEGIN));
    assert_eq!(cache.workflow_revision(&key("w")), Some(4));
}

fn ids<T>(found: Found<T>, id: impl Fn(&T) -> String) -> Vec<String> {
    match found {
        Found::One(one) => vec![format!("={}", id(&one))],
        Found::Several(several) => several,
        Found::None { nearest } => nearest.into_iter().map(|id| format!("?{id}")).collect(),
    }
}

#[test]
fn workflows_are_found_by_the_start_of_their_ids_and_names_are_suggested() {
    let mut cache = WorkflowCache::default();
    for (namespace, id, name) in [
        ("default", "review", "Review"),
        ("default", "review-release", "Release review"),
        ("default", "Deploy", "Ship it"),
        ("team", "deploy-team", "x"),
    ] {
        cache.apply(workflow(namespace, id, name, 1), BEGIN);
    }
    let find = |text: &str| ids(cache.resolve_workflow(&Namespace::default(), text), |w| w.spec.id.to_string());
    assert_eq!(find("review"), ["=review"]);
    assert_eq!(find("REVIEW"), ["=review"]);
    assert_eq!(find("review-"), ["=review-release"]);
    assert_eq!(find("rev"), ["review", "review-release"]);
    assert_eq!(find("dep"), ["=Deploy"]);
    assert_eq!(find("reveiw"), ["?review", "?review-release"]);
    assert_eq!(find("ship its"), ["?Deploy"]);
    assert!(find("").is_empty() && find("zzz").is_empty());
    let listed: Vec<String> = cache.workflows(&Namespace::default()).iter().map(|w| w.spec.id.to_string()).collect();
    assert_eq!(listed, ["Deploy", "review", "review-release"]);
}

#[test]
fn runs_are_found_by_the_start_of_their_ids_and_listed_the_latest_first() {
    let document = json!({"steps": [{"name": "a", "agent": "x"}]});
    let mut cache = WorkflowCache::default();
    for (i, id) in ["run-abc", "run-abd", "run-xyz"].iter().enumerate() {
        let mut sim = run_named(id, &document, 5);
        sim.state.run.created_at = Timestamp(BEGIN.0 + i as i64 / 2);
        if i == 1 {
            sim.claim("a").unwrap();
        }
        apply(&mut cache, &sim.state);
    }
    let find = |text: &str| ids(cache.resolve_run(text), |state| state.run.id.to_string());
    assert_eq!(find("run-abc"), ["=run-abc"]);
    assert_eq!(find("ABC"), ["=run-abc"]);
    assert_eq!(find("run-x"), ["=run-xyz"]);
    assert_eq!(find("run-ab"), ["run-abc", "run-abd"]);
    assert_eq!(find("run-abcd")[0], "?run-abc");
    assert!(find("run-").is_empty() && find("").is_empty());
    let list = |filter: &RunFilter, after: Option<&RunState>, limit| {
        let page = cache.list(filter, after.map(|state| (state.run.created_at, &state.run.id)), limit);
        (page.runs.iter().map(|state| state.run.id.to_string()).collect::<Vec<_>>(), page.total, page.more)
    };
    let all = RunFilter::default();
    assert_eq!(list(&all, None, 2), (vec!["run-xyz".to_owned(), "run-abd".to_owned()], 3, true));
    let last = cache.run(&RunId::from_stored("run-abd")).unwrap();
    assert_eq!(list(&all, Some(last), 2), (vec!["run-abc".to_owned()], 3, false));
    let running = RunFilter { status: Some(RunStatus::Running), ..RunFilter::default() };
    assert_eq!(list(&running, None, 9), (vec!["run-abd".to_owned()], 1, false));
    let other = RunFilter { workflow: Some(WorkflowId::from_stored("other")), ..RunFilter::default() };
    assert_eq!(list(&other, None, 9).1, 0);
}

#[test]
fn what_was_missed_is_forgotten_after_everything_was_read() {
    let document = json!({"steps": [{"name": "a", "agent": "x"}]});
    let mut cache = WorkflowCache::default();
    let (ended, mut changed) = (run_named("run-a", &document, 5), run_named("run-b", &document, 5));
    apply(&mut cache, &ended.state);
    apply(&mut cache, &changed.state);
    cache.apply(workflow("default", "gone", "x", 1), BEGIN);
    let before = cache.known();
    // Between the reading and its result these two happen.
    changed.happens(&Event::Pause);
    apply(&mut cache, &changed.state);
    apply(&mut cache, &run_named("run-c", &document, 5).state);
    assert!(cache.forget_missing(&before, |_| false, |_| false, BEGIN));
    assert!(cache.run(&RunId::from_stored("run-a")).is_none() && cache.workflow(&key("gone")).is_none());
    assert_eq!(cache.live_runs(), 2);
    assert!(!apply(&mut cache, &ended.state));
    check(&cache);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn the_cache_ends_at_the_newest_states_whatever_order_they_arrive_in(
        document in random_document(),
        acts in prop::collection::vec(random_act(), 1..40),
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..60),
        whole in prop::collection::vec(any::<bool>(), 60),
        ends in any::<bool>(),
    ) {
        let mut world = World::new(&document);
        let mut states = vec![world.whole()];
        for act in &acts {
            let _: &Act = act;
            world.act(act);
            states.push(world.whole());
        }
        if ends {
            world.run_to_its_end(|order| completed(&json!(order)));
            states.push(world.whole());
        }
        let mut cache = WorkflowCache::default();
        let id = states[0].run.id.clone();
        let mut seen = (0, vec![0; states[0].steps.len()]);
        for (index, whole) in order.iter().zip(whole) {
            let state = &states[index.index(states.len())];
            let knew = cache.run(&id).is_some();
            if whole || !knew {
                apply(&mut cache, state);
                if !cache.has_ended(&id) && state.run.revision >= seen.0 {
                    seen.0 = state.run.revision;
                }
            } else {
                let step = &state.steps[index.index(state.steps.len())];
                cache.apply(WorkflowCommitted::Step(id.clone(), Box::new(step.clone())), BEGIN);
            }
            check(&cache);
            if let Some(live) = cache.run(&id) {
                prop_assert!(live.run.revision >= seen.0, "the run went back");
                if knew {
                    for (step, seen) in live.steps.iter().zip(&seen.1) {
                        prop_assert!(step.revision >= *seen, "a step went back");
                    }
                }
                seen = (live.run.revision, live.steps.iter().map(|step| step.revision).collect());
            }
        }
        let last = states.last().unwrap();
        apply(&mut cache, last);
        check(&cache);
        match cache.run(&id) {
            None => prop_assert!(last.run.status.is_finished() && cache.has_ended(&id)),
            Some(live) => {
                prop_assert!(!last.run.status.is_finished());
                prop_assert_eq!(live.run.revision, last.run.revision);
                let steps: Vec<Step> = last.steps.iter().map(light_step).collect();
                prop_assert_eq!(&live.steps, &steps);
            }
        }
        let ready = cache.ready_to_push().count() + cache.ready_to_pull(&Namespace::default(), None).len();
        let is_ready = |step: &&Step| step.status == StepStatus::Ready;
        let live_steps = cache.run(&id).map_or(0, |state| state.steps.iter().filter(is_ready).count());
        prop_assert_eq!(ready, live_steps);
    }
}
