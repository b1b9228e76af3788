//! `twotower alert …`.

use super::args::GlobalArgs;
use super::output::print;
use crate::config::Config;
use crate::operations::alert::{self, Alert, ChannelKind, Delivery, Phase, RoundReport};
use crate::operations::check::Severity;
use crate::time::second_rfc3339;
use clap::{Args, Subcommand};
use thiserror::Error;

/// Arguments of `twotower alert`.
#[derive(Debug, Clone, Args)]
pub(crate) struct AlertArgs {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: AlertCommand,
}

impl AlertArgs {
    /// Whether this is the command that runs every few minutes.
    pub(super) fn is_watch(&self) -> bool {
        matches!(self.command, AlertCommand::Check)
    }
}

/// What to do with alerts.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum AlertCommand {
    /// Run the watched checks and send the alerts that are due; for a timer that calls every few minutes
    Check,
    /// List what is wrong, since when, and which channels were alerted, as of the last check
    List,
    /// Send a test message on each channel and say whether it arrived
    Test(TestArgs),
}

impl AlertCommand {
    /// Name in the line on success.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Check => "alert check",
            Self::List => "alert list",
            Self::Test(_) => "alert test",
        }
    }
}

/// Arguments of `twotower alert test`.
#[derive(Debug, Clone, Args)]
pub(crate) struct TestArgs {
    /// Only on this channel
    #[arg(long, value_name = "CHANNEL")]
    pub(crate) channel: Option<ChannelKind>,
}

/// Errors of the commands on alerts.
#[derive(Debug, Error)]
pub(super) enum AlertError {
    /// No channel is configured.
    #[error(
        "no channel is configured{}: set TWOTOWER_ALERT_WEBHOOK, TWOTOWER_ALERT_SLACK or TWOTOWER_SMTP_URL in the environment, or `command` in section \
         [alerts]",
        .0.map_or(String::new(), |kind| format!(" of the kind `{kind}`"))
    )]
    NoChannel(Option<ChannelKind>),
    /// A channel did not accept the message.
    #[error("{0} of the channels did not take the message: see above")]
    NotDelivered(usize),
}

/// Runs one of them.
pub(super) async fn run(
    args: &AlertArgs,
    config: &Config,
    global: &GlobalArgs,
) -> anyhow::Result<()> {
    match &args.command {
        AlertCommand::Check => check(config, global).await,
        AlertCommand::List => {
            let alerts = alert::list(&config.run.state_dir);
            print(global.json, &alerts, &table(&alerts))
        }
        AlertCommand::Test(args) => test(args, config, global).await,
    }
}

async fn check(config: &Config, global: &GlobalArgs) -> anyhow::Result<()> {
    let place = global.place(config);
    let told = alert::watch(&place).await?;
    print(global.json, &told, &describe(&told))?;
    match told.failed() {
        0 => Ok(()),
        failed => Err(AlertError::NotDelivered(failed).into()),
    }
}

async fn test(args: &TestArgs, config: &Config, global: &GlobalArgs) -> anyhow::Result<()> {
    let channels = alert::from_environment(&config.alerts);
    let deliveries = alert::test(&channels, args.channel).await;
    if deliveries.is_empty() {
        return Err(AlertError::NoChannel(args.channel).into());
    }
    let lines: Vec<_> = deliveries.iter().map(arrival).collect();
    print(global.json, &deliveries, &lines.join("\n"))?;
    let failed = deliveries.iter().filter(|it| it.error.is_some());
    match failed.count() {
        0 => Ok(()),
        failed => Err(AlertError::NotDelivered(failed).into()),
    }
}

fn arrival(delivery: &Delivery) -> String {
    match &delivery.error {
        None => format!("{}: arrived", delivery.channel),
        Some(error) => format!("{}: did NOT arrive: {error}", delivery.channel),
    }
}

fn describe(told: &RoundReport) -> String {
    let mut lines = Vec::new();
    if told.firing.is_empty() {
        lines.push("no alert fires".to_owned());
    }
    for alert in &told.firing {
        let severity = severity(alert.severity);
        lines.push(format!(
            "{severity:<8}  {}  since {}: {}",
            alert.key, alert.since, alert.evidence
        ));
    }
    lines.extend(told.deliveries.iter().map(|delivery| {
        let what = match delivery.channel {
            ChannelKind::Heartbeat => String::new(),
            _ => format!(" (alerts in the message: {})", delivery.alerts),
        };
        format!("{}{what}", arrival(delivery))
    }));
    lines.join("\n")
}

fn table(alerts: &[Alert]) -> String {
    if alerts.is_empty() {
        return "nothing is wrong, or nobody has looked yet: `twotower alert check` looks".into();
    }
    alerts.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn line(alert: &Alert) -> String {
    let phase = match alert.phase {
        Phase::Pending => "pending",
        Phase::Firing if alert.flapping => "flapping",
        Phase::Firing => "firing",
        Phase::Resolved { .. } => "over",
    };
    let told: Vec<_> = alert
        .told
        .iter()
        .map(|(channel, mark)| {
            let what = if mark.firing { "told" } else { "told the end" };
            format!("{channel} {what} {}", second_rfc3339(mark.at_us))
        })
        .collect();
    let told = if told.is_empty() {
        "nobody was told".into()
    } else {
        told.join(", ")
    };
    format!(
        "{:<8}  {phase:<8}  {}  since {}: {}; {told}",
        severity(alert.severity),
        alert.key(),
        second_rfc3339(alert.since_us),
        alert.evidence
    )
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "critical",
        Severity::Warning => "warning",
    }
}
