//! What only PostgreSQL promises.

mod access;

mod connection;

mod erasure;

mod guide;

mod inspection;

mod definitions;

mod again;

mod lease;

mod schema;

mod own_tables;

mod migrations;

mod serving;

mod source;

mod maintenance;

mod restore;
