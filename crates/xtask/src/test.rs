//! `cargo xtask test` and `cargo xtask soak`.

use std::process::Command;
use std::time::Instant;

use crate::postgres::Postgres;
use crate::say;

/// How many tests run at once for each processor: most of them wait for processes, leases and databases.
const THREADS_PER_PROCESSOR: usize = 2;
/// Tests talk to several processes each, so more at once than this only makes them wait for each other.
const THREADS_MAX: usize = 4;

/// How much each test does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    /// The figures of continuous integration, in the development profile.
    Short,
    /// The long figures, in the release profile.
    Long,
}

/// Runs the tests and returns whether all passed. The arguments go to `cargo test` as they are; without a package
/// all packages are tested, and without a selection of targets all targets and the examples in the documentation.
pub(crate) fn run(args: &[String], length: Length) -> Result<bool, String> {
    let started = Instant::now();
    let postgres = Postgres::provide()?;
    let profile: &[&str] = match length {
        Length::Short => &[],
        Length::Long => &["--release"],
    };

    let selection = Selection::of(args);
    if !selection.packages {
        // The tests of the server's own package bring the binary with them; others may want it before that. Examples are
        // built as tests by what follows, and not as the programs that they are.
        say("building the server and its examples");
        let built = cargo(&postgres, length)
            .args(["build", "--package", "a2a-mcp", "--bin", "a2a-mcp", "--examples"])
            .args(profile)
            .status()
            .map_err(cannot_run)?;
        if !built.success() {
            return Err("the server cannot be built".into());
        }
    }
    let packages: &[&str] = if selection.packages { &[] } else { &["--workspace"] };
    let targets: &[&str] = if selection.targets { &[] } else { &["--all-targets"] };
    say("running the tests");
    let mut passed = cargo(&postgres, length)
        .arg("test")
        .args(packages)
        .args(targets)
        .args(profile)
        .args(args)
        .status()
        .map_err(cannot_run)?
        .success();
    // `--all-targets` leaves the examples in the documentation out, and they cannot be combined with other targets.
    if passed && !selection.targets {
        say("running the examples in the documentation");
        passed = cargo(&postgres, length)
            .args(["test", "--doc"])
            .args(packages)
            .args(profile)
            .args(args)
            .status()
            .map_err(cannot_run)?
            .success();
    }
    if matches!(postgres, Postgres::Own(_)) {
        say("removing the throwaway Postgres");
    }
    drop(postgres);
    let outcome = if passed { "all tests passed" } else { "there are failures" };
    say(&format!("{outcome} ({:.0} s)", started.elapsed().as_secs_f64()));
    Ok(passed)
}

fn cannot_run(error: std::io::Error) -> String {
    format!("cargo cannot be run: {error}")
}

fn cargo(postgres: &Postgres, length: Length) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.envs(postgres.env());
    if length == Length::Long {
        command.env("A2A_SOAK", "1");
    }
    if std::env::var_os("RUST_TEST_THREADS").is_none() {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        command.env("RUST_TEST_THREADS", (processors * THREADS_PER_PROCESSOR).min(THREADS_MAX).to_string());
    }
    command
}

/// What the caller's arguments select.
#[derive(Debug, PartialEq, Eq)]
struct Selection {
    packages: bool,
    targets: bool,
}

impl Selection {
    fn of(args: &[String]) -> Self {
        // What follows `--` is for the tests.
        let own: Vec<&str> = args.iter().map(String::as_str).take_while(|arg| *arg != "--").collect();
        let any = |names: &[&str]| {
            own.iter().any(|arg| {
                let name = arg.split_once('=').map_or(*arg, |(name, _)| name);
                names.contains(&name)
            })
        };
        Self {
            packages: any(&["-p", "--package", "--workspace", "--all", "--manifest-path"]),
            targets: any(&[
                "--lib",
                "--bin",
                "--bins",
                "--test",
                "--tests",
                "--example",
                "--examples",
                "--bench",
                "--benches",
                "--all-targets",
                "--doc",
            ]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_arguments_for_cargo_select() {
        for (args, packages, targets) in [
            ("", false, false),
            ("a_name -- --nocapture", false, false),
            ("-p a2a-core", true, false),
            ("--package=a2a-core --test=it", true, true),
            ("--lib", false, true),
            ("-- --test -p", false, false),
        ] {
            let args: Vec<String> = args.split_whitespace().map(str::to_owned).collect();
            assert_eq!(Selection::of(&args), Selection { packages, targets }, "{args:?}");
        }
    }
}
