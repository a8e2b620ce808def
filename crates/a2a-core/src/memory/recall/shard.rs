//! One namespace of the memory index.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::words::words_of_memory;
use crate::agent::ContentHash;
use crate::embedding::ModelVector;
use crate::ids::MemoryId;
use crate::index::keys::KeyIndex;
use crate::index::{Doc, Reading, Texts};
use crate::memory::{Memory, MemoryType};
use crate::time::Timestamp;

/// What filters ask most often, in one byte per document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Flags(pub(super) u8);

impl Flags {
    pub(super) const LIVE: u8 = 1;
    pub(super) const SUPERSEDED: u8 = 1 << 1;
    pub(super) const EXPIRES: u8 = 1 << 2;
    const KIND_SHIFT: u8 = 3;
    const TRUST_SHIFT: u8 = 6;

    fn of(memory: &Memory) -> Self {
        let (kind, trust) = (memory.spec.kind as u8, memory.provenance.trust as u8);
        let mut flags = Self::LIVE | kind << Self::KIND_SHIFT | trust << Self::TRUST_SHIFT;
        if memory.superseded_by.is_some() {
            flags |= Self::SUPERSEDED;
        }
        if memory.spec.expires_at.is_some() {
            flags |= Self::EXPIRES;
        }
        Self(flags)
    }

    /// The type as one bit of a set of types.
    pub(super) fn kind_bit(self) -> u8 {
        1 << (self.0 >> Self::KIND_SHIFT & 0b111)
    }

    pub(super) fn trust(self) -> u8 {
        self.0 >> Self::TRUST_SHIFT
    }

    pub(super) fn set_of_kinds(kinds: &[MemoryType]) -> u8 {
        if kinds.is_empty() { u8::MAX } else { kinds.iter().fold(0, |set, kind| set | 1 << *kind as u8) }
    }
}

/// What the factors of a rank are computed from, side by side, so that ranking reads no memory itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) created_at: Timestamp,
    pub(super) last_accessed: Timestamp,
    pub(super) expires_at: Timestamp,
    pub(super) importance: f32,
    pub(super) decay: f32,
    pub(super) frequency: u32,
}

impl Row {
    fn of(memory: &Memory) -> Self {
        Self {
            created_at: memory.created_at,
            last_accessed: memory.last_accessed,
            expires_at: memory.spec.expires_at.unwrap_or(Timestamp(i64::MAX)),
            importance: memory.spec.importance,
            decay: memory.spec.decay,
            frequency: memory.frequency,
        }
    }
}

/// Turns of one session in their order.
pub(super) type Turns = BTreeMap<(Timestamp, MemoryId), Doc>;

/// Unused numbers that are always tolerated. Small in tests, so that they meet renumbering.
const UNUSED_MIN: usize = if cfg!(test) { 8 } else { 1_024 };
/// Renumbering happens when the unused numbers are this part of the used ones.
const UNUSED_PART: usize = 4;

/// The memories of one namespace with everything that finds them.
#[derive(Default)]
pub(super) struct Shard {
    /// In order, because a query can be the beginning of an id.
    by_id: BTreeMap<MemoryId, Doc>,
    docs: Vec<Option<Arc<Memory>>>,
    flags: Vec<Flags>,
    rows: Vec<Row>,
    /// By the first bytes of content hashes, the memory with the first id; a hit is checked on the memory itself.
    hashes: HashMap<u64, MemoryId, RandomState>,
    /// The others of those that share them.
    more_hashes: BTreeSet<(u64, MemoryId)>,
    pub(super) sessions_turns: HashMap<Arc<str>, Turns, RandomState>,
    pub(super) tags: KeyIndex,
    pub(super) keys: KeyIndex,
    pub(super) agents: KeyIndex,
    pub(super) sessions: KeyIndex,
    pub(super) users: KeyIndex,
    pub(super) runs: KeyIndex,
    pub(super) texts: Texts,
}

impl Shard {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// How many are of an agent, whose id is compared without regard to case.
    pub(super) fn count_of(&self, agent: &str) -> usize {
        self.agents.docs(agent).len()
    }

    /// Document numbers are below this.
    pub(super) fn end(&self) -> usize {
        self.docs.len()
    }

    pub(super) fn doc(&self, id: &str) -> Option<Doc> {
        self.by_id.get(id).copied()
    }

    pub(super) fn memory(&self, doc: Doc) -> Option<&Arc<Memory>> {
        self.docs.get(doc as usize)?.as_ref()
    }

    pub(super) fn live(&self) -> impl Iterator<Item = &Arc<Memory>> {
        self.docs.iter().flatten()
    }

    /// The memories whose ids begin with `prefix`, in the order of ids.
    pub(super) fn with_id_prefix<'s>(&'s self, prefix: &'s str) -> impl Iterator<Item = (&'s MemoryId, Doc)> {
        let from = self.by_id.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        from.take_while(move |(id, _)| id.as_str().starts_with(prefix)).map(|(id, doc)| (id, *doc))
    }

    #[inline]
    pub(super) fn flags_of(&self, doc: Doc) -> Flags {
        self.flags.get(doc as usize).copied().unwrap_or_default()
    }

    pub(super) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Whether recall knows every memory.
    pub(super) fn is_searchable(&self) -> bool {
        self.texts.is_complete(&self.docs)
    }

    /// The memories that recall does not know yet, in the order in which it has to read them.
    pub(super) fn unread(&self) -> impl Iterator<Item = &Arc<Memory>> {
        self.texts.unread(&self.docs)
    }

    /// Makes the next unread memory known to recall. Nothing happens when that is another one by now.
    pub(super) fn make_searchable(&mut self, memory: &Arc<Memory>, reading: &Reading) {
        self.texts.read_next(&self.docs, memory, reading);
    }

    /// Adds a memory whose id is not there. Recall learns of it later when it was not read, or when others have to be read
    /// first.
    pub(super) fn insert(&mut self, memory: Arc<Memory>, reading: Option<&Reading>) {
        self.renumber_if_due();
        let doc = Doc::try_from(self.docs.len()).unwrap_or(Doc::MAX);
        let spec = &memory.spec;
        self.by_id.insert(memory.id.clone(), doc);
        match self.hashes.entry(hash_start(&memory.content_hash)) {
            Entry::Vacant(place) => {
                place.insert(memory.id.clone());
            }
            Entry::Occupied(mut first) => {
                let hash = *first.key();
                let other = if memory.id < *first.get() { first.insert(memory.id.clone()) } else { memory.id.clone() };
                self.more_hashes.insert((hash, other));
            }
        }
        if let Some(session) = turn_of(&memory) {
            let turns = self.sessions_turns.entry(Arc::clone(session)).or_default();
            turns.insert((memory.created_at, memory.id.clone()), doc);
        }
        for tag in &spec.tags {
            self.tags.add(tag, None, doc);
        }
        for (index, key) in self.key_indices(&memory) {
            index.add(key, None, doc);
        }
        if let Some(reading) = reading {
            self.texts.push(&self.docs, reading);
        }
        self.flags.push(Flags::of(&memory));
        self.rows.push(Row::of(&memory));
        self.docs.push(Some(memory));
    }

    fn key_indices<'m>(&mut self, memory: &'m Memory) -> impl Iterator<Item = (&mut KeyIndex, &'m str)> {
        let spec = &memory.spec;
        [
            (&mut self.keys, spec.key.as_deref()),
            (&mut self.agents, spec.agent.as_ref().map(crate::ids::AgentId::as_str)),
            (&mut self.sessions, spec.session.as_deref()),
            (&mut self.users, spec.user.as_deref()),
            (&mut self.runs, spec.run.as_ref().map(crate::ids::RunId::as_str)),
        ]
        .into_iter()
        .filter_map(|(index, key)| Some((index, key?)))
    }

    /// Puts a memory with the same document in the place of the one with its id.
    pub(super) fn replace(&mut self, memory: Arc<Memory>) {
        let Some(doc) = self.doc(memory.id.as_str()) else { return };
        let at = doc as usize;
        // The order of turns goes by the time of creation, which is fixed; the place is looked up by it all the same.
        if let (Some(place), Some(flags), Some(row)) =
            (self.docs.get_mut(at), self.flags.get_mut(at), self.rows.get_mut(at))
        {
            let moved = place.as_ref().filter(|old| old.created_at != memory.created_at);
            let turns = moved.and_then(|old| turn_of(old)).and_then(|session| self.sessions_turns.get_mut(session));
            if let (Some(old), Some(turns)) = (moved, turns) {
                turns.remove(&(old.created_at, old.id.clone()));
                turns.insert((memory.created_at, memory.id.clone()), doc);
            }
            *flags = Flags::of(&memory);
            *row = Row::of(&memory);
            *place = Some(memory);
        }
    }

    /// Takes a memory out of everything, and returns the vector that the model had made of it.
    pub(super) fn take(&mut self, memory: &Memory) -> Option<ModelVector> {
        let doc = self.by_id.remove(memory.id.as_str())?;
        let hash = hash_start(&memory.content_hash);
        if !self.more_hashes.remove(&(hash, memory.id.clone())) {
            self.hashes.remove(&hash);
            // Another one takes its place.
            let other = self.more_of(hash).next().cloned();
            if let Some(other) = other {
                self.more_hashes.remove(&(hash, other.clone()));
                self.hashes.insert(hash, other);
            }
        }
        if let Some((session, turns)) = turn_of(memory).and_then(|s| Some((s, self.sessions_turns.get_mut(s)?))) {
            turns.remove(&(memory.created_at, memory.id.clone()));
            if turns.is_empty() {
                self.sessions_turns.remove(session);
            }
        }
        for tag in &memory.spec.tags {
            self.tags.remove(tag, doc);
        }
        for (index, key) in self.key_indices(memory) {
            index.remove(key, doc);
        }
        let at = doc as usize;
        if let (Some(place), Some(flags)) = (self.docs.get_mut(at), self.flags.get_mut(at)) {
            *place = None;
            *flags = Flags::default();
        }
        self.texts.take(doc, || words_of_memory(&memory.spec))
    }

    /// Those that the model has made no vector of, the last ones first.
    pub(super) fn without_model_vector(&self) -> impl Iterator<Item = &Arc<Memory>> {
        self.texts.without_model_vector(&self.docs)
    }

    /// The memories that say the same, live or not.
    pub(super) fn same(&self, hash: &ContentHash) -> impl Iterator<Item = &Arc<Memory>> {
        let start = hash_start(hash);
        let first = self.hashes.get(&start).into_iter();
        first
            .chain(self.more_of(start))
            .filter_map(|id| self.memory(self.doc(id.as_str())?))
            .filter(move |m| m.content_hash == *hash)
    }

    fn more_of(&self, hash: u64) -> impl Iterator<Item = &MemoryId> {
        let from = self.more_hashes.range((hash, MemoryId::from_stored(""))..);
        from.take_while(move |(other, _)| *other == hash).map(|(_, id)| id)
    }

    fn renumber_if_due(&mut self) {
        let unused = self.docs.len() - self.by_id.len();
        if unused < UNUSED_MIN || unused < self.by_id.len() / UNUSED_PART {
            return;
        }
        let mut next = 0;
        let mut number = |memory: &Option<Arc<Memory>>| {
            memory.as_ref().map(|_| {
                next += 1;
                next - 1
            })
        };
        let new_numbers: Vec<Option<Doc>> = self.docs.iter().map(&mut number).collect();
        let new = |doc: Doc| new_numbers.get(doc as usize).copied().flatten();
        let turns = self.sessions_turns.values_mut().flat_map(BTreeMap::values_mut);
        for doc in self.by_id.values_mut().chain(turns) {
            // Every live memory gets a number.
            *doc = new(*doc).unwrap_or(Doc::MAX);
        }
        let keys =
            [&mut self.tags, &mut self.keys, &mut self.agents, &mut self.sessions, &mut self.users, &mut self.runs];
        for index in keys {
            index.renumber(new);
        }
        self.texts.renumber(new);
        let mut live = new_numbers.iter().map(Option::is_some);
        self.rows.retain(|_| live.next().unwrap_or(false));
        self.flags.retain(|flags| flags.0 != 0);
        self.docs.retain(Option::is_some);
    }
}

/// The session whose turn the memory is.
pub(super) fn turn_of(memory: &Memory) -> Option<&Arc<str>> {
    memory.spec.session.as_ref().filter(|_| memory.spec.kind == MemoryType::Conversation)
}

fn hash_start(hash: &ContentHash) -> u64 {
    hash.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}
