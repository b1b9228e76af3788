//! What runs by itself, looks after itself and calls for help.

mod backup;

mod maintain;

mod doctor;

mod receiver;

mod smtp;

mod alerts;

mod dashboards;

mod week;
