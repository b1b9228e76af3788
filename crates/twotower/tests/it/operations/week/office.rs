//! Receives alerts and publishes keys: the alerts' webhook and the token issuer, on one loopback
//! address.

use crate::serve::public_keys::{ec, other_ec, public};
use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tokio::runtime::Runtime;

/// The public keys of the current signers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keys {
    Old,
    Both,
    New,
}

#[derive(Clone)]
struct Desk {
    messages: Arc<Mutex<Vec<Value>>>,
    keys: Arc<Mutex<Keys>>,
}

pub(super) struct Office {
    desk: Desk,
    address: SocketAddr,
    _runtime: Runtime,
}

impl Office {
    pub(super) fn open() -> Self {
        let desk = Desk {
            messages: Arc::default(),
            keys: Arc::new(Mutex::new(Keys::Old)),
        };
        let runtime = Runtime::new().unwrap();
        let router = Router::new()
            .route("/alerts", post(receive))
            .route("/jwks", get(key_set))
            .with_state(desk.clone());
        let bound = tokio::net::TcpListener::bind(("127.0.0.1", 0));
        let listener = runtime.block_on(bound).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self {
            desk,
            address,
            _runtime: runtime,
        }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    pub(super) fn rotate(&self, keys: Keys) {
        *self.desk.keys.lock().unwrap() = keys;
    }

    /// Alerts so far, in order: `firing run-failed/update`.
    pub(super) fn told(&self) -> Vec<String> {
        let messages = self.desk.messages.lock().unwrap();
        let alerts = messages
            .iter()
            .flat_map(|message| message["alerts"].as_array().unwrap());
        let told = alerts.map(|alert| {
            let word = |key: &str| alert[key].as_str().unwrap().to_owned();
            format!("{} {}", word("status"), word("key"))
        });
        told.collect()
    }

    /// All messages, for failure output.
    pub(super) fn messages(&self) -> String {
        let messages = self.desk.messages.lock().unwrap();
        serde_json::to_string_pretty(&*messages).unwrap()
    }
}

async fn receive(State(desk): State<Desk>, Json(message): Json<Value>) {
    desk.messages.lock().unwrap().push(message);
}

async fn key_set(State(desk): State<Desk>) -> Json<Value> {
    let old = || public(&ec(), "old");
    let new = || public(&other_ec(), "new");
    let keys = match *desk.keys.lock().unwrap() {
        Keys::Old => vec![old()],
        Keys::Both => vec![old(), new()],
        Keys::New => vec![new()],
    };
    Json(json!({ "keys": keys }))
}

/// A token of `user` signed with the old or the new key, valid for an hour from `now`.
pub(super) fn token(user: &str, signer: &str, now: SystemTime) -> String {
    let key: (Algorithm, EncodingKey) = if signer == "old" { ec() } else { other_ec() };
    let header = Header {
        kid: Some(signer.into()),
        ..Header::new(key.0)
    };
    let expiry = super::clock::seconds(now + Duration::from_hours(1));
    let claims = json!({ "sub": user, "aud": "authenticated", "exp": expiry });
    encode(&header, &claims, &key.1).unwrap()
}
