//! Programs of others that tests run against: installed once into the target folder, at one version.
//!
//! Where there is no interpreter or no package registry, a test says that it is skipped and passes. With `CI=true` it
//! fails instead, so that this does not go unnoticed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use a2a_testing::installed::{installed, run};

const PYTHON_PACKAGES: [&str; 2] = ["a2a-sdk[http-server]==1.3.0", "uvicorn==0.54.0"];
const NODE_PACKAGE: &str = "@modelcontextprotocol/server-everything@2026.8.31";

/// A Python with the reference SDK of the A2A protocol.
pub(crate) fn python() -> Option<Command> {
    let installed = installed(all(), "python-a2a-sdk-1.3.0", |folder| {
        run(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
        // As a module: the first line of a script can't hold a long path.
        run(Command::new(folder.join("bin/python"))
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "1"])
            .args(PYTHON_PACKAGES))
    })?;
    Some(Command::new(installed.join("bin/python")))
}

/// The program of the MCP server of the protocol's authors that has one of everything.
pub(crate) fn everything() -> Option<PathBuf> {
    let installed = installed(all(), "node-server-everything-2026.8.31", |folder| {
        fs::create_dir_all(folder).map_err(|error| error.to_string())?;
        run(Command::new("npm")
            .args(["install", "--no-audit", "--no-fund", "--no-save", "--fetch-retries", "1", "--prefix"])
            .arg(folder)
            .arg(NODE_PACKAGE))
    })?;
    Some(installed.join("node_modules/@modelcontextprotocol/server-everything/dist/index.js"))
}

/// The absolute path of a program that is on the PATH.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

fn all() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}
