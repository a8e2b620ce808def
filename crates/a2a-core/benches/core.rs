//! The registry in memory: get, list and search. Run it with `cargo xtask bench core`.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a benchmark prints, and ends when something does not hold"
)]

#[path = "bench/roster.rs"]
mod roster;
#[path = "bench/table.rs"]
mod table;

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use a2a_core::agent::Agent;
use a2a_core::change::Committed;
use a2a_core::ids::{Actor, AgentId, Namespace};
use a2a_core::registry::{Filters, ListQuery, Registry, SearchQuery};
use a2a_core::time::Timestamp;

use roster::Random;
use table::{Aim, Asked, Figure, Table, median, percentile, resident_bytes};

const GET_MOST: Duration = Duration::from_nanos(200);
const SEARCH_MOST: Duration = Duration::from_micros(500);

fn main() {
    let Some(asked) = Asked::from_args() else { return };
    let mut table = Table::new(
        "core",
        "one thread, in process; floor of get: the same ids in a std HashMap; p50 of single calls, get of rounds of 10,000",
    );
    let sizes: &[usize] = if asked.quick { &[1_000, 20_000] } else { &[1_000, 100_000] };
    for size in sizes {
        measure(&mut table, *size, if asked.quick { 300 } else { 2_000 });
    }
    table.finish();
}

fn measure(table: &mut Table, size: usize, times: usize) {
    let agents: Vec<Arc<Agent>> = (0..size).map(agent).collect();
    let ids: Vec<AgentId> = agents.iter().map(|agent| agent.spec.id.clone()).collect();
    let floor: HashMap<AgentId, Arc<Agent>> =
        agents.iter().map(|agent| (agent.spec.id.clone(), Arc::clone(agent))).collect();
    let before = resident_bytes();
    let start = Instant::now();
    let mut registry = Registry::new();
    for agent in agents {
        registry.apply(Committed::Agent(agent), Timestamp(0));
    }
    let built = start.elapsed();
    let indices = (resident_bytes() - before) / size as f64;

    get(table, &registry, &floor, &ids);
    let aim = |limit| if size >= 20_000 { Aim::Within(limit) } else { Aim::None };
    let list = |filters: Filters| {
        let query = ListQuery { filters, limit: 20, ..ListQuery::default() };
        registry.list(&query).unwrap().agents.len()
    };
    let mut random = Random::new(7);
    let category = |i: usize| Some(format!("category-{}", i % roster::CATEGORIES));
    let took = samples(times, |i| list(Filters { category: category(i), ..Filters::default() }));
    table.row(format!("list by category, {size} agents"), None, Figure::Time(median(&took)), Aim::None);
    let took = samples(times, |i| {
        let tags_any = vec![format!("tag-{}", i % 50)];
        list(Filters { category: category(i), tags_any, ..Filters::default() })
    });
    table.row(format!("list by category and tag, {size} agents"), None, Figure::Time(median(&took)), Aim::None);

    let mut search = |what: &str, text: &mut dyn FnMut(&mut Random) -> String| {
        let queries: Vec<SearchQuery> =
            (0..times).map(|_| SearchQuery { query: text(&mut random), limit: 10, ..SearchQuery::default() }).collect();
        let took = samples(times, |i| registry.search(&queries[i]).unwrap().total);
        table.row(format!("search, {what}, {size} agents"), None, Figure::Time(median(&took)), aim(SEARCH_MOST));
        table.row(format!("search, {what}, {size} agents, p99"), None, Figure::Time(percentile(&took, 99)), Aim::None);
    };
    search("1 word", &mut |random| random.text(1));
    search("3 words", &mut |random| random.text(3));
    search("8 words", &mut |random| random.text(8));
    search("3 words of any frequency", &mut |random| {
        (0..3).map(|_| roster::word(random.below(roster::VOCABULARY))).collect::<Vec<_>>().join(" ")
    });
    search("a word with a slip", &mut |random| {
        let mut text = roster::word(1_000 + random.below(roster::VOCABULARY - 1_000));
        text.insert(3, 'x');
        text
    });
    table.row(
        format!("put of one agent, {size} agents"),
        None,
        Figure::Time(built / u32::try_from(size).unwrap()),
        Aim::None,
    );
    table.row(format!("memory of the indices per agent, {size} agents"), None, Figure::Bytes(indices), Aim::None);
}

fn agent(number: usize) -> Arc<Agent> {
    let time = Timestamp(1_700_000_000_000);
    Arc::new(Agent {
        spec: roster::spec(number, 0),
        revision: 1,
        created_at: time,
        updated_at: time,
        deployed_at: time,
        updated_by: Actor::new("bench"),
    })
}

/// Gets take less than reading the clock does, so that many are timed together.
fn get(table: &mut Table, registry: &Registry, floor: &HashMap<AgentId, Arc<Agent>>, ids: &[AgentId]) {
    const ROUND: u32 = 10_000;
    let namespace = Namespace::default();
    let mut random = Random::new(1);
    let (mut floors, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..41 {
        let picks: Vec<&str> = (0..ROUND).map(|_| ids[random.below(ids.len())].as_str()).collect();
        let start = Instant::now();
        for id in &picks {
            black_box(floor.get(*id).map(|agent| agent.revision));
        }
        floors.push(start.elapsed() / ROUND);
        let start = Instant::now();
        for id in &picks {
            black_box(registry.get(&namespace, id).map(|agent| agent.revision));
        }
        ours.push(start.elapsed() / ROUND);
    }
    table.row(
        format!("get by id, {} agents", ids.len()),
        Some(Figure::Time(median(&floors))),
        Figure::Time(median(&ours)),
        Aim::Within(GET_MOST),
    );
}

fn samples(times: usize, mut work: impl FnMut(usize) -> usize) -> Vec<Duration> {
    (0..times)
        .map(|i| {
            let start = Instant::now();
            black_box(work(i));
            start.elapsed()
        })
        .collect()
}
