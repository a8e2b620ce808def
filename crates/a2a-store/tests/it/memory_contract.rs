//! What both databases do with memories.

use std::collections::BTreeSet;
use std::time::Duration;

use a2a_core::ids::MemoryId;
use a2a_core::memory::command::{MemoryAction, MemoryCommand, MemoryOutcome};
use a2a_core::memory::experience::CapabilityRecord;
use a2a_core::memory::{Memory, Trust};
use a2a_core::time::Timestamp;
use a2a_store::store::{MemoryTouch, Retention, Store};
use serde_json::json;

use crate::memory_document::{self, agent, command, forget, learn, memory, say, store_as, update};
use crate::process::Process;
use crate::world::{World, on_both};

on_both!(
    every_field_comes_back_as_it_was_stored,
    hostile_text_is_only_text,
    what_says_the_same_is_kept_once,
    many_who_say_the_same_at_once_make_one_memory,
    a_key_has_one_live_memory_however_many_write_it,
    trust_is_never_gained,
    a_superseded_memory_keeps_its_successor,
    an_update_needs_the_revision_that_it_was_made_for,
    what_is_forgotten_is_free_to_be_told_again,
    commands_of_one_batch_see_each_other,
    a_retry_is_not_applied_again,
    experiences_from_several_processes_are_all_counted,
    recalls_are_counted_without_a_revision,
    what_is_old_is_pruned_and_told,
    a_row_that_the_database_rejects_fails_alone,
);

async fn commit(store: &Store, command: MemoryCommand) -> MemoryOutcome {
    store.memory_commit(vec![command]).await.unwrap().remove(0)
}

async fn read(store: &Store, id: &MemoryId) -> Option<Memory> {
    let found = store.memories_read(std::slice::from_ref(id)).await.unwrap().pop();
    found.map(|version| (*version.memory).clone())
}

fn full() -> serde_json::Value {
    json!({
        "content": "We deploy only on Tuesdays",
        "type": "procedural",
        "data": {"day": 2, "why": [null, 1.5, "é"]},
        "tags": ["release", "ops"],
        "importance": 0.7,
        "decay": 0.015,
        "expires_at": "2099-01-31T18:00:00Z",
        "key": "deploy-day",
        "agent": "release-manager",
        "session": "s 1",
        "user": "Anna",
        "run": "run-a",
        "step": "approve",
        "relations": [{"kind": "caused_by", "to": "mem-gone"}],
    })
}

async fn every_field_comes_back_as_it_was_stored(world: World) {
    let store = world.store().await;
    let base = memory(&commit(&store, say("the base")).await);
    let stored = memory(&commit(&store, store_as(&full(), Trust::User, std::slice::from_ref(&base.id))).await);
    assert_eq!((stored.revision, stored.frequency, stored.accesses), (1, 1, 0));
    assert_eq!(stored.provenance.trust, Trust::Agent, "that of what it was made from");
    assert_eq!(read(&store, &stored.id).await.unwrap(), *stored);
    let process = Process::start(&world.location()).await;
    assert_eq!(**process.memories.read().get(stored.id.as_str()).unwrap(), *stored);
    process.stop().await;
    // Every importance of two digits, and some that no two digits write.
    for n in 0..=100_u8 {
        let importance = f32::from(n) / 100.0 + f32::from(n % 3) * 1e-7;
        let document = json!({"content": format!("number {n}"), "importance": importance.min(1.0)});
        let stored = memory(&commit(&store, memory_document::store(&document)).await);
        assert_eq!(read(&store, &stored.id).await.unwrap(), *stored);
    }
}

async fn hostile_text_is_only_text(world: World) {
    let store = world.store().await;
    for text in [
        "'; DROP TABLE memories; --",
        "\" OR 1=1 $1 ? %s",
        "\\u0000 \\' \\\\",
        "\u{1}\u{1b}[31m\u{202e}👩‍👩‍👧",
        "{\"a\":1}",
        "[]",
    ] {
        let short: String = text.chars().filter(|c| !c.is_control()).take(60).collect();
        let document = json!({
            "content": text, "tags": [text.chars().take(60).collect::<String>()], "data": {text: [text]},
            "key": short, "session": short, "user": short, "relations": [{"kind": short, "to": "mem-x"}],
        });
        let stored = memory(&commit(&store, memory_document::store(&document)).await);
        assert_eq!(read(&store, &stored.id).await.unwrap(), *stored, "{text:?}");
        assert_eq!(&*stored.spec.content, text.trim());
    }
}

async fn what_says_the_same_is_kept_once(world: World) {
    let store = world.store().await;
    let first = memory(&commit(&store, say("The  office closes\nat six")).await);
    let again = commit(&store, say("The office closes at six")).await;
    assert!(matches!(again, MemoryOutcome::Repeated { .. }), "{again:?}");
    let again = memory(&again);
    assert_eq!((&again.id, again.frequency, again.revision), (&first.id, 2, 2));
    let other = json!({"content": "The office closes at six", "agent": "porter"});
    assert_ne!(memory(&commit(&store, memory_document::store(&other)).await).id, first.id);
    assert_eq!(world.count("SELECT count(*) FROM memories").await, 2);
}

async fn many_who_say_the_same_at_once_make_one_memory(world: World) {
    let stores = [world.store().await, world.store().await, world.store().await, world.store().await];
    for round in 0..25 {
        let told = stores
            .iter()
            .flat_map(|store| (0..2).map(move |_| async move { commit(store, say(&format!("round {round}"))).await }));
        let outcomes = futures_util::future::join_all(told).await;
        let ids: BTreeSet<MemoryId> = outcomes.iter().map(|outcome| memory(outcome).id.clone()).collect();
        assert_eq!(ids.len(), 1, "{outcomes:?}");
        let created = outcomes.iter().filter(|outcome| matches!(outcome, MemoryOutcome::Stored { .. })).count();
        assert_eq!(created, 1, "{outcomes:?}");
        assert_eq!(read(&stores[0], &ids.into_iter().next().unwrap()).await.unwrap().frequency, 8);
    }
}

async fn a_key_has_one_live_memory_however_many_write_it(world: World) {
    let stores = [world.store().await, world.store().await, world.store().await, world.store().await];
    for round in 0..25 {
        let told = stores.iter().enumerate().map(|(n, store)| async move {
            let document = json!({"content": format!("{n} says so in {round}"), "key": "the-key"});
            commit(store, memory_document::store(&document)).await
        });
        futures_util::future::join_all(told).await;
        let live = "SELECT count(*) FROM memories WHERE key = 'the-key' AND superseded_by IS NULL";
        assert_eq!(world.count(live).await, 1, "{round}");
    }
    assert_eq!(world.count("SELECT count(*) FROM memories WHERE superseded_by = id").await, 0);
    let successors = "SELECT count(*) - count(DISTINCT superseded_by) FROM memories WHERE superseded_by IS NOT NULL";
    assert_eq!(world.count(successors).await, 0, "no two have the same successor: the chain has no forks");
}

async fn trust_is_never_gained(world: World) {
    let store = world.store().await;
    let document = json!({"content": "The vault opens at nine", "key": "vault"});
    let told = memory(&commit(&store, store_as(&document, Trust::User, &[])).await);
    let hidden = json!({"content": "The vault is open all night", "key": "vault"});
    let refused = commit(&store, store_as(&hidden, Trust::Agent, &[])).await;
    assert!(
        matches!(&refused, MemoryOutcome::TrustTooLow { id, needed: Trust::User, offered: Trust::Agent } if *id == told.id),
        "{refused:?}"
    );
    let again = memory(&commit(&store, store_as(&document, Trust::Operator, &[])).await);
    assert_eq!(again.provenance.trust, Trust::User);
    let outside = memory(&commit(&store, store_as(&json!({"content": "a page says so"}), Trust::External, &[])).await);
    let from = store_as(&json!({"content": "so it is"}), Trust::User, &[told.id.clone(), outside.id.clone()]);
    assert_eq!(memory(&commit(&store, from).await).provenance.trust, Trust::External);
    let missing = store_as(&json!({"content": "hearsay"}), Trust::User, &[MemoryId::from_stored("mem-none")]);
    assert!(matches!(commit(&store, missing).await, MemoryOutcome::Missing { .. }));
}

async fn a_superseded_memory_keeps_its_successor(world: World) {
    let store = world.store().await;
    let old = memory(&commit(&store, say("We deploy on Tuesdays")).await);
    let new = json!({"content": "We deploy on Thursdays", "supersedes": [old.id.as_str()]});
    let outcome = commit(&store, memory_document::store(&new)).await;
    let MemoryOutcome::Stored { memory: new, superseded } = outcome else { panic!("{outcome:?}") };
    assert_eq!((&superseded[0].id, &superseded[0].superseded_by), (&old.id, &Some(new.id.clone())));
    let late = json!({"content": "We deploy on Fridays", "supersedes": [old.id.as_str()]});
    commit(&store, memory_document::store(&late)).await;
    assert_eq!(read(&store, &old.id).await.unwrap().superseded_by, Some(new.id.clone()));
    // What is told again after it was superseded is a new memory.
    assert_ne!(memory(&commit(&store, say("We deploy on Tuesdays")).await).id, old.id);
}

async fn an_update_needs_the_revision_that_it_was_made_for(world: World) {
    let store = world.store().await;
    let first = memory(&commit(&store, say("The cache is warm")).await);
    let second = memory(&commit(&store, update(&first, 1, 0.9)).await);
    assert_eq!((second.revision, second.spec.importance), (2, 0.9));
    assert_eq!(read(&store, &first.id).await.unwrap(), *second);
    assert!(matches!(commit(&store, update(&first, 1, 0.1)).await, MemoryOutcome::Conflict { current: 2 }));
    assert!(matches!(commit(&store, update(&first, 2, 0.9)).await, MemoryOutcome::Unchanged { .. }));
    let racing = (0..20_u8).map(|n| commit(&store, update(&first, 2, f32::from(n) / 40.0)));
    let outcomes = futures_util::future::join_all(racing).await;
    assert_eq!(outcomes.iter().filter(|outcome| matches!(outcome, MemoryOutcome::Updated { .. })).count(), 1);
    commit(&store, forget(&first.id, false)).await;
    assert!(matches!(commit(&store, update(&first, 4, 0.5)).await, MemoryOutcome::NotFound));
}

async fn what_is_forgotten_is_free_to_be_told_again(world: World) {
    let store = world.store().await;
    let document = json!({"content": "The code is blue", "key": "code"});
    let first = memory(&commit(&store, memory_document::store(&document)).await);
    assert!(matches!(commit(&store, forget(&first.id, false)).await, MemoryOutcome::Forgotten { revision: 2, .. }));
    assert!(matches!(commit(&store, forget(&first.id, false)).await, MemoryOutcome::NotFound));
    let outcome = commit(&store, memory_document::store(&document)).await;
    let MemoryOutcome::Stored { memory: second, superseded } = outcome else { panic!("{outcome:?}") };
    assert!(superseded.is_empty() && second.id != first.id);
    assert!(store.memories_read(std::slice::from_ref(&first.id)).await.unwrap()[0].removed_at.is_some());
    for id in [&first.id, &second.id] {
        assert!(matches!(commit(&store, forget(id, true)).await, MemoryOutcome::Forgotten { .. }));
        assert!(matches!(commit(&store, forget(id, true)).await, MemoryOutcome::NotFound));
    }
    assert_eq!(world.count("SELECT count(*) FROM memories").await, 0);
}

async fn commands_of_one_batch_see_each_other(world: World) {
    let store = world.store().await;
    let keyed = |text: &str| memory_document::store(&json!({"content": text, "key": "k"}));
    let outcomes = store
        .memory_commit(vec![say("a"), say("a"), keyed("one"), keyed("two"), learn("x", true), learn("x", false)])
        .await
        .unwrap();
    assert_eq!(memory(&outcomes[0]).id, memory(&outcomes[1]).id);
    assert_eq!(memory(&outcomes[1]).frequency, 2);
    let MemoryOutcome::Stored { superseded, .. } = &outcomes[3] else { panic!("{outcomes:?}") };
    assert_eq!(superseded[0].id, memory(&outcomes[2]).id);
    let MemoryOutcome::Learned { experience } = &outcomes[5] else { panic!("{outcomes:?}") };
    assert_eq!((experience.personality.positive, experience.personality.negative), (1, 1));
    assert_eq!(world.count("SELECT count(*) FROM change_log WHERE entity = 'memory'").await, 3);
    assert_eq!(world.count("SELECT count(*) FROM change_log WHERE entity = 'personality'").await, 1);
}

async fn a_retry_is_not_applied_again(world: World) {
    let store = world.store().await;
    let base = memory(&commit(&store, say("it is so")).await);
    let successor = memory_document::store(&json!({"content": "it was so", "supersedes": [base.id.as_str()]}));
    let updated = command(MemoryAction::Update {
        id: base.id.clone(),
        expected_revision: 2,
        spec: Box::new(a2a_core::memory::MemorySpec { importance: 0.1, ..base.spec.clone() }),
    });
    let other = memory(&commit(&store, say("elsewhere")).await);
    let all = [say("new"), say("it is so"), updated, successor, learn("x", true), forget(&other.id, false)];
    let traces = async || {
        let mut found = Vec::new();
        for query in [
            "SELECT sum(revision) FROM memories",
            "SELECT sum(frequency) FROM memories",
            "SELECT count(*) FROM change_log",
            "SELECT count(*) FROM applied_ops",
            "SELECT sum(interactions) FROM agent_personalities",
        ] {
            found.push(world.count(query).await);
        }
        found
    };
    let mut first = Vec::new();
    for command in &all {
        first.push(commit(&store, command.clone()).await);
    }
    let before = traces().await;
    let again = store.memory_commit(all.to_vec()).await.unwrap();
    assert_eq!(traces().await, before);
    for (first, again) in first.iter().zip(&again) {
        assert_eq!(std::mem::discriminant(first), std::mem::discriminant(again), "{first:?} {again:?}");
    }
    let (MemoryOutcome::Stored { superseded: one, .. }, MemoryOutcome::Stored { superseded: two, .. }) =
        (&first[3], &again[3])
    else {
        panic!("{first:?}")
    };
    assert_eq!((one.len(), &one[0].id), (1, &two[0].id));
}

async fn experiences_from_several_processes_are_all_counted(world: World) {
    let stores = [world.store().await, world.store().await, world.store().await, world.store().await];
    let learned = stores.iter().enumerate().map(|(n, store)| async move {
        for _ in 0..25 {
            commit(store, learn("worker", n % 2 == 0)).await;
        }
    });
    futures_util::future::join_all(learned).await;
    let process = Process::start(&world.location()).await;
    let experience = process.memories.experience(&agent("worker")).unwrap();
    let who = experience.personality;
    assert_eq!((who.interactions, who.positive, who.negative), (100, 50, 50));
    let CapabilityRecord { worked, failed, recent, .. } = experience.capabilities["review"];
    assert_eq!((worked, failed), (50, 50));
    assert!((99.0..=100.0).contains(&recent), "{recent}");
    let next = commit(&stores[0], learn("worker", true)).await;
    let MemoryOutcome::Learned { experience: next } = next else { panic!("{next:?}") };
    assert_eq!(next.revision, experience.revision + 1);
    process.stop().await;
}

async fn recalls_are_counted_without_a_revision(world: World) {
    let store = world.store().await;
    let told = memory(&commit(&store, say("recalled often")).await);
    let later = Timestamp(told.last_accessed.0 + 5_000);
    let touch = |count, at| MemoryTouch { id: told.id.clone(), count, at };
    store
        .memories_touch(&[touch(3, later), MemoryTouch { id: MemoryId::from_stored("mem-none"), ..touch(1, later) }])
        .await
        .unwrap();
    store.memories_touch(&[touch(2, Timestamp(0))]).await.unwrap();
    let now = read(&store, &told.id).await.unwrap();
    assert_eq!((now.accesses, now.last_accessed, now.revision), (5, later, 1));
    let process = Process::start(&world.location()).await;
    process.memory_writer.touched([told.id.clone(), told.id.clone()]);
    let location = world.location();
    process.stop().await;
    let process = Process::start(&location).await;
    assert_eq!(process.memories.read().get(told.id.as_str()).unwrap().accesses, 7, "written at the end");
    process.stop().await;
}

async fn what_is_old_is_pruned_and_told(world: World) {
    let store = world.store().await;
    let process = Process::start(&world.location()).await;
    let expiring = memory_document::store(&json!({"content": "until tonight", "expires_in_s": 1}));
    let expiring = memory(&commit(&store, expiring).await);
    let forgotten = memory(&commit(&store, say("forgotten")).await);
    let kept = memory(&commit(&store, say("kept")).await);
    commit(&store, forget(&forgotten.id, false)).await;
    store.prune(&Retention::default()).await.unwrap();
    assert_eq!(world.count("SELECT count(*) FROM memories").await, 3);
    let at_once =
        Retention { expired_memories: Duration::ZERO, forgotten_memories: Duration::ZERO, ..Retention::default() };
    a2a_testing::wait::wait_until(Duration::from_secs(10), "what is old is gone", async || {
        store.prune(&at_once).await.unwrap();
        world.count("SELECT count(*) FROM memories").await == 1
    })
    .await;
    a2a_testing::wait::wait_until(Duration::from_secs(2), "the other process has heard of it", async || {
        process.memories.read().get(expiring.id.as_str()).is_none()
    })
    .await;
    assert!(process.memories.read().get(kept.id.as_str()).is_some());
    process.stop().await;
}

async fn a_row_that_the_database_rejects_fails_alone(world: World) {
    let store = world.store().await;
    world
        .execute(match &world {
            World::Postgres(_) => "ALTER TABLE memories ADD CONSTRAINT poison CHECK (content <> 'poison')",
            World::Sqlite { .. } => {
                "CREATE TRIGGER poison BEFORE INSERT ON memories WHEN NEW.content = 'poison' \
                 BEGIN SELECT RAISE(ABORT, 'poison'); END"
            }
        })
        .await;
    for place in [0, 3, 7] {
        let commands = (0..8).map(|n| if n == place { say("poison") } else { say(&format!("{place} {n}")) });
        let outcomes = store.memory_commit(commands.collect()).await.unwrap();
        for (n, outcome) in outcomes.iter().enumerate() {
            let rejected = matches!(outcome, MemoryOutcome::Rejected { reason } if !reason.contains("poison"));
            assert_eq!(rejected, n == place, "{n}: {outcome:?}");
        }
    }
    assert_eq!(world.count("SELECT count(*) FROM memories").await, 21);
}
