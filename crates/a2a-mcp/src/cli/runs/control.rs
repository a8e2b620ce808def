//! `runs cancel`, `pause`, `resume`, `retry`, `fork` and `answer`.

use a2a_core::ids::Actor;
use a2a_engine::config::Config;
use a2a_engine::hub::{Hub, RunControl};
use serde_json::{Value, json};

use super::super::error::{CliError, Exit, exit_of};
use super::super::{argument, open, output};
use super::show;

#[derive(clap::Args)]
pub(crate) struct RunsArgs {
    /// Ids of runs, or unique beginnings of them
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<String>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub(crate) struct CancelArgs {
    #[command(flatten)]
    runs: RunsArgs,
    /// Why, for whoever looks at the run
    #[arg(long, value_name = "TEXT", default_value = "cancelled on the command line")]
    reason: String,
}

#[derive(clap::Args)]
pub(crate) struct ForkArgs {
    /// The run's id, or the unique beginning of it
    run: String,
    /// The first step that is done again, with all that follow it
    #[arg(long, value_name = "STEP")]
    from: String,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub(crate) struct AnswerArgs {
    /// The run's id, or the unique beginning of it
    run: String,
    /// The answer: JSON, or a text
    #[arg(value_name = "ANSWER", required_unless_present = "refuse", conflicts_with = "refuse")]
    answer: Option<String>,
    /// Which step, when several ask
    #[arg(long, value_name = "NAME")]
    step: Option<String>,
    /// The number of the question that is meant, as `runs show` tells it: no later one is answered
    #[arg(long, value_name = "NUMBER")]
    question: Option<i64>,
    /// Refuse, with the reason; the step fails
    #[arg(long, value_name = "REASON")]
    refuse: Option<String>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub(super) async fn cancel(args: CancelArgs, config: Config, actor: &Actor) -> Result<Exit, CliError> {
    control(args.runs, RunControl::Cancel { reason: args.reason }, config, actor).await
}

pub(super) async fn pause(args: RunsArgs, config: Config, actor: &Actor) -> Result<Exit, CliError> {
    control(args, RunControl::Pause, config, actor).await
}

pub(super) async fn resume(args: RunsArgs, config: Config, actor: &Actor) -> Result<Exit, CliError> {
    control(args, RunControl::Resume, config, actor).await
}

pub(super) async fn retry(args: RunsArgs, config: Config, actor: &Actor) -> Result<Exit, CliError> {
    control(args, RunControl::Retry, config, actor).await
}

async fn control(args: RunsArgs, control: RunControl, config: Config, actor: &Actor) -> Result<Exit, CliError> {
    let hub = open(config).await?;
    let mut rows: Vec<Value> = Vec::new();
    let mut text = String::new();
    let mut exit = Exit::Done;
    for id in &args.runs {
        match hub.run_control(id, control.clone(), actor).await {
            Ok(state) => {
                let paused = if state.run.paused { ", paused" } else { "" };
                text.push_str(&format!("{} is {}{paused}\n", state.run.id, state.run.status));
                rows.push(json!({"run": state.run.id, "status": state.run.status, "paused": state.run.paused}));
            }
            Err(error) => {
                if exit == Exit::Done || exit_of(&error) == Exit::Database {
                    exit = exit_of(&error);
                }
                if !args.json {
                    output::note(&format!("error: {id}: {error}"));
                }
                rows.push(json!({"run": id, "code": error.code(), "message": error.to_string()}));
            }
        }
    }
    hub.close().await;
    if args.json {
        output::json(&json!({ "runs": rows }))?;
    } else {
        output::text(&text)?;
    }
    Ok(exit)
}

pub(super) async fn fork(args: ForkArgs, config: Config, actor: &Actor) -> Result<Exit, CliError> {
    let hub = open(config).await?;
    let started = hub.run_fork(&args.run, &args.from, actor).await;
    hub.close().await;
    let started = started?;
    if args.json {
        output::json(&json!({"run": started.id, "existing": started.existing}))?;
    } else {
        output::text(&format!("{}\n", started.id))?;
    }
    Ok(Exit::Done)
}

pub(super) async fn answer(args: AnswerArgs, config: Config, actor: &Actor) -> Result<Exit, CliError> {
    let hub = open(config).await?;
    let answered = answered(&hub, &args, actor).await;
    hub.close().await;
    answered
}

async fn answered(hub: &Hub, args: &AnswerArgs, actor: &Actor) -> Result<Exit, CliError> {
    let (answer, refuse) = match (&args.refuse, &args.answer) {
        (Some(reason), _) => (Value::from(reason.as_str()), true),
        (None, Some(answer)) => (argument::json_or_text(answer), false),
        (None, None) => return Err(CliError::Usage("give an answer, or --refuse with the reason".to_owned())),
    };
    let state = hub.run_signal(&args.run, args.step.as_deref(), args.question, &answer, refuse, actor).await?;
    if args.json {
        output::json(&show::document(hub, &state))?;
    } else {
        output::text(&show::text(hub, &state))?;
    }
    Ok(Exit::Done)
}
