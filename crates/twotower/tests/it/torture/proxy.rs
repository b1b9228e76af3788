//! A network between twotower and its database that fails at a chosen message.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::Notify;

/// What happens to a message and its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The connection is closed instead.
    Drop,
    /// The connection is reset instead.
    Reset,
    /// Half of the message is forwarded, then the connection is closed.
    Truncate,
    /// The message is delayed.
    Delay(Duration),
    /// Neither this message nor any later one on the connection is delivered, without an error.
    Silence,
}

/// Bytes read per message: PostgreSQL's messages are smaller, except for bulk vectors.
const MESSAGE: usize = 64 * 1024;

pub(super) struct Proxy {
    runtime: Runtime,
    pub(super) address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    messages: AtomicU64,
    /// Number of the message, and the fault.
    plan: Mutex<Option<(u64, Fault)>>,
    /// Ends silent connections.
    end: Notify,
}

impl Proxy {
    /// Listens on a free port and forwards to `server`.
    pub(super) fn start(server: SocketAddr) -> Self {
        let runtime = Runtime::new().unwrap();
        let shared = Arc::new(Shared::default());
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let accepting = Arc::clone(&shared);
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(connect(client, server, Arc::clone(&accepting)));
            }
        });
        Self {
            runtime,
            address,
            shared,
        }
    }

    /// Number of messages so far, in both directions.
    pub(super) fn messages(&self) -> u64 {
        self.shared.messages.load(Ordering::SeqCst)
    }

    /// Plans `fault` at the `n`-th message from now on, once.
    pub(super) fn plan(&self, n: u64, fault: Fault) {
        *self.shared.plan.lock().unwrap() = Some((self.messages() + n, fault));
    }

    /// Whether the fault has happened.
    pub(super) fn has_happened(&self) -> bool {
        self.shared.plan.lock().unwrap().is_none()
    }

    /// Cancels the fault, and closes silent connections.
    pub(super) fn heal(&self) {
        *self.shared.plan.lock().unwrap() = None;
        self.shared.end.notify_waiters();
    }

    pub(super) fn stop(self) {
        self.runtime.shutdown_background();
    }
}

impl Shared {
    /// Counts a message; returns its fault, if any.
    fn next(&self) -> Option<Fault> {
        let number = self.messages.fetch_add(1, Ordering::SeqCst) + 1;
        let mut plan = self.plan.lock().unwrap();
        // A message may have passed while the fault was planned.
        let due = plan.filter(|&(at, _)| at <= number);
        due.map(|(_, fault)| {
            *plan = None;
            fault
        })
    }
}

async fn connect(client: TcpStream, server: SocketAddr, shared: Arc<Shared>) {
    // The server may be down.
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    for stream in [&client, &server] {
        let _ = stream.set_nodelay(true);
    }
    let (client_in, client_out) = client.into_split();
    let (server_in, server_out) = server.into_split();
    let silent = AtomicBool::new(false);
    // When one direction ends, so does the other.
    tokio::select! {
        () = pump(client_in, server_out, &shared, &silent) => {}
        () = pump(server_in, client_out, &shared, &silent) => {}
    }
}

/// Forwards until the connection ends, or until the network heals after a silence.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    shared: &Shared,
    silent: &AtomicBool,
) {
    let mut buffer = vec![0; MESSAGE];
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            () = shared.end.notified() => {
                if silent.load(Ordering::SeqCst) {
                    return;
                }
                continue;
            }
        };
        let Ok(length @ 1..) = read else {
            // The end of the connection is not forwarded either.
            while silent.load(Ordering::SeqCst) {
                shared.end.notified().await;
                silent.store(false, Ordering::SeqCst);
            }
            return;
        };
        let mut passing = &buffer[..length];
        let fault = shared.next();
        match fault {
            None => {}
            Some(Fault::Drop) => return,
            Some(Fault::Reset) => {
                // Closing a socket with linger time 0 resets the connection.
                for stream in [from.as_ref(), to.as_ref()] {
                    let _ = stream.set_zero_linger();
                }
                return;
            }
            Some(Fault::Truncate) => passing = &passing[..length / 2],
            Some(Fault::Delay(time)) => tokio::time::sleep(time).await,
            Some(Fault::Silence) => silent.store(true, Ordering::SeqCst),
        }
        if silent.load(Ordering::SeqCst) {
            continue;
        }
        if to.write_all(passing).await.is_err() || fault == Some(Fault::Truncate) {
            return;
        }
    }
}
