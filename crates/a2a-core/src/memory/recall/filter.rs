//! Filters, and the memories that pass them.

use super::shard::{Flags, Shard};
use crate::index::Doc;
use crate::index::keys::{DocBits, folded, intersect, subtract};
use crate::memory::{MemoryType, Trust};
use crate::time::Timestamp;

/// Conditions on memories; all that are given must hold. Tags are compared without regard to case.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MemoryFilters {
    /// Those of any of these types; no types mean no condition.
    pub types: Vec<MemoryType>,
    /// Those with at least one of these tags; no tags mean no condition.
    pub tags_any: Vec<String>,
    /// Those with all of these tags.
    pub tags_all: Vec<String>,
    /// Those with none of these tags.
    pub tags_none: Vec<String>,
    /// Those of this agent.
    pub agent: Option<String>,
    /// Those of this session.
    pub session: Option<String>,
    /// Those of this user.
    pub user: Option<String>,
    /// Those of this run.
    pub run: Option<String>,
    /// Those with this key.
    pub key: Option<String>,
    /// Those made at this time or later.
    pub since: Option<Timestamp>,
    /// Those made before this time.
    pub until: Option<Timestamp>,
    /// Those that are at least so important.
    pub importance_min: Option<f32>,
    /// Those that may be relied on at least so far.
    pub trust_min: Option<Trust>,
    /// Superseded ones, too.
    pub include_superseded: bool,
    /// Expired ones, too, as long as they are not purged.
    pub include_expired: bool,
}

impl MemoryFilters {
    /// Whether there is a condition that a memory may fail, unlike what only lets more of them in.
    #[must_use]
    pub fn is_narrow(&self) -> bool {
        let wide = Self {
            include_superseded: self.include_superseded,
            include_expired: self.include_expired,
            ..Self::default()
        };
        *self != wide
    }

    /// The filters with what is equal written equally, for a cursor.
    pub(super) fn normalized(&self) -> Self {
        let keys = |list: &[String]| {
            let mut keys: Vec<String> = list.iter().map(|text| folded(text).into_owned()).collect();
            keys.sort_unstable();
            keys.dedup();
            keys
        };
        let mut types = self.types.clone();
        types.sort_unstable();
        types.dedup();
        Self {
            types,
            tags_any: keys(&self.tags_any),
            tags_all: keys(&self.tags_all),
            tags_none: keys(&self.tags_none),
            ..self.clone()
        }
    }

    /// The memories that pass.
    pub(super) fn select<'s>(&self, shard: &'s Shard, now: Timestamp) -> Selection<'s> {
        let mut sets: Vec<Vec<Doc>> = Vec::new();
        sets.extend(self.tags_all.iter().map(|tag| shard.tags.docs(tag).to_vec()));
        if !self.tags_any.is_empty() {
            let mut any: Vec<Doc> = self.tags_any.iter().flat_map(|tag| shard.tags.docs(tag)).copied().collect();
            any.sort_unstable();
            any.dedup();
            sets.push(any);
        }
        // Ids are found without regard to case and then compared exactly.
        let named = [
            (&self.agent, &shard.agents, 0usize),
            (&self.session, &shard.sessions, 1),
            (&self.user, &shard.users, 2),
            (&self.run, &shard.runs, 3),
            (&self.key, &shard.keys, 4),
        ];
        for (wanted, index, which) in named {
            let Some(wanted) = wanted else { continue };
            let is_meant = |doc: &Doc| {
                let Some(spec) = shard.memory(*doc).map(|m| &m.spec) else { return false };
                let found = match which {
                    0 => spec.agent.as_ref().map(crate::ids::AgentId::as_str),
                    1 => spec.session.as_deref(),
                    2 => spec.user.as_deref(),
                    3 => spec.run.as_ref().map(crate::ids::RunId::as_str),
                    _ => spec.key.as_deref(),
                };
                found == Some(wanted.as_str())
            };
            sets.push(index.docs(wanted).iter().copied().filter(is_meant).collect());
        }
        sets.sort_by_key(Vec::len);
        let mut sets = sets.into_iter();
        let mut docs = sets.next();
        if let Some(docs) = &mut docs {
            sets.for_each(|set| intersect(docs, &set));
        }
        let mut excluded = None;
        for tag in &self.tags_none {
            match &mut docs {
                Some(docs) => subtract(docs, shard.tags.docs(tag)),
                None => {
                    let bits = excluded.get_or_insert_with(|| DocBits::new(shard.end()));
                    shard.tags.docs(tag).iter().for_each(|doc| bits.insert(*doc));
                }
            }
        }
        let mut selection = Selection {
            shard,
            candidates: Candidates::All(shard.end()),
            excluded,
            verdicts: self.verdicts(),
            since: self.since.unwrap_or(Timestamp(i64::MIN)),
            until: self.until.unwrap_or(Timestamp(i64::MAX)),
            importance_min: self.importance_min.unwrap_or(0.0),
            expired_at: if self.include_expired { Timestamp(i64::MIN) } else { now },
        };
        if let Some(mut docs) = docs {
            docs.retain(|doc| selection.passes(*doc));
            selection.candidates = Candidates::Listed(docs);
        }
        selection
    }

    /// What flags alone decide, for each value that they can have.
    fn verdicts(&self) -> [Verdict; 256] {
        let kinds = Flags::set_of_kinds(&self.types);
        let reads_row = self.since.is_some() || self.until.is_some() || self.importance_min.is_some();
        let excludes = !self.tags_none.is_empty();
        let mut values = 0u8..=u8::MAX;
        std::array::from_fn(|_| {
            let flags = Flags(values.next().unwrap_or_default());
            let is_out = flags.0 & Flags::LIVE == 0
                || flags.0 & Flags::SUPERSEDED != 0 && !self.include_superseded
                || flags.kind_bit() & kinds == 0
                || self.trust_min.is_some_and(|least| flags.trust() < least as u8);
            let expires = flags.0 & Flags::EXPIRES != 0 && !self.include_expired;
            if is_out {
                Verdict::Fails
            } else if expires || reads_row || excludes {
                Verdict::Depends
            } else {
                Verdict::Passes
            }
        })
    }
}

/// Whether memories with some flags pass a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Passes,
    Fails,
    /// What is not in the flags has to be looked at.
    Depends,
}

/// The memories that a query looks at, each at its place.
#[derive(Debug)]
pub(super) enum Candidates {
    /// All with a number below this, each at the place of its number; some may not pass the filter.
    All(usize),
    /// These, which pass, in ascending order.
    Listed(Vec<Doc>),
}

impl Candidates {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::All(end) => *end,
            Self::Listed(docs) => docs.len(),
        }
    }

    /// The document at a place.
    pub(super) fn doc(&self, place: usize) -> Doc {
        match self {
            Self::All(_) => Doc::try_from(place).unwrap_or(Doc::MAX),
            Self::Listed(docs) => docs.get(place).copied().unwrap_or(Doc::MAX),
        }
    }

    /// The place of a document.
    pub(super) fn place(&self, doc: Doc) -> Option<usize> {
        match self {
            Self::All(end) => Some(doc as usize).filter(|place| place < end),
            Self::Listed(docs) => docs.binary_search(&doc).ok(),
        }
    }
}

/// The memories that pass a filter.
pub(super) struct Selection<'s> {
    shard: &'s Shard,
    pub(super) candidates: Candidates,
    excluded: Option<DocBits>,
    verdicts: [Verdict; 256],
    since: Timestamp,
    until: Timestamp,
    importance_min: f32,
    expired_at: Timestamp,
}

impl Selection<'_> {
    /// Whether a candidate passes; most are decided by their flags alone.
    #[inline]
    pub(super) fn passes(&self, doc: Doc) -> bool {
        match self.verdicts.get(usize::from(self.shard.flags_of(doc).0)) {
            Some(Verdict::Passes) => true,
            Some(Verdict::Depends) => self.passes_in_detail(doc),
            _ => false,
        }
    }

    fn passes_in_detail(&self, doc: Doc) -> bool {
        self.shard.rows().get(doc as usize).is_some_and(|row| {
            row.expires_at > self.expired_at
                && row.created_at >= self.since
                && row.created_at < self.until
                && row.importance >= self.importance_min
        }) && !self.excluded.as_ref().is_some_and(|bits| bits.contains(doc))
    }

    /// The place of a document that passes.
    pub(super) fn place(&self, doc: Doc) -> Option<usize> {
        self.candidates.place(doc).filter(|_| self.passes(doc))
    }

    /// The documents that pass, ascending.
    pub(super) fn docs(&self) -> impl Iterator<Item = Doc> {
        (0..self.candidates.len()).map(|place| self.candidates.doc(place)).filter(|doc| self.passes(*doc))
    }
}
