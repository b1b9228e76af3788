//! Promises of PostgreSQL alone.

mod access;

mod connection;

mod erasure;

mod guide;

mod inspection;

mod definitions;

mod again;

mod lease;

mod index_lease;

mod schema;

mod own_tables;

mod migrations;

mod serving;

mod source;

mod maintenance;

mod restore;
