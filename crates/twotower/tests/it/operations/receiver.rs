//! An HTTP server on loopback that keeps what it is told.

use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What came, as method, path and body.
type Request = (String, String, String);

#[derive(Clone)]
pub(super) struct Receiver {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    /// The head of each answer.
    answer: Arc<Mutex<String>>,
}

impl Receiver {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let receiver = Self {
            address: listener.local_addr().unwrap(),
            requests: Arc::default(),
            answer: Arc::new(Mutex::new("200 OK".into())),
        };
        let served = receiver.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let served = served.clone();
                std::thread::spawn(move || served.answer(&stream.unwrap()));
            }
        });
        receiver
    }

    fn answer(&self, mut stream: &TcpStream) {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let mut words = line.split(' ').map(str::to_owned);
        let (method, path) = (words.next().unwrap(), words.next().unwrap());
        let mut length = 0;
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).unwrap();
            if header.trim().is_empty() {
                break;
            }
            let (name, value) = header.split_once(':').unwrap();
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let body = String::from_utf8(body).unwrap();
        self.requests.lock().unwrap().push((method, path, body));
        let answer = self.answer.lock().unwrap().clone();
        let _ = write!(
            stream,
            "HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
    }

    /// From now on.
    pub(super) fn answers(&self, head: &str) {
        *self.answer.lock().unwrap() = head.into();
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What has come since this was last asked.
    pub(super) fn take(&self) -> Vec<Request> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }

    /// The bodies of those, as JSON.
    pub(super) fn take_json(&self) -> Vec<Value> {
        let requests = self.take();
        let parse = |(_, _, body): &Request| serde_json::from_str(body).unwrap();
        requests.iter().map(parse).collect()
    }
}
