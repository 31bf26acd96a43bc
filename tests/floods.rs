//! Floods (S9): connections that say nothing, speak slowly or never end a body, HTTP/2 rapid reset, a tenant that asks
//! far more than it may. Each is bounded or told to wait, and a healthy tenant is answered all the while.
//!
//! Nothing here asserts a time: counts are asserted, the ratio of the healthy tenant's p99 is printed (it is a figure
//! of `docs/performance.md`).

use std::time::{Duration, Instant};

use serde_json::Value;
use spanledger_testkit::grpc::{Code, GrpcClient};
use spanledger_testkit::otlp::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::support::{TestServer, run_ok};

/// Well past the time after which a silent or slow connection is closed (10 s and 30 s).
const CLOSING_DEADLINE: Duration = Duration::from_secs(90);
/// Longer than an answer may lie unread (30 s).
const UNREAD_FOR: Duration = Duration::from_secs(40);
/// What each tenant may ask in these tests: small, so that a slow machine floods as well as a fast one.
const LIMITS: [(&str, &str); 2] = [
    ("SPANLEDGER_LIMITS_API_REQUESTS_PER_SECOND", "100"),
    ("SPANLEDGER_LIMITS_OTLP_REQUESTS_PER_SECOND", "100"),
];
/// What may be asked and sent at once: two and ten seconds of the rate.
const API_BURST: usize = 200;
const OTLP_BURST: usize = 1_000;
/// Refused credentials that are answered at once, and in a second more.
const STRANGERS: (usize, usize) = (200, 50);
const FLOOD_CONNECTIONS: usize = 100;
const FLOOD_REQUESTS: usize = 100_000;
const HEALTHY_REQUESTS: usize = 400;
/// Between two of them: four hundred take seconds, which the tenant's rate allows.
const HEALTHY_PAUSE: Duration = Duration::from_millis(10);

async fn server() -> TestServer {
    TestServer::start_in(&["serve", "--access", "required"], &LIMITS).await
}

fn key(server: &TestServer, tenant: &str, role: &str) -> String {
    let data = server.data().to_str().unwrap();
    let arguments = [
        "keys", "create", "--data", data, "--tenant", tenant, "--role", role, "--format", "json",
    ];
    let said: Value = serde_json::from_str(&run_ok(server.data().parent().unwrap(), &arguments)).unwrap();
    format!("Bearer {}", said["key"].as_str().unwrap())
}

fn host(url: &str) -> &str {
    url.trim_start_matches("http://")
}

/// Asks so many times, one after the other; all must be answered 200. Gives back the p99.
async fn healthy(server: &TestServer, key: &str, n: usize) -> Duration {
    let mut times = Vec::with_capacity(n);
    for _ in 0..n {
        let started = Instant::now();
        let answer = server
            .request("GET", "/api/v1/session", "", &[("authorization", key)])
            .await
            .unwrap();
        times.push(started.elapsed());
        assert_eq!(answer.status, 200, "{}", answer.text());
        tokio::time::sleep(HEALTHY_PAUSE).await;
    }
    times.sort();
    times[(n * 99).div_ceil(100) - 1]
}

/// Waits until the server ends a connection, by an end or a reset.
async fn closed(mut stream: TcpStream) {
    let mut said = Vec::new();
    let ended = tokio::time::timeout(CLOSING_DEADLINE, stream.read_to_end(&mut said)).await;
    assert!(ended.is_ok(), "a connection is still open after {CLOSING_DEADLINE:?}");
    // hyper may say 408 first
    assert!(!said.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&said));
}

#[tokio::test]
async fn silent_and_slow_connections_are_closed_and_others_are_served_meanwhile() {
    let server = server().await;
    let key = key(&server, "quiet", "viewer");
    // the first keeps its connection, as a dashboard or an exporter does
    healthy(&server, &key, 1).await;
    let address = host(&server.addresses().http);
    let mut waiting = Vec::new();
    for n in 0..1_000 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        match n % 5 {
            // nothing, the half of what HTTP/2 begins with, a body that nobody has to sign for, the half of a request
            0 | 1 => {}
            2 => stream.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap(),
            3 => {
                let head = format!("POST /api/v1/session HTTP/1.1\r\nHost: {address}\r\nContent-Length: 100\r\n\r\n{{");
                stream.write_all(head.as_bytes()).await.unwrap();
            }
            _ => stream
                .write_all(b"GET /api/v1/status HTTP/1.1\r\nHost: loc")
                .await
                .unwrap(),
        }
        waiting.push(tokio::spawn(closed(stream)));
    }
    let sender = self::key(&server, "quiet", "ingest");
    let receiver = host(&server.addresses().otlp_http);
    for _ in 0..50 {
        let mut stream = TcpStream::connect(receiver).await.unwrap();
        let head = format!(
            "POST /v1/traces HTTP/1.1\r\nHost: {receiver}\r\nAuthorization: {sender}\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{{"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        waiting.push(tokio::spawn(closed(stream)));
    }
    healthy(&server, &key, 50).await;
    for waiting in waiting {
        waiting.await.unwrap();
    }
    // and for new connections there is room again
    let again = TcpStream::connect(address).await.unwrap();
    drop(again);
    healthy(&server, &key, 1).await;
}

#[tokio::test]
async fn an_answer_that_nobody_reads_is_given_up() {
    // more than the sockets' buffers hold
    const QUERY: &str = r#"{"query": "SELECT repeat('x', 1000) AS x FROM generate_series(1, 90000)", "format": "csv"}"#;
    let server = server().await;
    let key = key(&server, "quiet", "analyst");
    let address = host(&server.addresses().http);
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /api/v1/sql HTTP/1.1\r\nHost: {address}\r\nAuthorization: {key}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{QUERY}",
        QUERY.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut begun = [0; 15];
    stream.read_exact(&mut begun).await.unwrap();
    assert_eq!(&begun, b"HTTP/1.1 200 OK");
    // Longer than an answer may lie there; what the buffers hold can still be read, and then no more.
    tokio::time::sleep(UNREAD_FOR).await;
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(CLOSING_DEADLINE, stream.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "the connection is still open");
    assert!(rest.len() < 90_000_000, "{} bytes came", rest.len());
    healthy(&server, &key, 1).await;
}

/// A frame of HTTP/2: length, type, flags, stream, payload.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

#[tokio::test]
async fn a_rapid_reset_ends_its_connection_and_no_other() {
    let server = server().await;
    let key = key(&server, "quiet", "viewer");
    for address in [&server.addresses().http, &server.addresses().otlp_grpc] {
        let authority = host(address);
        // indexed :method GET, :scheme http, :path /, and a literal :authority
        let mut head = vec![0x82, 0x86, 0x84, 0x41, u8::try_from(authority.len()).unwrap()];
        head.extend(authority.as_bytes());
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(frame(4, 0, 0, &[]));
        for n in 0..20_000 {
            let stream = 2 * n + 1;
            bytes.extend(frame(1, 0b101, stream, &head));
            bytes.extend(frame(3, 0, stream, &8_u32.to_be_bytes()));
        }
        let stream = TcpStream::connect(authority).await.unwrap();
        let (mut reading, mut writing) = stream.into_split();
        let sending = tokio::spawn(async move {
            // it fails when the server has had enough
            let _refused = writing.write_all(&bytes).await;
            writing
        });
        healthy(&server, &key, 20).await;
        let mut said = Vec::new();
        let ended = tokio::time::timeout(CLOSING_DEADLINE, reading.read_to_end(&mut said)).await;
        assert!(ended.is_ok(), "{address}: the connection goes on");
        sending.await.unwrap();
        // GOAWAY with ENHANCE_YOUR_CALM, unless the reset of the socket overtook it
        let calm = [0, 0, 0, 0xb];
        let said_so = said.windows(14).any(|part| part[0] == 7 && part[10..] == calm);
        assert!(said_so || ended.unwrap().is_err(), "{address}: {} bytes", said.len());
    }
    healthy(&server, &key, 20).await;
}

/// Answers that one connection of a flood read.
#[derive(Debug, Default, Clone, Copy)]
struct Answers {
    n_ok: usize,
    n_limited: usize,
    n_told_when: usize,
    n_refused: usize,
}

/// Sends so many requests over one connection without waiting for an answer, and counts what is answered until
/// `stopped`.
async fn flood(address: String, request: String, mut stopped: watch::Receiver<bool>) -> Answers {
    const WORDS: [&[u8; 12]; 4] = [b"HTTP/1.1 200", b"HTTP/1.1 429", b"retry-after:", b"HTTP/1.1 401"];
    let stream = TcpStream::connect(&address).await.unwrap();
    let (mut reading, mut writing) = stream.into_split();
    let requests = request.repeat(FLOOD_REQUESTS / FLOOD_CONNECTIONS);
    // It ends with the test where the server takes no more.
    let sending = tokio::spawn(async move { writing.write_all(requests.as_bytes()).await.map(|()| writing) });
    let mut counts = [0; 4];
    let (mut said, mut buffer) = (Vec::new(), [0; 16 << 10]);
    loop {
        let n = tokio::select! {
            read = reading.read(&mut buffer) => read.unwrap(),
            _ = stopped.changed() => break,
        };
        assert!(n > 0, "the server hung up: {}", String::from_utf8_lossy(&said));
        said.extend_from_slice(&buffer[..n]);
        for (count, word) in counts.iter_mut().zip(WORDS) {
            *count += said.windows(word.len()).filter(|part| part == word).count();
        }
        // The beginning of a word that is not whole yet.
        said.drain(..said.len().saturating_sub(11));
    }
    sending.abort();
    let [n_ok, n_limited, n_told_when, n_refused] = counts;
    Answers {
        n_ok,
        n_limited,
        n_told_when,
        n_refused,
    }
}

/// What a hundred connections that flood with one credential are answered while a healthy tenant asks, in how many
/// seconds, and the healthy tenant's p99.
async fn flooded(server: &TestServer, credential: &str, quiet: &str) -> (Vec<Answers>, usize, Duration) {
    let address = host(&server.addresses().http).to_owned();
    let request = format!("GET /api/v1/session HTTP/1.1\r\nHost: {address}\r\nAuthorization: {credential}\r\n\r\n");
    let started = Instant::now();
    let (stop, stopped) = watch::channel(false);
    // On a thread of its own: the healthy tenant is not to wait for its neighbour's client.
    let flooding = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let floods = (0..FLOOD_CONNECTIONS).map(|_| flood(address.clone(), request.clone(), stopped.clone()));
        runtime.block_on(futures::future::join_all(floods))
    });
    let during = healthy(server, quiet, HEALTHY_REQUESTS).await;
    stop.send(true).unwrap();
    let answers = flooding.join().unwrap();
    let seconds = usize::try_from(started.elapsed().as_secs()).unwrap() + 1;
    (answers, seconds, during)
}

#[tokio::test]
async fn a_tenant_that_floods_is_told_to_wait_and_another_is_served() {
    let server = server().await;
    let (loud, quiet) = (key(&server, "loud", "viewer"), key(&server, "quiet", "viewer"));
    let before = healthy(&server, &quiet, HEALTHY_REQUESTS).await;
    let (answers, seconds, during) = flooded(&server, &loud, &quiet).await;
    let sum = |of: fn(&Answers) -> usize| answers.iter().map(of).sum::<usize>();
    let (n_ok, n_limited) = (sum(|answers| answers.n_ok), sum(|answers| answers.n_limited));
    // no more than the burst and the rate, and no less than the burst
    assert!(
        n_ok >= API_BURST && n_ok <= API_BURST + 100 * seconds + 100,
        "{n_ok} in {seconds} s"
    );
    assert!(n_limited > 0);
    let is_told_when = |answers: &Answers| answers.n_limited.abs_diff(answers.n_told_when) <= 1;
    assert!(
        answers.iter().all(is_told_when),
        "an answer may be cut, no more: {answers:?}"
    );
    println!(
        "{FLOOD_REQUESTS} requests sent at once: {n_ok} answered in {seconds} s, {n_limited} told to wait; healthy p99 {before:?} quiet, {during:?} in the flood, ratio {:.2}",
        during.as_secs_f64() / before.as_secs_f64()
    );
}

#[tokio::test]
async fn strangers_that_flood_are_refused_slowly_and_a_tenant_is_served() {
    let server = server().await;
    let quiet = key(&server, "quiet", "viewer");
    let before = healthy(&server, &quiet, HEALTHY_REQUESTS).await;
    let (answers, seconds, during) = flooded(&server, "Bearer junk", &quiet).await;
    let n_refused: usize = answers.iter().map(|answers| answers.n_refused).sum();
    let n_ok: usize = answers.iter().map(|answers| answers.n_ok).sum();
    assert_eq!(n_ok, 0);
    // at once, in time, and from each connection the next one after a pause of a quarter of a second at least
    let (at_once, per_second) = STRANGERS;
    let most = at_once + FLOOD_CONNECTIONS + (per_second + 4 * FLOOD_CONNECTIONS) * seconds;
    assert!(n_refused >= at_once && n_refused <= most, "{n_refused} in {seconds} s");
    println!(
        "{FLOOD_REQUESTS} requests of strangers at once: {n_refused} refused in {seconds} s; healthy p99 {before:?} quiet, {during:?} in the flood, ratio {:.2}",
        during.as_secs_f64() / before.as_secs_f64()
    );
}

#[tokio::test]
async fn a_tenant_that_sends_too_much_is_told_to_wait_in_otlp_and_another_stores() {
    let server = server().await;
    let (loud, quiet) = (key(&server, "loud", "ingest"), key(&server, "quiet", "ingest"));
    let send = async |key: &str| {
        let headers = [("content-type", "application/json"), ("authorization", key)];
        server.post_raw(Signal::Traces, b"{}".to_vec(), &headers).await.unwrap()
    };
    let mut limited = None;
    for _ in 0..20 * OTLP_BURST {
        let answer = send(&loud).await;
        if answer.status != 200 {
            limited = Some(answer);
            break;
        }
    }
    // a machine that cannot send a hundred a second is not flooding
    let Some(limited) = limited else {
        panic!("20,000 requests were all taken")
    };
    assert_eq!(limited.status, 429, "{}", limited.text());
    assert!(
        limited
            .header("retry-after")
            .is_some_and(|seconds| seconds.parse::<u32>().unwrap() >= 1)
    );
    assert_eq!(limited.json().unwrap()["code"], 8, "{}", limited.text());
    assert_eq!(send(&quiet).await.status, 200);
    let client = GrpcClient::connect(&server.addresses().otlp_grpc).await.unwrap();
    let (loud, quiet) = (client.with_authorization(&loud), client.with_authorization(&quiet));
    let mut refused = None;
    for _ in 0..20 * OTLP_BURST {
        refused = loud.export(Default::default()).await.err();
        if refused.is_some() {
            break;
        }
    }
    let refused = refused.unwrap();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(
        refused.details().windows(9).any(|part| part == b"RetryInfo"),
        "no RetryInfo: it would not be sent again"
    );
    quiet.export(Default::default()).await.unwrap();
}
