//! A fresh, migrated database for each test.

use std::ops::Deref;
use tempfile::TempDir;
use twotower_store::{ConnectOptions, Store};

/// A store with the file that goes with it.
pub(crate) struct TestStore {
    store: Store,
    _folder: TempDir,
}

impl Deref for TestStore {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

/// A migrated SQLite file.
pub(crate) async fn sqlite() -> TestStore {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/test.db", folder.path().display());
    let store = Store::connect(&url, ConnectOptions::default())
        .await
        .unwrap();
    store.migrate().await.unwrap();
    TestStore {
        store,
        _folder: folder,
    }
}
