//! An issuer of tokens that publishes its keys over HTTP, and fails in the ways that issuers fail.

use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How an issuer answers a request.
#[derive(Debug, Clone, Copy)]
pub(super) enum Behaviour {
    Answer,
    /// Sends nothing for half a minute.
    Hang,
    /// Sends a byte now and then.
    Trickle,
    Redirect,
    Huge,
    Nonsense,
}

/// Answers every request with one set, or as its behaviour says, and counts them.
pub(super) struct Issuer {
    pub(super) address: SocketAddr,
    count: Arc<AtomicUsize>,
    plan: Arc<Mutex<Plan>>,
}

struct Plan {
    behaviour: Behaviour,
    set: String,
    elsewhere: Option<SocketAddr>,
}

impl Issuer {
    pub(super) fn start(set: &Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let count = Arc::new(AtomicUsize::new(0));
        let plan = Arc::new(Mutex::new(Plan {
            behaviour: Behaviour::Answer,
            set: set.to_string(),
            elsewhere: None,
        }));
        let (counter, planned) = (Arc::clone(&count), Arc::clone(&plan));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 4096]);
                counter.fetch_add(1, Ordering::SeqCst);
                let plan = Arc::clone(&planned);
                std::thread::spawn(move || answer(&mut stream, &plan));
            }
        });
        Self {
            address,
            count,
            plan,
        }
    }

    pub(super) fn publish(&self, set: &Value) {
        self.plan.lock().unwrap().set = set.to_string();
    }

    pub(super) fn behave(&self, behaviour: Behaviour) {
        self.plan.lock().unwrap().behaviour = behaviour;
    }

    pub(super) fn redirect_to(&self, elsewhere: SocketAddr) {
        self.plan.lock().unwrap().elsewhere = Some(elsewhere);
    }

    pub(super) fn requests(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }
}

fn answer(stream: &mut TcpStream, plan: &Mutex<Plan>) {
    let (behaviour, set, elsewhere) = {
        let plan = plan.lock().unwrap();
        (plan.behaviour, plan.set.clone(), plan.elsewhere)
    };
    let ok = |body: &str| {
        let length = body.len();
        format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
        )
    };
    let text = match behaviour {
        Behaviour::Answer => ok(&set),
        Behaviour::Hang => return std::thread::sleep(Duration::from_secs(30)),
        Behaviour::Trickle => {
            for byte in ok(&set).bytes() {
                if stream.write_all(&[byte]).is_err() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            return;
        }
        Behaviour::Redirect => format!(
            "HTTP/1.1 302 Found\r\nlocation: http://{}/jwks\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            elsewhere.unwrap()
        ),
        Behaviour::Huge => {
            ok(&set.replacen('{', &format!("{{\"junk\":\"{}\",", "x".repeat(1 << 20)), 1))
        }
        Behaviour::Nonsense => ok("{\"keys\":"),
    };
    let _ = stream.write_all(text.as_bytes());
}
