//! A stand-in for a mail server: accepts mail by SMTP (RFC 5321) with AUTH PLAIN, offers no
//! STARTTLS, and records everything. It does not cover certificates, greylisting, or the limits of
//! a real server.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

#[derive(Clone)]
pub(super) struct MailServer {
    pub(super) address: SocketAddr,
    mails: Arc<Mutex<Vec<String>>>,
    commands: Arc<Mutex<Vec<String>>>,
    /// The answer to the end of a mail.
    verdict: Arc<Mutex<&'static str>>,
}

impl MailServer {
    /// Listens on every address of the machine.
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            mails: Arc::default(),
            commands: Arc::default(),
            verdict: Arc::new(Mutex::new("250 taken")),
        };
        let served = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let served = served.clone();
                // A client may hang up at any time.
                std::thread::spawn(move || served.talk(&stream.unwrap()).unwrap_or_default());
            }
        });
        server
    }

    fn talk(&self, mut stream: &TcpStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream).lines();
        stream.write_all(b"220 stand-in\r\n")?;
        while let Some(line) = lines.next().transpose()? {
            let command = line.split(' ').next().unwrap_or_default().to_uppercase();
            self.commands.lock().unwrap().push(line.clone());
            let answer = match command.as_str() {
                "EHLO" => "250-stand-in\r\n250 AUTH PLAIN",
                "AUTH" => "235 welcome",
                "DATA" => {
                    stream.write_all(b"354 go on\r\n")?;
                    let mut mail = String::new();
                    for line in lines.by_ref() {
                        let line = line?;
                        if line == "." {
                            break;
                        }
                        mail.push_str(&line);
                        mail.push('\n');
                    }
                    let verdict = *self.verdict.lock().unwrap();
                    if verdict.starts_with('2') {
                        self.mails.lock().unwrap().push(mail);
                    }
                    verdict
                }
                "QUIT" => {
                    stream.write_all(b"221 bye\r\n")?;
                    return Ok(());
                }
                _ => "250 yes",
            };
            stream.write_all(format!("{answer}\r\n").as_bytes())?;
        }
        Ok(())
    }

    /// Sets the answer to later mails.
    pub(super) fn answers(&self, verdict: &'static str) {
        *self.verdict.lock().unwrap() = verdict;
    }

    /// Address with user and password, on this machine.
    pub(super) fn url(&self, credentials: &str) -> String {
        format!("smtp://{credentials}@127.0.0.1:{}", self.address.port())
    }

    /// Mails since the last call.
    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.mails.lock().unwrap())
    }

    /// Commands of clients since the last call, without mails.
    pub(super) fn take_commands(&self) -> Vec<String> {
        std::mem::take(&mut self.commands.lock().unwrap())
    }
}
