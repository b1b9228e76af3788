use axum::http::{HeaderValue, Method, header, request};
use std::time::Duration;
use thiserror::Error;
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::endpoint;
use super::request_id;

/// How long a browser may cache a preflight response.
const MAX_AGE: Duration = Duration::from_mins(10);

/// Origins of web pages that may read answers of the API.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum CorsOrigins {
    /// No other origin.
    #[default]
    None,
    /// These origins.
    Listed(Vec<String>),
    /// Every origin. A token is still required, and cookies are never read.
    Any,
}

/// An invalid origin.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OriginError {
    /// Not in the form of the `Origin` header.
    #[error(
        "`{0}` is no origin: write scheme, host and port alone, in lower case, as in https://app.example or http://localhost:3000"
    )]
    Malformed(String),
    /// `*` together with other origins.
    #[error("\"*\" stands for every origin, so it stands alone")]
    StarAmongOthers,
}

impl CorsOrigins {
    /// # Errors
    /// [`OriginError`] if an origin is not written as browsers send it: its pages would be locked
    /// out silently.
    pub fn parse(origins: &[String]) -> Result<Self, OriginError> {
        if origins.iter().any(|origin| origin == "*") {
            return match origins.len() {
                1 => Ok(Self::Any),
                _ => Err(OriginError::StarAmongOthers),
            };
        }
        match origins.iter().find(|origin| !is_origin(origin)) {
            Some(malformed) => Err(OriginError::Malformed(malformed.clone())),
            None if origins.is_empty() => Ok(Self::None),
            None => Ok(Self::Listed(origins.to_vec())),
        }
    }

    fn allows(&self, origin: &HeaderValue) -> bool {
        match self {
            Self::None => false,
            Self::Listed(origins) => origins
                .iter()
                .any(|listed| listed.as_bytes() == origin.as_bytes()),
            Self::Any => true,
        }
    }
}

/// `scheme://host[:port]`, without path, query, user or capitals.
fn is_origin(text: &str) -> bool {
    let Some((scheme, authority)) = text.split_once("://") else {
        return false;
    };
    let host_and_port =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-:[]_".contains(&byte);
    matches!(scheme, "https" | "http")
        && !authority.is_empty()
        && authority.bytes().all(host_and_port)
}

/// Answers preflights and marks responses, for paths of the API only: the console is for its own
/// pages.
pub(super) fn layer(origins: CorsOrigins) -> CorsLayer {
    let allowed = move |origin: &HeaderValue, request: &request::Parts| {
        endpoint::find(request.uri.path()).is_some() && origins.allows(origin)
    };
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(allowed))
        .allow_methods([Method::GET, Method::POST])
        // `apikey` and `x-client-info` are what Supabase's client library adds to every request.
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            request_id::HEADER,
            header::HeaderName::from_static("apikey"),
            header::HeaderName::from_static("x-client-info"),
        ])
        .expose_headers([
            request_id::HEADER,
            header::RETRY_AFTER,
            header::HeaderName::from_static("server-timing"),
        ])
        .max_age(MAX_AGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_browser_sends_is_an_origin() {
        let parse = |origin: &str| CorsOrigins::parse(&[origin.to_owned()]);
        for origin in [
            "https://app.example",
            "http://localhost:3000",
            "http://[::1]:80",
        ] {
            let listed = CorsOrigins::Listed(vec![origin.to_owned()]);
            assert_eq!(parse(origin), Ok(listed), "{origin}");
        }
        for malformed in [
            "",
            "app.example",
            "https://",
            "https://app.example/",
            "https://App.example",
            "https://user@app.example",
            "https://app.example?x",
            "ftp://app.example",
            "null",
            "https://*.example",
        ] {
            let refused = Err(OriginError::Malformed(malformed.to_owned()));
            assert_eq!(parse(malformed), refused, "{malformed}");
        }
        assert_eq!(parse("*"), Ok(CorsOrigins::Any));
        let both = ["*".to_owned(), "https://app.example".to_owned()];
        assert_eq!(CorsOrigins::parse(&both), Err(OriginError::StarAmongOthers));
        assert_eq!(CorsOrigins::parse(&[]), Ok(CorsOrigins::None));
    }
}
