use std::time::Duration;
use tokio::sync::{Mutex, Semaphore, SemaphorePermit, mpsc};
use tokio::time::timeout;

/// Requests that wait for one statement, which is for all of them.
///
/// Whoever is there while no statement is under way leaves at once; everybody else waits for the end of that one, but neither for long nor
/// once they are as many as one statement takes, so that statements overlap where the database is far or busy.
#[derive(Debug)]
pub(super) struct Gathering<T> {
    waiting: Mutex<mpsc::Receiver<T>>,
    /// Held until its end by one of the statements that are under way: who gets it waits for nobody.
    alone: Semaphore,
    most: usize,
    company: Duration,
}

impl<T> Gathering<T> {
    /// Statements for `most` requests each, of `waiting` at a time, which wait for the end of the one under way for `company` at most; and
    /// where to bring requests.
    pub(super) fn new(waiting: usize, most: usize, company: Duration) -> (mpsc::Sender<T>, Self) {
        let (requests, waiting) = mpsc::channel(waiting);
        let gathering = Self {
            waiting: Mutex::new(waiting),
            alone: Semaphore::new(1),
            most,
            company,
        };
        (requests, gathering)
    }

    /// Adds the requests of the next statement; none where there will be no more. Gives what is to be held until its end, if it has it.
    pub(super) async fn next(&self, requests: &mut Vec<T>) -> Option<SemaphorePermit<'_>> {
        let mut waiting = self.waiting.lock().await;
        if waiting.recv_many(requests, self.most).await == 0 {
            return None;
        }
        if let Ok(alone) = self.alone.try_acquire() {
            return Some(alone);
        }
        let company = async {
            while requests.len() < self.most {
                tokio::select! {
                    // Who is there already comes along.
                    biased;
                    got = waiting.recv_many(requests, self.most - requests.len()) => {
                        if got == 0 {
                            break;
                        }
                    }
                    alone = self.alone.acquire() => {
                        return alone.ok();
                    }
                }
            }
            None
        };
        timeout(self.company, company).await.unwrap_or(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(1);
    const LONG: Duration = Duration::from_hours(1);

    async fn bring(requests: &mpsc::Sender<u32>, numbers: std::ops::Range<u32>) {
        for number in numbers {
            requests.send(number).await.unwrap();
        }
    }

    #[tokio::test]
    async fn who_comes_first_waits_for_nobody() {
        let (requests, gathering) = Gathering::new(8, 4, LONG);
        let mut taken = Vec::new();
        for number in 0..3 {
            bring(&requests, number..number + 1).await;
            assert!(gathering.next(&mut taken).await.is_some());
        }
        assert_eq!(taken, [0, 1, 2]);
    }

    /// The tasks of this test have one thread: between two `await`s nobody else does anything.
    #[tokio::test]
    async fn who_comes_meanwhile_leaves_together_at_the_end_of_what_is_under_way() {
        let (requests, gathering) = Gathering::new(8, 8, LONG);
        let mut first = Vec::new();
        bring(&requests, 0..1).await;
        let under_way = gathering.next(&mut first).await;
        assert!(under_way.is_some());
        bring(&requests, 1..3).await;
        let mut second = Vec::new();
        let (alone, ()) = tokio::join!(gathering.next(&mut second), async {
            bring(&requests, 3..5).await;
            tokio::task::yield_now().await;
            drop(under_way);
        });
        assert!(alone.is_some());
        assert_eq!(second, [1, 2, 3, 4]);
    }

    #[tokio::test]
    async fn what_takes_long_holds_nobody_up_nor_does_company_for_who_is_enough() {
        let (requests, gathering) = Gathering::new(8, 4, SHORT);
        let mut first = Vec::new();
        bring(&requests, 0..1).await;
        let under_way = gathering.next(&mut first).await;
        let (mut second, mut third) = (Vec::new(), Vec::new());
        bring(&requests, 1..3).await;
        assert!(gathering.next(&mut second).await.is_none());
        assert_eq!(second, [1, 2]);
        bring(&requests, 3..8).await;
        assert!(gathering.next(&mut third).await.is_none());
        assert_eq!(third, [3, 4, 5, 6], "as many as one statement takes");
        drop(under_way);
        let mut last = Vec::new();
        assert!(gathering.next(&mut last).await.is_some());
        assert_eq!(last, [7]);
    }

    #[tokio::test]
    async fn without_requests_to_come_there_is_nothing() {
        let (requests, gathering) = Gathering::<u32>::new(8, 4, LONG);
        drop(requests);
        let mut none = Vec::new();
        assert!(gathering.next(&mut none).await.is_none());
        assert!(none.is_empty());
    }
}
