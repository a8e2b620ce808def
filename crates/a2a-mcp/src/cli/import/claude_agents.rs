//! `import claude-agents`.

use std::path::PathBuf;
use std::time::Instant;

use a2a_core::ids::Actor;
use a2a_engine::config::Config;

use super::super::documents::{self, Source, Wanted};
use super::super::error::{CliError, Exit};
use super::super::{claude_agent, open};
use super::Options;
use super::report::{self, Found};

const FILES: Wanted = Wanted { extensions: &["md"], named: "*.md" };

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Files or folders; - reads standard input
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    options: Options,
}

pub(super) async fn run(args: Args, config: Config, actor: &Actor) -> Result<Exit, CliError> {
    let started = Instant::now();
    let found = read(&args.paths);
    let hub = open(config).await?;
    let loaded = report::load(&hub, "claude-agents", found, args.options, actor).await;
    let place = hub.config().location.to_string();
    hub.close().await;
    let (summary, exit) = loaded?;
    report::tell(&summary, args.options, &place, started)?;
    Ok(exit)
}

fn read(paths: &[PathBuf]) -> Found {
    let mut found = Found::default();
    documents::inputs(paths, FILES, &mut |input| {
        let text = input.bytes.and_then(|bytes| String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned()));
        match text.and_then(|text| claude_agent::read(&text, &input.path)) {
            Ok(Some(document)) => found.agents.push(Source { place: input.place, document: Ok(document) }),
            Ok(None) => found.skipped.push((input.place, "has no front matter, so that it is no agent".to_owned())),
            Err(reason) => found.agents.push(Source { place: input.place, document: Err(reason) }),
        }
    });
    found
}
