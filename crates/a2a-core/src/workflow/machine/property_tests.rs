//! Random workflows under random events, stale and repeated ones among them.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::fixtures::{completed, failed};
use super::random_runs::{Done, World, actor, facts, random_act, random_document, replayed};
use crate::ids::RunId;
use crate::workflow::command::{Event, NewRun};
use crate::workflow::definition::WorkflowSpec;
use crate::workflow::run::{RunState, RunStatus, Step, StepStatus};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn a_run_keeps_its_rules_whatever_happens_and_ends_when_work_goes_on(
        document in random_document(),
        acts in prop::collection::vec(random_act(), 0..80),
    ) {
        let mut world = World::new(&document);
        for act in &acts {
            world.act(act);
        }
        world.run_to_its_end(|order| completed(&json!(order)));
        let end = world.state.clone();
        // Nothing of what was done before changes it now.
        for done in world.log.clone() {
            if let Done::Event(event, _) = done
                && !matches!(event, Event::Retry)
            {
                world.event(&event);
            }
        }
        prop_assert_eq!(facts(&end), facts(&world.state));
    }

    #[test]
    fn the_same_events_give_the_same_run(
        document in random_document(),
        acts in prop::collection::vec(random_act(), 0..60),
    ) {
        let mut world = World::new(&document);
        for act in &acts {
            world.act(act);
        }
        prop_assert_eq!(facts(&world.whole()), facts(&replayed(&document, &world.log)));
    }

    #[test]
    fn a_cancelled_run_stays_cancelled(
        document in random_document(),
        before in prop::collection::vec(random_act(), 0..30),
        after in prop::collection::vec(random_act(), 0..30),
    ) {
        let mut world = World::new(&document);
        for act in &before {
            world.act(act);
        }
        let was_finished = world.state.run.status.is_finished();
        world.event(&Event::Cancel { reason: "enough".into() });
        let end = facts(&world.state);
        prop_assert_eq!(world.state.run.status == RunStatus::Cancelled, !was_finished || end.0.starts_with("CANCELLED"));
        for act in after.iter().filter(|_| world_is(&end, "CANCELLED")) {
            world.act(act);
            prop_assert_eq!(&facts(&world.state), &end);
        }
    }

    #[test]
    fn runs_without_surprises_end_as_a_naive_reading_of_the_document_says(
        document in random_document(),
        outcomes in prop::collection::vec(0..4_u8, 9),
    ) {
        let document = without_surprises(document);
        let mut world = World::new(&document);
        let outcome = |order: usize| if outcomes[order] == 0 { failed("no", false) } else { completed(&json!(outcomes[order])) };
        world.run_to_its_end(outcome);
        let expected = naive(&world.state, &outcomes);
        let statuses: Vec<StepStatus> = world.state.steps.iter().map(|step| step.status).collect();
        prop_assert_eq!(statuses, expected);
        prop_assert_eq!(world.state.run.status, RunStatus::Completed);
    }

    #[test]
    fn a_fork_ends_like_a_run_and_keeps_only_what_does_not_follow(
        document in random_document(),
        acts in prop::collection::vec(random_act(), 0..60),
        from in any::<prop::sample::Index>(),
    ) {
        let mut world = World::new(&document);
        for act in &acts {
            world.act(act);
        }
        let old = world.whole();
        let from = from.index(old.steps.len());
        let new: NewRun = super::fork(&old, from, RunId::from_stored("run-b"), actor());
        let again = old.run.definition.with_dependents(&[from]);
        for order in &again {
            prop_assert!(new.kept[*order].is_none());
        }
        for (order, kept) in new.kept.iter().enumerate() {
            if let Some(kept) = kept {
                prop_assert!(kept.status.is_finished() && kept.status == old.steps[order].status);
                for (dependency, _) in &old.run.definition.steps[order].depends_on {
                    prop_assert!(new.kept[*dependency].is_some(), "a kept step depends on one that is done again");
                }
            }
        }
        let mut forked = World::begin(&new, world.now);
        forked.run_to_its_end(|order| completed(&json!(order)));
    }
}

fn world_is(facts: &(String, Vec<Step>), status: &str) -> bool {
    facts.0.starts_with(status)
}

/// A document in which every failure is passed over, and nothing depends on time.
fn without_surprises(mut document: Value) -> Value {
    document.as_object_mut().unwrap().remove("timeout_s");
    for step in document["steps"].as_array_mut().unwrap() {
        let step = step.as_object_mut().unwrap();
        step.insert("on_failure".to_owned(), json!("continue"));
        step.remove("timeout_s");
        if step.get("agent") != Some(&json!("pull")) {
            step.insert("agent".to_owned(), json!("push"));
            step.insert("input".to_owned(), json!({}));
        }
    }
    document
}

/// How each step ends, read from the document: by recursion over what it depends on, without events or time.
fn naive(state: &RunState, outcomes: &[u8]) -> Vec<StepStatus> {
    let spec = &state.run.definition.spec;
    let position = |name: &str| spec.steps.iter().position(|step| step.name.as_str() == name).unwrap();
    fn end(
        order: usize,
        known: &mut BTreeMap<usize, StepStatus>,
        spec: &WorkflowSpec,
        position: &dyn Fn(&str) -> usize,
        outcomes: &[u8],
    ) -> StepStatus {
        if let Some(status) = known.get(&order) {
            return *status;
        }
        let step = &spec.steps[order];
        let mut dependencies = Vec::new();
        for dependency in &step.depends_on {
            let at = position(dependency.step.as_str());
            dependencies.push((dependency.required, end(at, known, spec, position, outcomes), at));
        }
        let first = dependencies.iter().min_by_key(|(_, _, at)| spec.steps[*at].name.clone());
        let completed = |status: &StepStatus| *status == StepStatus::Completed;
        let (skip_if, run_if) = (step.skip_if.as_deref().unwrap_or(""), step.run_if.as_deref().unwrap_or(""));
        let is_missing = dependencies.iter().any(|(required, status, _)| *required && !completed(status));
        let reads_missing = run_if.contains("missing");
        let is_first_done = first.is_some_and(|(_, status, _)| completed(status));
        let is_first_three = is_first_done && first.is_some_and(|(_, _, at)| outcomes[*at] == 3);
        let status = if is_missing
            || skip_if == "input.n == 1"
            || (run_if.contains("COMPLETED") && !is_first_done)
            || (skip_if.contains("== 3") && is_first_three)
        {
            StepStatus::Skipped
        } else if reads_missing || outcomes[order] == 0 {
            StepStatus::Failed
        } else {
            StepStatus::Completed
        };
        known.insert(order, status);
        status
    }
    let mut known = BTreeMap::new();
    (0..spec.steps.len()).map(|order| end(order, &mut known, spec, &position, outcomes)).collect()
}
