//! What only PostgreSQL promises.

mod access;

mod connection;

mod guide;

mod lease;

mod schema;
