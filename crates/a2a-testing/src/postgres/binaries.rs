//! Finding the Postgres server programs of this machine.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The oldest supported major version of Postgres.
const VERSION_MIN: u32 = 13;

/// A folder with the server programs `initdb` and `postgres`.
#[derive(Debug, Clone)]
pub struct PostgresBinaries {
    folder: PathBuf,
    version: u32,
}

impl PostgresBinaries {
    /// Looks in `A2A_TEST_POSTGRES_BIN`, `PATH`, what `pg_config` says, and the usual folders (newest version first).
    ///
    /// # Errors
    /// A text for people: what was looked for, what was found unfit, and what to install.
    pub fn find() -> Result<Self, String> {
        let mut unfit = Vec::new();
        let mut seen = BTreeSet::new();
        for folder in candidates() {
            // A link such as /usr/local/bin/postgres leads to the real folder, where the share files are found from.
            let folder = match folder.join("initdb").canonicalize() {
                Ok(initdb) => initdb.parent().unwrap_or(&folder).to_owned(),
                Err(_) => continue,
            };
            if !seen.insert(folder.clone()) {
                continue;
            }
            match server_version(&folder) {
                Ok(version) if version >= VERSION_MIN => return Ok(Self { folder, version }),
                Ok(version) => unfit.push(format!("{} is version {version}", folder.display())),
                Err(reason) => unfit.push(format!("{}: {reason}", folder.display())),
            }
        }
        let mut text = format!(
            "no Postgres server programs (`initdb` and `postgres`, version {VERSION_MIN} or newer) were found in PATH, \
             by `pg_config --bindir` or in the usual folders. Install them (Debian, Ubuntu: `apt-get install postgresql`; \
             Fedora: `dnf install postgresql-server`; macOS: `brew install postgresql@17`), or name their folder in \
             A2A_TEST_POSTGRES_BIN, or name a running server in A2A_TEST_POSTGRES_URL, or set A2A_TEST_NO_POSTGRES=1 \
             to skip the tests that need Postgres."
        );
        for reason in unfit {
            text.push_str(" Found but not fit: ");
            text.push_str(&reason);
            text.push('.');
        }
        Err(text)
    }

    /// Returns the path of one program.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Returns the folder of the programs.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the major version, such as 15.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }
}

fn candidates() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    folders.extend(std::env::var_os("A2A_TEST_POSTGRES_BIN").map(PathBuf::from));
    if let Some(path) = std::env::var_os("PATH") {
        folders.extend(std::env::split_paths(&path));
    }
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output() {
        folders.push(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    }
    folders.extend(versioned("/usr/lib/postgresql", "", "bin"));
    folders.extend(versioned("/usr", "pgsql-", "bin"));
    for homebrew in ["/opt/homebrew/opt", "/usr/local/opt", "/home/linuxbrew/.linuxbrew/opt"] {
        folders.extend(versioned(homebrew, "postgresql@", "bin"));
        folders.push(Path::new(homebrew).join("postgresql/bin"));
    }
    folders.push("/Applications/Postgres.app/Contents/Versions/latest/bin".into());
    folders.push("/usr/local/pgsql/bin".into());
    folders
}

/// Folders `<parent>/<prefix><number>/<child>`, highest number first.
fn versioned(parent: &str, prefix: &str, child: &str) -> Vec<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = std::fs::read_dir(parent)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let version = name.strip_prefix(prefix)?.parse().ok()?;
            Some((version, entry.path().join(child)))
        })
        .collect();
    found.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    found.into_iter().map(|(_, path)| path).collect()
}

fn server_version(folder: &Path) -> Result<u32, String> {
    let output = Command::new(folder.join("postgres"))
        .arg("--version")
        .output()
        .map_err(|error| format!("`postgres --version` could not be run: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    // "postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)", "postgres (PostgreSQL) 18beta1"
    text.split_once("(PostgreSQL)")
        .map(|(_, rest)| rest.trim_start())
        .map(|rest| rest.chars().take_while(char::is_ascii_digit).collect::<String>())
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| format!("`postgres --version` said {text:?}"))
}
