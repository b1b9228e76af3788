//! Channels over which alerts are sent, each with a deadline.

use super::address::{AddressError, SecretUrl};
use super::command;
use super::email::Email;
use super::http;
use super::message::Message;
use crate::config;
use clap::ValueEnum;
use std::fmt;
use std::time::Duration;
use thiserror::Error;

/// Time limit of one try.
pub(super) const DEADLINE: Duration = Duration::from_secs(10);

const TRIES: u32 = 2;

const PAUSE: Duration = Duration::from_secs(1);

/// The kinds of channels, one of each at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ChannelKind {
    /// JSON to an address of yours
    Webhook,
    /// An incoming webhook of Slack, or of a chat that takes the same
    Slack,
    /// Mail
    Email,
    /// A program
    Command,
    /// What is called after each round that went well
    Heartbeat,
}

impl ChannelKind {
    /// The spelling in commands and in the state file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Slack => "slack",
            Self::Email => "email",
            Self::Command => "command",
            Self::Heartbeat => "heartbeat",
        }
    }
}

impl fmt::Display for ChannelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a message was not delivered. Shows no address and nothing that a server said: either may
/// hold secrets.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DeliveryError {
    /// The configuration of the channel is invalid.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// Only half of what mail needs is given.
    #[error(
        "mail needs TWOTOWER_SMTP_URL, and email_from and email_to of section [alerts]: {missing} is missing"
    )]
    Incomplete {
        /// The missing half.
        missing: &'static str,
    },
    /// No answer within the deadline.
    #[error("no answer within {} s", DEADLINE.as_secs())]
    Deadline,
    /// No connection.
    #[error("no connection: {reason}")]
    Unreachable {
        /// The kind of error.
        reason: String,
    },
    /// The server refused. SMTP codes are included, though their meaning differs from HTTP's.
    #[error("the answer was {code}{}", hint(*code))]
    Answer {
        /// Status code of HTTP or SMTP.
        code: u16,
    },
    /// A redirect.
    #[error(
        "the answer was a redirect ({code}), which is not followed with a secret address: give the final one"
    )]
    Redirect {
        /// HTTP status code.
        code: u16,
    },
    /// The certificate is invalid, or the server offers no encryption.
    #[error("no encrypted connection: certificate or protocol do not fit")]
    Tls,
    /// The message cannot be encoded for this channel.
    #[error("the message cannot be written as mail: {reason}")]
    Unwritable {
        /// Why not.
        reason: String,
    },
    /// The program cannot be started.
    #[error("`{program}` cannot be started: {reason}")]
    Start {
        /// The first word of `command`.
        program: String,
        /// Kind of the system's error.
        reason: std::io::ErrorKind,
    },
    /// The program failed.
    #[error("`{program}` {outcome}")]
    Program {
        /// The first word of `command`.
        program: String,
        /// How it ended.
        outcome: String,
    },
}

fn hint(code: u16) -> &'static str {
    match code {
        401 | 403 | 404 | 410 => ": the address is not, or no longer, valid",
        535 => ": user or password is wrong",
        530 => ": the server wants a user and a password",
        550..=554 => ": the server does not take mail for this recipient, or from this sender",
        _ => "",
    }
}

/// Where messages are sent.
#[derive(Debug, Clone)]
enum Channel {
    Webhook(SecretUrl),
    Slack(SecretUrl),
    Email(Box<Email>),
    Command(Vec<String>),
    Heartbeat(SecretUrl),
}

impl Channel {
    async fn attempt(&self, message: &Message) -> Result<(), DeliveryError> {
        match self {
            Self::Webhook(address) => http::post(address, message).await,
            Self::Slack(address) => {
                let body = serde_json::json!({ "text": message.markup() });
                http::post(address, &body).await
            }
            Self::Email(email) => email.send(message).await,
            Self::Command(command) => command::run(command, message).await,
            Self::Heartbeat(address) => http::get(address).await,
        }
    }

    /// Sends the message, with a second try if the first fails.
    async fn deliver(&self, message: &Message) -> Result<(), DeliveryError> {
        for _ in 1..TRIES {
            if self.attempt(message).await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
        self.attempt(message).await
    }
}

/// All channels of configuration and environment.
#[derive(Debug, Clone)]
pub struct Channels {
    channels: Vec<(ChannelKind, Result<Channel, DeliveryError>)>,
}

impl Channels {
    /// Reads configuration and environment. A channel with an invalid configuration stays in the
    /// list, so that each round reports it.
    pub fn configured(
        alerts: &config::Alerts,
        environment: &impl Fn(&str) -> Option<String>,
    ) -> Self {
        use ChannelKind::{Command, Heartbeat, Slack, Webhook};
        let example = "https://host/path";
        let web = |variable| SecretUrl::given(variable, ["https", "http"], example, environment);
        let mut channels = Vec::new();
        let mut add = |kind, channel: Result<Option<Channel>, DeliveryError>| {
            channels.extend(channel.transpose().map(|channel| (kind, channel)));
        };
        let of_web = |variable, channel: fn(SecretUrl) -> Channel| {
            let address = web(variable)?;
            Ok::<_, DeliveryError>(address.map(channel))
        };
        add(Webhook, of_web("TWOTOWER_ALERT_WEBHOOK", Channel::Webhook));
        add(Slack, of_web("TWOTOWER_ALERT_SLACK", Channel::Slack));
        let email = Email::configured(alerts, environment);
        add(
            ChannelKind::Email,
            email.map(|email| email.map(|email| Channel::Email(Box::new(email)))),
        );
        let command = Some(&alerts.command).filter(|command| !command.is_empty());
        add(Command, Ok(command.cloned().map(Channel::Command)));
        add(
            Heartbeat,
            of_web("TWOTOWER_ALERT_HEARTBEAT", Channel::Heartbeat),
        );
        Self { channels }
    }

    /// The channels that carry messages.
    pub fn messengers(&self) -> impl Iterator<Item = ChannelKind> {
        let kinds = self.channels.iter().map(|(kind, _)| *kind);
        kinds.filter(|&kind| kind != ChannelKind::Heartbeat)
    }

    /// All channels, including the heartbeat.
    pub fn all(&self) -> impl Iterator<Item = ChannelKind> {
        self.channels.iter().map(|(kind, _)| *kind)
    }

    /// Sends a message on one channel; does nothing if that is not configured.
    pub(super) async fn deliver(
        &self,
        kind: ChannelKind,
        message: &Message,
    ) -> Result<(), DeliveryError> {
        match self.channels.iter().find(|(it, _)| *it == kind) {
            Some((_, Ok(channel))) => channel.deliver(message).await,
            Some((_, Err(error))) => Err(error.clone()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_that_cannot_be_used_stays_to_say_so() {
        let environment = |name: &str| match name {
            "TWOTOWER_ALERT_WEBHOOK" => Some("canary".to_owned()),
            "TWOTOWER_SMTP_URL" => Some("smtps://user:canary@mail.example".to_owned()),
            _ => None,
        };
        let alerts = config::Alerts {
            command: vec!["/bin/true".into()],
            ..config::Alerts::default()
        };
        let channels = Channels::configured(&alerts, &environment);
        let kinds: Vec<_> = channels.messengers().collect();
        assert_eq!(
            kinds,
            [
                ChannelKind::Webhook,
                ChannelKind::Email,
                ChannelKind::Command
            ]
        );
        let shown = format!("{channels:?}");
        assert!(!shown.contains("canary"), "{shown}");
        assert!(shown.contains("email_to"), "{shown}");
    }
}
