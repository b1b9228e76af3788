//! Maintenance of the tables, at night: does what is worthwhile, and gives way to others who hold
//! locks.

mod plan;

mod window;

pub use window::Window;

use crate::config::Maintenance;
use crate::interrupt::Interrupt;
use crate::jobs::JobError;
use crate::time::now_us;
use anyhow::Context;
use jiff::tz::TimeZone;
use plan::{Planned, plan};
use serde::Serialize;
use std::time::{Duration, Instant};
use twotower_store::{Health, StepLimits, Store, StoreError, Upkeep};

/// Time limit of one step if no window limits it.
const STEP: Duration = Duration::from_hours(4);

/// Options of a maintenance.
#[derive(Debug, Clone)]
pub struct MaintainOptions {
    /// Thresholds of what is worthwhile.
    pub settings: Maintenance,
    /// When to work; `None` works at once, whatever the time.
    pub window: Option<Window>,
    /// Time zone of the window.
    pub time_zone: TimeZone,
    /// Memory limit of building an index, megabytes.
    pub index_memory_mb: u64,
    /// Checks everything and changes nothing.
    pub dry_run: bool,
}

/// Outcome of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Done.
    Done,
    /// It would be done.
    Planned,
    /// A lock on the table was not available, twice.
    GaveWay,
    /// The window had ended.
    NoTime,
    /// It failed.
    Failed,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    /// What the step does.
    pub action: &'static str,
    /// The table, index or file that it works on.
    pub target: String,
    /// Why it is worthwhile.
    pub reason: String,
    /// The outcome.
    pub outcome: Outcome,
    /// Number of rows deleted.
    pub rows: u64,
    /// Dead rows of a table before.
    pub dead_rows_before: Option<u64>,
    /// Dead rows afterwards, by the server's statistics.
    pub dead_rows_after: Option<u64>,
    /// Size before, bytes.
    pub bytes_before: Option<u64>,
    /// Size afterwards, bytes.
    pub bytes_after: Option<u64>,
    /// Wall time, seconds.
    pub seconds: f64,
    /// The error, if it failed.
    pub error: Option<String>,
}

/// What was done, or would be done.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MaintainReport {
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// Whether the time was in the window.
    pub in_window: bool,
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// Tables that the role has no right to maintain.
    pub not_permitted: Vec<String>,
    /// Wall time, seconds.
    pub seconds: f64,
}

impl MaintainReport {
    /// Describes faults that must not go unnoticed.
    pub fn trouble(&self) -> Option<String> {
        // A missing right is the reason for most other failures, so it comes first.
        if !self.not_permitted.is_empty() {
            return Some(format!(
                "the database role may do no upkeep on {}: run this as the owner of the tables (PostgreSQL 17 and later: GRANT MAINTAIN)",
                self.not_permitted.join(", ")
            ));
        }
        let mut steps = self.steps.iter();
        let step = steps.find(|step| step.outcome == Outcome::Failed)?;
        let error = step.error.as_deref().unwrap_or_default();
        Some(format!("{} {}: {error}", step.action, step.target))
    }
}

/// Checks everything, and does what is worthwhile within the window. A step that fails or gives way
/// does not stop the others.
///
/// # Errors
/// If the database cannot be examined, or on an interrupt between two steps.
pub async fn maintain(
    store: &Store,
    options: &MaintainOptions,
    interrupt: &Interrupt,
) -> anyhow::Result<MaintainReport> {
    let started = Instant::now();
    let mut report = MaintainReport {
        dry_run: options.dry_run,
        in_window: options.left().is_some(),
        steps: Vec::new(),
        not_permitted: Vec::new(),
        seconds: 0.0,
    };
    if !report.in_window && !options.dry_run {
        return Ok(report);
    }
    let before = look(store).await?;
    let forbidden = before.tables.iter().filter(|table| !table.permitted);
    report.not_permitted = forbidden.map(|table| table.name.clone()).collect();
    let planned = plan(&before, &options.settings, now_us());
    let work = Work {
        store,
        options,
        interrupt,
    };
    work.run(planned, &mut report.steps).await?;
    if !options.dry_run {
        work.clear(&mut report.steps).await?;
        let after = look(store).await?;
        for step in &mut report.steps {
            step.dead_rows_after = dead_rows(&after, &step.target);
            step.bytes_after = bytes(&after, &step.target);
        }
    }
    for step in &mut report.steps {
        step.dead_rows_before = dead_rows(&before, &step.target);
        step.bytes_before = bytes(&before, &step.target);
    }
    report.seconds = started.elapsed().as_secs_f64();
    Ok(report)
}

impl MaintainOptions {
    /// Time left in the window.
    fn left(&self) -> Option<Duration> {
        match self.window {
            Some(window) => window.left(now_us(), &self.time_zone),
            None => Some(STEP),
        }
    }
}

async fn look(store: &Store) -> anyhow::Result<Health> {
    let health = store.health().await;
    health.context("look at tables and indexes")
}

struct Work<'a> {
    store: &'a Store,
    options: &'a MaintainOptions,
    interrupt: &'a Interrupt,
}

impl Work<'_> {
    /// Runs the steps. Those that gave way get a second try after the others.
    async fn run(&self, planned: Vec<Planned>, steps: &mut Vec<Step>) -> anyhow::Result<()> {
        let mut again = Vec::new();
        for one in planned {
            let step = self.step(&one).await?;
            if step.outcome == Outcome::GaveWay {
                again.push((steps.len(), one));
            }
            steps.push(step);
        }
        for (place, one) in again {
            steps[place] = self.step(&one).await?;
        }
        Ok(())
    }

    /// Drops the invalid index that a failed rebuild leaves, since every write would maintain it.
    async fn clear(&self, steps: &mut Vec<Step>) -> anyhow::Result<()> {
        let unfinished =
            |step: &Step| step.action == "rebuild index" && step.outcome != Outcome::Done;
        if !steps.iter().any(unfinished) {
            return Ok(());
        }
        let mut planned = plan(&look(self.store).await?, &self.options.settings, now_us());
        planned.retain(|one| matches!(one.step, Upkeep::Drop { .. }));
        self.run(planned, steps).await
    }

    async fn step(&self, planned: &Planned) -> anyhow::Result<Step> {
        if self.interrupt.is_set() {
            return Err(JobError::Interrupted.into());
        }
        let started = Instant::now();
        let mut step = Step {
            action: planned.action,
            target: planned.target.clone(),
            reason: planned.reason.clone(),
            outcome: Outcome::Planned,
            rows: 0,
            dead_rows_before: None,
            dead_rows_after: None,
            bytes_before: None,
            bytes_after: None,
            seconds: 0.0,
            error: None,
        };
        if self.options.dry_run {
            return Ok(step);
        }
        // The time left is read anew before each step.
        let Some(left) = self.options.left() else {
            step.outcome = Outcome::NoTime;
            return Ok(step);
        };
        let limits = StepLimits {
            lock: Duration::from_millis(self.options.settings.lock_ms.into()),
            statement: left.min(STEP),
            memory_mb: self.options.index_memory_mb,
        };
        let done = self.store.maintain(&planned.step, limits).await;
        step.seconds = started.elapsed().as_secs_f64();
        let name = format!("{} {}", step.action, step.target);
        match done {
            Ok(rows) => {
                step.outcome = Outcome::Done;
                step.rows = rows;
                tracing::info!("{name}: done in {:.1} s ({})", step.seconds, step.reason);
                return Ok(step);
            }
            Err(error @ StoreError::Busy(_)) => {
                step.outcome = Outcome::GaveWay;
                step.error = Some(error.to_string());
                tracing::warn!("{name}: somebody keeps it locked, so that this gives way: {error}");
            }
            Err(error @ (StoreError::Cancelled(_) | StoreError::Deadline { .. })) => {
                step.outcome = Outcome::NoTime;
                step.error = Some(error.to_string());
                tracing::warn!("{name}: its time is over: {error}");
            }
            // Without a database, further steps are pointless.
            Err(error) if error.is_outage() => return Err(error).context(name),
            Err(error) => {
                step.outcome = Outcome::Failed;
                step.error = Some(error.to_string());
                tracing::warn!("{name}: {error}");
            }
        }
        Ok(step)
    }
}

fn dead_rows(health: &Health, target: &str) -> Option<u64> {
    let table = health.tables.iter().find(|table| table.name == target)?;
    Some(table.dead_rows)
}

fn bytes(health: &Health, target: &str) -> Option<u64> {
    let tables = health.tables.iter().map(|table| (&table.name, table.bytes));
    let indexes = health
        .indexes
        .iter()
        .map(|index| (&index.name, index.bytes));
    let of_database = tables.chain(indexes).find(|(name, _)| *name == target);
    let of_file = health.file.filter(|_| target == "database file");
    of_database
        .map(|(_, bytes)| bytes)
        .or(of_file.map(|file| file.bytes))
}
