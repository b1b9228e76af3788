//! The two towers: structure and forward path.

mod head;

mod item;

mod user;

mod user_weights;

pub use head::{Dense, GELU_SLOPE, Head, MIN_NORM};
pub use item::ItemTower;
pub use user::{COUNT_SCALE, HistoryState, UserTower};
