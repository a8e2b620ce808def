//! Facts about lists, pages and facets.

use std::sync::Arc;

use super::fixtures::{agent, ids, key, registry};
use super::{Filters, ListPage, ListQuery, Registry};
use crate::agent::ExecutorKind;
use crate::change::Committed;
use crate::ids::Namespace;
use crate::limits::PAGE_ROWS_MAX;
use crate::time::Timestamp;

fn all() -> ListQuery {
    ListQuery { limit: PAGE_ROWS_MAX, ..ListQuery::default() }
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

fn listed(registry: &Registry, filters: Filters) -> Vec<String> {
    let page = registry.list(&ListQuery { filters, ..all() }).unwrap();
    assert_eq!(page.total, page.agents.len());
    ids(&page.agents).into_iter().map(str::to_owned).collect()
}

fn sample() -> Registry {
    registry([
        agent("a").category("Data").tags(&["SQL", "fast"]).capability("Query", "", &[]),
        agent("b").category("data").tags(&["sql"]).disabled(),
        agent("c").category("code").tags(&["fast"]).deprecated(None).executor(ExecutorKind::Http),
        agent("d").category("code").name("Café Finder").description("Finds the running cafés of a city"),
    ])
}

#[test]
fn filters_are_anded_and_compared_without_case() {
    let registry = sample();
    let none = Filters::default;
    let list = |filters| listed(&registry, filters);
    assert_eq!(list(none()), ["a", "b", "c", "d"]);
    assert_eq!(list(Filters { category: Some("DATA".into()), ..none() }), ["a", "b"]);
    assert_eq!(list(Filters { enabled: Some(false), ..none() }), ["b"]);
    assert_eq!(list(Filters { deprecated: Some(false), ..none() }), ["a", "b", "d"]);
    assert_eq!(list(Filters { executor: Some(ExecutorKind::Http), ..none() }), ["c"]);
    assert_eq!(list(Filters { executor: Some(ExecutorKind::Pull), enabled: Some(true), ..none() }), ["a", "d"]);
    assert_eq!(list(Filters { capability: Some("query".into()), ..none() }), ["a"]);
    assert_eq!(list(Filters { tags_any: texts(&["Sql", "fast", "nothing"]), ..none() }), ["a", "b", "c"]);
    assert_eq!(list(Filters { tags_all: texts(&["sql", "FAST"]), ..none() }), ["a"]);
    assert_eq!(list(Filters { tags_none: texts(&["sql"]), ..none() }), ["c", "d"]);
    let both = Filters { tags_any: texts(&["sql"]), enabled: Some(true), tags_none: texts(&["slow"]), ..none() };
    assert_eq!(list(both), ["a"]);
    assert_eq!(list(Filters { category: Some("nothing".into()), ..none() }), Vec::<String>::new());
}

#[test]
fn every_word_of_the_text_must_occur() {
    let registry = sample();
    let list = |text: &str| {
        let page = registry.list(&ListQuery { text: Some(text.into()), ..all() }).unwrap();
        ids(&page.agents).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(list("runs"), ["d"]);
    assert_eq!(list("CAFÉ cit"), ["d"]);
    assert_eq!(list("the cities"), ["d"]);
    assert_eq!(list("café sql"), Vec::<String>::new());
    assert_eq!(list("fas"), ["a", "c"]);
    assert_eq!(list("?!"), ["a", "b", "c", "d"]);
}

#[test]
fn ids_select_and_unknown_ones_are_reported() {
    let registry = sample();
    let query = ListQuery { ids: texts(&["d", "x", "a", "d", "b", "y"]), ..all() };
    let enabled = Filters { enabled: Some(true), ..Filters::default() };
    let page = registry.list(&ListQuery { filters: enabled, ..query }).unwrap();
    assert_eq!((ids(&page.agents), page.total), (vec!["a", "d"], 2));
    assert_eq!(page.missing, ["x", "y"]);
    let elsewhere = ListQuery { namespace: Namespace::parse("other").unwrap(), ids: texts(&["a"]), ..all() };
    let page = registry.list(&elsewhere).unwrap();
    assert_eq!((page.total, page.missing), (0, texts(&["a"])));
}

#[test]
fn facets_count_all_matches_and_not_the_page() {
    let registry = sample();
    let page = registry.list(&ListQuery { facets: true, limit: 1, ..ListQuery::default() }).unwrap();
    let facets = page.facets.unwrap();
    let count = |name: &str, n: usize| (name.to_owned(), n);
    assert_eq!(facets.categories, [count("Data", 2), count("code", 2)]);
    assert_eq!(facets.tags, [count("SQL", 2), count("fast", 2)]);
    let filters = Filters { tags_any: texts(&["fast"]), ..Filters::default() };
    let page = registry.list(&ListQuery { facets: true, filters, limit: 0, ..ListQuery::default() }).unwrap();
    let facets = page.facets.unwrap();
    assert_eq!((page.total, page.agents.len(), page.next_cursor), (2, 0, None));
    assert_eq!(facets.categories, [count("Data", 1), count("code", 1)]);
    assert_eq!(facets.tags, [count("fast", 2), count("SQL", 1)]);
}

fn pages(
    registry: &mut Registry,
    query: ListQuery,
    mut between: impl FnMut(&mut Registry, &ListPage),
) -> Vec<ListPage> {
    let mut pages: Vec<ListPage> = Vec::new();
    let mut cursor = None;
    loop {
        let page = registry.list(&ListQuery { cursor: cursor.take(), ..query.clone() }).unwrap();
        cursor.clone_from(&page.next_cursor);
        if cursor.is_some() {
            between(registry, &page);
        }
        pages.push(page);
        assert!(pages.len() <= 2_000, "the pages do not end");
        if cursor.is_none() {
            return pages;
        }
    }
}

#[test]
fn pages_follow_each_other_without_gap_or_double_for_each_size() {
    // Enough agents that both ways of making a page are taken: sorting few and walking among many.
    let mut registry = registry(
        (0..1_500).map(|i| agent(&format!("a{:04}", i * 7 % 1_500)).category(if i % 10 < 7 { "most" } else { "few" })),
    );
    for category in [None, Some("most"), Some("few")] {
        for limit in [1, 199, PAGE_ROWS_MAX, PAGE_ROWS_MAX + 1] {
            if limit == 1 && category != Some("few") {
                continue;
            }
            let filters = Filters { category: category.map(Into::into), ..Filters::default() };
            let pages = pages(&mut registry, ListQuery { filters, limit, ..ListQuery::default() }, |_, _| {});
            let found: Vec<&str> = pages.iter().flat_map(|page| ids(&page.agents)).collect();
            assert!(found.is_sorted_by(|a, b| a < b));
            assert!(pages.iter().all(|page| page.total == found.len() && page.agents.len() <= PAGE_ROWS_MAX));
            assert_eq!(
                found.len(),
                match category {
                    None => 1_500,
                    Some("most") => 1_050,
                    _ => 450,
                }
            );
        }
    }
}

#[test]
fn a_cursor_is_stable_while_agents_change() {
    let mut registry = registry((0..100).map(|i| agent(&format!("a{i:03}")).tags(&["t"])));
    let filters = Filters { tags_any: texts(&["T"]), ..Filters::default() };
    let query = ListQuery { filters, limit: 10, ..ListQuery::default() };
    let mut cleared = Vec::new();
    let pages = pages(&mut registry, query, |registry, page| {
        // The agent that the cursor names goes, one behind it loses its tag, others change or come on both sides.
        let last_id = ids(&page.agents)[page.agents.len() - 1];
        let last: usize = last_id[1..4].parse().unwrap();
        registry.apply(Committed::Removed(key(last_id), 9), Timestamp(0));
        registry.apply(agent(&format!("a{:03}", last + 3)).revision(5).committed(), Timestamp(0));
        registry.apply(agent(&format!("a{:03}", last + 5)).tags(&["t", "u"]).revision(5).committed(), Timestamp(0));
        registry.apply(agent(&format!("a{:03}-behind", last - 5)).tags(&["t"]).committed(), Timestamp(0));
        registry.apply(agent(&format!("a{:03}-ahead", last + 2)).tags(&["t"]).committed(), Timestamp(0));
        cleared.push(format!("a{:03}", last + 3));
    });
    let found: Vec<&str> = pages.iter().flat_map(|page| ids(&page.agents)).collect();
    assert!(found.is_sorted_by(|a, b| a < b), "{found:?}");
    // Nobody is left out but those that lost the tag just before their page came.
    for i in 0..100 {
        let id = format!("a{i:03}");
        assert_eq!(found.contains(&id.as_str()), !cleared.contains(&id), "{id}");
    }
    assert_eq!(found.iter().filter(|id| id.ends_with("-ahead")).count(), cleared.len());
    assert!(found.iter().all(|id| !id.ends_with("-behind")));
    assert!(cleared.len() > 5);
}

#[test]
fn a_cursor_belongs_to_its_filters() {
    let registry = registry((0..5).map(|i| agent(&format!("a{i}")).tags(&["x", "y"])));
    let query = ListQuery { limit: 2, ..ListQuery::default() };
    let with = |tags: &[&str], cursor: &str| ListQuery {
        filters: Filters { tags_all: texts(tags), ..Filters::default() },
        cursor: Some(cursor.to_owned()),
        ..query.clone()
    };
    let first = registry.list(&ListQuery { cursor: None, ..with(&["x", "y"], "") }).unwrap();
    let cursor = first.next_cursor.unwrap();
    let next = registry.list(&ListQuery { limit: 3, facets: true, ..with(&["Y", "x", "X"], &cursor) }).unwrap();
    assert_eq!(ids(&next.agents), ["a2", "a3", "a4"]);
    let problem = |query: &ListQuery| {
        let problems = registry.list(query).unwrap_err();
        assert_eq!((problems.0.len(), problems.0[0].path.as_str()), (1, "cursor"));
        problems.0[0].message.clone()
    };
    assert!(problem(&with(&["x"], &cursor)).contains("repeat the same filters"));
    let elsewhere = ListQuery { namespace: Namespace::parse("other").unwrap(), ..with(&["x", "y"], &cursor) };
    assert!(problem(&elsewhere).contains("repeat the same filters"));
    for bad in ["", "x", "00000000", "00000000.", "zzzzzzzz.a1", "é0000000.a", "0.a"] {
        assert!(problem(&with(&["x", "y"], bad)).contains("is not a cursor"), "{bad}");
    }
}

#[test]
fn listed_agents_are_the_stored_ones() {
    let registry = sample();
    let page = registry.list(&all()).unwrap();
    let stored = registry.get(&Namespace::default(), "a").unwrap();
    assert!(Arc::ptr_eq(&page.agents[0], stored));
}
