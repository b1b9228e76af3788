//! A stand-in for a mail server: takes mail by SMTP (RFC 5321) with AUTH PLAIN, offers no STARTTLS, and keeps what it is given. What it does
//! not show: certificates, greylisting, the limits of a real one.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

#[derive(Clone)]
pub(super) struct MailServer {
    pub(super) address: SocketAddr,
    mails: Arc<Mutex<Vec<String>>>,
    commands: Arc<Mutex<Vec<String>>>,
    /// The answer to a mail's end.
    verdict: Arc<Mutex<&'static str>>,
}

impl MailServer {
    /// On every address of the machine.
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
                // A client may hang up at any point.
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

    /// From now on, mail gets this answer.
    pub(super) fn answers(&self, verdict: &'static str) {
        *self.verdict.lock().unwrap() = verdict;
    }

    /// Address for somebody with this user and password, on this machine.
    pub(super) fn url(&self, credentials: &str) -> String {
        format!("smtp://{credentials}@127.0.0.1:{}", self.address.port())
    }

    /// Mail that has come since this was last asked.
    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.mails.lock().unwrap())
    }

    /// What clients have said since this was last asked, mail aside.
    pub(super) fn take_commands(&self) -> Vec<String> {
        std::mem::take(&mut self.commands.lock().unwrap())
    }
}
