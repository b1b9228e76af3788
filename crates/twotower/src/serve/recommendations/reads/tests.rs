use super::*;
use crate::serve::circuit_breaker::{Circuit, ProbeInterval};
use futures_util::FutureExt;
use twotower_core::feature::Video;
use twotower_store::{Block, BlockKind, ConnectOptions, InteractionKind, InteractionRow, Store};

const USER: Uuid = Uuid::from_u128(1);

async fn store() -> Store {
    let options = ConnectOptions::default();
    Store::connect("sqlite::memory:", options).await.unwrap()
}

fn reader(store: Store, breaker: Option<Arc<CircuitBreaker>>) -> Reader {
    Reader {
        sources: Arc::new(Sources::new(store, None, None, Arc::default())),
        deadline: Duration::from_mins(1),
        quick: Duration::from_mins(1),
        separate_users: SeparateUsers::builder().build(),
        breaker,
    }
}

fn of(user: Uuid) -> Asked {
    Asked {
        user,
        subject: Subject::User(user),
    }
}

pub(super) fn request(user: Uuid) -> (Request, oneshot::Receiver<Outcome>) {
    let (outcome, read) = oneshot::channel();
    let asked = of(user);
    (Request { asked, outcome }, read)
}

#[test]
fn likes_skips_and_blocks_all_count_as_rows_of_a_user() {
    let ids = |count| vec![Uuid::nil(); count];
    let block = Block {
        kind: BlockKind::Tag,
        value: "x".into(),
    };
    let mut state = UserState {
        likes: ids(MAX_SHARED_ROWS - 1000),
        skips: ids(990),
        blocks: vec![block; 10],
    };
    assert!(!is_long(&state));
    state.blocks.extend(state.blocks.first().cloned());
    assert!(is_long(&state));
}

#[tokio::test]
async fn a_user_with_many_rows_is_read_separately_from_then_on() {
    let store = store().await;
    store.migrate().await.unwrap();
    let videos: Vec<Video> = (0..=MAX_SHARED_ROWS)
        .map(|n| Video {
            id: Uuid::from_u128(100 + n as u128),
            title: "x".into(),
            ..Video::default()
        })
        .collect();
    store.write_videos(&videos).await.unwrap();
    let likes: Vec<InteractionRow> = videos
        .iter()
        .map(|video| InteractionRow {
            user: USER,
            video: video.id,
            at_us: 1_700_000_000_000_000,
        })
        .collect();
    let written = store.write_interactions(InteractionKind::Like, &likes);
    written.await.unwrap();
    let reader = reader(store, None);
    let other = Uuid::from_u128(2);
    reader.separate_users.insert(other, ());
    let (requests, outcomes): (Vec<_>, Vec<_>) =
        [USER, other, USER].map(request).into_iter().unzip();
    let users = UserRequests::group(requests);
    assert_eq!(users.len(), 2, "one read answers both requests of a user");
    reader.read(users).await;
    for (outcome, likes) in outcomes.into_iter().zip([videos.len(), 0, videos.len()]) {
        assert_eq!(outcome.await.unwrap().unwrap().state.likes.len(), likes);
    }
    assert!(reader.is_separate(USER));
    assert!(!reader.is_separate(other), "its read was quick");
}

#[tokio::test]
async fn every_user_of_a_late_statement_is_read_separately_until_a_read_is_quick() {
    let reader = reader(store().await, None);
    let [one, two, three] = [1, 2, 3].map(|n| of(Uuid::from_u128(n)));
    let took = Duration::from_secs(2);
    reader.learn(&[one, two], took, &Err(ReadError::Late));
    let away = ReadError::Unreachable(ApiError::Overloaded);
    reader.learn(&[three], took, &Err(away));
    let separate = |asked: [Asked; 3]| asked.map(|asked| reader.is_separate(asked.user));
    assert_eq!(separate([one, two, three]), [true, true, false]);
    let known = Known {
        state: UserState::default(),
        verified: true,
    };
    reader.learn(&[two], Duration::from_millis(1), &Ok(vec![Some(known)]));
    assert_eq!(separate([one, two, three]), [true, false, false]);
}

/// Without a schema every statement fails.
#[tokio::test]
async fn after_a_failed_batch_users_are_read_one_by_one_if_a_request_still_waits() {
    let hour = Duration::from_hours(1);
    let interval = ProbeInterval {
        first: hour,
        last: hour,
    };
    let breaker = Arc::new(CircuitBreaker::new(hour, interval));
    let reader = reader(store().await, Some(Arc::clone(&breaker)));
    let (waits, read) = request(USER);
    let (gives_up, given_up): (Vec<_>, Vec<_>) =
        (2..7).map(|n| request(Uuid::from_u128(n))).unzip();
    let users = UserRequests::group(gives_up.into_iter().chain([waits]));
    assert_eq!(users.len(), 6);
    drop(given_up);
    reader.read(users).await;
    assert!(matches!(read.await, Ok(Err(ReadError::Statement(_)))));
    assert_eq!(breaker.circuit(), Circuit::Closed, "two statements");
}

/// As many as there are places, each of which may be a batch that reads some users at once.
#[tokio::test]
async fn the_separate_lane_takes_the_reads_of_all_places() {
    let store = store().await;
    store.migrate().await.unwrap();
    let mut limits = Limits {
        database: Duration::from_mins(1),
        ..Limits::default()
    };
    limits.concurrency.maximum = 100;
    let sources = Arc::new(Sources::new(store, None, None, Arc::default()));
    let reads = Reads::new(&sources, &limits, None);
    let users = (1..=400).map(Uuid::from_u128);
    let mut waiting: Vec<_> = users
        .map(|user| {
            reads.separate_users.insert(user, ());
            Box::pin(reads.state(of(user)))
        })
        .collect();
    // The readers share the thread of this test, and begin at its next `await`.
    for read in &mut waiting {
        assert!(read.now_or_never().is_none());
    }
    for read in waiting {
        read.await.unwrap();
    }
}

#[test]
fn what_the_database_cancels_is_late() {
    let late = StoreError::Deadline {
        operation: "user_states",
        limit: Duration::from_secs(2),
    };
    assert!(matches!(ReadError::of(&late), ReadError::Late));
}
