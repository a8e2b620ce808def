//! A Python program that measures something on demand.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

/// The running program: a line in, the seconds that it took out.
pub(crate) struct Python {
    process: Child,
    stdin: ChildStdin,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Drop for Python {
    fn drop(&mut self) {
        // It has ended already, or is no longer wanted.
        let _gone = self.process.kill();
        let _status = self.process.wait();
    }
}

impl Python {
    /// Starts a program of this folder with packages of these versions. `None`, and a line that says so, where there is
    /// no Python, or no registry to install them from.
    pub(crate) fn start(script: &str, packages: &[&str], args: &[&str]) -> Option<Self> {
        let skipped = |reason: String| eprintln!("SKIPPED: {script} can't be measured: {reason}");
        let python =
            if packages.is_empty() { PathBuf::from("python3") } else { environment(packages).map_err(skipped).ok()? };
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/workflows").join(script);
        let started = Command::new(python).arg(script).args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut process = started.map_err(|error| skipped(error.to_string())).ok()?;
        let stdin = process.stdin.take().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "ready");
        Some(Self { process, stdin, lines })
    }

    pub(crate) fn measure(&mut self, line: &str) -> Duration {
        writeln!(self.stdin, "{line}").unwrap();
        let answer = self.lines.next().expect("the program goes on").unwrap();
        Duration::from_secs_f64(answer.parse().unwrap())
    }
}

/// A Python with these packages, made once in the target folder.
fn environment(packages: &[&str]) -> Result<PathBuf, String> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("python-{}", packages.join("-")));
    let (python, done) = (folder.join("bin/python"), folder.join("done"));
    if !done.exists() {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
        // As a module: the first line of a script can't hold a long path.
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--retries", "1"]).args(packages))?;
        fs::write(done, "").map_err(|error| error.to_string())?;
    }
    Ok(python)
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()) }
}
