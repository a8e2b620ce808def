//! Nothing reaches a server on this machine unless the operator's file says so.

use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::executors::tests::{Watched, work};
use crate::executors::{Done, Executors};

/// A request as it came over the wire.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|h| h.1)
    }
}

/// A small HTTP server that counts who comes by.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) connections: Arc<AtomicUsize>,
    pub(crate) requests: Arc<Mutex<Vec<Request>>>,
}

/// What to answer; `None` means to say nothing and keep the connection.
pub(crate) type Answer = dyn Fn(usize) -> Option<Vec<u8>> + Send + Sync;

impl Server {
    pub(crate) async fn start(answer: impl Fn(usize) -> Option<Vec<u8>> + Send + Sync + 'static) -> Self {
        Self::listen(TcpListener::bind("127.0.0.1:0").await.unwrap(), Arc::new(answer))
    }

    pub(crate) fn listen(listener: TcpListener, answer: Arc<Answer>) -> Self {
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let requests: Arc<Mutex<Vec<Request>>> = Arc::default();
        let (count, seen) = (connections.clone(), requests.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, number, seen.clone(), answer.clone()));
            }
        });
        Self { address, connections, requests }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn visits(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn serve(mut stream: TcpStream, number: usize, seen: Arc<Mutex<Vec<Request>>>, answer: Arc<Answer>) {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return;
        }
    };
    let mut request =
        Request { head: String::from_utf8_lossy(&bytes[..end]).into_owned(), body: bytes.split_off(end + 4) };
    let length: usize = request.header("content-length").map_or(0, |length| length.parse().unwrap());
    while request.body.len() < length {
        if stream.read_buf(&mut request.body).await.unwrap_or(0) == 0 {
            return;
        }
    }
    seen.lock().push(request);
    match answer(number) {
        Some(answer) => {
            // The client may have hung up, which is its right.
            let _hung_up = stream.write_all(&answer).await;
            let _hung_up = stream.shutdown().await;
        }
        None => std::future::pending().await,
    }
}

/// A whole response.
pub(crate) fn response(status: &str, headers: &str, body: &str) -> Option<Vec<u8>> {
    let length = body.len();
    Some(
        format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}")
            .into_bytes(),
    )
}

/// Gives the answers of a name server one after the other, and then the last one again.
#[derive(Default)]
pub(crate) struct Names {
    answers: HashMap<&'static str, Vec<Vec<IpAddr>>>,
    /// For every other name.
    pub(crate) others: Option<IpAddr>,
    asked: AtomicUsize,
}

impl Resolver for Names {
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        let turn = self.asked.fetch_add(1, Ordering::SeqCst);
        let answer = match self.answers.get(host) {
            Some(answers) => Ok(answers[turn.min(answers.len() - 1)].clone()),
            None => self.others.map(|ip| vec![ip]).ok_or_else(|| io::Error::other("no such host")),
        };
        std::future::ready(answer).boxed()
    }
}

pub(crate) fn operator(yaml: &str) -> Arc<OperatorFile> {
    Arc::new(OperatorFile::parse(yaml.as_bytes(), &|_| None).unwrap())
}

pub(crate) const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Spellings of addresses that nobody may reach here; `{p}` is the port of the canary.
pub(crate) const CORPUS: &[&str] = &[
    // Plain.
    "http://127.0.0.1:{p}/",
    "http://localhost:{p}/",
    "http://[::1]:{p}/",
    "http://0.0.0.0:{p}/",
    "http://127.0.0.2:{p}/",
    "http://127.255.255.254:{p}/",
    // Other spellings of IPv4.
    "http://127.1:{p}/",
    "http://127.0.1:{p}/",
    "http://0:{p}/",
    "http://2130706433:{p}/",
    "http://02130706433:{p}/",
    "http://0x7f000001:{p}/",
    "http://0X7F000001:{p}/",
    "http://0x7f.1:{p}/",
    "http://0x7f.0.0.1:{p}/",
    "http://0x7f.0x0.0x0.0x1:{p}/",
    "http://0177.0.0.1:{p}/",
    "http://0177.0.0.01:{p}/",
    "http://017700000001:{p}/",
    "http://00000000177.0.0.1:{p}/",
    "http://127.000.000.001:{p}/",
    "http://127.0.0.0x1:{p}/",
    "http://0x7f.1.0.0x:{p}/",
    "http://4294967297:{p}/",
    "http://383.0.0.1:{p}/",
    // Dots.
    "http://127.0.0.1.:{p}/",
    "http://127.0.0.1..:{p}/",
    "http://127..0.0.1:{p}/",
    "http://.127.0.0.1:{p}/",
    "http://localhost.:{p}/",
    "http://hooks.example.com.:{p}/",
    "http://hooks..example.com:{p}/",
    // Letters, digits and dots of other scripts.
    "http://127。0。0。1:{p}/",
    "http://127．0．0．1:{p}/",
    "http://１２７.０.０.１:{p}/",
    "http://①②⑦.⓪.⓪.①:{p}/",
    "http://ｌｏｃａｌｈｏｓｔ:{p}/",
    "http://loc\u{ad}alhost:{p}/",
    "http://hooks.example。com:{p}/",
    "http://xn--l-q9n.test:{p}/",
    // Case.
    "HTTP://127.0.0.1:{p}/",
    "hTtP://LOCALHOST:{p}/",
    "http://LocalHost.LocalDomain:{p}/",
    "http://HOOKS.EXAMPLE.COM:{p}/",
    // IPv6.
    "http://[0:0:0:0:0:0:0:1]:{p}/",
    "http://[0000:0000:0000:0000:0000:0000:0000:0001]:{p}/",
    "http://[::0:1]:{p}/",
    "http://[::]:{p}/",
    "http://[::ffff:127.0.0.1]:{p}/",
    "http://[::ffff:7f00:1]:{p}/",
    "http://[::FFFF:7F00:1]:{p}/",
    "http://[0:0:0:0:0:ffff:127.0.0.1]:{p}/",
    "http://[::ffff:0:7f00:1]:{p}/",
    "http://[::127.0.0.1]:{p}/",
    "http://[::7f00:1]:{p}/",
    "http://[64:ff9b::127.0.0.1]:{p}/",
    "http://[64:ff9b::7f00:1]:{p}/",
    "http://[64:ff9b:1::7f00:1]:{p}/",
    "http://[2002:7f00:1::]:{p}/",
    "http://[2001:0:7f00:1::]:{p}/",
    "http://[2001:db8::5efe:7f00:1]:{p}/",
    "http://[2600::5efe:7f00:1]:{p}/",
    "http://[fe80::1]:{p}/",
    "http://[fe80::1%25lo]:{p}/",
    "http://[::1%25lo]:{p}/",
    "http://[::1%lo]:{p}/",
    "http://[fc00::1]:{p}/",
    "http://[fec0::1]:{p}/",
    "http://[ff02::1]:{p}/",
    "http://[::1].:{p}/",
    "http://[::1]x:{p}/",
    "http://[::1:{p}/",
    "http://[]:{p}/",
    "http://[127.0.0.1]:{p}/",
    "http://::1:{p}/",
    // User names and what hides a host.
    "http://user@127.0.0.1:{p}/",
    "http://user:password@127.0.0.1:{p}/",
    "http://hooks.example.com@127.0.0.1:{p}/",
    "http://hooks.example.com:80@127.0.0.1:{p}/",
    "http://@127.0.0.1:{p}/",
    "http://127.0.0.1:{p}@hooks.example.com/",
    "http://hooks.example.com%40127.0.0.1:{p}/",
    "http://127.0.0.1:{p}#@hooks.example.com/",
    "http://127.0.0.1:{p}?@hooks.example.com/",
    "http://127.0.0.1:{p}/;@hooks.example.com/",
    "http://127.0.0.1:{p}\\@hooks.example.com/",
    "http://hooks.example.com\\@127.0.0.1:{p}/",
    "http://1.1.1.1 &@127.0.0.1:{p}# @3.3.3.3/",
    "http://hooks.example.com%00.test:{p}/",
    "http://hooks%2Eexample%2Ecom:{p}/",
    "http://%31%32%37.0.0.1:{p}/",
    "http://loc%61lhost:{p}/",
    // Slashes, blanks and control characters.
    "http:/127.0.0.1:{p}/",
    "http:127.0.0.1:{p}/",
    "http:///127.0.0.1:{p}/",
    "http:\\\\127.0.0.1:{p}/",
    "//127.0.0.1:{p}/",
    " http://127.0.0.1:{p}/",
    "http://127.0.0.1:{p}/ ",
    "\thttp://127.0.0.1:{p}/",
    "ht\ntp://127.0.0.1:{p}/",
    "http://127.0.0\t.1:{p}/",
    "http://127.0.0.1:{p}/\r\nHost: hooks.example.com",
    "http://127.0.0.1\0:{p}/",
    // Ports.
    "http://127.0.0.1:0{p}/",
    "http://127.0.0.1:+{p}/",
    "http://127.0.0.1: {p}/",
    "http://127.0.0.1:/",
    "http://127.0.0.1:0/",
    "http://127.0.0.1:99999/",
    "http://127.0.0.1:{p}:80/",
    "http://hooks.example.com:80:{p}/",
    "http://hooks.example.com/",
    // Schemes.
    "https://127.0.0.1:{p}/",
    "https://hooks.example.com:{p}/",
    "ftp://127.0.0.1:{p}/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:{p}/_x",
    "ws://127.0.0.1:{p}/",
    "http+unix://%2Frun%2Fx.sock/",
    "data:application/json,1",
    "javascript:1",
    "127.0.0.1:{p}",
    "",
    "http://",
    "http://:{p}/",
    // Names that others choose, all of which lead here.
    "http://hooks.example.com:{p}/",
    "http://a.example.org:{p}/",
    "http://a.b.example.org:{p}/",
    "http://example.org:{p}/",
    "http://evil-example.org:{p}/",
    "http://hooks.example.com.test:{p}/",
    "http://127.0.0.1.test:{p}/",
    "http://localtest.test:{p}/",
    "http://sub.localhost:{p}/",
    "http://ip6-localhost:{p}/",
    // Networks that are nobody's business.
    "http://10.0.0.1:{p}/",
    "http://172.16.0.1:{p}/",
    "http://192.168.0.1:{p}/",
    "http://100.64.0.1:{p}/",
    "http://198.18.0.1:{p}/",
    "http://224.0.0.1:{p}/",
    "http://255.255.255.255:{p}/",
    "http://169.254.169.254/latest/meta-data/",
    "http://[::ffff:a9fe:a9fe]/latest/meta-data/",
    "http://[64:ff9b::a9fe:a9fe]/latest/meta-data/",
    "http://[fd00:ec2::254]/latest/meta-data/",
    "http://2852039166/",
    "http://0xa9fea9fe/",
    "http://169.254.43518/",
    "http://168.63.129.16/",
    "http://100.100.100.200/",
    "http://metadata.google.internal/",
];

/// Files under which nothing of the corpus may be reached.
pub(crate) fn files_that_allow_nothing_private(port: u16) -> Vec<Arc<OperatorFile>> {
    let careless = format!(
        "egress: {{allow: [
            'http://127.0.0.1:{port}', 'http://localhost:{port}', 'http://[::1]:{port}', 'http://[::ffff:7f00:1]:{port}',
            'http://0.0.0.0:{port}', 'http://hooks.example.com:{port}', 'http://*.example.org:{port}',
            'http://10.0.0.1:{port}', 'https://127.0.0.1:{port}', 'http://[64:ff9b::7f00:1]:{port}',
            'http://[2600::5efe:7f00:1]:{port}', 'http://169.254.169.254', 'http://metadata.google.internal']}}"
    );
    let elsewhere = format!(
        "egress: {{allow: [
            {{origin: 'http://other.example.net:{port}', private: true}},
            {{origin: 'http://*.internal.example.net:{port}', private: true}},
            {{origin: 'http://169.254.169.254', private: true}},
            {{origin: 'http://metadata.google.internal', private: false}},
            'https://hooks.example.com']}}"
    );
    vec![Arc::new(OperatorFile::none()), operator(&careless), operator(&elsewhere)]
}

#[tokio::test]
async fn no_spelling_of_a_url_reaches_this_machine_unless_it_is_allowed() {
    assert!(CORPUS.len() >= 100);
    let canary = Server::start(|_| response("200 OK", "", "{}")).await;
    let port = canary.address.port();
    // The same port of IPv6, where there is IPv6 and the port is free.
    let sixth = TcpListener::bind(("::1", port)).await.ok();
    let sixth = sixth.map(|listener| Server::listen(listener, Arc::new(|_| response("200 OK", "", "{}"))));
    let names = || Arc::new(Names { others: Some(LOOPBACK), ..Names::default() });
    for file in files_that_allow_nothing_private(port) {
        let egress = Arc::new(Egress::with_resolver(file.clone(), names()));
        let executors = Executors::with_egress(file, egress.clone());
        for pattern in CORPUS {
            let url = pattern.replace("{p}", &port.to_string());
            match egress.client(&url).await {
                Err(error) => assert!(!error.to_string().is_empty()),
                Ok((client, target)) => {
                    let _sent = client.get(target).timeout(Duration::from_secs(2)).send().await;
                    panic!("{url:?} was allowed");
                }
            }
            let done = executors.execute(work("http", json!({"url": url}), json!(1)), Watched::new()).await;
            assert!(matches!(done, Done::Failed { retryable: false, .. }), "{url:?}: {done:?}");
        }
    }
    assert_eq!(canary.visits() + sixth.as_ref().map_or(0, Server::visits), 0);

    // The canary does sing: with permission the same ways lead to it.
    let file = operator(&format!(
        "egress: {{allow: [{{origin: 'http://127.0.0.1:{port}', private: true}},
                           {{origin: 'http://hooks.example.com:{port}', private: true}}]}}"
    ));
    let egress = Egress::with_resolver(file, names());
    for url in [format!("http://127.0.0.1:{port}/a"), format!("HTTP://Hooks.Example.com:{port}/b?c=d")] {
        let (client, target) = egress.client(&url).await.unwrap();
        assert!(client.get(target).send().await.unwrap().status().is_success());
    }
    assert_eq!(canary.visits(), 2);
}

#[tokio::test]
async fn one_private_address_among_public_ones_is_enough_to_refuse() {
    let mixed = vec![vec!["8.8.8.8".parse().unwrap(), LOOPBACK]];
    let names = Names { answers: HashMap::from([("hooks.example.com", mixed)]), ..Names::default() };
    let egress = Egress::with_resolver(operator("egress: {allow: ['http://hooks.example.com']}"), Arc::new(names));
    let error = egress.client("http://hooks.example.com/").await.unwrap_err();
    assert!(matches!(error, EgressError::Private { kind: "loopback", .. }), "{error}");
    assert!(error.to_string().contains("private: true on the entry http://hooks.example.com"), "{error}");
}

/// Needs a second loopback address, which only Linux has without configuration.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_name_that_changes_its_address_after_the_check_still_leads_to_the_checked_one() {
    let trap = Server::start(|_| response("200 OK", "", "{}")).await;
    let port = trap.address.port();
    let checked = TcpListener::bind(("127.0.0.2", port)).await.unwrap();
    let checked = Server::listen(checked, Arc::new(|_| response("200 OK", "", "{}")));
    let answers = vec![vec!["127.0.0.2".parse().unwrap()], vec![LOOPBACK]];
    let names = Arc::new(Names { answers: HashMap::from([("rebind.example.com", answers)]), ..Names::default() });
    let file = operator(&format!("egress: {{allow: [{{origin: 'http://rebind.example.com:{port}', private: true}}]}}"));
    let egress = Egress::with_resolver(file, names.clone());

    let (client, target) = egress.client(&format!("http://rebind.example.com:{port}/")).await.unwrap();
    for _ in 0..3 {
        // Each on a new connection.
        assert!(client.get(target.clone()).send().await.unwrap().status().is_success());
    }
    assert_eq!((checked.visits(), trap.visits()), (3, 0));
    assert_eq!(names.asked.load(Ordering::SeqCst), 1);
    // For another name it finds no address at all.
    assert!(client.get(format!("http://localhost:{port}/")).send().await.is_err());
    assert_eq!(trap.visits(), 0);
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let trap = Server::start(|_| response("200 OK", "", "{}")).await;
    let location = format!("Location: {}\r\n", trap.url("/"));
    const STATUSES: [&str; 5] = ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"];
    let server = Server::start(move |number| response(STATUSES[number % STATUSES.len()], &location, "")).await;
    let file = operator(&format!(
        "egress: {{allow: [{{origin: '{}', private: true}}, {{origin: '{}', private: true}}]}}",
        server.url(""),
        trap.url("")
    ));
    let egress = Egress::new(file);
    for _ in STATUSES {
        let (client, target) = egress.client(&server.url("/")).await.unwrap();
        assert!(client.get(target).send().await.unwrap().status().is_redirection());
    }
    assert_eq!((server.visits(), trap.visits()), (STATUSES.len(), 0));
}

/// The environment of a running process can't be changed safely, so that another test is run in one that has proxies.
#[tokio::test]
async fn proxies_of_the_environment_are_not_used() {
    let proxy = Server::start(|_| response("200 OK", "", "{}")).await;
    let mut other = tokio::process::Command::new(std::env::current_exe().unwrap());
    other.args(["--exact", "egress::tests::redirects_are_not_followed"]);
    for variable in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        other.env(variable, proxy.url(""));
    }
    let output = other.output().await.unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && printed.contains("1 passed"), "{printed}");
    assert_eq!(proxy.visits(), 0);
}

#[tokio::test]
async fn the_most_exact_entry_counts_and_its_headers_are_sent_without_being_shown() {
    let server = Server::start(|_| response("200 OK", "", "{}")).await;
    let port = server.address.port();
    let file = operator(&format!(
        "egress: {{allow: [
            {{origin: 'http://*.example.org:{port}', private: true, headers: {{X-Token: of-all}}}},
            {{origin: 'http://one.example.org:{port}', private: true, headers: {{X-Token: s3cret}}}}]}}"
    ));
    assert!(!format!("{file:?}").contains("s3cret"));
    let egress = Egress::with_resolver(file, Arc::new(Names { others: Some(LOOPBACK), ..Names::default() }));
    for host in ["one.example.org", "two.example.org"] {
        let (client, target) = egress.client(&format!("http://{host}:{port}/")).await.unwrap();
        assert!(!format!("{client:?}").contains("s3cret"));
        client.get(target).send().await.unwrap();
    }
    let sent: Vec<String> =
        server.requests.lock().iter().map(|request| request.header("x-token").unwrap().to_owned()).collect();
    assert_eq!(sent, ["s3cret", "of-all"]);
}

#[tokio::test]
async fn a_host_without_address_may_have_one_later() {
    let egress =
        Egress::with_resolver(operator("egress: {allow: ['https://gone.example.com']}"), Arc::new(Names::default()));
    let error = egress.client("https://gone.example.com/x").await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    let refused = egress.client("https://else.example.com/x").await.unwrap_err();
    assert!(!refused.is_transient(), "{refused}");
    assert!(refused.to_string().contains("add it to egress.allow"), "{refused}");
}

#[tokio::test]
async fn a_body_is_read_up_to_its_limit_exactly() {
    let server = Server::start(|number| {
        let body = "x".repeat(100);
        match number {
            // Without a length: the limit counts what comes.
            0 | 1 => Some(format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{body}").into_bytes()),
            _ => response("200 OK", "", &body),
        }
    })
    .await;
    let egress =
        Egress::new(operator(&format!("egress: {{allow: [{{origin: '{}', private: true}}]}}", server.url(""))));
    for limit in [100, 99, 100, 99] {
        let (client, target) = egress.client(&server.url("/")).await.unwrap();
        let body = read_body_limited(client.get(target).send().await.unwrap(), limit).await;
        assert_eq!(body.is_ok(), limit == 100, "{limit}: {body:?}");
    }
}

#[test]
fn addresses_are_told_apart() {
    let public = [
        "8.8.8.8",
        "1.1.1.1",
        "172.32.0.1",
        "100.128.0.1",
        "198.20.0.1",
        "223.255.255.255",
        "2606:4700::1",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
        "2a00:1450::1",
        "172.15.255.255",
        "126.255.255.255",
    ];
    let private = [
        "127.0.0.1",
        "127.255.255.255",
        "10.255.0.1",
        "172.31.255.255",
        "192.168.255.255",
        "100.64.0.1",
        "100.127.255.255",
        "198.19.255.255",
        "::1",
        "fc00::1",
        "fdff::1",
        "::ffff:127.0.0.1",
        "64:ff9b::10.0.0.1",
        "64:ff9b:1::1",
    ];
    let never = [
        "0.0.0.0",
        "0.1.2.3",
        "169.254.169.254",
        "169.254.0.1",
        "192.0.0.1",
        "192.0.2.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "168.63.129.16",
        "100.100.100.200",
        "::",
        "::127.0.0.1",
        "::8.8.8.8",
        "2002:7f00:1::",
        "2002:808:808::1",
        "2001::1",
        "2001:db8::1",
        "3fff::1",
        "fe80::1",
        "febf::1",
        "fec0::1",
        "ff02::1",
        "fd00:ec2::254",
        "fd20:ce::254",
        "2600::5efe:7f00:1",
        "2600::200:5efe:7f00:1",
        "::ffff:169.254.169.254",
        "64:ff9b::169.254.169.254",
        "4000::1",
        "100::1",
        "5f00::1",
        "::ffff:0:127.0.0.1",
    ];
    fn kind<'t>(text: &&'t str) -> (&'t str, Reach) {
        (*text, reach(text.parse().unwrap()))
    }
    for (text, reach) in public.iter().map(kind) {
        assert_eq!(reach, Reach::Public, "{text}");
    }
    for (text, reach) in private.iter().map(kind) {
        assert!(matches!(reach, Reach::Private(_)), "{text}: {reach:?}");
    }
    for (text, reach) in never.iter().map(kind) {
        assert!(matches!(reach, Reach::Never(_)), "{text}: {reach:?}");
    }
}

#[test]
fn entries_of_the_allow_list_are_read_strictly() {
    for (text, shown) in [
        ("https://hooks.example.com", "https://hooks.example.com"),
        ("https://Hooks.example.com:443/", "https://hooks.example.com"),
        ("http://127.0.0.1:9000", "http://127.0.0.1:9000"),
        ("http://[::1]:9000", "http://[::1]:9000"),
        ("https://*.example.com", "https://*.example.com"),
    ] {
        assert_eq!(OriginPattern::parse(text).unwrap().to_string(), shown);
    }
    for text in [
        "*",
        "https://*",
        "https://*.com",
        "https://a.*.com",
        "https://*.127.0.0.1",
        "https://*.[::1]",
        "https://hooks.example.com/path",
        "https://hooks.example.com?x",
        "hooks.example.com",
        "ftp://hooks.example.com",
        "https://user@hooks.example.com",
        "http://0x7f.1",
        "https://**.example.com",
        "https://*example.com",
        "http*://a.b",
    ] {
        assert!(OriginPattern::parse(text).is_err(), "{text}");
    }
}

#[test]
fn an_entry_is_about_its_own_hosts_only() {
    let matches = |pattern: &str, url: &str| {
        let (origin, _) = Origin::of_url(url).unwrap();
        OriginPattern::parse(pattern).unwrap().matches(&origin)
    };
    for (pattern, url) in [
        ("https://hooks.example.com", "https://HOOKS.example.com:443/x?y#z"),
        ("https://*.example.org", "https://a.example.org"),
        ("https://*.example.org", "https://a.b.example.org/"),
        ("http://*.example.org:81", "http://a.example.org:81"),
        ("http://[::1]:9000", "http://[::1]:9000/x"),
    ] {
        assert!(matches(pattern, url), "{pattern} {url}");
    }
    for (pattern, url) in [
        ("https://hooks.example.com", "http://hooks.example.com:443"),
        ("https://hooks.example.com", "https://hooks.example.com:444"),
        ("https://hooks.example.com", "https://hooks.example.com.evil.test"),
        ("https://hooks.example.com", "https://x.hooks.example.com"),
        ("https://*.example.org", "https://example.org"),
        ("https://*.example.org", "https://evil-example.org"),
        ("https://*.example.org", "https://a.example.org.evil.test"),
        ("https://*.example.org", "http://a.example.org:443"),
        ("https://*.example.org", "https://a.example.org:81"),
        ("https://*.0.0.example", "https://127.0.0.1"),
    ] {
        assert!(!matches(pattern, url), "{pattern} {url}");
    }
}
