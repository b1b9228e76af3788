use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// At most this many bytes are taken in after the answer.
const MAX_BYTES: usize = 16 << 20;

const PIECE: usize = 8 * 1024;

/// A stream that, if the client is still sending, goes on reading for a moment after its last byte
/// was written (lingering close).
///
/// A closed socket answers further bytes with a reset. A client that sends its whole request before
/// it reads would get that instead of the answer that tells what is wrong.
#[derive(Debug)]
pub(super) struct Lingering<S> {
    stream: S,
    unread: Unread,
    longest: Duration,
    closing: Option<Closing>,
}

/// Whether an answer was given to a request that was not read to its end.
#[derive(Debug, Clone, Default)]
pub(super) struct Unread(Arc<AtomicBool>);

/// The time from the end of the answer to the end of the connection.
#[derive(Debug)]
struct Closing {
    over: Pin<Box<Sleep>>,
    bytes_left: usize,
}

impl Unread {
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl<S> Lingering<S> {
    /// Reads for at most `longest` after the end of an answer to a request that is `unread`.
    pub(super) fn new(stream: S, unread: Unread, longest: Duration) -> Self {
        Self {
            stream,
            unread,
            longest,
            closing: None,
        }
    }
}

impl Closing {
    /// Ready once the client has ended, or after the time or the bytes allowed.
    fn poll(&mut self, stream: &mut (impl AsyncRead + Unpin), cx: &mut Context<'_>) -> Poll<()> {
        if self.over.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let mut piece = [0; PIECE];
        loop {
            let mut buffer = ReadBuf::new(&mut piece);
            let read = ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer));
            let bytes = buffer.filled().len();
            self.bytes_left = self.bytes_left.saturating_sub(bytes);
            if read.is_err() || bytes == 0 || self.bytes_left == 0 {
                return Poll::Ready(());
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lingering<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self {
            stream,
            unread,
            longest,
            closing,
        } = &mut *self;
        if closing.is_none() {
            // This tells the client that the answer is complete.
            ready!(Pin::new(&mut *stream).poll_shutdown(cx))?;
            if !unread.is_set() {
                return Poll::Ready(Ok(()));
            }
        }
        let closing = closing.get_or_insert_with(|| Closing {
            over: Box::pin(sleep(*longest)),
            bytes_left: MAX_BYTES,
        });
        closing.poll(stream, cx).map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    fn unread() -> Unread {
        let unread = Unread::default();
        unread.set();
        unread
    }

    const LONG: Duration = Duration::from_mins(1);

    #[tokio::test]
    async fn who_sends_on_is_heard_out_and_knows_before_that_the_answer_is_whole() {
        let (mut client, server) = duplex(16);
        let mut server = Lingering::new(server, unread(), LONG);
        let closed = tokio::spawn(async move {
            server.write_all(b"answer").await.unwrap();
            server.shutdown().await
        });
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "answer");
        for _ in 0..1000 {
            client.write_all(&[0; 100]).await.unwrap();
        }
        assert!(!closed.is_finished());
        drop(client);
        closed.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn who_has_said_everything_is_not_waited_for() {
        let (_client, server) = duplex(16);
        let mut server = Lingering::new(server, Unread::default(), LONG);
        server.shutdown().await.unwrap();
    }

    #[tokio::test]
    async fn nobody_is_heard_for_ever() {
        let (_silent, server) = duplex(16);
        let mut server = Lingering::new(server, unread(), Duration::from_millis(20));
        server.shutdown().await.unwrap();
    }

    #[tokio::test]
    async fn nobody_is_heard_without_end() {
        let (mut client, server) = duplex(1 << 16);
        let mut server = Lingering::new(server, unread(), LONG);
        let endless = tokio::spawn(async move {
            let mut sent = 0;
            while client.write_all(&[0; 1 << 12]).await.is_ok() {
                sent += 1 << 12;
            }
            sent
        });
        server.shutdown().await.unwrap();
        drop(server);
        let sent: usize = endless.await.unwrap();
        assert!((MAX_BYTES / 2..2 * MAX_BYTES).contains(&sent), "{sent}");
    }
}
