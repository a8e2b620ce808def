use std::io::BufRead as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use a2a_testing::postgres::{Cluster, TestDatabase, postgres_or_skip, skipped, template_database};
use a2a_testing::wait::wait_until;

/// Set for the child process that a test kills; without it a run of the ignored tests would never end.
const CHILD: &str = "A2A_TESTING_CHILD";
const LIMIT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_test_database_is_empty_and_gone_afterwards() {
    let Some(server) = postgres_or_skip().await else { return };
    let database = TestDatabase::create(&server).await;
    database.execute("create table t (n int); insert into t values (1)").await;
    let name = database.name().to_owned();
    // An open connection must not keep the database alive.
    let _open = database.client().await;
    drop(database);
    let client = server.client("postgres").await;
    let rows = client.query("select 1 from pg_database where datname = $1", &[&name]).await.unwrap();
    assert!(rows.is_empty());
}

#[tokio::test]
async fn a_template_is_migrated_once_and_cloned_often() {
    let Some(server) = postgres_or_skip().await else { return };
    let key = format!("once_{}", std::process::id());
    let migrations = AtomicU32::new(0);
    let make = async || {
        let template = template_database(&server, &key, async |url| {
            migrations.fetch_add(1, Ordering::Relaxed);
            let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
            // The connection stays open: the template must cope with a migration that does not close its own.
            tokio::spawn(connection);
            client.batch_execute("create table t (n int); insert into t values (42)").await?;
            Ok::<_, tokio_postgres::Error>(())
        })
        .await;
        TestDatabase::from_template(&template).await
    };
    let (a, b, c) = tokio::join!(make(), make(), make());
    assert_eq!(migrations.load(Ordering::Relaxed), 1);
    a.execute("delete from t").await;
    for database in [&b, &c] {
        let row = database.client().await.query_one("select n from t", &[]).await.unwrap();
        assert_eq!(row.get::<_, i32>(0), 42);
    }
    let client = server.client("postgres").await;
    client
        .batch_execute(&format!(
            "alter database a2a_template_{key} is_template false; drop database a2a_template_{key}"
        ))
        .await
        .unwrap_err();
    client.batch_execute(&format!("alter database a2a_template_{key} is_template false")).await.unwrap();
    client.batch_execute(&format!("drop database a2a_template_{key}")).await.unwrap();
}

#[tokio::test]
async fn chosen_connections_are_terminated() {
    let Some(server) = postgres_or_skip().await else { return };
    let database = TestDatabase::create(&server).await;
    let listener = database.client().await;
    listener.batch_execute("listen something").await.unwrap();
    let other = database.client().await;
    other.batch_execute("select 1").await.unwrap();
    assert_eq!(database.terminate_connections("query ilike 'listen%'").await, 1);
    wait_until(LIMIT, "the end of the listener", async || listener.is_closed()).await;
    other.batch_execute("select 1").await.unwrap();
}

#[tokio::test]
async fn a_cluster_survives_kill_pause_and_restart_and_leaves_nothing() {
    if skipped() {
        return;
    }
    let cluster = Cluster::start_with(&[("max_connections", "23")]).await;
    let folder = cluster.folder().to_owned();
    let database = TestDatabase::create(&cluster).await;
    database.execute("create table t (n int)").await;
    for round in 0..3 {
        let client = database.client().await;
        client.execute("insert into t values ($1)", &[&round]).await.unwrap();
        if round == 1 {
            cluster.stop_immediate().await;
        } else {
            cluster.kill().await;
        }
        assert_eq!(processes_in(&folder), Vec::<u32>::new());
        assert!(client.execute("select 1", &[]).await.is_err());
        cluster.start_again().await;
    }
    let client = database.client().await;
    let count: i64 = client.query_one("select count(*) from t", &[]).await.unwrap().get(0);
    assert_eq!(count, 3, "what was committed is there after each kill");
    let setting: String = client.query_one("show max_connections", &[]).await.unwrap().get(0);
    assert_eq!(setting, "23");

    cluster.pause().await;
    let answer = tokio::time::timeout(Duration::from_millis(200), client.simple_query("select 1")).await;
    assert!(answer.is_err(), "a paused server answers nothing");
    cluster.resume().await;
    tokio::time::timeout(LIMIT, client.simple_query("select 1")).await.unwrap().unwrap();

    // Also a paused cluster goes without a trace.
    drop(database);
    cluster.pause().await;
    drop(cluster);
    assert_eq!(processes_in(&folder), Vec::<u32>::new());
    assert!(!folder.exists());
}

/// Not a test of its own: the next test runs it in a process of its own and kills that.
#[tokio::test]
#[ignore = "run by another test"]
async fn child_that_is_killed() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let cluster = Cluster::start().await;
    println!("\nfolder={}", cluster.folder().display());
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_killed_test_process_leaves_no_postgres_and_no_folder() {
    if skipped() {
        return;
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", "postgres::child_that_is_killed"])
        .env(CHILD, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = std::io::BufReader::new(child.stdout.take().unwrap());
    let folder = stdout
        .lines()
        .find_map(|line| line.unwrap().strip_prefix("folder=").map(str::to_owned))
        .expect("the child names its folder");
    let folder = Path::new(&folder);
    assert!(folder.exists());
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until(LIMIT, "the removal of the folder", async || !folder.exists()).await;
    assert_eq!(processes_in(folder), Vec::<u32>::new());
}

/// The processes that work in the data folder; without /proc none are found.
fn processes_in(folder: &Path) -> Vec<u32> {
    let data = folder.join("data");
    std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| {
            let link = std::fs::read_link(format!("/proc/{pid}/cwd"));
            // The kernel adds " (deleted)" to the name of a folder that is gone.
            link.is_ok_and(|link| {
                link.starts_with(&data) || link.to_string_lossy().starts_with(&*data.to_string_lossy())
            })
        })
        .collect()
}
