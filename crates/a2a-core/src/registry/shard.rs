//! One namespace of the registry.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use foldhash::fast::{FixedState, RandomState};
use std::hash::BuildHasher as _;

use crate::agent::{Agent, ExecutorKind};
use crate::agent_check::{AgentCheck, AgentStatus};
use crate::embedding::ModelVector;
use crate::ids::{AgentId, Revision};
use crate::index::keys::{KeyIndex, folded};
use crate::index::{Doc, Reading, Texts};
use crate::time::Timestamp;

/// What filters ask most often, in one byte per document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Flags(pub(super) u8);

impl Flags {
    pub(super) const LIVE: u8 = 1;
    pub(super) const ENABLED: u8 = 1 << 1;
    pub(super) const DEPRECATED: u8 = 1 << 2;
    pub(super) const EXECUTOR: u8 = 0b111 << 3;
    pub(super) const STATUS: u8 = 0b11 << 6;

    fn of(agent: &Agent, check: Option<&AgentCheck>) -> Self {
        let mut flags = Self::LIVE | Self::executor(agent.spec.executor.kind);
        flags |= Self::status(AgentStatus::of(agent, check));
        if agent.spec.enabled {
            flags |= Self::ENABLED;
        }
        if agent.spec.deprecated.is_some() {
            flags |= Self::DEPRECATED;
        }
        Self(flags)
    }

    pub(super) fn executor(kind: ExecutorKind) -> u8 {
        (kind as u8) << 3
    }

    pub(super) fn status(status: AgentStatus) -> u8 {
        (status as u8) << 6
    }

    pub(super) fn is_deprecated(self) -> bool {
        self.0 & Self::DEPRECATED != 0
    }
}

/// Unused numbers that are always tolerated. Small in tests, so that they meet renumbering.
const UNUSED_MIN: usize = if cfg!(test) { 8 } else { 1_024 };
/// Renumbering happens when the unused numbers are this part of the used ones: it costs what a rebuild of the posting
/// lists costs, so it must be rare, and unused numbers slow searches down, so they must be few.
const UNUSED_PART: usize = 4;

/// The agents of one namespace with everything that finds them.
#[derive(Default)]
pub(super) struct Shard {
    /// With the agent itself, so that getting one by id does not go through `docs`.
    by_id: HashMap<AgentId, (Doc, Arc<Agent>), RandomState>,
    /// In the order of lists.
    ordered: BTreeMap<AgentId, Doc>,
    /// Ids that have upper-case letters, in lower case: lists of prefixes look here too.
    upper_case: BTreeSet<(Box<str>, AgentId)>,
    /// Hashes of lower-case names, for exact hits; a hit is checked on the agent itself.
    names: BTreeSet<(u32, Doc)>,
    docs: Vec<Option<Arc<Agent>>>,
    flags: Vec<Flags>,
    /// How many documents have each combination of flags.
    flag_counts: BTreeMap<u8, usize>,
    removed: HashMap<AgentId, (Revision, Timestamp), RandomState>,
    /// The last contact with each agent since it was changed.
    checks: HashMap<AgentId, Arc<AgentCheck>, RandomState>,
    pub(super) tags: KeyIndex,
    pub(super) categories: KeyIndex,
    pub(super) capabilities: KeyIndex,
    pub(super) texts: Texts,
}

impl Shard {
    /// How many agents there are.
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Document numbers are below this.
    pub(super) fn end(&self) -> usize {
        self.docs.len()
    }

    /// All document numbers, used or not.
    pub(super) fn docs(&self) -> impl Iterator<Item = Doc> + Clone + use<> {
        0..Doc::try_from(self.docs.len()).unwrap_or(Doc::MAX)
    }

    /// Whether it holds neither agents nor memories of removed ones.
    pub(super) fn is_unused(&self) -> bool {
        self.by_id.is_empty() && self.removed.is_empty()
    }

    pub(super) fn doc(&self, id: &str) -> Option<Doc> {
        self.by_id.get(id).map(|(doc, _)| *doc)
    }

    pub(super) fn agent(&self, doc: Doc) -> Option<&Arc<Agent>> {
        self.docs.get(doc as usize)?.as_ref()
    }

    pub(super) fn get(&self, id: &str) -> Option<&Arc<Agent>> {
        self.by_id.get(id).map(|(_, agent)| agent)
    }

    pub(super) fn live(&self) -> impl Iterator<Item = &Arc<Agent>> {
        self.docs.iter().flatten()
    }

    pub(super) fn flags(&self) -> &[Flags] {
        &self.flags
    }

    pub(super) fn flags_of(&self, doc: Doc) -> Flags {
        self.flags.get(doc as usize).copied().unwrap_or_default()
    }

    /// How many agents have these values of the flags in `mask`.
    pub(super) fn count_flags(&self, mask: u8, value: u8) -> usize {
        self.flag_counts.iter().filter(|(flags, _)| **flags & mask == value).map(|(_, count)| count).sum()
    }

    /// Agents in the order of their ids, after `after`.
    pub(super) fn docs_by_id(&self, after: Option<&str>) -> impl DoubleEndedIterator<Item = (&AgentId, Doc)> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.ordered.range::<str, _>((start, Bound::Unbounded)).map(|(id, doc)| (id, *doc))
    }

    /// The last few agents whose ids sort before `text`, and the first few that do not.
    pub(super) fn neighbours(&self, text: &str, each: usize) -> impl Iterator<Item = Doc> {
        let before = self.ordered.range::<str, _>((Bound::Unbounded, Bound::Excluded(text))).rev().take(each);
        let after = self.ordered.range::<str, _>((Bound::Included(text), Bound::Unbounded)).take(each);
        before.chain(after).map(|(_, doc)| *doc)
    }

    /// Agents whose ids begin with `prefix` in any case: the first `max` in lower case and the first `max` of the others.
    pub(super) fn docs_with_prefix(&self, prefix: &str, max: usize) -> Vec<Doc> {
        let prefix = prefix.to_ascii_lowercase();
        let lower = self
            .ordered
            .range::<str, _>((Bound::Included(prefix.as_str()), Bound::Unbounded))
            .take_while(|(id, _)| id.as_str().starts_with(&prefix))
            .filter(|(id, _)| !has_upper_case(id))
            .map(|(_, doc)| *doc);
        // No id is empty, so that this is before all entries of the prefix itself.
        let first = (Box::from(prefix.as_str()), AgentId::from_stored(""));
        let upper = self
            .upper_case
            .range(first..)
            .take_while(|(id, _)| id.starts_with(&prefix))
            .filter_map(|(_, id)| self.doc(id.as_str()));
        lower.take(max).chain(upper.take(max)).collect()
    }

    /// Agents whose name is `name` in any case, in the order of document numbers.
    pub(super) fn docs_named(&self, name: &str) -> impl Iterator<Item = Doc> {
        let name = folded(name).into_owned();
        let hash = name_hash(&name);
        self.names
            .range((hash, 0)..=(hash, Doc::MAX))
            .map(|(_, doc)| *doc)
            .filter(move |doc| self.agent(*doc).is_some_and(|agent| *folded(&agent.spec.name) == *name))
    }

    /// The revision of what was committed last.
    pub(super) fn known_revision(&self, id: &str) -> Option<Revision> {
        match self.get(id) {
            Some(agent) => Some(agent.revision),
            None => self.removed.get(id).map(|(revision, _)| *revision),
        }
    }

    /// Whether search knows every agent.
    pub(super) fn is_searchable(&self) -> bool {
        self.texts.is_complete(&self.docs)
    }

    /// The agents that search does not know yet, in the order in which it has to read them.
    pub(super) fn unread(&self) -> impl Iterator<Item = &Arc<Agent>> {
        self.texts.unread(&self.docs)
    }

    /// Makes the next unread agent known to search. Nothing happens when that is another one by now.
    pub(super) fn make_searchable(&mut self, agent: &Arc<Agent>, reading: &Reading) {
        self.texts.read_next(&self.docs, agent, reading);
    }

    /// Those that the model has made no vector of, the last ones first.
    pub(super) fn without_model_vector(&self) -> impl Iterator<Item = &Arc<Agent>> {
        self.texts.without_model_vector(&self.docs)
    }

    /// Adds an agent whose id is not live. Search learns of it later when it was not read, or when others have to be read
    /// first.
    pub(super) fn insert(&mut self, agent: Arc<Agent>, reading: Option<&Reading>) {
        self.renumber_if_due();
        let doc = Doc::try_from(self.docs.len()).unwrap_or(Doc::MAX);
        let spec = &agent.spec;
        self.removed.remove(spec.id.as_str());
        self.by_id.insert(spec.id.clone(), (doc, Arc::clone(&agent)));
        self.ordered.insert(spec.id.clone(), doc);
        if has_upper_case(&spec.id) {
            self.upper_case.insert((spec.id.as_str().to_ascii_lowercase().into(), spec.id.clone()));
        }
        self.names.insert((name_hash(&folded(&spec.name)), doc));
        self.categories.add(&spec.category, Some(&spec.category), doc);
        for tag in &spec.tags {
            self.tags.add(tag, Some(tag), doc);
        }
        for capability in &spec.capabilities {
            self.capabilities.add(&capability.name, None, doc);
        }
        if let Some(reading) = reading {
            self.texts.push(&self.docs, reading);
        }
        if self.check(spec.id.as_str()).is_some_and(|check| !check.is_about(&agent)) {
            self.checks.remove(spec.id.as_str());
        }
        let flags = Flags::of(&agent, self.check(spec.id.as_str()).map(Arc::as_ref));
        *self.flag_counts.entry(flags.0).or_default() += 1;
        self.flags.push(flags);
        self.docs.push(Some(agent));
    }

    /// Takes an agent out of everything, and returns it with the vector that the model had made of it.
    pub(super) fn take(&mut self, id: &str) -> Option<(Arc<Agent>, Option<ModelVector>)> {
        let (doc, _) = self.by_id.remove(id)?;
        self.ordered.remove(id);
        let agent = self.docs.get_mut(doc as usize)?.take()?;
        let spec = &agent.spec;
        if has_upper_case(&spec.id) {
            self.upper_case.remove(&(spec.id.as_str().to_ascii_lowercase().into(), spec.id.clone()));
        }
        self.names.remove(&(name_hash(&folded(&spec.name)), doc));
        self.categories.remove(&spec.category, doc);
        for tag in &spec.tags {
            self.tags.remove(tag, doc);
        }
        for capability in &spec.capabilities {
            self.capabilities.remove(&capability.name, doc);
        }
        let of_model = self.texts.take(doc, || super::search::words_of_agent(spec));
        if let Some(flags) = self.flags.get_mut(doc as usize) {
            if let Some(count) = self.flag_counts.get_mut(&flags.0) {
                *count -= 1;
            }
            *flags = Flags::default();
        }
        Some((agent, of_model))
    }

    /// Remembers a removal, so that an older put that comes late does not bring the agent back.
    pub(super) fn remember_removed(&mut self, id: AgentId, revision: Revision, now: Timestamp) {
        self.removed.insert(id, (revision, now));
    }

    pub(super) fn forget_removed(&mut self, id: &str) {
        self.removed.remove(id);
    }

    pub(super) fn forget_removed_before(&mut self, time: Timestamp) {
        self.removed.retain(|_, (_, applied)| *applied >= time);
    }

    /// The last contact with an agent since it was changed.
    pub(super) fn check(&self, id: &str) -> Option<&Arc<AgentCheck>> {
        self.checks.get(id)
    }

    pub(super) fn checks(&self) -> impl Iterator<Item = (&AgentId, &Arc<AgentCheck>)> {
        self.checks.iter()
    }

    /// Takes over a contact, or that there was none.
    pub(super) fn set_check(&mut self, id: &str, check: Option<Arc<AgentCheck>>) {
        let Some((doc, agent)) = self.by_id.get(id) else {
            self.checks.remove(id);
            return;
        };
        let flags = Flags::of(agent, check.as_deref());
        if let Some(known) = self.flags.get_mut(*doc as usize) {
            if let Some(count) = self.flag_counts.get_mut(&known.0) {
                *count -= 1;
            }
            *known = flags;
            *self.flag_counts.entry(flags.0).or_default() += 1;
        }
        match check {
            Some(check) => {
                self.checks.insert(agent.spec.id.clone(), check);
            }
            None => {
                self.checks.remove(id);
            }
        }
    }

    fn renumber_if_due(&mut self) {
        let unused = self.docs.len() - self.by_id.len();
        if unused < UNUSED_MIN || unused < self.by_id.len() / UNUSED_PART {
            return;
        }
        let mut next = 0;
        let new_numbers: Vec<Option<Doc>> = self
            .docs
            .iter()
            .map(|agent| {
                agent.as_ref().map(|_| {
                    next += 1;
                    next - 1
                })
            })
            .collect();
        let new = |doc: Doc| new_numbers.get(doc as usize).copied().flatten();
        for doc in self.by_id.values_mut().map(|(doc, _)| doc).chain(self.ordered.values_mut()) {
            // Every live agent gets a number.
            *doc = new(*doc).unwrap_or(Doc::MAX);
        }
        self.names = self.names.iter().filter_map(|(hash, doc)| Some((*hash, new(*doc)?))).collect();
        for index in [&mut self.tags, &mut self.categories, &mut self.capabilities] {
            index.renumber(new);
        }
        self.texts.renumber(new);
        self.docs.retain(Option::is_some);
        self.flags.retain(|flags| flags.0 != 0);
    }
}

fn has_upper_case(id: &AgentId) -> bool {
    id.as_str().bytes().any(|b| b.is_ascii_uppercase())
}

fn name_hash(folded_name: &str) -> u32 {
    // Any fixed hash will do: it never leaves the process.
    (FixedState::with_seed(0).hash_one(folded_name) >> 32) as u32
}
