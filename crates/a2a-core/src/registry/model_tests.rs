//! Random changes, compared after each with a model that keeps a plain map and computes everything anew.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::fixtures::{AgentBuilder, agent, key};
use super::{AgentRanking, Count, Filters, ListQuery, Registry, SearchQuery, agent_passage, agent_passage_hash};
use crate::agent::Agent;
use crate::change::Committed;
use crate::embedding::ModelVector;
use crate::ids::{Namespace, Revision};
use crate::time::Timestamp;

const IDS: [&str; 9] = ["a", "b", "Bb", "c1", "c2", "c3", "d", "data-x", "DATA"];
const TAGS: [&str; 5] = ["sql", "SQL", "Fast", "fast", "ops"];
const CATEGORIES: [&str; 3] = ["data", "Data", "code"];
const CAPABILITIES: [&str; 3] = ["run", "Run", "explain"];
/// Words that share stems, begin each other, or lie a slip apart.
const WORDS: [&str; 14] = [
    "tune",
    "tuning",
    "tuner",
    "tuna",
    "post",
    "postgres",
    "postgers",
    "database",
    "databases",
    "data",
    "the",
    "who",
    "JavaScript",
    "c++",
];
const QUERIES: [&str; 14] = [
    "tuning",
    "post",
    "postg data",
    "postgras",
    "databse",
    "the who",
    "java c++",
    "data",
    "a",
    "Bb",
    "tuna databases",
    "javascript tunes",
    "fast explain",
    "script",
];

#[derive(Debug, Clone)]
enum Operation {
    /// A put whose revision is this much above what is known; zero and below are stale.
    Put {
        id: usize,
        ahead: Revision,
        content: Content,
    },
    /// A removal, with the same meaning of `ahead`.
    Remove {
        id: usize,
        ahead: Revision,
    },
    Forget {
        id: usize,
    },
    ForgetRemoved,
    /// The model has read the agent: as it is, or as it was before.
    Read {
        id: usize,
        towards: usize,
        is_late: bool,
    },
}

#[derive(Debug, Clone)]
struct Content {
    words: Vec<usize>,
    tags: BTreeSet<usize>,
    category: usize,
    capabilities: BTreeSet<usize>,
    enabled: bool,
    deprecated: bool,
}

impl Content {
    fn agent(&self, id: &str, revision: Revision) -> AgentBuilder {
        let text = |words: &[usize]| words.iter().map(|w| WORDS[*w]).collect::<Vec<_>>().join(" ");
        let (name, rest) = self.words.split_at(self.words.len() / 3);
        let (description, instructions) = rest.split_at(rest.len() / 2);
        let tags: Vec<&str> = self.tags.iter().map(|t| TAGS[*t]).collect();
        let mut agent = agent(id)
            .name(&text(name))
            .description(&text(description))
            .instructions(&text(instructions))
            .category(CATEGORIES[self.category])
            .tags(&tags)
            .revision(revision);
        for capability in &self.capabilities {
            agent = agent.capability(CAPABILITIES[*capability], WORDS[self.category], &[WORDS[self.category + 5]]);
        }
        if !self.enabled {
            agent = agent.disabled();
        }
        if self.deprecated { agent.deprecated(None) } else { agent }
    }
}

fn content() -> impl Strategy<Value = Content> {
    (
        prop::collection::vec(0..WORDS.len(), 0..12),
        prop::collection::btree_set(0..TAGS.len(), 0..4),
        0..CATEGORIES.len(),
        prop::collection::btree_set(0..CAPABILITIES.len(), 0..3),
        prop::bool::weighted(0.8),
        prop::bool::weighted(0.2),
    )
        .prop_map(|(words, tags, category, capabilities, enabled, deprecated)| Content {
            words,
            tags,
            category,
            capabilities,
            enabled,
            deprecated,
        })
}

fn operation() -> impl Strategy<Value = Operation> {
    let id = 0..IDS.len();
    prop_oneof![
        8 => (id.clone(), -2..4i64, content()).prop_map(|(id, ahead, content)| Operation::Put { id, ahead, content }),
        3 => (id.clone(), -1..3i64).prop_map(|(id, ahead)| Operation::Remove { id, ahead }),
        1 => id.clone().prop_map(|id| Operation::Forget { id }),
        1 => Just(Operation::ForgetRemoved),
        4 => (id, 0..WORDS.len(), prop::bool::weighted(0.1))
            .prop_map(|(id, towards, is_late)| Operation::Read { id, towards, is_late }),
    ]
}

/// A direction for each of a few words.
fn by_model(towards: usize) -> ModelVector {
    let direction: Vec<f32> = (0..70).map(|place| if place % WORDS.len() == towards { 1.0 } else { 0.1 }).collect();
    ModelVector::of(&direction).unwrap()
}

#[derive(Default)]
struct Model {
    live: BTreeMap<String, Arc<Agent>>,
    /// What the model has read of the live ones.
    read: BTreeMap<String, ModelVector>,
    removed: BTreeMap<String, (Revision, Timestamp)>,
}

impl Model {
    fn known(&self, id: &str) -> Option<Revision> {
        self.live.get(id).map(|a| a.revision).or_else(|| self.removed.get(id).map(|(revision, _)| *revision))
    }

    fn apply(&mut self, registry: &mut Registry, operation: &Operation, now: Timestamp) {
        let next = |id: &str, ahead| self.known(id).unwrap_or(0) + ahead;
        match operation {
            Operation::Put { id, ahead, content } => {
                let id = IDS[*id];
                let agent = content.agent(id, next(id, *ahead)).build();
                let is_news = self.known(id).is_none() || *ahead > 0;
                assert_eq!(registry.apply(Committed::Agent(Arc::clone(&agent)), now), is_news);
                if is_news {
                    self.removed.remove(id);
                    let passage = agent_passage(&agent.spec);
                    let old = self.live.insert(id.to_owned(), agent);
                    if old.is_none_or(|old| agent_passage(&old.spec) != passage) {
                        self.read.remove(id);
                    }
                }
            }
            Operation::Remove { id, ahead } => {
                let id = IDS[*id];
                let revision = next(id, *ahead);
                let is_news = self.known(id).is_none() || *ahead > 0;
                assert_eq!(registry.apply(Committed::Removed(key(id), revision), now), is_news);
                if is_news {
                    self.live.remove(id);
                    self.read.remove(id);
                    self.removed.insert(id.to_owned(), (revision, now));
                }
            }
            Operation::Forget { id } => {
                registry.forget(&key(IDS[*id]));
                self.live.remove(IDS[*id]);
                self.read.remove(IDS[*id]);
                self.removed.remove(IDS[*id]);
            }
            Operation::ForgetRemoved => {
                let before = Timestamp(now.0 - 5);
                registry.forget_removed_before(before);
                self.removed.retain(|_, (_, applied)| *applied >= before);
            }
            Operation::Read { id, towards, is_late } => {
                let (id, vector) = (IDS[*id], by_model(*towards));
                let passage = self.live.get(id).map(|agent| agent_passage(&agent.spec)).unwrap_or_default();
                let of = agent_passage_hash(if *is_late { "what it was before" } else { &passage });
                let is_taken = self.live.contains_key(id) && !is_late;
                assert_eq!(registry.set_model_vector(&key(id), &of, &vector), is_taken);
                if is_taken {
                    self.read.insert(id.to_owned(), vector);
                }
            }
        }
    }

    fn matching(&self, filters: &Filters) -> Vec<&Arc<Agent>> {
        let same = |a: &str, b: &String| a.to_lowercase() == b.to_lowercase();
        let has = |agent: &Agent, tag: &String| agent.spec.tags.iter().any(|t| same(t, tag));
        self.live
            .values()
            .filter(|a| filters.enabled.is_none_or(|enabled| a.spec.enabled == enabled))
            .filter(|a| filters.deprecated.is_none_or(|deprecated| a.spec.deprecated.is_some() == deprecated))
            .filter(|a| filters.category.as_ref().is_none_or(|category| same(&a.spec.category, category)))
            .filter(|a| filters.tags_any.is_empty() || filters.tags_any.iter().any(|tag| has(a, tag)))
            .filter(|a| filters.tags_all.iter().all(|tag| has(a, tag)))
            .filter(|a| !filters.tags_none.iter().any(|tag| has(a, tag)))
            .filter(|a| {
                let wanted = filters.capability.as_ref();
                wanted.is_none_or(|wanted| a.spec.capabilities.iter().any(|c| same(&c.name, wanted)))
            })
            .collect()
    }

    /// Counts of keys without regard to case, shown as all live agents write them most often.
    fn counts<'a>(&'a self, matching: &[&Arc<Agent>], keys: impl Fn(&'a Agent) -> Vec<&'a str>) -> Vec<Count> {
        let mut spellings: BTreeMap<String, BTreeMap<&str, usize>> = BTreeMap::new();
        for agent in self.live.values() {
            for key in keys(agent) {
                *spellings.entry(key.to_lowercase()).or_default().entry(key).or_default() += 1;
            }
        }
        let mut counts: Vec<Count> = Vec::new();
        for (folded, spellings) in spellings {
            let most = spellings.values().max().unwrap();
            let shown = spellings.iter().find(|(_, count)| *count == most).unwrap().0;
            let ids: BTreeSet<&str> = matching.iter().map(|a| a.spec.id.as_str()).collect();
            let carries = |a: &&'a Arc<Agent>| keys(a).iter().any(|key| key.to_lowercase() == folded);
            let count = self.live.values().filter(|a| ids.contains(a.spec.id.as_str())).filter(carries).count();
            if count > 0 {
                counts.push(((*shown).to_owned(), count));
            }
        }
        counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        counts
    }

    fn rebuilt(&self) -> Registry {
        let mut registry = Registry::new();
        // In another order than that of the changes, which must not matter.
        for agent in self.live.values().rev() {
            registry.apply(Committed::Agent(Arc::clone(agent)), Timestamp(0));
        }
        for (id, vector) in &self.read {
            let of = agent_passage_hash(&agent_passage(&self.live[id].spec));
            assert!(registry.set_model_vector(&key(id), &of, vector));
        }
        registry
    }
}

fn tags(agent: &Agent) -> Vec<&str> {
    agent.spec.tags.iter().map(|tag| &**tag).collect()
}

fn category(agent: &Agent) -> Vec<&str> {
    vec![&*agent.spec.category]
}

fn every_filter() -> Vec<Filters> {
    let none = Filters::default;
    let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut filters = vec![
        none(),
        Filters { enabled: Some(true), ..none() },
        Filters { enabled: Some(false), deprecated: Some(false), ..none() },
        Filters { deprecated: Some(true), ..none() },
        Filters { tags_any: texts(&["SQL", "ops"]), ..none() },
        Filters { tags_all: texts(&["sql", "FAST"]), enabled: Some(true), ..none() },
        Filters { tags_none: texts(&["fast"]), ..none() },
        Filters { tags_any: texts(&["fast"]), tags_none: texts(&["ops", "sql"]), ..none() },
        Filters { category: Some("CODE".into()), capability: Some("explain".into()), ..none() },
        Filters { category: Some("data".into()), tags_all: texts(&["ops"]), ..none() },
    ];
    filters.extend(CATEGORIES.map(|category| Filters { category: Some(category.into()), ..none() }));
    filters.extend(CAPABILITIES.map(|capability| Filters { capability: Some(capability.into()), ..none() }));
    filters.extend(TAGS.map(|tag| Filters { tags_any: vec![tag.into()], ..none() }));
    filters
}

fn check_gets(registry: &Registry, model: &Model) {
    let namespace = Namespace::default();
    assert_eq!(registry.len(), model.live.len());
    assert_eq!(registry.live().count(), model.live.len());
    for id in IDS {
        assert_eq!(registry.get(&namespace, id), model.live.get(id), "{id}");
        assert_eq!(registry.known_revision(&key(id)), model.known(id), "{id}");
    }
}

fn check_lists(registry: &Registry, model: &Model) {
    for filters in every_filter() {
        let expected = model.matching(&filters);
        let mut found = Vec::new();
        let mut query = ListQuery { filters: filters.clone(), limit: 2, facets: true, ..ListQuery::default() };
        loop {
            let page = registry.list(&query).unwrap();
            assert_eq!(page.total, expected.len(), "{filters:?}");
            let facets = page.facets.unwrap();
            assert_eq!(facets.tags, model.counts(&expected, tags), "{filters:?}");
            assert_eq!(facets.categories, model.counts(&expected, category), "{filters:?}");
            found.extend(page.agents);
            assert!(found.len() <= expected.len(), "the pages of {filters:?} repeat agents");
            query.cursor = page.next_cursor;
            if query.cursor.is_none() {
                break;
            }
        }
        assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{filters:?}");
    }
    let all = model.matching(&Filters::default());
    let stats = registry.stats(None);
    assert_eq!(stats.total, all.len());
    assert_eq!(stats.enabled, all.iter().filter(|a| a.spec.enabled).count());
    assert_eq!(stats.disabled, all.iter().filter(|a| !a.spec.enabled).count());
    assert_eq!(stats.deprecated, all.iter().filter(|a| a.spec.deprecated.is_some()).count());
    assert_eq!(stats.tags, model.counts(&all, tags));
    assert_eq!(stats.categories, model.counts(&all, category));
}

/// Scores, totals, reasons and order are those of a registry that was built from what is live.
fn check_searches(registry: &Registry, model: &Model) {
    let rebuilt = model.rebuilt();
    for query in QUERIES {
        for include_disabled in [false, true] {
            let query = SearchQuery { query: query.into(), include_disabled, limit: 50, ..SearchQuery::default() };
            assert_eq!(registry.search(&query).unwrap(), rebuilt.search(&query).unwrap(), "{query:?}");
            let meaning = Some(Arc::new(by_model(query.query.len() % WORDS.len())));
            let query = SearchQuery { meaning, ..query };
            assert_eq!(registry.search(&query).unwrap(), rebuilt.search(&query).unwrap(), "by the model: {query:?}");
        }
        let text = ListQuery { text: Some(query.into()), limit: 50, ..ListQuery::default() };
        assert_eq!(registry.list(&text).unwrap(), rebuilt.list(&text).unwrap(), "{query:?}");
    }
    // The candidates of a word are also those whose text has it, whatever the index says.
    let expected: Vec<&str> = model
        .live
        .values()
        .filter(|a| {
            let spec = &a.spec;
            let text = [&*spec.name, &*spec.description, &*spec.instructions].join(" ").to_lowercase();
            let in_capabilities = spec.capabilities.iter().any(|c| {
                c.description.contains("tuna") || c.example_queries.iter().any(|example| example.contains("tuna"))
            });
            in_capabilities || text.split(' ').any(|word| word == "tuna")
        })
        .map(|a| a.spec.id.as_str())
        .collect();
    let ranking = AgentRanking::WORDS_ALONE;
    let query =
        SearchQuery { query: "tuna".into(), include_disabled: true, limit: 50, ranking, ..SearchQuery::default() };
    let page = registry.search(&query).unwrap();
    if !expected.is_empty() {
        let found: BTreeSet<&str> = page.hits.iter().map(|hit| hit.agent.spec.id.as_str()).collect();
        assert_eq!(found, expected.into_iter().collect());
    }
    let sizes = |registry: &Registry| {
        registry.shards.get(&Namespace::default()).map_or((0, 0), |shard| shard.texts.words.sizes())
    };
    assert_eq!(sizes(registry), sizes(&rebuilt));
    assert_eq!(registry.model_vectors(), model.read.len());
    for id in model.live.keys() {
        assert_eq!(registry.has_model_vector(&key(id)), model.read.contains_key(id), "{id}");
    }
    assert_eq!(registry.without_model_vector().count(), model.live.len() - model.read.len());
    assert_eq!((registry.texts.len(), registry.actors.len()), (rebuilt.texts.len(), rebuilt.actors.len()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_registry_equals_a_naive_model_after_each_change(operations in prop::collection::vec(operation(), 1..60)) {
        let mut registry = Registry::new();
        let mut model = Model::default();
        for (step, operation) in (0..).zip(&operations) {
            model.apply(&mut registry, operation, Timestamp(step));
            check_gets(&registry, &model);
            check_lists(&registry, &model);
            check_searches(&registry, &model);
        }
    }
}

#[test]
fn numbers_of_replaced_agents_are_given_back() {
    let mut registry = Registry::new();
    for revision in 1..200 {
        registry.apply(agent("a").description("tuning").revision(revision).committed(), Timestamp(0));
        registry.apply(agent("b").description("tuning").revision(revision).committed(), Timestamp(0));
    }
    let shard = registry.shards.get(&Namespace::default()).unwrap();
    assert!(shard.end() < 20, "{}", shard.end());
    let page = registry.search(&SearchQuery { query: "tuning".into(), limit: 5, ..SearchQuery::default() }).unwrap();
    assert_eq!(page.total, 2);
}
