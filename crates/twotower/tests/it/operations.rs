//! Unattended operation: jobs, checks, alerts, maintenance.

mod processes;

mod run;

mod retrain;

mod heavy_retrain;

mod schedule;

mod log;

mod stop;

mod backup;

mod maintain;

mod doctor;

mod receiver;

mod smtp;

mod alerts;

mod dashboards;

#[cfg(target_os = "linux")]
mod week;
