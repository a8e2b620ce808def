//! Reads a file line by line, each in bounded memory.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _, StdinLock};
use std::path::Path;

use a2a_core::limits::LINE_BYTES_MAX;

/// A line that is not blank.
pub(super) struct Line {
    /// Counted from 1, blank ones too.
    pub(super) number: usize,
    /// What stands in it, or why it was not read.
    pub(super) bytes: Result<Vec<u8>, String>,
}

/// The lines of a file or of standard input.
pub(super) struct Lines {
    from: Box<dyn BufRead>,
    number: usize,
}

impl Lines {
    /// Opens a file; `-` is standard input.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let from: Box<dyn BufRead> = if path.as_os_str() == "-" {
            let stdin: StdinLock<'static> = io::stdin().lock();
            Box::new(stdin)
        } else {
            Box::new(BufReader::new(File::open(path)?))
        };
        Ok(Self { from, number: 0 })
    }

    /// The next line that is not blank.
    pub(super) fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            let mut bytes = Vec::new();
            // One byte more than allowed, and the end of the line, tell that there is more.
            (&mut self.from).take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut bytes)?;
            if bytes.is_empty() {
                return Ok(None);
            }
            self.number += 1;
            let number = self.number;
            let is_whole = bytes.last() == Some(&b'\n');
            if !is_whole && bytes.len() > LINE_BYTES_MAX {
                drop(bytes);
                self.skip_line()?;
                let reason = format!("is longer than {} MiB", LINE_BYTES_MAX / (1024 * 1024));
                return Ok(Some(Line { number, bytes: Err(reason) }));
            }
            if is_whole {
                // It is no part of what stands in the line, and errors name places in that.
                bytes.pop();
            }
            if number == 1 && bytes.starts_with("\u{feff}".as_bytes()) {
                bytes.drain(.."\u{feff}".len());
            }
            if !bytes.iter().all(u8::is_ascii_whitespace) {
                return Ok(Some(Line { number, bytes: Ok(bytes) }));
            }
        }
    }

    fn skip_line(&mut self) -> io::Result<()> {
        loop {
            let (found, used) = match self.from.fill_buf()? {
                [] => return Ok(()),
                part => match part.iter().position(|byte| *byte == b'\n') {
                    Some(end) => (true, end + 1),
                    None => (false, part.len()),
                },
            };
            self.from.consume(used);
            if found {
                return Ok(());
            }
        }
    }
}
