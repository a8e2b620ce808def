//! What both databases do with the vectors of embedding models.

use std::time::Duration;

use a2a_core::agent::AgentSpec;
use a2a_core::embedding::ModelVector;
use a2a_core::ids::MemoryId;
use a2a_core::memory::command::{MemoryCommand, MemoryOutcome};
use a2a_core::registry::{agent_passage, agent_passage_hash};
use a2a_store::agent_cache::AgentVector;
use a2a_store::store::{Retention, Store};
use a2a_testing::wait::wait_until;
use serde_json::json;

use crate::document::{key, purge, put, put_spec, remove, spec};
use crate::memory_document::{forget, memory, say, store, update};
use crate::process::{LIMIT, Process, in_secs};
use crate::world::{World, on_both};

const MODEL: &str = "http://127.0.0.1/v1 one";
const OTHER: &str = "http://127.0.0.1/v1 two";

on_both!(
    vectors_come_back_as_they_were_kept,
    a_vector_goes_with_its_memory,
    only_one_process_has_the_turn,
    other_processes_have_the_vectors_of_their_model,
    what_the_log_has_lost_is_made_up_for,
    vectors_of_models_that_nobody_uses_are_deleted,
    vectors_of_agents_are_those_of_what_was_read_last,
    other_processes_have_the_vectors_of_agents,
);

async fn commit(store: &Store, command: MemoryCommand) -> MemoryOutcome {
    store.memory_commit(vec![command]).await.unwrap().remove(0)
}

async fn told(store: &Store, text: &str) -> MemoryId {
    memory(&commit(store, say(text)).await).id.clone()
}

fn vector(towards: usize) -> ModelVector {
    let direction: Vec<f32> = (0..40).map(|place| if place == towards { -1.0 } else { 0.01 }).collect();
    ModelVector::of(&direction).unwrap()
}

async fn read(store: &Store, model: &str, ids: &[MemoryId]) -> Vec<(MemoryId, ModelVector)> {
    let mut read = store.memory_vectors_read(model, ids).await.unwrap();
    read.sort_by(|(a, _), (b, _)| a.cmp(b));
    read
}

async fn vectors_come_back_as_they_were_kept(world: World) {
    let store = world.store().await;
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(told(&store, &format!("fact {n}")).await);
    }
    ids.sort();
    let kept: Vec<_> = ids.iter().cloned().zip((0..4).map(vector)).collect();
    // One of a memory that is not there is left out, and keeps no other from being kept.
    let mut given = kept.clone();
    given.push((MemoryId::generate(), vector(9)));
    store.memory_vectors_put(MODEL, &given).await.unwrap();
    assert_eq!(read(&store, MODEL, &ids).await, kept);
    assert_eq!(read(&store, OTHER, &ids).await, []);
    // What is there stays, and is told once.
    store.memory_vectors_put(MODEL, &[(ids[0].clone(), vector(20)), (ids[4].clone(), vector(4))]).await.unwrap();
    store.memory_vectors_put(OTHER, &[(ids[0].clone(), vector(21))]).await.unwrap();
    assert_eq!(read(&store, MODEL, &ids[..1]).await, kept[..1]);
    assert_eq!(read(&store, OTHER, &ids).await, [(ids[0].clone(), vector(21))]);
    assert_eq!(world.count("SELECT count(*) FROM memory_embeddings").await, 6);
    assert_eq!(world.count("SELECT count(*) FROM change_log WHERE entity = 'memory_embedding'").await, 6);
}

async fn a_vector_goes_with_its_memory(world: World) {
    let store = world.store().await;
    let mut vectors = Vec::new();
    for n in 0..4 {
        vectors.push((told(&store, &format!("fact {n}")).await, vector(n)));
    }
    store.memory_vectors_put(MODEL, &vectors).await.unwrap();
    commit(&store, forget(&vectors[0].0, true)).await;
    assert_eq!(world.count("SELECT count(*) FROM memory_embeddings").await, 3, "purged");
    commit(&store, forget(&vectors[1].0, false)).await;
    world.execute("UPDATE memories SET removed_at = created_at WHERE removed_at IS NOT NULL").await;
    store.prune(&Retention { forgotten_memories: Duration::ZERO, ..Retention::default() }).await.unwrap();
    assert_eq!(world.count("SELECT count(*) FROM memory_embeddings").await, 2, "pruned");
    assert_eq!(world.count("SELECT count(*) FROM memories").await, 2);
}

async fn only_one_process_has_the_turn(world: World) {
    let (a, b) = (world.store().await, world.store().await);
    let long = Duration::from_secs(600);
    let claims = (0..8).map(|n| {
        let store = if n % 2 == 0 { &a } else { &b };
        async move { store.embedding_claim(MODEL, &format!("process {n}"), long).await.unwrap() }
    });
    let taken = futures_util::future::join_all(claims).await;
    assert_eq!(taken.iter().filter(|taken| **taken).count(), 1, "{taken:?}");
    let holder = format!("process {}", taken.iter().position(|taken| *taken).unwrap());
    assert!(a.embedding_claim(MODEL, &holder, long).await.unwrap(), "it keeps it");
    assert!(a.embedding_claim(OTHER, "another", long).await.unwrap(), "each model has its own");
    b.embedding_release(MODEL, "another").await.unwrap();
    assert!(!b.embedding_claim(MODEL, "another", long).await.unwrap(), "nobody else can give it back");
    a.embedding_release(MODEL, &holder).await.unwrap();
    // One that ends at once, as that of a process that has died long ago.
    assert!(b.embedding_claim(MODEL, "another", Duration::ZERO).await.unwrap());
    wait_until(LIMIT, "its time is over", async || a.embedding_claim(MODEL, &holder, long).await.unwrap()).await;
}

async fn other_processes_have_the_vectors_of_their_model(world: World) {
    let (a, b) = (Process::reading(&world.location(), MODEL).await, Process::reading(&world.location(), MODEL).await);
    let (other, none) = (Process::reading(&world.location(), OTHER).await, Process::start(&world.location()).await);
    let write = async |command| a.memory_writer.submit(vec![command], in_secs(20)).await.unwrap().remove(0);
    let first = memory(&write(store(&json!({"content": "on Tuesdays"}))).await);
    let second = memory(&write(say("on Thursdays")).await);
    a.store.memory_vectors_put(MODEL, &[(first.id.clone(), vector(1))]).await.unwrap();
    a.store.memory_vectors_put(OTHER, &[(second.id.clone(), vector(2))]).await.unwrap();
    for (process, id, without) in [(&b, &first.id, &second.id), (&other, &second.id, &first.id)] {
        wait_until(LIMIT, "the vector is there", async || process.memories.read().has_model_vector(id.as_str())).await;
        assert!(!process.memories.read().has_model_vector(without.as_str()), "vectors of two models are never mixed");
    }
    // A change of the memory leaves its vector, here and there.
    write(update(&first, 1, 0.3)).await;
    wait_until(LIMIT, "the change is there", async || {
        b.memories.read().get(first.id.as_str()).is_some_and(|memory| memory.revision == 2)
    })
    .await;
    assert!(b.memories.read().has_model_vector(first.id.as_str()));
    assert_eq!(none.memories.read().model_vectors(), 0);
    let fresh = Process::reading(&world.location(), MODEL).await;
    wait_until(LIMIT, "it has loaded", async || fresh.memories.read().model_vectors() == 1).await;
    for process in [a, b, other, none, fresh] {
        process.stop().await;
    }
}

async fn what_the_log_has_lost_is_made_up_for(world: World) {
    let (a, b) = (Process::start(&world.location()).await, Process::reading(&world.location(), MODEL).await);
    let kept = Retention { change_log: Duration::ZERO, ..Retention::default() };
    for n in 0..20 {
        let id = told(&a.store, &format!("fact {n}")).await;
        a.store.memory_vectors_put(MODEL, &[(id, vector(n))]).await.unwrap();
        a.store.prune(&kept).await.unwrap();
    }
    wait_until(LIMIT, "all vectors are there", async || b.memories.read().model_vectors() == 20).await;
    a.stop().await;
    b.stop().await;
}

async fn vectors_of_models_that_nobody_uses_are_deleted(world: World) {
    let store = world.store().await;
    let mut vectors = Vec::new();
    for n in 0..1_200 {
        vectors.push(say(&format!("fact {n}")));
    }
    let told = store.memory_commit(vectors).await.unwrap();
    let vectors: Vec<_> = told.iter().map(|outcome| (memory(outcome).id.clone(), vector(3))).collect();
    for model in [MODEL, OTHER] {
        store.embedding_model_used(model).await.unwrap();
        store.memory_vectors_put(model, &vectors).await.unwrap();
    }
    let hour = Duration::from_secs(3600);
    assert!(store.embedding_models_prune(hour).await.unwrap());
    assert_eq!(world.count("SELECT count(*) FROM memory_embeddings").await, 2_400, "both are in use");
    let long_ago = if world.is_postgres() { "now() - interval '2 hours'" } else { "used_at - 7200000" };
    world.execute(&format!("UPDATE embedding_models SET used_at = {long_ago} WHERE model = '{OTHER}'")).await;
    assert!(!store.embedding_models_prune(hour).await.unwrap(), "some at a time");
    assert!(store.embedding_models_prune(hour).await.unwrap());
    let left = "SELECT count(*) FROM memory_embeddings WHERE model = 'http://127.0.0.1/v1 one'";
    assert_eq!(world.count(left).await, 1_200);
    assert_eq!(world.count("SELECT count(*) FROM memory_embeddings").await, 1_200);
    assert_eq!(world.count("SELECT count(*) FROM embedding_models").await, 1);
}

fn of_agent(spec: &AgentSpec, towards: usize) -> AgentVector {
    let passage_hash = agent_passage_hash(&agent_passage(spec));
    AgentVector { key: spec.key(), passage_hash, vector: vector(towards) }
}

async fn vectors_of_agents_are_those_of_what_was_read_last(world: World) {
    let process = Process::start(&world.location()).await;
    let store = &process.store;
    for id in ["a", "b", "c"] {
        process.write(put(id, 1)).await;
    }
    let (first, second) = (of_agent(&spec("a", 1), 1), of_agent(&spec("b", 1), 2));
    // One of an agent that is not there is left out, and keeps no other from being kept.
    store.agent_vectors_put(MODEL, &[first.clone(), second.clone(), of_agent(&spec("x", 1), 3)]).await.unwrap();
    let keys = ["a", "b", "c", "x"].map(key);
    let read = async |model: &str| {
        let mut read = store.agent_vectors_read(model, &keys).await.unwrap();
        read.sort_by(|a, b| a.key.cmp(&b.key));
        read
    };
    assert_eq!(read(MODEL).await, [first.clone(), second.clone()]);
    assert_eq!(read(OTHER).await, []);
    // Of the same passage the one that is there stays; of another one it is replaced, and told again.
    let (again, changed) = (of_agent(&spec("a", 1), 7), of_agent(&spec("b", 2), 8));
    store.agent_vectors_put(MODEL, &[again, changed.clone()]).await.unwrap();
    store.agent_vectors_put(OTHER, &[of_agent(&spec("a", 1), 9)]).await.unwrap();
    assert_eq!(read(MODEL).await, [first, changed]);
    assert_eq!(read(OTHER).await, [of_agent(&spec("a", 1), 9)]);
    assert_eq!(world.count("SELECT count(*) FROM change_log WHERE entity = 'agent_embedding'").await, 4);
    process.write(remove("a")).await;
    process.write(purge("b")).await;
    store.prune(&Retention::default()).await.unwrap();
    assert_eq!(world.texts("SELECT agent FROM agent_embeddings ORDER BY model, agent").await, ["a", "a"]);
    // Those of a model that nobody uses go too.
    store.embedding_model_used(OTHER).await.unwrap();
    let long_ago = if world.is_postgres() { "now() - interval '2 hours'" } else { "used_at - 7200000" };
    world.execute(&format!("UPDATE embedding_models SET used_at = {long_ago}")).await;
    assert!(store.embedding_models_prune(Duration::from_secs(3600)).await.unwrap());
    assert_eq!(world.texts("SELECT model FROM agent_embeddings").await, [MODEL]);
    process.stop().await;
}

async fn other_processes_have_the_vectors_of_agents(world: World) {
    let location = world.location();
    let (a, b) = (Process::reading(&location, MODEL).await, Process::reading(&location, MODEL).await);
    let other = Process::reading(&location, OTHER).await;
    let has = |process: &Process, id: &str| process.cache.read().has_model_vector(&key(id));
    let there = async |process: &Process| {
        wait_until(LIMIT, "the vector is there", async || has(process, "a")).await;
    };
    a.write(put("a", 1)).await;
    a.write(put("b", 1)).await;
    a.store.agent_vectors_put(MODEL, &[of_agent(&spec("a", 1), 1)]).await.unwrap();
    there(&a).await;
    there(&b).await;
    assert!(!has(&b, "b") && !has(&other, "a"), "vectors of two models are never mixed");
    // A change of what the model does not read leaves the vector, any other change drops it.
    a.write(put_spec(AgentSpec { enabled: false, ..spec("a", 1) })).await;
    wait_until(LIMIT, "the change is there", async || b.revision("a") == 2).await;
    assert!(has(&a, "a") && has(&b, "a"));
    a.write(put("a", 2)).await;
    wait_until(LIMIT, "the change is there", async || b.revision("a") == 3).await;
    assert!(!has(&a, "a") && !has(&b, "a"), "it is that of what the agent was");
    // It says again what it said before: nobody has to read it anew, and the log says nothing of its vector.
    a.write(put("a", 1)).await;
    wait_until(LIMIT, "the change is there", async || b.revision("a") == 4).await;
    there(&b).await;
    a.store.agent_vectors_put(MODEL, &[of_agent(&spec("b", 1), 2)]).await.unwrap();
    wait_until(LIMIT, "the other one is there", async || has(&b, "b")).await;
    let fresh = Process::reading(&location, MODEL).await;
    wait_until(LIMIT, "it has loaded", async || fresh.cache.read().model_vectors() == 2).await;
    for process in [a, b, other, fresh] {
        process.stop().await;
    }
}
