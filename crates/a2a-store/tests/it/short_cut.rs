//! What the caller believes of an agent saves round trips and never changes an outcome.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use a2a_core::agent::Agent;
use a2a_core::change::{Change, Outcome};
use a2a_core::ids::AgentKey;
use a2a_store::Unit;
use a2a_store::store::Store;
use a2a_testing::wait::wait_until;

use crate::document::{expecting, key, purge, put, remove, revisions, spec, update, written};
use crate::process::LIMIT;
use crate::world::{World, commit_all, commit_one, newest};

async fn guessing(store: &Store, changes: Vec<Change>, base: Option<Arc<Agent>>) -> Vec<Outcome> {
    let units: Vec<Unit> = changes.into_iter().map(Unit::one).collect();
    let known = move |key: &AgentKey| base.clone().filter(|agent| agent.key() == *key);
    store.commit(units.into(), false, &known).await.unwrap().concat()
}

/// Waits until a session waits for a lock of another one.
async fn somebody_waits(world: &World) {
    let query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    wait_until(LIMIT, "somebody who waits for a lock", async || world.count(query).await > 0).await;
}

/// Three revisions of one agent; the last one is what the database holds.
async fn three_revisions(store: &Store) -> [Arc<Agent>; 3] {
    [
        written(&commit_one(store, put("a", 1)).await),
        written(&commit_one(store, put("a", 2)).await),
        written(&commit_one(store, put("a", 3)).await),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_guess_has_the_same_outcome() {
    let Some(world) = World::postgres().await else { return };
    let store = world.store().await;
    let writes: [fn() -> Change; 9] = [
        || put("a", 9),
        || update("a", 9),
        || put("a", 3),
        || expecting(3, put("a", 9)),
        || expecting(3, put("a", 3)),
        || expecting(2, put("a", 9)),
        || expecting(0, put("a", 9)),
        || remove("a"),
        || purge("a"),
    ];
    for write in writes {
        let mut told: Vec<String> = Vec::new();
        for guess in 0..4 {
            let known = three_revisions(&store).await;
            let before = known[2].revision - 3;
            let base = (guess > 0).then(|| known[guess - 1].clone());
            let mut change = write();
            // The same write, counted from the revisions that this round began with.
            change.expected_revision = change.expected_revision.map(|r| if r == 0 { 0 } else { r + before });
            let outcome = guessing(&store, vec![change], base).await.remove(0);
            told.push(match outcome {
                Outcome::Put { agent, replaced_revision } => {
                    let stored = newest(&store, &key("a")).await.unwrap().0;
                    assert_eq!(stored, agent, "the reply is what the database holds");
                    assert_eq!(agent.created_at, known[0].created_at);
                    assert_eq!(agent.deployed_at == agent.updated_at, stored.deployed_at == stored.updated_at);
                    format!("put {} for {:?}", agent.revision - before, replaced_revision.map(|r| r - before))
                }
                Outcome::Unchanged { revision } => format!("unchanged {}", revision - before),
                Outcome::Conflict { current } => format!("conflict {}", current - before),
                Outcome::Removed { revision, purged } => format!("removed {} {purged}", revision - before),
                other => format!("{other:?}"),
            });
            commit_one(&store, put("a", "unlike any other")).await;
            commit_one(&store, purge("a")).await;
        }
        assert!(told.iter().all(|t| *t == told[0]), "{told:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_right_guess_writes_all_that_the_full_way_writes() {
    let Some(world) = World::postgres().await else { return };
    let store = world.store().await;
    let first = written(&guessing(&store, vec![put("a", 1)], None).await[0]);
    let second = guessing(&store, vec![expecting(1, update("a", 2))], Some(first.clone())).await.remove(0);
    assert_eq!(revisions(&second), (2, Some(1)));
    let second = written(&second);
    assert_eq!((second.created_at, second.deployed_at), (first.created_at, first.deployed_at));
    let history = store.agent_history(&key("a"), None, 10).await.unwrap();
    let history: Vec<Arc<Agent>> = history.into_iter().map(|version| version.agent).collect();
    assert_eq!(history, [second, first]);
    assert_eq!(world.count("SELECT count(*) FROM change_log").await, 2);
    assert_eq!(world.count("SELECT count(*) FROM applied_ops WHERE replaced_revision = 1").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_mixes_what_is_guessed_and_what_is_not() {
    let Some(world) = World::postgres().await else { return };
    let store = world.store().await;
    let known = three_revisions(&store).await;
    commit_all(&store, vec![put("b", 1), put("c", 1)]).await;
    let changes =
        vec![remove("c"), expecting(3, put("a", 4)), put("b", 2), put("d", 1), expecting(1, put("b", 9)), put("e", 1)];
    let outcomes = guessing(&store, changes, Some(known[2].clone())).await;
    assert_eq!(outcomes[0], Outcome::Removed { revision: 2, purged: false });
    assert_eq!(revisions(&outcomes[1]), (4, Some(3)));
    assert_eq!(revisions(&outcomes[2]), (2, Some(1)));
    assert_eq!(revisions(&outcomes[3]), (1, None));
    assert_eq!(outcomes[4], Outcome::Conflict { current: 2 });
    assert_eq!(revisions(&outcomes[5]), (1, None));
}

/// A purge that commits while the short cut waits for it must not make the revisions begin anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revisions_go_on_when_a_purge_commits_in_between() {
    let Some(world) = World::postgres().await else { return };
    let store = world.store().await;
    three_revisions(&store).await;
    let other = world.database().client().await;
    let purge = "BEGIN; DELETE FROM agent_history; \
         INSERT INTO tombstones SELECT 'agent', namespace, id, revision + 1, now() FROM agents; DELETE FROM agents";
    other.batch_execute(purge).await.unwrap();
    let outcomes = tokio::join!(guessing(&store, vec![put("a", 4)], None), async {
        somebody_waits(&world).await;
        other.batch_execute("COMMIT").await.unwrap();
    });
    assert_eq!(revisions(&outcomes.0[0]), (5, None));
    assert_eq!(world.count("SELECT count(*) FROM tombstones").await, 0);
    assert_eq!(commit_one(&store, crate::document::purge("a")).await, Outcome::Removed { revision: 6, purged: true });
}

/// What another process creates and purges while a create is on its way leaves no trace that the create could see.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revisions_go_on_when_an_agent_comes_and_goes_in_between() {
    let Some(world) = World::postgres().await else { return };
    let (store, other) = (world.store().await, world.store().await);
    let gate = world.database().client().await;
    // The slow create has begun, and waits right before it inserts.
    world
        .execute(
            "CREATE FUNCTION at_gate() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             PERFORM pg_advisory_xact_lock_shared(7); RETURN NEW; END $$; \
             CREATE TRIGGER at_gate BEFORE INSERT ON agents FOR EACH ROW \
             WHEN (NEW.description = 'Says slow') EXECUTE FUNCTION at_gate()",
        )
        .await;
    gate.batch_execute("SELECT pg_advisory_lock(7)").await.unwrap();
    let others = async {
        somebody_waits(&world).await;
        let created = commit_one(&other, put("a", "quick")).await;
        let done = std::sync::atomic::AtomicBool::new(false);
        let purging = async {
            let purged = commit_one(&other, purge("a")).await;
            done.store(true, Ordering::Release);
            purged
        };
        let opening = async {
            let waiting = "SELECT count(*) FROM pg_stat_activity \
                 WHERE datname = current_database() AND wait_event_type = 'Lock'";
            wait_until(LIMIT, "the purge to wait or to be done", async || {
                done.load(Ordering::Acquire) || world.count(waiting).await > 1
            })
            .await;
            gate.batch_execute("SELECT pg_advisory_unlock(7)").await.unwrap();
        };
        (created, tokio::join!(purging, opening).0)
    };
    let (slow, (created, purged)) = tokio::join!(guessing(&store, vec![put("a", "slow")], None), others);
    let Outcome::Removed { revision: purged, purged: true } = purged else { panic!("{purged:?}") };
    let mut all = [revisions(&created).0, revisions(&slow[0]).0, purged];
    all.sort_unstable();
    assert_eq!(all, [1, 2, 3], "every revision is made once");
}

/// Another process that holds the row and writes its history must not wait for the short cut that waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_short_cut_and_the_full_way_never_wait_for_each_other() {
    let Some(world) = World::postgres().await else { return };
    let store = world.store().await;
    let known = three_revisions(&store).await;
    let other = world.database().client().await;
    other.batch_execute("BEGIN; SELECT FROM agents WHERE id = 'a' FOR UPDATE").await.unwrap();
    let outcomes = tokio::join!(guessing(&store, vec![put("a", 4)], Some(known[2].clone())), async {
        somebody_waits(&world).await;
        let remove = "SET deadlock_timeout = '20s'; INSERT INTO agent_history SELECT * FROM agents WHERE id = 'a'; \
             UPDATE agents SET revision = revision + 1, description = 'theirs' WHERE id = 'a'; COMMIT";
        tokio::time::timeout(Duration::from_secs(1), other.batch_execute(remove)).await.unwrap().unwrap();
    });
    assert_eq!(revisions(&outcomes.0[0]), (5, Some(4)));
    assert_eq!(store.agent_history(&key("a"), None, 10).await.unwrap().len(), 5);
}

/// What the short cut has written is committed, also when the rest of the batch has to be tried again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_after_the_short_cut_knows_what_was_committed() {
    let Some(world) = World::postgres().await else { return };
    let process = crate::process::Process::start(&world.location()).await;
    process.write(put("cas", 1)).await;
    process.write(put("gone", 1)).await;
    // The first removal meets what a serializable database would say.
    world
        .execute(
            "CREATE SEQUENCE attempts; CREATE FUNCTION fail_once() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             IF nextval('attempts') = 1 THEN RAISE EXCEPTION 'could not serialize access' USING ERRCODE = '40001'; \
             END IF; RETURN NEW; END $$; \
             CREATE TRIGGER fail_once BEFORE UPDATE ON agents FOR EACH ROW WHEN (NEW.removed_at IS NOT NULL) \
             EXECUTE FUNCTION fail_once()",
        )
        .await;
    let units = vec![Unit::one(expecting(1, put("cas", 2))), Unit::one(remove("gone"))];
    let outcomes = process.writer.submit(units, false, crate::process::in_secs(20)).await.unwrap().concat();
    assert_eq!(world.count("SELECT last_value FROM attempts").await, 2);
    assert_eq!(revisions(&outcomes[0]), (2, Some(1)));
    assert_eq!(outcomes[1], Outcome::Removed { revision: 2, purged: false });
    crate::process::finish(&world, vec![process]).await;
}

/// Batches over the same agents from several processes, in every order: nobody is chosen as a victim.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_over_the_same_agents_do_not_deadlock() {
    const AGENTS: usize = 40;
    let Some(world) = World::postgres().await else { return };
    let store = world.store().await;
    let ids: Vec<String> = (0..AGENTS).map(|n| format!("agent-{n}")).collect();
    commit_all(&store, ids.iter().map(|id| put(id, "first")).collect()).await;
    let done = AtomicU64::new(0);
    let workers = (0..4_usize).map(|worker| {
        let (world, ids, done) = (&world, &ids, &done);
        async move {
            let store = world.store().await;
            for round in 0..25_usize {
                let mut order = ids.clone();
                order.rotate_left((worker * 11 + round * 7) % AGENTS);
                if worker % 2 == 1 {
                    order.reverse();
                }
                // What another process wrote last, so that many guesses are right and some are not.
                let mut known = std::collections::HashMap::new();
                for id in order.iter().take(4) {
                    known.insert(key(id), newest(&store, &key(id)).await.unwrap().0);
                }
                let units: Vec<Unit> = order.iter().map(|id| Unit::one(put(id, format!("{worker} {round}")))).collect();
                let revision = done.load(Ordering::Relaxed);
                let guess = |key: &AgentKey| {
                    let mut agent = Agent::clone(known.get(key).or_else(|| known.values().next())?);
                    agent.spec = spec(key.id.as_str(), format!("as of {revision}"));
                    Some(Arc::new(agent))
                };
                let outcomes = store.commit(units.into(), false, &guess).await.unwrap();
                assert!(outcomes.concat().iter().all(Outcome::is_success));
                done.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    futures_util::future::join_all(workers).await;
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    assert_eq!(world.count(deadlocks).await, 0);
    let written = i64::try_from(AGENTS * (4 * 25 + 1)).unwrap();
    assert_eq!(world.count("SELECT sum(revision) FROM agents").await, written);
    assert_eq!(world.count("SELECT count(*) FROM change_log").await, written);
    assert_eq!(world.count("SELECT count(*) FROM agent_history").await, written - i64::try_from(AGENTS).unwrap());
}
