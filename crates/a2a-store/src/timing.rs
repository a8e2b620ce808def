//! How often each operation on the database was done and how long it took. Counting costs a few atomic additions.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Declares [`Operation`] with the names that people see.
macro_rules! operations {
    ($($variant:ident $name:literal),* $(,)?) => {
        /// An operation on the database.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Operation {
            $($variant,)*
        }

        const NAMES: [&str; [$($name),*].len()] = [$($name),*];
    };
}

operations! {
    AgentCommit "agent_commit",
    WorkflowCommit "workflow_commit",
    MemoryCommit "memory_commit",
    MemoriesTouch "memories_touch",
    AgentChecksNote "agent_checks_note",
    ToolUsageAppend "tool_usage_append",
    ToolUsageSummary "tool_usage_summary",
    FeedPoll "feed_poll",
    AgentHistory "agent_history",
    WorkflowHistory "workflow_history",
    RunsRead "runs_read",
    RunsPage "runs_page",
    RunsLeftOpen "runs_left_open",
    RunOfKey "run_of_key",
    RunIds "run_ids",
    StepPayloads "step_payloads",
    MemoriesRead "memories_read",
    MemoriesAfter "memories_after",
    MemoryRevisions "memory_revisions",
    ExperiencesRead "experiences_read",
    EmbeddingModelUsed "embedding_model_used",
    EmbeddingClaim "embedding_claim",
    EmbeddingRelease "embedding_release",
    MemoryVectorsPut "memory_vectors_put",
    MemoryVectorsRead "memory_vectors_read",
    AgentVectorsPut "agent_vectors_put",
    AgentVectorsRead "agent_vectors_read",
    EmbeddingModelsPrune "embedding_models_prune",
    Health "health",
    Prune "prune",
    ProcessBeat "process_beat",
    ProcessLeave "process_leave",
    ProcessList "process_list",
    Migrate "migrate",
    MigrateRevert "migrate_revert",
    MigrateReset "migrate_reset",
    MigrateStatus "migrate_status",
}

/// What is known of one operation since the process started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationTiming {
    /// Its name.
    pub operation: &'static str,
    /// How often it was done.
    pub calls: u64,
    /// How often it failed.
    pub errors: u64,
    /// How long it took in all.
    pub total: Duration,
    /// The longest time.
    pub longest: Duration,
}

#[derive(Debug, Default)]
struct Counts {
    calls: AtomicU64,
    errors: AtomicU64,
    total_us: AtomicU64,
    longest_us: AtomicU64,
}

/// The counts of all operations.
#[derive(Debug)]
pub(crate) struct Timings([Counts; NAMES.len()]);

impl Default for Timings {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counts::default()))
    }
}

impl Timings {
    /// Counts what was done since a time. It takes no future, which would make those of all callers larger.
    pub(crate) fn note(&self, operation: Operation, started: Instant, failed: bool) {
        let Some(counts) = self.0.get(operation as usize) else { return };
        let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        // Each number is read for itself, so that nothing has to be ordered.
        counts.calls.fetch_add(1, Ordering::Relaxed);
        counts.errors.fetch_add(u64::from(failed), Ordering::Relaxed);
        counts.total_us.fetch_add(micros, Ordering::Relaxed);
        counts.longest_us.fetch_max(micros, Ordering::Relaxed);
    }

    /// What was done so far, what took the most time first.
    pub(crate) fn all(&self) -> Vec<OperationTiming> {
        let read = |(operation, counts): (&'static str, &Counts)| OperationTiming {
            operation,
            calls: counts.calls.load(Ordering::Relaxed),
            errors: counts.errors.load(Ordering::Relaxed),
            total: Duration::from_micros(counts.total_us.load(Ordering::Relaxed)),
            longest: Duration::from_micros(counts.longest_us.load(Ordering::Relaxed)),
        };
        let mut all: Vec<OperationTiming> = NAMES.iter().copied().zip(&self.0).map(read).collect();
        all.retain(|timing| timing.calls > 0);
        all.sort_by_key(|timing| std::cmp::Reverse(timing.total));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_is_counted_under_its_name() {
        let timings = Timings::default();
        timings.note(Operation::Health, Instant::now(), false);
        timings.note(Operation::MigrateStatus, Instant::now(), true);
        let mut named: Vec<(&str, u64, u64)> =
            timings.all().iter().map(|timing| (timing.operation, timing.calls, timing.errors)).collect();
        named.sort_unstable();
        assert_eq!(named, [("health", 1, 0), ("migrate_status", 1, 1)]);
    }
}
