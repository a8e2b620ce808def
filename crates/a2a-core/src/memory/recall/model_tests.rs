//! Random changes, compared after each with an index that is built anew from what is live.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::fixtures::{DAY, NOW, memory};
use super::*;
use crate::memory::MemoryType;

const IDS: [&str; 10] =
    ["mem-aa", "mem-ab", "mem-ac", "mem-ba", "mem-bb", "mem-bc", "mem-ca", "mem-cb", "mem-cc", "mem-da"];
const WORDS: [&str; 12] = [
    "deploy",
    "deploys",
    "tuesday",
    "cat",
    "cats",
    "release",
    "software",
    "fish",
    "the",
    "who",
    "garden",
    "JavaScript",
];
const QUERIES: [&str; 8] = [
    "deploying",
    "tuesday cat",
    "when do we release",
    "javascript",
    "fishes in the garden",
    "mem-ab",
    "key-1",
    "deploy cat",
];
const TAGS: [&str; 3] = ["ops", "Ops", "home"];

#[derive(Debug, Clone)]
enum Operation {
    /// A put whose revision is this much above what is known; zero and below are stale.
    Put {
        id: usize,
        ahead: Revision,
        content: Content,
    },
    /// A new state whose words are read later.
    Load {
        id: usize,
        content: Content,
    },
    /// The words of so many are read.
    MakeSearchable {
        count: usize,
    },
    Remove {
        id: usize,
        ahead: Revision,
    },
    /// The next revision, with the same document.
    Supersede {
        id: usize,
        by: usize,
    },
    Touch {
        id: usize,
        accesses: u32,
    },
    /// The vector of the model has been made.
    Read {
        id: usize,
        towards: usize,
    },
}

/// A direction for each of a few words.
fn by_model(towards: usize) -> ModelVector {
    let direction: Vec<f32> = (0..70).map(|place| if place % WORDS.len() == towards { 1.0 } else { 0.1 }).collect();
    ModelVector::of(&direction).unwrap()
}

#[derive(Debug, Clone)]
struct Content {
    words: Vec<usize>,
    tags: Vec<usize>,
    kind: usize,
    session: Option<usize>,
    agent: Option<usize>,
    key: Option<usize>,
    days_ago: i64,
    expires_in: Option<i64>,
}

impl Content {
    fn build(&self, id: &str, revision: Revision) -> Arc<Memory> {
        let text: Vec<&str> = self.words.iter().map(|word| WORDS[*word]).collect();
        let tags: Vec<&str> = self.tags.iter().map(|tag| TAGS[*tag]).collect();
        let mut built = memory(id, &text.join(" ")).tags(&tags).kind(MemoryType::ALL[self.kind].1).revision(revision);
        built = built.days_ago(self.days_ago).with(|spec| {
            spec.session = self.session.map(|s| format!("s{s}").into());
            spec.key = self.key.map(|k| format!("key-{k}").into());
        });
        if let Some(agent) = self.agent {
            built = built.agent(["a", "A"][agent]);
        }
        if let Some(days) = self.expires_in {
            built = built.expires_in_days(days);
        }
        built.build()
    }
}

fn content() -> impl Strategy<Value = Content> {
    (
        prop::collection::vec(0..WORDS.len(), 1..8),
        prop::collection::vec(0..TAGS.len(), 0..3),
        0..6usize,
        prop::option::of(0..2usize),
        prop::option::of(0..2usize),
        prop::option::of(0..2usize),
        0..50i64,
        prop::option::of(-2..3i64),
    )
        .prop_map(|(words, tags, kind, session, agent, key, days_ago, expires_in)| Content {
            words,
            tags,
            kind,
            session,
            agent,
            key,
            days_ago,
            expires_in,
        })
}

fn operation() -> impl Strategy<Value = Operation> {
    let id = 0..IDS.len();
    prop_oneof![
        8 => (id.clone(), -1..3i64, content()).prop_map(|(id, ahead, content)| Operation::Put { id, ahead, content }),
        3 => (id.clone(), content()).prop_map(|(id, content)| Operation::Load { id, content }),
        3 => (1..5usize).prop_map(|count| Operation::MakeSearchable { count }),
        3 => (id.clone(), -1..3i64).prop_map(|(id, ahead)| Operation::Remove { id, ahead }),
        2 => (id.clone(), id.clone()).prop_map(|(id, by)| Operation::Supersede { id, by }),
        2 => (id.clone(), 0..9u32).prop_map(|(id, accesses)| Operation::Touch { id, accesses }),
        4 => (id, 0..WORDS.len()).prop_map(|(id, towards)| Operation::Read { id, towards }),
    ]
}

fn make_searchable(index: &mut MemoryIndex, count: usize) {
    let read: Vec<_> = index.unread(count).into_iter().map(|m| (Arc::clone(&m), Reading::of_memory(&m.spec))).collect();
    index.make_searchable(&read);
}

#[derive(Default)]
struct Model {
    live: BTreeMap<String, Arc<Memory>>,
    known: BTreeMap<String, Revision>,
    /// What the model has read of the live ones.
    read: BTreeMap<String, ModelVector>,
}

impl Model {
    fn apply(&mut self, index: &mut MemoryIndex, operation: &Operation) {
        let next = |id: &str, ahead| self.known.get(id).copied().unwrap_or(0) + ahead;
        match operation {
            Operation::Put { id, ahead, content } => {
                let id = IDS[*id];
                let memory = content.build(id, next(id, *ahead));
                let news = !self.known.contains_key(id) || *ahead > 0;
                assert_eq!(index.apply(CommittedMemory::Memory(Arc::clone(&memory)), NOW), news);
                if news {
                    self.known.insert(id.to_owned(), memory.revision);
                    self.live.insert(id.to_owned(), memory);
                }
            }
            Operation::Load { id, content } => {
                let id = IDS[*id];
                let memory = content.build(id, next(id, 1));
                assert!(index.apply_read(CommittedMemory::Memory(Arc::clone(&memory)), None, NOW));
                self.known.insert(id.to_owned(), memory.revision);
                self.live.insert(id.to_owned(), memory);
            }
            Operation::MakeSearchable { count } => make_searchable(index, *count),
            Operation::Remove { id, ahead } => {
                let id = IDS[*id];
                let revision = next(id, *ahead);
                let news = !self.known.contains_key(id) || *ahead > 0;
                assert_eq!(index.apply(CommittedMemory::Removed(MemoryId::from_stored(id), revision), NOW), news);
                if news {
                    self.known.insert(id.to_owned(), revision);
                    self.live.remove(id);
                    self.read.remove(id);
                }
            }
            Operation::Supersede { id, by } => {
                let Some(memory) = self.live.get_mut(IDS[*id]) else { return };
                let changed = Arc::make_mut(memory);
                changed.superseded_by = Some(MemoryId::from_stored(IDS[*by]));
                changed.revision += 1;
                self.known.insert(IDS[*id].to_owned(), changed.revision);
                assert!(index.apply(CommittedMemory::Memory(Arc::clone(memory)), NOW));
            }
            Operation::Read { id, towards } => {
                let (id, vector) = (IDS[*id], by_model(*towards));
                assert_eq!(index.set_model_vector(id, &vector), self.live.contains_key(id));
                if self.live.contains_key(id) {
                    self.read.insert(id.to_owned(), vector);
                }
            }
            Operation::Touch { id, accesses } => {
                index.touch(IDS[*id], *accesses, NOW);
                if let Some(memory) = self.live.get_mut(IDS[*id]) {
                    let touched = Arc::make_mut(memory);
                    if touched.accesses < *accesses || touched.last_accessed < NOW {
                        touched.accesses = touched.accesses.max(*accesses);
                        touched.last_accessed = NOW;
                    }
                }
            }
        }
    }

    fn compare(&self, index: &MemoryIndex) {
        let mut anew = MemoryIndex::new();
        for memory in self.live.values() {
            anew.apply(CommittedMemory::Memory(Arc::clone(memory)), NOW);
        }
        for (id, vector) in &self.read {
            assert!(anew.set_model_vector(id, vector));
        }
        assert_eq!(index.model_vectors(), self.read.len());
        let unread: BTreeSet<&str> = index.without_model_vector(|_| true).map(|memory| memory.id.as_str()).collect();
        assert_eq!(unread, self.live.keys().filter(|id| !self.read.contains_key(*id)).map(String::as_str).collect());
        assert_eq!(index.len(), self.live.len());
        for (id, memory) in &self.live {
            assert_eq!(index.get(id), Some(memory));
        }
        let filters = [
            MemoryFilters::default(),
            MemoryFilters { include_superseded: true, include_expired: true, ..MemoryFilters::default() },
            MemoryFilters { tags_any: vec!["OPS".into()], tags_none: vec!["home".into()], ..MemoryFilters::default() },
            MemoryFilters {
                agent: Some("A".into()),
                since: Some(Timestamp(NOW.0 - 20 * DAY)),
                ..MemoryFilters::default()
            },
            MemoryFilters {
                types: vec![MemoryType::Conversation],
                session: Some("s1".into()),
                ..MemoryFilters::default()
            },
        ];
        for filters in filters {
            // What is not read yet is listed all the same, and recall waits for it.
            let queries = QUERIES.into_iter().enumerate().filter(|_| index.is_searchable());
            for (place, text) in queries {
                let meaning = place.is_multiple_of(2).then(|| Arc::new(by_model(place)));
                let query = RecallQuery {
                    query: text.into(),
                    filters: filters.clone(),
                    limit: 20,
                    now: NOW,
                    meaning,
                    ..RecallQuery::default()
                };
                assert_eq!(index.recall(&query), anew.recall(&query), "{text} {filters:?}");
            }
            let query = MemoryListQuery { filters: filters.clone(), limit: 20, now: NOW, ..MemoryListQuery::default() };
            let list = index.list(&query).unwrap();
            assert_eq!(Ok(&list), anew.list(&query).as_ref());
            // What the filters mean, said once more without any index.
            let passing = self.live.values().filter(|m| {
                (filters.include_superseded || m.superseded_by.is_none())
                    && (filters.include_expired || !m.is_expired(NOW))
                    && (filters.types.is_empty() || filters.types.contains(&m.spec.kind))
                    && filters.agent.as_deref().is_none_or(|a| m.spec.agent.as_ref().is_some_and(|b| b.as_str() == a))
                    && filters.session.as_deref().is_none_or(|s| m.spec.session.as_deref() == Some(s))
                    && filters.since.is_none_or(|since| m.created_at >= since)
                    && (filters.tags_any.is_empty() || m.spec.tags.iter().any(|tag| tag.eq_ignore_ascii_case("ops")))
                    && (filters.tags_none.is_empty() || !m.spec.tags.iter().any(|tag| tag.eq_ignore_ascii_case("home")))
            });
            assert_eq!(list.total, passing.count());
        }
        for memory in self.live.values() {
            let same = |index: &MemoryIndex| index.same(&Namespace::default(), &memory.content_hash, NOW).cloned();
            assert_eq!(same(index), same(&anew));
        }
        for session in ["s0", "s1"] {
            let query = TurnQuery { session: session.into(), limit: 20, now: NOW, ..TurnQuery::default() };
            let page = index.turns(&query).unwrap();
            assert_eq!(Ok(&page), anew.turns(&query).as_ref());
            assert!(page.turns.is_sorted_by_key(|m| (m.created_at, m.id.clone())));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]

    #[test]
    fn the_index_equals_one_built_anew_after_any_sequence(operations in prop::collection::vec(operation(), 1..60)) {
        let mut index = MemoryIndex::new();
        let mut model = Model::default();
        for (i, operation) in operations.iter().enumerate() {
            model.apply(&mut index, operation);
            // Each is compared near its end too, when numbers were given anew several times.
            if i % 7 == 0 {
                model.compare(&index);
            }
        }
        model.compare(&index);
        while !index.is_searchable() {
            make_searchable(&mut index, 3);
        }
        model.compare(&index);
    }
}
