//! A client that returns statuses and bodies as they are.

use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;
use ureq::http::Response;

pub(super) const RECOMMENDATIONS: &str = "/functions/v1/two_tower_recommendations";
pub(super) const SIMILAR_VIDEOS: &str = "/functions/v1/similar_videos";
pub(super) const EVENTS: &str = "/functions/v1/events";
pub(super) const BATCH: &str = "/functions/v1/batch_recommendations";

pub(crate) struct Client {
    agent: ureq::Agent,
    pub(crate) base: String,
    /// Sent with every request, like a browser that has opened the console.
    cookie: Option<String>,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: ureq::http::HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text)
            .unwrap_or_else(|error| panic!("{error}: {}: {}", self.status, self.text))
    }

    /// Status, `error.code` and `error.message`.
    pub(crate) fn error(&self) -> (u16, String, String) {
        let body = self.json();
        let field = |name: &str| {
            let text = body["error"][name].as_str();
            text.unwrap_or_else(|| panic!("no error.{name}: {body}"))
                .to_owned()
        };
        assert_eq!(field("request_id"), self.header("x-request-id"));
        (self.status, field("code"), field("message"))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_global(Some(Duration::from_secs(30)))
            .build()
            .new_agent();
        Self {
            agent,
            base: format!("http://{address}"),
            cookie: None,
        }
    }

    /// Opens the console with the address that the server prints.
    pub(crate) fn open_console(&mut self, address: &str) {
        let path = address.strip_prefix(&self.base).expect("an address here");
        let answer = self.get(path, &[]);
        assert_eq!((answer.status, answer.header("location")), (303, "/"));
        let cookie = answer.header("set-cookie");
        let (cookie, attributes) = cookie.split_once(';').expect("a cookie");
        assert_eq!(attributes, " Path=/; HttpOnly; SameSite=Lax");
        self.cookie = Some(cookie.to_owned());
    }

    fn cookie(&self) -> impl Iterator<Item = (&str, &str)> {
        let cookie = self.cookie.as_deref();
        cookie.map(|text| ("cookie", text)).into_iter()
    }

    pub(crate) fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = self.agent.get(format!("{}{path}", self.base));
        for (name, value) in headers.iter().copied().chain(self.cookie()) {
            request = request.header(name, value);
        }
        answer(request.call().unwrap())
    }

    pub(super) fn options(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = self.agent.options(format!("{}{path}", self.base));
        for (name, value) in headers.iter().copied().chain(self.cookie()) {
            request = request.header(name, value);
        }
        answer(request.call().unwrap())
    }

    pub(crate) fn post(&self, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut request = self.agent.post(format!("{}{path}", self.base));
        for (name, value) in headers.iter().copied().chain(self.cookie()) {
            request = request.header(name, value);
        }
        answer(request.send(body).unwrap())
    }

    /// Sends a recommendation request like an app.
    pub(crate) fn recommend(&self, token: &str, body: &str) -> Answer {
        let authorization = format!("Bearer {token}");
        let headers = [
            ("authorization", authorization.as_str()),
            ("content-type", "application/json"),
        ];
        self.post(RECOMMENDATIONS, &headers, body)
    }

    /// Ids of the recommended videos, and the whole body.
    pub(crate) fn recommended(&self, token: &str, body: &str) -> (Vec<String>, Value) {
        let answer = self.recommend(token, body);
        assert_eq!(answer.status, 200, "{}", answer.text);
        let json = answer.json();
        let ids = json["recommendations"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["video_id"].as_str().unwrap().to_owned())
            .collect();
        (ids, json)
    }
}

fn answer(mut response: Response<ureq::Body>) -> Answer {
    Answer {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        text: response.body_mut().read_to_string().unwrap(),
    }
}
