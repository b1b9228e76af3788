//! Files → database.
