use super::*;
use crate::jobs::JobError;
use std::fs;
use twotower_store::ConnectOptions;

#[tokio::test]
async fn a_number_is_above_those_that_there_are() {
    let options = ConnectOptions::default();
    let store = Store::connect("sqlite::memory:", options).await.unwrap();
    store.migrate().await.unwrap();
    let models = tempfile::tempdir().unwrap();
    let make = |name: &str| fs::create_dir(models.path().join(name)).unwrap();
    let interrupt = Interrupt::default();
    let next = || next_version(&store, models.path(), &interrupt);
    assert_eq!(next().await.unwrap(), 1);
    // The database was restored.
    make("9");
    assert_eq!(next().await.unwrap(), 10);
    make("20");
    interrupt.set();
    let error = next().await.unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(JobError::Interrupted)));
    // A copy that is named by its date is out of reach: no number is drawn in vain.
    make("20261129");
    let interrupt = Interrupt::default();
    let version = next_version(&store, models.path(), &interrupt).await;
    assert_eq!(version.unwrap(), 21);
}
