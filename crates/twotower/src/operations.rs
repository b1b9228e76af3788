//! What runs by itself, looks after itself and calls for help: jobs on a schedule, checks of everything, alerts, upkeep.

mod job;

mod place;

pub mod plan;

pub mod check;

pub mod alert;

pub use job::Job;
pub use place::Place;
pub use plan::Plan;
