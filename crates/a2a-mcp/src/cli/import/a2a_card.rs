//! `import a2a-card`.

use std::path::PathBuf;
use std::time::Instant;

use a2a_core::ids::Actor;
use a2a_engine::config::Config;
use a2a_engine::executors;

use super::super::documents::{self, Source};
use super::super::error::{CliError, Exit};
use super::super::{agent_card, open};
use super::Options;
use super::report::{self, Found};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Files or folders (*.json), or URLs of agents or cards; - reads standard input
    #[arg(required = true, value_name = "SOURCE")]
    sources: Vec<String>,
    #[command(flatten)]
    options: Options,
}

pub(super) async fn run(args: Args, config: Config, actor: &Actor) -> Result<Exit, CliError> {
    let started = Instant::now();
    let found = read(&args.sources, &config).await;
    let hub = open(config).await?;
    let loaded = report::load(&hub, "a2a-card", found, args.options, actor).await;
    let place = hub.config().location.to_string();
    hub.close().await;
    let (summary, exit) = loaded?;
    report::tell(&summary, args.options, &place, started)?;
    Ok(exit)
}

async fn read(sources: &[String], config: &Config) -> Found {
    let mut found = Found::default();
    for source in sources {
        if source.starts_with("https://") || source.starts_with("http://") {
            let card = executors::agent_card(&config.operator, source).await;
            let document = card.and_then(|card| agent_card::read(&card, Some(source)));
            found.agents.push(Source { place: source.clone(), document });
            continue;
        }
        for Source { place, document } in documents::read_json(&[PathBuf::from(source)]) {
            let document = document.and_then(|card| agent_card::read(&card, None));
            found.agents.push(Source { place, document });
        }
    }
    found
}
