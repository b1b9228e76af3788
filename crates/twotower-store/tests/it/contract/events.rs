//! Events and experiments.

use super::{DAY_US, START_US, contract, model, promotion, user_id, video, video_id, with_videos};
use std::time::Duration;
use twotower_core::feature::Video;
use twotower_store::{
    Arm, ArmOrigins, ErasePlan, EventKind, EventPolicy, EventsRecorded, ExperimentUser, ModelState,
    NewEvent, NewExperiment, Store, StoreError,
};
use uuid::Uuid;

contract! {
    events_are_taken_once,
    a_policy_keeps_what_it_says,
    a_bad_event_spoils_the_call,
    old_events_go_in_batches,
    one_experiment_runs_at_a_time,
    a_switch_ends_an_experiment_and_says_so_again,
    an_experiment_counts_what_its_users_did,
    an_event_belongs_to_the_experiment_that_ran_when_it_happened,
}

fn event(id: u128, kind: EventKind, video: u128) -> NewEvent {
    NewEvent {
        event_id: Uuid::from_u128(id),
        kind,
        video: video_id(video),
        watch_fraction: None,
        model_version: None,
        request_id: None,
        position: None,
        at_us: None,
    }
}

fn recorded(accepted: u64, duplicates: u64) -> EventsRecorded {
    EventsRecorded {
        accepted,
        duplicates,
    }
}

async fn events_are_taken_once(store: &Store) {
    with_videos(store, 3).await;
    let all = EventPolicy::All;
    let events = [
        NewEvent {
            watch_fraction: Some(0.25),
            model_version: Some(i64::MAX),
            request_id: Some("日本".into()),
            position: Some(100),
            at_us: Some(START_US),
            ..event(1, EventKind::View, 1)
        },
        event(2, EventKind::Like, 3),
        event(3, EventKind::Like, 1),
        event(3, EventKind::Like, 2),
        event(4, EventKind::Skip, 2),
    ];
    let user = user_id(1);
    let first = store.record_events(user, &events, all).await.unwrap();
    assert_eq!(first, recorded(4, 1));
    let state = store.user_state(user, 9).await.unwrap();
    assert_eq!(state.likes.len(), 2);
    assert_eq!(state.skips, [video_id(2)]);
    // A repeated late event does not restore a like that was removed meanwhile.
    let again = store.record_events(user, &events[1..], all).await.unwrap();
    assert_eq!(again, recorded(0, 4));
    let dated = NewEvent {
        at_us: Some(START_US),
        ..event(5, EventKind::Like, 2)
    };
    let more = [event(4, EventKind::Like, 2), dated];
    let more = store.record_events(user, &more, all).await.unwrap();
    assert_eq!(more, recorded(1, 1));
    let state = store.user_state(user, 9).await.unwrap();
    assert_eq!(state.likes[0], video_id(2), "the time is the event's");
    let none = store.record_events(user, &[], all).await.unwrap();
    assert_eq!(none, recorded(0, 0));
}

async fn a_policy_keeps_what_it_says(store: &Store) {
    with_videos(store, 3).await;
    let events = [
        event(1, EventKind::Impression, 1),
        event(2, EventKind::View, 1),
        event(3, EventKind::Like, 1),
        event(4, EventKind::Skip, 2),
    ];
    for (user, policy, kept) in [
        (1, EventPolicy::None, 0),
        (2, EventPolicy::LikesAndSkips, 2),
        (3, EventPolicy::All, 4),
    ] {
        let before = store.count_events(Duration::ZERO).await.unwrap();
        let user = user_id(user);
        let done = store.record_events(user, &events, policy).await.unwrap();
        assert_eq!(done, recorded(4, 0));
        let after = store.count_events(Duration::ZERO).await.unwrap();
        assert_eq!(after - before, kept, "{policy:?}");
        let state = store.user_state(user, 9).await.unwrap();
        assert_eq!((state.likes.len(), state.skips.len()), (1, 1));
    }
}

async fn a_bad_event_spoils_the_call(store: &Store) {
    with_videos(store, 1).await;
    let all = EventPolicy::All;
    let unknown = [event(1, EventKind::Like, 1), event(2, EventKind::View, 9)];
    let error = store.record_events(user_id(1), &unknown, all).await;
    assert!(matches!(error, Err(StoreError::UnknownVideo(id)) if id == video_id(9)));
    let odd = NewEvent {
        at_us: Some(-1),
        ..event(1, EventKind::Like, 1)
    };
    let error = store.record_events(user_id(1), &[odd], all).await;
    assert!(matches!(error, Err(StoreError::Time { .. })));
    let plan = ErasePlan::default();
    let like = [event(1, EventKind::Like, 1)];
    store.record_events(user_id(2), &like, all).await.unwrap();
    for user in [1, 2] {
        store.erase_user(user_id(user), &plan).await.unwrap();
        let error = store.record_events(user_id(user), &like, all).await;
        assert!(matches!(error, Err(StoreError::ErasedUser)));
    }
    assert_eq!(store.count_events(Duration::ZERO).await.unwrap(), 0);
}

async fn old_events_go_in_batches(store: &Store) {
    with_videos(store, 1).await;
    let now = store.time().await.unwrap();
    let events: Vec<NewEvent> = (0..10)
        .map(|days| NewEvent {
            at_us: Some(now.before(Duration::from_hours(24 * days)).us()),
            ..event(days.into(), EventKind::View, 1)
        })
        .collect();
    let all = EventPolicy::All;
    let done = store.record_events(user_id(1), &events, all).await;
    assert_eq!(done.unwrap(), recorded(10, 0));
    let age = Duration::from_hours(5 * 24 - 12);
    assert_eq!(store.count_events(age).await.unwrap(), 5);
    for expected in [3, 2, 0] {
        assert_eq!(store.delete_events(age, 3).await.unwrap(), expected);
    }
    assert_eq!(store.count_events(Duration::ZERO).await.unwrap(), 5);
}

pub(super) async fn start(store: &Store, share: f64) -> Result<i64, StoreError> {
    let new = NewExperiment {
        control: 1,
        challenger: 2,
        share,
        by: "ann".into(),
        reason: "it is new".into(),
    };
    store.start_experiment(&new).await
}

pub(super) async fn with_models(store: &Store) {
    for version in [1, 2] {
        store.register_model(&model(version)).await.unwrap();
        let state = store.set_model_state(version, ModelState::Candidate);
        state.await.unwrap();
    }
    store.activate_model(&promotion(1)).await.unwrap();
}

async fn one_experiment_runs_at_a_time(store: &Store) {
    with_models(store).await;
    assert_eq!(store.running_experiment().await.unwrap(), None);
    assert_eq!(store.stop_experiment().await.unwrap(), None);
    let first = start(store, 0.25).await.unwrap();
    let running = store.running_experiment().await.unwrap().unwrap();
    assert_eq!(
        (running.id, running.control, running.challenger),
        (first, 1, 2)
    );
    let second = start(store, 0.5).await;
    assert!(matches!(second, Err(StoreError::ExperimentRuns)));
    assert_eq!(store.stop_experiment().await.unwrap(), Some(first));
    let second = start(store, 0.5).await.unwrap();
    let other = store.running_experiment().await.unwrap().unwrap();
    assert_ne!(other.salt, running.salt);
    let all = store.experiments().await.unwrap();
    assert_eq!(
        all.iter().map(|one| one.id).collect::<Vec<_>>(),
        [second, first]
    );
    assert!(all[0].ended_at_us.is_none() && all[1].ended_at_us >= Some(all[1].started_at_us));
    assert_eq!((&*all[1].by, &*all[1].reason), ("ann", "it is new"));
}

async fn a_switch_ends_an_experiment_and_says_so_again(store: &Store) {
    with_models(store).await;
    let switch = async |version| store.activate_model(&promotion(version)).await.unwrap();
    assert_eq!(switch(1).await, None);
    let first = start(store, 0.5).await.unwrap();
    assert_eq!(switch(2).await, Some(first));
    assert_eq!(store.running_experiment().await.unwrap(), None);
    // A caller that lost the answer asks again.
    assert_eq!(switch(2).await, Some(first));
    // No running experiment that this activation could end, and it did not end the stopped one.
    assert_eq!(switch(1).await, None);
    start(store, 0.5).await.unwrap();
    store.stop_experiment().await.unwrap();
    assert_eq!(switch(1).await, None);
    assert_eq!(switch(2).await, None);
    assert_eq!(switch(2).await, None);
}

async fn an_experiment_counts_what_its_users_did(store: &Store) {
    // All were published three days ago.
    let published = store
        .time()
        .await
        .unwrap()
        .before(Duration::from_hours(3 * 24));
    let videos: Vec<Video> = (1..=4)
        .map(|n| Video {
            published_at_us: Some(published.us()),
            ..video(n)
        })
        .collect();
    store.write_videos(&videos).await.unwrap();
    with_models(store).await;
    let all = EventPolicy::All;
    // Before the start: not part of the experiment.
    let early = [event(1, EventKind::Impression, 4)];
    store.record_events(user_id(1), &early, all).await.unwrap();
    // Practically everybody gets the challenger.
    let id = start(store, 1.0 - f64::EPSILON).await.unwrap();
    let at_us = Some(published.us() + 4 * DAY_US);
    let view = |id, video, watched| NewEvent {
        watch_fraction: watched,
        ..event(id, EventKind::View, video)
    };
    let impression = |id, video| NewEvent {
        at_us,
        ..event(id, EventKind::Impression, video)
    };
    let of = |version, event| NewEvent {
        model_version: Some(version),
        ..event
    };
    let events = [
        of(2, impression(2, 1)),
        of(2, impression(3, 1)),
        of(1, impression(4, 2)),
        impression(5, 3),
        view(6, 1, Some(0.0)),
        view(7, 2, Some(0.5)),
        view(8, 2, None),
        of(1, event(9, EventKind::Like, 3)),
        // Liked and watched without an impression.
        event(10, EventKind::Like, 4),
        view(11, 4, Some(1.0)),
    ];
    store.record_events(user_id(1), &events, all).await.unwrap();
    let mut users = Vec::new();
    let mut collect = |user: ExperimentUser| users.push(user);
    let totals = store
        .for_each_experiment_user(id, Arm::Challenger, &mut collect)
        .await
        .unwrap();
    let coverage = totals.coverage;
    assert_eq!((coverage.videos, coverage.catalogue), (3, 4));
    // Of four impressions one names no version, and one the control's.
    assert_eq!((totals.origins.named, totals.origins.others), (3, 1));
    assert_eq!(users.len(), 1);
    let user = users[0];
    assert_eq!((user.shown, user.clicked, user.liked), (3, 2, 1));
    assert_eq!((user.views, user.measured), (4, 2));
    assert!((user.watched - 0.5).abs() < 1e-9);
    // Only even videos have a maker.
    assert_eq!((user.with_maker, user.same_maker), (1, 0));
    assert_eq!(user.dated, 3);
    assert!((user.age_days - 12.0).abs() < 1e-6, "{}", user.age_days);
    let mut nobody = |_: ExperimentUser| panic!("nobody is in the other arm");
    let control = store.for_each_experiment_user(id, Arm::Control, &mut nobody);
    let control = control.await.unwrap();
    assert_eq!(control.coverage.videos, 0);
    assert_eq!(control.origins, ArmOrigins::default());
}

/// What each user was shown in the arm that has everybody, per experiment.
async fn shown(store: &Store, id: i64) -> Vec<u64> {
    let mut shown = Vec::new();
    let mut collect = |user: ExperimentUser| shown.push(user.shown);
    let counted = store.for_each_experiment_user(id, Arm::Challenger, &mut collect);
    counted.await.unwrap();
    shown
}

async fn an_event_belongs_to_the_experiment_that_ran_when_it_happened(store: &Store) {
    with_videos(store, 4).await;
    with_models(store).await;
    let (user, all) = (user_id(1), EventPolicy::All);
    let first = start(store, 1.0 - f64::EPSILON).await.unwrap();
    store.stop_experiment().await.unwrap();
    let second = start(store, 1.0 - f64::EPSILON).await.unwrap();
    let ran = store.experiments().await.unwrap();
    let [of_second, of_first] = &ran[..] else {
        panic!("two experiments: {ran:?}");
    };
    let ended = of_first.ended_at_us.unwrap();
    let at = |id, at_us| NewEvent {
        at_us,
        ..event(id, EventKind::Impression, id)
    };
    // An offline device sends late events: from before both experiments, of the first, and of the
    // second.
    let events = [
        at(1, Some(of_first.started_at_us - DAY_US)),
        at(2, Some(of_first.started_at_us)),
        at(3, Some(of_second.started_at_us)),
        at(4, None),
    ];
    let taken = store.record_events(user, &events, all).await.unwrap();
    assert_eq!(taken, recorded(4, 0));
    assert!(of_first.started_at_us < ended && ended <= of_second.started_at_us);
    assert_eq!(shown(store, first).await, [1]);
    assert_eq!(shown(store, second).await, [2]);
    store.stop_experiment().await.unwrap();
    // No experiment runs, and late events still belong to the one of their time.
    let events = [at(5, Some(of_second.started_at_us)), at(6, None)].map(|event| NewEvent {
        video: video_id(1),
        ..event
    });
    store.record_events(user, &events, all).await.unwrap();
    assert_eq!(shown(store, second).await, [3]);
    assert_eq!(store.count_events(Duration::ZERO).await.unwrap(), 6);
}
