//! The processes of one cluster: the postmaster and all its children.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long processes may take to be gone, or stopped, after the signal that cannot be caught.
const LIMIT: Duration = Duration::from_secs(20);

/// Returns the process ids of the cluster, the postmaster included if it lives. Zombies do not count.
///
/// Every Postgres process has the data folder as its working directory. This finds the children also after the
/// postmaster's death, when they have another parent. Without /proc the children of the postmaster are listed.
pub(super) fn members(data: &Path, postmaster: u32) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return members_by_parent(postmaster);
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|folder| folder == data))
        .collect()
}

fn members_by_parent(postmaster: u32) -> Vec<u32> {
    let output = Command::new("ps").args(["-axo", "pid=,ppid=,state="]).output().expect("`ps` can be run");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let pid: u32 = fields.next()?.parse().ok()?;
            let parent: u32 = fields.next()?.parse().ok()?;
            let zombie = fields.next()?.starts_with('Z');
            (!zombie && (pid == postmaster || parent == postmaster)).then_some(pid)
        })
        .collect()
}

/// Sends a signal; a process that has gone meanwhile is no error.
pub(super) fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id is a positive number");
    match kill_process(pid, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(error) => panic!("cannot signal process {pid:?}: {error}"),
    }
}

/// Kills the postmaster and then every child, and returns when all are gone except the unreaped postmaster.
pub(super) fn kill_all(data: &Path, postmaster: u32) {
    let started = Instant::now();
    let mut known = members(data, postmaster);
    // The postmaster goes first, so that it cannot start new children while the old ones are being killed.
    signal(postmaster, Signal::KILL);
    loop {
        for pid in &known {
            signal(*pid, Signal::KILL);
        }
        known = members(data, postmaster);
        if known.is_empty() {
            return;
        }
        assert!(started.elapsed() < LIMIT, "Postgres processes {known:?} survive SIGKILL");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Stops (SIGSTOP) every process and returns when all are stopped.
pub(super) fn pause_all(data: &Path, postmaster: u32) {
    let started = Instant::now();
    // The postmaster goes first, so that it cannot start new children that nobody stops.
    signal(postmaster, Signal::STOP);
    loop {
        let running: Vec<u32> = members(data, postmaster).into_iter().filter(|pid| !is_stopped(*pid)).collect();
        if running.is_empty() {
            return;
        }
        for pid in &running {
            signal(*pid, Signal::STOP);
        }
        assert!(started.elapsed() < LIMIT, "Postgres processes {running:?} do not stop");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Lets every stopped process go on.
pub(super) fn resume_all(data: &Path, postmaster: u32) {
    for pid in members(data, postmaster) {
        signal(pid, Signal::CONT);
    }
}

fn is_stopped(pid: u32) -> bool {
    let state = match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        // The state follows the command name, which is in parentheses and may itself contain some.
        Ok(stat) => stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()),
        Err(_) if Path::new("/proc/self").exists() => return true,
        Err(_) => {
            let output = Command::new("ps").args(["-o", "state=", "-p", &pid.to_string()]).output();
            output.ok().and_then(|output| String::from_utf8_lossy(&output.stdout).trim().chars().next())
        }
    };
    // Z, X and an unknown state belong to a process that is gone.
    matches!(state, Some('T' | 't' | 'Z' | 'X') | None)
}
