//! Alerts: a channel is told of a failure once, again while it lasts, and when it is over.
//!
//! A round runs the checks (`check::examine`), updates the state of alerts (`state`), and sends
//! each channel what it has not been told yet. The ledger (`ledger`) is written after a message was
//! sent, so that a round that is killed in between sends it twice rather than never.

mod state;

mod ledger;

mod message;

mod address;

mod http;

mod email;

mod command;

mod channel;

pub use address::AddressError;
pub use channel::{ChannelKind, Channels, DeliveryError};
pub use state::{Alert, LastMessage, Occasion, Phase};

use super::Place;
use super::check::{self, CATALOGUE, Finding, Scope};
use crate::config;
use crate::jobs::identity::host;
use crate::time::{now_us, second_rfc3339};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use ledger::Ledger;
use message::{Item, Message};
use serde::{Serialize, Serializer};
use state::{State, Timing};
use std::path::Path;

/// The result of a round.
#[derive(Debug, Serialize)]
pub struct RoundReport {
    /// Alerts that are firing.
    pub firing: Vec<Firing>,
    /// One for each channel that was owed a message, and one for the heartbeat.
    pub deliveries: Vec<Delivery>,
}

impl RoundReport {
    /// Number of deliveries that failed.
    pub fn failed(&self) -> usize {
        let failed = self.deliveries.iter().filter(|it| it.error.is_some());
        failed.count()
    }
}

/// An alert that is firing, in short.
#[derive(Debug, Serialize)]
pub struct Firing {
    /// The alert's key: check and subject.
    pub key: String,
    /// Severity of the check.
    pub severity: check::Severity,
    /// When it began, RFC 3339.
    pub since: String,
    /// The latest evidence.
    pub evidence: String,
}

/// One message on one channel.
#[derive(Debug, Serialize)]
pub struct Delivery {
    /// The channel.
    #[serde(serialize_with = "name")]
    pub channel: ChannelKind,
    /// Number of alerts in the message.
    pub alerts: usize,
    /// Why it was not delivered.
    pub error: Option<String>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
fn name<S: Serializer>(kind: &ChannelKind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind.name())
}

/// Runs all watched checks and sends what is owed.
///
/// # Errors
/// As [`tell`].
pub async fn watch(place: &Place) -> anyhow::Result<RoundReport> {
    let findings = check::examine(place, Scope::Watched).await;
    tell(place, &findings, now_us()).await
}

/// Updates the alerts with the findings of a round, and sends what is owed on the channels of
/// configuration and environment.
///
/// # Errors
/// As [`tell_through`].
pub async fn tell(place: &Place, findings: &[Finding], now_us: i64) -> anyhow::Result<RoundReport> {
    let channels = from_environment(&place.config.alerts);
    tell_through(&channels, &place.config, findings, now_us).await
}

/// The channels of configuration and environment.
pub fn from_environment(alerts: &config::Alerts) -> Channels {
    Channels::configured(alerts, &|variable| std::env::var(variable).ok())
}

/// Updates the alerts with the findings of a round, and sends what is owed on `channels`. A channel
/// that fails does not stop the others and is tried again in the next round; a state folder that
/// cannot be written does not stop them either.
///
/// # Errors
/// If another round holds the lock for longer than any round should take.
pub async fn tell_through(
    channels: &Channels,
    config: &config::Config,
    findings: &[Finding],
    now_us: i64,
) -> anyhow::Result<RoundReport> {
    let ledger = Ledger::new(&config.run.state_dir);
    let timing = Timing::from(&config.alerts);
    let _lock = ledger.lock().await?;
    let mut state = ledger.load();
    let before = state.clone();
    state.observe(CATALOGUE, findings, now_us, &timing);
    log_changes(&before, &state);
    // Saved before anything is sent: if this process is killed while it sends, the start of a
    // failure is not lost.
    save(&ledger, &state);

    let round = Round {
        channels,
        runbook: &config.alerts.runbook,
        timing,
        now_us,
    };
    let mut deliveries = round.tell(&ledger, &mut state).await;
    let names: Vec<_> = channels.messengers().map(ChannelKind::name).collect();
    state.forget(&names, now_us, &timing);
    let saved = save(&ledger, &state);
    let whole = saved && deliveries.iter().all(|delivery| delivery.error.is_none());
    if whole && channels.all().any(|kind| kind == ChannelKind::Heartbeat) {
        deliveries.push(round.heartbeat().await);
    }
    Ok(RoundReport {
        firing: firing(&state),
        deliveries,
    })
}

/// One round of checks and messages.
struct Round<'a> {
    channels: &'a Channels,
    runbook: &'a str,
    timing: Timing,
    now_us: i64,
}

impl Round<'_> {
    /// Sends one message per channel, all channels at once; a delivery is saved as soon as it has
    /// succeeded.
    async fn tell(&self, ledger: &Ledger, state: &mut State) -> Vec<Delivery> {
        let host = host();
        let messages = self.channels.messengers().filter_map(|kind| {
            let items: Vec<_> = self.owed(kind, state).collect();
            (!items.is_empty()).then(|| (kind, Message::of_alerts(items, &host, self.now_us)))
        });
        let messages: Vec<_> = messages.collect();
        let sending = messages.iter().map(async |(kind, message)| {
            let arrived = self.channels.deliver(*kind, message).await;
            (*kind, message, arrived)
        });
        let mut sending: FuturesUnordered<_> = sending.collect();
        let mut deliveries = Vec::new();
        while let Some((kind, message, arrived)) = sending.next().await {
            match &arrived {
                Ok(()) => {
                    for item in &message.alerts {
                        state.told(kind.name(), &item.key, item.status, self.now_us);
                    }
                    save(ledger, state);
                }
                Err(error) => {
                    tracing::error!(channel = kind.name(), "alerts did not arrive: {error}");
                }
            }
            deliveries.push(Delivery {
                channel: kind,
                alerts: message.alerts.len(),
                error: arrived.err().map(|error| error.to_string()),
            });
        }
        deliveries
    }

    fn owed(&self, kind: ChannelKind, state: &State) -> impl Iterator<Item = Item> {
        state.alerts.iter().filter_map(move |alert| {
            let occasion = alert.owed(kind.name(), self.now_us, &self.timing)?;
            Some(Item::new(alert, occasion, self.runbook, self.now_us))
        })
    }

    /// Tells an outside service that a round succeeded, so that the service notices when rounds
    /// stop.
    async fn heartbeat(&self) -> Delivery {
        let kind = ChannelKind::Heartbeat;
        let message = Message::test(&host(), self.now_us);
        let called = self.channels.deliver(kind, &message).await;
        if let Err(error) = &called {
            tracing::error!("the heartbeat did not arrive: {error}");
        }
        Delivery {
            channel: kind,
            alerts: 0,
            error: called.err().map(|error| error.to_string()),
        }
    }
}

fn save(ledger: &Ledger, state: &State) -> bool {
    let saved = ledger.save(state);
    if let Err(error) = &saved {
        tracing::error!("{error:#}: what is told now will be told again");
    }
    saved.is_ok()
}

/// Logs every change of state, whatever the channels are.
fn log_changes(before: &State, after: &State) {
    for alert in &after.alerts {
        let was = before.alerts.iter().find(|it| it.key() == alert.key());
        let was_firing = was.is_some_and(|it| it.phase == Phase::Firing);
        let key = alert.key();
        match alert.phase {
            // Logged as an error, for log monitors that look for ERROR or CRITICAL.
            Phase::Firing if !was_firing && alert.severity == check::Severity::Critical => {
                tracing::error!(
                    alert = key,
                    "CRITICAL, firing: {}; {}",
                    alert.evidence,
                    alert.fix
                );
            }
            Phase::Firing if !was_firing => {
                tracing::warn!(alert = key, "firing: {}; {}", alert.evidence, alert.fix);
            }
            Phase::Resolved { .. } if was_firing => tracing::info!(alert = key, "over"),
            _ => {}
        }
    }
}

fn firing(state: &State) -> Vec<Firing> {
    let firing = state.alerts.iter().filter(|it| it.phase == Phase::Firing);
    firing
        .map(|alert| Firing {
            key: alert.key(),
            severity: alert.severity,
            since: second_rfc3339(alert.since_us),
            evidence: alert.evidence.clone(),
        })
        .collect()
}

/// Alerts that are firing or were a short while ago, as the last round saved them.
pub fn list(state_dir: &Path) -> Vec<Alert> {
    Ledger::new(state_dir).load().alerts
}

/// Sends a test message on each of `channels`, or only on `only`.
pub async fn test(channels: &Channels, only: Option<ChannelKind>) -> Vec<Delivery> {
    let message = Message::test(&host(), now_us());
    let chosen = channels
        .all()
        .filter(|&it| only.is_none_or(|only| only == it));
    let sending = chosen.map(async |channel| {
        let arrived = channels.deliver(channel, &message).await;
        Delivery {
            channel,
            alerts: 0,
            error: arrived.err().map(|error| error.to_string()),
        }
    });
    futures_util::future::join_all(sending).await
}
