//! `cargo xtask bench`.

use std::process::Command;
use std::time::Instant;

use crate::postgres::Postgres;
use crate::say;

/// An area, and the benchmark that measures it.
struct Area {
    name: &'static str,
    package: &'static str,
    bench: &'static str,
}

const AREAS: [Area; 8] = [
    Area { name: "core", package: "a2a-core", bench: "core" },
    Area { name: "memory", package: "a2a-core", bench: "memory" },
    Area { name: "mcp", package: "a2a-mcp", bench: "mcp" },
    Area { name: "remember", package: "a2a-mcp", bench: "remember" },
    Area { name: "store", package: "a2a-store", bench: "store" },
    Area { name: "load", package: "a2a-store", bench: "store" },
    Area { name: "lag", package: "a2a-store", bench: "store" },
    Area { name: "workflows", package: "a2a-engine", bench: "workflows" },
];

/// Measures the areas that are named, or all of them, in the release profile. Each prints a table and writes it as
/// JSON in the target folder.
pub(crate) fn run(args: &[String]) -> Result<bool, String> {
    let started = Instant::now();
    let quick = args.iter().any(|arg| arg == "--quick");
    let count = args.iter().find(|arg| arg.starts_with("--count="));
    let wanted: Vec<&String> = args.iter().filter(|arg| *arg != "--quick" && Some(*arg) != count).collect();
    if let Some(unknown) = wanted.iter().find(|name| AREAS.iter().all(|area| area.name != ***name)) {
        let known: Vec<&str> = AREAS.iter().map(|area| area.name).collect();
        return Err(format!(
            "there is no area `{unknown}`; use any of: {}, and --quick or --count=N",
            known.join(", ")
        ));
    }
    let areas: Vec<&Area> =
        AREAS.iter().filter(|area| wanted.is_empty() || wanted.iter().any(|name| **name == area.name)).collect();
    let needs_postgres = areas.iter().any(|area| ["store", "workflows"].contains(&area.bench));
    let postgres = if needs_postgres { Some(Postgres::provide()?) } else { None };

    // Everything is built first, so that nothing is compiled while something is measured.
    for area in &areas {
        if !cargo_bench(area, &postgres).arg("--no-run").status().map_err(cannot_run)?.success() {
            return Err(format!("the benchmark of {} cannot be built", area.name));
        }
    }
    let mut all_ran = true;
    for area in areas {
        say(&format!("measuring {}", area.name));
        let mut command = cargo_bench(area, &postgres);
        command.args(["--", area.name]);
        if quick {
            command.arg("--quick");
        }
        command.args(count);
        all_ran &= command.status().map_err(cannot_run)?.success();
    }
    drop(postgres);
    let outcome = if all_ran { "all areas are measured" } else { "an area could not be measured" };
    say(&format!("{outcome} ({:.0} s)", started.elapsed().as_secs_f64()));
    Ok(all_ran)
}

fn cannot_run(error: std::io::Error) -> String {
    format!("cargo cannot be run: {error}")
}

fn cargo_bench(area: &Area, postgres: &Option<Postgres>) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["bench", "--quiet", "--package", area.package, "--bench", area.bench]);
    command.envs(postgres.as_ref().and_then(Postgres::env));
    command
}
