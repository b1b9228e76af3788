//! The database that the tests of a run clone, for the tests of the binary too: nextest gives each
//! test a process of its own, so it is found by its name.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

/// Name of the migrated database; migrations that differ give another one.
pub(crate) fn name() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../supabase/migrations");
    let files =
        std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    let mut hasher = DefaultHasher::new();
    for file in &files {
        file.file_name().hash(&mut hasher);
        std::fs::read(file).unwrap().hash(&mut hasher);
    }
    format!("twotower_template_{:016x}", hasher.finish())
}

/// Offers the migrated database `made`, which nobody uses, as the template. Fails if there is one
/// already. Renamed last, so a process that dies leaves no template that is half made.
pub(crate) fn offer(made: &str) -> String {
    format!(
        "ALTER DATABASE {made} ALLOW_CONNECTIONS false; ALTER DATABASE {made} RENAME TO {}",
        name()
    )
}

/// What a database gets by chance when it is migrated, and its clone must not share.
pub(crate) const OWN_SECRETS: &str = "
    UPDATE twotower.tombstone_salt SET salt = uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid());
    UPDATE twotower.change_key SET key = uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())";
