//! The Postgres of a test run: named by the caller, found, or installed.

use std::path::Path;
use std::process::{Command, Stdio};

use a2a_testing::postgres::{Cluster, PostgresBinaries};

use crate::say;

/// Where the tests find Postgres.
pub(crate) enum Postgres {
    /// A cluster of this run; it is removed when the value is dropped.
    Own(Cluster),
    /// The caller has set the variables that say where, or that there is none.
    AsSet,
}

impl Postgres {
    /// Starts a throwaway cluster unless the environment says otherwise.
    pub(crate) fn provide() -> Result<Self, String> {
        if std::env::var_os("A2A_TEST_NO_POSTGRES").is_some_and(|value| value == "1") {
            say("A2A_TEST_NO_POSTGRES=1: the tests that need Postgres are skipped");
            return Ok(Self::AsSet);
        }
        if std::env::var_os("A2A_TEST_POSTGRES_URL").is_some_and(|value| !value.is_empty()) {
            say("using the server in A2A_TEST_POSTGRES_URL");
            return Ok(Self::AsSet);
        }
        let binaries = find_or_install()?;
        say(&format!("starting a throwaway Postgres {} of {}", binaries.version(), binaries.folder().display()));
        let cluster = Cluster::try_start_blocking(&[])?;
        say(&format!("Postgres is ready: {}", cluster.url("postgres")));
        Ok(Self::Own(cluster))
    }

    /// Returns the variables for the tests.
    pub(crate) fn env(&self) -> Option<(&'static str, String)> {
        match self {
            Self::Own(cluster) => Some(("A2A_TEST_POSTGRES_URL", cluster.url("postgres"))),
            Self::AsSet => None,
        }
    }
}

fn find_or_install() -> Result<PostgresBinaries, String> {
    let missing = match PostgresBinaries::find() {
        Ok(binaries) => return Ok(binaries),
        Err(text) => text,
    };
    if !is_root() || !Path::new("/usr/bin/apt-get").exists() {
        return Err(missing);
    }
    say("no Postgres server programs were found; installing the Debian package `postgresql`");
    // The package index of a fresh machine is empty or old.
    apt_get(&["update"])?;
    apt_get(&["install", "--yes", "--no-install-recommends", "postgresql"])?;
    PostgresBinaries::find()
}

fn apt_get(args: &[&str]) -> Result<(), String> {
    let shown = format!("apt-get {}", args.join(" "));
    say(&shown);
    let status = Command::new("apt-get")
        .args(args)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .status()
        .map_err(|error| format!("`{shown}` cannot be run: {error}"))?;
    if status.success() {
        return Ok(());
    }
    Err(format!(
        "`{shown}` failed ({status}). Install Postgres by hand, name a running server in A2A_TEST_POSTGRES_URL, or set \
         A2A_TEST_NO_POSTGRES=1 to skip the tests that need it."
    ))
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}
