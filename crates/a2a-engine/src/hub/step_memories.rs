//! The memories that matter for a step, and what is remembered of one that has ended.

use std::sync::Arc;

use a2a_core::ids::Actor;
use a2a_core::limits;
use a2a_core::memory::learning::{FAILED_TAG, capability_tag};
use a2a_core::memory::recall::{MemoryFilters, MemoryListQuery, Ranking, RecallQuery};
use a2a_core::memory::{Memory, MemorySpec, MemoryType};
use a2a_core::workflow::run::RunState;
use serde_json::Value;

use super::Hub;
use super::memories::now;
use super::work::WorkItem;
use crate::error::HubError;
use crate::learner::{lesson, trust_of};

/// Memories that come with a step.
const MEMORIES_MAX: usize = 5;
/// Of them those that tell what failed before.
const FAILURES_MAX: usize = 2;
/// A memory that fits less well than this would only distract.
const SCORE_MIN: f32 = 0.45;
/// How much of the texts of the input the question is made of.
const QUESTION_CHARS: usize = 600;

impl Hub {
    /// The memories that matter for a step: failures of its agent with the capability, and what fits the input. Nothing
    /// while recall does not know every memory yet, because a step does not wait for them.
    #[must_use]
    pub(super) async fn memories_for_step(&self, item: &WorkItem, input: &Value) -> Vec<Arc<Memory>> {
        if !*self.inner.memories.searchable().borrow() {
            return Vec::new();
        }
        let Some(spec) = item.run.definition.spec.steps.get(item.step.order) else { return Vec::new() };
        let (namespace, now) = (item.run.namespace.clone(), now());
        let question = question(item, input);
        let meaning = self.meaning(&question).await;
        let index = self.inner.memories.read();
        let mut found: Vec<Arc<Memory>> = Vec::with_capacity(MEMORIES_MAX);
        if let Some(capability) = &item.capability {
            let filters = MemoryFilters {
                tags_all: vec![capability_tag(capability).to_string(), FAILED_TAG.to_owned()],
                agent: Some(spec.agent.to_string()),
                ..MemoryFilters::default()
            };
            let query =
                MemoryListQuery { namespace: namespace.clone(), filters, limit: FAILURES_MAX, cursor: None, now };
            found.extend(index.list(&query).map(|page| page.memories).unwrap_or_default());
        }
        if !question.is_empty() {
            let query = RecallQuery {
                namespace,
                query: question,
                filters: MemoryFilters::default(),
                limit: MEMORIES_MAX,
                cursor: None,
                now,
                ranking: Ranking::default(),
                meaning,
            };
            for hit in index.recall(&query).map(|page| page.hits).unwrap_or_default() {
                if hit.score >= SCORE_MIN
                    && found.len() < MEMORIES_MAX
                    && found.iter().all(|memory| memory.id != hit.memory.id)
                {
                    found.push(hit.memory);
                }
            }
        }
        found
    }

    /// Keeps what a worker has learned in a step that it has finished. Its trust is that of whatever went into the step.
    ///
    /// # Errors
    /// When it looks like a secret, or the database did not take it.
    pub(super) async fn step_remember(
        &self,
        state: &RunState,
        order: usize,
        success: bool,
        learned: &str,
        actor: &Actor,
    ) -> Result<Arc<Memory>, HubError> {
        let lesson = lesson(state, order, success, "").ok_or_else(|| self.no_memory(""))?;
        let kind = if success { MemoryType::Procedural } else { MemoryType::Episodic };
        // In the words of the worker, who knows better how it is found again.
        let spec = MemorySpec { content: learned.into(), kind, ..lesson.memory() };
        self.memory_keep(spec, trust_of(state, order), actor).await
    }
}

/// What a step is about, in words: its capability and the texts of its input. Its name says something only where there are
/// none: names such as `check` would find whatever was ever checked.
fn question(item: &WorkItem, input: &Value) -> String {
    let spaced = |name: &str| name.replace(['-', '_', '.'], " ");
    let mut words = item.capability.as_deref().map(spaced).unwrap_or_default();
    let mut left = QUESTION_CHARS;
    collect(input, &mut left, &mut words);
    if left == QUESTION_CHARS {
        words.push(' ');
        words.push_str(&spaced(item.step_name.as_str()));
    }
    words.chars().take(limits::QUERY_CHARS_MAX).collect()
}

fn collect(value: &Value, left: &mut usize, words: &mut String) {
    match value {
        Value::String(text) if *left > 0 => {
            words.push(' ');
            words.extend(text.chars().take(*left));
            *left = left.saturating_sub(text.chars().take(*left).count());
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, left, words)),
        Value::Object(fields) => fields.values().for_each(|field| collect(field, left, words)),
        _ => {}
    }
}
