//! What outcomes and feedback teach, as memories of what worked and what did not.

use std::sync::Arc;

use super::{MemorySpec, MemoryType};
use crate::ids::{AgentId, Namespace, RunId, StepName};

/// How a piece of work ended, as it is remembered.
#[derive(Debug, Clone, PartialEq)]
pub struct Lesson {
    /// Where the agent lives.
    pub namespace: Namespace,
    /// Who did the work.
    pub agent: AgentId,
    /// Which of its capabilities.
    pub capability: Arc<str>,
    /// The run and step, if it was one.
    pub step: Option<(RunId, StepName)>,
    /// Whether it ended well.
    pub success: bool,
    /// What was done or went wrong, in words; empty when nobody said.
    pub summary: Arc<str>,
}

/// The tag of memories about a capability.
#[must_use]
pub fn capability_tag(capability: &str) -> Arc<str> {
    tag("capability:", capability)
}

fn tag(kind: &str, name: &str) -> Arc<str> {
    let name = name.chars().take(crate::limits::TAG_CHARS_MAX - kind.len());
    kind.chars().chain(name).collect::<String>().into()
}

/// The tag of memories of work that ended well.
pub const WORKED_TAG: &str = "worked";
/// The tag of memories of work that did not.
pub const FAILED_TAG: &str = "failed";
/// What a tag begins with that names a tool which was used.
pub const TOOL_TAG: &str = "tool:";

impl Lesson {
    /// The memory that keeps it: what worked is procedural, what failed is episodic, because a failure is an event until
    /// somebody knows how it is done right. A failure is as important as a success that says how.
    #[must_use]
    pub fn memory(&self) -> MemorySpec {
        let (kind, verb, tag) = if self.success {
            (MemoryType::Procedural, "worked", WORKED_TAG)
        } else {
            (MemoryType::Episodic, "failed", FAILED_TAG)
        };
        let colon = if self.summary.is_empty() { "" } else { ": " };
        let content = format!("{} of {} {verb}{colon}{}", self.capability, self.agent, self.summary);
        let mut tags = vec![capability_tag(&self.capability), tag.into()];
        tags.sort_unstable();
        MemorySpec {
            namespace: self.namespace.clone(),
            kind,
            content: cut(&content).into(),
            data: None,
            tags: tags.into(),
            importance: 0.6,
            decay: kind.default_decay(),
            expires_at: None,
            key: None,
            agent: Some(self.agent.clone()),
            session: None,
            user: None,
            run: self.step.as_ref().map(|(run, _)| run.clone()),
            step: self.step.as_ref().map(|(_, step)| step.clone()),
            supersedes: [].into(),
            relations: [].into(),
        }
    }
}

/// The memory that a tool was used in work that ended well. It names no run, so that using the tool again raises its
/// frequency.
#[must_use]
pub fn tool_memory(lesson: &Lesson, tool: &str) -> MemorySpec {
    let mut tags = vec![capability_tag(&lesson.capability), tag(TOOL_TAG, tool)];
    tags.sort_unstable();
    MemorySpec {
        kind: MemoryType::ToolUsage,
        content: cut(&format!("{} of {} used {tool}", lesson.capability, lesson.agent)).into(),
        tags: tags.into(),
        importance: MemoryType::ToolUsage.default_importance(),
        decay: MemoryType::ToolUsage.default_decay(),
        run: None,
        step: None,
        ..lesson.memory()
    }
}

fn cut(text: &str) -> &str {
    let end = text.floor_char_boundary(crate::limits::MEMORY_CONTENT_BYTES_MAX);
    text.get(..end).unwrap_or_default()
}

/// The memory that keeps a feedback with a comment: a preference of the person who gave it.
#[must_use]
pub fn feedback_memory(
    namespace: &Namespace,
    agent: &AgentId,
    user: Option<Arc<str>>,
    score: f32,
    comment: &str,
) -> Option<MemorySpec> {
    if comment.trim().is_empty() {
        return None;
    }
    let tag = if score >= 0.0 { WORKED_TAG } else { FAILED_TAG };
    Some(MemorySpec {
        namespace: namespace.clone(),
        kind: MemoryType::Preference,
        content: cut(comment.trim()).into(),
        data: None,
        tags: vec![Arc::from("feedback"), Arc::from(tag)].into(),
        // Praise and blame are remembered by how strong they are.
        importance: 0.5 + 0.4 * score.abs().min(1.0),
        decay: MemoryType::Preference.default_decay(),
        expires_at: None,
        key: None,
        agent: Some(agent.clone()),
        session: None,
        user,
        run: None,
        step: None,
        supersedes: [].into(),
        relations: [].into(),
    })
}
