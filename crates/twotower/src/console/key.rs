//! The key of the console: a secret in the address that is printed at start, which the browser then
//! keeps as a cookie.

use crate::serve::ApiError;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;

/// A random key, made at start and valid as long as the process.
///
/// The host name of a request proves nothing: a proxy on this machine may use any, and need not say
/// for whom it asks.
#[derive(Clone)]
pub(crate) struct ConsoleKey {
    text: Arc<str>,
    listen: SocketAddr,
}

impl ConsoleKey {
    /// The key of the console at `listen`.
    ///
    /// # Errors
    /// If the operating system gives no random bytes.
    pub(crate) fn random(listen: SocketAddr) -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self {
            text: BASE64_URL_SAFE_NO_PAD.encode(bytes).into(),
            listen,
        })
    }

    /// The address that contains the key.
    pub(crate) fn address(&self) -> String {
        format!("http://{}/?key={}", self.listen, self.text)
    }

    /// Name of the cookie. Browsers send cookies to every port of a host, so two consoles on one
    /// machine need two names.
    fn cookie(&self) -> String {
        format!("twotower-console-{}", self.listen.port())
    }

    /// Compares in constant time.
    fn is(&self, given: &str) -> bool {
        let (own, given) = (self.text.as_bytes(), given.as_bytes());
        let pairs = own.iter().zip(given);
        let differ = pairs.fold(0, |differ, (one, other)| differ | (one ^ other));
        own.len() == given.len() && black_box(differ) == 0
    }

    fn is_in_cookie(&self, headers: &HeaderMap) -> bool {
        let name = self.cookie();
        let texts = headers.get_all(header::COOKIE).iter();
        texts
            .filter_map(|text| text.to_str().ok())
            .flat_map(|text| text.split(';'))
            .filter_map(|cookie| cookie.trim().split_once('='))
            .any(|(given, value)| given == name && self.is(value))
    }
}

/// Requires the key. At first it comes in the address, from which a redirect removes it.
pub(super) async fn required(
    State(key): State<ConsoleKey>,
    request: Request,
    next: Next,
) -> Response {
    let query = request.uri().query().unwrap_or_default();
    let given = query.strip_prefix("key=");
    if request.uri().path() == "/" && given.is_some_and(|given| key.is(given)) {
        // No script can read the cookie, and no other site's page can have it sent with a request
        // that changes anything. `Strict` would withhold it from the request that follows this
        // redirect if the address was opened from another site's page, such as a terminal in a
        // browser.
        let cookie = format!(
            "{}={}; Path=/; HttpOnly; SameSite=Lax",
            key.cookie(),
            key.text
        );
        let headers = [
            (header::SET_COOKIE, cookie),
            (header::LOCATION, "/".to_owned()),
        ];
        return (StatusCode::SEE_OTHER, headers).into_response();
    }
    if key.is_in_cookie(request.headers()) {
        next.run(request).await
    } else {
        ApiError::Forbidden(
            "the console opens with the whole address, key included, that was printed when the server was started last",
        )
        .into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn only_the_whole_key_opens() {
        let listen = SocketAddr::from(([127, 0, 0, 1], 8080));
        let key = ConsoleKey::random(listen).unwrap();
        let other = ConsoleKey::random(listen).unwrap();
        let text = key.text.to_string();
        assert_eq!(key.address(), format!("http://127.0.0.1:8080/?key={text}"));
        assert!(text.len() >= 43 && key.is(&text) && !key.is(&other.text));
        for wrong in ["", &text[1..], &text[..42], &format!("{text}A")] {
            assert!(!key.is(wrong), "{wrong}");
        }
        let in_cookies = |text: String| {
            let mut headers = HeaderMap::new();
            headers.append(header::COOKIE, HeaderValue::from_static("theme=dark"));
            headers.append(header::COOKIE, HeaderValue::from_str(&text).unwrap());
            key.is_in_cookie(&headers)
        };
        assert!(in_cookies(format!(
            "a=b; twotower-console-8080={text}; c=d"
        )));
        assert!(!in_cookies(format!("twotower-console-8081={text}")));
        assert!(!in_cookies(format!("twotower-console-8080={}", other.text)));
        assert!(!in_cookies(text.clone()));
    }
}
