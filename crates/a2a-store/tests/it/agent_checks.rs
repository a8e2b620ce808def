//! Contacts with agents: written beside the agents, and followed by every process.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use a2a_core::agent_check::{AgentCheck, AgentContact, AgentStatus};
use a2a_core::ids::Actor;
use a2a_store::NotedCheck;
use a2a_store::store::{Retention, Store};
use a2a_testing::wait::wait_until;

use crate::document::{key, purge, put, remove};
use crate::process::{LIMIT, Process, finish};
use crate::world::{World, commit_all, commit_one, newest, on_both};

on_both!(
    a_contact_is_written_beside_the_agent,
    a_contact_with_an_agent_that_is_not_so_is_left_out,
    a_late_contact_does_not_replace_a_later_one,
    contacts_with_purged_agents_are_pruned,
    another_process_sees_a_contact_within_a_second,
    contacts_are_there_after_a_restart,
    a_change_makes_an_agent_declared_again_everywhere,
    many_contacts_of_two_processes_at_once_are_all_written,
    contacts_go_back_with_the_database,
);

const SOON: Duration = Duration::from_secs(1);

fn contact(id: &str, agent_revision: i64, reachable: bool) -> NotedCheck {
    NotedCheck {
        key: key(id),
        agent_revision,
        reachable,
        detail: (!reachable).then(|| "no connection".into()),
        at: Instant::now(),
        checked_by: Actor::new("prober"),
    }
}

async fn note(store: &Store, noted: NotedCheck) -> Option<AgentCheck> {
    let mut stored = store.agent_checks_note(std::slice::from_ref(&noted)).await.unwrap();
    assert!(stored.len() <= 1);
    stored.pop().map(|(key, check)| {
        assert_eq!(key, noted.key);
        check
    })
}

fn shown(process: &Process, id: &str) -> AgentContact {
    process.get(id).map(|agent| process.cache.read().contact(&agent)).unwrap_or_default()
}

fn all(process: &Process) -> BTreeMap<String, AgentCheck> {
    process.cache.read().checks().map(|(key, check)| (key.to_string(), (**check).clone())).collect()
}

async fn a_contact_is_written_beside_the_agent(world: World) {
    let store = world.store().await;
    commit_one(&store, put("a", 1)).await;
    let (agent, _) = newest(&store, &key("a")).await.unwrap();
    let first = note(&store, contact("a", 1, false)).await.unwrap();
    assert_eq!((first.reachable, first.revision, first.checked_by.as_str()), (false, 1, "prober"));
    assert_eq!(first.detail.as_deref(), Some("no connection"));
    assert!(first.is_about(&agent), "{first:?} {agent:?}");
    // As old as it was, by the clock of the database.
    let now = note(&store, contact("a", 1, true)).await.unwrap();
    assert_eq!((now.reachable, now.revision, &now.detail), (true, 2, &None));
    assert!(now.checked_at >= first.checked_at && now.checked_at.since(first.checked_at) < Duration::from_secs(10));
    let logged = world
        .texts(
            "SELECT id || ' ' || revision || ' ' || op FROM change_log WHERE entity = 'agent_check' ORDER BY revision",
        )
        .await;
    assert_eq!(logged, ["a 1 put", "a 2 put"]);
    // It is no change of the agent.
    let (after, _) = newest(&store, &key("a")).await.unwrap();
    assert_eq!(after, agent);
    assert_eq!(world.count("SELECT count(*) FROM agent_history").await, 0);
}

async fn a_contact_with_an_agent_that_is_not_so_is_left_out(world: World) {
    let store = world.store().await;
    commit_all(&store, vec![put("changed", 1), put("gone", 1), put("stays", 1)]).await;
    commit_all(&store, vec![put("changed", 2), remove("gone")]).await;
    let noted =
        [contact("changed", 1, true), contact("gone", 2, true), contact("never", 1, true), contact("stays", 1, true)];
    let stored = store.agent_checks_note(&noted).await.unwrap();
    assert_eq!(stored.iter().map(|(key, _)| key.id.as_str()).collect::<Vec<_>>(), ["stays"]);
    assert_eq!(world.texts("SELECT id FROM agent_checks").await, ["stays"]);
    assert_eq!(world.texts("SELECT id FROM change_log WHERE entity = 'agent_check'").await, ["stays"]);
}

async fn a_late_contact_does_not_replace_a_later_one(world: World) {
    let store = world.store().await;
    commit_one(&store, put("a", 1)).await;
    assert_eq!(note(&store, contact("a", 1, true)).await.unwrap().revision, 1);
    let an_hour = Duration::from_secs(3_600);
    let Some(at) = Instant::now().checked_sub(an_hour) else { return };
    assert_eq!(note(&store, NotedCheck { at, ..contact("a", 1, false) }).await, None);
    // What lies in the future was written under a clock that was wrong.
    let ahead = if world.is_postgres() { "checked_at + interval '1 hour'" } else { "checked_at + 3600000" };
    world.execute(&format!("UPDATE agent_checks SET checked_at = {ahead}")).await;
    assert_eq!(note(&store, contact("a", 1, false)).await.unwrap().revision, 2);
}

async fn contacts_with_purged_agents_are_pruned(world: World) {
    let store = world.store().await;
    for id in ["stays", "removed", "purged"] {
        commit_one(&store, put(id, 1)).await;
        note(&store, contact(id, 1, true)).await.unwrap();
    }
    commit_all(&store, vec![remove("removed"), purge("purged")]).await;
    store.prune(&Retention::default()).await.unwrap();
    assert_eq!(world.texts("SELECT id FROM agent_checks ORDER BY id").await, ["removed", "stays"]);
    // A new agent under that name has nothing of the old one.
    let process = Process::start(&world.location()).await;
    process.write(put("purged", 1)).await;
    assert_eq!(shown(&process, "purged").status, AgentStatus::Declared);
    finish(&world, vec![process]).await;
}

async fn another_process_sees_a_contact_within_a_second(world: World) {
    let location = world.location();
    let (a, b) = tokio::join!(Process::start(&location), Process::start(&location));
    a.write(put("x", 1)).await;
    for round in 0..5 {
        let (from, to) = if round % 2 == 0 { (&a, &b) } else { (&b, &a) };
        wait_until(SOON, "the agent", async || to.revision("x") == 1).await;
        let reachable = round % 3 == 0;
        from.writer.agent_checked(contact("x", 1, reachable));
        let revision = |process: &Process| process.cache.read().check_revision(&key("x")).unwrap_or_default();
        wait_until(LIMIT, "the contact to be written", async || revision(from) == round + 1).await;
        wait_until(SOON, "the other process", async || revision(to) == round + 1).await;
        assert_eq!(all(from), all(to));
        let expected = if reachable { AgentStatus::Reachable } else { AgentStatus::Unreachable };
        assert_eq!(shown(to, "x").status, expected);
    }
    assert_eq!((a.status.reconciled(), b.status.reconciled()), (0, 0), "followed, not compared");
    finish(&world, vec![a, b]).await;
}

async fn contacts_are_there_after_a_restart(world: World) {
    let process = Process::start(&world.location()).await;
    process.write(put("x", 1)).await;
    process.writer.agent_checked(contact("x", 1, false));
    // What was accepted is written when the process ends.
    process.stop().await;
    let process = Process::start(&world.location()).await;
    let contact = shown(&process, "x");
    assert_eq!((contact.status, contact.detail()), (AgentStatus::Unreachable, Some("no connection")));
    finish(&world, vec![process]).await;
}

async fn a_change_makes_an_agent_declared_again_everywhere(world: World) {
    let location = world.location();
    let (a, b) = tokio::join!(Process::start(&location), Process::start(&location));
    a.write(put("x", 1)).await;
    a.writer.agent_checked(contact("x", 1, true));
    wait_until(LIMIT, "the contact", async || shown(&b, "x").status == AgentStatus::Reachable).await;
    b.write(put("x", 2)).await;
    wait_until(SOON, "the change", async || a.revision("x") == 2).await;
    for process in [&a, &b] {
        assert_eq!(shown(process, "x"), AgentContact::default());
    }
    // One that was had before the change, and comes after it.
    a.writer.agent_checked(contact("x", 1, true));
    a.writer.agent_checked(contact("y", 1, true));
    let c = Process::start(&world.location()).await;
    assert_eq!(shown(&c, "x").status, AgentStatus::Declared);
    finish(&world, vec![a, b, c]).await;
    assert_eq!(world.count("SELECT revision FROM agent_checks WHERE id = 'x'").await, 1);
}

async fn many_contacts_of_two_processes_at_once_are_all_written(world: World) {
    const AGENTS: usize = 200;
    let location = world.location();
    let (a, b) = tokio::join!(Process::start(&location), Process::start(&location));
    let ids: Vec<String> = (0..AGENTS).map(|n| format!("a{n}")).collect();
    commit_all(&a.store, ids.iter().map(|id| put(id, 1)).collect()).await;
    wait_until(LIMIT, "the agents", async || a.agents().len() == AGENTS && b.agents().len() == AGENTS).await;
    for id in &ids {
        a.writer.agent_checked(contact(id, 1, true));
    }
    for id in ids.iter().rev() {
        b.writer.agent_checked(contact(id, 1, true));
    }
    for process in [&a, &b] {
        wait_until(LIMIT, "all contacts", async || all(process).len() == AGENTS).await;
    }
    finish(&world, vec![a, b]).await;
}

async fn contacts_go_back_with_the_database(world: World) {
    let process = Process::start(&world.location()).await;
    for id in ["older", "lost"] {
        process.write(put(id, 1)).await;
        process.writer.agent_checked(contact(id, 1, true));
    }
    wait_until(LIMIT, "the first contacts", async || all(&process).len() == 2).await;
    world.execute("CREATE TABLE backup AS SELECT * FROM agent_checks WHERE id = 'older'").await;
    process.writer.agent_checked(contact("older", 1, false));
    wait_until(LIMIT, "the second contact", async || shown(&process, "older").status == AgentStatus::Unreachable).await;
    let epoch = if world.is_postgres() { "gen_random_uuid()" } else { "lower(hex(randomblob(16)))" };
    world
        .execute(&format!(
            "DELETE FROM agent_checks; INSERT INTO agent_checks SELECT * FROM backup; UPDATE store_meta SET epoch = {epoch}"
        ))
        .await;
    wait_until(LIMIT, "the state of the backup", async || {
        let status = |id| shown(&process, id).status;
        (status("older"), status("lost")) == (AgentStatus::Reachable, AgentStatus::Declared)
    })
    .await;
    finish(&world, vec![process]).await;
}
