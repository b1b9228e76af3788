use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// What to send, how fast and for how long.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) address: SocketAddr,
    pub(crate) path: String,
    /// One token a line; request i carries that of line i modulo their number.
    pub(crate) tokens: PathBuf,
    pub(crate) body: String,
    pub(crate) connections: usize,
    /// Requests a second of all connections together; 0 for as many as are answered.
    pub(crate) rate: f64,
    pub(crate) seconds: f64,
    /// For an answer, and for a connection.
    pub(crate) timeout: Duration,
}

const USAGE: &str = "usage: serving-load --address IP:PORT --path PATH --tokens FILE [--body JSON] [--connections N] [--rate R] \
                     [--seconds S] [--timeout-seconds S]";

impl Options {
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            path: String::new(),
            tokens: PathBuf::new(),
            body: r#"{"limit":10,"exclude_liked":true}"#.into(),
            connections: 50,
            rate: 0.0,
            seconds: 10.0,
            timeout: Duration::from_secs(40),
        };
        while let Some(flag) = arguments.next() {
            let text = arguments.next().ok_or(USAGE)?;
            match flag.as_str() {
                "--address" => options.address = value(&flag, &text)?,
                "--path" => options.path = text,
                "--tokens" => options.tokens = text.into(),
                "--body" => options.body = text,
                "--connections" => options.connections = value(&flag, &text)?,
                "--rate" => options.rate = value(&flag, &text)?,
                "--seconds" => options.seconds = value(&flag, &text)?,
                "--timeout-seconds" => options.timeout = Duration::from_secs(value(&flag, &text)?),
                _ => return Err(USAGE.into()),
            }
        }
        let complete = options.address.port() != 0
            && options.path.starts_with('/')
            && !options.tokens.as_os_str().is_empty();
        let sensible = options.rate.is_finite() && options.rate >= 0.0 && options.seconds > 0.0;
        if complete && sensible {
            Ok(options)
        } else {
            Err(USAGE.into())
        }
    }
}

fn value<T: FromStr>(flag: &str, text: &str) -> Result<T, String> {
    text.parse()
        .map_err(|_| format!("{flag} does not take {text}\n{USAGE}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_or_makes_no_sense_is_refused() {
        let parse = |line: &str| Options::parse(line.split(' ').map(str::to_owned));
        let line = "--address 127.0.0.1:1 --path /x --tokens t";
        assert!(parse(line).is_ok());
        assert!(parse("--address 127.0.0.1:1 --path /x").is_err());
        assert!(parse(&format!("{line} --rate -1")).is_err());
        assert!(parse(&format!("{line} --rate")).is_err());
        assert!(parse(&format!("{line} --speed 1")).is_err());
    }
}
