//! Experiments that compare two model versions: start, stop and report.

mod report;

use super::check::{VectorFault, check_vectors};
use super::publisher::Publisher;
use crate::config::Update;
use crate::interrupt::Interrupt;
use crate::time::day;
use anyhow::{Context, ensure};
pub(crate) use report::{MetricReport, Report, report};
use serde::Serialize;
use twotower_store::{ModelState, NewExperiment, Store, StoreError};

/// Options for starting an experiment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StartOptions {
    /// Version to compare with the active one.
    pub(crate) challenger: i64,
    /// Share of the users who get the challenger, between 0 and 1.
    pub(crate) share: f64,
    /// Who starts it.
    pub(crate) by: String,
    /// Why it is started.
    pub(crate) reason: String,
}

/// An experiment that was started.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Started {
    /// Number of the experiment.
    pub(crate) id: i64,
    /// The active version.
    pub(crate) control: i64,
    /// The version that is compared with it.
    pub(crate) challenger: i64,
    /// Share of the users who get the challenger.
    pub(crate) share: f64,
}

/// Starts to serve a version to a share of the users, beside the active one.
///
/// # Errors
/// If the version is not complete, no version is active, another experiment runs, another process
/// publishes, the user asks to stop, or the store fails.
pub(crate) async fn start(
    store: &Store,
    options: &StartOptions,
    settings: &Update,
    interrupt: &Interrupt,
) -> anyhow::Result<Started> {
    ensure!(
        options.share > 0.0 && options.share < 1.0,
        "--share is {}, expected more than 0 and less than 1",
        options.share
    );
    // Takes the lease, so that nobody prunes or activates between check and start.
    let publisher = Publisher::begin_or_fail(store, settings).await?;
    let started = begin(publisher.store(), options, interrupt).await;
    publisher.end().await;
    started
}

async fn begin(
    store: &Store,
    options: &StartOptions,
    interrupt: &Interrupt,
) -> anyhow::Result<Started> {
    let version = options.challenger;
    let control = store
        .active_model()
        .await?
        .context(
            "no version is active that the challenger could be compared with: promote one first",
        )?
        .version;
    ensure!(
        control != version,
        "version {version} is active: it is the control, name another one as the challenger"
    );
    let record = store.model_details(version).await?.record;
    match record.state {
        ModelState::Candidate | ModelState::Retired => {}
        state => return Err(StoreError::NotActivatable { version, state }.into()),
    }
    if let Some(at) = record.pruned_at_us {
        let on = day(at);
        return Err(VectorFault::Pruned { version, on }.into());
    }
    let checked = check_vectors(store, version, record.embedding_dim, None);
    interrupt.cut(checked).await???;
    let new = NewExperiment {
        control,
        challenger: version,
        share: options.share,
        by: options.by.clone(),
        reason: options.reason.clone(),
    };
    Ok(Started {
        id: store.start_experiment(&new).await?,
        control,
        challenger: version,
        share: options.share,
    })
}

/// Ends the running experiment, and returns its number. All users get the active version again.
///
/// # Errors
/// If no experiment runs, or the store fails.
pub(crate) async fn stop(store: &Store) -> anyhow::Result<i64> {
    store
        .stop_experiment()
        .await?
        .context("no experiment is running")
}
