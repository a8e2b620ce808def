//! Memories for tests.

use std::sync::Arc;

use super::{CommittedMemory, MemoryIndex, RecallPage, RecallQuery};
use crate::ids::{Actor, AgentId, MemoryId, Namespace, Revision, RunId};
use crate::memory::{Memory, MemorySpec, MemoryType, Provenance, Trust};
use crate::time::Timestamp;

pub(super) const NOW: Timestamp = Timestamp(1_781_697_600_000);
pub(super) const DAY: i64 = 86_400_000;

pub(super) struct MemoryBuilder(Memory);

/// A fact that was told just now.
pub(super) fn memory(id: &str, content: &str) -> MemoryBuilder {
    let spec = MemorySpec {
        namespace: Namespace::default(),
        kind: MemoryType::Semantic,
        content: content.into(),
        data: None,
        tags: [].into(),
        importance: 0.5,
        decay: 0.0,
        expires_at: None,
        key: None,
        agent: None,
        session: None,
        user: None,
        run: None,
        step: None,
        supersedes: [].into(),
        relations: [].into(),
    };
    MemoryBuilder(Memory {
        id: MemoryId::from_stored(id),
        content_hash: [0; 32],
        spec,
        provenance: Provenance { author: Actor::new("test"), trust: Trust::User, derived_from: [].into() },
        frequency: 1,
        accesses: 0,
        last_accessed: NOW,
        superseded_by: None,
        revision: 1,
        created_at: NOW,
        updated_at: NOW,
        updated_by: Actor::new("test"),
    })
}

impl MemoryBuilder {
    pub(super) fn with(mut self, change: impl FnOnce(&mut MemorySpec)) -> Self {
        change(&mut self.0.spec);
        self
    }

    pub(super) fn kind(self, kind: MemoryType) -> Self {
        self.with(|spec| spec.kind = kind)
    }

    pub(super) fn tags(self, tags: &[&str]) -> Self {
        self.with(|spec| spec.tags = tags.iter().map(|tag| Arc::from(*tag)).collect())
    }

    pub(super) fn agent(self, agent: &str) -> Self {
        self.with(|spec| spec.agent = Some(AgentId::from_stored(agent)))
    }

    pub(super) fn run(self, run: &str) -> Self {
        self.with(|spec| spec.run = Some(RunId::from_stored(run)))
    }

    pub(super) fn turn(self, session: &str, minute: i64) -> Self {
        let mut turn = self.kind(MemoryType::Conversation).with(|spec| spec.session = Some(session.into()));
        turn.0.created_at = Timestamp(NOW.0 - DAY + minute * 60_000);
        turn
    }

    pub(super) fn days_ago(mut self, days: i64) -> Self {
        self.0.created_at = Timestamp(NOW.0 - days * DAY);
        self.0.last_accessed = self.0.created_at;
        self
    }

    pub(super) fn expires_in_days(self, days: i64) -> Self {
        self.with(|spec| spec.expires_at = Some(Timestamp(NOW.0 + days * DAY)))
    }

    pub(super) fn superseded_by(mut self, id: &str) -> Self {
        self.0.superseded_by = Some(MemoryId::from_stored(id));
        self
    }

    pub(super) fn trust(mut self, trust: Trust) -> Self {
        self.0.provenance.trust = trust;
        self
    }

    pub(super) fn revision(mut self, revision: Revision) -> Self {
        self.0.revision = revision;
        self
    }

    pub(super) fn build(mut self) -> Arc<Memory> {
        self.0.content_hash = self.0.spec.content_hash();
        Arc::new(self.0)
    }
}

pub(super) fn index(memories: Vec<MemoryBuilder>) -> MemoryIndex {
    let mut index = MemoryIndex::new();
    for memory in memories {
        assert!(index.apply(CommittedMemory::Memory(memory.build()), NOW));
    }
    index
}

pub(super) fn query(text: &str) -> RecallQuery {
    RecallQuery { query: text.to_owned(), limit: 20, now: NOW, ..RecallQuery::default() }
}

pub(super) fn ids(page: &RecallPage) -> Vec<&str> {
    page.hits.iter().map(|hit| hit.memory.id.as_str()).collect()
}
