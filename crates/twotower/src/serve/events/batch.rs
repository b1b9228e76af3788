use crate::import::time;
use crate::serve::body::{echo, invalid, refuse_unknown};
use crate::serve::error::ApiError;
use serde_json::{Map, Value};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use twotower_store::{EventKind, NewEvent};
use uuid::Uuid;

/// Most events in a call.
const MAX_EVENTS: usize = 100;

/// Last position in the longest list.
const MAX_POSITION: u64 = 100;

const MAX_REQUEST_ID_CHARS: usize = 64;

/// How far the clock of a sender may be ahead of ours.
const AHEAD: Duration = Duration::from_mins(5);

/// Age of the oldest accepted event: devices may be offline for a while.
const OLDEST: Duration = Duration::from_hours(7 * 24);

const FIELDS: [&str; 8] = [
    "event_id",
    "kind",
    "video_id",
    "watch_fraction",
    "model_version",
    "request_id",
    "position",
    "at",
];

/// Reads `{"events": [{…}, …]}`. Errors name the field with its place, as in `events[3].kind`.
pub(super) fn read(
    fields: &Map<String, Value>,
    now: SystemTime,
) -> Result<Vec<NewEvent>, ApiError> {
    refuse_unknown(fields, &["events"])?;
    let events = fields
        .get("events")
        .and_then(Value::as_array)
        .filter(|events| (1..=MAX_EVENTS).contains(&events.len()))
        .ok_or_else(|| invalid("`events` must be a list of 1 to 100 events"))?;
    events
        .iter()
        .enumerate()
        .map(|(place, event)| {
            let fields = event
                .as_object()
                .ok_or_else(|| invalid(format!("`events[{place}]` must be a JSON object")))?;
            Event { place, fields }.read(now)
        })
        .collect()
}

/// One event that has not been read yet.
struct Event<'a> {
    place: usize,
    fields: &'a Map<String, Value>,
}

impl Event<'_> {
    fn read(&self, now: SystemTime) -> Result<NewEvent, ApiError> {
        if let Some(unknown) = self.fields.keys().find(|key| !FIELDS.contains(&&***key)) {
            return Err(invalid(format!(
                "unknown field `events[{}].{}`; known: {}",
                self.place,
                echo(unknown),
                FIELDS.map(|name| format!("`{name}`")).join(", ")
            )));
        }
        let kind = self.required(
            "kind",
            "\"impression\", \"view\", \"like\" or \"skip\"",
            kind,
        )?;
        let watch_fraction = self.optional("watch_fraction", "a number from 0 to 1", fraction)?;
        if watch_fraction.is_some() && kind != EventKind::View {
            return Err(self.wrong("watch_fraction", "left out except with views"));
        }
        Ok(NewEvent {
            event_id: self.required("event_id", "a UUID", uuid)?,
            kind,
            video: self.required("video_id", "a UUID", uuid)?,
            watch_fraction,
            model_version: self.optional("model_version", "a whole number from 1", |value| {
                value.as_i64().filter(|version| *version > 0)
            })?,
            request_id: self.optional("request_id", "a text of 1 to 64 characters", request_id)?,
            position: self.optional("position", "a whole number from 1 to 100", |value| {
                let place = value
                    .as_u64()
                    .filter(|place| (1..=MAX_POSITION).contains(place));
                place.map(|place| place as u8)
            })?,
            at_us: self.optional(
                "at",
                "a time as in RFC 3339, at most 7 days ago and 5 minutes ahead",
                |value| time_us(value.as_str()?, now),
            )?,
        })
    }

    fn required<T>(
        &self,
        name: &str,
        expected: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<T, ApiError> {
        self.fields
            .get(name)
            .and_then(read)
            .ok_or_else(|| self.wrong(name, expected))
    }

    fn optional<T>(
        &self,
        name: &str,
        expected: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>, ApiError> {
        if self.fields.contains_key(name) {
            self.required(name, expected, read).map(Some)
        } else {
            Ok(None)
        }
    }

    fn wrong(&self, name: &str, expected: &str) -> ApiError {
        invalid(format!(
            "`events[{}].{name}` must be {expected}",
            self.place
        ))
    }
}

fn kind(value: &Value) -> Option<EventKind> {
    let text = value.as_str()?;
    EventKind::ALL
        .into_iter()
        .find(|kind| kind.as_str() == text)
}

fn uuid(value: &Value) -> Option<Uuid> {
    Uuid::try_parse(value.as_str()?).ok()
}

fn fraction(value: &Value) -> Option<f32> {
    let fraction = value.as_f64()?;
    (0.0..=1.0).contains(&fraction).then_some(fraction as f32)
}

fn request_id(value: &Value) -> Option<String> {
    let text = value.as_str()?;
    let fits = (1..=MAX_REQUEST_ID_CHARS).contains(&text.chars().count());
    (fits && !text.contains('\0')).then(|| text.to_owned())
}

fn time_us(text: &str, now: SystemTime) -> Option<i64> {
    let bytes = text.as_bytes();
    // The importer's parser accepts more than RFC 3339: dates alone, and times without an offset.
    let offset = bytes.last() == Some(&b'Z')
        || matches!(bytes.get(bytes.len().checked_sub(6)?), Some(b'+' | b'-'));
    if bytes.len() < "2026-01-31T23:59:59Z".len() || bytes[10] != b'T' || !offset {
        return None;
    }
    let at_us = time::parse(text)?;
    let now_us = now.duration_since(UNIX_EPOCH).ok()?.as_micros() as i64;
    let allowed = now_us - OLDEST.as_micros() as i64..=now_us + AHEAD.as_micros() as i64;
    allowed.contains(&at_us).then_some(at_us)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ID: &str = "0b000000-0000-4000-8000-000000000001";

    /// 2026-01-31T12:00:00Z.
    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_hours(1_769_860_800 / 3600)
    }

    fn read_one(event: &Value) -> Result<NewEvent, String> {
        let body = json!({ "events": [event] });
        read(body.as_object().unwrap(), now())
            .map(|mut events| events.remove(0))
            .map_err(|error| error.to_string())
    }

    fn event(field: &str, value: &Value) -> Value {
        let mut event = json!({"event_id": ID, "kind": "view", "video_id": ID});
        event[field] = value.clone();
        event
    }

    #[test]
    fn every_field_is_read() {
        let full = json!({
            "event_id": ID, "kind": "view", "video_id": ID, "watch_fraction": 0.5, "model_version": 7,
            "request_id": "日本", "position": 100, "at": "2026-01-31T21:00:00.5+09:00",
        });
        let id = Uuid::try_parse(ID).unwrap();
        let expected = NewEvent {
            event_id: id,
            kind: EventKind::View,
            video: id,
            watch_fraction: Some(0.5),
            model_version: Some(7),
            request_id: Some("日本".into()),
            position: Some(100),
            at_us: Some(1_769_860_800_500_000),
        };
        assert_eq!(read_one(&full), Ok(expected));
        let least = json!({"event_id": ID, "kind": "like", "video_id": ID});
        assert_eq!(read_one(&least).unwrap().at_us, None);
    }

    #[test]
    fn errors_name_the_field_with_its_place() {
        let long = "x".repeat(65);
        for (field, value) in [
            ("event_id", json!("x")),
            ("kind", json!("play")),
            ("kind", json!(null)),
            ("video_id", json!(1)),
            ("watch_fraction", json!(1.01)),
            ("watch_fraction", json!(-0.1)),
            ("watch_fraction", json!(null)),
            ("model_version", json!(0)),
            ("model_version", json!(1e30)),
            ("request_id", json!("")),
            ("request_id", json!(long)),
            ("request_id", json!("a\0b")),
            ("position", json!(0)),
            ("position", json!(101)),
            ("position", json!(1.5)),
            ("at", json!("2026-01-31")),
            ("at", json!("2026-01-31T12:00:00")),
            ("at", json!("2026-01-31T12:05:01Z")),
            ("at", json!("2026-01-24T11:59:59Z")),
            ("at", json!("日本日本日本日本日本日本")),
            ("at", json!(1_769_860_800)),
        ] {
            let error = read_one(&event(field, &value)).unwrap_err();
            let place = format!("`events[0].{field}`");
            assert!(error.contains(&place), "{field} {value}: {error}");
        }
        for at in ["2026-01-31T12:05:00Z", "2026-01-24T12:00:00-00:00"] {
            assert!(read_one(&event("at", &json!(at))).is_ok(), "{at}");
        }
        let foo = read_one(&event("foo", &json!(1))).unwrap_err();
        assert!(foo.starts_with("unknown field `events[0].foo`; known: `event_id`"));
        let mut like = event("watch_fraction", &json!(0.5));
        like["kind"] = json!("like");
        assert!(read_one(&like).unwrap_err().contains("except with views"));
        assert_eq!(
            read_one(&json!(3)).unwrap_err(),
            "`events[0]` must be a JSON object"
        );
    }

    #[test]
    fn a_call_has_1_to_100_events() {
        let one = event("position", &json!(1));
        for (events, fine) in [
            (json!([]), false),
            (json!({}), false),
            (json!(vec![one.clone(); 100]), true),
            (json!(vec![one; 101]), false),
        ] {
            let body = json!({ "events": events });
            assert_eq!(read(body.as_object().unwrap(), now()).is_ok(), fine);
        }
        let unknown = json!({"events": [], "user_id": "x"});
        let error = read(unknown.as_object().unwrap(), now()).unwrap_err();
        assert!(error.to_string().contains("unknown field `user_id`"));
    }
}
