//! Random writes against a model that is too simple to be wrong.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;

use a2a_core::agent::Agent;
use a2a_core::change::{AgentPut, Change, Mutation, Outcome};
use a2a_core::ids::{AgentKey, Namespace, Revision};
use a2a_store::Unit;
use a2a_store::store::Store;
use proptest::prelude::{Just, Strategy, prop_oneof};
use proptest::test_runner::{Config, TestRunner};

use crate::document::{change, spec};
use crate::world::World;

const KEYS: usize = 4;

#[derive(Debug, Clone)]
struct Write {
    key: usize,
    kind: Kind,
    /// As a distance from the revision that there is.
    expected: Option<Revision>,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Put { content: usize, deploy: bool },
    Remove,
    Purge,
}

/// What the caller believes: the agent as it was so many commits ago.
#[derive(Debug, Clone, Copy)]
enum Guess {
    Nothing,
    Ago(usize),
}

#[derive(Debug, Clone)]
struct Commit {
    /// Each unit writes distinct agents.
    units: Vec<Vec<Write>>,
    guesses: [Guess; KEYS],
    recheck: bool,
}

fn writes() -> impl Strategy<Value = Write> {
    let kind = prop_oneof![
        6 => (0..3_usize, proptest::bool::ANY).prop_map(|(content, deploy)| Kind::Put { content, deploy }),
        2 => Just(Kind::Remove),
        1 => Just(Kind::Purge),
    ];
    let expected = prop_oneof![3 => Just(None), 2 => Just(Some(0)), 1 => (-2..=1_i64).prop_map(Some)];
    (0..KEYS, kind, expected).prop_map(|(key, kind, expected)| Write { key, kind, expected })
}

fn commits() -> impl Strategy<Value = Vec<Commit>> {
    let unit = proptest::collection::vec(writes(), 1..=3).prop_map(|mut unit| {
        let mut seen = [false; KEYS];
        unit.retain(|write| !std::mem::replace(&mut seen[write.key], true));
        unit
    });
    let single = writes().prop_map(|write| vec![write]);
    let units = proptest::collection::vec(prop_oneof![3 => single, 1 => unit], 1..6);
    let guess =
        prop_oneof![1 => Just(Guess::Nothing), 3 => Just(Guess::Ago(0)), 2 => (1..4_usize).prop_map(Guess::Ago)];
    let guesses = proptest::array::uniform4(guess);
    let commit = (units, guesses, proptest::bool::weighted(0.2)).prop_map(|(units, guesses, recheck)| Commit {
        units,
        guesses,
        recheck,
    });
    proptest::collection::vec(commit, 1..12)
}

/// What the model knows of one agent.
#[derive(Debug, Clone, Default)]
struct Entity {
    revision: Revision,
    content: Option<usize>,
    /// Every revision since the last purge with its content, `None` for a removal.
    history: Vec<(Revision, Option<usize>)>,
}

impl Entity {
    fn live(&self) -> Revision {
        self.content.map_or(0, |_| self.revision)
    }

    fn step(&mut self, content: Option<usize>) {
        self.revision += 1;
        self.content = content;
        self.history.push((self.revision, content));
    }

    fn write(&mut self, kind: Kind, expected: Option<Revision>) -> Told {
        if expected.is_some_and(|expected| expected != self.live()) {
            return Told::Conflict(self.live());
        }
        let live = self.content.map(|_| self.revision);
        match kind {
            Kind::Put { content, .. } if self.content == Some(content) => Told::Unchanged(self.revision),
            Kind::Put { content, .. } => {
                self.step(Some(content));
                Told::Put(self.revision, live)
            }
            Kind::Remove if live.is_some() => {
                self.step(None);
                Told::Removed(self.revision, false)
            }
            Kind::Purge if !self.history.is_empty() => {
                self.step(None);
                self.history.clear();
                Told::Removed(self.revision, true)
            }
            Kind::Remove | Kind::Purge => Told::NotFound,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Told {
    Put(Revision, Option<Revision>),
    Unchanged(Revision),
    Removed(Revision, bool),
    Conflict(Revision),
    NotFound,
    Aborted,
}

impl Told {
    fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Put { agent, replaced_revision } => Self::Put(agent.revision, *replaced_revision),
            Outcome::Unchanged { revision } => Self::Unchanged(*revision),
            Outcome::Removed { revision, purged } => Self::Removed(*revision, *purged),
            Outcome::Conflict { current } => Self::Conflict(*current),
            Outcome::NotFound => Self::NotFound,
            Outcome::Aborted => Self::Aborted,
            Outcome::Rejected { reason } => panic!("rejected: {reason}"),
        }
    }

    fn failed(&self) -> bool {
        matches!(self, Self::Conflict(_) | Self::NotFound)
    }
}

fn model_unit(model: &mut [Entity; KEYS], unit: &[(usize, Kind, Option<Revision>)]) -> Vec<Told> {
    let before = model.clone();
    let told: Vec<Told> = unit.iter().map(|(key, kind, expected)| model[*key].write(*kind, *expected)).collect();
    if !told.iter().any(Told::failed) {
        return told;
    }
    *model = before;
    told.into_iter().map(|told| if told.failed() { told } else { Told::Aborted }).collect()
}

fn model_key(namespace: &Namespace, key: usize) -> AgentKey {
    AgentKey { namespace: namespace.clone(), id: a2a_core::ids::AgentId::from_stored(format!("agent-{key}")) }
}

fn mutation(namespace: &Namespace, key: usize, kind: Kind) -> Mutation {
    let name = model_key(namespace, key);
    match kind {
        Kind::Put { content, deploy } => {
            let mut spec = spec(name.id.as_str(), content);
            spec.namespace = namespace.clone();
            Mutation::AgentPut(Box::new(AgentPut::new(spec, deploy).unwrap()))
        }
        Kind::Remove => Mutation::AgentRemove(name),
        Kind::Purge => Mutation::AgentPurge(name),
    }
}

async fn play(store: &Store, namespace: &Namespace, commits: &[Commit]) {
    let mut model: [Entity; KEYS] = Default::default();
    // What a cache held after each commit.
    let mut states: Vec<HashMap<AgentKey, Arc<Agent>>> = vec![HashMap::new()];
    for commit in commits {
        let mut units = Vec::new();
        let mut expected = Vec::new();
        for unit in &commit.units {
            // Expected revisions count from where the model stands before this unit.
            let writes: Vec<(usize, Kind, Option<Revision>)> = unit
                .iter()
                .map(|w| (w.key, w.kind, w.expected.map(|distance| (model[w.key].live() + distance).max(0))))
                .collect();
            let changes = writes.iter().map(|(key, kind, expected)| Change {
                expected_revision: *expected,
                ..change(mutation(namespace, *key, *kind))
            });
            units.push(Unit { changes: changes.collect() });
            expected.push(model_unit(&mut model, &writes));
        }
        let guesses: HashMap<AgentKey, Arc<Agent>> = (0..KEYS)
            .filter_map(|key| {
                let Guess::Ago(ago) = commit.guesses[key] else { return None };
                let state = &states[states.len().checked_sub(ago + 1)?];
                let name = model_key(namespace, key);
                Some((name.clone(), state.get(&name)?.clone()))
            })
            .collect();
        let base = |key: &AgentKey| guesses.get(key).cloned();
        let outcomes = store.commit(units.clone().into(), commit.recheck, &base).await.unwrap();
        let told: Vec<Vec<Told>> = outcomes.iter().map(|unit| unit.iter().map(Told::of).collect()).collect();
        assert_eq!(told, expected, "{commit:?}");

        let mut state = states.last().unwrap().clone();
        for (change, outcome) in units.iter().flat_map(|u| &u.changes).zip(outcomes.iter().flatten()) {
            match outcome {
                Outcome::Put { agent, .. } => drop(state.insert(change.mutation.key(), agent.clone())),
                Outcome::Removed { .. } => drop(state.remove(&change.mutation.key())),
                _ => {}
            }
        }
        states.push(state);
    }
    for (key, entity) in model.iter().enumerate() {
        let stored = store.agent_history(&model_key(namespace, key), None, 1_000).await.unwrap();
        let found: Vec<(Revision, Option<String>)> = stored
            .iter()
            .rev()
            .map(|v| (v.agent.revision, v.removed_at.is_none().then(|| v.agent.spec.description.to_string())))
            .collect();
        let expected: Vec<(Revision, Option<String>)> =
            entity.history.iter().map(|(r, content)| (*r, content.map(|c| format!("Says {c}")))).collect();
        assert_eq!(found, expected, "history of agent-{key}");
        // The replies, put together, are what the database holds.
        let newest = stored.first().filter(|v| v.removed_at.is_none()).map(|v| v.agent.clone());
        assert_eq!(states.last().unwrap().get(&model_key(namespace, key)).cloned(), newest);
    }
}

fn check(world: impl Future<Output = Option<World>>) {
    const CASES: u32 = 40;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let Some(world) = runtime.block_on(world) else { return };
    let store = runtime.block_on(world.store());
    let case = Cell::new(0);
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&commits(), |commits| {
        // Each case has agents of its own in the one database.
        case.set(case.get() + 1);
        let namespace = Namespace::from_stored(format!("case-{}", case.get()));
        runtime.block_on(play(&store, &namespace, &commits));
        Ok(())
    });
    drop(store);
    let _inside = runtime.enter();
    drop(world);
    if let Err(error) = result {
        panic!("{error}");
    }
}

#[test]
fn postgres_does_what_the_model_does() {
    check(World::postgres());
}

#[test]
fn sqlite_does_what_the_model_does() {
    check(async { Some(World::sqlite().await) });
}
