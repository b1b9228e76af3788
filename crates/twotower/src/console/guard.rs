//! Protects the console from other web sites in its visitor's browser.

use crate::serve::ApiError;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::IpAddr;

/// Another site's page cannot send this header without a CORS preflight, which we never allow.
const OWN_HEADER: HeaderName = HeaderName::from_static("x-twotower-console");

const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Refuses host names other than this machine's own: a site whose name resolves to this machine
/// (DNS rebinding) would pass every origin check. Also refuses requests that a proxy forwards,
/// since their sender may be anywhere.
pub(super) async fn loopback(request: Request, next: Next) -> Response {
    let headers = request.headers();
    if !host(headers).is_some_and(is_loopback) {
        ApiError::Forbidden("the console answers only under the name of this machine, localhost")
            .into_response()
    } else if is_handed_on(headers) {
        ApiError::Forbidden(
            "the console answers nothing that came by way of a proxy: open it on this machine, or start the server with --console-on-any-address as well",
        )
        .into_response()
    } else {
        next.run(request).await
    }
}

/// Refuses requests that a page of another origin may have sent.
pub(super) async fn same_origin(request: Request, next: Next) -> Response {
    let headers = request.headers();
    let own_origin = match headers.get(header::ORIGIN) {
        // Browsers always send the header with a POST; other clients cannot be tricked by a page.
        None => true,
        Some(origin) => origin
            .to_str()
            .ok()
            .and_then(|origin| origin.split_once("://"))
            .is_some_and(|(_, authority)| Some(authority) == host(headers)),
    };
    if own_origin && headers.contains_key(OWN_HEADER) {
        next.run(request).await
    } else {
        ApiError::Forbidden("this address takes requests of the console's own pages only")
            .into_response()
    }
}

/// Allows pages to load only what comes from this server.
pub(super) async fn page_headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers
        .entry(header::CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static(CONTENT_SECURITY_POLICY));
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
    headers.insert(
        HeaderName::from_static("cross-origin-opener-policy"),
        HeaderValue::from_static("same-origin"),
    );
    headers.insert(
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    );
    response
}

fn host(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::HOST)?.to_str().ok()
}

/// Whether a proxy has marked the request. Not all of them do (nginx does not by default): the key
/// is what keeps strangers out.
fn is_handed_on(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| {
        let name = name.as_str();
        matches!(name, "forwarded" | "via" | "x-real-ip") || name.starts_with("x-forwarded")
    })
}

fn is_loopback(authority: &str) -> bool {
    let port = authority
        .rsplit_once(':')
        .filter(|(_, port)| port.bytes().all(|digit| digit.is_ascii_digit()));
    let name = port.map_or(authority, |(name, _)| name);
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || address
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_this_machine() {
        for name in [
            "localhost:8080",
            "LOCALHOST",
            "127.0.0.1:1",
            "127.0.0.9",
            "[::1]:8080",
            "[::1]",
        ] {
            assert!(is_loopback(name), "{name}");
        }
        for name in [
            "",
            "evil.example:8080",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "192.168.0.1",
            "[::2]:80",
        ] {
            assert!(!is_loopback(name), "{name}");
        }
    }
}
