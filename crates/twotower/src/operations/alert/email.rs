//! Mail by SMTP: encrypted from the start (`smtps://`), or after STARTTLS (`smtp://`), which is
//! mandatory unless the server is this machine.

use super::address::{AddressError, SecretUrl};
use super::channel::{DEADLINE, DeliveryError};
use super::message::Message;
use crate::config;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Mailboxes, header};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use percent_encoding::percent_decode_str;
use std::fmt;

const VARIABLE: &str = "TWOTOWER_SMTP_URL";

const EXAMPLE: &str = "smtps://user:password@host:465, or smtp:// for STARTTLS";

/// A mail server, sender and recipients.
#[derive(Clone)]
pub(super) struct Email {
    server: SecretUrl,
    credentials: Option<Credentials>,
    from: Mailbox,
    to: Mailboxes,
}

impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Email").finish_non_exhaustive()
    }
}

impl Email {
    /// Reads configuration and environment; `None` if neither server nor recipients are given.
    pub(super) fn configured(
        alerts: &config::Alerts,
        environment: &impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, DeliveryError> {
        let server = SecretUrl::given(VARIABLE, ["smtps", "smtp"], EXAMPLE, environment)?;
        let missing = |missing| Err(DeliveryError::Incomplete { missing });
        let server = match (server, alerts.email_to.is_empty()) {
            (None, true) => return Ok(None),
            (None, false) => return missing(VARIABLE),
            (Some(_), true) => return missing("email_to"),
            (Some(server), false) => server,
        };
        // Both addresses were validated with the configuration.
        let Ok(from) = alerts.email_from.parse() else {
            return missing("email_from");
        };
        let to = alerts.email_to.iter().filter_map(|text| text.parse().ok());
        let credentials = credentials(&server)?;
        Ok(Some(Self {
            credentials,
            from,
            to: to.collect::<Vec<Mailbox>>().into(),
            server,
        }))
    }

    /// Hands one mail for all recipients to the server.
    pub(super) async fn send(&self, message: &Message) -> Result<(), DeliveryError> {
        let mail = self.mail(message)?;
        let transport = self.transport()?;
        match tokio::time::timeout(DEADLINE, transport.send(mail)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(explained(&error)),
            Err(_) => Err(DeliveryError::Deadline),
        }
    }

    fn transport(&self) -> Result<AsyncSmtpTransport<Tokio1Executor>, DeliveryError> {
        let url = self.server.expose();
        let host = url.host_str().unwrap_or_default();
        // A URL has IPv6 addresses in brackets, which a host name must not have.
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let parameters = || TlsParameters::new(host.clone()).map_err(|_| DeliveryError::Tls);
        let (tls, usual_port) = if url.scheme() == "smtps" {
            (Tls::Wrapper(parameters()?), 465)
        } else if self.server.is_loopback() {
            (Tls::None, 25)
        } else {
            (Tls::Required(parameters()?), 587)
        };
        let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host)
            .port(url.port().unwrap_or(usual_port))
            .hello_name(own_name())
            .timeout(Some(DEADLINE))
            .tls(tls);
        if let Some(credentials) = &self.credentials {
            transport = transport.credentials(credentials.clone());
        }
        Ok(transport.build())
    }

    fn mail(&self, message: &Message) -> Result<lettre::Message, DeliveryError> {
        let unwritable = |error: lettre::error::Error| DeliveryError::Unwritable {
            reason: error.to_string(),
        };
        let domain = self.from.email.domain();
        let mut mail = lettre::Message::builder()
            .mailbox(header::From::from(Mailboxes::from(self.from.clone())))
            .mailbox(header::To::from(self.to.clone()))
            .message_id(Some(format!("<{}@{domain}>", message.id)))
            .subject(message.subject())
            .header(ContentType::TEXT_PLAIN)
            .body(message.text())
            .map_err(unwritable)?;
        // Prevents automatic replies such as absence notices (RFC 3834).
        let automatic = HeaderName::new_from_ascii_str("Auto-Submitted");
        mail.headers_mut()
            .insert_raw(HeaderValue::new(automatic, "auto-generated".into()));
        Ok(mail)
    }
}

/// Leaves out a host name whose form a server may refuse.
fn own_name() -> ClientId {
    let host = crate::jobs::identity::host();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
    if host.bytes().all(plain) {
        ClientId::Domain(host)
    } else {
        ClientId::default()
    }
}

fn credentials(server: &SecretUrl) -> Result<Option<Credentials>, AddressError> {
    let url = server.expose();
    let Some(password) = url.password() else {
        return Ok(None);
    };
    let decoded = |text: &str| {
        let text = percent_decode_str(text).decode_utf8();
        let text = text.map_err(|_| AddressError::Malformed {
            variable: VARIABLE.into(),
            example: EXAMPLE,
        })?;
        Ok::<_, AddressError>(text.into_owned())
    };
    Ok(Some(Credentials::new(
        decoded(url.username())?,
        decoded(password)?,
    )))
}

fn explained(error: &lettre::transport::smtp::Error) -> DeliveryError {
    if let Some(code) = error.status() {
        return DeliveryError::Answer {
            code: u16::from(code),
        };
    }
    if error.is_timeout() {
        return DeliveryError::Deadline;
    }
    if error.is_tls() {
        return DeliveryError::Tls;
    }
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            return match error.kind() {
                std::io::ErrorKind::InvalidData => DeliveryError::Tls,
                kind => DeliveryError::Unreachable {
                    reason: kind.to_string(),
                },
            };
        }
        cause = error.source();
    }
    let reason = if error.is_client() {
        "the server offers no STARTTLS, or no way to log in that is known here"
    } else {
        "the server does not speak SMTP as it should"
    };
    DeliveryError::Unreachable {
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn email(url: &str) -> Email {
        let alerts = config::Alerts {
            email_from: "Two Tower <alerts@team.example>".into(),
            email_to: vec!["a@team.example".into(), "b@team.example".into()],
            ..config::Alerts::default()
        };
        let url = url.to_owned();
        let environment = move |name: &str| (name == VARIABLE).then(|| url.clone());
        Email::configured(&alerts, &environment).unwrap().unwrap()
    }

    #[test]
    fn user_and_password_are_decoded() {
        let email = email("smtps://me%40team.example:a+b&c%2F%3D@mail.example");
        let expected = Credentials::new("me@team.example".into(), "a+b&c/=".into());
        assert_eq!(email.credentials, Some(expected));
        assert!(!format!("{email:?}").contains("team.example"));
    }

    #[test]
    fn one_mail_goes_to_all() {
        let message = Message::test("db1", 0);
        let mail = email("smtp://localhost").mail(&message).unwrap();
        let recipients: Vec<_> = mail
            .envelope()
            .to()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(recipients, ["a@team.example", "b@team.example"]);
        let text = String::from_utf8(mail.formatted()).unwrap();
        assert!(text.contains("Auto-Submitted: auto-generated"), "{text}");
        assert!(text.contains("Date: "), "{text}");
    }
}
