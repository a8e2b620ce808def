//! The MCP clients whose configuration can be written, and where they keep it.
//!
//! [`document`] edits the text of such a file, [`file`] replaces the file itself.

pub(crate) mod document;
pub(crate) mod file;

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::Serialize;

/// The name of the entry when none is given.
pub(crate) const NAME_DEFAULT: &str = "a2a";

/// A client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Client {
    ClaudeDesktop,
    ClaudeCode,
    Cursor,
    #[serde(rename = "vscode")]
    VsCode,
}

/// Whom a configuration is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scope {
    /// This user, in every project
    User,
    /// This user, in the project of the working directory (Claude Code)
    Local,
    /// Everybody who works in the project of the working directory; the file is meant to be shared
    Project,
}

/// The folders that configurations are in.
#[derive(Debug, Clone)]
pub(crate) struct Folders {
    pub(crate) home: PathBuf,
    /// Where programs of this system keep the settings of a user.
    config: PathBuf,
    pub(crate) project: PathBuf,
}

impl Folders {
    /// Those of this user and of the working directory.
    ///
    /// # Errors
    /// When this user has no home directory, or the working directory is gone.
    pub(crate) fn find() -> Result<Self, String> {
        let base = directories::BaseDirs::new().ok_or("this user has no home directory; set HOME")?;
        let project =
            std::env::current_dir().map_err(|error| format!("the working directory can't be read: {error}"))?;
        Ok(Self { home: base.home_dir().to_owned(), config: base.config_dir().to_owned(), project })
    }

    /// Where a process starts that belongs to such a configuration.
    pub(crate) fn start(&self, scope: Scope) -> &Path {
        match scope {
            Scope::User => &self.home,
            Scope::Local | Scope::Project => &self.project,
        }
    }
}

impl Client {
    pub(crate) const ALL: [Self; 4] = [Self::ClaudeDesktop, Self::ClaudeCode, Self::Cursor, Self::VsCode];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ClaudeDesktop => "claude-desktop",
            Self::ClaudeCode => "claude-code",
            Self::Cursor => "cursor",
            Self::VsCode => "vscode",
        }
    }

    /// The file, `None` when the client has none of this scope.
    pub(crate) fn file(self, scope: Scope, folders: &Folders) -> Option<PathBuf> {
        Some(match (self, scope) {
            (Self::ClaudeDesktop, Scope::User) => folders.config.join("Claude").join("claude_desktop_config.json"),
            (Self::ClaudeCode, Scope::User | Scope::Local) => claude_code_folder(folders).join(".claude.json"),
            (Self::ClaudeCode, Scope::Project) => folders.project.join(".mcp.json"),
            (Self::Cursor, Scope::User) => folders.home.join(".cursor").join("mcp.json"),
            (Self::Cursor, Scope::Project) => folders.project.join(".cursor").join("mcp.json"),
            (Self::VsCode, Scope::User) => folders.config.join("Code").join("User").join("mcp.json"),
            (Self::VsCode, Scope::Project) => folders.project.join(".vscode").join("mcp.json"),
            (Self::ClaudeDesktop, Scope::Project) | (_, Scope::Local) => return None,
        })
    }

    /// The keys that lead, within the file, to the object of this scope. Claude Code looks for the folder that it was
    /// started in, and for none above it.
    pub(crate) fn within(self, scope: Scope, folders: &Folders) -> Vec<String> {
        match (self, scope) {
            (Self::ClaudeCode, Scope::Local) => {
                vec!["projects".to_owned(), folders.project.to_string_lossy().into_owned()]
            }
            _ => Vec::new(),
        }
    }

    /// What is there when this user has the client.
    pub(crate) fn traces(self, folders: &Folders) -> Vec<PathBuf> {
        match self {
            Self::ClaudeDesktop => vec![folders.config.join("Claude")],
            Self::ClaudeCode => vec![claude_code_folder(folders).join(".claude.json"), folders.home.join(".claude")],
            Self::Cursor => vec![folders.home.join(".cursor")],
            Self::VsCode => vec![folders.config.join("Code"), folders.home.join(".vscode")],
        }
    }

    /// The key that servers stand under.
    fn servers_key(self) -> &'static str {
        match self {
            Self::VsCode => "servers",
            _ => "mcpServers",
        }
    }

    /// Whether an entry says that it is spoken with over standard input and output.
    fn names_transport(self) -> bool {
        matches!(self, Self::ClaudeCode | Self::VsCode)
    }

    /// Whether the client itself reads comments and trailing commas.
    fn reads_comments(self) -> bool {
        matches!(self, Self::Cursor | Self::VsCode)
    }

    /// How a configuration refers to a variable that must not stand in a shared file. VS Code asks for it.
    pub(crate) fn reference(self, variable: &str, server: &str) -> String {
        match self {
            Self::ClaudeCode | Self::ClaudeDesktop => format!("${{{variable}}}"),
            Self::Cursor => format!("${{env:{variable}}}"),
            Self::VsCode => format!("${{input:{}}}", input_id(server)),
        }
    }

    /// Whether [`Client::reference`] needs an input that the configuration declares.
    fn declares_inputs(self) -> bool {
        self == Self::VsCode
    }
}

fn input_id(server: &str) -> String {
    format!("{server}-database-url")
}

fn claude_code_folder(folders: &Folders) -> PathBuf {
    let set = std::env::var_os("CLAUDE_CONFIG_DIR").filter(|folder| !folder.is_empty());
    set.map_or_else(|| folders.home.clone(), PathBuf::from)
}
