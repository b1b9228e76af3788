use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

/// A stream that fails with [`io::ErrorKind::TimedOut`] if the client takes nothing of what is
/// written for a while.
///
/// hyper has no such deadline, so a client that never reads its answers would hold its connection
/// for ever.
#[derive(Debug)]
pub(super) struct WriteDeadline<S> {
    stream: S,
    limit: Duration,
    writing: Stall,
    /// Separate from `writing`: a socket always reports itself flushed, even while data waits to be
    /// written.
    flushing: Stall,
}

/// A stream that can be closed without waiting for the client.
pub(super) trait Abandon {
    /// Makes closing drop unsent data, which the system would otherwise offer for minutes.
    fn abandon(&self);
}

impl Abandon for TcpStream {
    fn abandon(&self) {
        // If this fails, the connection is closed in the ordinary way.
        let _ = self.set_zero_linger();
    }
}

impl<S> WriteDeadline<S> {
    pub(super) fn new(stream: S, limit: Duration) -> Self {
        Self {
            stream,
            limit,
            writing: Stall::default(),
            flushing: Stall::default(),
        }
    }
}

/// Deadline of an operation that makes no progress.
#[derive(Debug, Default)]
struct Stall(Option<Pin<Box<Sleep>>>);

impl Stall {
    fn bound<T>(
        &mut self,
        stream: &impl Abandon,
        limit: Duration,
        cx: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.0 = None;
            return outcome;
        }
        let over = self.0.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(over.as_mut().poll(cx));
        stream.abandon();
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteDeadline<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Abandon + Unpin> AsyncWrite for WriteDeadline<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let outcome = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.writing.bound(&this.stream, this.limit, cx, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let outcome = Pin::new(&mut this.stream).poll_write_vectored(cx, slices);
        this.writing.bound(&this.stream, this.limit, cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let outcome = Pin::new(&mut this.stream).poll_flush(cx);
        this.flushing.bound(&this.stream, this.limit, cx, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let outcome = Pin::new(&mut this.stream).poll_shutdown(cx);
        this.flushing.bound(&this.stream, this.limit, cx, outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::timeout;

    impl Abandon for DuplexStream {
        fn abandon(&self) {}
    }

    const LIMIT: Duration = Duration::from_millis(500);
    const LONG: Duration = Duration::from_mins(1);

    /// A write that makes no progress ends at the deadline, whatever is flushed meanwhile.
    #[tokio::test]
    async fn what_nobody_takes_is_given_up() {
        let (ours, _theirs) = duplex(8);
        let mut stream = WriteDeadline::new(ours, LIMIT);
        let written = timeout(LONG, async {
            loop {
                if let Ok(written) = timeout(LIMIT / 10, stream.write_all(&[0; 9])).await {
                    break written;
                }
                // A socket always flushes at once.
                stream.flush().await.unwrap();
            }
        });
        let error = written.await.expect("it ends").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn what_is_taken_slowly_goes_on() {
        let (ours, mut theirs) = duplex(8);
        let mut stream = WriteDeadline::new(ours, LIMIT);
        let all = [7; 88];
        let read = async {
            let mut taken = Vec::new();
            let mut piece = [0; 8];
            while taken.len() < all.len() {
                tokio::time::sleep(LIMIT / 5).await;
                let some = theirs.read(&mut piece).await.unwrap();
                taken.extend_from_slice(&piece[..some]);
            }
            taken
        };
        // More than twice the deadline in all.
        let (written, taken) = tokio::join!(stream.write_all(&all), read);
        written.unwrap();
        assert_eq!(taken, all);
    }
}
