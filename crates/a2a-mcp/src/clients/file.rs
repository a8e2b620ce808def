//! Replaces the configuration file of a client, which the client may write at the same time.

use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use a2a_core::time::Timestamp;

/// More than any client writes.
const BYTES_MAX: u64 = 64 * 1024 * 1024;
/// The mode of a file that holds a URL, which may hold a password.
const MODE_PRIVATE: u32 = 0o600;
const MODE_DEFAULT: u32 = 0o644;

/// A file as it was read.
#[derive(Debug)]
pub(crate) struct Found {
    /// The file itself, also when the configuration is a link to it.
    pub(crate) path: PathBuf,
    /// `None` when there is no file yet.
    pub(crate) text: Option<String>,
    metadata: Option<std::fs::Metadata>,
}

/// Why a file was not replaced.
#[derive(Debug)]
pub(crate) enum ReplaceError {
    /// Somebody else has written it meanwhile.
    Changed,
    Failed(io::Error),
}

impl From<io::Error> for ReplaceError {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

impl Found {
    /// Reads a file that may be missing.
    ///
    /// # Errors
    /// Why it can't be read.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let path = match std::fs::canonicalize(path) {
            Ok(path) => path,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !path.is_symlink() => path.to_owned(),
            Err(error) => return Err(format!("can't be read: {error}")),
        };
        let (text, metadata) = match std::fs::File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => (None, None),
            Err(error) => return Err(format!("can't be read: {error}")),
            Ok(file) => {
                let metadata = file.metadata().map_err(|error| format!("can't be read: {error}"))?;
                if !metadata.is_file() {
                    return Err("is not a file".to_owned());
                }
                let mut bytes = Vec::new();
                file.take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| format!("can't be read: {error}"))?;
                if bytes.len() as u64 > BYTES_MAX {
                    return Err("has more than 64 MiB; this does not look like a configuration".to_owned());
                }
                let text = String::from_utf8(bytes).map_err(|error| {
                    let before = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
                    format!("is not UTF-8: line {}", 1 + before.iter().filter(|byte| **byte == b'\n').count())
                })?;
                (Some(text), Some(metadata))
            }
        };
        Ok(Self { path, text, metadata })
    }

    /// Whether other users of this machine can read the file.
    pub(crate) fn is_open_to_others(&self) -> bool {
        self.metadata.as_ref().is_some_and(|file| file.permissions().mode() & 0o044 != 0)
    }

    /// Replaces the file in one step and returns where the earlier one was kept. Its mode and owner stay; a new file is
    /// private when it `holds_url`.
    ///
    /// # Errors
    /// Then the file is as it was.
    pub(crate) fn replace(&self, text: &str, holds_url: bool, now: Timestamp) -> Result<Option<PathBuf>, ReplaceError> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let mode = match &self.metadata {
            Some(metadata) => metadata.permissions().mode() & 0o7777,
            None if holds_url => MODE_PRIVATE,
            None => MODE_DEFAULT,
        };
        let like = self.metadata.as_ref();
        let new = Temporary::write(folder.join(format!(".{name}.{}.new", std::process::id())), text, mode, like)?;
        let kept = match &self.text {
            None => None,
            Some(text) => {
                let stamp: String = now.to_string().chars().filter(|c| c.is_ascii_alphanumeric()).collect();
                // Nobody else reads it, whatever the mode of the file is: it may hold an earlier password.
                Some(Temporary::write(folder.join(format!("{name}.{stamp}.bak")), text, MODE_PRIVATE, like)?)
            }
        };
        let unchanged = Self::read(&self.path).is_ok_and(|now| now.text == self.text);
        if !unchanged {
            return Err(ReplaceError::Changed);
        }
        std::fs::rename(&new.0, &self.path)?;
        std::fs::File::open(folder)?.sync_all()?;
        Ok(kept.map(Temporary::keep))
    }
}

/// A file that goes away unless it has got another name.
struct Temporary(PathBuf);

impl Temporary {
    /// Makes a file that is not there yet, with the owner of another one.
    fn write(path: PathBuf, text: &str, mode: u32, like: Option<&std::fs::Metadata>) -> io::Result<Self> {
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(MODE_PRIVATE).open(&path)?;
        let new = Self(path);
        if let Some(like) = like
            && file.metadata()?.uid() != like.uid()
        {
            std::os::unix::fs::fchown(&file, Some(like.uid()), Some(like.gid()))?;
        }
        file.write_all(text.as_bytes())?;
        // Ordering: after the owner is set, which may clear bits of the mode.
        file.set_permissions(std::fs::Permissions::from_mode(mode))?;
        file.sync_all()?;
        Ok(new)
    }

    fn keep(mut self) -> PathBuf {
        std::mem::take(&mut self.0)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Nothing is there any more when it was renamed, or is kept.
        let _gone = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests;
