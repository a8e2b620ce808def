//! Counts of the registry.

use std::collections::HashMap;

use super::list::{Count, counts, sort_counts};
use super::shard::{Flags, Shard};
use super::{Registry, list};
use crate::agent_check::AgentStatus;
use crate::ids::Namespace;

/// Counts of one namespace or of all. Lists start with the highest count; equal counts are in the order of names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegistryStats {
    /// All agents.
    pub total: usize,
    /// Agents that get work.
    pub enabled: usize,
    /// Agents that do not.
    pub disabled: usize,
    /// Agents that should no longer be chosen.
    pub deprecated: usize,
    /// Agents whose last contact was answered, the built-in ones among them.
    pub reachable: usize,
    /// Agents that could not be reached when it was tried last.
    pub unreachable: usize,
    /// Each category as most agents write it.
    pub categories: Vec<Count>,
    /// Each tag as most agents write it.
    pub tags: Vec<Count>,
    /// Each of the namespaces that were asked for and hold agents.
    pub namespaces: Vec<Count>,
}

impl Registry {
    /// Counts one namespace, or all of them.
    #[must_use]
    pub fn stats(&self, namespace: Option<&Namespace>) -> RegistryStats {
        let mut stats = RegistryStats::default();
        let asked = self
            .shards
            .iter()
            .filter(|(name, shard)| shard.len() > 0 && namespace.is_none_or(|namespace| namespace == *name));
        for (name, shard) in asked {
            stats.add(name, shard);
        }
        for list in [&mut stats.categories, &mut stats.tags] {
            *list = summed(list);
        }
        list::sort_counts(&mut stats.namespaces);
        stats
    }
}

impl RegistryStats {
    fn add(&mut self, name: &Namespace, shard: &Shard) {
        self.total += shard.len();
        self.enabled += shard.count_flags(Flags::ENABLED, Flags::ENABLED);
        self.deprecated += shard.count_flags(Flags::DEPRECATED, Flags::DEPRECATED);
        self.disabled = self.total - self.enabled;
        self.reachable += shard.count_flags(Flags::STATUS, Flags::status(AgentStatus::Reachable));
        self.unreachable += shard.count_flags(Flags::STATUS, Flags::status(AgentStatus::Unreachable));
        self.categories.extend(counts(&shard.categories, <[_]>::len));
        self.tags.extend(counts(&shard.tags, <[_]>::len));
        self.namespaces.push((name.to_string(), shard.len()));
    }
}

/// Adds up the counts of the same key in several namespaces, under the spelling with the highest count.
fn summed(list: &mut [Count]) -> Vec<Count> {
    sort_counts(list);
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut sums: Vec<Count> = Vec::new();
    for (name, count) in list.iter() {
        let place = *places.entry(name.to_lowercase()).or_insert(sums.len());
        match sums.get_mut(place) {
            Some((_, sum)) => *sum += count,
            None => sums.push((name.clone(), *count)),
        }
    }
    sort_counts(&mut sums);
    sums
}
