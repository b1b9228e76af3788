//! As much of HTTP/1.1 as two ends need that answer with `Content-Length`.

use crate::options::Options;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const MAX_ANSWER_BYTES: usize = 1 << 20;

/// A connection that is kept open.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Whether the server has said that it closes it.
    closes: bool,
}

/// What is looked at of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Whether it says when to come back.
    pub(crate) retry_after: bool,
    /// Whether the body says so.
    pub(crate) partial: bool,
    pub(crate) cached: bool,
}

impl Connection {
    pub(crate) fn open(address: SocketAddr, timeout: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, timeout)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        Ok(Self {
            stream,
            buffer: Vec::with_capacity(4096),
            closes: false,
        })
    }

    /// Whether another request may be sent.
    pub(crate) fn stays_open(&self) -> bool {
        !self.closes
    }

    pub(crate) fn exchange(&mut self, request: &[u8]) -> io::Result<Answer> {
        self.stream.write_all(request)?;
        self.buffer.clear();
        let mut chunk = [0; 4096];
        loop {
            let read = self.stream.read(&mut chunk)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.buffer.extend_from_slice(&chunk[..read]);
            if let Some((answer, closes)) = parse(&self.buffer)? {
                self.closes = closes;
                return Ok(answer);
            }
            if self.buffer.len() > MAX_ANSWER_BYTES {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
    }
}

/// The answer, and whether the server closes the connection after it; once it is complete.
fn parse(bytes: &[u8]) -> io::Result<Option<(Answer, bool)>> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let Some(end) = find(bytes, b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&bytes[..end]).map_err(|_| invalid())?;
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.strip_prefix("HTTP/1.1 "))
        .and_then(|line| line.get(..3)?.parse().ok())
        .ok_or_else(invalid)?;
    let mut answer = Answer {
        status,
        retry_after: false,
        partial: false,
        cached: false,
    };
    let (mut length, mut closes) = (None, false);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            length = value.parse::<usize>().ok();
        } else if name.eq_ignore_ascii_case("retry-after") {
            answer.retry_after = true;
        } else if name.eq_ignore_ascii_case("connection") {
            closes = value.eq_ignore_ascii_case("close");
        }
    }
    let length = length.ok_or_else(invalid)?;
    let body = &bytes[end + 4..];
    if body.len() < length {
        return Ok(None);
    }
    answer.partial = find(body, br#""partial":true"#).is_some();
    answer.cached = find(body, br#""cached":true"#).is_some();
    Ok(Some((answer, closes)))
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}

/// One request for each token, as bytes.
pub(crate) fn requests(options: &Options) -> io::Result<Vec<Vec<u8>>> {
    let tokens = fs::read_to_string(&options.tokens).map_err(|error| {
        let file = options.tokens.display();
        io::Error::new(error.kind(), format!("read tokens from {file}: {error}"))
    })?;
    let requests: Vec<_> = tokens
        .lines()
        .filter(|token| !token.is_empty())
        .map(|token| request(options, token).into_bytes())
        .collect();
    if requests.is_empty() {
        let file = options.tokens.display();
        let message = format!("{file} holds no token");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    Ok(requests)
}

fn request(options: &Options, token: &str) -> String {
    let Options {
        path,
        address,
        body,
        ..
    } = options;
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
         Accept: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_once_they_are_complete() {
        let text = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\ncontent-length: 16\r\n\r\n{\"partial\":true}";
        let whole = text.as_bytes();
        for cut in 0..whole.len() {
            let early = parse(&whole[..cut]);
            assert!(matches!(early, Ok(None)), "{cut}: {early:?}");
        }
        let answer = parse(whole).ok().flatten();
        let expected = Answer {
            status: 503,
            retry_after: true,
            partial: true,
            cached: false,
        };
        assert_eq!(answer, Some((expected, true)));
        assert!(parse(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(parse(b"SSH-2.0\r\n\r\n").is_err());
    }
}
