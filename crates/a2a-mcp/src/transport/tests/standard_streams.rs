//! Each kind of standard stream.

use std::fs::OpenOptions;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

fn own_path(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

fn source(fd: impl Into<OwnedFd>) -> StdinStream {
    let fd = fd.into();
    let path = own_path(&fd);
    StdinStream::open(fd, &path).unwrap()
}

fn sink(fd: impl Into<OwnedFd>) -> StdoutStream {
    let fd = fd.into();
    let path = own_path(&fd);
    StdoutStream::open(fd, &path).unwrap()
}

async fn everything_from(source: StdinStream) -> Vec<u8> {
    let mut source = source;
    let mut bytes = Vec::new();
    source.read_to_end(&mut bytes).await.unwrap();
    bytes
}

#[tokio::test]
async fn one_socket_serves_both_directions() {
    let (ours, mut theirs) = StdUnixStream::pair().unwrap();
    let source = source(ours.try_clone().unwrap());
    let mut sink = sink(ours);
    assert!(matches!((&source, &sink), (StdinStream::Socket(_), StdoutStream::Socket(_))));
    theirs.write_all(b"in").unwrap();
    theirs.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(everything_from(source).await, b"in");
    sink.write_all(b"out").await.unwrap();
    sink.shutdown().await.unwrap();
    let mut answer = String::new();
    theirs.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "out");
}

#[tokio::test]
async fn a_fifo_is_driven_without_making_the_inherited_descriptor_non_blocking() {
    let (reader, mut theirs) = io::pipe().unwrap();
    let kept = reader.try_clone().unwrap();
    let source = source(reader);
    assert!(matches!(source, StdinStream::Fifo(_)));
    theirs.write_all(b"in").unwrap();
    drop(theirs);
    assert_eq!(everything_from(source).await, b"in");
    let flags = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", kept.as_raw_fd())).unwrap();
    let flags = flags.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim().to_owned();
    let non_blocking = 0o4000;
    assert_eq!(u32::from_str_radix(&flags, 8).unwrap() & non_blocking, 0, "{flags}");

    let (mut theirs, writer) = io::pipe().unwrap();
    let mut sink = sink(writer);
    assert!(matches!(sink, StdoutStream::Fifo(_)));
    sink.write_all(b"out").await.unwrap();
    drop(sink);
    let mut answer = String::new();
    theirs.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "out");
}

#[tokio::test]
async fn a_fifo_that_cannot_be_opened_anew_is_driven_as_it_is() {
    let (reader, mut theirs) = io::pipe().unwrap();
    let source = StdinStream::open(reader.into(), "/nonexistent").unwrap();
    theirs.write_all(b"in").unwrap();
    drop(theirs);
    assert_eq!(everything_from(source).await, b"in");
}

#[tokio::test]
async fn a_file_is_read_and_written_by_threads() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let text = "0123456789\n".repeat(50_000);
    let mut sink = sink(OpenOptions::new().create_new(true).write(true).open(&path).unwrap());
    assert!(matches!(sink, StdoutStream::Thread(_)));
    sink.write_all(text.as_bytes()).await.unwrap();
    sink.flush().await.unwrap();
    let source = source(OpenOptions::new().read(true).open(&path).unwrap());
    assert!(matches!(source, StdinStream::Thread(_)));
    assert!(everything_from(source).await == text.as_bytes());
}

#[tokio::test]
async fn a_file_that_is_full_breaks_the_output() {
    let peer_gone = CancellationToken::new();
    let output = Output::new(sink(OpenOptions::new().write(true).open("/dev/full").unwrap()), peer_gone.clone());
    assert!(output.write_line(&mut Some(b"line\n".to_vec())).await.is_err());
    assert!(output.is_closed() && peer_gone.is_cancelled());
}

#[test]
fn a_stream_that_never_ends_does_not_hold_the_end_of_the_runtime() {
    let (primary, _kept) = StdUnixStream::pair().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // The thread sits in a read that never returns, as on a terminal where nobody types.
    let reader = StdinStream::Thread(
        super::super::stdio::ThreadReader::start(std::fs::File::from(OwnedFd::from(primary))).unwrap(),
    );
    runtime.block_on(async {
        let mut reader = reader;
        let mut byte = [0];
        assert!(poll!(pin!(reader.read(&mut byte))).is_pending());
    });
    drop(runtime);
}
