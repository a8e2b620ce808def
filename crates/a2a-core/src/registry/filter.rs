//! Filters, and the agents that pass them.

use std::borrow::Cow;

use super::shard::{Flags, Shard};
use crate::agent::ExecutorKind;
use crate::agent_check::AgentStatus;
use crate::index::Doc;
use crate::index::keys::{DocBits, folded, intersect, subtract};

/// Conditions on agents; all that are given must hold. Tags, categories and capabilities are compared without regard
/// to case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters {
    /// Enabled ones, or disabled ones.
    pub enabled: Option<bool>,
    /// Those of this category.
    pub category: Option<String>,
    /// Those with at least one of these tags; no tags mean no condition.
    pub tags_any: Vec<String>,
    /// Those with all of these tags.
    pub tags_all: Vec<String>,
    /// Those with none of these tags.
    pub tags_none: Vec<String>,
    /// Those that have a capability of exactly this name.
    pub capability: Option<String>,
    /// Those whose work is done in this way.
    pub executor: Option<ExecutorKind>,
    /// Those of which this is known.
    pub status: Option<AgentStatus>,
    /// Deprecated ones, or the others.
    pub deprecated: Option<bool>,
}

/// The part of a filter that one byte per document answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FlagFilter {
    mask: u8,
    value: u8,
}

impl FlagFilter {
    pub(super) fn passes(self, flags: Flags) -> bool {
        flags.0 & self.mask == self.value
    }

    /// Whether every live agent passes.
    fn is_open(self) -> bool {
        self.mask == Flags::LIVE
    }
}

/// The agents that pass a filter.
pub(super) enum Selection<'s> {
    /// All whose flags pass; nothing else was asked.
    Flags(FlagFilter),
    /// These, in ascending order.
    Docs(Cow<'s, [Doc]>),
}

impl Filters {
    /// The filters with what is equal written equally, for a cursor.
    pub(super) fn normalized(&self) -> Self {
        let key = |text: &String| folded(text).into_owned();
        let keys = |list: &[String]| {
            let mut keys: Vec<String> = list.iter().map(key).collect();
            keys.sort_unstable();
            keys.dedup();
            keys
        };
        Self {
            category: self.category.as_ref().map(key),
            tags_any: keys(&self.tags_any),
            tags_all: keys(&self.tags_all),
            tags_none: keys(&self.tags_none),
            capability: self.capability.as_ref().map(key),
            ..*self
        }
    }

    pub(super) fn flags(&self) -> FlagFilter {
        let mut filter = FlagFilter { mask: Flags::LIVE, value: Flags::LIVE };
        for (wanted, flag) in [(self.enabled, Flags::ENABLED), (self.deprecated, Flags::DEPRECATED)] {
            if let Some(wanted) = wanted {
                filter.mask |= flag;
                filter.value |= if wanted { flag } else { 0 };
            }
        }
        if let Some(kind) = self.executor {
            filter.mask |= Flags::EXECUTOR;
            filter.value |= Flags::executor(kind);
        }
        if let Some(status) = self.status {
            filter.mask |= Flags::STATUS;
            filter.value |= Flags::status(status);
        }
        filter
    }

    /// The agents that pass, `within` sets of documents if there are any.
    ///
    /// Starts from the smallest set and thins it out by the others, so that it costs about the size of the smallest.
    pub(super) fn select<'s>(&self, shard: &'s Shard, within: Vec<Vec<Doc>>) -> Selection<'s> {
        let mut sets: Vec<Cow<'s, [Doc]>> = within.into_iter().map(Cow::Owned).collect();
        sets.extend(self.category.iter().map(|key| shard.categories.docs(key).into()));
        sets.extend(self.capability.iter().map(|key| shard.capabilities.docs(key).into()));
        sets.extend(self.tags_all.iter().map(|key| shard.tags.docs(key).into()));
        match self.tags_any.as_slice() {
            [] => {}
            [key] => sets.push(shard.tags.docs(key).into()),
            keys => {
                let mut any: Vec<Doc> = keys.iter().flat_map(|key| shard.tags.docs(key)).copied().collect();
                any.sort_unstable();
                any.dedup();
                sets.push(any.into());
            }
        }
        let flags = self.flags();
        if sets.is_empty() && self.tags_none.is_empty() {
            return Selection::Flags(flags);
        }
        sets.sort_by_key(|set| set.len());
        let mut sets = sets.into_iter();
        let smallest = sets.next();
        let first_is_all = smallest.is_some() && sets.len() == 0 && self.tags_none.is_empty() && flags.is_open();
        let mut docs = match smallest {
            Some(only) if first_is_all => return Selection::Docs(only),
            Some(smallest) => smallest.into_owned(),
            None => (0..).zip(shard.flags()).filter(|(_, f)| flags.passes(**f)).map(|(doc, _)| doc).collect(),
        };
        if !flags.is_open() {
            docs.retain(|doc| flags.passes(shard.flags_of(*doc)));
        }
        for set in sets {
            intersect(&mut docs, &set);
        }
        for key in &self.tags_none {
            subtract(&mut docs, shard.tags.docs(key));
        }
        Selection::Docs(docs.into())
    }
}

/// Below this many agents, sorting them by id beats walking all ids in order.
const SORT_MAX: usize = 512;

impl Selection<'_> {
    /// How many agents were selected.
    pub(super) fn total(&self, shard: &Shard) -> usize {
        match self {
            Self::Flags(flags) => shard.count_flags(flags.mask, flags.value),
            Self::Docs(docs) => docs.len(),
        }
    }

    /// Whether flags alone decide.
    pub(super) fn is_flags(&self) -> bool {
        matches!(self, Self::Flags(_))
    }

    /// Whether all agents were selected.
    pub(super) fn is_everything(&self) -> bool {
        matches!(self, Self::Flags(flags) if flags.is_open())
    }

    /// A test for single documents.
    pub(super) fn contains(&self, shard: &Shard) -> impl Fn(Doc) -> bool {
        let (flags, bits) = match self {
            Self::Flags(flags) => (Some((*flags, shard.flags())), DocBits::default()),
            Self::Docs(docs) => (None, DocBits::of(docs, shard.end())),
        };
        move |doc| match flags {
            Some((filter, flags)) => flags.get(doc as usize).is_some_and(|flags| filter.passes(*flags)),
            None => bits.contains(doc),
        }
    }

    /// The first `count` of the selected agents by id, after the id `after`.
    pub(super) fn page(&self, shard: &Shard, after: Option<&str>, count: usize) -> Vec<Doc> {
        if let Self::Docs(docs) = self {
            // Walking meets one selected agent in every `len / docs` ids, sorting looks at each selected one.
            let steps = count.saturating_mul(shard.len()) / docs.len().max(1);
            if docs.len() <= SORT_MAX || steps > docs.len().saturating_mul(4) {
                let mut page: Vec<(&str, Doc)> = docs
                    .iter()
                    .filter_map(|doc| Some((shard.agent(*doc)?.spec.id.as_str(), *doc)))
                    .filter(|(id, _)| after.is_none_or(|after| *id > after))
                    .collect();
                if page.len() > count && count > 0 {
                    page.select_nth_unstable(count - 1);
                    page.truncate(count);
                }
                page.sort_unstable();
                page.truncate(count);
                return page.into_iter().map(|(_, doc)| doc).collect();
            }
        }
        let selected = self.contains(shard);
        shard.docs_by_id(after).map(|(_, doc)| doc).filter(|doc| selected(*doc)).take(count).collect()
    }
}
