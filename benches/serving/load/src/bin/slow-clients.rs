//! Clients that hurt: each sends half a request, and then a byte a second, for as long as it is let; then it comes again.
//!
//!     slow-clients ADDRESS PATH COUNT      says `ready` once all are connected; ends with its standard input
//!
//! One thread that visits one socket after the other, so that they cost the core they share with others little.

use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

/// Between two bytes of a client.
const PAUSE: Duration = Duration::from_secs(1);

const CONNECT: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("slow-clients: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, path, count] = &arguments[..] else {
        return Err("slow-clients ADDRESS PATH COUNT was expected".into());
    };
    let (address, count): (SocketAddr, u32) = (address.parse()?, count.parse()?);
    let head = format!("POST {path} HTTP/1.1\r\nHost: slow\r\n");
    // Half of them never end their headers, the others never end their bodies.
    let kinds = [
        format!("{head}X-Slow: "),
        format!(
            "{head}Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{{\"limit\": "
        ),
    ];
    let mut clients: Vec<Option<TcpStream>> = (0..count).map(|_| None).collect();
    let over = thread::spawn(|| io::copy(&mut io::stdin(), &mut io::sink()));
    let begun = Instant::now();
    for visit in 0.. {
        // One after the other, evenly: in step they would be a burst once a second.
        thread::sleep((PAUSE / count * visit).saturating_sub(begun.elapsed()));
        if over.is_finished() {
            break;
        }
        let number = (visit % count) as usize;
        let client = &mut clients[number];
        *client = match client.take() {
            Some(stream) => go_on(stream)?,
            // Refused, perhaps: it comes again.
            None => begin(address, &kinds[number % kinds.len()]).ok(),
        };
        if visit + 1 == count {
            if let Some(number) = clients.iter().position(Option::is_none) {
                return Err(format!("client {number} could not connect to {address}").into());
            }
            println!("ready");
            io::stdout().flush()?;
        }
    }
    Ok(())
}

/// Connects and sends half a request.
fn begin(address: SocketAddr, half: &str) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&address, CONNECT)?;
    stream.set_nodelay(true)?;
    stream.write_all(half.as_bytes())?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// Sends a byte more, unless the server has hung up.
fn go_on(mut stream: TcpStream) -> io::Result<Option<TcpStream>> {
    let mut answer = [0; 4096];
    let goes_on = match stream.read(&mut answer) {
        Ok(0) => false,
        // An error that the server tells before it hangs up.
        Ok(_) => true,
        Err(error) if error.kind() == ErrorKind::WouldBlock => stream.write(b"1").is_ok(),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
        Err(error) => return Err(error),
    };
    Ok(goes_on.then_some(stream))
}
