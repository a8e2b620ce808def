//! `a2a-mcp model`.

use std::path::PathBuf;

use a2a_engine::config::Config;
use a2a_engine::embedder::{EmbedderSettings, ModelFolder, ModelPlace, pull};
use clap::Subcommand;
use serde_json::json;

use super::error::{CliError, Exit};
use super::{more_help, output};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Fetch the model all-MiniLM-L6-v2 (91 MB, Apache-2.0) into the data folder
    #[command(
        long_about = "Fetch the model all-MiniLM-L6-v2 (91 MB, Apache-2.0) into the data folder.\n\nServers that start \
            afterwards have it read memories and questions in the place of the built-in table, in their own process, \
            unless a setting names another model. What is fetched is checked by its hash, wherever it comes from; what is \
            there is not fetched again.",
        after_help = more_help("  a2a-mcp model pull
  a2a-mcp model pull --from https://mirror.example/all-MiniLM-L6-v2")
    )]
    Pull {
        /// The address of the folder with its files
        #[arg(long, value_name = "URL", default_value = pull::HUB)]
        from: String,
    },
    /// Show which model reads memories
    #[command(after_help = more_help("  a2a-mcp model show\n  a2a-mcp model show --json"))]
    Show {
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
}

pub(super) async fn run(command: &Command, config: &Config) -> Result<Exit, CliError> {
    match command {
        Command::Pull { from } => {
            let folder = folder(config)?;
            pull::pull(from, &folder, |file| {
                let how = if file.was_there { "was there" } else { "fetched" };
                output::note(&format!("{} {how}, {} bytes", file.path, file.bytes));
            })
            .await
            .map_err(|problem| CliError::Failed(format!("the model was not fetched: {problem}")))?;
            let model = ModelFolder::open(&folder).map_err(CliError::Failed)?;
            output::text(&format!("{} is in {}\n", model.name(), folder.display()))?;
        }
        Command::Show { json } => show(config, *json)?,
    }
    Ok(Exit::Done)
}

fn folder(config: &Config) -> Result<PathBuf, CliError> {
    config.model_folder.clone().ok_or_else(|| {
        CliError::Failed("this user has no home directory; set A2A_DATA_DIR to a folder for the model".to_owned())
    })
}

fn show(config: &Config, as_json: bool) -> Result<(), CliError> {
    let model = config.embedder.as_ref().map(EmbedderSettings::name);
    let (folder, dimensions) = match config.embedder.as_ref().map(|embedder| &embedder.place) {
        Some(ModelPlace::Local(local)) => (Some(local.folder()), Some(local.dimensions())),
        _ => (None, None),
    };
    if as_json {
        output::json(&json!({"model": model, "folder": folder, "dimensions": dimensions}))?;
        return Ok(());
    }
    let text = match (model, folder, dimensions) {
        (Some(model), Some(folder), Some(dimensions)) => {
            format!("{model}, {dimensions} dimensions, in {}\n", folder.display())
        }
        (Some(model), ..) => format!("{model}, behind an endpoint\n"),
        _ => "the built-in table; `a2a-mcp model pull` fetches a model, A2A_EMBEDDINGS_DIR and A2A_EMBEDDINGS_URL name one\n"
            .to_owned(),
    };
    output::text(&text)?;
    Ok(())
}
