//! What runs by itself, looks after itself and calls for help.

mod week;
