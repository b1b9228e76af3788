//! What only PostgreSQL promises.

mod access;

mod connection;

mod guide;

mod schema;
