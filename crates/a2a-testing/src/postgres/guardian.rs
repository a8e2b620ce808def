//! The guardian of a cluster: a small shell that outlives the test process and cleans up after it.
//!
//! It waits for the end of its stdin, a pipe whose other end only the test process holds. However that process
//! ends, also by SIGKILL, the kernel closes the pipe; the guardian then stops Postgres and removes the folder.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The folder is `$1`, the data folder `$2`. SIGQUIT lets the postmaster remove its shared memory; what has not
/// ended five seconds later is killed. The seventh line of postmaster.pid names the System V segment that a killed
/// postmaster leaves behind; segments are few, so a machine that runs many tests would run out of them.
const SCRIPT: &str = r#"
trap '' HUP INT TERM
while read -r _; do :; done
members() {
    if [ -d /proc/self ]; then
        for process in /proc/[0-9]*; do
            if [ "$process/cwd" -ef "$2" ]; then echo "${process#/proc/}"; fi
        done
    else
        pid=$(head -n 1 "$2/postmaster.pid" 2>/dev/null)
        if [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null; then echo "$pid"; fi
    fi
}
signal_all() { for pid in $(members "$2" "$3"); do kill "-$1" "$pid" 2>/dev/null; done; }
segment=$(sed -n '7s/^ *[0-9]* *//p' "$2/postmaster.pid" 2>/dev/null)
signal_all QUIT "$1" "$2"
signal_all CONT "$1" "$2"
tries=0
while [ -n "$(members "$1" "$2")" ] && [ "$tries" -lt 100 ]; do
    sleep 0.05
    tries=$((tries + 1))
done
signal_all KILL "$1" "$2"
if [ -n "$segment" ] && [ -e "$2/postmaster.pid" ]; then ipcrm -m "$segment" 2>/dev/null; fi
tries=0
while [ -e "$1" ] && [ "$tries" -lt 20 ]; do
    rm -rf "$1" 2>/dev/null || sleep 0.1
    tries=$((tries + 1))
done
"#;

/// How long the clean-up may take; the script's own limits add up to less.
const LIMIT: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Guardian {
    child: Child,
}

impl Guardian {
    pub(super) fn spawn(folder: &Path, data: &Path) -> Result<Self, String> {
        let mut command = Command::new("sh");
        command
            .args(["-c", SCRIPT, "postgres-guardian"])
            .args([folder, data])
            .current_dir("/")
            .stdin(Stdio::piped())
            // A test runner waits for whoever holds its test's stdout.
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // In a group of its own it is not reached by Ctrl-C or by a runner that kills the group of a test.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = command.spawn().map_err(|error| format!("cannot start `sh`: {error}"))?;
        Ok(Self { child })
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let started = Instant::now();
        while started.elapsed() < LIMIT {
            match self.child.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(5)),
                Ok(Some(_)) => return,
                Err(error) => {
                    eprintln!("the clean-up of a Postgres cluster cannot be waited for: {error}");
                    return;
                }
            }
        }
        eprintln!("the clean-up of a Postgres cluster takes longer than {LIMIT:?}");
    }
}
