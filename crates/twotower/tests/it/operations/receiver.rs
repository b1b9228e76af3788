//! An HTTP server on loopback that records requests.

use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Method, path and body of a request.
type Request = (String, String, String);

#[derive(Clone)]
pub(super) struct Receiver {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    /// Head of each answer, and after an empty line its body.
    answer: Arc<Mutex<String>>,
    /// The same of answers to requests with a header `Authorization`, if they differ.
    answer_to_tokens: Arc<Mutex<Option<String>>>,
    /// The same of the next answer alone.
    next_answer: Arc<Mutex<Option<String>>>,
}

impl Receiver {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let receiver = Self {
            address: listener.local_addr().unwrap(),
            requests: Arc::default(),
            answer: Arc::new(Mutex::new("200 OK".into())),
            answer_to_tokens: Arc::default(),
            next_answer: Arc::default(),
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
        let (mut length, mut has_token) = (0, false);
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
            has_token |= name.eq_ignore_ascii_case("authorization");
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let body = String::from_utf8(body).unwrap();
        self.requests.lock().unwrap().push((method, path, body));
        let to_tokens = self.answer_to_tokens.lock().unwrap().clone();
        let next = self.next_answer.lock().unwrap().take();
        let answer = next
            .or(to_tokens.filter(|_| has_token))
            .unwrap_or_else(|| self.answer.lock().unwrap().clone());
        let (head, body) = answer.split_once("\n\n").unwrap_or((&answer, ""));
        let _ = write!(
            stream,
            "HTTP/1.1 {head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
    }

    /// Sets the head of the next answer.
    pub(super) fn answers_once(&self, head: &str) {
        *self.next_answer.lock().unwrap() = Some(head.into());
    }

    /// Sets the head of later answers.
    pub(super) fn answers(&self, head: &str) {
        *self.answer.lock().unwrap() = head.into();
    }

    /// Sets the head of later answers to requests with a header `Authorization`, and after an empty
    /// line their body.
    pub(super) fn answers_tokens(&self, head: &str) {
        *self.answer_to_tokens.lock().unwrap() = Some(head.into());
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Requests since the last call.
    pub(super) fn take(&self) -> Vec<Request> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }

    /// Bodies of those requests, as JSON.
    pub(super) fn take_json(&self) -> Vec<Value> {
        let requests = self.take();
        let parse = |(_, _, body): &Request| serde_json::from_str(body).unwrap();
        requests.iter().map(parse).collect()
    }
}
