//! How a command ends, and what people and scripts learn of it.

use std::io;
use std::process::ExitCode;

use a2a_core::error::Problems;
use a2a_engine::error::HubError;
use a2a_engine::maintenance::StoreError;

use super::{output, settings};

/// The code that the process ends with. The help of each command tells these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Done,
    /// Something failed, and standard error has told what.
    Failed,
    /// The command or a setting is wrong.
    Usage,
    /// The database can't be reached or used.
    Database,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Database => 3,
        })
    }
}

/// Why a command ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The command line is wrong in a way that the parser can't see.
    #[error("{0}")]
    Usage(String),
    /// Settings are wrong; each problem names its variable.
    #[error("{}", settings_text(.0))]
    Settings(Problems),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An operation.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// Anything else that was tried and did not work.
    #[error("{0}")]
    Failed(String),
    /// Standard output.
    #[error("can't write to standard output: {0}")]
    Output(#[from] io::Error),
}

fn settings_text(problems: &Problems) -> String {
    let lines: Vec<String> = problems.0.iter().map(|problem| format!("\n  {problem}")).collect();
    let what = if lines.len() == 1 { "a setting is" } else { "settings are" };
    format!("{what} not valid:{}", lines.concat())
}

impl CliError {
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) | Self::Settings(_) => Exit::Usage,
            Self::Store(_) => Exit::Database,
            Self::Hub(error) => exit_of(error),
            Self::Failed(_) => Exit::Failed,
            // Whoever reads the output has seen enough, as with `| head`.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Done,
            Self::Output(_) => Exit::Failed,
        }
    }

    /// Tells it on standard error.
    pub(crate) fn tell(&self) -> Exit {
        let exit = self.exit();
        if exit != Exit::Done {
            let more = match self {
                Self::Store(_) => "\n  `a2a-mcp doctor` checks each link and says what to do",
                _ => "",
            };
            output::note(&format!("error: {self}{more}"));
        }
        exit
    }
}

/// How a command ends that met this error.
pub(crate) fn exit_of(error: &HubError) -> Exit {
    match error {
        HubError::NotReady { .. }
        | HubError::Unusable { .. }
        | HubError::Overloaded { .. }
        | HubError::Unavailable
        | HubError::Unknown { .. } => Exit::Database,
        _ => Exit::Failed,
    }
}

/// Prints what the parser of the command line says: help and version to standard output, errors to standard error.
pub(crate) fn usage(error: &clap::Error) -> Result<Exit, CliError> {
    if error.kind() == clap::error::ErrorKind::InvalidUtf8
        && let Some(problem) = settings::not_utf8()
    {
        return Err(problem);
    }
    if error.use_stderr() {
        output::note(error.render().to_string().trim_end());
        return Ok(Exit::Usage);
    }
    output::text(&error.render().to_string())?;
    Ok(Exit::Done)
}
