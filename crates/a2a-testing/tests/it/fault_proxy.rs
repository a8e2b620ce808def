use std::time::{Duration, Instant};

use a2a_testing::fault_proxy::{Action, FaultProxy, Moment, Trigger};
use a2a_testing::postgres::{TestDatabase, postgres_or_skip};
use a2a_testing::wait::wait_until;
use tokio_postgres::{Client, NoTls};

const LIMIT: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(150);

struct Scene {
    database: TestDatabase,
    proxy: FaultProxy,
}

impl Scene {
    async fn new() -> Option<Self> {
        let server = postgres_or_skip().await?;
        let database = TestDatabase::create(&server).await;
        database.execute("create table t (n int unique deferrable initially deferred)").await;
        let proxy = FaultProxy::start_for(&database.url()).await;
        Some(Self { database, proxy })
    }

    async fn try_client(&self) -> Result<Client, tokio_postgres::Error> {
        let (client, connection) = tokio_postgres::connect(&self.proxy.url(&self.database.url()), NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    async fn client(&self) -> Client {
        tokio::time::timeout(LIMIT, self.try_client()).await.expect("in time").expect("a connection")
    }

    async fn rows(&self) -> Vec<i32> {
        // A cut connection's transaction may still be under way on the server.
        let client = self.database.client().await;
        wait_until(LIMIT, "the end of other sessions' work", async || {
            let busy = "select count(*) from pg_stat_activity where datname = current_database() \
                        and state <> 'idle' and pid <> pg_backend_pid()";
            client.query_one(busy, &[]).await.unwrap().get::<_, i64>(0) == 0
        })
        .await;
        let rows = client.query("select n from t order by n", &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }
}

async fn commit(client: &Client, n: i32) -> Result<(), tokio_postgres::Error> {
    client.batch_execute("begin").await?;
    client.execute("insert into t values ($1)", &[&n]).await?;
    client.batch_execute("COMMIT").await
}

#[tokio::test]
async fn without_faults_everything_passes() {
    let Some(scene) = Scene::new().await else { return };
    let client = scene.client().await;
    commit(&client, 1).await.unwrap();
    let big = "x".repeat(3_000_000);
    let row = client.query_one("select $1::text || $1::text, generate_series(1, 1)", &[&big]).await.unwrap();
    assert_eq!(row.get::<_, String>(0).len(), 6_000_000);
    // Requests that do not wait for each other.
    let (a, b, c) = tokio::join!(
        client.query("select 1 where $1::int = 1", &[&1]),
        client.simple_query("select 2"),
        client.execute("select 3 where $1::int = 1", &[&1]),
    );
    assert_eq!((a.unwrap().len(), b.is_ok(), c.unwrap()), (1, true, 1));
    assert!(client.simple_query("select 1/0").await.is_err());
    assert_eq!(scene.proxy.accepted(), 1);
    drop(client);
    wait_until(LIMIT, "the end of the connection", async || scene.proxy.open() == 0).await;
    assert_eq!(scene.rows().await, [1]);
}

#[tokio::test]
async fn a_cut_before_commit_loses_the_transaction() {
    let Some(scene) = Scene::new().await else { return };
    let fault = scene.proxy.arm_cut_at(Trigger::BeforeCommit);
    let client = scene.client().await;
    commit(&client, 1).await.unwrap_err();
    assert!(client.is_closed());
    assert_eq!(scene.rows().await, Vec::<i32>::new());
    commit(&scene.client().await, 2).await.unwrap();
    assert_eq!((fault.fired(), scene.rows().await), (1, vec![2]));
}

#[tokio::test]
async fn a_cut_after_commit_keeps_the_transaction_and_hides_it() {
    let Some(scene) = Scene::new().await else { return };
    let fault = scene.proxy.arm(Trigger::AfterCommit, Action::Cut, 3);
    for n in 0..3 {
        commit(&scene.client().await, n).await.unwrap_err();
    }
    commit(&scene.client().await, 3).await.unwrap();
    assert_eq!((fault.fired(), scene.rows().await), (3, vec![0, 1, 2, 3]));
}

#[tokio::test]
async fn a_cut_during_commit_leaves_all_or_nothing_and_no_answer() {
    let Some(scene) = Scene::new().await else { return };
    let fault = scene.proxy.arm(Trigger::DuringCommit, Action::Cut, 30);
    for n in 0..30 {
        commit(&scene.client().await, n).await.unwrap_err();
    }
    assert_eq!(fault.fired(), 30);
    let rows = scene.rows().await;
    eprintln!("{} of 30 were committed", rows.len());
}

#[tokio::test]
async fn a_commit_that_fails_is_answered_and_does_not_count() {
    let Some(scene) = Scene::new().await else { return };
    let client = scene.client().await;
    commit(&client, 1).await.unwrap();
    let fault = scene.proxy.arm_cut_at(Trigger::AfterCommit);
    let error = commit(&client, 1).await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "23505", "the deferred constraint fails the COMMIT");
    client.batch_execute("begin").await.unwrap();
    client.batch_execute("select 1/0").await.unwrap_err();
    client.batch_execute("commit").await.unwrap();
    assert_eq!(fault.fired(), 0, "that COMMIT was a rollback");
    commit(&client, 2).await.unwrap_err();
    assert_eq!((fault.fired(), scene.rows().await), (1, vec![1, 2]));
}

#[tokio::test]
async fn a_prepared_commit_is_a_commit() {
    let Some(scene) = Scene::new().await else { return };
    for (trigger, kept) in [(Trigger::BeforeCommit, false), (Trigger::AfterCommit, true)] {
        let client = scene.client().await;
        let prepared = client.prepare("commit").await.unwrap();
        let fault = scene.proxy.arm_cut_at(trigger);
        client.batch_execute("begin; insert into t values (7)").await.unwrap();
        client.execute(&prepared, &[]).await.unwrap_err();
        assert_eq!(fault.fired(), 1);
        assert_eq!(!scene.rows().await.is_empty(), kept);
    }
}

#[tokio::test]
async fn one_autocommitted_statement_can_be_hit() {
    let Some(scene) = Scene::new().await else { return };
    let insert = "/* write */ insert into t values ($1)";
    for (n, moment) in [(1, Moment::Before), (2, Moment::After), (3, Moment::During)] {
        let fault = scene.proxy.arm_cut_at_statement("INTO T", moment);
        let client = scene.client().await;
        client.execute("select 1", &[]).await.unwrap();
        assert_eq!(fault.fired(), 0);
        client.execute(insert, &[&n]).await.unwrap_err();
        assert_eq!(fault.fired(), 1);
    }
    let rows = scene.rows().await;
    assert!(rows == [2] || rows == [2, 3], "{rows:?}");
    // A single statement in the simple protocol.
    let fault = scene.proxy.arm_cut_at_statement("into t", Moment::After);
    scene.client().await.batch_execute("insert into t values (4)").await.unwrap_err();
    assert_eq!(fault.fired(), 1);
    assert_eq!(scene.rows().await.last(), Some(&4));
}

#[tokio::test]
async fn only_the_answer_of_the_statement_is_held_in_a_pipeline() {
    let Some(scene) = Scene::new().await else { return };
    let client = scene.client().await;
    let before = client.prepare("select 1").await.unwrap();
    let fault = scene.proxy.arm_cut_at(Trigger::AfterCommit);
    client.batch_execute("begin; insert into t values (1)").await.unwrap();
    let (first, second, third) =
        tokio::join!(client.query(&before, &[]), client.batch_execute("commit"), client.query(&before, &[]));
    assert_eq!(first.unwrap().len(), 1, "what was asked before is answered");
    second.unwrap_err();
    third.unwrap_err();
    assert_eq!((fault.fired(), scene.rows().await), (1, vec![1]));
}

#[tokio::test]
async fn a_black_hole_holds_everything_until_it_is_healed() {
    let Some(scene) = Scene::new().await else { return };
    let client = scene.client().await;
    scene.proxy.black_hole(true);
    let query = client.simple_query("select 1");
    let connect = scene.try_client();
    tokio::pin!(query, connect);
    assert!(tokio::time::timeout(SHORT, &mut query).await.is_err());
    assert!(tokio::time::timeout(SHORT, &mut connect).await.is_err());
    assert_eq!(scene.proxy.accepted(), 2, "a new connection is accepted and silent");
    scene.proxy.black_hole(false);
    tokio::time::timeout(LIMIT, query).await.unwrap().unwrap();
    tokio::time::timeout(LIMIT, connect).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_black_hole_may_open_after_a_commit() {
    let Some(scene) = Scene::new().await else { return };
    let client = scene.client().await;
    let fault = scene.proxy.arm(Trigger::AfterCommit, Action::BlackHole, 1);
    let committing = commit(&client, 1);
    tokio::pin!(committing);
    let raced = tokio::select! {
        _ = &mut committing => true,
        fired = fault.wait_fired(1, LIMIT) => !fired,
    };
    assert!(!raced);
    assert_eq!(scene.rows().await, [1]);
    assert!(tokio::time::timeout(SHORT, &mut committing).await.is_err());
    scene.proxy.heal();
    tokio::time::timeout(LIMIT, committing).await.unwrap().unwrap();
}

#[tokio::test]
async fn delays_hold_for_all_or_for_one_answer() {
    let Some(scene) = Scene::new().await else { return };
    let client = scene.client().await;
    scene.proxy.delay(SHORT);
    let started = Instant::now();
    client.simple_query("select 1").await.unwrap();
    assert!(started.elapsed() >= 2 * SHORT, "{:?}", started.elapsed());
    scene.proxy.delay(Duration::ZERO);
    for moment in [Moment::Before, Moment::During, Moment::After] {
        let trigger = Trigger::Statement { containing: "slow".into(), moment };
        let fault = scene.proxy.arm(trigger, Action::Delay(SHORT), 1);
        let started = Instant::now();
        client.simple_query("select 'slow'").await.unwrap();
        assert!(started.elapsed() >= SHORT, "{moment:?} {:?}", started.elapsed());
        assert_eq!(fault.fired(), 1);
    }
}

#[tokio::test]
async fn refused_connections_fail_while_open_ones_go_on() {
    let Some(scene) = Scene::new().await else { return };
    let client = scene.client().await;
    scene.proxy.refuse(true);
    assert!(tokio::time::timeout(LIMIT, scene.try_client()).await.unwrap().is_err());
    assert_eq!(scene.proxy.refused(), 1);
    client.simple_query("select 1").await.unwrap();
    scene.proxy.refuse(false);
    scene.client().await;
}

#[tokio::test]
async fn cutting_all_ends_what_is_open_and_nothing_later() {
    let Some(scene) = Scene::new().await else { return };
    let (a, b) = (scene.client().await, scene.client().await);
    let sleeping = a.simple_query("select pg_sleep(60)");
    tokio::pin!(sleeping);
    assert!(tokio::time::timeout(SHORT, &mut sleeping).await.is_err());
    scene.proxy.cut_all();
    tokio::time::timeout(LIMIT, sleeping).await.unwrap().unwrap_err();
    tokio::time::timeout(LIMIT, b.simple_query("select 1")).await.unwrap().unwrap_err();
    scene.client().await.simple_query("select 1").await.unwrap();
}

#[tokio::test]
async fn a_disarmed_fault_never_fires() {
    let Some(scene) = Scene::new().await else { return };
    let one = scene.proxy.arm_cut_at(Trigger::BeforeCommit);
    one.disarm();
    let other = scene.proxy.arm_cut_at(Trigger::AfterCommit);
    scene.proxy.disarm_all();
    commit(&scene.client().await, 1).await.unwrap();
    assert_eq!((one.fired(), other.fired()), (0, 0));
}

#[tokio::test]
async fn a_server_that_is_not_there_looks_like_a_failed_connection() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = free.local_addr().unwrap();
    drop(free);
    let proxy = FaultProxy::start(nobody).await;
    let url = proxy.url("postgres://postgres@elsewhere:1/postgres");
    let connecting = tokio_postgres::connect(&url, NoTls);
    assert!(tokio::time::timeout(LIMIT, connecting).await.unwrap().is_err());
}
