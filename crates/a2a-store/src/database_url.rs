//! What `DATABASE_URL` means: which database, and how to reach it.
//!
//! Parsing is pure: it opens nothing and creates nothing, so that a mistyped URL can never leave an empty SQLite
//! file behind. No error, and no `Debug` or display text of this module, contains a password or the URL itself.

use std::path::PathBuf;

mod postgres_url;
#[cfg(test)]
mod tests;

pub use postgres_url::{PostgresUrl, SslPolicy};
pub(crate) use postgres_url::{RootCertificates, Target, TargetHost};

/// The database that a URL names.
#[derive(Clone, Debug)]
pub enum DatabaseUrl {
    /// A Postgres server, or several of which one is used.
    Postgres(PostgresUrl),
    /// An embedded SQLite database.
    Sqlite(SqliteLocation),
}

/// Where an embedded SQLite database lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SqliteLocation {
    /// A file, which the store may create.
    File(PathBuf),
    /// The memory of this process. No URL means this: it is for the `memory` mode and for tests.
    Memory,
}

/// Why a text is not a usable database URL. The texts say what to do and never repeat the URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DatabaseUrlError {
    /// The setting is there but empty.
    #[error("the database URL is empty; leave the variable unset to use the default SQLite file")]
    Empty,
    /// Quotation marks came along, as happens with `.env` files and shell scripts.
    #[error("the database URL has quotation marks around it; write it without them")]
    Quoted,
    /// Spaces or line ends came along, or are in the middle.
    #[error("the database URL contains {0}; remove it, or write a space inside a name as %20")]
    Whitespace(&'static str),
    /// There is no scheme, so it may be a file, a typing error or something else entirely.
    #[error(
        "the database URL has no scheme; use sqlite:PATH for a file, or \
         postgres://USER:PASSWORD@HOST/DATABASE for a server"
    )]
    NoScheme,
    /// The scheme looks like Postgres, but is not spelled so.
    #[error("unknown scheme {scheme}:// in the database URL; did you mean postgres://?")]
    MisspelledPostgres {
        /// The scheme as it was given.
        scheme: String,
    },
    /// The scheme looks like SQLite, but is not spelled so.
    #[error("unknown scheme {scheme}: in the database URL; did you mean sqlite:PATH?")]
    MisspelledSqlite {
        /// The scheme as it was given.
        scheme: String,
    },
    /// Another database, or no database at all.
    #[error("{scheme}:// is not supported; the database URL must begin with postgres:// or sqlite:")]
    UnsupportedScheme {
        /// The scheme as it was given.
        scheme: String,
    },
    /// The form `host=... dbname=...`.
    #[error("key=value settings are not supported; write postgres://USER:PASSWORD@HOST:PORT/DATABASE")]
    KeyValue,
    /// `postgres:` without the two slashes.
    #[error("the database URL needs two slashes after its scheme: postgres://HOST/DATABASE")]
    SlashesMissing,
    /// No host is named.
    #[error(
        "the database URL names no host; write postgres://HOST/DATABASE, or for a Unix socket \
         postgres:///DATABASE?host=/var/run/postgresql"
    )]
    HostMissing,
    /// A host has characters that no host name has.
    #[error(
        "a host in the database URL is not a valid name or address; an IPv6 address goes in brackets, and a \
         special character in the user or password must be percent-encoded (@ as %40, / as %2F, : as %3A)"
    )]
    HostInvalid,
    /// A port is not a number between 1 and 65535.
    #[error(
        "a port in the database URL is not a number from 1 to 65535 (if it is part of the password: \
         / is written %2F, ? is %3F, @ is %40)"
    )]
    PortInvalid,
    /// The lists of hosts, addresses and ports do not fit together.
    #[error("the database URL names {hosts} hosts and {others} {what}; give one for each host")]
    CountMismatch {
        /// The number of hosts.
        hosts: usize,
        /// What was listed.
        what: &'static str,
        /// How many of it.
        others: usize,
    },
    /// More hosts than any cluster has.
    #[error("the database URL names more than {0} hosts")]
    TooManyHosts(usize),
    /// No database is named.
    #[error("the database URL names no database; add it after the host: postgres://HOST/DATABASE")]
    DatabaseMissing,
    /// A character that separates parts of a URL is in the user name or the password.
    #[error(
        "the database URL can't be taken apart: a special character in the user or password must be \
         percent-encoded (@ as %40, / as %2F, ? as %3F, : as %3A, # as %23, % as %25)"
    )]
    CredentialsNotEncoded,
    /// A `%` that does not begin a percent-encoded byte, or bytes that are not UTF-8.
    #[error("the {part} in the database URL is not valid percent-encoded UTF-8; a % itself is written %25")]
    PercentEncoding {
        /// Which part.
        part: &'static str,
    },
    /// A parameter that does not exist.
    #[error("unknown parameter {name} in the database URL{hint}")]
    UnknownParameter {
        /// Its name, or a placeholder when what was given does not look like a name.
        name: String,
        /// What to use instead, where that is known; empty otherwise.
        hint: String,
    },
    /// A parameter has a value that it can't have.
    #[error("the parameter {name} in the database URL must be {expected}")]
    InvalidParameter {
        /// The parameter.
        name: &'static str,
        /// What it may be.
        expected: &'static str,
    },
    /// A parameter is given twice.
    #[error("the parameter {name} is given twice in the database URL")]
    DuplicateParameter {
        /// The parameter.
        name: String,
    },
    /// Two settings contradict each other.
    #[error("{0}")]
    Conflict(&'static str),
    /// The SQLite URL has no path.
    #[error("the SQLite URL names no file; write sqlite:PATH")]
    PathMissing,
    /// The SQLite path can't be that of a file.
    #[error("the path of the SQLite URL {0}")]
    PathInvalid(&'static str),
    /// `:memory:`.
    #[error("an SQLite database in memory would lose everything; for that set A2A_STORAGE=memory instead")]
    MemoryNotAccepted,
}

impl DatabaseUrl {
    /// Reads a URL.
    ///
    /// Postgres: `postgres://` or `postgresql://`, see [`PostgresUrl`]. SQLite: `sqlite:PATH`, `sqlite://PATH`,
    /// `sqlite:///ABSOLUTE/PATH` or `file:PATH`, percent-encoded where needed, with no parameter but `mode=rwc`.
    ///
    /// # Errors
    /// Anything else is an error: nothing is guessed, and a bare path is not taken for a file.
    pub fn parse(text: &str) -> Result<Self, DatabaseUrlError> {
        if text.trim().is_empty() {
            return Err(DatabaseUrlError::Empty);
        }
        if text.trim().len() != text.len() {
            return Err(DatabaseUrlError::Whitespace("a space or line end at its beginning or end"));
        }
        if text.starts_with(['"', '\'', '`']) || text.ends_with(['"', '\'', '`']) {
            // A parameter may end in a quoted name, as `?schema="Name"` does; the beginning is what tells.
            let quoted_parameter = !text.starts_with(['"', '\'', '`']) && text.contains('?');
            if !quoted_parameter {
                return Err(DatabaseUrlError::Quoted);
            }
        }
        if text.contains(char::is_control) {
            return Err(DatabaseUrlError::Whitespace("a line end or another control character"));
        }
        let Some((scheme, rest)) = split_scheme(text) else {
            return Err(if looks_like_key_value(text) {
                DatabaseUrlError::KeyValue
            } else if text == ":memory:" {
                DatabaseUrlError::MemoryNotAccepted
            } else {
                DatabaseUrlError::NoScheme
            });
        };
        match scheme.as_str() {
            "postgres" | "postgresql" => {
                let rest = rest.strip_prefix("//").ok_or(DatabaseUrlError::SlashesMissing)?;
                if rest.contains(char::is_whitespace) {
                    return Err(DatabaseUrlError::Whitespace("a space"));
                }
                PostgresUrl::parse(rest).map(Self::Postgres)
            }
            "sqlite" | "file" => parse_sqlite(rest).map(Self::Sqlite),
            _ => Err(unknown_scheme(scheme, rest)),
        }
    }

    /// Names the database for people and logs, without user and password: `HOST:PORT/DATABASE?schema=NAME`, or
    /// the path of the file.
    #[must_use]
    pub fn display_safe(&self) -> String {
        match self {
            Self::Postgres(url) => url.display_safe(),
            Self::Sqlite(SqliteLocation::File(path)) => path.display().to_string(),
            Self::Sqlite(SqliteLocation::Memory) => ":memory:".to_owned(),
        }
    }
}

/// Splits at the first colon if what stands before it can be a scheme. One letter is a Windows drive, not a scheme.
fn split_scheme(text: &str) -> Option<(String, &str)> {
    let (scheme, rest) = text.split_once(':')?;
    let valid = scheme.len() > 1
        && scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | '_'));
    valid.then(|| (scheme.to_ascii_lowercase(), rest))
}

fn looks_like_key_value(text: &str) -> bool {
    text.split_whitespace()
        .any(|word| ["host=", "dbname=", "user=", "hostaddr="].iter().any(|key| word.starts_with(key)))
}

/// Chooses the error for a scheme that is none of ours. Text that is not followed by `//` may be a user and password
/// whose scheme was left out, so it is not repeated unless it is a known word.
fn unknown_scheme(scheme: String, rest: &str) -> DatabaseUrlError {
    let is_postgres = ["postg", "gres", "pgsql", "psql"].iter().any(|part| scheme.contains(part))
        || matches!(scheme.as_str(), "pg" | "jdbc" | "pgx" | "libpq");
    let is_sqlite = scheme.contains("sqlit") || scheme.contains("sqllite");
    if is_sqlite {
        DatabaseUrlError::MisspelledSqlite { scheme }
    } else if !rest.starts_with("//") && scheme != "jdbc" {
        DatabaseUrlError::NoScheme
    } else if is_postgres {
        DatabaseUrlError::MisspelledPostgres { scheme }
    } else {
        DatabaseUrlError::UnsupportedScheme { scheme }
    }
}

fn parse_sqlite(rest: &str) -> Result<SqliteLocation, DatabaseUrlError> {
    // Ordering: before anything of it is named in an error, because this other URL may hold a password.
    if rest.contains("://") {
        return Err(DatabaseUrlError::PathInvalid("contains another URL; give only one"));
    }
    let path = rest.strip_prefix("//").unwrap_or(rest);
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=').unwrap_or((pair, "")) {
            // This is what the store does anyway, and other programs need it to be said.
            ("mode", "rwc") => {}
            ("mode", "memory") => return Err(DatabaseUrlError::MemoryNotAccepted),
            ("mode", _) => {
                return Err(DatabaseUrlError::InvalidParameter { name: "mode", expected: "rwc, or left out" });
            }
            (name, _) => return Err(unknown_parameter(name, String::new())),
        }
    }
    let path = percent_decode(path, "path")?;
    if path.is_empty() {
        return Err(DatabaseUrlError::PathMissing);
    }
    if path.trim_matches('/') == ":memory:" {
        return Err(DatabaseUrlError::MemoryNotAccepted);
    }
    if path.contains('\0') {
        return Err(DatabaseUrlError::PathInvalid("contains a NUL byte"));
    }
    if path.starts_with('~') || path.starts_with('$') {
        return Err(DatabaseUrlError::PathInvalid(
            "begins with ~ or $, which only a shell replaces; write the whole path",
        ));
    }
    if path.ends_with(['/', '\\']) || matches!(path.rsplit('/').next(), Some("." | "..")) {
        return Err(DatabaseUrlError::PathInvalid("names a directory; add the name of the file"));
    }
    Ok(SqliteLocation::File(PathBuf::from(path)))
}

/// Names a parameter in an error only when it looks like a name: after a `?` in a password comes the rest of it.
fn unknown_parameter(name: &str, hint: String) -> DatabaseUrlError {
    let plain = !name.is_empty()
        && name.len() <= 40
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    let name = if plain { format!("\"{name}\"") } else { "after the ?".to_owned() };
    DatabaseUrlError::UnknownParameter { name, hint }
}

/// Decodes `%XX`. A plus sign stays one, as in all of Postgres' own programs.
fn percent_decode(text: &str, part: &'static str) -> Result<String, DatabaseUrlError> {
    let error = DatabaseUrlError::PercentEncoding { part };
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16));
        match (digit(), digit()) {
            (Some(high), Some(low)) => bytes.push(u8::try_from(high * 16 + low).unwrap_or_default()),
            _ => return Err(error),
        }
    }
    String::from_utf8(bytes).map_err(|_invalid| error)
}
