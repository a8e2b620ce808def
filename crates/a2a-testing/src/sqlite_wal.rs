//! What a SQLite database has committed to its write-ahead log, read from the outside.
//!
//! The log is a header of 32 bytes and then frames, each of a header of 24 bytes and a page. The last frame of a
//! transaction says how large the database is after it, all others say zero. Frames whose salts are not those of the
//! header are left from before the log was begun anew.

use std::path::{Path, PathBuf};

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;

/// Where the log of a database is.
#[must_use]
pub fn path(database: &Path) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push("-wal");
    PathBuf::from(path)
}

/// Returns for each transaction in a log where its last frame ends, as an offset in the log.
#[must_use]
pub fn commits(log: &[u8]) -> Vec<usize> {
    let Some(salts) = log.get(16..24) else { return Vec::new() };
    let page = usize::try_from(number(log, 8)).expect("32 bits fit into a usize");
    let frame = FRAME_HEADER + page;
    let mut ends = Vec::new();
    let mut at = HEADER;
    while log.len() >= at + frame && &log[at + 8..at + 16] == salts {
        at += frame;
        if number(log, at - frame + 4) > 0 {
            ends.push(at);
        }
    }
    ends
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(salt: u8, size_after: u32) -> Vec<u8> {
        let mut frame = vec![0; FRAME_HEADER + 512];
        frame[4..8].copy_from_slice(&size_after.to_be_bytes());
        frame[8..16].fill(salt);
        frame
    }

    #[test]
    fn only_whole_transactions_of_this_log_count() {
        let mut log = vec![0; HEADER];
        log[8..12].copy_from_slice(&512_u32.to_be_bytes());
        log[16..24].fill(7);
        assert_eq!(commits(&log[..10]), [0_usize; 0]);
        assert_eq!(commits(&log), [0_usize; 0]);
        for (salt, size_after) in [(7, 0), (7, 9), (7, 9), (7, 0), (8, 9)] {
            log.extend(frame(salt, size_after));
        }
        assert_eq!(commits(&log), [32 + 2 * 536, 32 + 3 * 536]);
        assert_eq!(commits(&log[..log.len() - 3 * 536]), [32 + 2 * 536]);
        assert_eq!(commits(&log[..log.len() - 2 * 536 - 1]), [32 + 2 * 536, 32 + 3 * 536][..1]);
    }
}
