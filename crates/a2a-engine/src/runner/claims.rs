//! The claims that this process holds, and the signs of life that it gives for them.

use std::collections::HashMap;
use std::time::Duration;

use a2a_core::ids::RunId;
use a2a_core::time::Timestamp;
use a2a_core::workflow::command::{ClaimRef, WorkflowCommand, WorkflowOutcome};
use a2a_core::workflow::run::{Progress, StepStatus};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::Runner;

/// How often progress that executors report is written.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
/// A lease is renewed this many times while it lasts, so that a few lost renewals do no harm.
const RENEWALS_PER_LEASE: u32 = 4;

/// The claims of a process.
#[derive(Debug)]
pub(crate) struct Claims {
    held: Mutex<HashMap<ClaimRef, Held>>,
}

#[derive(Debug)]
struct Held {
    lease: Duration,
    /// A client works on it, and not this process itself.
    is_pulled: bool,
    /// Cancelled when the claim is over.
    over: CancellationToken,
    /// What the executor has said since it was last written.
    progress: Option<Progress>,
}

impl Claims {
    pub(super) fn new() -> Self {
        Self { held: Mutex::default() }
    }

    /// Keeps a claim alive from now on; the token is cancelled when it is over.
    pub(crate) fn hold(&self, claim: ClaimRef, lease: Duration) -> CancellationToken {
        self.keep(claim, lease, false)
    }

    /// The same for a step that a client works on.
    pub(crate) fn hold_pulled(&self, claim: ClaimRef, lease: Duration) {
        self.keep(claim, lease, true);
    }

    fn keep(&self, claim: ClaimRef, lease: Duration, is_pulled: bool) -> CancellationToken {
        let mut held = self.held.lock();
        let new = || Held { lease, is_pulled, over: CancellationToken::new(), progress: None };
        let held = held.entry(claim).or_insert_with(new);
        held.is_pulled = is_pulled;
        held.over.clone()
    }

    /// A client is ending the claim: when the process ends meanwhile, the step is not given back over its result.
    pub(crate) fn is_handed_in(&self, claim: &ClaimRef) {
        if let Some(held) = self.held.lock().get_mut(claim) {
            held.is_pulled = false;
        }
    }

    /// The steps that clients of this process work on.
    pub(super) fn pulled(&self) -> Vec<ClaimRef> {
        let held = self.held.lock();
        held.iter().filter(|(_, held)| held.is_pulled).map(|(claim, _)| claim.clone()).collect()
    }

    /// Gives no more signs of life for a claim.
    pub(crate) fn let_go(&self, claim: &ClaimRef) {
        if let Some(held) = self.held.lock().remove(claim) {
            held.over.cancel();
        }
    }

    /// Keeps what an executor says until it is written.
    pub(super) fn progress(&self, claim: &ClaimRef, message: &str, percent: Option<u8>, at: Timestamp) {
        const MESSAGE_CHARS_MAX: usize = 500;
        if let Some(held) = self.held.lock().get_mut(claim) {
            let message: String = message.chars().take(MESSAGE_CHARS_MAX).collect();
            held.progress = Some(Progress { message: message.into(), percent: percent.map(|p| p.min(100)), at });
        }
    }

    /// The claims of a run: all are over when the run has left the cache.
    fn of_runs(&self) -> Vec<(ClaimRef, RunId)> {
        self.held.lock().keys().map(|claim| (claim.clone(), claim.run.clone())).collect()
    }
}

impl Runner {
    /// Gives signs of life for what is held, writes progress, and notices claims that are over.
    pub(super) async fn renew_until_stopped(self) {
        let mut tick = tokio::time::interval(PROGRESS_INTERVAL.min(self.shared.settings.lease / RENEWALS_PER_LEASE));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut changed = self.shared.view.changed();
        let mut renewed: HashMap<ClaimRef, tokio::time::Instant> = HashMap::new();
        loop {
            tokio::select! {
                () = self.shared.stop.cancelled() => return,
                _ = tick.tick() => self.renew(&mut renewed).await,
                change = changed.changed() => {
                    if change.is_err() {
                        return;
                    }
                    self.drop_lost_claims();
                }
            }
        }
    }

    async fn renew(&self, renewed: &mut HashMap<ClaimRef, tokio::time::Instant>) {
        let at = tokio::time::Instant::now();
        let commands: Vec<WorkflowCommand> = {
            let mut held = self.shared.claims.held.lock();
            renewed.retain(|claim, _| held.contains_key(claim));
            held.iter_mut()
                .filter_map(|(claim, held)| {
                    let last = *renewed.entry(claim.clone()).or_insert(at);
                    let is_due = at.duration_since(last) >= held.lease / RENEWALS_PER_LEASE;
                    let (claim, lease) = (claim.clone(), held.lease);
                    match held.progress.take() {
                        Some(progress) => Some(WorkflowCommand::StepNote {
                            claim,
                            progress: Some(progress),
                            checkpoint: None,
                            lease,
                            progress_within: None,
                        }),
                        None => is_due.then_some(WorkflowCommand::StepRenew { claim, lease }),
                    }
                })
                .collect()
        };
        if commands.is_empty() {
            return;
        }
        let claims: Vec<ClaimRef> = commands.iter().filter_map(claim_of).cloned().collect();
        let Some(outcomes) = self.submit(commands).await else { return };
        for (claim, outcome) in claims.into_iter().zip(outcomes) {
            match outcome {
                WorkflowOutcome::Noted => {
                    renewed.insert(claim, at);
                }
                WorkflowOutcome::Refused(_) | WorkflowOutcome::NotFound => self.shared.claims.let_go(&claim),
                _ => {}
            }
        }
    }

    /// Ends the work on steps that others have taken, or whose runs have ended.
    fn drop_lost_claims(&self) {
        let lost: Vec<ClaimRef> = {
            let held = self.shared.claims.of_runs();
            let cache = self.shared.view.read();
            let is_lost = |claim: &ClaimRef, run: &RunId| match cache.run(run) {
                // The cache may not show the claim yet, which is then at a later attempt than the cache.
                Some(state) => state.steps.get(claim.order).is_some_and(|step| {
                    step.attempt > claim.attempt
                        || (step.attempt == claim.attempt && step.status != StepStatus::Running)
                }),
                None => cache.has_ended(run),
            };
            held.into_iter().filter(|(claim, run)| is_lost(claim, run)).map(|(claim, _)| claim).collect()
        };
        for claim in lost {
            self.shared.claims.let_go(&claim);
        }
    }
}

fn claim_of(command: &WorkflowCommand) -> Option<&ClaimRef> {
    match command {
        WorkflowCommand::StepRenew { claim, .. } | WorkflowCommand::StepNote { claim, .. } => Some(claim),
        _ => None,
    }
}
