//! The standard streams of the process, each driven in the fastest way that its kind allows.
//!
//! Clients hand their servers FIFOs or UNIX sockets; both are driven by the runtime's poller without another thread.
//! Files and terminals cannot be polled: a thread of their own reads or writes them. Such a thread may hang in a
//! system call for ever, and must not belong to the runtime, whose shutdown would wait for it.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::pin::Pin;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::task::{Context, Poll, ready};
use std::thread;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{LineTransport, TransportLimits};

/// Bytes of one read of a file or terminal.
const CHUNK_BYTES: usize = 64 * 1024;
/// Chunks read ahead of the runtime: enough to keep both sides busy.
const CHUNKS_AHEAD_MAX: usize = 2;

/// The transport over standard input and output.
pub type StdioTransport = LineTransport<StdinStream, StdoutStream>;

impl StdioTransport {
    /// Takes over standard input and output. Nothing else may read or write them from here on.
    ///
    /// # Errors
    /// When a stream cannot be examined or driven.
    ///
    /// # Panics
    /// Outside of a runtime with its IO driver.
    pub fn open(limits: TransportLimits, peer_gone: CancellationToken) -> io::Result<Self> {
        let source = StdinStream::open(io::stdin().as_fd().try_clone_to_owned()?, "/proc/self/fd/0")?;
        let sink = StdoutStream::open(io::stdout().as_fd().try_clone_to_owned()?, "/proc/self/fd/1")?;
        tracing::debug!(?source, ?sink, "took over the standard streams");
        Ok(Self::new(source, sink, limits, peer_gone))
    }
}

enum Kind {
    Socket,
    Fifo,
    Other,
}

fn kind_of(fd: &OwnedFd) -> io::Result<Kind> {
    let kind = File::from(fd.try_clone()?).metadata()?.file_type();
    Ok(if kind.is_socket() {
        Kind::Socket
    } else if kind.is_fifo() {
        Kind::Fifo
    } else {
        Kind::Other
    })
}

fn socket(fd: OwnedFd) -> io::Result<UnixStream> {
    let socket = StdUnixStream::from(fd);
    socket.set_nonblocking(true)?;
    UnixStream::from_std(socket)
}

/// Where the requests come from.
#[derive(Debug)]
pub enum StdinStream {
    /// A socket, which may be the same one as the output.
    Socket(UnixStream),
    /// A FIFO.
    Fifo(pipe::Receiver),
    /// Anything else, read by a thread.
    Thread(ThreadReader),
}

impl StdinStream {
    /// Drives a descriptor. `own_path` names the same stream in the file system, where there is such a name.
    pub(super) fn open(fd: OwnedFd, own_path: &str) -> io::Result<Self> {
        match kind_of(&fd)? {
            Kind::Socket => socket(fd).map(Self::Socket),
            // A FIFO that is opened anew is non-blocking for this transport alone. The descriptor that was inherited
            // may be shared with others that expect it to block, such as standard error or the parent.
            Kind::Fifo => pipe::OpenOptions::new()
                .open_receiver(own_path)
                .or_else(|_| pipe::Receiver::from_owned_fd(fd))
                .map(Self::Fifo),
            Kind::Other => ThreadReader::start(File::from(fd)).map(Self::Thread),
        }
    }
}

impl AsyncRead for StdinStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Socket(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Fifo(fifo) => Pin::new(fifo).poll_read(cx, buf),
            Self::Thread(reader) => Pin::new(reader).poll_read(cx, buf),
        }
    }
}

/// Where the answers go.
#[derive(Debug)]
pub enum StdoutStream {
    /// A socket, which may be the same one as the input.
    Socket(UnixStream),
    /// A FIFO.
    Fifo(pipe::Sender),
    /// Anything else, written by a thread.
    Thread(ThreadWriter),
}

impl StdoutStream {
    pub(super) fn open(fd: OwnedFd, own_path: &str) -> io::Result<Self> {
        match kind_of(&fd)? {
            Kind::Socket => socket(fd).map(Self::Socket),
            Kind::Fifo => pipe::OpenOptions::new()
                .open_sender(own_path)
                .or_else(|_| pipe::Sender::from_owned_fd(fd))
                .map(Self::Fifo),
            Kind::Other => ThreadWriter::start(File::from(fd)).map(Self::Thread),
        }
    }
}

impl AsyncWrite for StdoutStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Socket(socket) => Pin::new(socket).poll_write(cx, buf),
            Self::Fifo(fifo) => Pin::new(fifo).poll_write(cx, buf),
            Self::Thread(writer) => Pin::new(writer).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Socket(socket) => Pin::new(socket).poll_flush(cx),
            Self::Fifo(fifo) => Pin::new(fifo).poll_flush(cx),
            Self::Thread(writer) => Pin::new(writer).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Socket(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Fifo(fifo) => Pin::new(fifo).poll_shutdown(cx),
            Self::Thread(writer) => Pin::new(writer).poll_shutdown(cx),
        }
    }
}

/// Reads a file or terminal in a thread that ends with the stream, or with the process.
#[derive(Debug)]
pub struct ThreadReader {
    chunks: mpsc::Receiver<io::Result<Vec<u8>>>,
    chunk: io::Cursor<Vec<u8>>,
}

impl ThreadReader {
    pub(super) fn start(mut file: File) -> io::Result<Self> {
        let (sender, chunks) = mpsc::channel(CHUNKS_AHEAD_MAX);
        thread::Builder::new().name("stdin".into()).spawn(move || {
            loop {
                let mut chunk = vec![0; CHUNK_BYTES];
                let read = match file.read(&mut chunk) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Ok(0) => return,
                    Ok(count) => {
                        chunk.truncate(count);
                        Ok(chunk)
                    }
                    Err(error) => Err(error),
                };
                let failed = read.is_err();
                if sender.blocking_send(read).is_err() || failed {
                    return;
                }
            }
        })?;
        Ok(Self { chunks, chunk: io::Cursor::default() })
    }
}

impl AsyncRead for ThreadReader {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let mut rest = io::BufRead::fill_buf(&mut this.chunk)?;
        if rest.is_empty() {
            match ready!(this.chunks.poll_recv(cx)).transpose()? {
                Some(chunk) => this.chunk = io::Cursor::new(chunk),
                None => return Poll::Ready(Ok(())),
            }
            rest = io::BufRead::fill_buf(&mut this.chunk)?;
        }
        let count = rest.len().min(buf.remaining());
        buf.put_slice(rest.get(..count).unwrap_or_default());
        io::BufRead::consume(&mut this.chunk, count);
        Poll::Ready(Ok(()))
    }
}

/// Writes a file or terminal in a thread, one chunk at a time.
#[derive(Debug)]
pub struct ThreadWriter {
    chunks: SyncSender<(Vec<u8>, oneshot::Sender<io::Result<()>>)>,
    /// The chunk in work.
    written: Option<oneshot::Receiver<io::Result<()>>>,
}

impl ThreadWriter {
    pub(super) fn start(mut file: File) -> io::Result<Self> {
        // One place is enough: the next chunk is sent only after the last was written.
        let (chunks, receiver) = sync_channel::<(Vec<u8>, oneshot::Sender<io::Result<()>>)>(1);
        thread::Builder::new().name("stdout".into()).spawn(move || {
            for (chunk, written) in receiver {
                let result = file.write_all(&chunk);
                let failed = result.is_err();
                // Nobody waits for the result when the transport was dropped.
                if written.send(result).is_err() || failed {
                    return;
                }
            }
        })?;
        Ok(Self { chunks, written: None })
    }

    fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(written) = &mut self.written else {
            return Poll::Ready(Ok(()));
        };
        let result = ready!(Pin::new(written).poll(cx));
        self.written = None;
        Poll::Ready(result.unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into())))
    }
}

impl AsyncWrite for ThreadWriter {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_written(cx))?;
        let (sender, written) = oneshot::channel();
        if this.chunks.try_send((buf.to_vec(), sender)).is_err() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        this.written = Some(written);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_written(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Each message was flushed. A terminal that is held does not hold the end of the process.
        Poll::Ready(Ok(()))
    }
}
