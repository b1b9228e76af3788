use super::client::RECOMMENDATIONS;
use super::fixture::{Fixture, token, user};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Sends `bytes` and reads until the server closes.
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

/// Open file descriptors of this process, in which the server runs.
#[cfg(target_os = "linux")]
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// A thousand clients that send half a header or half a body hold up nobody, are cut off, and leave nothing behind.
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
    let connections = server.metric("twotower_http_connections").unwrap();
    assert!(connections < 10.0, "{connections}");
    assert!(descriptors() < before + 10, "{before}, {}", descriptors());
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
    // Time for the server to take the request up; its body is still to come.
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
