//! The file of the embedded database, and the disk that it is on.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use a2a_store::error::StoreError;

use super::{Check, Findings};

/// Below this a busy registry soon fills the disk: its write-ahead log alone may grow to 64 MiB.
const SPACE_LOW_BYTES: u64 = 256 * 1024 * 1024;

pub(super) fn connect(path: &Path, is_new: bool, error: Option<&StoreError>) -> Check {
    const NAME: &str = "connect";
    let shown = path.display();
    match error {
        Some(error) => {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            Check::fail(NAME, "sqlite_open", error.to_string()).next(format!(
                "ls -ld {} {}    (the folder and the file must be writable for this user), or set A2A_DATA_DIR",
                quoted(folder),
                quoted(path)
            ))
        }
        None if path.is_relative() => {
            Check::warn(NAME, "relative_path", format!("SQLite file {shown}, relative to the folder of each process"))
                .next("write the whole path, so that clients started in different folders share one file")
        }
        None if is_new => Check::ok(NAME, format!("SQLite file {shown}, made now, as the first start would")),
        None => Check::ok(NAME, format!("SQLite file {shown}")),
    }
}

/// What the database can't see itself: who may read the file, the room on the disk, and the kind of file system.
pub(super) fn surroundings<F: FnMut(&Check)>(path: &Path, findings: &mut Findings<F>) {
    if let Some(check) = permissions(path) {
        findings.add(check);
    }
    // Before the file is there, its folder or the nearest one above it stands for it.
    let Some(place) = path.ancestors().find(|place| place.exists()) else { return };
    findings.add(disk(place));
    findings.add(file_system(place));
}

fn permissions(path: &Path) -> Option<Check> {
    const NAME: &str = "permissions";
    let file = std::fs::metadata(path).ok()?;
    let mode = file.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Some(
            Check::warn(NAME, "open_to_others", format!("other users can open the file (mode {mode:04o})"))
                .next(format!("chmod 600 {}", quoted(path))),
        );
    }
    // With the sticky bit, as on /tmp, others can add files but not replace this one.
    let replaceable = |mode: u32| mode & 0o022 != 0 && mode & 0o1000 == 0;
    let parent = path.parent().unwrap_or(path);
    let folder_mode = std::fs::metadata(parent).map_or(0, |folder| folder.permissions().mode());
    if replaceable(folder_mode) {
        let detail =
            format!("the file is private, but others can replace it: its folder has mode {:04o}", folder_mode & 0o777);
        return Some(Check::warn(NAME, "folder_open_to_others", detail).next(format!("chmod go-w {}", quoted(parent))));
    }
    Some(Check::ok(NAME, format!("only user {} can open the file (mode {mode:04o})", file.uid())))
}

fn disk(place: &Path) -> Check {
    const NAME: &str = "disk";
    let found = match rustix::fs::statvfs(place) {
        Ok(found) => found,
        Err(error) => return Check::warn(NAME, "unknown", format!("the free space can't be read: {error}")),
    };
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let mebibytes = free / (1024 * 1024);
    if free < SPACE_LOW_BYTES {
        return Check::warn(NAME, "low", format!("only {mebibytes} MiB are free; writes fail when it is full"))
            .next(format!("df -h {}    (and make room, or set A2A_DATA_DIR to another disk)", quoted(place)));
    }
    Check::ok(NAME, format!("{mebibytes} MiB free"))
}

/// Locks of SQLite are not reliable between machines, and its write-ahead log needs shared memory.
fn file_system(place: &Path) -> Check {
    const NAME: &str = "file_system";
    match network_file_system(place) {
        Ok(Some(kind)) => {
            Check::warn(NAME, "network", format!("{kind}: SQLite can lose data there when several machines write"))
                .next("set A2A_DATA_DIR to a local disk, or share agents through Postgres with DATABASE_URL")
        }
        Ok(None) => Check::ok(NAME, "local"),
        Err(reason) => Check::warn(NAME, "unknown", format!("its kind can't be told: {reason}")),
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn network_file_system(place: &Path) -> Result<Option<&'static str>, String> {
    /// The numbers of linux/magic.h.
    const NETWORK: [(u64, &str); 11] = [
        (0x6969, "a network file system (NFS)"),
        (0x517B, "a network file system (SMB)"),
        (0xFF53_4D42, "a network file system (CIFS)"),
        (0xFE53_4D42, "a network file system (SMB)"),
        (0x0102_1997, "a shared folder of a virtual machine (9p)"),
        (0x786F_4256, "a shared folder of a virtual machine (vboxsf)"),
        (0x5346_414F, "a network file system (AFS)"),
        (0x00C3_6400, "a network file system (Ceph)"),
        (0x0BD0_0BD0, "a network file system (Lustre)"),
        (0x4750_4653, "a network file system (GPFS)"),
        (0x6573_5546, "a file system in user space (FUSE), perhaps of another machine"),
    ];
    let found = rustix::fs::statfs(place).map_err(|error| error.to_string())?;
    // The type of this field differs between architectures, and a negative number stands for one above 2^31.
    let magic = u64::try_from(i128::from(found.f_type) & 0xFFFF_FFFF).unwrap_or_default();
    Ok(NETWORK.iter().find(|(number, _)| *number == magic).map(|(_, name)| *name))
}

#[cfg(target_os = "macos")]
fn network_file_system(place: &Path) -> Result<Option<&'static str>, String> {
    /// `MNT_LOCAL` of sys/mount.h.
    const LOCAL: u32 = 0x1000;
    let found = rustix::fs::statfs(place).map_err(|error| error.to_string())?;
    Ok((found.f_flags & LOCAL == 0).then_some("a network file system"))
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "macos")))]
fn network_file_system(_place: &Path) -> Result<Option<&'static str>, String> {
    Err("not known on this operating system".to_owned())
}

fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}
