use super::client::RECOMMENDATIONS;
use super::fixture::{Fixture, token, user};
use super::readiness::wait_for;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use tokio::net::TcpSocket;

/// Sends `bytes` and reads until the server closes the connection.
fn exchange(address: SocketAddr, bytes: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    stream.write_all(bytes.as_bytes()).unwrap();
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text);
    text
}

#[test]
fn slow_senders_are_cut_off() {
    let fixture = Fixture::new();
    let mut config = fixture.config();
    config.limits.header_read = Duration::from_millis(200);
    config.limits.body_read = Duration::from_millis(200);
    let server = fixture.serve_with(config);

    let half_a_header = exchange(server.address, "POST / HTTP/1.1\r\nHost: x\r\nX-Slow: ");
    assert!(!half_a_header.contains("200 OK"), "{half_a_header}");
    exchange(server.address, "");

    let head = format!(
        "POST {RECOMMENDATIONS} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{{",
        token(user(1))
    );
    let half_a_body = exchange(server.address, &head);
    assert!(half_a_body.starts_with("HTTP/1.1 400"), "{half_a_body}");
    assert!(
        half_a_body.contains("did not arrive in time"),
        "{half_a_body}"
    );
}

#[test]
fn a_request_has_a_deadline_as_a_whole() {
    let fixture = Fixture::new();
    let mut config = fixture.config();
    config.limits.request = Duration::from_millis(200);
    let server = fixture.serve_with(config);
    let head = format!(
        "POST {RECOMMENDATIONS} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{{",
        token(user(1))
    );
    let answer = exchange(server.address, &head);
    assert!(answer.starts_with("HTTP/1.1 504"), "{answer}");
    assert!(
        answer.contains(r#""code":"timeout","message":"the answer took too long""#),
        "{answer}"
    );
}

/// Requests the contract this often, over a connection with a small receive buffer.
fn ask_for_the_contract(
    fixture: &Fixture,
    address: SocketAddr,
    times: usize,
    buffer: u32,
) -> TcpStream {
    let connected = fixture.runtime.block_on(async {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(buffer).unwrap();
        socket.connect(address).await.unwrap()
    });
    let mut stream = connected.into_std().unwrap();
    stream.set_nonblocking(false).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let request = "GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n";
    stream.write_all(request.repeat(times).as_bytes()).unwrap();
    stream
}

/// Reads until the server closes the connection in any way; returns the number of bytes.
fn read_to_the_end(stream: &mut TcpStream) -> usize {
    let mut piece = vec![0; 1 << 16];
    let mut total = 0;
    loop {
        match stream.read(&mut piece) {
            Ok(some @ 1..) => total += some,
            Ok(0) => return total,
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
                return total;
            }
        }
    }
}

/// The socket buffers of both sides hold less than what is requested.
#[test]
fn who_reads_no_answers_is_cut_off() {
    const TIMES: usize = 200;
    let fixture = Fixture::new();
    let mut config = fixture.config();
    config.limits.connections = 4;
    config.limits.write = Duration::from_millis(500);
    // This limit must not be what closes them.
    config.limits.header_read = Duration::from_mins(2);
    let server = fixture.serve_with(config);
    let mut deaf: Vec<TcpStream> = (0..4)
        .map(|_| ask_for_the_contract(&fixture, server.address, TIMES, 4096))
        .collect();
    // All connections are in use until these are closed.
    let contract = server.client.get("/openapi.json", &[]);
    assert_eq!(contract.status, 200);
    for stream in &mut deaf {
        let read = read_to_the_end(stream);
        assert!(
            read < TIMES * contract.text.len(),
            "{read} bytes: that was all of it"
        );
    }
}

#[test]
fn who_reads_answers_slowly_gets_them_all() {
    const TIMES: usize = 600;
    const LIMIT: Duration = Duration::from_secs(2);
    let fixture = Fixture::new();
    let mut config = fixture.config();
    config.limits.write = LIMIT;
    let server = fixture.serve_with(config);
    let contract = server.client.get("/openapi.json", &[]).text.len();
    let mut stream = ask_for_the_contract(&fixture, server.address, TIMES, 1 << 18);
    let begun = Instant::now();
    let mut piece = vec![0; 1 << 16];
    let mut total = 0;
    while begun.elapsed() < 2 * LIMIT {
        total += stream.read(&mut piece).unwrap();
        std::thread::sleep(Duration::from_millis(10));
    }
    // The server had not written everything yet.
    assert!(total + (8 << 20) < TIMES * contract, "{total}");
    while total < TIMES * contract {
        let some = stream.read(&mut piece).unwrap();
        assert_ne!(some, 0, "cut off after {total} bytes");
        total += some;
    }
}

/// Open file descriptors of this process, which also runs the server.
#[cfg(target_os = "linux")]
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// A thousand clients that send half a header or half a body block nobody, are cut off, and leave
/// no resources behind.
#[cfg(target_os = "linux")]
#[test]
fn heavy_a_thousand_slow_senders() {
    let fixture = Fixture::new();
    let mut config = fixture.config();
    config.limits.header_read = Duration::from_secs(3);
    config.limits.body_read = Duration::from_secs(3);
    let server = fixture.serve_with(config);
    let recommend = || server.client.recommend(&token(user(1)), "{}").status;
    assert_eq!(recommend(), 200);
    let before = descriptors();
    let half_a_body = format!(
        "POST {RECOMMENDATIONS} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{{"
    );
    let mut slow: Vec<TcpStream> = (0..1000)
        .map(|n| {
            let mut stream = TcpStream::connect(server.address).unwrap();
            let half = if n % 2 == 0 {
                "POST / HTTP/1.1\r\nHost: x\r\nX-Slow: "
            } else {
                half_a_body.as_str()
            };
            stream.write_all(half.as_bytes()).unwrap();
            stream
        })
        .collect();
    assert!(descriptors() >= before + 1000);
    for _ in 0..50 {
        assert_eq!(recommend(), 200, "others are answered meanwhile");
    }
    for stream in &mut slow {
        let patience = Some(Duration::from_mins(1));
        stream.set_read_timeout(patience).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("it is cut off");
        assert!(!text.contains("200 OK"), "{text}");
    }
    drop(slow);
    assert_eq!(recommend(), 200);
    wait_for("the end of their connections", || {
        server.metric("twotower_http_connections").unwrap() < 10.0 && descriptors() < before + 10
    });
}

/// Sends the whole body before reading, like simple clients, and reads to the end of the
/// connection.
fn post_and_then_read(address: SocketAddr, headers: &str, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let head = format!(
        "POST {RECOMMENDATIONS} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n{headers}\r\n\r\n",
        token(user(1))
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).expect("it takes everything in");
    let mut text = String::new();
    stream
        .read_to_string(&mut text)
        .expect("it ends without a reset");
    text
}

fn in_chunks(body: &[u8]) -> Vec<u8> {
    let mut chunks = Vec::new();
    for piece in body.chunks(50_000) {
        write!(chunks, "{:x}\r\n", piece.len()).unwrap();
        chunks.extend_from_slice(piece);
        chunks.extend_from_slice(b"\r\n");
    }
    chunks.extend_from_slice(b"0\r\n\r\n");
    chunks
}

/// The server does not read a body of this size completely before it answers.
#[test]
fn who_sends_megabytes_before_reading_gets_the_answer_and_no_reset() {
    let fixture = Fixture::new();
    // Independent of the machine's speed.
    let mut config = fixture.config();
    config.limits.linger = Duration::from_mins(1);
    let patient = fixture.serve_with(config);
    for megabytes in [3, 9] {
        let body = vec![b' '; megabytes << 20];
        let length = format!("Content-Length: {}", body.len());
        let chunked = "Transfer-Encoding: chunked".to_owned();
        for (headers, sent) in [(length, body.clone()), (chunked, in_chunks(&body))] {
            let answer = post_and_then_read(patient.address, &headers, &sent);
            assert!(
                answer.starts_with("HTTP/1.1 413"),
                "{megabytes} MB, {headers}: {answer}"
            );
            assert!(
                answer.contains(
                    r#""code":"payload_too_large","message":"the body is larger than 65536 bytes""#
                ),
                "{answer}"
            );
        }
    }
    let server = fixture.serve();
    // A client that announces more and disappears blocks nobody, and does not delay a shutdown.
    let mut silent = TcpStream::connect(server.address).unwrap();
    let head =
        format!("POST {RECOMMENDATIONS} HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n");
    silent.write_all(head.as_bytes()).unwrap();
    silent.write_all(&vec![b' '; 2 << 20]).unwrap();
    let mut text = String::new();
    silent.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 413"), "{text}");
    let open = || server.metric("twotower_http_connections").unwrap();
    // The connection of the metrics request itself.
    wait_for("the end of its connection", || open() <= 1.0);
    drop(silent);
}

#[test]
fn headers_have_a_cap() {
    let fixture = Fixture::new();
    let server = fixture.serve();
    let long = format!(
        "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n",
        "x".repeat(100_000)
    );
    let answer = exchange(server.address, &long);
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431"),
        "{answer}"
    );
}

#[test]
fn idle_connections_beyond_the_cap_wait_and_are_served() {
    let fixture = Fixture::new();
    let mut config = fixture.config();
    config.limits.connections = 4;
    config.limits.header_read = Duration::from_millis(300);
    let server = fixture.serve_with(config);
    let _idle: Vec<TcpStream> = (0..20)
        .map(|_| TcpStream::connect(server.address).unwrap())
        .collect();
    assert_eq!(server.client.get("/healthz", &[]).status, 200);
}

/// Supervisors must not restart a server only because clients hold all its connections.
#[test]
fn probes_have_connections_of_their_own() {
    let fixture = Fixture::new();
    let mut config = fixture.config();
    config.limits.connections = 4;
    config.limits.header_read = Duration::from_mins(10);
    let server = fixture.serve_with(config);
    let _idle: Vec<TcpStream> = (0..20)
        .map(|_| TcpStream::connect(server.address).unwrap())
        .collect();
    wait_for("the last connection", || {
        server.metric("twotower_http_connections").unwrap() > 4.0
    });
    let health = server.metrics.get("/healthz", &[]);
    assert_eq!(
        (health.status, health.text.as_str()),
        (200, r#"{"status":"ok"}"#)
    );
    let readiness = server.metrics.get("/readyz", &[]);
    assert_eq!(
        (readiness.status, &readiness.json()["ready"]),
        (200, &true.into())
    );
    assert_eq!(server.metrics.get("/openapi.json", &[]).status, 404);
}

#[test]
fn a_request_in_flight_ends_before_the_server_does() {
    let fixture = Fixture::new();
    let mut server = fixture.serve();
    let body = r#"{"limit":5}"#;
    let head = format!(
        "POST {RECOMMENDATIONS} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        token(user(1)),
        body.len()
    );
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    // Gives the server time to accept the request, whose body is still missing: until that has come,
    // no figure tells of it.
    std::thread::sleep(Duration::from_millis(300));
    let address = server.address;
    let rest = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        stream.write_all(body.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    });
    server.stop();
    let answer = rest.join().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(TcpStream::connect(address).is_err(), "no new connections");
}
