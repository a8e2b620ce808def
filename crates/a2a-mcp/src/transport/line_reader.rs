//! Cuts a byte stream into lines of bounded length.

use std::io;
use std::io::BufRead as _;
use std::ops::Range;

use rmcp::model::RequestId;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::envelope::EnvelopeScanner;

/// Least free room for one read: the size of a pipe's buffer on Linux, so that one call can empty it.
const READ_BYTES_MIN: usize = 64 * 1024;
/// Room that is kept between messages. One long message must not hold its memory for ever.
const KEPT_BYTES_MAX: usize = 4 * READ_BYTES_MIN;

/// What the reader found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A line without its newline; [`LineReader::bytes`] gives the text until the next call of `next`.
    Complete(Range<usize>),
    /// A line longer than the limit was thrown away; the id of its request where it could be found.
    Oversized(Option<RequestId>),
    /// The stream has ended.
    End,
}

/// Reads lines. Memory stays near the limit of one line, however long the peer makes it.
#[derive(Debug)]
pub(super) struct LineReader<R> {
    source: R,
    buffer: Vec<u8>,
    /// Where the first byte stands that belongs to no earlier line.
    start: usize,
    /// How many bytes after `start` are known to hold no newline.
    scanned: usize,
    line_bytes_max: usize,
    /// Present while a line is thrown away, until its newline comes.
    discarding: Option<EnvelopeScanner>,
    ended: bool,
}

impl<R: AsyncRead + Unpin> LineReader<R> {
    pub(super) fn new(source: R, line_bytes_max: usize) -> Self {
        Self { source, buffer: Vec::new(), start: 0, scanned: 0, line_bytes_max, discarding: None, ended: false }
    }

    /// The text of a line that `next` returned last.
    pub(super) fn bytes(&self, line: Range<usize>) -> &[u8] {
        self.buffer.get(line).unwrap_or_default()
    }

    /// Waits for the next line. A last line without newline counts. Cancel safe: nothing that was read is lost.
    ///
    /// # Errors
    /// When the stream cannot be read.
    pub(super) async fn next(&mut self) -> io::Result<Line> {
        loop {
            if let Some(line) = self.take_line() {
                return Ok(line);
            }
            if self.ended {
                return Ok(self.take_rest());
            }
            self.make_room();
            // Cancel safety: the read either fills the buffer and completes, or did nothing.
            self.ended = self.source.read_buf(&mut self.buffer).await? == 0;
        }
    }

    fn take_line(&mut self) -> Option<Line> {
        let from = self.start + self.scanned;
        let mut unseen = self.buffer.get(from..).unwrap_or_default();
        // The standard library searches a slice of bytes much faster than a loop over it would.
        let searched = unseen.skip_until(b'\n').unwrap_or_default();
        let to = from + searched;
        let newline = searched > 0 && self.buffer.get(to - 1) == Some(&b'\n');
        if !newline {
            self.scanned = to - self.start;
            if self.discarding.is_some() || self.scanned > self.line_bytes_max {
                let unfinished = self.buffer.get(self.start..).unwrap_or_default();
                self.discarding.get_or_insert_default().feed(unfinished);
                self.buffer.clear();
                self.start = 0;
                self.scanned = 0;
            }
            return None;
        }
        let line = self.start..to - 1;
        self.start = to;
        self.scanned = 0;
        Some(self.judge(line))
    }

    fn take_rest(&mut self) -> Line {
        let rest = self.start..self.buffer.len();
        self.start = rest.end;
        self.scanned = 0;
        if rest.is_empty() && self.discarding.is_none() {
            return Line::End;
        }
        self.judge(rest)
    }

    fn judge(&mut self, line: Range<usize>) -> Line {
        let text = self.buffer.get(line.clone()).unwrap_or_default();
        if let Some(mut scanner) = self.discarding.take() {
            scanner.feed(text);
            Line::Oversized(scanner.id())
        } else if line.len() > self.line_bytes_max {
            Line::Oversized(EnvelopeScanner::id_of(text))
        } else {
            Line::Complete(line)
        }
    }

    fn make_room(&mut self) {
        self.buffer.drain(..self.start);
        self.start = 0;
        if self.buffer.is_empty() && self.buffer.capacity() > KEPT_BYTES_MAX {
            self.buffer.shrink_to(READ_BYTES_MIN);
        }
        if self.buffer.capacity() - self.buffer.len() < READ_BYTES_MIN / 4 {
            self.buffer.reserve(READ_BYTES_MIN);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(text: &[u8], line_bytes_max: usize) -> Vec<String> {
        let mut reader = LineReader::new(text, line_bytes_max);
        let mut lines = Vec::new();
        loop {
            match reader.next().await.unwrap() {
                Line::Complete(line) => lines.push(String::from_utf8_lossy(reader.bytes(line)).into_owned()),
                Line::Oversized(id) => lines.push(format!("oversized {id:?}")),
                Line::End => return lines,
            }
        }
    }

    #[tokio::test]
    async fn lines_are_cut_at_newlines_and_a_last_one_counts_without() {
        assert_eq!(lines(b"a\n\nbc\r\nd", 10).await, ["a", "", "bc\r", "d"]);
        assert_eq!(lines(b"", 10).await, [""; 0]);
        assert_eq!(lines(b"\n", 10).await, [""]);
    }

    #[tokio::test]
    async fn a_line_is_refused_one_byte_past_the_limit() {
        assert_eq!(
            lines(b"123\n1234\n12345\nab\n12345", 4).await,
            ["123", "1234", "oversized None", "ab", "oversized None"]
        );
    }

    #[tokio::test]
    async fn the_id_of_an_oversized_line_is_found_wherever_it_stands() {
        let long = "x".repeat(1_000_000);
        let text = format!("{{\"method\":\"m\",\"params\":\"{long}\",\"id\":5}}\nnext\n");
        assert_eq!(lines(text.as_bytes(), 1000).await, ["oversized Some(Number(5))", "next"]);
    }

    #[tokio::test]
    async fn memory_stays_bounded_while_a_line_of_a_hundred_megabytes_passes() {
        let mut reader = LineReader::new(tokio::io::repeat(b'x').take(100 << 20), 1 << 20);
        assert_eq!(reader.next().await.unwrap(), Line::Oversized(None));
        assert!(reader.buffer.capacity() < 4 << 20, "{}", reader.buffer.capacity());
        assert_eq!(reader.next().await.unwrap(), Line::End);
    }

    #[tokio::test]
    async fn room_for_a_long_line_is_given_back() {
        let text = format!("{}\na\n", "x".repeat(3 << 20));
        let mut reader = LineReader::new(text.as_bytes(), 4 << 20);
        assert!(matches!(reader.next().await.unwrap(), Line::Complete(line) if line.len() == 3 << 20));
        assert!(matches!(reader.next().await.unwrap(), Line::Complete(line) if line.len() == 1));
        assert_eq!(reader.next().await.unwrap(), Line::End);
        assert!(reader.buffer.capacity() <= KEPT_BYTES_MAX, "{}", reader.buffer.capacity());
    }
}
