//! Requests to webhooks: JSON posted to an address, and a plain GET.

use super::address::SecretUrl;
use super::channel::{DEADLINE, DeliveryError};
use serde::Serialize;

/// Posts `body`; succeeds with any 2xx answer.
pub(super) async fn post(address: &SecretUrl, body: &impl Serialize) -> Result<(), DeliveryError> {
    let body = serde_json::to_string(body).map_err(|error| DeliveryError::Unwritable {
        reason: error.to_string(),
    })?;
    let url = address.expose().to_string();
    off_thread(move || {
        let request = agent().post(&url);
        let request = request.header("content-type", "application/json");
        Ok(request.send(body)?.status().as_u16())
    })
    .await
}

/// Requests an address.
pub(super) async fn get(address: &SecretUrl) -> Result<(), DeliveryError> {
    let url = address.expose().to_string();
    off_thread(move || Ok(agent().get(&url).call()?.status().as_u16())).await
}

/// Follows no redirects: one would carry the message, and with some servers the secret of the
/// address, to another host.
fn agent() -> ureq::Agent {
    let agent = ureq::Agent::config_builder()
        .timeout_global(Some(DEADLINE))
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .user_agent(concat!("twotower/", env!("CARGO_PKG_VERSION")));
    agent.build().new_agent()
}

async fn off_thread(
    call: impl FnOnce() -> Result<u16, ureq::Error> + Send + 'static,
) -> Result<(), DeliveryError> {
    let called = tokio::task::spawn_blocking(call).await;
    let called = called.map_err(|_| DeliveryError::Unreachable {
        reason: "the call ended without an answer".into(),
    })?;
    match called.map_err(|error| explained(&error))? {
        200..=299 => Ok(()),
        code @ 300..=399 => Err(DeliveryError::Redirect { code }),
        code => Err(DeliveryError::Answer { code }),
    }
}

/// Describes an error without ureq's own text, which may hold the address.
fn explained(error: &ureq::Error) -> DeliveryError {
    let reason = match error {
        ureq::Error::Timeout(_) => return DeliveryError::Deadline,
        ureq::Error::Tls(_) | ureq::Error::Rustls(_) => return DeliveryError::Tls,
        // An invalid certificate is reported as this kind of error.
        ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            return DeliveryError::Tls;
        }
        ureq::Error::Io(error) => error.kind().to_string(),
        ureq::Error::HostNotFound => "no such host".into(),
        ureq::Error::ConnectionFailed => "nobody answers".into(),
        ureq::Error::InvalidProxyUrl => "the proxy of the environment cannot be used".into(),
        _ => "what answers does not speak HTTP".into(),
    };
    DeliveryError::Unreachable { reason }
}
