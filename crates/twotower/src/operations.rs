//! Unattended operation: jobs on a schedule, health checks, alerts, maintenance.

mod job;

mod place;

pub mod plan;

mod program;

mod run;

mod schedule;

pub mod check;

pub mod maintain;

pub mod backup;

pub mod restore;

pub mod bundle;

pub mod alert;

mod round;

pub use job::Job;
pub use place::Place;
pub use plan::Plan;
pub use program::Program;
pub use run::{End, Ended, Limits, RunError, RunOptions, RunReport, run, run_command};
pub use schedule::{ScheduleError, ScheduleOptions, ScheduleReport, schedule};

pub(crate) use program::stop_with_supervisor;
pub(crate) use run::left_to_retraining;
