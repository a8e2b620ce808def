//! How a server ends: when its input ends, when it is told to, and when its parent is gone.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use a2a_testing::stdio::{RpcError, ServerOptions, ServerProcess, Wire};
use a2a_testing::wait::{wait_for, wait_until};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::world::{World, binary, call, figure, machine, on_both, refusal, rows};

const IDLE_LIMIT: Duration = Duration::from_millis(500);
const LOADED_LIMIT: Duration = Duration::from_millis(1_500);
/// Calls that are open when the end comes.
const CALLS_OPEN: usize = 4;

on_both!(every_end_is_prompt_and_keeps_what_was_acknowledged);

/// What ends a server.
#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    StdinClosed,
    Terminated,
    /// The parent is killed, while somebody else still holds both streams open.
    ParentKilled,
}

/// A server and the process that was launched, which are one unless there is a parent in between.
struct Launched {
    process: ServerProcess,
    server_pid: u32,
}

fn options(world: &World, end: End, wire: Wire) -> ServerOptions {
    let mut options = world.options().wire(wire);
    if end == End::ParentKilled {
        // What follows the command keeps the shell from becoming the server itself.
        let script = r#""$0" serve; exit $?"#;
        options.args = vec!["-c".into(), script.into(), binary().to_str().unwrap().into()];
    }
    options
}

async fn launch(world: &World, end: End, wire: Wire) -> Launched {
    let program = if end == End::ParentKilled { Path::new("/bin/sh") } else { binary() };
    let process = ServerProcess::spawn_with(program, options(world, end, wire)).await;
    process.initialize("exits").await.unwrap_or_else(|error| panic!("{error}\n{}", process.stderr_tail()));
    let pid = process.pid();
    let server_pid = if end == End::ParentKilled { child_of(pid).expect("the shell has a child") } else { pid };
    assert!(runs(server_pid));
    Launched { process, server_pid }
}

fn child_of(pid: u32) -> Option<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

/// Whether this process is a server that runs. One that has ended and that nobody has waited for has no program.
fn runs(pid: u32) -> bool {
    std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|path| path == binary())
}

/// Writes until the server is gone, and notes what was acknowledged.
async fn write(server: Arc<ServerProcess>, acknowledged: Arc<Mutex<Vec<String>>>, names: Arc<AtomicUsize>) {
    loop {
        let id = format!("exit-{}-{}", server.pid(), names.fetch_add(1, Ordering::Relaxed));
        let document = json!({"id": id, "description": "written before the end"});
        match server.call_tool("agent_deploy", json!({"agents": [document]})).await {
            Ok(reply) if reply.is_error => {
                // What comes too late is refused, never swallowed.
                assert!(["closed", "unavailable", "unknown"].contains(&&*refusal(&reply).code), "{}", reply.text);
            }
            Ok(reply) => {
                assert_eq!(reply.structured["durability"], "committed");
                acknowledged.lock().unwrap().push(id);
            }
            Err(RpcError::Closed) => return,
            Err(error) => panic!("{id}: {error}"),
        }
    }
}

async fn every_end_is_prompt_and_keeps_what_was_acknowledged(world: World) {
    let _machine = machine().await;
    let mut launched = Vec::new();
    let (mut slowest_idle, mut slowest_loaded) = (Duration::ZERO, Duration::ZERO);
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    for n in 0..figure(50, 200) / 2 {
        let end = [End::StdinClosed, End::Terminated, End::ParentKilled][n % 3];
        let loaded = n % 2 == 0;
        let wire = if n % 4 < 2 { Wire::Pipes } else { Wire::SocketPairs };
        let Launched { process, server_pid } = launch(&world, end, wire).await;
        launched.push(server_pid);
        let process = Arc::new(process);
        let mut writers = JoinSet::new();
        if loaded {
            let before = acknowledged.lock().unwrap().len();
            let names = Arc::new(AtomicUsize::new(0));
            for _ in 0..CALLS_OPEN {
                writers.spawn(write(process.clone(), acknowledged.clone(), names.clone()));
            }
            let under_load = async || acknowledged.lock().unwrap().len() >= before + 3 * CALLS_OPEN;
            wait_until(Duration::from_secs(20), "the load is on", under_load).await;
        } else {
            call(&process, "agent_list", json!({})).await;
        }
        let started = Instant::now();
        match end {
            End::StdinClosed => process.close_stdin().await,
            End::Terminated => process.terminate(),
            // This is the shell.
            End::ParentKilled => process.kill(),
        }
        wait_until(Duration::from_secs(10), "the server ends", async || !runs(server_pid)).await;
        let took = started.elapsed();
        let (limit, slowest) =
            if loaded { (LOADED_LIMIT, &mut slowest_loaded) } else { (IDLE_LIMIT, &mut slowest_idle) };
        assert!(took <= limit, "{end:?}, loaded: {loaded}, over {wire:?}: {took:?}\n{}", process.stderr_tail());
        *slowest = (*slowest).max(took);
        while let Some(written) = writers.join_next().await {
            written.expect("a writer saw what must not be");
        }
        let status = process.finish().await;
        if end != End::ParentKilled {
            assert_eq!(status.code(), Some(0), "{end:?}, loaded: {loaded}\n{}", process.stderr_tail());
        }
    }
    let orphans: Vec<u32> = launched.iter().copied().filter(|pid| runs(*pid)).collect();
    assert!(orphans.is_empty(), "still there: {orphans:?}");
    let fresh = world.server().await;
    let shown = rows(&fresh).await.unwrap();
    let acknowledged = std::mem::take(&mut *acknowledged.lock().unwrap());
    let lost: Vec<&String> = acknowledged.iter().filter(|id| !shown.contains_key(*id)).collect();
    assert!(lost.is_empty(), "acknowledged and not there: {lost:?}");
    fresh.finish().await;
    println!(
        "{}: {} ends, idle within {slowest_idle:?}, loaded within {slowest_loaded:?}, {} acknowledged writes kept",
        world.name(),
        launched.len(),
        acknowledged.len()
    );
}

#[tokio::test]
async fn a_client_that_only_looks_and_goes_away_is_no_error() {
    let world = World::sqlite();
    for wire in [Wire::Pipes, Wire::SocketPairs] {
        for said in ["nothing", "ping", "discover", "initialize"] {
            let server = ServerProcess::spawn_with(binary(), world.options().wire(wire)).await;
            match said {
                "ping" => drop(server.request("ping", Value::Null).await.unwrap()),
                "discover" => drop(server.discover("looks").await.unwrap()),
                "initialize" => {
                    let params = json!({
                        "protocolVersion": "2025-11-25", "capabilities": {},
                        "clientInfo": {"name": "looks", "version": "1"},
                    });
                    server.request("initialize", params).await.unwrap();
                }
                _ => {}
            }
            // Asserts that it ends with success.
            server.finish().await;
        }
    }
}

#[tokio::test]
async fn a_server_on_an_unreachable_database_ends_as_promptly() {
    let _machine = machine().await;
    // A port that was free a moment ago, so that nobody listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("postgres://nobody@127.0.0.1:{port}/none?sslmode=disable");
    for end in [End::StdinClosed, End::Terminated] {
        let server = ServerProcess::spawn(binary(), &["serve"], &[("DATABASE_URL", &url)]).await;
        server.initialize("exits").await.unwrap();
        let open = server.request_start("tools/call", json!({"name": "agent_list", "arguments": {}})).await.unwrap();
        // A request that is answered later than the one before it was read: both are in work now.
        server.request("tools/list", json!({})).await.unwrap();
        let started = Instant::now();
        if end == End::Terminated {
            server.terminate()
        } else {
            server.close_stdin().await
        }
        let status = wait_for(Duration::from_secs(10), "the server ends", async || {
            server.wait_exit(Duration::from_secs(10)).await
        });
        assert_eq!(status.await.code(), Some(0));
        assert!(started.elapsed() <= LOADED_LIMIT, "{end:?}: {:?}", started.elapsed());
        drop(open);
        server.finish().await;
    }
}
