//! Fetching a model and showing which one reads, against a hub on this machine.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use a2a_testing::installed::sentence_transformer;

use crate::cli::Home;

/// A hub that serves the files of a folder below `/hub`, those of weights after a redirect, and notes what it is asked for.
struct Hub {
    origin: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Hub {
    fn start(folder: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let noting = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that has read enough goes away.
                let _gone = serve(stream, &folder, &noting);
            }
        });
        Self { origin, asked }
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

fn serve(stream: TcpStream, folder: &Path, asked: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let mut stream = reader.into_inner();
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    asked.lock().unwrap().push(path.clone());
    let close = "connection: close\r\n";
    let Some(file) = path.strip_prefix("/hub/").or(path.strip_prefix("/cdn/")) else {
        return write!(stream, "HTTP/1.1 404 X\r\n{close}content-length: 0\r\n\r\n");
    };
    if path == "/hub/model.safetensors" {
        return write!(stream, "HTTP/1.1 302 X\r\n{close}location: /cdn/{file}\r\ncontent-length: 0\r\n\r\n");
    }
    let mut bytes = Vec::new();
    std::fs::File::open(folder.join(file))?.read_to_end(&mut bytes)?;
    write!(stream, "HTTP/1.1 200 X\r\n{close}content-length: {}\r\n\r\n", bytes.len())?;
    stream.write_all(&bytes)
}

fn target() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

#[test]
fn a_model_is_fetched_once_and_used_from_then_on() {
    let Some(model) = sentence_transformer(target()) else { return };
    let hub = Hub::start(model);
    let home = Home::new();
    assert!(home.run(&["model", "show"]).code(0).out.starts_with("the built-in table"));
    let from = format!("{}/hub", hub.origin);
    let pulled = home.run(&["model", "pull", "--from", &from]).code(0);
    assert!(pulled.out.starts_with("local:") && pulled.out.contains("all-MiniLM-L6-v2 is in "), "{}", pulled.out);
    let asked = hub.asked();
    assert_eq!(asked.last().map(String::as_str), Some("/cdn/model.safetensors"), "{asked:?}");
    let shown = home.run(&["model", "show", "--json"]).code(0).json();
    assert_eq!(shown["dimensions"], 384);
    assert!(pulled.out.contains(shown["model"].as_str().unwrap()), "{shown}");
    home.run(&["model", "pull", "--from", &from]).code(0);
    assert_eq!(hub.asked(), [""; 0], "what is there is not fetched again");
    let checks = home.run(&["doctor", "--json"]).code(0).json();
    let check = checks["checks"].as_array().unwrap().iter().find(|check| check["name"] == "embeddings").unwrap();
    assert_eq!(check["status"], "ok", "{check}");
    // A file that was damaged is fetched again.
    let folder = PathBuf::from(shown["folder"].as_str().unwrap());
    let vocabulary = std::fs::read(folder.join("vocab.txt")).unwrap();
    std::fs::write(folder.join("vocab.txt"), vec![b'x'; vocabulary.len()]).unwrap();
    home.run(&["model", "pull", "--from", &from]).code(0);
    assert_eq!(hub.asked(), ["/hub/vocab.txt"]);
    assert_eq!(std::fs::read(folder.join("vocab.txt")).unwrap(), vocabulary);
}

#[test]
fn what_is_not_the_model_is_not_kept() {
    let files = tempfile::tempdir().unwrap();
    std::fs::write(files.path().join("config.json"), [b' '; 612]).unwrap();
    let hub = Hub::start(files.path().to_owned());
    let home = Home::new();
    let failed = home.run(&["model", "pull", "--from", &format!("{}/hub", hub.origin)]).code(1);
    assert!(failed.err.contains("config.json: it is not what it should be"), "{}", failed.err);
    std::fs::write(files.path().join("config.json"), [b' '; 613]).unwrap();
    let failed = home.run(&["model", "pull", "--from", &format!("{}/hub", hub.origin)]).code(1);
    assert!(failed.err.contains("more than the 612 bytes"), "{}", failed.err);
    let failed = home.run(&["model", "pull", "--from", &format!("{}/other", hub.origin)]).code(1);
    assert!(failed.err.contains("404"), "{}", failed.err);
    let failed = home.run(&["model", "pull", "--from", "http://hub.example.org/x"]).code(1);
    assert!(failed.err.contains("https://"), "{}", failed.err);
    let kept = walk(home.path());
    assert!(kept.iter().all(|file| !file.ends_with("config.json") && !file.contains(".tmp")), "{kept:?}");
    assert!(home.run(&["model", "show"]).code(0).out.starts_with("the built-in table"));
}

fn walk(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(walk(&path)) } else { found.push(path.display().to_string()) }
    }
    found
}
