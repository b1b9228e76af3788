use super::place::{FILES, Place, bucket_until, go_on, key, save, trusted};
use std::fs;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use twotower_store::model_files;
use twotower_store::model_storage::{
    FetchOptions, Progress, PublishOptions, StorageError, verify_folder,
};

async fn there_and_back(place: &Place) {
    let from = place.save(7);
    let published = place.publish(7).await.unwrap();
    assert_eq!(published.version, 7);
    assert_eq!(published.uploaded.last().unwrap(), "manifest.json");
    assert_eq!(
        published.key_id.as_deref(),
        Some(key(1).public().id().as_str())
    );
    assert!(published.already_there.is_empty());

    let fetched = place.fetch(&trusted(1)).await.unwrap();
    assert_eq!((fetched.version, fetched.already_there), (7, false));
    assert_eq!(fetched.key_id, published.key_id);
    assert_eq!(fetched.manifest_file_sha256, published.manifest_file_sha256);
    for name in FILES.into_iter().chain(["manifest.json"]) {
        let (one, other) = (fs::read(from.join(name)), fs::read(fetched.path.join(name)));
        assert!(one.unwrap() == other.unwrap(), "{name}");
    }
    model_files::load(&fetched.path).unwrap();
    let verified = verify_folder(&fetched.path, &trusted(1)).unwrap();
    assert_eq!(verified, (7, published.key_id));

    // Both may be repeated.
    let again = place.publish(7).await.unwrap();
    assert_eq!(
        (again.uploaded.len(), again.already_there.len()),
        (0, published.uploaded.len())
    );
    fs::remove_file(fetched.path.join("manifest.json.sig")).unwrap();
    let again = place.fetch(&trusted(1)).await.unwrap();
    assert!(again.already_there);
    verify_folder(&fetched.path, &trusted(1))
        .expect("the signature is put beside a model that was here");

    // In a single request.
    let root = fetched.path.parent().unwrap();
    let checksum = model_files::manifest(&fetched.path).unwrap().checksum;
    let removed = model_files::remove(root, 7, &checksum).unwrap();
    assert_eq!(removed.as_ref(), Some(&fetched.path));
    assert!(!fetched.path.exists());
}

#[tokio::test]
async fn a_model_goes_there_and_back_over_a_folder() {
    there_and_back(&Place::on_folder()).await;
}

#[tokio::test]
async fn a_model_goes_there_and_back_over_s3() {
    let place = Place::on_s3();
    there_and_back(&place).await;
    let mut expected: Vec<_> = FILES.to_vec();
    expected.extend(["manifest.json", "manifest.json.sha256", "manifest.json.sig"]);
    expected.sort_unstable();
    let keys = place.server.as_ref().unwrap().keys("pre/fix/models/7");
    assert_eq!(keys, expected, "and no probe");
}

#[tokio::test]
async fn a_model_goes_there_and_back_over_the_rest_api_of_supabase() {
    let place = Place::on_supabase();
    there_and_back(&place).await;
    let server = place.supabase.as_ref().unwrap();
    assert!(!server.is_public().unwrap(), "the bucket was made private");
    let keys = server.keys("pre/fix/models/7");
    assert_eq!(keys.len(), FILES.len() + 3, "and no probe: {keys:?}");
}

#[tokio::test]
async fn large_files_go_in_parts() {
    for place in Place::all() {
        let optimizer: Vec<u8> = (0..20_000_000_u32)
            .map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0])
            .collect();
        save(place.here.path(), 3, &optimizer);
        place.publish(3).await.unwrap();
        let fetched = place.fetch(&trusted(1)).await.unwrap();
        assert!(fs::read(fetched.path.join("optimizer.safetensors")).unwrap() == optimizer);
    }
}

/// Interrupted at each transferred piece, there is no version yet, and the next run completes it.
#[tokio::test]
async fn a_publish_that_was_cut_off_is_run_again() {
    for (place, step) in [
        (Place::on_folder(), 1),
        (Place::on_s3(), 3),
        (Place::on_supabase(), 3),
    ] {
        place.save(1);
        place.publish(1).await.unwrap();
        let mut cut_off = 0;
        for pieces in (0..).step_by(step) {
            let version = 10 + pieces as i64;
            place.save(version);
            match place.publish_until(version, pieces).await {
                Err(StorageError::Interrupted) => cut_off += 1,
                Ok(_) => break,
                Err(error) => panic!("{error}"),
            }
            if !place.stored(version, "manifest.json").exists() {
                let fetched = place.fetch(&trusted(1)).await.unwrap();
                assert!(fetched.version < version, "an incomplete version is none");
            }
            place.publish(version).await.unwrap();
            let fetched = place.fetch(&trusted(1)).await.unwrap();
            assert_eq!(fetched.version, version);
        }
        assert!(cut_off > 4, "{cut_off}");
    }
}

/// At each transferred piece, and as after a kill.
#[tokio::test]
async fn a_fetch_that_was_cut_off_is_run_again() {
    for place in Place::all() {
        place.save(1);
        place.publish(1).await.unwrap();
        let (output, trusted) = (place.output(), trusted(1));
        let options = FetchOptions {
            version: None,
            output_dir: &output,
            trusted: &trusted,
            allow_unsigned: false,
            embedding_dim: None,
        };
        for pieces in 0..FILES.len() {
            let count = AtomicUsize::new(0);
            let watch = |_: Progress<'_>| match count.fetch_add(1, Ordering::SeqCst) {
                n if n < pieces => ControlFlow::Continue(()),
                _ => ControlFlow::Break(()),
            };
            let error = place.storage.fetch(&options, &watch).await.unwrap_err();
            assert!(matches!(error, StorageError::Interrupted), "{error}");
            place.nothing_fetched();
        }
        let left = output.join(".fetch/.1.tmp-0");
        fs::create_dir(&left).unwrap();
        fs::write(left.join("weights.safetensors"), "half").unwrap();
        place.fetch(&trusted).await.unwrap();
        assert!(!left.exists());
    }
}

#[tokio::test]
async fn a_server_that_hangs_up_is_asked_again() {
    let place = Place::on_s3();
    place.save(1);
    place.server.as_ref().unwrap().hang_up_each(7);
    place.publish(1).await.unwrap();
    place.fetch(&trusted(1)).await.unwrap();
}

#[tokio::test]
async fn what_breaks_off_is_taken_up_again_where_it_did() {
    let place = Place::on_supabase();
    let server = place.supabase.as_ref().unwrap();
    save(place.here.path(), 1, &vec![7; 20 << 20]);
    server.hang_up_each(7);
    place.publish(1).await.unwrap();
    server.hang_up_each(0);
    server.break_downloads(4);
    place.fetch(&trusted(1)).await.unwrap();
}

/// Incomplete uploads in a bucket cost money and are invisible.
#[tokio::test]
async fn parts_do_not_stay_behind() {
    let large = vec![7; 20 << 20];
    let mut place = Place::on_s3();
    save(place.here.path(), 1, &large);
    let server = place.server.as_ref().unwrap();
    server.refuse_completion(true);
    let error = place.publish(1).await.unwrap_err();
    assert!(matches!(error, StorageError::Storage { .. }), "{error}");
    assert_eq!(server.open_uploads(), 0, "after a completion that failed");
    server.refuse_completion(false);

    // Only the answer says that it failed.
    server.deny_completion();
    place.publish(1).await.unwrap();
    assert_eq!(server.open_uploads(), 0);

    save(place.here.path(), 2, &large);
    server.stall_parts();
    // On a busy machine the first may have finished before.
    for seconds in [3, 15, 60] {
        place.storage = bucket_until(server, Duration::from_secs(seconds));
        let error = place.publish(2).await.unwrap_err();
        assert!(matches!(error, StorageError::Deadline(_)), "{error}");
        assert_eq!(server.open_uploads(), 0, "after the deadline");
        if server.has_stalled() {
            break;
        }
    }
    assert!(server.has_stalled(), "it was cut off in the middle");
}

#[tokio::test]
async fn what_is_published_never_changes() {
    for place in Place::all() {
        place.save(1);
        place.publish(1).await.unwrap();
        let before = fs::read(place.stored(1, "weights.safetensors")).unwrap();
        fs::remove_dir_all(place.here.path().join("1")).unwrap();
        save(place.here.path(), 1, b"another");
        let error = place.publish(1).await.unwrap_err();
        assert!(matches!(error, StorageError::Conflict { .. }), "{error}");
        assert!(
            error.to_string().contains("models/1/manifest.json.sha256"),
            "{error}"
        );
        assert_eq!(
            fs::read(place.stored(1, "weights.safetensors")).unwrap(),
            before
        );
        place.fetch(&trusted(1)).await.unwrap();
    }
}

#[tokio::test]
async fn a_damaged_model_is_not_published() {
    let place = Place::on_folder();
    let path = place.save(1).join("preprocessing.pkl");
    let mut bytes = fs::read(&path).unwrap();
    bytes[5] ^= 1;
    fs::write(&path, bytes).unwrap();
    let error = place.publish(1).await.unwrap_err();
    assert!(error.to_string().contains("preprocessing.pkl"), "{error}");
    assert!(!place.folder.exists(), "nothing was written");
}

#[tokio::test]
async fn a_dry_run_writes_nothing() {
    for place in Place::all() {
        let folder = place.save(1);
        let options = PublishOptions {
            folder: &folder,
            signing_key: Some(&key(1)),
            dry_run: true,
        };
        let published = place.storage.publish(&options, &go_on).await.unwrap();
        assert_eq!(published.uploaded.len(), FILES.len() + 3);
        assert!(!place.folder.exists());
        place.publish(1).await.unwrap();
        let published = place.storage.publish(&options, &go_on).await.unwrap();
        assert_eq!(published.already_there.len(), FILES.len() + 3);
    }
}

/// Two processes that publish the same model both succeed; of two that publish different models
/// under one number, one fails.
#[tokio::test(flavor = "multi_thread")]
async fn two_at_once() {
    for round in 0..4 {
        for place in Place::all() {
            place.save(1);
            let (one, other) = tokio::join!(place.publish(1), place.publish(1));
            one.unwrap();
            other.unwrap();

            // Large enough for a multipart upload, which a server does not write conditionally.
            let elsewhere = tempfile::tempdir().unwrap();
            save(place.here.path(), 2, &vec![1; 9 << 20]);
            save(elsewhere.path(), 2, &vec![2; 9 << 20]);
            let second = place.second_storage();
            let signing_key = key(1);
            let options = PublishOptions {
                folder: elsewhere.path(),
                signing_key: Some(&signing_key),
                dry_run: false,
            };
            let storage = second.as_ref().unwrap_or(&place.storage);
            let (one, other) = tokio::join!(place.publish(2), storage.publish(&options, &go_on));
            let won = [one.is_ok(), other.is_ok()]
                .into_iter()
                .filter(|&won| won)
                .count();
            // A server that checks for a key only at the start lets both claim it, and then neither
            // wins.
            let least = usize::from(place.supabase.is_none());
            assert!(
                (least..=1).contains(&won),
                "round {round}: {one:?} {other:?}"
            );
            for lost in [one.err(), other.err()].into_iter().flatten() {
                assert!(matches!(lost, StorageError::Conflict { .. }), "{lost}");
            }
            let fetched = place.fetch(&trusted(1)).await.unwrap();
            assert_eq!(
                fetched.version,
                1 + won as i64,
                "only what is whole is a version"
            );
        }
    }
}

#[tokio::test]
async fn the_newest_complete_version_is_taken_by_number() {
    let place = Place::on_folder();
    let error = place.fetch(&trusted(1)).await.unwrap_err();
    assert!(matches!(error, StorageError::Empty { .. }), "{error}");
    for version in [9, 10] {
        place.save(version);
        place.publish(version).await.unwrap();
    }
    place.save(11);
    place.publish_until(11, 4).await.unwrap_err();
    assert!(place.stored(11, "user_tower.onnx").exists(), "it was begun");
    assert_eq!(place.fetch(&trusted(1)).await.unwrap().version, 10);
}
