//! `export a2a-card`.

use a2a_engine::config::Config;

use super::super::error::{CliError, Exit};
use super::super::{agent_card, open, output};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Ids of the agents [default: all of the namespace that speak A2A]
    #[arg(value_name = "ID")]
    ids: Vec<String>,
}

pub(super) async fn run(args: Args, config: Config) -> Result<Exit, CliError> {
    let hub = open(config).await?;
    let agents = super::agents(&hub, &args.ids).await;
    hub.close().await;
    let mut cards = Vec::new();
    let mut exit = Exit::Done;
    for agent in agents? {
        match agent_card::write(&agent.spec) {
            Ok(card) => cards.push(card),
            Err(_) if args.ids.is_empty() => {}
            Err(reason) => {
                exit = Exit::Failed;
                output::note(&format!("error: {}: {reason}", agent.spec.id));
            }
        }
    }
    match (args.ids.len(), cards.as_slice()) {
        (1, [card]) => output::json(card)?,
        (1, _) => {}
        _ => output::json(&cards)?,
    }
    Ok(exit)
}
