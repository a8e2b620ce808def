//! Reading a file that only its owner can have written.

use std::fs::{File, Metadata};
use std::io::Read as _;
use std::path::Path;

/// Reads a regular file of at most `bytes_max` bytes that nobody but this user and root can change.
pub(super) fn read_own_file(path: &Path, bytes_max: u64) -> Result<Vec<u8>, String> {
    let unreadable = |error: std::io::Error| format!("can't be read: {error}");
    // What is checked below is the file that was opened, whatever the name stands for afterwards.
    let real = path.canonicalize().map_err(unreadable)?;
    let before = real.metadata().map_err(unreadable)?;
    if !before.is_file() {
        // Opening a pipe would wait for somebody to write to it.
        return Err("is not a file".to_owned());
    }
    let mut file = File::open(&real).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err("is not a file".to_owned());
    }
    check_owner(&real, &metadata)?;
    if let Some(folder) = real.parent() {
        check_folder(folder)?;
    }
    let mut bytes = Vec::new();
    file.by_ref().take(bytes_max + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > bytes_max {
        return Err(format!("has more than {bytes_max} bytes; this does not look like a file of settings"));
    }
    Ok(bytes)
}

#[cfg(unix)]
const WRITABLE_BY_OTHERS: u32 = 0o022;
#[cfg(unix)]
const STICKY: u32 = 0o1000;

#[cfg(unix)]
fn check_owner(path: &Path, metadata: &Metadata) -> Result<(), String> {
    use std::os::unix::fs::MetadataExt as _;
    if metadata.mode() & WRITABLE_BY_OTHERS != 0 {
        return Err(format!(
            "can be changed by other users, who could have programs started with it; run: chmod go-w '{}'",
            path.display()
        ));
    }
    if metadata.uid() != 0 && metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err("belongs to another user, who could have programs started with it; \
                    make it a file of this user or of root with chown"
            .to_owned());
    }
    Ok(())
}

/// Whoever can write to the folder can put another file in its place, unless it is sticky like `/tmp`.
#[cfg(unix)]
fn check_folder(folder: &Path) -> Result<(), String> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = folder.metadata().map_err(|error| format!("is in a folder that can't be looked at: {error}"))?;
    if metadata.mode() & WRITABLE_BY_OTHERS != 0 && metadata.mode() & STICKY == 0 {
        return Err(format!(
            "is in a folder where other users could replace it; run: chmod go-w '{}'",
            folder.display()
        ));
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_owner(_path: &Path, _metadata: &Metadata) -> Result<(), String> {
    Ok(())
}

#[cfg(not(unix))]
fn check_folder(_folder: &Path) -> Result<(), String> {
    Ok(())
}
