//! A process that is killed while it migrates leaves nothing half done.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::world::{World, binary, figure, on_both};

on_both!(a_migration_killed_in_the_middle_is_done_by_the_next_process);

fn command(world: &World, folder: &tempfile::TempDir, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(arguments).current_dir(folder).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for name in ["DATABASE_URL", "A2A_STORAGE", "USE_PERSISTED_REGISTRY"] {
        command.env_remove(name);
    }
    match world {
        World::Postgres(database) => command.env("DATABASE_URL", database.url()),
        World::Sqlite(data) => command.env("A2A_DATA_DIR", data.path()),
    };
    command
}

async fn a_migration_killed_in_the_middle_is_done_by_the_next_process(world: World) {
    let folder = tempfile::tempdir().unwrap();
    let mut cut_short = 0;
    let rounds = figure(12, 120);
    for round in 0..rounds {
        let mut child = command(&world, &folder, &["migrate", "run"]).spawn().unwrap();
        // The kill moves through the whole run of the program, a little further each time.
        tokio::time::sleep(Duration::from_micros(80_000 * round as u64 / rounds as u64)).await;
        child.kill().unwrap();
        cut_short += usize::from(!child.wait().unwrap().success());

        let finished = command(&world, &folder, &["migrate", "run"]).output().unwrap();
        assert!(finished.status.success(), "{}", String::from_utf8_lossy(&finished.stderr));
        let status = command(&world, &folder, &["migrate", "status", "--json"]).output().unwrap();
        let steps: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
        let applied = |value: &serde_json::Value| value.to_string().matches("\"applied\":true").count();
        assert!(applied(&steps) > 0 && !steps.to_string().contains("\"applied\":false"), "{steps}");

        let reverted = command(&world, &folder, &["migrate", "revert", "--yes"]).output().unwrap();
        assert!(reverted.status.success(), "{}", String::from_utf8_lossy(&reverted.stderr));
    }
    assert!(cut_short > 0, "no run was cut short on {}", world.name());
}
