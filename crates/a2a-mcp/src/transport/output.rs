//! Writes whole lines, one after another.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

/// Room that is kept between messages.
const KEPT_BYTES_MAX: usize = 1024 * 1024;

/// The writing half, shared by all answers on their way.
#[derive(Debug)]
pub(super) struct Output<W> {
    /// A fair asynchronous lock: it is held over the write, and answers wait in the order they came.
    writer: Mutex<Writer<W>>,
    closed: AtomicBool,
    /// Cancelled when nobody reads any more.
    peer_gone: CancellationToken,
}

#[derive(Debug)]
struct Writer<W> {
    sink: W,
    buffer: Vec<u8>,
    /// How much of the buffer the peer has. What an abandoned write left is written before the next line,
    /// so that a line never ends in the middle.
    written: usize,
}

impl<W: AsyncWrite + Unpin> Output<W> {
    pub(super) fn new(sink: W, peer_gone: CancellationToken) -> Self {
        Self {
            writer: Mutex::new(Writer { sink, buffer: Vec::new(), written: 0 }),
            closed: AtomicBool::new(false),
            peer_gone,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Writes one message as one line.
    ///
    /// # Errors
    /// When it cannot be written because nobody reads any more (everything is closed then), or not be serialized.
    pub(super) async fn write_message<M: Serialize>(&self, message: &M) -> io::Result<()> {
        self.write(|buffer| {
            let line_start = buffer.len();
            let serialized = serde_json::to_writer(&mut *buffer, message);
            if let Err(error) = serialized {
                buffer.truncate(line_start);
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
            buffer.push(b'\n');
            Ok(())
        })
        .await
    }

    /// Appends a line that is ready. When this future is abandoned after it was first polled to the lock, the rest
    /// is written by whoever writes next; [`Output::flush`] does only that.
    ///
    /// # Errors
    /// When nobody reads any more.
    pub(super) async fn write_line(&self, line: &mut Option<Vec<u8>>) -> io::Result<()> {
        self.write(|buffer| {
            // Taken together with the append, without an await between: the line is written exactly once.
            buffer.extend(line.take().unwrap_or_default());
            Ok(())
        })
        .await
    }

    async fn write(&self, append: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> io::Result<()> {
        let mut writer = self.writer.lock().await;
        if self.is_closed() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        append(&mut writer.buffer)?;
        let result = writer.drain().await;
        if result.is_err() {
            self.close_now();
        }
        result
    }

    /// Closes for good. Nothing waits for a peer that does not read: what was sent has been flushed already.
    pub(super) async fn close(&self) {
        self.close_now();
        if let Ok(mut writer) = self.writer.try_lock()
            && let Err(error) = writer.sink.shutdown().await
        {
            tracing::debug!(%error, "the output was not shut down");
        }
    }

    fn close_now(&self) {
        self.closed.store(true, Ordering::Release);
        self.peer_gone.cancel();
    }
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    async fn drain(&mut self) -> io::Result<()> {
        while let Some(rest) = self.buffer.get(self.written..).filter(|rest| !rest.is_empty()) {
            // Cancel safety: a write that is abandoned has written nothing.
            let count = self.sink.write(rest).await?;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.written += count;
        }
        self.sink.flush().await?;
        self.buffer.clear();
        self.buffer.shrink_to(KEPT_BYTES_MAX);
        self.written = 0;
        Ok(())
    }
}
