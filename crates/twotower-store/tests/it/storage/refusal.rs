//! Refusals and their messages.

use super::place::{Place, go_on, key, save, settings, supabase_settings, trusted};
use super::server::{BUCKET, SECRET_ACCESS_KEY, credentials};
use super::supabase_server::{Opening, variables, wrong_key};
use std::fs;
use twotower_store::model_storage::{
    Address, FetchOptions, ModelStorage, PublishOptions, StorageError, StorageSettings,
    verify_folder,
};

#[tokio::test]
async fn only_models_of_trusted_signers_are_taken() {
    for place in Place::all() {
        place.save(1);
        place.publish(1).await.unwrap();
        let error = place.fetch(&trusted(2)).await.unwrap_err();
        assert!(matches!(error, StorageError::Signature { .. }), "{error}");
        // The message includes the cause, and printing a chain of errors does not repeat it.
        assert!(std::error::Error::source(&error).is_none());
        assert!(error.to_string().contains(&key(1).public().id()), "{error}");

        let signature = place.stored(1, "manifest.json.sig");
        let good = fs::read(&signature).unwrap();
        fs::remove_file(&signature).unwrap();
        let error = place.fetch(&trusted(1)).await.unwrap_err();
        assert!(matches!(error, StorageError::Unsigned { .. }), "{error}");
        place.nothing_fetched();

        let output = place.output();
        let options = FetchOptions {
            version: None,
            output_dir: &output,
            trusted: &[],
            allow_unsigned: false,
            embedding_dim: None,
        };
        let error = place.storage.fetch(&options, &go_on).await.unwrap_err();
        assert!(matches!(error, StorageError::NoTrustedKeys), "{error}");
        assert!(error.is_usage());

        // Trusted keys take precedence over accepting unsigned models.
        let trusted = trusted(2);
        let options = FetchOptions {
            allow_unsigned: true,
            trusted: &trusted,
            ..options
        };
        fs::write(&signature, &good).unwrap();
        place.storage.fetch(&options, &go_on).await.unwrap_err();
        place.nothing_fetched();
        place.fetch(&[]).await.unwrap();
    }
}

#[tokio::test]
async fn an_old_key_and_a_new_one_are_trusted_at_once() {
    let place = Place::on_folder();
    let folder = place.save(1);
    place.publish(1).await.unwrap();
    place.save(2);
    let signing_key = key(2);
    let options = PublishOptions {
        folder: &folder.with_file_name("2"),
        signing_key: Some(&signing_key),
        dry_run: false,
    };
    place.storage.publish(&options, &go_on).await.unwrap();
    let both = [key(1).public(), key(2).public()];
    assert_eq!(place.fetch(&both).await.unwrap().key_id, Some(both[1].id()));
    fs::remove_dir_all(place.stored(2, "")).unwrap();
    let fetched = place.fetch(&both).await.unwrap();
    assert_eq!(fetched.key_id, Some(both[0].id()));
    let error = verify_folder(&fetched.path, &both[1..]).unwrap_err();
    assert!(matches!(error, StorageError::Signature { .. }), "{error}");
}

#[tokio::test]
async fn a_model_of_another_dimension_is_refused() {
    let place = Place::on_folder();
    place.save(1);
    place.publish(1).await.unwrap();
    let (output, trusted) = (place.output(), trusted(1));
    let options = FetchOptions {
        version: Some(1),
        output_dir: &output,
        trusted: &trusted,
        allow_unsigned: false,
        embedding_dim: Some(64),
    };
    let error = place.storage.fetch(&options, &go_on).await.unwrap_err();
    assert!(
        error.to_string().contains("4 dimensions, expected 64"),
        "{error}"
    );
    place.nothing_fetched();
    let options = FetchOptions {
        version: Some(2),
        ..options
    };
    let error = place.storage.fetch(&options, &go_on).await.unwrap_err();
    assert!(
        matches!(error, StorageError::Missing { version: 2, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_public_bucket_gets_nothing_and_gives_nothing() {
    let place = Place::on_s3();
    let server = place.server.as_ref().unwrap();
    place.save(1);
    server.set_public(true);
    let error = place.publish(1).await.unwrap_err();
    assert!(matches!(error, StorageError::Public { .. }), "{error}");
    assert!(
        error.to_string().contains("Make the bucket private"),
        "{error}"
    );
    assert!(
        server.keys("pre/fix/models/1").is_empty(),
        "neither model nor probe"
    );

    server.set_public(false);
    place.publish(1).await.unwrap();
    server.set_public(true);
    let error = place.fetch(&trusted(1)).await.unwrap_err();
    assert!(matches!(error, StorageError::Public { .. }), "{error}");
    place.nothing_fetched();
}

#[tokio::test]
async fn wrong_credentials_are_refused_and_never_shown() {
    let place = Place::on_s3();
    let server = place.server.as_ref().unwrap();
    place.save(1);
    let settings = settings(
        Address::parse(&format!("s3://{BUCKET}")).unwrap(),
        Some(server.endpoint()),
    );
    let wrong =
        |name: &str| credentials(name).map(|value| value.replace("access-key", "other-key"));
    let storage = ModelStorage::open(&settings, |name| match name {
        "AWS_ACCESS_KEY_ID" => credentials(name),
        "AWS_SESSION_TOKEN" => Some("canary-token".into()),
        _ => wrong(name),
    })
    .unwrap();
    let signing_key = key(1);
    let options = PublishOptions {
        folder: place.here.path(),
        signing_key: Some(&signing_key),
        dry_run: false,
    };
    let error = storage.publish(&options, &go_on).await.unwrap_err();
    let text = format!("{error} {error:?} {storage:?} {options:?}");
    assert!(text.contains("SignatureDoesNotMatch"), "{text}");
    assert!(
        !text.contains("canary") && !text.contains(&key(1).to_text()),
        "{text}"
    );
    assert!(!text.contains(SECRET_ACCESS_KEY), "{text}");
    assert!(!error.is_outage());
}

#[tokio::test]
async fn a_bucket_of_supabase_that_is_open_in_any_way_gets_nothing() {
    for opening in [Opening::Public, Opening::Policy] {
        let place = Place::on_supabase();
        let server = place.supabase.as_ref().unwrap();
        place.save(1);
        server.make_bucket();
        server.open(opening);
        let error = place.publish(1).await.unwrap_err();
        let public = matches!(
            error,
            StorageError::PublicBucket { .. } | StorageError::Public { .. }
        );
        assert!(public, "{opening:?}: {error}");
        assert!(server.keys("pre/fix/models/1").is_empty(), "{opening:?}");

        server.open(Opening::None);
        place.publish(1).await.unwrap();
        server.open(opening);
        place.fetch(&trusted(1)).await.unwrap_err();
        place.nothing_fetched();
    }
}

#[tokio::test]
async fn a_key_of_either_kind_opens_the_bucket_and_another_one_does_not() {
    let place = Place::on_supabase();
    let server = place.supabase.as_ref().unwrap();
    place.save(1);
    let settings = supabase_settings(server);
    let signing_key = key(1);
    let options = PublishOptions {
        folder: place.here.path(),
        signing_key: Some(&signing_key),
        dry_run: false,
    };
    for name in ["SUPABASE_SERVICE_ROLE_KEY", "SUPABASE_SECRET_KEYS"] {
        let wrong = |asked: &str| (asked == name).then(|| wrong_key(name));
        let storage = ModelStorage::open(&settings, wrong).unwrap();
        let error = storage.publish(&options, &go_on).await.unwrap_err();
        let text = format!("{error} {error:?} {storage:?}");
        assert!(text.contains("bucket models"), "{text}");
        assert!(!text.contains("canary"), "{text}");
        assert!(!error.is_outage() && server.is_public().is_none());
    }
    for name in ["SUPABASE_SERVICE_ROLE_KEY", "SUPABASE_SECRET_KEYS"] {
        let right = |asked: &str| (asked == name).then(|| variables(name)).flatten();
        let storage = ModelStorage::open(&settings, right).unwrap();
        storage.publish(&options, &go_on).await.unwrap();
    }
    let error = ModelStorage::open(&settings, |_| None).unwrap_err();
    assert!(matches!(error, StorageError::ServiceKey { .. }), "{error}");
    let unknown = StorageSettings {
        supabase_url: None,
        ..settings
    };
    let error = ModelStorage::open(&unknown, variables).unwrap_err();
    assert!(matches!(error, StorageError::Project), "{error}");
}

#[tokio::test]
async fn a_bucket_that_is_not_there_and_a_file_that_is_too_large_are_named() {
    let place = Place::on_supabase();
    let error = place.fetch(&trusted(1)).await.unwrap_err();
    assert!(matches!(error, StorageError::NoBucket { .. }), "{error}");
    save(place.here.path(), 1, &vec![7; 9 << 20]);
    place.supabase.as_ref().unwrap().limit(8 << 20);
    let error = place.publish(1).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("optimizer.safetensors") && text.contains("exceeded"),
        "{text}"
    );
}

#[tokio::test]
async fn a_server_that_is_away_is_an_outage() {
    let place = Place::on_s3();
    let address = Address::parse(&format!("s3://{BUCKET}")).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let mut settings = settings(address, Some(endpoint));
    settings.deadline = std::time::Duration::from_secs(2);
    let storage = ModelStorage::open(&settings, credentials).unwrap();
    place.save(1);
    let options = PublishOptions {
        folder: place.here.path(),
        signing_key: None,
        dry_run: true,
    };
    // Accepts connections and never answers.
    let error = storage.publish(&options, &go_on).await.unwrap_err();
    assert!(error.is_outage(), "{error}");
    assert!(matches!(error, StorageError::Deadline(_)), "{error}");
}
