use std::time::Duration;
use tokio::sync::{Mutex, Semaphore, SemaphorePermit, mpsc};
use tokio::time::timeout;

/// Groups requests into batches, each of which one statement answers.
///
/// A request that arrives while no statement is under way is a batch of its own. Later requests
/// wait for the end of that statement, but no longer than the maximum wait, and not once they fill
/// a batch, so that statements overlap where the database is far away or busy.
#[derive(Debug)]
pub(super) struct Batcher<T> {
    requests: Mutex<mpsc::Receiver<T>>,
    /// Held by one of the statements under way, the leader, until it ends. The batch that acquires
    /// it next stops waiting.
    leader: Semaphore,
    max_size: usize,
    max_wait: Duration,
}

impl<T> Batcher<T> {
    /// A batcher, and the sender of its requests. A batch holds at most `max_size` requests, at
    /// most `queued` requests wait to enter a batch, and a batch waits at most `max_wait` for the
    /// end of the statement under way.
    pub(super) fn new(
        queued: usize,
        max_size: usize,
        max_wait: Duration,
    ) -> (mpsc::Sender<T>, Self) {
        let (sender, requests) = mpsc::channel(queued);
        let batcher = Self {
            requests: Mutex::new(requests),
            leader: Semaphore::new(1),
            max_size,
            max_wait,
        };
        (sender, batcher)
    }

    /// Adds the requests of the next batch to `batch`, or none once all senders are gone. The
    /// permit, if there is one, makes the batch the leader and must be held until its statement
    /// ends.
    pub(super) async fn next(&self, batch: &mut Vec<T>) -> Option<SemaphorePermit<'_>> {
        let mut requests = self.requests.lock().await;
        if requests.recv_many(batch, self.max_size).await == 0 {
            return None;
        }
        if let Ok(leader) = self.leader.try_acquire() {
            return Some(leader);
        }
        let fill = async {
            while batch.len() < self.max_size {
                tokio::select! {
                    // Requests that are queued already join this batch.
                    biased;
                    received = requests.recv_many(batch, self.max_size - batch.len()) => {
                        if received == 0 {
                            break;
                        }
                    }
                    leader = self.leader.acquire() => {
                        return leader.ok();
                    }
                }
            }
            None
        };
        timeout(self.max_wait, fill).await.unwrap_or(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(1);
    const LONG: Duration = Duration::from_hours(1);

    async fn send(requests: &mpsc::Sender<u32>, numbers: std::ops::Range<u32>) {
        for number in numbers {
            requests.send(number).await.unwrap();
        }
    }

    #[tokio::test]
    async fn the_first_request_waits_for_no_other() {
        let (requests, batcher) = Batcher::new(8, 4, LONG);
        let mut batch = Vec::new();
        for number in 0..3 {
            send(&requests, number..number + 1).await;
            assert!(batcher.next(&mut batch).await.is_some());
        }
        assert_eq!(batch, [0, 1, 2]);
    }

    /// The tasks of this test share one thread: between two `await`s no other task runs.
    #[tokio::test]
    async fn requests_during_a_statement_are_one_batch_at_its_end() {
        let (requests, batcher) = Batcher::new(8, 8, LONG);
        let mut first = Vec::new();
        send(&requests, 0..1).await;
        let under_way = batcher.next(&mut first).await;
        assert!(under_way.is_some());
        send(&requests, 1..3).await;
        let mut second = Vec::new();
        let (leader, ()) = tokio::join!(batcher.next(&mut second), async {
            send(&requests, 3..5).await;
            tokio::task::yield_now().await;
            drop(under_way);
        });
        assert!(leader.is_some());
        assert_eq!(second, [1, 2, 3, 4]);
    }

    #[tokio::test]
    async fn neither_a_slow_statement_nor_a_full_batch_is_waited_for() {
        let (requests, batcher) = Batcher::new(8, 4, SHORT);
        let mut first = Vec::new();
        send(&requests, 0..1).await;
        let under_way = batcher.next(&mut first).await;
        let (mut second, mut third) = (Vec::new(), Vec::new());
        send(&requests, 1..3).await;
        assert!(batcher.next(&mut second).await.is_none());
        assert_eq!(second, [1, 2]);
        send(&requests, 3..8).await;
        assert!(batcher.next(&mut third).await.is_none());
        assert_eq!(third, [3, 4, 5, 6], "as many as a batch holds");
        drop(under_way);
        let mut last = Vec::new();
        assert!(batcher.next(&mut last).await.is_some());
        assert_eq!(last, [7]);
    }

    #[tokio::test]
    async fn without_senders_the_batch_is_empty() {
        let (requests, batcher) = Batcher::<u32>::new(8, 4, LONG);
        drop(requests);
        let mut none = Vec::new();
        assert!(batcher.next(&mut none).await.is_none());
        assert!(none.is_empty());
    }
}
