//! The part of the feed that follows workflows and runs.
//!
//! The change log names what has changed. Of a run that the cache has, the rows that are newer are read; one that it has
//! not is read whole, unless the log says that it has ended.

use std::collections::BTreeMap;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::SystemTime;

use a2a_core::ids::{Revision, RunId, WorkflowKey};
use a2a_core::time::Timestamp;
use a2a_core::workflow::live::{Known, WorkflowCache, WorkflowCommitted};
use a2a_core::workflow::run::{RunState, Step};

use crate::agent_check::StoredCheck;
use crate::error::StoreError;
use crate::feed::{FETCH_KEYS_MAX, FeedRow, FeedSession};
use crate::store::WorkflowVersion;
use crate::workflow_commit::StepKey;
use crate::workflow_row::{ReadRun, RunRow, StepRow, WorkflowRow};
use crate::workflow_view::WorkflowView;

/// Runs that are read whole at once: each may have hundreds of steps.
const FETCH_RUNS_MAX: usize = 200;

/// All contacts with agents, all workflows and all runs that go on, as of one moment.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) checks: Vec<StoredCheck>,
    pub(crate) workflows: Vec<WorkflowRow>,
    pub(crate) runs: Vec<ReadRun>,
}

/// What is to be read after a poll.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    /// Removed ones are read too.
    pub(crate) workflows: Vec<WorkflowKey>,
    /// Runs with all their steps.
    pub(crate) whole: Vec<RunId>,
    /// Rows of runs.
    pub(crate) runs: Vec<RunId>,
    /// Rows of steps.
    pub(crate) steps: Vec<StepKey>,
}

/// What was read.
#[derive(Debug, Default)]
pub(crate) struct Fetched {
    pub(crate) workflows: Vec<WorkflowRow>,
    pub(crate) whole: Vec<ReadRun>,
    pub(crate) runs: Vec<RunRow>,
    pub(crate) steps: Vec<StepRow>,
}

/// What can't be read is left out, and logged: one bad row must not keep everything else from the cache.
fn readable<T>(read: Result<T, StoreError>) -> Option<T> {
    read.inspect_err(|error| tracing::error!(%error, "a row about workflows can't be read")).ok()
}

fn readable_run(read: ReadRun) -> Option<RunState> {
    readable(read.map_err(|(_, error)| error))
}

fn committed_workflow(version: WorkflowVersion) -> WorkflowCommitted {
    match version.removed_at {
        Some(_) => WorkflowCommitted::WorkflowRemoved(version.workflow.spec.key(), version.workflow.revision),
        None => WorkflowCommitted::Workflow(version.workflow),
    }
}

fn committed_run(state: RunState) -> WorkflowCommitted {
    WorkflowCommitted::Run(Arc::new(state))
}

/// Takes a snapshot into an empty cache.
pub(crate) fn load(view: &WorkflowView, snapshot: Snapshot) {
    let workflows = snapshot.workflows.into_iter().filter_map(|row| readable(row.into_version()));
    let runs = snapshot.runs.into_iter().filter_map(readable_run);
    view.apply(workflows.map(committed_workflow).chain(runs.map(committed_run)));
}

/// Reads what the log says is newer than what the cache has.
pub(crate) async fn apply_changes(
    session: &mut FeedSession,
    view: &WorkflowView,
    rows: &[FeedRow],
) -> Result<(), StoreError> {
    let wanted = wanted(&view.read(), rows);
    for part in parts(wanted) {
        let fetched = session.fetch_workflows(part).await?;
        apply(view, fetched);
    }
    Ok(())
}

fn wanted(cache: &WorkflowCache, rows: &[FeedRow]) -> Wanted {
    let mut workflows: HashSet<&WorkflowKey> = HashSet::new();
    let mut ended: HashMap<&RunId, (Revision, bool)> = HashMap::new();
    let mut whole: BTreeSet<&RunId> = BTreeSet::new();
    let mut runs: BTreeSet<&RunId> = BTreeSet::new();
    let mut steps: BTreeSet<(&RunId, usize)> = BTreeSet::new();
    for row in rows {
        match row {
            FeedRow::Agent(..)
            | FeedRow::AgentCheck(..)
            | FeedRow::AgentEmbedding(_)
            | FeedRow::Memory(..)
            | FeedRow::MemoryEmbedding(_)
            | FeedRow::Personality(..) => {}
            FeedRow::Workflow(key, revision) => {
                if cache.workflow_revision(key).is_none_or(|known| known < *revision) {
                    workflows.insert(key);
                }
            }
            FeedRow::Run { id, revision, ended: has_ended } => {
                let newest = ended.entry(id).or_insert((*revision, *has_ended));
                if *revision > newest.0 {
                    *newest = (*revision, *has_ended);
                }
                if cache.run_revision(id).is_some_and(|known| known >= *revision) {
                    continue;
                }
                if cache.run(id).is_some() {
                    runs.insert(id);
                } else {
                    whole.insert(id);
                }
            }
            FeedRow::Step { run, order, revision } => {
                if cache.run(run).is_some() {
                    if cache.step_revision(run, *order).is_none_or(|known| known < *revision) {
                        steps.insert((run, *order));
                    }
                } else if !cache.has_ended(run) {
                    // What makes an ended run go on again is a change of the run itself.
                    whole.insert(run);
                }
            }
        }
    }
    // Who has not heard of a run need not hear that it has ended.
    whole.retain(|run| ended.get(run).is_none_or(|(_, has_ended)| !has_ended));
    Wanted {
        workflows: workflows.into_iter().cloned().collect(),
        whole: whole.into_iter().cloned().collect(),
        runs: runs.into_iter().cloned().collect(),
        steps: steps.into_iter().map(|(run, order)| (run.clone(), order)).collect(),
    }
}

/// Splits what is to be read, so that no statement is too large.
fn parts(wanted: Wanted) -> Vec<Wanted> {
    let mut parts: Vec<Wanted> = Vec::new();
    macro_rules! split {
        ($field:ident, $max:expr) => {
            for (index, keys) in wanted.$field.chunks($max).enumerate() {
                if parts.len() <= index {
                    parts.push(Wanted::default());
                }
                if let Some(part) = parts.get_mut(index) {
                    part.$field = keys.to_vec();
                }
            }
        };
    }
    split!(workflows, FETCH_KEYS_MAX);
    split!(whole, FETCH_RUNS_MAX);
    split!(runs, FETCH_KEYS_MAX);
    split!(steps, FETCH_KEYS_MAX);
    parts
}

fn apply(view: &WorkflowView, fetched: Fetched) {
    let mut states: Vec<WorkflowCommitted> =
        fetched.workflows.into_iter().filter_map(|row| readable(row.into_version())).map(committed_workflow).collect();
    states.extend(fetched.whole.into_iter().filter_map(readable_run).map(committed_run));
    let mut changes: BTreeMap<RunId, (Option<RunRow>, Vec<Step>)> = BTreeMap::new();
    for row in fetched.runs {
        let run = RunId::from_stored(row.id.as_str());
        changes.entry(run).or_default().0 = Some(row);
    }
    for row in fetched.steps {
        let run = RunId::from_stored(row.run_id.as_str());
        if let Some(step) = readable(row.into_step()) {
            changes.entry(run).or_default().1.push(step);
        }
    }
    for (id, (run, steps)) in changes {
        // One that has left the cache meanwhile has ended.
        let Some(known) = view.read().run(&id).cloned() else { continue };
        states.extend(merged(&id, &known, run, steps));
    }
    view.apply(states);
}

/// A run that the cache has, with what is newer: one state, so that nobody sees half of a transition.
fn merged(id: &RunId, known: &RunState, run: Option<RunRow>, steps: Vec<Step>) -> Vec<WorkflowCommitted> {
    if run.is_none() && steps.len() <= 1 {
        return steps.into_iter().map(|step| WorkflowCommitted::Step(id.clone(), Box::new(step))).collect();
    }
    let mut state = known.clone();
    if let Some(run) = run
        && let Some(run) = readable(run.into_run(known.run.definition.clone()))
        && run.revision > state.run.revision
    {
        state.run = run;
    }
    for step in steps {
        if let Some(known) = state.steps.get_mut(step.order).filter(|known| known.revision < step.revision) {
            *known = step;
        }
    }
    vec![committed_run(state)]
}

/// Takes everything over that is newer in a snapshot, and drops what is not there any more. `before` is what the cache
/// had before the snapshot was read.
pub(crate) async fn reconcile(
    session: &mut FeedSession,
    view: &WorkflowView,
    before: &Known,
    snapshot: Snapshot,
) -> Result<(), StoreError> {
    let workflows: Vec<Arc<a2a_core::workflow::definition::Workflow>> = snapshot
        .workflows
        .into_iter()
        .filter_map(|row| readable(row.into_version()))
        .map(|version| version.workflow)
        .collect();
    // A run that can't be read is there all the same.
    let unreadable: HashSet<RunId> =
        snapshot.runs.iter().filter_map(|run| run.as_ref().err().map(|(id, _)| id.clone())).collect();
    let runs: Vec<Arc<RunState>> = snapshot.runs.into_iter().filter_map(readable_run).map(Arc::new).collect();
    let suspects = suspects(&view.read(), &workflows, &runs);
    let states = || {
        let workflows = workflows.iter().cloned().map(WorkflowCommitted::Workflow);
        workflows.chain(runs.iter().cloned().map(WorkflowCommitted::Run))
    };
    if !suspects.is_empty() && has_gone_back(session, suspects).await? {
        tracing::warn!("the database has gone back; taking over its workflows and runs");
        let now = Timestamp::from_system_time(SystemTime::now());
        view.update(|cache| {
            *cache = WorkflowCache::default();
            for state in states() {
                cache.apply(state, now);
            }
        });
        return Ok(());
    }
    let there: HashSet<&RunId> = runs.iter().map(|state| &state.run.id).chain(&unreadable).collect();
    let keys: HashSet<WorkflowKey> = workflows.iter().map(|workflow| workflow.spec.key()).collect();
    let now = Timestamp::from_system_time(SystemTime::now());
    view.apply(states());
    view.update(|cache| {
        cache.forget_missing(before, |run| there.contains(run), |key| keys.contains(key), now);
    });
    Ok(())
}

/// Something of which the cache has another or a later state than the snapshot, with that revision.
#[derive(Debug, Default)]
struct Suspects {
    workflows: Vec<(WorkflowKey, Revision)>,
    runs: Vec<(RunId, Revision)>,
    steps: Vec<(StepKey, Revision)>,
    /// The same revision with another content: no doubt is left.
    diverged: bool,
}

impl Suspects {
    fn is_empty(&self) -> bool {
        !self.diverged && self.workflows.is_empty() && self.runs.is_empty() && self.steps.is_empty()
    }
}

fn suspects(
    cache: &WorkflowCache,
    workflows: &[Arc<a2a_core::workflow::definition::Workflow>],
    runs: &[Arc<RunState>],
) -> Suspects {
    let mut suspects = Suspects::default();
    for workflow in workflows {
        let key = workflow.spec.key();
        match cache.workflow_revision(&key) {
            Some(known) if known > workflow.revision => suspects.workflows.push((key, known)),
            Some(known) if known == workflow.revision && cache.workflow(&key) != Some(workflow) => {
                suspects.diverged = true;
            }
            _ => {}
        }
    }
    for state in runs {
        let id = &state.run.id;
        let Some(known) = cache.run(id) else {
            // It has ended for the cache, and goes on here.
            if let Some(known) = cache.run_revision(id).filter(|known| *known >= state.run.revision) {
                suspects.runs.push((id.clone(), known));
            }
            continue;
        };
        if known.run.revision > state.run.revision {
            suspects.runs.push((id.clone(), known.run.revision));
        } else if known.run.revision == state.run.revision && known.run.updated_at != state.run.updated_at {
            suspects.diverged = true;
        }
        for (known, step) in known.steps.iter().zip(&state.steps) {
            if known.revision > step.revision {
                suspects.steps.push(((id.clone(), step.order), known.revision));
            } else if known.revision == step.revision && known != step {
                suspects.diverged = true;
            }
        }
    }
    suspects
}

/// Whether the database has older states than the cache had. What this process has committed since the snapshot was
/// read is newer in the cache as well, so that the database is asked again.
async fn has_gone_back(session: &mut FeedSession, suspects: Suspects) -> Result<bool, StoreError> {
    if suspects.diverged {
        return Ok(true);
    }
    let wanted = Wanted {
        workflows: suspects.workflows.iter().map(|(key, _)| key.clone()).collect(),
        whole: Vec::new(),
        runs: suspects.runs.iter().map(|(run, _)| run.clone()).collect(),
        steps: suspects.steps.iter().map(|(key, _)| key.clone()).collect(),
    };
    let fetched = session.fetch_workflows(wanted).await?;
    let workflows: HashMap<(&str, &str), Revision> =
        fetched.workflows.iter().map(|row| ((row.namespace.as_str(), row.id.as_str()), row.revision)).collect();
    let runs: HashMap<&str, Revision> = fetched.runs.iter().map(|row| (row.id.as_str(), row.revision)).collect();
    let steps: HashMap<(&str, i64), Revision> =
        fetched.steps.iter().map(|row| ((row.run_id.as_str(), row.ord), row.revision)).collect();
    let older = |stored: Option<&Revision>, known: Revision| stored.is_none_or(|stored| *stored < known);
    Ok(suspects
        .workflows
        .iter()
        .any(|(key, known)| older(workflows.get(&(key.namespace.as_str(), key.id.as_str())), *known))
        || suspects.runs.iter().any(|(run, known)| older(runs.get(run.as_str()), *known))
        || suspects.steps.iter().any(|((run, order), known)| {
            let order = i64::try_from(*order).unwrap_or(i64::MAX);
            older(steps.get(&(run.as_str(), order)), *known)
        }))
}
