//! Facts about applying, getting, resolving, sharing and counting.

use std::sync::Arc;

use super::fixtures::{agent, ids, key, registry};
use super::{Prepared, Registry, Resolved, SearchPage, SearchQuery};
use crate::agent::Agent;
use crate::change::Committed;
use crate::ids::{AgentId, Namespace};
use crate::time::Timestamp;

fn get<'r>(registry: &'r Registry, id: &str) -> Option<&'r Arc<Agent>> {
    registry.get(&Namespace::default(), id)
}

#[test]
fn an_older_or_equal_state_changes_nothing() {
    let mut registry = registry([agent("a").revision(5).description("new")]);
    for revision in [4, 5] {
        let stale = agent("a").revision(revision).description("old");
        assert!(!registry.apply(stale.clone().committed(), Timestamp(1)));
        assert!(!registry.apply_prepared(Prepared::new(stale.committed()), Timestamp(1)));
        assert!(!registry.apply(Committed::Removed(key("a"), revision), Timestamp(1)));
    }
    assert_eq!(&*get(&registry, "a").unwrap().spec.description, "new");
    assert!(registry.apply(agent("a").revision(6).committed(), Timestamp(1)));
    assert_eq!((registry.len(), registry.known_revision(&key("a"))), (1, Some(6)));
}

#[test]
fn a_late_put_does_not_bring_a_removed_agent_back() {
    let mut registry = registry([agent("a")]);
    assert!(registry.apply(Committed::Removed(key("a"), 3), Timestamp(10)));
    assert!(registry.is_empty() && get(&registry, "a").is_none());
    assert_eq!(registry.known_revision(&key("a")), Some(3));
    assert!(!registry.apply(agent("a").revision(2).committed(), Timestamp(11)));
    registry.forget_removed_before(Timestamp(10));
    assert!(!registry.apply(agent("a").revision(3).committed(), Timestamp(11)));
    assert!(registry.apply(agent("a").revision(4).committed(), Timestamp(12)));
    assert_eq!(registry.len(), 1);
}

#[test]
fn a_removal_of_an_unknown_agent_is_remembered_until_it_is_forgotten() {
    let mut registry = Registry::new();
    assert!(registry.apply(Committed::Removed(key("a"), 3), Timestamp(10)));
    assert!(!registry.apply(agent("a").revision(2).committed(), Timestamp(11)));
    registry.forget_removed_before(Timestamp(11));
    assert_eq!(registry.known_revision(&key("a")), None);
    assert!(registry.apply(agent("a").revision(2).committed(), Timestamp(12)));
}

#[test]
fn a_forgotten_agent_can_come_back_at_any_revision() {
    let mut registry = registry([agent("a").revision(9), agent("b").revision(9)]);
    registry.apply(Committed::Removed(key("b"), 10), Timestamp(0));
    for id in ["a", "b", "never-seen"] {
        registry.forget(&key(id));
        assert_eq!(registry.known_revision(&key(id)), None);
        assert!(registry.apply(agent(id).committed(), Timestamp(0)));
    }
    assert_eq!(registry.len(), 3);
}

#[test]
fn namespaces_do_not_meet() {
    let registry = registry([agent("a"), agent("a").namespace("other").description("there")]);
    let other = Namespace::parse("other").unwrap();
    assert_eq!(&*registry.get(&other, "a").unwrap().spec.description, "there");
    assert!(get(&registry, "a").unwrap().spec.description.is_empty());
    assert!(registry.get(&Namespace::parse("third").unwrap(), "a").is_none());
    assert_eq!(registry.len(), 2);
    assert_eq!(registry.live().count(), 2);
}

#[test]
fn equal_texts_are_shared_while_they_are_used_and_let_go_after() {
    let make = |id: &str| {
        agent(id).tags(&["sql"]).category("data").config(r#"{"a":1}"#).capability("run", "", &[]).revision(2)
    };
    let mut registry = registry([make("a"), make("b"), make("b").revision(3)]);
    let (a, b) = (get(&registry, "a").unwrap(), get(&registry, "b").unwrap());
    assert!(Arc::ptr_eq(&a.spec.tags[0], &b.spec.tags[0]));
    assert!(Arc::ptr_eq(&a.spec.category, &b.spec.category));
    assert!(Arc::ptr_eq(a.spec.config.as_arc(), b.spec.config.as_arc()));
    let schema = |a: &Agent| Arc::clone(a.spec.capabilities[0].input_schema.as_ref().unwrap().as_arc());
    assert!(Arc::ptr_eq(&schema(a), &schema(b)));
    // Three distinct texts: the config, the settings of the executor and the schema.
    assert_eq!((registry.texts.len(), registry.actors.len()), (3, 1));
    registry.apply(Committed::Removed(key("a"), 9), Timestamp(0));
    assert_eq!((registry.texts.len(), registry.actors.len()), (3, 1));
    registry.apply(agent("b").config(r#"{"b":1}"#).revision(9).committed(), Timestamp(0));
    assert_eq!(registry.texts.len(), 2);
    registry.apply(Committed::Removed(key("b"), 10), Timestamp(0));
    assert_eq!((registry.texts.len(), registry.actors.len()), (0, 0));
}

#[test]
fn values_are_kept_as_stored_whatever_their_case() {
    let registry = registry([agent("a").tags(&["SQL"]), agent("b").tags(&["sql"]), agent("c").tags(&["Sql", "sql"])]);
    assert_eq!(&*get(&registry, "a").unwrap().spec.tags[0], "SQL");
    assert_eq!(&*get(&registry, "c").unwrap().spec.tags[0], "Sql");
    let stats = registry.stats(None);
    assert_eq!(stats.tags, [("sql".to_owned(), 3)]);
}

#[test]
fn stats_count_everything_in_order() {
    let registry = registry([
        agent("a").category("data").tags(&["x", "y"]).disabled(),
        agent("b").category("data").tags(&["y"]).deprecated(None),
        agent("c").category("code").namespace("other"),
        agent("d").category("Data").namespace("other"),
    ]);
    let stats = registry.stats(None);
    assert_eq!((stats.total, stats.enabled, stats.disabled, stats.deprecated), (4, 3, 1, 1));
    let count = |name: &str, n: usize| (name.to_owned(), n);
    assert_eq!(stats.categories, [count("data", 3), count("code", 1)]);
    assert_eq!(stats.tags, [count("y", 2), count("x", 1)]);
    assert_eq!(stats.namespaces, [count("default", 2), count("other", 2)]);
    let stats = registry.stats(Some(&Namespace::parse("other").unwrap()));
    assert_eq!((stats.total, stats.namespaces), (2, vec![count("other", 2)]));
    assert_eq!(registry.stats(Some(&Namespace::parse("none").unwrap())).total, 0);
}

#[test]
fn ids_resolve_exactly_or_by_a_unique_beginning() {
    let registry = registry(["data", "data-cleaner", "Data-Miner", "report"].map(agent));
    let resolve = |text: &str| registry.resolve(&Namespace::default(), text);
    let is = |resolved: Resolved, id: &str| match resolved {
        Resolved::Exact(a) => (true, a.spec.id.as_str() == id),
        Resolved::UniquePrefix(a) => (false, a.spec.id.as_str() == id),
        other => panic!("{other:?}"),
    };
    assert_eq!(is(resolve("data"), "data"), (true, true));
    assert_eq!(is(resolve(" report "), "report"), (true, true));
    assert_eq!(is(resolve("DATA"), "data"), (false, true));
    assert_eq!(is(resolve("data-m"), "Data-Miner"), (false, true));
    assert_eq!(is(resolve("Rep"), "report"), (false, true));
    let id = |id: &str| AgentId::parse(id).unwrap();
    assert_eq!(resolve("dat"), Resolved::Ambiguous(vec![id("Data-Miner"), id("data"), id("data-cleaner")]));
    assert_eq!(resolve(""), Resolved::NotFound { nearest: vec![] });
}

#[test]
fn an_unknown_id_names_the_nearest_by_id_and_name() {
    let mut registry = registry((0..200).map(|i| agent(&format!("filler-{i}"))));
    for a in [agent("postgres-tuner"), agent("k8s").name("Kubernetes Operator"), agent("zebra").disabled()] {
        registry.apply(a.committed(), Timestamp(0));
    }
    let nearest = |text: &str| match registry.resolve(&Namespace::default(), text) {
        Resolved::NotFound { nearest } => nearest.iter().map(ToString::to_string).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(nearest("postgers-tuner")[0], "postgres-tuner");
    assert_eq!(nearest("postgrestuner")[0], "postgres-tuner");
    assert_eq!(nearest("kubernetes-operator")[0], "k8s");
    assert_eq!(nearest("zebrra"), ["zebra"]);
    assert_eq!(nearest("filler-x").len(), 3);
    assert_eq!(nearest("qqqq"), Vec::<String>::new());
}

#[test]
fn live_agents_are_those_that_can_be_got() {
    let mut registry = registry((0..50).map(|i| agent(&format!("a{i:02}"))));
    for i in 0..40 {
        registry.apply(Committed::Removed(key(&format!("a{i:02}")), 2), Timestamp(0));
    }
    let mut live = ids(registry.live());
    live.sort_unstable();
    let expected: Vec<String> = (40..50).map(|i| format!("a{i}")).collect();
    assert_eq!(live, expected);
    assert!(expected.iter().all(|id| get(&registry, id).is_some()));
}

#[test]
fn agents_that_search_reads_later_are_found_as_if_they_had_been_read_at_once() {
    let words = ["postgres", "kubernetes", "report", "invoice"];
    let made = |i: usize, revision: i64| {
        agent(&format!("a{i:03}")).description(&format!("Handles {} v{revision}", words[i % 4])).revision(revision)
    };
    let mut registry = Registry::new();
    for i in 0..100 {
        assert!(registry.apply_unread(made(i, 1).committed(), Timestamp(0)));
    }
    assert!(!registry.is_searchable());
    let (mut round, mut next) = (0, 100);
    while !registry.is_searchable() {
        let read: Vec<Prepared> = registry.unread(7).into_iter().map(|a| Prepared::new(Committed::Agent(a))).collect();
        assert!(!read.is_empty());
        // What changes in between, read and unread, is enough to renumber the documents.
        if round < 12 {
            for i in [round, round + 3, 99 - round] {
                registry.apply(made(i, 2 + round as i64).committed(), Timestamp(0));
            }
            registry.apply(Committed::Removed(key(&format!("a{:03}", 40 + round)), 50), Timestamp(0));
            registry.apply(made(next, 1).committed(), Timestamp(0));
            next += 1;
        }
        registry.make_searchable(&read);
        round += 1;
    }
    assert!(registry.unread(1).is_empty());
    let mut at_once = Registry::new();
    for agent in registry.live().cloned().collect::<Vec<_>>() {
        at_once.apply(Committed::Agent(agent), Timestamp(0));
    }
    for query in ["postgres", "kubernetes v1", "report v2", "invoise", "v9", "a04"] {
        let query = SearchQuery { query: query.to_owned(), limit: 200, ..SearchQuery::default() };
        let (found, expected) = (registry.search(&query).unwrap(), at_once.search(&query).unwrap());
        assert_eq!(found.total, expected.total, "{query:?}");
        let scores = |page: &SearchPage| {
            page.hits.iter().map(|hit| (hit.agent.spec.id.to_string(), hit.score.to_bits())).collect::<Vec<_>>()
        };
        assert_eq!(scores(&found), scores(&expected), "{query:?}");
    }
}
