//! Facts about what search finds and in which order.

use super::fixtures::{AgentBuilder, agent, key, registry};
use super::{AgentRanking, Filters, Hit, Registry, SearchQuery};
use crate::change::Committed;
use crate::limits::PAGE_ROWS_MAX;
use crate::time::Timestamp;

/// By words alone: what meaning adds has tests of its own.
fn query(text: &str) -> SearchQuery {
    let ranking = AgentRanking::WORDS_ALONE;
    SearchQuery { query: text.into(), limit: PAGE_ROWS_MAX, ranking, ..SearchQuery::default() }
}

fn hits(registry: &Registry, query: &SearchQuery) -> Vec<Hit> {
    let page = registry.search(query).unwrap();
    assert_eq!(page.total, page.hits.len());
    assert!(page.hits.iter().all(|hit| hit.score > 0.0 && hit.score <= 1.0));
    assert!(page.hits.is_sorted_by(|a, b| (b.score, &a.agent.spec.id) < (a.score, &b.agent.spec.id)));
    page.hits
}

fn found(registry: &Registry, text: &str) -> Vec<String> {
    hits(registry, &query(text)).iter().map(|hit| hit.agent.spec.id.to_string()).collect()
}

fn reasons(registry: &Registry, text: &str) -> Vec<String> {
    hits(registry, &query(text)).into_iter().map(|hit| hit.reason).collect()
}

/// Agents about something else, so that words of the tests are as rare as in a real registry.
fn among_others(agents: impl IntoIterator<Item = AgentBuilder>) -> Registry {
    let others = (0..30).map(|i| {
        agent(&format!("other-{i}")).description("Writes poems about mountains").instructions("Rhyme, then breathe.")
    });
    registry(agents.into_iter().chain(others))
}

#[test]
fn an_exact_id_or_name_comes_first_whatever_the_words_say() {
    let registry = among_others([
        agent("sql").name("Other").description("nothing"),
        agent("z").name("SQL"),
        agent("best").name("sql sql").tags(&["sql"]).description("sql sql sql").category("sql"),
        agent("sql-tuner"),
    ]);
    assert_eq!(found(&registry, " Sql "), ["sql", "z", "sql-tuner", "best"]);
    let reasons = reasons(&registry, "Sql");
    assert_eq!(reasons[..3], ["exact id", "exact name", "id begins with Sql"]);
    let hits = hits(&registry, &query("sql"));
    assert_eq!(hits[0].score, 1.0);
}

#[test]
fn the_beginning_of_an_id_counts_in_any_case_and_only_when_it_singles_out() {
    let registry = among_others([agent("Invoice-Reader").name("x"), agent("w").name("inv").description("inv inv")]);
    assert_eq!(found(&registry, "INVOICE-re"), ["Invoice-Reader"]);
    assert_eq!(reasons(&registry, "invo"), ["id begins with invo"]);
    // One more than the beginnings that are told apart.
    for (agents, reason) in [(200, "id begins with agent-"), (201, "agent in name")] {
        let registry = super::fixtures::registry((0..agents).map(|i| agent(&format!("agent-{i}")).name("n")));
        let page = registry.search(&query("agent-")).unwrap();
        assert_eq!((page.total, page.hits[0].reason.as_str()), (agents, reason));
    }
}

#[test]
fn fields_weigh_in_their_order() {
    let word = "ledger";
    let registry = among_others([
        agent("f").instructions(word),
        agent("e").category(word),
        agent("d").capability("x", "", &[word]),
        agent("c").capability(word, "", &[]),
        agent("b").tags(&[word]),
        agent("a").name("Our ledger agent"),
    ]);
    assert_eq!(found(&registry, "ledgers"), ["a", "b", "c", "d", "e", "f"]);
    let reasons = reasons(&registry, "ledgers");
    let fields = ["name", "tags", "capabilities", "examples", "category", "instructions"];
    assert_eq!(reasons, fields.map(|field| format!("ledgers in {field}")));
}

#[test]
fn a_name_beats_any_number_of_mentions_in_instructions() {
    let registry = among_others([
        agent("a").instructions(&"kubernetes cluster ".repeat(200)),
        agent("b").name("Kubernetes Expert"),
    ]);
    assert_eq!(found(&registry, "kubernetes"), ["b", "a"]);
}

#[test]
fn rare_words_weigh_more_than_frequent_ones() {
    let registry = among_others([
        agent("a").description("mountains terraform"),
        agent("b").description("mountains poems mountains poems"),
    ]);
    assert_eq!(found(&registry, "poems mountains terraform")[0], "a");
}

#[test]
fn inflections_are_found() {
    let registry = among_others([agent("a").description("optimizes databases")]);
    assert_eq!(found(&registry, "optimizing the database"), ["a"]);
    assert_eq!(reasons(&registry, "optimizing the database"), [r#""optimizing database" in description"#]);
}

#[test]
fn slips_are_tolerated_when_nothing_else_matches() {
    let registry = among_others([
        agent("a").description("tuning of engines").name("Kubernetes"),
        agent("b").description("tuna").tags(&["rust"]),
    ]);
    assert_eq!(reasons(&registry, "tunning"), ["tunning≈tuning in description"]);
    assert_eq!(reasons(&registry, "kubrentes"), ["kubrentes≈kubernetes in name"]);
    // Three characters allow no slip, seven only one, and a word that is known as it stands needs none.
    assert_eq!(found(&registry, "tna"), Vec::<String>::new());
    assert_eq!(found(&registry, "enginxx"), Vec::<String>::new());
    assert_eq!(found(&registry, "tuna"), ["b"]);
    assert_eq!(found(&registry, "tuns"), ["b"]);
}

#[test]
fn beginnings_of_words_count_less_than_words() {
    let registry = among_others([
        agent("a").description("postgres tables"),
        agent("b").description("post letters"),
        agent("c").description("Postfix mail"),
    ]);
    let all = found(&registry, "post");
    assert_eq!((all.len(), all[0].as_str()), (3, "b"));
    assert_eq!(reasons(&registry, "postg"), ["postg…postgres in description"]);
    // In the middle of a query, a known word is not taken for the beginning of another.
    assert_eq!(found(&registry, "post letters"), ["b"]);
}

#[test]
fn stop_words_matter_only_when_there_is_nothing_else() {
    let registry = among_others([agent("a").name("The Who"), agent("b").description("who are the best singers")]);
    assert_eq!(found(&registry, "the who"), ["a"]);
    assert_eq!(found(&registry, "who is the"), ["a"]);
    assert_eq!(found(&registry, "the singers who"), ["b"]);
}

#[test]
fn signs_case_and_scripts_are_understood() {
    let registry = among_others([
        agent("a").description("writes C++ and C#"),
        agent("b").description("targets .NET only"),
        agent("c").description("数据库 管理"),
        agent("d").name("CsvParser"),
        agent("e").description("ÜBERSETZUNG"),
        agent("f").description("JavaScript bundles"),
    ]);
    for (text, id) in [
        ("c++", "a"),
        ("C#", "a"),
        (".net", "b"),
        ("net", "b"),
        ("数据", "c"),
        ("parser csv", "d"),
        ("csvparser", "d"),
        ("csvParser", "d"),
        ("übersetzung", "e"),
        ("javascript", "f"),
        ("script", "f"),
        ("javaScripts", "f"),
    ] {
        assert_eq!(found(&registry, text), [id], "{text}");
    }
}

#[test]
fn deprecated_agents_rank_lower_and_say_so() {
    let registry = among_others([
        agent("old").name("CSV reader").tags(&["csv"]).deprecated(Some("new")),
        agent("new").description("reads csv"),
        agent("odd").description("csv").deprecated(None),
    ]);
    assert_eq!(found(&registry, "csv"), ["new", "old", "odd"]);
    assert_eq!(
        reasons(&registry, "csv")[1..],
        ["deprecated, use new; csv in name, tags", "deprecated; csv in description"]
    );
    assert_eq!(reasons(&registry, "old")[0], "deprecated, use new; exact id");
    let without = Filters { deprecated: Some(false), ..Filters::default() };
    assert_eq!(hits(&registry, &SearchQuery { filters: without, ..query("csv") }).len(), 1);
}

#[test]
fn disabled_agents_are_found_only_when_asked_for() {
    let registry = among_others([agent("on").description("csv"), agent("off").description("csv").disabled()]);
    let ids = |query: &SearchQuery| {
        hits(&registry, query).iter().map(|hit| hit.agent.spec.id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&query("csv")), ["on"]);
    assert_eq!(ids(&query("off")), Vec::<String>::new());
    assert_eq!(ids(&SearchQuery { include_disabled: true, ..query("csv") }), ["off", "on"]);
    let disabled = Filters { enabled: Some(false), ..Filters::default() };
    assert_eq!(ids(&SearchQuery { filters: disabled, ..query("csv") }), ["off"]);
}

#[test]
fn filters_apply_to_hits_and_total() {
    let make = |i: usize| {
        let tags: &[&str] = if i.is_multiple_of(2) { &["even"] } else { &["odd"] };
        agent(&format!("a{i}")).description("csv").category(if i < 5 { "Low" } else { "high" }).tags(tags)
    };
    let registry = registry((0..10).map(make));
    let count = |filters| hits(&registry, &SearchQuery { filters, ..query("csv") }).len();
    assert_eq!(count(Filters { category: Some("low".into()), ..Filters::default() }), 5);
    assert_eq!(count(Filters { tags_any: vec!["Even".into()], ..Filters::default() }), 5);
    let both = Filters { tags_none: vec!["even".into()], category: Some("HIGH".into()), ..Filters::default() };
    assert_eq!(count(both), 3);
}

#[test]
fn reasons_group_words_and_stay_short() {
    let registry = among_others([agent("a")
        .name("Postgres doctor")
        .tags(&["postgres"])
        .capability("explain", "", &["why is this slow query slow"])
        .description("tuning")]);
    assert_eq!(
        reasons(&registry, "postgres slow query tunning"),
        [r#"postgres in name, tags; "slow query" in examples; tunning≈tuning in description"#]
    );
    let text = "tuning explain ".repeat(30) + &(0..30).map(|i| format!("postgres{i} ")).collect::<String>();
    assert!(reasons(&registry, &text).iter().all(|reason| reason.len() < 200));
}

#[test]
fn hits_come_in_pages_without_gap_or_double() {
    let registry = registry(
        (0..600).map(|i| agent(&format!("a{:03}", i * 7 % 600)).description(&"csv ".repeat(i % 3 + 1)).tags(&["t"])),
    );
    let whole: Vec<(String, f32)> = {
        let mut all = Vec::new();
        let mut cursor = None;
        loop {
            let page = registry.search(&SearchQuery { limit: 7, cursor: cursor.take(), ..query("csv") }).unwrap();
            assert_eq!(page.total, 600);
            all.extend(page.hits.iter().map(|hit| (hit.agent.spec.id.to_string(), hit.score)));
            assert!(all.len() <= 600, "the pages do not end");
            cursor = page.next_cursor;
            if cursor.is_none() {
                break all;
            }
        }
    };
    assert_eq!(whole.len(), 600);
    assert!(whole.is_sorted_by(|a, b| (b.1, &a.0) < (a.1, &b.0)));
    let page = registry.search(&SearchQuery { limit: 7, ..query("csv") }).unwrap();
    let cursor = page.next_cursor;
    let problems = registry.search(&SearchQuery { cursor: cursor.clone(), ..query("csv files") }).unwrap_err();
    assert_eq!(problems.0[0].path, "cursor");
    assert!(registry.search(&SearchQuery { cursor: Some("00".into()), ..query("csv") }).is_err());
    let next = registry.search(&SearchQuery { limit: 3, cursor, ..query(" csv") }).unwrap();
    assert_eq!(next.hits[0].agent.spec.id.as_str(), whole[7].0);
}

#[test]
fn changed_agents_are_found_by_their_new_words_only() {
    let mut registry = among_others([agent("a").description("csv").tags(&["old"])]);
    registry.apply(agent("a").description("parquet").revision(2).committed(), Timestamp(0));
    assert_eq!(found(&registry, "csv old"), Vec::<String>::new());
    assert_eq!(found(&registry, "parquet"), ["a"]);
    registry.apply(Committed::Removed(key("a"), 3), Timestamp(0));
    assert_eq!(found(&registry, "parquet"), Vec::<String>::new());
    assert_eq!(found(&registry, "a"), Vec::<String>::new());
}

#[test]
fn queries_without_words_find_nothing_but_names() {
    let registry = among_others([agent("a").name("!!!")]);
    assert_eq!(found(&registry, ""), Vec::<String>::new());
    assert_eq!(found(&registry, "?"), Vec::<String>::new());
    assert_eq!(found(&registry, "!!!"), ["a"]);
    assert_eq!(found(&Registry::new(), "csv"), Vec::<String>::new());
}

#[test]
fn very_long_queries_are_answered() {
    let registry = among_others([agent("a").description("csv")]);
    let text: String = (0..2_000).map(|i| format!("word{i} ")).collect();
    assert_eq!(found(&registry, &format!("csv {text}")), ["a"]);
    assert_eq!(found(&registry, &"é".repeat(5_000)), Vec::<String>::new());
}
