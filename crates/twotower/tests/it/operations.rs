//! What runs by itself and looks after itself.

mod backup;

mod maintain;
