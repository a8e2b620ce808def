//! One command for each chore of the repository: `cargo xtask <command>`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a chore talks to the person who started it")]

mod bench;
mod eval;
mod postgres;
mod test;

use std::process::ExitCode;

const HELP: &str = "\
Chores of this repository.

Usage: cargo xtask <command>

Commands:
  test [cargo test arguments]   Run all tests, with a throwaway Postgres
  soak [cargo test arguments]   The same in release, with the long figures (A2A_SOAK=1)
  bench [area ...] [--quick]    Measure core, memory, mcp, remember, store, load, lag, workflows in release, with a throwaway Postgres
  bench memory --count=N        The same of recall, with so many memories
  eval [--tune] [--misses]      Ask recall questions with known answers, print how well it answers
  help                          Show this text

Examples:
  cargo xtask test
  cargo xtask test -p a2a-store
  cargo xtask test -p a2a-mcp --test it -- name_of_a_test --nocapture

Environment:
  A2A_TEST_POSTGRES_URL    Use this running server instead of a throwaway one
  A2A_TEST_POSTGRES_BIN    The folder with `initdb` and `postgres`
  A2A_TEST_NO_POSTGRES=1   Skip the tests that need Postgres
  RUST_TEST_THREADS        How many tests run at once (default: two for each processor, at most 4)
";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let command = args.next();
    let args: Vec<String> = args.collect();
    let done = match command.as_deref() {
        Some("test") => test::run(&args, test::Length::Short),
        Some("soak") => test::run(&args, test::Length::Long),
        Some("bench") => bench::run(&args),
        Some("eval") => eval::run(&args),
        Some("help" | "-h" | "--help") => {
            print!("{HELP}");
            Ok(true)
        }
        Some(other) => Err(format!("there is no command `{other}`\n\n{HELP}")),
        None => Err(HELP.to_owned()),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(text) => {
            eprintln!("{text}");
            ExitCode::from(2)
        }
    }
}

/// Says what is being done.
fn say(text: &str) {
    eprintln!("xtask: {text}");
}
