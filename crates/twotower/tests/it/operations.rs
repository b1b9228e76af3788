//! What runs by itself, looks after itself and calls for help.

mod processes;

mod run;

mod heavy_retrain;

mod schedule;

mod log;

mod week;
