use super::Request;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Semaphore;
use uuid::Uuid;

/// Requests that wait for reads of one user each.
///
/// Users take turns. A turn answers all requests of its user that wait when it begins, and a user
/// has one turn at a time. So neither many requests of one user nor one user whose reads are slow
/// holds up the others.
#[derive(Debug)]
pub(super) struct FairQueue {
    users: Mutex<Users>,
    /// One permit for each entry of [`Users::turns`].
    turns: Semaphore,
    capacity: usize,
}

#[derive(Debug, Default)]
struct Users {
    /// Each of these users is in `turns` or `under_way`.
    waiting: HashMap<Uuid, Vec<Request>>,
    turns: VecDeque<Uuid>,
    under_way: HashSet<Uuid>,
    /// Number of requests in `waiting`.
    requests: usize,
}

/// A turn, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    queue: &'a FairQueue,
    user: Uuid,
}

impl FairQueue {
    /// A queue for at most `capacity` requests.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            users: Mutex::default(),
            turns: Semaphore::new(0),
            capacity,
        }
    }

    /// Adds a request. A full queue drops it, which closes the channel of its outcome.
    pub(super) fn push(&self, request: Request) {
        let user = request.asked.user;
        let mut users = self.lock();
        if users.requests >= self.capacity {
            users.drop_given_up();
        }
        if users.requests >= self.capacity {
            return;
        }
        users.requests += 1;
        if let Some(waiting) = users.waiting.get_mut(&user) {
            waiting.push(request);
            return;
        }
        users.waiting.insert(user, vec![request]);
        if !users.under_way.contains(&user) {
            users.turns.push_back(user);
            self.turns.add_permits(1);
        }
    }

    /// Begins the next turn, with its requests; `None` once the queue is closed.
    pub(super) async fn next(&self) -> Option<(Vec<Request>, Turn<'_>)> {
        self.turns.acquire().await.ok()?.forget();
        let mut users = self.lock();
        let user = users.turns.pop_front()?;
        let requests = users.waiting.remove(&user).unwrap_or_default();
        users.requests -= requests.len();
        users.under_way.insert(user);
        drop(users);
        Some((requests, Turn { queue: self, user }))
    }

    /// Ends the loops of all who call [`Self::next`].
    pub(super) fn close(&self) {
        self.turns.close();
    }

    fn lock(&self) -> MutexGuard<'_, Users> {
        // Nothing in here panics half-way through a change.
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Users {
    /// Drops requests whose callers no longer wait. Their users stay in `turns`.
    fn drop_given_up(&mut self) {
        for requests in self.waiting.values_mut() {
            requests.retain(|request| !request.outcome.is_closed());
        }
        self.requests = self.waiting.values().map(Vec::len).sum();
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut users = self.queue.lock();
        users.under_way.remove(&self.user);
        if users.waiting.contains_key(&self.user) {
            users.turns.push_back(self.user);
            self.queue.turns.add_permits(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::request;
    use super::*;
    use futures_util::FutureExt;

    const A: Uuid = Uuid::from_u128(1);
    const B: Uuid = Uuid::from_u128(2);
    const C: Uuid = Uuid::from_u128(3);

    /// User and number of requests of the next turn, which is under way until the guard is dropped.
    fn next(queue: &FairQueue) -> Option<(Uuid, usize, Turn<'_>)> {
        let (requests, turn) = queue.next().now_or_never()??;
        assert!(requests.iter().all(|it| it.asked.user == turn.user));
        Some((turn.user, requests.len(), turn))
    }

    #[test]
    fn users_take_turns_and_a_turn_is_for_all_requests_of_its_user() {
        let queue = FairQueue::new(100);
        let mut kept = Vec::new();
        let mut push = |user| {
            let (request, outcome) = request(user);
            kept.push(outcome);
            queue.push(request);
        };
        for user in [A, A, A, B, A] {
            push(user);
        }
        let (user, requests, of_a) = next(&queue).unwrap();
        assert_eq!((user, requests), (A, 4));
        push(A);
        push(C);
        let (user, requests, of_b) = next(&queue).unwrap();
        assert_eq!((user, requests), (B, 1));
        // What A asks for meanwhile waits for the end of the turn under way, and behind C.
        let (user, _, of_c) = next(&queue).unwrap();
        assert_eq!(user, C);
        assert!(next(&queue).is_none());
        drop((of_a, of_b, of_c));
        let (user, requests, of_a) = next(&queue).unwrap();
        assert_eq!((user, requests), (A, 1));
        drop(of_a);
        assert!(next(&queue).is_none());
        queue.close();
        assert!(queue.next().now_or_never().unwrap().is_none());
    }

    #[test]
    fn a_full_queue_drops_requests_that_were_given_up_before_it_refuses_new_ones() {
        let queue = FairQueue::new(2);
        let (first, gives_up) = request(A);
        let (second, _waits) = request(A);
        let (third, _waits_too) = request(B);
        let (fourth, mut refused) = request(B);
        queue.push(first);
        queue.push(second);
        drop(gives_up);
        queue.push(third);
        queue.push(fourth);
        assert!(refused.try_recv().is_err());
        let of_users: Vec<_> = std::iter::from_fn(|| next(&queue))
            .map(|(user, requests, _)| (user, requests))
            .collect();
        assert_eq!(of_users, [(A, 1), (B, 1)]);
    }
}
