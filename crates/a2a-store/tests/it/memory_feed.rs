//! What one process commits about memories, the others have soon, whatever happens to the connection meanwhile.

use std::collections::BTreeMap;
use std::time::Duration;

use a2a_core::ids::MemoryId;
use a2a_core::memory::command::{MemoryAction, MemoryCommand, MemoryOutcome, NewMemory};
use a2a_core::memory::{Memory, Trust};
use a2a_testing::fault_proxy::{FaultProxy, Trigger};
use a2a_testing::wait::wait_until;
use serde_json::json;

use crate::memory_document::{agent, forget, learn, memory, say, spec, store, update};
use crate::process::{Process, in_secs};
use crate::world::{World, on_both, postgres_location};

const SOON: Duration = Duration::from_secs(2);

on_both!(
    every_change_reaches_the_other_process,
    a_log_that_was_pruned_is_made_up_for,
    a_database_that_has_gone_back_is_followed,
);

async fn write(process: &Process, command: MemoryCommand) -> MemoryOutcome {
    process.memory_writer.submit(vec![command], in_secs(20)).await.unwrap().remove(0)
}

fn all(process: &Process) -> BTreeMap<MemoryId, Memory> {
    process.memories.read().iter().map(|memory| (memory.id.clone(), (**memory).clone())).collect()
}

async fn equal(a: &Process, b: &Process) {
    wait_until(SOON, "both have the same", async || all(a) == all(b)).await;
}

async fn every_change_reaches_the_other_process(world: World) {
    let (a, b) = (Process::start(&world.location()).await, Process::start(&world.location()).await);
    let old = memory(&write(&a, store(&json!({"content": "on Tuesdays", "key": "day"}))).await);
    assert!(a.memories.read().get(old.id.as_str()).is_some(), "it reads its own write");
    equal(&a, &b).await;
    let new = memory(&write(&b, store(&json!({"content": "on Thursdays", "key": "day"}))).await);
    assert_eq!(b.memories.read().get(old.id.as_str()).unwrap().superseded_by, Some(new.id.clone()));
    equal(&a, &b).await;
    write(&a, update(&new, 1, 0.3)).await;
    write(&a, say("on Thursdays, too")).await;
    equal(&a, &b).await;
    write(&b, forget(&old.id, false)).await;
    write(&b, forget(&new.id, true)).await;
    equal(&a, &b).await;
    assert_eq!(all(&a).len(), 1);
    write(&a, learn("x", true)).await;
    wait_until(SOON, "the other one knows the agent", async || b.memories.experience(&agent("x")).is_some()).await;
    assert_eq!(a.memories.experience(&agent("x")), b.memories.experience(&agent("x")));
    let fresh = Process::start(&world.location()).await;
    assert_eq!(all(&fresh), all(&a));
    for process in [a, b, fresh] {
        process.stop().await;
    }
}

async fn a_log_that_was_pruned_is_made_up_for(world: World) {
    let (a, b) = (Process::start(&world.location()).await, Process::start(&world.location()).await);
    let kept = a2a_store::store::Retention { change_log: Duration::ZERO, ..a2a_store::store::Retention::default() };
    let mut last = None;
    for n in 0..20 {
        let told = memory(&write(&a, say(&format!("fact {n}"))).await);
        if let Some(last) = last.replace(told.id.clone()) {
            write(&a, forget(&last, n % 2 == 0)).await;
        }
        write(&a, learn("x", n % 2 == 0)).await;
        a.store.prune(&kept).await.unwrap();
    }
    equal(&a, &b).await;
    wait_until(SOON, "the experience too", async || {
        a.memories.experience(&agent("x")) == b.memories.experience(&agent("x"))
    })
    .await;
    a.stop().await;
    b.stop().await;
}

async fn a_database_that_has_gone_back_is_followed(world: World) {
    let process = Process::start(&world.location()).await;
    let kept = memory(&write(&process, say("kept")).await);
    let changed = memory(&write(&process, say("changed")).await);
    let lost = memory(&write(&process, say("lost")).await);
    write(&process, update(&changed, 1, 0.9)).await;
    // As after a restore of an older state.
    world.execute(&format!("DELETE FROM memories WHERE id = '{}'", lost.id)).await;
    world.execute(&format!("UPDATE memories SET revision = 1, importance = 0.2 WHERE id = '{}'", changed.id)).await;
    world
        .execute(match &world {
            World::Postgres(_) => "UPDATE store_meta SET epoch = gen_random_uuid()",
            World::Sqlite { .. } => "UPDATE store_meta SET epoch = 'another'",
        })
        .await;
    wait_until(SOON, "it is as the database is", async || {
        let index = process.memories.read();
        index.get(lost.id.as_str()).is_none()
            && index.get(changed.id.as_str()).is_some_and(|memory| memory.spec.importance == 0.2)
    })
    .await;
    assert!(process.memories.read().get(kept.id.as_str()).is_some());
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_at_commit_does_each_command_once() {
    let Some(world) = World::postgres().await else { return };
    let url = world.database().url();
    let proxy = FaultProxy::start_for(&url).await;
    let process = Process::start(&postgres_location(&proxy.url(&url))).await;
    for (round, trigger) in
        [Trigger::BeforeCommit, Trigger::DuringCommit, Trigger::AfterCommit].iter().cycle().take(9).enumerate()
    {
        let cut = async |command: MemoryCommand| {
            let fault = proxy.arm_cut_at(trigger.clone());
            let outcome = write(&process, command).await;
            assert_eq!(fault.fired(), 1, "{trigger:?}");
            outcome
        };
        let new = NewMemory {
            id: MemoryId::generate(),
            spec: spec(&json!({"content": format!("fact {round}")})),
            trust: Trust::Agent,
            derived_from: [].into(),
            created_at: None,
        };
        let told = cut(crate::memory_document::command(MemoryAction::Store(Box::new(new.clone())))).await;
        assert!(matches!(told, MemoryOutcome::Stored { .. }), "{trigger:?}: {told:?}");
        assert_eq!(memory(&told).id, new.id);
        let again = memory(&cut(say(&format!("fact {round}"))).await);
        assert_eq!((&again.id, again.frequency), (&new.id, 2), "{trigger:?}");
        assert_eq!(memory(&cut(update(&again, 2, 0.9)).await).revision, 3, "{trigger:?}");
        let learned = cut(learn("x", true)).await;
        let MemoryOutcome::Learned { experience } = learned else { panic!("{learned:?}") };
        assert_eq!(usize::try_from(experience.personality.interactions).unwrap(), round + 1, "{trigger:?}");
        let gone = cut(forget(&new.id, round % 2 == 0)).await;
        assert!(matches!(gone, MemoryOutcome::Forgotten { revision: 4, .. }), "{trigger:?}: {gone:?}");
    }
    process.stop().await;
}
