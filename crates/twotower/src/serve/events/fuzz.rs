use super::batch;
use crate::fuzz::{MANY, corpus, fuzz};
use crate::serve::fuzz::read_body;
use std::time::{Duration, UNIX_EPOCH};

#[test]
fn fuzz_the_body_of_events() {
    // 2026-11-26, at which times in the examples are neither too old nor in the future.
    let now = UNIX_EPOCH + Duration::from_hours(1_795_694_400 / 3600);
    fuzz("events", MANY, corpus("events"), |input| {
        match read_body(input, |fields| batch::read(fields, now)) {
            Ok(events) => {
                assert!((1..=100).contains(&events.len()), "{events:?}");
                for event in &events {
                    let watched = event.watch_fraction.unwrap_or_default();
                    assert!((0.0..=1.0).contains(&watched), "{event:?}");
                    assert!(event.model_version.is_none_or(|version| version > 0));
                }
                // Few classes of outcomes, so that most bodies stay short.
                u64::from(events.len().ilog2())
            }
            Err(way) => way,
        }
    });
}
