//! Facts about what meaning and factors do to the order of agents.

use std::collections::HashMap;
use std::sync::Arc;

use super::fixtures::{AgentBuilder, agent, registry};
use super::{Factor, Hit, Registry, SearchQuery};
use crate::change::Committed;
use crate::ids::AgentId;
use crate::time::Timestamp;

fn query(text: &str) -> SearchQuery {
    SearchQuery { query: text.into(), limit: 50, ..SearchQuery::default() }
}

fn hits(registry: &Registry, query: &SearchQuery) -> Vec<Hit> {
    registry.search(query).unwrap().hits
}

fn found(registry: &Registry, query: &SearchQuery) -> Vec<String> {
    hits(registry, query).iter().map(|hit| hit.agent.spec.id.to_string()).collect()
}

fn roster() -> Vec<AgentBuilder> {
    vec![
        agent("vehicle-mechanic").name("Vehicle mechanic").description("Repairs automobiles and engines"),
        agent("baker").name("Baker").description("Makes bread and pastry"),
        agent("poet").name("Poet").description("Writes verses about mountains"),
        agent("dba").name("Database administrator").description("Keeps Postgres tables and indexes healthy"),
        agent("lawyer").name("Lawyer").description("Reads agreements before they are signed"),
        agent("gardener").name("Gardener").description("Prunes roses and waters the lawn"),
    ]
}

#[cfg(feature = "embedding")]
#[test]
fn an_agent_is_found_by_what_is_meant_and_the_reason_says_so() {
    let registry = registry(roster());
    for (text, id) in [("my car is broken", "vehicle-mechanic"), ("review a contract", "lawyer"), ("cake", "baker")] {
        let hits = hits(&registry, &query(text));
        assert_eq!(hits[0].agent.spec.id.as_str(), id, "{text}");
        assert!(hits[0].reason.starts_with("similar 0."), "{}", hits[0].reason);
    }
    // Where words tell it, they come first.
    let hits = hits(&registry, &query("postgres indexes"));
    assert_eq!(hits[0].agent.spec.id.as_str(), "dba");
    assert!(hits[0].reason.starts_with("\"postgres indexes\" in description"), "{}", hits[0].reason);
}

#[cfg(feature = "embedding")]
#[test]
fn filters_hold_for_what_is_similar_too() {
    let mut registry = registry(roster());
    let disabled = agent("vehicle-mechanic").description("Repairs automobiles and engines").disabled().revision(2);
    registry.apply(disabled.committed(), Timestamp(0));
    assert!(!found(&registry, &query("my car is broken")).contains(&"vehicle-mechanic".to_owned()));
    let all = SearchQuery { include_disabled: true, ..query("my car is broken") };
    assert_eq!(found(&registry, &all)[0], "vehicle-mechanic");
}

#[cfg(feature = "embedding")]
#[test]
fn instructions_count_less_than_what_an_agent_is_for() {
    let registry = registry([
        agent("a").description("Bakes bread").instructions("If the car does not start, repair the engine first."),
        agent("b").description("Repairs the engine of a car").instructions("Bread may be eaten meanwhile."),
    ]);
    assert_eq!(found(&registry, &query("automobile workshop"))[0], "b");
    assert_eq!(found(&registry, &query("bread"))[0], "a");
}

#[cfg(feature = "embedding")]
#[test]
fn agents_that_are_read_later_are_found_by_meaning_too() {
    let mut registry = Registry::new();
    for agent in roster() {
        registry.apply_unread(agent.committed(), Timestamp(0));
    }
    assert!(hits(&registry, &query("my car is broken")).is_empty());
    let read: Vec<_> = registry.unread(99).into_iter().map(|a| super::Prepared::new(Committed::Agent(a))).collect();
    registry.make_searchable(&read);
    assert_eq!(found(&registry, &query("my car is broken"))[0], "vehicle-mechanic");
}

fn factors(list: &[(&str, f32)]) -> Arc<HashMap<AgentId, Factor>> {
    let factor = |(id, times): &(&str, f32)| {
        (AgentId::from_stored(*id), Factor { times: *times, reason: format!("{id} did well").into() })
    };
    Arc::new(list.iter().map(factor).collect())
}

#[test]
fn a_factor_decides_between_equals_and_is_told() {
    let registry = registry(["a", "b", "c"].map(|id| agent(id).name("x").description("cleans csv files")));
    assert_eq!(found(&registry, &query("csv files")), ["a", "b", "c"]);
    let moved = SearchQuery { factors: factors(&[("a", 0.9), ("c", 1.1), ("gone", 1.1)]), ..query("csv files") };
    let hits = hits(&registry, &moved);
    assert_eq!(hits.iter().map(|hit| hit.agent.spec.id.as_str()).collect::<Vec<_>>(), ["c", "b", "a"]);
    assert!(hits[0].reason.ends_with("; c did well"), "{}", hits[0].reason);
    assert!(!hits[1].reason.contains("did well"), "{}", hits[1].reason);
    assert!(hits[0].score > hits[1].score && hits[0].score < 0.86);
}

#[test]
fn no_factor_buries_an_exact_hit_or_reaches_far() {
    let registry = registry([
        agent("csv").name("One").description("nothing"),
        agent("b").name("CSV").description("nothing"),
        agent("csv-best").name("Two").description("csv csv"),
        agent("d").name("csv csv csv").description("csv csv csv").tags(&["csv"]),
        agent("e").name("Three").description("a long description in which somewhere csv occurs among many other words"),
    ]);
    let far = [("csv", 0.0), ("b", -5.0), ("csv-best", 0.1), ("d", f32::NAN), ("e", 1_000.0)];
    let moved = SearchQuery { factors: factors(&far), ..query("csv") };
    assert_eq!(found(&registry, &moved), ["csv", "b", "csv-best", "d", "e"]);
    let hits = hits(&registry, &moved);
    assert!(hits.iter().all(|hit| hit.score > 0.0 && hit.score <= 1.0));
}
