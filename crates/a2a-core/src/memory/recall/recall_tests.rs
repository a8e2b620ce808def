//! What is recalled, in which order and why.

use super::fixtures::{DAY, NOW, ids, index, memory, query};
use super::*;
use crate::memory::{MemoryType, Trust};

fn filtered(filters: MemoryFilters) -> RecallQuery {
    RecallQuery { filters, ..query("deploy") }
}

#[test]
fn a_fact_is_recalled_by_its_words_with_the_reason() {
    let index = index(vec![
        memory("mem-aaa", "We deploy only on Tuesdays").tags(&["release"]).days_ago(3),
        memory("mem-bbb", "The cat is black"),
    ]);
    let page = index.recall(&query("deploying on tuesday")).unwrap();
    assert_eq!(ids(&page)[0], "mem-aaa");
    assert!(page.hits[0].reason.contains("\"deploying tuesday\" in content"), "{}", page.hits[0].reason);
    assert!(page.hits[0].reason.ends_with("3 days ago"), "{}", page.hits[0].reason);
    assert!(page.hits[0].score < 0.9 && page.hits[0].score > 0.3);
}

#[cfg(feature = "embedding")]
#[test]
fn a_fact_is_recalled_by_its_meaning() {
    let index = index(vec![
        memory("mem-aaa", "We release the software only on Tuesdays"),
        memory("mem-bbb", "The cat likes fish"),
        memory("mem-ccc", "Grandmother bakes apple cake"),
    ]);
    let page = index.recall(&query("deployment schedule")).unwrap();
    assert_eq!(ids(&page)[0], "mem-aaa");
    assert!(page.hits[0].reason.contains("similar 0."), "{}", page.hits[0].reason);
}

#[test]
fn ids_keys_and_exact_phrases_stand_above_everything() {
    let index = index(vec![
        memory("mem-abcdef", "nothing to do with it"),
        memory("mem-keyed", "deploys are on Thursday").with(|spec| spec.key = Some("deploy day".into())),
        memory("mem-phrase", "somebody once asked what the deploy day of rust is").days_ago(900),
        memory("mem-words", "deploy day deploy day, the day to deploy: deploy every day").with(|s| s.importance = 1.0),
        memory("mem-again", "day of deploy"),
    ]);
    let top = |text: &str| ids(&index.recall(&query(text)).unwrap())[0].to_owned();
    assert_eq!(top("mem-abcdef"), "mem-abcdef");
    assert_eq!(top("mem-abc"), "mem-abcdef");
    assert_eq!(top("Deploy Day"), "mem-keyed");
    assert_eq!(top("deploy day of Rust"), "mem-phrase");
    assert_eq!(top("tell me about the \"deploy day of rust\""), "mem-phrase");
    assert_eq!(top("\"day of deploy\""), "mem-again");
    assert!(index.recall(&query("deploy day of rust")).unwrap().hits[0].reason.starts_with("exact phrase"));
}

#[test]
fn superseded_and_expired_memories_are_out_of_recall_unless_asked_for() {
    let index = index(vec![
        memory("mem-new", "deploy on Thursday"),
        memory("mem-old", "deploy on Tuesday").superseded_by("mem-new"),
        memory("mem-due", "deploy the demo").expires_in_days(0),
        memory("mem-yet", "deploy the test").expires_in_days(1),
    ]);
    let mut found: Vec<String> = ids(&index.recall(&query("deploy")).unwrap()).into_iter().map(str::to_owned).collect();
    found.sort();
    assert_eq!(found, ["mem-new", "mem-yet"]);
    let all = MemoryFilters { include_superseded: true, include_expired: true, ..MemoryFilters::default() };
    assert_eq!(index.recall(&filtered(all)).unwrap().total, 4);
    let later = RecallQuery { now: Timestamp(NOW.0 + DAY), ..query("deploy") };
    assert_eq!(index.recall(&later).unwrap().total, 1);
    assert_eq!(index.expired(NOW, 10), [MemoryId::from_stored("mem-due")]);
    // A superseded memory is still found by its id, in history.
    assert!(index.get("mem-old").is_some());
}

#[test]
fn filters_hold_alone_and_together() {
    let index = index(vec![
        memory("mem-a", "deploy a").tags(&["Ops", "eu"]).agent("ops-bot").days_ago(10),
        memory("mem-b", "deploy b").tags(&["ops"]).agent("Ops-bot").kind(MemoryType::Episodic).days_ago(2),
        memory("mem-c", "deploy c").turn("s1", 1).run("run-1").with(|spec| spec.user = Some("ann".into())),
        memory("mem-d", "deploy d").trust(Trust::External).with(|spec| spec.importance = 0.9),
    ]);
    let found = |filters: MemoryFilters| {
        let mut found: Vec<String> =
            ids(&index.recall(&filtered(filters.clone())).unwrap()).into_iter().map(str::to_owned).collect();
        found.sort();
        let list = index.list(&MemoryListQuery { filters, limit: 10, now: NOW, ..MemoryListQuery::default() }).unwrap();
        let mut listed: Vec<String> = list.memories.iter().map(|m| m.id.to_string()).collect();
        listed.sort();
        assert_eq!((&found, found.len()), (&listed, list.total));
        found.join(" ")
    };
    let default = MemoryFilters::default;
    let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    assert_eq!(found(default()), "mem-a mem-b mem-c mem-d");
    assert_eq!(found(MemoryFilters { tags_any: texts(&["OPS"]), ..default() }), "mem-a mem-b");
    assert_eq!(found(MemoryFilters { tags_all: texts(&["ops", "eu"]), ..default() }), "mem-a");
    assert_eq!(found(MemoryFilters { tags_none: texts(&["eu"]), ..default() }), "mem-b mem-c mem-d");
    assert_eq!(found(MemoryFilters { agent: Some("ops-bot".into()), ..default() }), "mem-a");
    assert_eq!(found(MemoryFilters { session: Some("s1".into()), ..default() }), "mem-c");
    assert_eq!(found(MemoryFilters { user: Some("ann".into()), run: Some("run-1".into()), ..default() }), "mem-c");
    assert_eq!(found(MemoryFilters { types: vec![MemoryType::Episodic], ..default() }), "mem-b");
    assert_eq!(found(MemoryFilters { importance_min: Some(0.8), ..default() }), "mem-d");
    assert_eq!(found(MemoryFilters { trust_min: Some(Trust::Agent), importance_min: Some(0.8), ..default() }), "");
    let from = Timestamp(NOW.0 - 5 * DAY);
    assert_eq!(found(MemoryFilters { since: Some(from), until: Some(Timestamp(NOW.0 - DAY)), ..default() }), "mem-b");
    assert_eq!(found(MemoryFilters { until: Some(from), ..default() }), "mem-a");
}

#[test]
fn pages_follow_each_other_though_time_goes_on() {
    let memories = (0..45).map(|i| memory(&format!("mem-{i:03}"), &format!("deploy number {i}")).days_ago(i * 7 % 40));
    let index = index(memories.collect());
    let whole = index.recall(&RecallQuery { limit: 200, ..query("deploy number") }).unwrap();
    assert_eq!((whole.hits.len(), whole.total, &whole.next_cursor), (45, 45, &None));
    let mut paged = Vec::new();
    let mut cursor = None;
    for page in 0.. {
        let later = Timestamp(NOW.0 + page * 20 * DAY);
        let page = index.recall(&RecallQuery { limit: 10, cursor, now: later, ..query("deploy number") }).unwrap();
        assert_eq!(page.total, 45);
        paged.extend(page.hits.iter().map(|hit| hit.memory.id.clone()));
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(paged, whole.hits.iter().map(|hit| hit.memory.id.clone()).collect::<Vec<_>>());
    let foreign = index.recall(&query("deploy")).unwrap();
    assert!(foreign.next_cursor.is_some());
    let error = index.recall(&RecallQuery { cursor: foreign.next_cursor, ..query("other") }).unwrap_err();
    assert!(error.to_string().contains("other filters"), "{error}");
}

#[test]
fn a_list_goes_through_everything_from_the_newest() {
    let index = index((0..25).map(|i| memory(&format!("mem-{i:03}"), "x").days_ago(i % 5)).collect());
    let mut listed = Vec::new();
    let mut cursor = None;
    loop {
        let page = index.list(&MemoryListQuery { limit: 7, cursor, now: NOW, ..MemoryListQuery::default() }).unwrap();
        assert_eq!(page.total, 25);
        listed.extend(page.memories.iter().map(|m| (std::cmp::Reverse(m.created_at), m.id.clone())));
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(listed.len(), 25);
    assert!(listed.is_sorted());
}

#[test]
fn the_time_that_a_question_names_decides_between_equals() {
    let index = index((1..60).map(|i| memory(&format!("mem-{i:03}"), "standup of the team").days_ago(i)).collect());
    let top = |text: &str| ids(&index.recall(&query(text)).unwrap())[0].to_owned();
    assert_eq!(top("standup yesterday"), "mem-001");
    assert_eq!(top("standup 30 days ago"), "mem-029");
    assert_eq!(top("standup"), "mem-001");
}

#[test]
fn turns_lend_weight_to_their_neighbours_and_are_read_in_order() {
    let index = index(vec![
        memory("mem-3", "user: for sixteen people then").turn("s", 3),
        memory("mem-1", "user: I plan the anniversary in Ghent").turn("s", 1),
        memory("mem-2", "assistant: a canal cruise in Ghent suits an anniversary").turn("s", 2),
        memory("mem-4", "user: the anniversary of something else").turn("other", 2),
    ]);
    let page = index.recall(&query("anniversary Ghent")).unwrap();
    let neighbour =
        page.hits.iter().find(|hit| hit.memory.id.as_str() == "mem-3").expect("it is next to a turn that fits");
    assert!(neighbour.reason.contains("next to a turn that fits"), "{}", neighbour.reason);
    let turns = |limit, cursor| {
        index.turns(&TurnQuery { session: "s".into(), limit, cursor, now: NOW, ..TurnQuery::default() }).unwrap()
    };
    let latest = turns(2, None);
    assert_eq!(latest.turns.iter().map(|m| m.id.as_str()).collect::<Vec<_>>(), ["mem-2", "mem-3"]);
    let earlier = turns(2, latest.next_cursor);
    assert_eq!(earlier.turns.iter().map(|m| m.id.as_str()).collect::<Vec<_>>(), ["mem-1"]);
    assert_eq!((earlier.total, earlier.next_cursor), (3, None));
}

#[test]
fn an_older_revision_never_comes_back() {
    let mut index = index(vec![memory("mem-a", "second").revision(2)]);
    let put = |revision, text: &str| CommittedMemory::Memory(memory("mem-a", text).revision(revision).build());
    assert!(!index.apply(put(1, "first"), NOW) && !index.apply(put(2, "twin"), NOW));
    assert!(index.apply(CommittedMemory::Removed(MemoryId::from_stored("mem-a"), 3), NOW));
    assert!(!index.apply(put(3, "late"), NOW));
    assert!(index.is_empty() && index.recall(&query("second")).unwrap().total == 0);
    assert!(index.apply(put(4, "again"), NOW));
    assert_eq!(index.known_revision("mem-a"), Some(4));
}

#[test]
fn the_same_and_the_nearly_same_are_noticed() {
    let mut index = index(vec![memory("mem-a", "The storefront is deployed on Tuesdays"), memory("mem-b", "x y z")]);
    let told = memory("mem-c", "The storefront is deployed on  Tuesdays").build();
    let same =
        |index: &MemoryIndex| index.same(&Namespace::default(), &told.content_hash, NOW).map(|m| m.id.to_string());
    assert_eq!(same(&index).as_deref(), Some("mem-a"));
    if crate::embedding::is_available() {
        let near = index.near(
            &Namespace::default(),
            &Reading::of_memory(&memory("mem-d", "On Tuesdays the storefront is deployed.").build().spec),
            NOW,
            3,
        );
        assert_eq!(near.iter().map(|(m, _)| m.id.as_str()).collect::<Vec<_>>(), ["mem-a"]);
    }
    index.apply(CommittedMemory::Removed(MemoryId::from_stored("mem-a"), 9), NOW);
    assert_eq!(same(&index), None);
}

#[test]
fn what_was_taken_over_before_is_known_again() {
    let told = |days| Some(Timestamp(NOW.0 - days * DAY));
    let index = index(vec![
        memory("mem-old", "Tuesdays").days_ago(3).superseded_by("mem-mid"),
        memory("mem-mid", "Thursdays").days_ago(2).superseded_by("mem-new"),
        memory("mem-new", "Tuesdays").days_ago(1),
        memory("mem-over", "Sundays").days_ago(1).expires_in_days(-1),
        memory("mem-yes", "yes").turn("s", 1),
    ]);
    let known = |text: &str, told_at| {
        let memory = if text == "yes" { memory("mem-x", text).turn("s", 0) } else { memory("mem-x", text) };
        let found = index.taken_over(&Namespace::default(), &memory.build().content_hash, told_at, NOW);
        found.map(|memory| memory.id.to_string())
    };
    // The time tells which of two it is; otherwise the live one says it.
    assert_eq!(known("Tuesdays", told(3)).as_deref(), Some("mem-old"));
    for told_at in [None, told(1), told(9)] {
        assert_eq!(known("Tuesdays", told_at).as_deref(), Some("mem-new"));
    }
    // What was superseded may be said again, but not by a file that does not say when.
    assert_eq!(known("Thursdays", told(2)).as_deref(), Some("mem-mid"));
    assert_eq!(known("Thursdays", None).as_deref(), Some("mem-mid"));
    assert_eq!(known("Thursdays", told(9)), None);
    assert_eq!(known("yes", told(9)), None);
    assert_eq!(known("yes", Some(Timestamp(NOW.0 - DAY + 60_000))).as_deref(), Some("mem-yes"));
    assert_eq!((known("Sundays", None), known("Mondays", None)), (None, None));
}

#[test]
fn the_least_worth_are_evicted_down_to_the_limit() {
    let index = index(
        (0..10)
            .map(|i| memory(&format!("mem-{i}"), "x").with(|spec| spec.importance = i as f32 / 10.0).agent("a"))
            .collect(),
    );
    let evicted = |agent, limit, count| {
        let ids = index.to_evict(&Namespace::default(), agent, limit, count, NOW);
        ids.iter().map(|id| id.as_str().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(evicted(Some("a"), 9, 0), ["mem-0"]);
    assert_eq!(evicted(None, 9, 2), ["mem-0", "mem-1", "mem-2"]);
    assert_eq!(evicted(Some("a"), 10, 0), Vec::<String>::new());
    assert_eq!(evicted(Some("b"), 0, 5), Vec::<String>::new());
}

#[test]
fn what_a_model_has_read_is_ranked_beside_what_it_has_not() {
    let direction = |towards: usize| {
        let direction: Vec<f32> = (0..64).map(|place| if place == towards { 1.0 } else { 0.05 }).collect();
        ModelVector::of(&direction).unwrap()
    };
    let mut index = MemoryIndex::new();
    for (id, text) in [
        ("mem-a", "the quarterly figures are due"),
        ("mem-b", "who feeds the goldfish"),
        ("mem-c", "our vehicle needs repair"),
        ("mem-d", "potatoes with cream"),
    ] {
        index.apply(CommittedMemory::Memory(memory(id, text).build()), NOW);
    }
    // The model knows that the fish means the car; the table does not, and the last two are known to the table alone.
    assert!(index.set_model_vector("mem-a", &direction(1)) && index.set_model_vector("mem-b", &direction(0)));
    let asked = RecallQuery { meaning: Some(Arc::new(direction(0))), ..query("the car is broken") };
    let ids = |query: &RecallQuery| -> Vec<String> {
        index.recall(query).unwrap().hits.iter().map(|hit| hit.memory.id.to_string()).collect()
    };
    let mixed = ids(&asked);
    assert_eq!(mixed.iter().take(2).filter(|id| ["mem-b", "mem-c"].contains(&id.as_str())).count(), 2, "{mixed:?}");
    let hit = index.recall(&asked).unwrap().hits.into_iter().find(|hit| hit.memory.id.as_str() == "mem-b").unwrap();
    assert!(hit.similarity.unwrap() > 0.99, "the cosine by the model is told");
    // A vector of another model is as good as none.
    let other =
        RecallQuery { meaning: Some(Arc::new(ModelVector::of(&[1.0; 32]).unwrap())), ..query("the car is broken") };
    assert_eq!(index.recall(&other), index.recall(&query("the car is broken")));
}
