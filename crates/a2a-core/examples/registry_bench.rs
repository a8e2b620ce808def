//! Measures the registry in memory: `cargo run --release -p a2a-core --example registry_bench [agents]`.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use a2a_core::agent::{Agent, AgentSpec, Capability, Deprecation, Executor};
use a2a_core::change::Committed;
use a2a_core::ids::{Actor, AgentId, Namespace};
use a2a_core::json_text::JsonText;
use a2a_core::registry::{Filters, ListQuery, Registry, SearchQuery};
use a2a_core::time::Timestamp;

/// Words are drawn from so many, the first ones far more often, as in natural text.
const VOCABULARY: usize = 20_000;

/// A small generator of numbers (xorshift), so that each run measures the same agents.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap_or(0) % end
    }

    /// About Zipf-distributed: rank 1 is twice as frequent as rank 2.
    fn zipf(&mut self, end: usize) -> usize {
        let uniform = self.below(1 << 30) as f64 / (1u64 << 30) as f64;
        ((end as f64).powf(uniform) - 1.0) as usize
    }

    fn word(&mut self) -> String {
        let rank = self.zipf(VOCABULARY);
        word(rank)
    }

    fn text(&mut self, words: usize) -> String {
        (0..words).map(|_| self.word()).collect::<Vec<_>>().join(" ")
    }
}

/// A made-up word that is always the same for one rank.
fn word(rank: usize) -> String {
    const SYLLABLES: [&str; 30] = [
        "ka", "to", "ri", "mo", "ne", "sul", "ver", "dat", "pro", "lin", "gra", "fe", "con", "ter", "bas", "qui", "lo",
        "par", "mi", "des", "tra", "cor", "al", "en", "vi", "sta", "pe", "nu", "hos", "ju",
    ];
    let mut rest = rank + 30;
    let mut word = String::new();
    while rest > 0 {
        word.push_str(SYLLABLES.get(rest % 30).copied().unwrap_or_default());
        rest /= 30;
    }
    word
}

fn agent(number: usize, random: &mut Random, instructions: usize) -> Option<Arc<Agent>> {
    let first = random.word();
    let second = random.word();
    let mut tags: Vec<Arc<str>> = (0..3).map(|_| Arc::from(format!("tag-{}", random.zipf(200)))).collect();
    tags.sort();
    tags.dedup();
    let capability = Capability {
        name: format!("{first}_{}", random.word()).into(),
        description: random.text(6).into(),
        input_schema: Some(JsonText::from_stored(r#"{"properties":{"text":{"type":"string"}},"type":"object"}"#)),
        output_schema: None,
        example_queries: Box::new([random.text(8).into()]),
    };
    let spec = AgentSpec {
        namespace: Namespace::default(),
        id: AgentId::parse(&format!("{first}-{second}-{number}")).ok()?,
        name: format!("{first} {second}").into(),
        version: "1.0.0".into(),
        description: random.text(18).into(),
        instructions: random.text(instructions).into(),
        category: format!("category-{}", random.zipf(20)).into(),
        tags: tags.into(),
        enabled: random.below(20) > 0,
        capabilities: Box::new([capability]),
        executor: Executor::default(),
        config: JsonText::from_stored("{}"),
        deprecated: (random.below(50) == 0).then(|| Deprecation { successor: None, reason: "".into() }),
    };
    let time = Timestamp(1_700_000_000_000);
    Some(Arc::new(Agent {
        spec,
        revision: 1,
        created_at: time,
        updated_at: time,
        deployed_at: time,
        updated_by: Actor::new("bench"),
    }))
}

/// Prints the median, the 99th percentile and the longest of the times that `work` takes.
fn measure(what: &str, times: usize, mut work: impl FnMut(usize) -> usize) {
    let mut took: Vec<Duration> = Vec::with_capacity(times);
    let mut checksum = 0;
    for i in 0..times {
        let start = Instant::now();
        checksum += work(i);
        took.push(start.elapsed());
    }
    took.sort_unstable();
    let at = |part: usize| took.get((times - 1) * part / 100).copied().unwrap_or_default();
    println!("{what:<58} p50 {:>10.2?}  p99 {:>10.2?}  max {:>10.2?}  ({checksum})", at(50), at(99), at(100));
}

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    status.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096
}

fn main() {
    let count = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(100_000);
    let mut random = Random(88_172_645_463_325_252);
    let agents: Vec<Arc<Agent>> = (0..count).filter_map(|n| agent(n, &mut random, 12)).collect();
    let bytes: usize = agents.iter().filter_map(|a| a.spec.to_json().ok()).map(|d| d.len()).sum();
    println!("{count} agents of {} bytes", bytes / count.max(1));

    let namespace = Namespace::default();
    let picks: Vec<AgentId> =
        (0..count).filter_map(|_| agents.get(random.below(count)).map(|a| a.spec.id.clone())).collect();
    let churned: Vec<Agent> = agents.iter().take(count * 3 / 10).map(|a| Agent::clone(a)).collect();

    let before = resident_bytes();
    let mut registry = Registry::new();
    let start = Instant::now();
    for agent in agents {
        registry.apply(Committed::Agent(agent), Timestamp(0));
    }
    println!("build in random order of ids: {:.2?}", start.elapsed());
    println!("indices take {} bytes per agent", resident_bytes().saturating_sub(before) / count.max(1));

    let start = Instant::now();
    let found = picks.iter().filter(|id| registry.get(&namespace, id.as_str()).is_some()).count();
    println!("get: {:.1?} each ({found} found)", start.elapsed() / u32::try_from(count).unwrap_or(1));

    let list = |query: &ListQuery| registry.list(query).map_or(0, |page| page.total + page.agents.len());
    let base = ListQuery { limit: 50, ..ListQuery::default() };
    let with = |filters: Filters| ListQuery { filters, ..base.clone() };
    measure("list, no filter", 500, |_| list(&base));
    measure("list by category", 500, |i| {
        list(&with(Filters { category: Some(format!("category-{}", i % 20)), ..Filters::default() }))
    });
    measure("list by category and enabled", 500, |i| {
        let category = Some(format!("category-{}", i % 20));
        list(&with(Filters { category, enabled: Some(true), ..Filters::default() }))
    });
    measure("list by any of two tags, none of a third", 500, |i| {
        let tags_any = vec![format!("tag-{}", i % 50), format!("tag-{}", i % 20)];
        list(&with(Filters { tags_any, tags_none: vec!["tag-1".into()], ..Filters::default() }))
    });
    measure("list by a word of text", 200, |_| list(&ListQuery { text: Some(random.word()), ..base.clone() }));
    measure("list enabled with facets", 100, |_| {
        list(&ListQuery { facets: true, ..with(Filters { enabled: Some(true), ..Filters::default() }) })
    });

    let search = |query: String| {
        let query = SearchQuery { query, limit: 10, ..SearchQuery::default() };
        registry.search(&query).map_or(0, |page| page.total)
    };
    for words in [1, 2, 3, 4, 12] {
        measure(&format!("search, {words} words as frequent as in the texts"), 1_000, |_| search(random.text(words)));
    }
    measure("search, 3 words of any frequency", 1_000, |_| {
        search((0..3).map(|_| word(random.below(VOCABULARY))).collect::<Vec<_>>().join(" "))
    });
    measure("search, a word with a slip", 500, |_| {
        let mut text = word(1_000 + random.below(VOCABULARY - 1_000));
        text.insert(3, 'x');
        search(text)
    });
    measure("search, 2 words in one category", 1_000, |i| {
        let filters = Filters { category: Some(format!("category-{}", i % 20)), ..Filters::default() };
        let query = SearchQuery { query: random.text(2), filters, limit: 10, ..SearchQuery::default() };
        registry.search(&query).map_or(0, |page| page.total)
    });
    measure("resolve a prefix", 500, |i| {
        let id = picks.get(i).map_or("", AgentId::as_str);
        usize::from(
            registry.resolve(&namespace, id.get(..id.len() - 1).unwrap_or(id)) != registry.resolve(&namespace, ""),
        )
    });
    measure("resolve an id with a slip", 200, |i| {
        let mut id = picks.get(i).map_or_else(String::new, AgentId::to_string);
        id.insert(2, 'x');
        usize::from(matches!(registry.resolve(&namespace, &id), a2a_core::registry::Resolved::NotFound { .. }))
    });
    measure("stats", 100, |_| registry.stats(None).tags.len());

    let large: Vec<Arc<Agent>> = (0..500).filter_map(|n| agent(count + n, &mut random, 900)).collect();
    let size = large.first().map_or(0, |a| a.spec.instructions.len());
    measure(&format!("put of a new agent with {size} bytes of instructions"), large.len(), |i| {
        let agent = large.get(i).cloned();
        usize::from(agent.is_some_and(|a| registry.apply(Committed::Agent(a), Timestamp(0))))
    });
    let again = |agent: &Agent, revision| Arc::new(Agent { revision, ..agent.clone() });
    let replaced: Vec<Arc<Agent>> = large.iter().map(|a| again(a, 2)).collect();
    measure("replacing such an agent", replaced.len(), |i| {
        let agent = replaced.get(i).cloned();
        usize::from(agent.is_some_and(|a| registry.apply(Committed::Agent(a), Timestamp(0))))
    });
    let churn: Vec<Arc<Agent>> = churned.iter().map(|a| again(a, 3)).collect();
    measure("replacing small agents (max holds the renumbering)", churn.len(), |i| {
        let agent = churn.get(i).cloned();
        usize::from(agent.is_some_and(|a| registry.apply(Committed::Agent(a), Timestamp(0))))
    });
}
