//! Supabase Storage over its REST API with the project's service key, as an
//! [`object_store::ObjectStore`], so that publishing and fetching are written once.
//!
//! Routes, limits and error documents are those of <https://github.com/supabase/storage>.

mod key;

mod api;

mod bucket;

mod objects;

mod download;

mod resumable;

pub(super) use api::{Api, Failure};
pub(super) use key::{ApiKey, publishable, secret};
pub(super) use objects::SupabaseObjects;
pub(super) use resumable::TotalBytes;
