//! Who is told what is wrong: once, again while it lasts, and when it is over.
//!
//! A round looks (`check::examine`), takes up what was found (`state`), and tells each channel what it has not been told yet. What was told
//! is written down (`ledger`) after it was told, so that a round that is killed in between tells it twice and never not at all.

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
pub use state::{Alert, Mark, Occasion, Phase};

use super::Place;
use super::check::{self, CATALOGUE, Finding, Scope};
use crate::config;
use crate::jobs::identity::host;
use crate::jobs::now_us;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use ledger::Ledger;
use message::{Item, Message, time};
use serde::{Serialize, Serializer};
use state::{Patience, State};
use std::path::Path;

/// What came of a round.
#[derive(Debug, Serialize)]
pub struct Told {
    /// What is wrong now.
    pub firing: Vec<Firing>,
    /// One for each channel that had something to be told, and for the heartbeat.
    pub deliveries: Vec<Delivery>,
}

impl Told {
    /// Channels that did not take what they were to be told.
    pub fn failed(&self) -> usize {
        let failed = self.deliveries.iter().filter(|it| it.error.is_some());
        failed.count()
    }
}

/// Something that is wrong, in short.
#[derive(Debug, Serialize)]
pub struct Firing {
    /// Check and subject.
    pub key: String,
    /// How bad it is.
    pub severity: check::Severity,
    /// RFC 3339.
    pub since: String,
    /// What was seen last.
    pub evidence: String,
}

/// Of one channel.
#[derive(Debug, Serialize)]
pub struct Delivery {
    /// Which.
    #[serde(serialize_with = "name")]
    pub channel: ChannelKind,
    /// How many alerts it was to be told of.
    pub alerts: usize,
    /// Why it was not.
    pub error: Option<String>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
fn name<S: Serializer>(kind: &ChannelKind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind.name())
}

/// Looks at everything that is watched and tells what is to be told.
///
/// # Errors
/// As [`tell`].
pub async fn watch(place: &Place) -> anyhow::Result<Told> {
    let findings = check::examine(place, Scope::Watched).await;
    tell(place, &findings, now_us()).await
}

/// Takes up what a round has found, and tells the channels of configuration and environment.
///
/// # Errors
/// As [`tell_through`].
pub async fn tell(place: &Place, findings: &[Finding], now_us: i64) -> anyhow::Result<Told> {
    let channels = from_environment(&place.config.alerts);
    tell_through(&channels, &place.config, findings, now_us).await
}

/// The channels of configuration and environment.
pub fn from_environment(alerts: &config::Alerts) -> Channels {
    Channels::configured(alerts, &|variable| std::env::var(variable).ok())
}

/// Takes up what a round has found, and tells `channels`. One that fails keeps no other from being told, and is tried again in the next
/// round; neither does a folder of state that cannot be written.
///
/// # Errors
/// If another round is at work for longer than any should be.
pub async fn tell_through(
    channels: &Channels,
    config: &config::Config,
    findings: &[Finding],
    now_us: i64,
) -> anyhow::Result<Told> {
    let ledger = Ledger::new(&config.run.state_dir);
    let patience = Patience::from(&config.alerts);
    let _lock = ledger.lock().await?;
    let mut state = ledger.load();
    let before = state.clone();
    state.observe(CATALOGUE, findings, now_us, &patience);
    log_changes(&before, &state);
    // Before anything is told: since when something has been wrong is not to be lost where a channel kills us.
    save(&ledger, &state);

    let round = Round {
        channels,
        runbook: &config.alerts.runbook,
        patience,
        now_us,
    };
    let mut deliveries = round.tell(&ledger, &mut state).await;
    let names: Vec<_> = channels.messengers().map(ChannelKind::name).collect();
    state.forget(&names, now_us, &patience);
    let saved = save(&ledger, &state);
    let whole = saved && deliveries.iter().all(|delivery| delivery.error.is_none());
    if whole && channels.all().any(|kind| kind == ChannelKind::Heartbeat) {
        deliveries.push(round.heartbeat().await);
    }
    Ok(Told {
        firing: firing(&state),
        deliveries,
    })
}

/// One time of looking and telling.
struct Round<'a> {
    channels: &'a Channels,
    runbook: &'a str,
    patience: Patience,
    now_us: i64,
}

impl Round<'_> {
    /// One message a channel, all at once; what arrived is written down as soon as it has.
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
            let occasion = alert.owed(kind.name(), self.now_us, &self.patience)?;
            Some(Item::new(alert, occasion, self.runbook, self.now_us))
        })
    }

    /// Says to somebody outside that a round went well, so that they notice when none does.
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

/// The log hears of it, too, whoever else does.
fn log_changes(before: &State, after: &State) {
    for alert in &after.alerts {
        let was = before.alerts.iter().find(|it| it.key() == alert.key());
        let was_firing = was.is_some_and(|it| it.phase == Phase::Firing);
        let key = alert.key();
        match alert.phase {
            // Who looks for ERROR or CRITICAL in the log finds it.
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
            since: time(alert.since_us),
            evidence: alert.evidence.clone(),
        })
        .collect()
}

/// What is wrong and was wrong a little while ago, as the last round left it.
pub fn list(state_dir: &Path) -> Vec<Alert> {
    Ledger::new(state_dir).load().alerts
}

/// Sends a test message on every one of `channels`, or on `only`.
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

/// A moment as people read it.
pub fn moment(at_us: i64) -> String {
    time(at_us)
}
