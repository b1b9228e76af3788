//! Integration tests, in one binary.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "every function here is a test or serves one"
)]

mod support;

#[path = "../../../twotower-store/tests/it/template.rs"]
mod template;

#[cfg(target_os = "linux")]
mod preload;

#[cfg(target_os = "linux")]
mod supervised;

#[allow(dead_code, reason = "the store's own tests use the rest of it")]
#[path = "../../../twotower-store/tests/it/storage/server.rs"]
mod s3_server;

#[path = "../../../twotower-store/tests/it/storage/supabase_server.rs"]
#[allow(dead_code, reason = "the store's own tests use the rest of it")]
mod supabase_server;

mod whole_path;

mod heavy_compare;

mod publishing;

mod heavy_tune;

mod shards;

mod import;

mod export;

mod command_line;

mod life_cycle;

mod serve;

mod edge;

#[cfg(unix)]
mod replicas;

mod operations;

#[cfg(target_os = "linux")]
mod torture;
