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

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use a2a_core::agent::{AgentSpec, Capability, Executor, ExecutorKind};
use a2a_core::error::Problems;
use a2a_core::ids::{Actor, Namespace, RunId};
use a2a_core::json_schema;
use a2a_core::time::Timestamp;
use a2a_core::workflow::command::{ClaimNext, Claimer, Event, WorkflowCommand, WorkflowOutcome};
use a2a_core::workflow::definition::StepSpec;
use a2a_core::workflow::live::ReadyStep;
use a2a_core::workflow::run::{Run, RunState, Step};
use a2a_store::feed::Cache;
use a2a_store::workflow_view::WorkflowView;
use a2a_store::workflow_writer::WorkflowWriter;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use claims::Claims;

use crate::contacts::Contacts;
use crate::executors::Executors;

/// A command of the runner is given up after this long, and tried again when it still matters.
const COMMAND_LIMIT: Duration = Duration::from_secs(10);
/// The pause after a command failed: the database is away, and what the cache shows stays so meanwhile.
const PAUSE: Duration = Duration::from_millis(500);
/// Processes that see the same ready step or the same lapsed lease do not all ask for it in the same moment.
const JITTER: Duration = Duration::from_millis(15);
/// A run that was looked at and had nothing due is not looked at again for so long. The clock of this process may be
/// ahead of that of the database.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// Most runs looked at in one transaction.
const TICKS_MAX: usize = 64;
/// The longest time without looking, in case that a wake-up was missed.
const IDLE_MAX: Duration = Duration::from_secs(5);

/// How a process takes part in runs.
#[derive(Debug, Clone)]
pub struct RunnerSettings {
    /// Most steps that it works on at once; 0 means that it only looks on.
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
    claims: Claims,
    /// A place for each step that is worked on.
    places: Arc<Semaphore>,
    attempts: TaskTracker,
    /// Ends the work on steps at once.
    stop: CancellationToken,
    /// Runs that had nothing due although their time seemed to have come.
    looked_at: Mutex<HashMap<RunId, Instant>>,
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

fn now() -> Timestamp {
    Timestamp::from_system_time(std::time::SystemTime::now())
}

impl Runner {
    /// Starts the runner.
    pub(crate) fn start(
        settings: RunnerSettings,
        view: Arc<WorkflowView>,
        agents: Arc<Cache>,
        writer: WorkflowWriter,
        executors: Arc<Executors>,
        contacts: Contacts,
    ) -> Self {
        let places = Arc::new(Semaphore::new(settings.steps_max));
        let runner = Self {
            shared: Arc::new(Shared {
                claims: Claims::new(),
                settings,
                view,
                agents,
                writer,
                executors,
                contacts,
                places,
                attempts: TaskTracker::new(),
                stop: CancellationToken::new(),
                looked_at: Mutex::default(),
            }),
        };
        tokio::spawn(runner.clone().renew_until_stopped());
        if runner.shared.settings.steps_max > 0 {
            tokio::spawn(runner.clone().look_until_stopped());
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
    /// has run out.
    pub(crate) async fn close(&self, limit: Duration) {
        self.shared.stop.cancel();
        self.shared.attempts.close();
        if tokio::time::timeout(limit, self.shared.attempts.wait()).await.is_err() {
            tracing::warn!("some steps could not be given back; they are free when their leases have run out");
        }
    }

    /// Sends commands and returns their outcomes, in time or not at all.
    async fn submit(&self, commands: Vec<WorkflowCommand>) -> Option<Vec<WorkflowOutcome>> {
        match self.shared.writer.submit(commands, Instant::now() + COMMAND_LIMIT).await {
            Ok(outcomes) => Some(outcomes),
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
            let looked = tokio::select! {
                () = stop.cancelled() => return,
                looked = self.look() => looked,
            };
            let wake_at = match looked {
                Looked::Failed => Instant::now() + PAUSE,
                Looked::Until(at) => at,
            };
            let is_full = self.shared.places.available_permits() == 0;
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep_until(wake_at) => {}
                // A place that is free again wakes nobody else: the cache showed the end of its step before.
                _place = self.shared.places.acquire(), if is_full && !matches!(looked, Looked::Failed) => {}
                change = changed.changed(), if !matches!(looked, Looked::Failed) => {
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
        if !self.claim_ready().await {
            return Looked::Failed;
        }
        if !self.tick_due().await {
            return Looked::Failed;
        }
        let now_wall = now();
        let mut until = Instant::now() + IDLE_MAX;
        if let Some(due) = self.shared.view.read().next_due() {
            until = until.min(Instant::now() + due.since(now_wall) + JITTER.mul_f64(rand::random_range(0.0..1.0)));
        }
        // What seemed to be due already, and was not, waits for its own time.
        let looked_at = self.shared.looked_at.lock();
        match looked_at.values().min() {
            Some(first) if until <= Instant::now() + JITTER => Looked::Until((*first).max(Instant::now() + JITTER)),
            _ => Looked::Until(until),
        }
    }

    /// Claims ready steps that this process can do, as far as it has places. False when the database is away.
    async fn claim_ready(&self) -> bool {
        loop {
            let free = self.shared.places.available_permits();
            if free == 0 {
                return true;
            }
            let ready = self.ready_for_us(free);
            if ready.is_empty() {
                return true;
            }
            let commands = ready
                .iter()
                .map(|step| WorkflowCommand::StepClaim {
                    run: step.run.clone(),
                    order: step.order,
                    claimer: self.claimer(),
                })
                .collect();
            let Some(outcomes) = self.submit(commands).await else { return false };
            let mut claimed = 0;
            for outcome in outcomes {
                if let WorkflowOutcome::Claimed { run, step } = outcome {
                    claimed += 1;
                    let place = self.shared.places.clone().try_acquire_owned().ok();
                    self.work_on(run, *step, place);
                }
            }
            if claimed == 0 {
                // Others were quicker; the cache will show it.
                return true;
            }
        }
    }

    fn ready_for_us(&self, limit: usize) -> Vec<ReadyStep> {
        let cache = self.shared.view.read();
        cache
            .ready_to_push()
            .filter(|ready| {
                cache
                    .run(&ready.run)
                    .and_then(|state| state.steps.get(ready.order))
                    .is_some_and(|step| self.shared.executors.can_run(&step.executor).is_ok())
            })
            .take(limit)
            .cloned()
            .collect()
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
            let due = self.shared.view.read().due(now());
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
        let still: HashSet<RunId> = self.shared.view.read().due(now()).into_iter().collect();
        let again = Instant::now() + LOOK_AGAIN.mul_f64(rand::random_range(1.0..1.5));
        let had_nothing = due.into_iter().filter(|run| still.contains(run));
        self.shared.looked_at.lock().extend(had_nothing.map(|run| (run, again)));
        true
    }

    fn work_on(&self, run: Arc<Run>, step: Step, place: Option<OwnedSemaphorePermit>) {
        // Without a place the claim is worked on all the same: it is ours already.
        self.shared.attempts.spawn(attempt::Attempt::new(self.clone(), run, step).work(place));
    }
}

/// What a look came to.
#[derive(Clone, Copy)]
enum Looked {
    /// The database is away.
    Failed,
    /// Nothing happens by itself before this.
    Until(Instant),
}

impl Runner {
    /// Whether this process can do a step of such an executor by itself.
    fn can_claim(&self, executor: &Executor) -> bool {
        executor.kind != ExecutorKind::Pull && self.shared.executors.can_run(executor).is_ok()
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
    /// Lets a transaction claim at once what it makes ready, as far as this process has places.
    fn claim_next(&self, can_do: Arc<[bool]>, limit: usize) -> Option<ClaimNext> {
        (limit > 0).then(|| ClaimNext { claimer: self.claimer(), can_do, limit })
    }

    /// The same for the first steps of a new run.
    pub(crate) fn claim_first(&self, executors: &[Executor]) -> Option<ClaimNext> {
        let free = self.shared.places.available_permits().min(attempt::CLAIM_NEXT_MAX);
        self.claim_next(executors.iter().map(|executor| self.can_claim(executor)).collect(), free)
    }

    /// The same for what the result of a pulled step makes ready.
    pub(crate) fn with_claim_next(&self, state: &RunState, event: Event) -> Event {
        match event {
            Event::Finish { order, attempt, result, .. } => {
                let free = self.shared.places.available_permits().min(attempt::CLAIM_NEXT_MAX);
                let claim_next = self.claim_next(self.can_do(state), free);
                Event::Finish { order, attempt, result, claim_next }
            }
            other => other,
        }
    }

    /// Works on steps that a transaction has claimed.
    pub(crate) fn work_on_claimed(&self, state: &RunState, claimed: Vec<usize>) {
        for order in claimed {
            if let Some(step) = state.steps.get(order) {
                let place = self.shared.places.clone().try_acquire_owned().ok();
                self.work_on(Arc::new(state.run.clone()), step.clone(), place);
            }
        }
    }

    /// Which steps of a run this process can do.
    fn can_do(&self, state: &RunState) -> Arc<[bool]> {
        state.steps.iter().map(|step| self.can_claim(&step.executor)).collect()
    }
}
