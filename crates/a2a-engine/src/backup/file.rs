//! The file of a backup.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read as _, Write as _};
use std::path::Path;
use std::time::SystemTime;

use a2a_core::time::Timestamp;
use a2a_store::snapshot::{Digests, Part, SnapshotError, TABLES, TableDigest, canonical, hex};
use a2a_store::store::Location;
use flate2::Compression;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::{Backup, BackupError, Progress};

/// What the first line of a backup calls it.
const FORMAT: &str = "a2a-mcp backup";
/// Raised when an older program could not read it.
const VERSION: u32 = 1;
/// No row is longer; a file that says otherwise is not one of ours.
const LINE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Rows that are sent on together.
const PART_ROWS_MAX: usize = 200;
/// Bytes after which rows are sent on.
const PART_BYTES_MAX: usize = 1024 * 1024;

/// The first line of a backup.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Head {
    /// What it is.
    pub format: String,
    /// Of the file.
    pub version: u32,
    /// The newest migration of the database.
    pub schema: String,
    /// The database, without user and password.
    pub source: String,
    /// When it was begun.
    pub created_at: String,
    /// The program that wrote it.
    pub program: String,
}

impl Head {
    pub(super) fn new(location: &Location, schema: String) -> Self {
        Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            schema,
            source: location.to_string(),
            created_at: Timestamp::from_system_time(SystemTime::now()).to_string(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// What comes before the rows of a table.
#[derive(Serialize, Deserialize)]
struct TableLine {
    table: String,
    columns: Vec<String>,
}

/// The last line.
#[derive(Serialize, Deserialize)]
struct EndLine {
    end: Vec<TableDigest>,
    /// Of all lines before this one, with their line ends.
    sha256: String,
}

/// Lines that are hashed on their way into the file.
struct Lines {
    to: GzEncoder<BufWriter<File>>,
    hash: Sha256,
}

impl Lines {
    fn put(&mut self, line: &str) -> io::Result<()> {
        self.hash.update(line.as_bytes());
        self.hash.update(b"\n");
        self.to.write_all(line.as_bytes())?;
        self.to.write_all(b"\n")
    }

    fn put_json(&mut self, line: &impl Serialize) -> io::Result<()> {
        self.put(&serde_json::to_string(line).map_err(io::Error::other)?)
    }
}

/// Writes a backup beside its place, and puts it there when it is whole and on the disk.
pub(super) fn write(
    path: &Path,
    head: Head,
    mut parts: mpsc::Receiver<Result<Part, SnapshotError>>,
    progress: &Progress,
) -> Result<Backup, BackupError> {
    let wrong = |error| BackupError::File { path: path.display().to_string(), what: "written", error };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.partial", std::process::id()));
    let partial = Partial(path.with_file_name(name));
    let mut lines = Lines {
        to: GzEncoder::new(BufWriter::new(create(&partial.0).map_err(wrong)?), Compression::default()),
        hash: Sha256::new(),
    };
    lines.put_json(&head).map_err(wrong)?;
    let mut rows_written = 0;
    let mut current = None;
    let tables = loop {
        match parts.blocking_recv() {
            Some(Ok(Part::Rows { table, rows })) => {
                if current != Some(table) {
                    current = Some(table);
                    lines.put_json(&table_line(table)).map_err(wrong)?;
                }
                for row in &rows {
                    lines.put(row).map_err(wrong)?;
                }
                rows_written += rows.len() as u64;
                progress(rows_written);
            }
            Some(Ok(Part::End(tables))) => break tables,
            Some(Err(error)) => return Err(error.into()),
            None => return Err(SnapshotError::Incomplete.into()),
        }
    };
    let end = EndLine { end: tables.clone(), sha256: hex(&lines.hash.clone().finalize()) };
    lines.put_json(&end).map_err(wrong)?;
    let file = lines.to.finish().and_then(|to| to.into_inner().map_err(io::IntoInnerError::into_error));
    file.and_then(|file| file.sync_all()).map_err(wrong)?;
    std::fs::rename(&partial.0, path).map_err(wrong)?;
    // The name is on the disk when its folder is.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(wrong)?;
    Ok(Backup { head, tables })
}

/// A file that goes away when it is not put into its place.
struct Partial(std::path::PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        // After a success it is not there any more.
        let _gone = std::fs::remove_file(&self.0);
    }
}

/// It holds all that the database does, so that nobody else may read it.
fn create(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

fn table_line(table: usize) -> TableLine {
    let table = TABLES.get(table);
    TableLine {
        table: table.map(|table| table.name.to_owned()).unwrap_or_default(),
        columns: table.map(|t| t.columns.iter().map(|c| c.name.to_owned()).collect()).unwrap_or_default(),
    }
}

/// Reads a backup and checks all of it; `each` gets its rows and says whether to go on. What it gets is known to be right
/// only when this has returned.
pub(super) fn read(
    path: &Path,
    progress: &dyn Fn(u64),
    each: &mut dyn FnMut(Part) -> bool,
) -> Result<Backup, BackupError> {
    let name = || path.display().to_string();
    let unreadable = |error| BackupError::File { path: name(), what: "read", error };
    let damaged = |reason: String| BackupError::Damaged { path: name(), reason };
    let mut reader = Reader {
        from: BufReader::new(GzDecoder::new(BufReader::new(File::open(path).map_err(unreadable)?))),
        line: String::new(),
    };
    let mut hash = Sha256::new();
    let head = reader.next().map_err(&damaged)?;
    let head: Head = serde_json::from_str(head).map_err(|_| damaged("it does not begin as one".to_owned()))?;
    if head.format != FORMAT {
        return Err(damaged("it is something else".to_owned()));
    }
    if head.version > VERSION {
        return Err(BackupError::Newer { path: name(), schema: head.schema });
    }
    let mut digests = Digests::default();
    let mut table = None;
    // Told at the end only: what was altered may look like that.
    let mut is_newer = false;
    let mut rows = Vec::new();
    let mut bytes = 0;
    loop {
        hash.update(reader.line.as_bytes());
        let line = reader.next().map_err(&damaged)?.trim_end_matches('\n');
        if line.starts_with('[') && is_newer {
            continue;
        }
        if line.starts_with('[') {
            let table = table.ok_or_else(|| damaged("rows belong to no table".to_owned()))?;
            let row = canonical(table, line).map_err(|error| damaged(error.to_string()))?;
            digests.add(table, &row);
            bytes += row.len();
            rows.push(row);
            if rows.len() >= PART_ROWS_MAX || bytes >= PART_BYTES_MAX {
                bytes = 0;
                progress(digests.rows());
                if !each(Part::Rows { table, rows: std::mem::take(&mut rows) }) {
                    return Err(SnapshotError::Incomplete.into());
                }
            }
            continue;
        }
        if let Some(table) = table
            && !rows.is_empty()
            && !each(Part::Rows { table, rows: std::mem::take(&mut rows) })
        {
            return Err(SnapshotError::Incomplete.into());
        }
        bytes = 0;
        if let Ok(end) = serde_json::from_str::<EndLine>(line) {
            if end.sha256 != hex(&hash.finalize()) {
                return Err(damaged("its content has changed since it was written".to_owned()));
            }
            if is_newer {
                return Err(BackupError::Newer { path: name(), schema: head.schema });
            }
            let tables = digests.finish();
            if end.end != tables {
                return Err(damaged("its tables are not those that it was written with".to_owned()));
            }
            reader.end().map_err(&damaged)?;
            return Ok(Backup { head, tables });
        }
        let next: TableLine =
            serde_json::from_str(line).map_err(|_| damaged("a line is neither a row nor a table".to_owned()))?;
        let found = TABLES.iter().position(|known| known.name == next.table);
        let is_known = found.is_some_and(|index| table_line(index).columns == next.columns);
        if !is_known {
            is_newer = true;
            continue;
        }
        if found <= table {
            return Err(damaged(format!("{} stands at the wrong place", next.table)));
        }
        table = found;
    }
}

/// Reads lines of bounded length.
struct Reader {
    from: BufReader<GzDecoder<BufReader<File>>>,
    line: String,
}

impl Reader {
    /// The next line, with its end.
    fn next(&mut self) -> Result<&str, String> {
        self.line.clear();
        let read = (&mut self.from).take(LINE_BYTES_MAX).read_line(&mut self.line);
        match read {
            Ok(0) => Err("it ends early".to_owned()),
            Ok(_) if self.line.ends_with('\n') => Ok(&self.line),
            Ok(_) => Err("a line does not end".to_owned()),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err("it ends early".to_owned()),
            Err(error) => Err(format!("it can't be unpacked ({error})")),
        }
    }

    /// Nothing may follow.
    fn end(mut self) -> Result<(), String> {
        let wrong = |error: io::Error| format!("it can't be unpacked ({error})");
        let mut more = self.from.fill_buf().map_err(wrong)?.len();
        more += self.from.get_mut().get_mut().fill_buf().map_err(wrong)?.len();
        if more == 0 { Ok(()) } else { Err("something follows its end".to_owned()) }
    }
}
