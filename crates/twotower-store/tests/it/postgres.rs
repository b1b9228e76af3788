//! What only PostgreSQL promises.
