//! The runner: carries on every run that is due, whichever process began it.
//!
//! It looks at the runs in memory whenever they change. Steps that are ready and that this process can do are claimed,
//! as many at once as its settings say; timers and leases that have run out are looked at under the clock of the
//! database. Several processes may try the same: the database gives a step to one of them and refuses the others.
//!
//! A claim lasts as long as its process renews it. When the process dies the lease runs out and another process goes
//! on; when it was only stopped for a while it finds its claim over, and what it then hands in is refused.

mod attempt;
mod claims;
mod left_open;
mod places;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use a2a_core::agent::{AgentSpec, Capability, Executor, ExecutorKind};
use a2a_core::error::Problems;
use a2a_core::ids::{Actor, Namespace, RunId};
use a2a_core::json_schema;
use a2a_core::time::Timestamp;
use a2a_core::workflow::command::{
    ClaimNext, ClaimRef, Claimer, Event, NewRun, StepResult, WorkflowCommand, WorkflowOutcome,
};
use a2a_core::workflow::definition::StepSpec;
use a2a_core::workflow::live::ReadyStep;
use a2a_core::workflow::run::{Run, RunState, Step};
use a2a_store::feed::Cache;
use a2a_store::store::Store;
use a2a_store::workflow_view::WorkflowView;
use a2a_store::workflow_writer::WorkflowWriter;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use claims::Claims;
use left_open::LeftOpen;
use places::{Full, Places, is_remote};

use crate::contacts::Contacts;
use crate::executors::Executors;
use crate::learner::Learner;

/// A command of the runner is given up after this long, and tried again when it still matters.
const COMMAND_LIMIT: Duration = Duration::from_secs(10);
/// The pause after a command failed: the database is away, and what the cache shows stays so meanwhile.
const PAUSE: Duration = Duration::from_millis(500);
/// Processes that see the same ready step or the same lapsed lease do not all ask for it in the same moment.
const JITTER: Duration = Duration::from_millis(15);
/// A run that was looked at and had nothing due is not looked at again for so long. What this process takes for the
/// time of the database may be somewhat ahead of it.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// Most runs looked at in one transaction.
const TICKS_MAX: usize = 64;
/// The longest time without looking, in case that a wake-up was missed.
const IDLE_MAX: Duration = Duration::from_secs(5);

/// How a process takes part in runs.
#[derive(Debug, Clone)]
pub struct RunnerSettings {
    /// Most steps that it works on at once; 0 means that it only looks on. Tasks at other agents that it waits for are
    /// not among them, and may be some times as many.
    pub steps_max: usize,
    /// How long a step that it works on is left alone without a sign of it.
    pub lease: Duration,
    /// The same for steps that a client has pulled.
    pub pull_lease: Duration,
}

/// The runner of a process. Cheap to clone; all clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Runner {
    shared: Arc<Shared>,
}

struct Shared {
    settings: RunnerSettings,
    view: Arc<WorkflowView>,
    /// The agents, for the schemas of their capabilities.
    agents: Arc<Cache>,
    writer: WorkflowWriter,
    executors: Arc<Executors>,
    contacts: Contacts,
    learner: Learner,
    claims: Claims,
    places: Places,
    attempts: TaskTracker,
    /// Ends the work on steps at once.
    stop: CancellationToken,
    store: Store,
    left_open: LeftOpen,
    /// Runs that had nothing due although their time seemed to have come.
    looked_at: Mutex<HashMap<RunId, Instant>>,
}

/// The parts of the system that the runner works with.
pub(crate) struct Surroundings {
    pub(crate) store: Store,
    pub(crate) view: Arc<WorkflowView>,
    /// The agents, for the schemas of their capabilities.
    pub(crate) agents: Arc<Cache>,
    pub(crate) writer: WorkflowWriter,
    pub(crate) contacts: Contacts,
    pub(crate) learner: Learner,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runner").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// The name under which the runner changes runs.
fn actor() -> Actor {
    Actor::new(&format!("a2a-mcp runner #{}", std::process::id()))
}

impl Runner {
    /// Starts the runner.
    pub(crate) fn start(settings: RunnerSettings, executors: Executors, parts: Surroundings) -> Self {
        let Surroundings { store, view, agents, writer, contacts, learner } = parts;
        let places = Places::new(settings.steps_max);
        let runner = Self {
            shared: Arc::new(Shared {
                claims: Claims::new(),
                settings,
                view,
                agents,
                writer,
                executors: Arc::new(executors),
                contacts,
                learner,
                places,
                attempts: TaskTracker::new(),
                stop: CancellationToken::new(),
                store,
                left_open: LeftOpen::default(),
                looked_at: Mutex::default(),
            }),
        };
        tokio::spawn(runner.clone().renew_until_stopped());
        if runner.shared.settings.steps_max > 0 {
            // Among the attempts: what it is claiming when the process ends is given back as theirs are.
            runner.shared.attempts.spawn(runner.clone().look_until_stopped());
            runner.shared.attempts.spawn(runner.clone().look_for_left_open_until_stopped());
        }
        runner
    }

    pub(crate) fn claims(&self) -> &Claims {
        &self.shared.claims
    }

    pub(crate) fn executors(&self) -> &Executors {
        &self.shared.executors
    }

    pub(crate) fn settings(&self) -> &RunnerSettings {
        &self.shared.settings
    }

    /// Ends the work on steps and gives them back, so that another process goes on at once and not only when the lease
    /// has run out. Its clients are gone: what they have pulled is given back too.
    pub(crate) async fn close(&self, limit: Duration) {
        self.shared.stop.cancel();
        self.shared.attempts.close();
        let all = async {
            // Ordering: the claims are looked at after it is said that the runner closes. Whoever takes one after that
            // gives it back itself.
            tokio::join!(self.shared.attempts.wait(), self.release(self.shared.claims.pulled()))
        };
        if tokio::time::timeout(limit, all).await.is_err() {
            tracing::warn!("some steps could not be given back; they are free when their leases have run out");
        }
    }

    /// Whether the process is ending.
    pub(crate) fn is_closing(&self) -> bool {
        self.shared.stop.is_cancelled()
    }

    /// Gives pulled steps back, which is no failure of theirs.
    pub(crate) async fn release(&self, claims: Vec<ClaimRef>) {
        let release = |claim: &ClaimRef| WorkflowCommand::RunEvent {
            run: claim.run.clone(),
            event: Event::Finish {
                order: claim.order,
                attempt: claim.attempt,
                result: StepResult::Released,
                claim_next: None,
            },
            actor: actor(),
        };
        let commands = claims.iter().map(release).collect();
        claims.iter().for_each(|claim| self.shared.claims.let_go(claim));
        if self.submit(commands).await.is_none() {
            tracing::warn!("pulled steps could not be given back; they are free when their leases have run out");
        }
    }

    /// The time of the database, by which everything is due.
    fn now(&self) -> Timestamp {
        self.shared.view.clock().now()
    }

    /// Sends commands and returns their outcomes, in time or not at all.
    async fn submit(&self, commands: Vec<WorkflowCommand>) -> Option<Vec<WorkflowOutcome>> {
        match self.shared.writer.submit(commands, Instant::now() + COMMAND_LIMIT).await {
            Ok(outcomes) => {
                outcomes.iter().for_each(|outcome| self.close_left_open(outcome));
                Some(outcomes)
            }
            Err(error) => {
                tracing::debug!(%error, "the runner could not write");
                None
            }
        }
    }

    /// Claims what is ready and wakes what is due, whenever something changes.
    async fn look_until_stopped(self) {
        let stop = self.shared.stop.clone();
        let mut changed = self.shared.view.changed();
        loop {
            changed.mark_unchanged();
            // Never dropped: a claim that it has sent would be committed, and nobody would know of it.
            let Looked { full, wake_at, failed } = self.look().await;
            let places = &self.shared.places;
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep_until(wake_at) => {}
                // A place that is free again wakes nobody else: the cache showed the end of its step before.
                _place = places.here.acquire(), if full.here && !failed => {}
                _place = places.remote.acquire(), if full.remote && !failed => {}
                change = changed.changed(), if !failed => {
                    if change.is_err() {
                        return;
                    }
                    // Ordering: first everything that belongs to this process, which asks for it without a pause.
                    tokio::time::sleep(JITTER.mul_f64(rand::random_range(0.0..1.0))).await;
                }
            }
        }
    }

    async fn look(&self) -> Looked {
        let full = self.claim_ready().await;
        if !self.tick_due().await {
            return Looked { full, wake_at: Instant::now() + PAUSE, failed: true };
        }
        let now = self.now();
        let mut until = Instant::now() + IDLE_MAX;
        if let Some(due) = self.shared.view.read().next_due() {
            until = until.min(Instant::now() + due.since(now) + JITTER.mul_f64(rand::random_range(0.0..1.0)));
        }
        // What seemed to be due already, and was not, waits for its own time.
        let looked_at = self.shared.looked_at.lock();
        let wake_at = match looked_at.values().min() {
            Some(first) if until <= Instant::now() + JITTER => (*first).max(Instant::now() + JITTER),
            _ => until,
        };
        Looked { full, wake_at, failed: false }
    }

    /// Claims ready steps that this process can do. Returns which places are all taken.
    async fn claim_ready(&self) -> Full {
        loop {
            // What this process gives back at its end is for others.
            if self.shared.stop.is_cancelled() {
                return Full::default();
            }
            let (mut commands, mut places) = (Vec::new(), Vec::new());
            for step in self.ready_for_us(&self.shared.places) {
                let Some(place) = self.shared.places.of(step.kind).clone().try_acquire_owned().ok() else { continue };
                places.push(place);
                commands.push(WorkflowCommand::StepClaim {
                    run: step.ready.run,
                    order: step.ready.order,
                    claimer: self.claimer(),
                });
            }
            if commands.is_empty() {
                return self.shared.places.full();
            }
            let Some(outcomes) = self.submit_until_known(commands).await else { return Full::default() };
            let mut claimed = 0;
            for (outcome, place) in outcomes.into_iter().zip(places) {
                if let WorkflowOutcome::Claimed { run, step } = outcome {
                    claimed += 1;
                    self.work_on(run, *step, place);
                }
            }
            if claimed == 0 {
                // Others were quicker; the cache will show it.
                return Full::default();
            }
        }
    }

    /// Takes places, at most so many: for work here that is about to be claimed, so that there is never more of it than
    /// places.
    fn reserve(&self, most: usize) -> Vec<OwnedSemaphorePermit> {
        std::iter::from_fn(|| self.shared.places.here.clone().try_acquire_owned().ok()).take(most).collect()
    }

    /// Sends claims until it is known what came of them: one that nobody knows of would cost its step an attempt. The
    /// same claim sent again finds itself. `None` when the process ends first.
    async fn submit_until_known(&self, commands: Vec<WorkflowCommand>) -> Option<Vec<WorkflowOutcome>> {
        loop {
            if let Some(outcomes) = self.submit(commands.clone()).await {
                return Some(outcomes);
            }
            tokio::select! {
                () = self.shared.stop.cancelled() => return None,
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }

    /// The first ready steps that this process can do, as many of each sort as there are free places.
    fn ready_for_us(&self, places: &Places) -> Vec<ReadyForUs> {
        let mut free = [places.here.available_permits(), places.remote.available_permits()];
        let cache = self.shared.view.read();
        let mut found = Vec::new();
        for ready in cache.ready_to_push() {
            if free == [0, 0] {
                break;
            }
            let step = cache.run(&ready.run).and_then(|state| state.steps.get(ready.order));
            let Some(executor) = step.map(|step| &step.executor) else { continue };
            let [here, remote] = &mut free;
            let free = if is_remote(executor.kind) { remote } else { here };
            if *free > 0 && self.shared.executors.can_run(executor).is_ok() {
                *free -= 1;
                found.push(ReadyForUs { ready: ready.clone(), kind: executor.kind });
            }
        }
        found
    }

    /// The first ready step that waits for a place here.
    fn first_for_here(&self) -> Option<ReadyStep> {
        let cache = self.shared.view.read();
        let is_for_here = |ready: &&ReadyStep| {
            let step = cache.run(&ready.run).and_then(|state| state.steps.get(ready.order));
            step.is_some_and(|step| self.can_claim_here(&step.executor))
        };
        cache.ready_to_push().find(is_for_here).cloned()
    }

    fn claimer(&self) -> Claimer {
        Claimer {
            owner: format!("runner #{}/{}", std::process::id(), uuid::Uuid::new_v4().simple()).into(),
            lease: self.shared.settings.lease,
            progress_within: None,
        }
    }

    /// Lets the database look at runs whose time has come. False when it is away.
    async fn tick_due(&self) -> bool {
        let at = Instant::now();
        let due: Vec<RunId> = {
            let mut looked_at = self.shared.looked_at.lock();
            looked_at.retain(|_, again| *again > at);
            let due = self.shared.view.read().due(self.now());
            due.into_iter().filter(|run| !looked_at.contains_key(run)).take(TICKS_MAX).collect()
        };
        if due.is_empty() {
            return true;
        }
        let commands = due
            .iter()
            .map(|run| WorkflowCommand::RunEvent { run: run.clone(), event: Event::Tick, actor: actor() })
            .collect();
        let Some(_outcomes) = self.submit(commands).await else { return false };
        // What happened to a run may have made it due again at another time, which is waited for as any other.
        let still: HashSet<RunId> = self.shared.view.read().due(self.now()).into_iter().collect();
        let again = Instant::now() + LOOK_AGAIN.mul_f64(rand::random_range(1.0..1.5));
        let had_nothing = due.into_iter().filter(|run| still.contains(run));
        self.shared.looked_at.lock().extend(had_nothing.map(|run| (run, again)));
        true
    }

    fn work_on(&self, run: Arc<Run>, step: Step, place: OwnedSemaphorePermit) {
        self.shared.attempts.spawn(attempt::Attempt::new(self.clone(), run, step).work(place));
    }
}

/// A ready step that this process can do.
struct ReadyForUs {
    ready: ReadyStep,
    kind: ExecutorKind,
}

/// What a look came to.
struct Looked {
    /// Work may be waiting for a place.
    full: Full,
    /// Nothing happens by itself before this.
    wake_at: Instant,
    /// The database is away.
    failed: bool,
}

impl Runner {
    /// Whether this process can do a step of such an executor by itself, in a place here.
    fn can_claim_here(&self, executor: &Executor) -> bool {
        executor.kind != ExecutorKind::Pull
            && !is_remote(executor.kind)
            && self.shared.executors.can_run(executor).is_ok()
    }

    /// Checks the input or the output of a step against what its agent says of it now.
    pub(crate) fn check(
        &self,
        what: Checked,
        namespace: &Namespace,
        spec: &StepSpec,
        value: &Value,
    ) -> Result<(), Problems> {
        let agent = self.shared.agents.read().get(namespace, spec.agent.as_str()).cloned();
        let Some(agent) = agent else { return Ok(()) };
        let Some(capability) = capability_of(&agent.spec, spec.capability.as_deref()) else { return Ok(()) };
        let (schema, path) = match what {
            Checked::Input => (&capability.input_schema, "input"),
            Checked::Output => (&capability.output_schema, "output"),
        };
        schema.as_ref().map_or(Ok(()), |schema| json_schema::check(schema, value, path))
    }
}

/// What is checked against a schema.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Checked {
    Input,
    Output,
}

/// The capability that a step uses: the one it names, or the only one there is.
pub(crate) fn capability_of<'a>(spec: &'a AgentSpec, name: Option<&str>) -> Option<&'a Capability> {
    match name {
        Some(name) => spec.capabilities.iter().find(|capability| &*capability.name == name),
        None => match &*spec.capabilities {
            [only] => Some(only),
            _ => None,
        },
    }
}

impl Runner {
    /// Lets a transaction claim at once what it makes ready of a run, as far as this process has places, and unless
    /// something else comes first.
    fn claim_next(&self, priority: i16, can_do: Arc<[bool]>, places: &[OwnedSemaphorePermit]) -> Option<ClaimNext> {
        let limit = if self.others_come_first(priority) { 0 } else { places.len() };
        (limit > 0).then(|| ClaimNext { claimer: self.claimer(), can_do, limit })
    }

    /// Whether a step waits for a place that is of a higher priority, or of the same and has waited for long: a run that
    /// always claims what it makes ready itself would keep its place until it ends.
    fn others_come_first(&self, priority: i16) -> bool {
        const PATIENCE: Duration = Duration::from_secs(1);
        let Some(first) = self.first_for_here() else { return false };
        let first_priority = self.shared.view.read().run(&first.run).map_or(0, |state| state.run.priority);
        first_priority > priority || (first_priority == priority && self.now().since(first.ready_at) > PATIENCE)
    }

    /// Places for the first steps of a new run, and the claim of them.
    pub(crate) fn claim_first(&self, new: &NewRun) -> (Vec<OwnedSemaphorePermit>, Option<ClaimNext>) {
        let places = self.reserve(attempt::CLAIM_NEXT_MAX.min(new.executors.len()));
        let can_do = new.executors.iter().map(|executor| self.can_claim_here(executor)).collect();
        let claim_next = self.claim_next(new.priority, can_do, &places);
        (places, claim_next)
    }

    /// The same for what the result of a pulled step makes ready.
    pub(crate) fn claim_after(&self, state: &RunState) -> (Vec<OwnedSemaphorePermit>, Option<ClaimNext>) {
        let places = self.reserve(attempt::CLAIM_NEXT_MAX.min(state.steps.len()));
        let claim_next = self.claim_next(state.run.priority, self.can_do(state), &places);
        (places, claim_next)
    }

    /// Works on steps that a transaction has claimed, each in one of the places that were reserved for it.
    pub(crate) fn work_on_claimed(
        &self,
        state: &RunState,
        claimed: Vec<usize>,
        places: impl IntoIterator<Item = OwnedSemaphorePermit>,
    ) {
        for (order, place) in claimed.into_iter().zip(places) {
            if let Some(step) = state.steps.get(order) {
                self.work_on(Arc::new(state.run.clone()), step.clone(), place);
            }
        }
    }

    /// Which steps of a run this process can do in a place here. Others are claimed at the next look.
    fn can_do(&self, state: &RunState) -> Arc<[bool]> {
        state.steps.iter().map(|step| self.can_claim_here(&step.executor)).collect()
    }
}
