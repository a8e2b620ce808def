//! Recall in memory: time of each kind of question, and what a memory weighs. Run it with `cargo xtask bench memory`.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a benchmark prints, and ends when something does not hold"
)]

#[path = "bench/roster.rs"]
#[allow(dead_code, reason = "only the words of agents are used here")]
mod roster;
#[path = "bench/table.rs"]
mod table;

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use a2a_core::embedding;
use a2a_core::ids::{Actor, MemoryId, Namespace};
use a2a_core::memory::recall::{
    CommittedMemory, MemoryFilters, MemoryIndex, MemoryListQuery, Ranking, Reading, RecallQuery,
};
use a2a_core::memory::{Memory, MemorySpec, MemoryType, Provenance, Trust};
use a2a_core::time::Timestamp;

use roster::Random;
use table::{Aim, Asked, Figure, Table, median, percentile, resident_bytes};

const RECALL_MOST: Duration = Duration::from_millis(2);
const NOW: Timestamp = Timestamp(1_781_697_600_000);
const DAY_MS: i64 = 86_400_000;
const USERS: usize = 50;

fn main() {
    let Some(asked) = Asked::from_args() else { return };
    let mut table = Table::new("memory", "one thread, in process; p50 of single calls; memories of 12 to 40 words");
    let sizes = match asked.count {
        Some(count) => vec![count],
        None if asked.quick => vec![1_000, 20_000],
        None => vec![1_000, 10_000, 100_000],
    };
    for size in sizes {
        measure(&mut table, size, if asked.quick { 200 } else { 500 });
    }
    table.finish();
}

fn measure(table: &mut Table, size: usize, times: usize) {
    let mut random = Random::new(11);
    let memories: Vec<Arc<Memory>> = (0..size).map(|number| memory(number, &mut random)).collect();
    let before = resident_bytes();
    let start = Instant::now();
    let readings: Vec<Reading> = memories.iter().map(|memory| Reading::of_memory(&memory.spec)).collect();
    let read = start.elapsed();
    drop(readings);
    let start = Instant::now();
    let mut index = MemoryIndex::new();
    for memory in &memories {
        index.apply(CommittedMemory::Memory(Arc::clone(memory)), NOW);
    }
    let built = start.elapsed();
    let per_memory = (resident_bytes() - before) / size as f64;
    let each = |total: Duration| total / u32::try_from(size).unwrap();

    let mut ask =
        |what: &str, filters: MemoryFilters, ranking: Ranking, text: &mut dyn FnMut(&mut Random) -> String| {
            let queries: Vec<RecallQuery> = (0..times)
                .map(|_| {
                    let (query, filters) = (text(&mut random), filters.clone());
                    RecallQuery { query, filters, limit: 10, now: NOW, ranking, ..RecallQuery::default() }
                })
                .collect();
            let took = samples(&queries, |query| index.recall(query).unwrap().total);
            table.row(
                format!("recall, {what}, {size} memories"),
                None,
                Figure::Time(median(&took)),
                Aim::Within(RECALL_MOST),
            );
            table.row(
                format!("recall, {what}, {size} memories, p99"),
                None,
                Figure::Time(percentile(&took, 99)),
                Aim::None,
            );
        };
    let all = MemoryFilters::default();
    let usual = Ranking::default();
    ask("3 words", all.clone(), usual, &mut |random| random.text(3));
    ask("3 words, by words alone", all.clone(), Ranking::WORDS_ALONE, &mut |random| random.text(3));
    ask("3 words, by the table alone", all.clone(), Ranking::TABLE_ALONE, &mut |random| random.text(3));
    ask("8 words", all.clone(), usual, &mut |random| random.text(8));
    ask("8 words, one user", MemoryFilters { user: Some("user-7".into()), ..all.clone() }, usual, &mut |random| {
        random.text(8)
    });
    ask("a question of last week", all.clone(), usual, &mut |random| {
        format!("what did we say of {} last week", random.text(2))
    });
    ask("an id", all, usual, &mut |random| format!("mem-{:08}", random.below(size)));

    let list = MemoryListQuery {
        filters: MemoryFilters { user: Some("user-7".into()), ..MemoryFilters::default() },
        limit: 20,
        now: NOW,
        ..MemoryListQuery::default()
    };
    let took = samples(&vec![list; times], |list| index.list(list).unwrap().total);
    table.row(format!("list of one user, {size} memories"), None, Figure::Time(median(&took)), Aim::None);
    let texts: Vec<&str> = memories.iter().take(times).map(|memory| &*memory.spec.content).collect();
    let took = samples(&texts, |text| usize::from(embedding::embed(text).is_some()));
    table.row(format!("vector of one memory, {size} memories"), None, Figure::Time(median(&took)), Aim::None);
    table.row(format!("reading of one memory, {size} memories"), None, Figure::Time(each(read)), Aim::None);
    table.row(format!("put of one memory, {size} memories"), None, Figure::Time(each(built)), Aim::None);
    table.row(format!("indices of one memory, {size} memories"), None, Figure::Bytes(per_memory), Aim::None);
}

fn memory(number: usize, random: &mut Random) -> Arc<Memory> {
    let kind = MemoryType::ALL[number % MemoryType::ALL.len()].1;
    let words = 12 + random.below(28);
    let created_at = Timestamp(NOW.0 - i64::try_from(random.below(400)).unwrap() * DAY_MS);
    let turn = (kind == MemoryType::Conversation).then(|| Arc::from(format!("session-{}", number / 60)));
    let spec = MemorySpec {
        namespace: Namespace::default(),
        kind,
        content: random.text(words).into(),
        data: None,
        tags: [Arc::from(format!("tag-{}", random.below(50)))].into(),
        importance: kind.default_importance(),
        decay: kind.default_decay(),
        expires_at: None,
        key: None,
        agent: None,
        session: turn,
        user: Some(Arc::from(format!("user-{}", random.below(USERS)))),
        run: None,
        step: None,
        supersedes: [].into(),
        relations: [].into(),
    };
    Arc::new(Memory {
        id: MemoryId::from_stored(format!("mem-{number:08}")),
        content_hash: spec.content_hash(),
        spec,
        provenance: Provenance { author: Actor::new("bench"), trust: Trust::User, derived_from: [].into() },
        frequency: 1,
        accesses: 0,
        last_accessed: created_at,
        superseded_by: None,
        revision: 1,
        created_at,
        updated_at: created_at,
        updated_by: Actor::new("bench"),
    })
}

fn samples<T>(asked: &[T], mut work: impl FnMut(&T) -> usize) -> Vec<Duration> {
    asked
        .iter()
        .map(|asked| {
            let start = Instant::now();
            black_box(work(asked));
            start.elapsed()
        })
        .collect()
}
