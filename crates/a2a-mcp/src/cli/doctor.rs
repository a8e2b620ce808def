//! `a2a-mcp doctor`: shows the checks of the engine, after those of the settings.

mod clients;

use a2a_core::error::Problem;
use a2a_engine::config::Config;
use a2a_engine::doctor::{self, Check, CheckStatus};
use serde_json::json;

use super::error::{CliError, Exit};
use super::settings::{self, ShownSetting, Sources};
use super::{output, table};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    /// End with 1 when there are warnings, too
    #[arg(long)]
    strict: bool,
}

pub(super) async fn run(
    args: &Args,
    settings: &settings::Args,
    sources: &Sources,
    checked: Result<Config, CliError>,
) -> Result<Exit, CliError> {
    let shown = settings.shown(sources);
    if !args.json {
        output::text(&settings_text(&shown))?;
    }
    let config = match checked {
        Ok(config) => config,
        Err(CliError::Settings(problems)) => {
            tell_problems(args, &shown, &problems.0)?;
            return Ok(Exit::Usage);
        }
        Err(error) => return Err(error),
    };
    let place = config.location.to_string();
    if !args.json {
        output::text(&format!("{:<12} ok    valid; agents are kept in {place}\n", "settings"))?;
    }
    let mut written = Ok(());
    let mut checks = doctor::doctor(&config, |check| {
        if !args.json && written.is_ok() {
            written = output::text(&line(check));
        }
    })
    .await;
    written?;
    let clients = clients::check(&config);
    if !args.json {
        output::text(&line(&clients))?;
    }
    checks.push(clients);
    let count = |status: CheckStatus| checks.iter().filter(|check| check.status == status).count();
    let (failed, warned) = (count(CheckStatus::Fail), count(CheckStatus::Warn));
    let worst = if failed > 0 {
        "fail"
    } else if warned > 0 {
        "warn"
    } else {
        "ok"
    };
    if args.json {
        output::json(&json!({
            "ok": failed == 0, "worst": worst, "database": place, "storage": config.storage, "settings": shown, "checks": checks,
        }))?;
    } else {
        output::text(&match (failed, warned) {
            (0, 0) => "everything is as it should be\n".to_owned(),
            (0, _) => format!("it works; {warned} to look at\n"),
            _ => format!("{failed} failed, {warned} to look at; begin with the first that failed\n"),
        })?;
    }
    Ok(match failed {
        0 if args.strict && warned > 0 => Exit::Failed,
        0 => Exit::Done,
        _ if checks.iter().any(Check::is_fatal) => Exit::Database,
        _ => Exit::Failed,
    })
}

fn tell_problems(args: &Args, shown: &[ShownSetting], problems: &[Problem]) -> Result<(), CliError> {
    if args.json {
        let checks: Vec<_> = problems
            .iter()
            .map(|problem| json!({"name": "settings", "status": "fail", "code": problem.path, "detail": problem.message}))
            .collect();
        output::json(&json!({"ok": false, "settings": shown, "checks": checks}))?;
    } else {
        for problem in problems {
            output::text(&format!("{:<12} FAIL  {}\n", "settings", table::one_line(&problem.to_string())))?;
        }
    }
    Ok(())
}

/// The settings that are set. The others have their defaults, which `--help` tells.
fn settings_text(shown: &[ShownSetting]) -> String {
    let rows: Vec<Vec<String>> = shown
        .iter()
        .filter_map(|setting| {
            let value = setting.value.clone()?;
            Some(vec![setting.variable.to_owned(), setting.source.to_owned(), value])
        })
        .collect();
    if rows.is_empty() {
        return "no setting is set, all have their defaults (see `a2a-mcp --help`)\n\n".to_owned();
    }
    table::render(&["SETTING", "FROM", "VALUE"], &rows, None) + "\n"
}

fn line(check: &Check) -> String {
    let status = match check.status {
        CheckStatus::Ok => "ok  ",
        CheckStatus::Warn => "warn",
        CheckStatus::Fail => "FAIL",
        CheckStatus::Skipped => "skip",
    };
    let next = check.next.as_ref().map_or_else(String::new, |next| format!("{:20}→ {next}\n", ""));
    let lines: String = check.lines.iter().map(|line| format!("{:20}- {}\n", "", table::one_line(line))).collect();
    format!("{:<12} {status}  {}\n{lines}{next}", check.name, table::one_line(&check.detail))
}
