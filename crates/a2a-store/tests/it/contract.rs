//! What each kind of write comes to.

use std::time::SystemTime;

use a2a_core::change::Outcome;
use a2a_core::ids::{Actor, AgentId, AgentKey, Namespace};
use a2a_core::time::Timestamp;
use a2a_store::Unit;
use a2a_store::store::{Location, Retention, Store, ToolUsage};
use a2a_testing::wait::wait_until;
use std::time::Duration;

use crate::document::{expecting, key, purge, put, put_spec, remove, revisions, spec, update, written};
use crate::process::LIMIT;
use crate::world::{World, commit_all, commit_one, commit_units, newest, on_both};

on_both!(
    a_put_makes_replaces_or_leaves_an_agent,
    an_expected_revision_is_compared_with_the_live_one,
    a_removed_agent_comes_back_with_the_next_revision,
    a_purged_agent_comes_back_with_the_next_revision,
    what_is_not_there_is_not_found,
    history_holds_every_revision,
    one_conflict_aborts_the_whole_unit,
    changes_of_one_agent_in_one_commit_keep_their_order,
    times_and_author_tell_what_happened,
    namespaces_do_not_meet,
    tool_usage_is_summed_up,
    a_large_batch_is_one_commit,
);

/// The same in memory, where there is only one store.
#[tokio::test]
async fn memory_keeps_the_contract_too() {
    let store = Store::open(&Location::Memory).await.unwrap();
    puts(&store).await;
    conflicts(&store).await;
    removals(&store).await;
    purges(&store).await;
}

/// Returns when the clock shows a later millisecond than this one.
async fn after(time: Timestamp) {
    wait_until(LIMIT, "the clock", async || Timestamp::from_system_time(SystemTime::now()) > time).await;
}

async fn a_put_makes_replaces_or_leaves_an_agent(world: World) {
    puts(&world.store().await).await;
}

async fn puts(store: &Store) {
    let first = commit_one(store, put("puts", "one")).await;
    assert_eq!(revisions(&first), (1, None));
    assert_eq!(written(&first).spec, spec("puts", "one"));
    assert_eq!(revisions(&commit_one(store, put("puts", "two")).await), (2, Some(1)));
    assert_eq!(commit_one(store, put("puts", "two")).await, Outcome::Unchanged { revision: 2 });
    assert_eq!(commit_one(store, update("puts", "two")).await, Outcome::Unchanged { revision: 2 });
    let (agent, removed) = newest(store, &key("puts")).await.unwrap();
    assert_eq!((agent.revision, &agent.spec, removed), (2, &spec("puts", "two"), false));
}

async fn an_expected_revision_is_compared_with_the_live_one(world: World) {
    conflicts(&world.store().await).await;
}

async fn conflicts(store: &Store) {
    assert_eq!(commit_one(store, expecting(3, put("cas", "one"))).await, Outcome::Conflict { current: 0 });
    assert_eq!(revisions(&commit_one(store, expecting(0, put("cas", "one"))).await), (1, None));
    assert_eq!(commit_one(store, expecting(0, put("cas", "two"))).await, Outcome::Conflict { current: 1 });
    assert_eq!(revisions(&commit_one(store, expecting(1, put("cas", "two"))).await), (2, Some(1)));
    assert_eq!(commit_one(store, expecting(1, put("cas", "three"))).await, Outcome::Conflict { current: 2 });
    // The wrong revision is a conflict also when nothing would change.
    assert_eq!(commit_one(store, expecting(1, put("cas", "two"))).await, Outcome::Conflict { current: 2 });
    assert_eq!(commit_one(store, expecting(2, put("cas", "two"))).await, Outcome::Unchanged { revision: 2 });
    assert_eq!(commit_one(store, expecting(1, remove("cas"))).await, Outcome::Conflict { current: 2 });
    assert_eq!(commit_one(store, expecting(1, purge("cas"))).await, Outcome::Conflict { current: 2 });
    let removed = Outcome::Removed { revision: 3, purged: false };
    assert_eq!(commit_one(store, expecting(2, remove("cas"))).await, removed);
    // A removed agent counts as none.
    assert_eq!(commit_one(store, expecting(3, put("cas", "four"))).await, Outcome::Conflict { current: 0 });
    assert_eq!(revisions(&commit_one(store, expecting(0, put("cas", "four"))).await), (4, None));
}

async fn a_removed_agent_comes_back_with_the_next_revision(world: World) {
    removals(&world.store().await).await;
    let live = world.count("SELECT count(*) FROM agents WHERE removed_at IS NULL").await;
    assert_eq!(live, 1);
}

async fn removals(store: &Store) {
    commit_one(store, put("gone", "one")).await;
    assert_eq!(commit_one(store, remove("gone")).await, Outcome::Removed { revision: 2, purged: false });
    assert_eq!(commit_one(store, remove("gone")).await, Outcome::NotFound);
    let (agent, removed) = newest(store, &key("gone")).await.unwrap();
    assert_eq!((agent.revision, removed), (2, true));
    // Also with the very same document.
    assert_eq!(revisions(&commit_one(store, put("gone", "one")).await), (3, None));
    let (agent, removed) = newest(store, &key("gone")).await.unwrap();
    assert_eq!((agent.revision, removed), (3, false));
}

async fn a_purged_agent_comes_back_with_the_next_revision(world: World) {
    purges(&world.store().await).await;
    assert_eq!(world.count("SELECT count(*) FROM tombstones").await, 0, "what lives again has none");
}

async fn purges(store: &Store) {
    commit_one(store, put("erased", "one")).await;
    commit_one(store, put("erased", "two")).await;
    assert_eq!(commit_one(store, purge("erased")).await, Outcome::Removed { revision: 3, purged: true });
    assert!(store.agent_history(&key("erased"), None, 10).await.unwrap().is_empty());
    assert_eq!(commit_one(store, purge("erased")).await, Outcome::NotFound);
    assert_eq!(commit_one(store, remove("erased")).await, Outcome::NotFound);
    assert_eq!(revisions(&commit_one(store, put("erased", "two")).await), (4, None));
    assert_eq!(commit_one(store, remove("erased")).await, Outcome::Removed { revision: 5, purged: false });
    // What was removed can still be purged.
    assert_eq!(commit_one(store, purge("erased")).await, Outcome::Removed { revision: 6, purged: true });
    assert!(store.agent_history(&key("erased"), None, 10).await.unwrap().is_empty());
    assert_eq!(revisions(&commit_one(store, expecting(0, put("erased", "three"))).await), (7, None));
    assert_eq!(store.agent_history(&key("erased"), None, 10).await.unwrap().len(), 1);
}

async fn what_is_not_there_is_not_found(world: World) {
    let store = world.store().await;
    assert_eq!(commit_one(&store, remove("nobody")).await, Outcome::NotFound);
    assert_eq!(commit_one(&store, purge("nobody")).await, Outcome::NotFound);
    assert!(store.agent_history(&key("nobody"), None, 10).await.unwrap().is_empty());
    assert!(store.agent_version(&key("nobody"), 1).await.unwrap().is_none());
    for table in ["agents", "agent_history", "tombstones", "change_log", "applied_ops"] {
        assert_eq!(world.count(&format!("SELECT count(*) FROM {table}")).await, 0, "{table}");
    }
}

async fn history_holds_every_revision(world: World) {
    let store = world.store().await;
    let id = key("history");
    for n in 1..=4 {
        commit_one(&store, put("history", n)).await;
    }
    commit_one(&store, remove("history")).await;
    commit_one(&store, put("history", 6)).await;
    let all = store.agent_history(&id, None, 100).await.unwrap();
    let found: Vec<(i64, bool)> = all.iter().map(|v| (v.agent.revision, v.removed_at.is_some())).collect();
    assert_eq!(found, [(6, false), (5, true), (4, false), (3, false), (2, false), (1, false)]);
    for version in all.iter().filter(|v| v.agent.revision != 5) {
        assert_eq!(version.agent.spec, spec("history", version.agent.revision));
    }
    let page = async |before, limit| -> Vec<i64> {
        let rows = store.agent_history(&id, before, limit).await.unwrap();
        rows.iter().map(|version| version.agent.revision).collect()
    };
    assert_eq!(page(None, 2).await, [6, 5]);
    assert_eq!(page(Some(5), 2).await, [4, 3]);
    assert_eq!(page(Some(3), 2).await, [2, 1]);
    assert_eq!(page(Some(1), 2).await, [0_i64; 0]);
    for version in &all {
        let one = store.agent_version(&id, version.agent.revision).await.unwrap().unwrap();
        assert_eq!((&one.agent, one.removed_at), (&version.agent, version.removed_at));
    }
    for absent in [0, 7, i64::MAX] {
        assert!(store.agent_version(&id, absent).await.unwrap().is_none(), "{absent}");
    }
}

async fn one_conflict_aborts_the_whole_unit(world: World) {
    let store = world.store().await;
    commit_one(&store, put("there", "one")).await;
    for bad in [expecting(9, put("there", "two")), remove("nobody")] {
        let current = bad.expected_revision.map_or(Outcome::NotFound, |_| Outcome::Conflict { current: 1 });
        let unit = Unit { changes: vec![put("new", 1), bad, put("other", 1)] };
        let bystander = Unit::one(put("bystander", bad_name(&current)));
        let outcomes = commit_units(&store, vec![unit, bystander]).await;
        assert_eq!(outcomes[0], [Outcome::Aborted, current, Outcome::Aborted]);
        assert!(outcomes[1][0].is_success());
        for id in ["new", "other"] {
            assert!(newest(&store, &key(id)).await.is_none(), "{id}");
        }
    }
    let whole = Unit { changes: vec![put("new", 1), remove("there"), put("other", 1)] };
    let outcomes = commit_units(&store, vec![whole]).await.remove(0);
    assert_eq!(revisions(&outcomes[0]), (1, None));
    assert_eq!(outcomes[1], Outcome::Removed { revision: 2, purged: false });
    assert_eq!(revisions(&outcomes[2]), (1, None));
}

fn bad_name(outcome: &Outcome) -> String {
    format!("{outcome:?}")
}

async fn changes_of_one_agent_in_one_commit_keep_their_order(world: World) {
    let store = world.store().await;
    let changes = vec![
        put("busy", 1),
        put("calm", 1),
        expecting(1, put("busy", 2)),
        expecting(1, put("busy", 3)),
        remove("busy"),
        remove("busy"),
        put("busy", 4),
        purge("busy"),
        put("busy", 5),
        put("busy", 5),
    ];
    let outcomes = commit_all(&store, changes).await;
    assert_eq!(revisions(&outcomes[0]), (1, None));
    assert_eq!(revisions(&outcomes[1]), (1, None));
    assert_eq!(revisions(&outcomes[2]), (2, Some(1)));
    assert_eq!(outcomes[3], Outcome::Conflict { current: 2 });
    assert_eq!(outcomes[4], Outcome::Removed { revision: 3, purged: false });
    assert_eq!(outcomes[5], Outcome::NotFound);
    assert_eq!(revisions(&outcomes[6]), (4, None));
    assert_eq!(outcomes[7], Outcome::Removed { revision: 5, purged: true });
    assert_eq!(revisions(&outcomes[8]), (6, None));
    assert_eq!(outcomes[9], Outcome::Unchanged { revision: 6 });
    // Units of several agents keep the order too.
    let unit = |changes| Unit { changes };
    let outcomes = commit_units(
        &store,
        vec![unit(vec![put("a", 1), put("b", 1)]), unit(vec![put("b", 2), put("c", 1)]), unit(vec![put("c", 2)])],
    )
    .await;
    assert_eq!(revisions(&outcomes[1][0]), (2, Some(1)));
    assert_eq!(revisions(&outcomes[2][0]), (2, Some(1)));
}

async fn times_and_author_tell_what_happened(world: World) {
    let store = world.store().await;
    let by = |actor: &str, mut change: a2a_core::change::Change| {
        change.actor = Actor::new(actor);
        change
    };
    let before = Timestamp::from_system_time(SystemTime::now());
    let first = written(&commit_one(&store, by("ann", put("times", 1))).await);
    let now = Timestamp::from_system_time(SystemTime::now());
    assert!(first.created_at >= before && first.created_at <= now, "{before} {first:?} {now}");
    assert_eq!((first.updated_at, first.deployed_at), (first.created_at, first.created_at));
    assert_eq!(first.updated_by.as_str(), "ann");

    after(first.updated_at).await;
    let updated = written(&commit_one(&store, by("bob", update("times", 2))).await);
    assert_eq!((updated.created_at, updated.deployed_at), (first.created_at, first.deployed_at));
    assert!(updated.updated_at > first.updated_at);
    assert_eq!(updated.updated_by.as_str(), "bob");

    after(updated.updated_at).await;
    let deployed = written(&commit_one(&store, by("cem", put("times", 3))).await);
    assert_eq!(deployed.created_at, first.created_at);
    assert!(deployed.updated_at > updated.updated_at);
    assert_eq!(deployed.deployed_at, deployed.updated_at);

    after(deployed.updated_at).await;
    commit_one(&store, by("dan", remove("times"))).await;
    let version = store.agent_version(&key("times"), 4).await.unwrap().unwrap();
    assert_eq!(version.removed_at, Some(version.agent.updated_at));
    assert!(version.agent.updated_at > deployed.updated_at);
    assert_eq!(version.agent.updated_by.as_str(), "dan");
    let again = written(&commit_one(&store, put("times", 4)).await);
    assert_eq!(again.created_at, first.created_at, "the history goes on");
    let stored = store.agent_history(&key("times"), None, 10).await.unwrap();
    let replies = [&again, &version.agent, &deployed, &updated, &first];
    for (version, reply) in stored.iter().zip(replies) {
        assert_eq!(&version.agent, reply, "the reply is what the database holds");
    }

    after(again.updated_at).await;
    commit_one(&store, purge("times")).await;
    let anew = written(&commit_one(&store, update("times", 5)).await);
    assert!(anew.created_at > again.updated_at);
    assert_eq!(anew.deployed_at, anew.created_at, "what is made is deployed");
}

async fn namespaces_do_not_meet(world: World) {
    let store = world.store().await;
    let mut other = spec("twin", "other");
    other.namespace = Namespace::parse("other").unwrap();
    let outcomes = commit_all(&store, vec![put("twin", "one"), put_spec(other.clone()), remove("twin")]).await;
    assert_eq!(revisions(&outcomes[1]), (1, None));
    let twin = AgentKey { namespace: other.namespace.clone(), id: AgentId::from_stored("twin") };
    let (agent, removed) = newest(&store, &twin).await.unwrap();
    assert_eq!((&agent.spec, removed), (&other, false));
}

async fn tool_usage_is_summed_up(world: World) {
    let store = world.store().await;
    let call = |tool, at, micros, error: Option<&str>| ToolUsage {
        at: Timestamp(at),
        tool,
        agent: (tool == "agent_list").then(|| "a".to_owned()),
        actor: "te'ster \u{1f600}".into(),
        duration: Duration::from_micros(micros),
        request_bytes: 3,
        response_bytes: 5,
        error_code: error.map(str::to_owned),
    };
    let now = Timestamp::from_system_time(SystemTime::now()).0;
    let hour = 3_600_000;
    store.tool_usage_append(&[]).await.unwrap();
    let calls = [
        call("agent_list", now - 2 * hour, 7_000, None),
        call("agent_list", now, 100, None),
        call("agent_list", now, 300, Some("not_found")),
        call("agent_deploy", now, 50, None),
    ];
    store.tool_usage_append(&calls).await.unwrap();
    let since = async |at| {
        let rows = store.tool_usage_summary(Timestamp(at)).await.unwrap();
        rows.into_iter().map(|r| (r.tool, r.calls, r.errors, r.mean_us, r.max_us)).collect::<Vec<_>>()
    };
    let expected = [("agent_list".to_owned(), 2, 1, 200, 300), ("agent_deploy".to_owned(), 1, 0, 50, 50)];
    assert_eq!(since(now - hour).await, expected);
    assert_eq!(since(now - 3 * hour).await[0].1, 3);
    let hour = Duration::from_secs(3_600);
    let keep = Retention { change_log: hour, applied_ops: hour, tool_usage: hour, runs: hour, ..Retention::default() };
    store.prune(&keep).await.unwrap();
    assert_eq!(since(0).await, expected, "only what is old goes");
}

async fn a_large_batch_is_one_commit(world: World) {
    let store = world.store().await;
    let outcomes = commit_all(&store, (0..1_000).map(|n| put(&format!("bulk-{n}"), n)).collect()).await;
    assert!(outcomes.iter().all(|outcome| revisions(outcome) == (1, None)));
    let outcomes = commit_all(&store, (0..1_000).map(|n| put(&format!("bulk-{n}"), n + 1)).collect()).await;
    assert!(outcomes.iter().all(|outcome| revisions(outcome) == (2, Some(1))));
    for (n, outcome) in outcomes.iter().enumerate() {
        assert_eq!(written(outcome).spec, spec(&format!("bulk-{n}"), n + 1), "outcomes keep the order of the units");
    }
    let health = store.health().await.unwrap();
    assert_eq!((health.agents, health.agent_history, health.change_log), (1_000, 1_000, 2_000));
}
