use super::*;
use std::path::{Path, PathBuf};
use std::time::Duration;
use twotower_core::feature::{Catalogue, Video};
use twotower_core::interaction::{Dataset, Interaction};
use twotower_core::split::SplitKind;
use uuid::Uuid;

const VIDEOS: u32 = 20;

fn likes_of(days: u32, base_until: Option<u32>) -> TrainingSet {
    likes_among(VIDEOS, days, base_until, |user, at| (user + at) % VIDEOS)
}

/// Twelve users, each of whom likes one more video every day: the one that `item` gives for the
/// user and the day.
fn likes_among(
    videos: u32,
    days: u32,
    base_until: Option<u32>,
    item: fn(u32, u32) -> u32,
) -> TrainingSet {
    let catalogue = (0..videos).map(|n| Video {
        id: Uuid::from_u128(u128::from(n)),
        ..Video::default()
    });
    let like = |user: u32, at: u32| Interaction {
        user,
        item: item(user, at),
        at,
    };
    let dataset = Dataset {
        catalogue: Catalogue::new(catalogue).unwrap(),
        users: 12,
        likes: (0..days)
            .flat_map(|at| (0..12).map(move |user| like(user, at)))
            .collect(),
        skips: Vec::new(),
    };
    TrainingSet::of_snapshot(dataset, SplitKind::Llo, base_until)
}

fn options(resume: Resume) -> TrainOptions {
    TrainOptions {
        hyperparameters: Hyperparameters {
            embedding_dim: 4,
            user_hidden: 4,
            item_hidden: 4,
            epochs: 1,
            batch_size: 4,
            min_users: 1,
            ngram_buckets: 8,
            ..Hyperparameters::default()
        },
        split: SplitKind::Llo,
        max_age_days: None,
        threads: 1,
        output_dir: PathBuf::new(),
        checkpoint_minutes: 0,
        resume,
        from: None,
        shards: None,
    }
}

fn fit(
    data: &TrainingSet,
    base: Option<&BaseModel>,
    options: &TrainOptions,
    checkpoints: Option<&Checkpoints>,
) -> anyhow::Result<Fit> {
    let interrupt = Interrupt::default();
    Trainer {
        data,
        base: base.cloned(),
        options,
        checkpoints,
        interrupt: &interrupt,
    }
    .fit()
}

fn base_of(fit: Fit) -> BaseModel {
    BaseModel {
        model: fit.model,
        optimizer: fit.optimizer,
        version: 1,
        checksum: "a".to_owned(),
        split: SplitKind::Llo,
        seen_until: 4,
        learned_since_us: None,
        epochs: 1,
        erasures_seen: 0,
    }
}

/// Leave-last-out held the last like of each user out of the base; with one more like, that one is
/// new to it.
#[test]
fn one_more_like_of_each_user_is_something_to_fine_tune_with() {
    let options = options(Resume::No);
    let base = base_of(fit(&likes_of(5, None), None, &options, None).unwrap());
    let tuned = |days: u32| {
        let data = likes_of(days, Some(base.seen_until));
        fit(&data, Some(&base), &options, None)
    };
    assert_eq!(tuned(6).unwrap().learned_until, Some(4));
    let error = tuned(5).unwrap_err();
    assert!(matches!(
        error.downcast_ref(),
        Some(JobError::NothingNew { version: 1 })
    ));
}

/// The formula of memory covers the base only until the first step.
#[test]
fn the_base_is_freed_once_a_run_has_begun() {
    let options = options(Resume::No);
    let base = base_of(fit(&likes_of(5, None), None, &options, None).unwrap());
    let data = likes_of(6, Some(base.seen_until));
    let mut trainer = Trainer {
        data: &data,
        base: Some(base),
        options: &options,
        checkpoints: None,
        interrupt: &Interrupt::default(),
    };
    trainer.fit().unwrap();
    let base = trainer.base.unwrap();
    assert_eq!(base.optimizer.capacity(), 0);
    assert_eq!(base.model.item_tower.id_table.rows(), 0);
}

/// Models of different folders may have the same number.
#[test]
fn checkpoints_of_fine_tuning_name_the_base_by_its_checksum() {
    let base = base_of(fit(&likes_of(5, None), None, &options(Resume::No), None).unwrap());
    let other = BaseModel {
        checksum: "b".to_owned(),
        ..base.clone()
    };
    assert_ne!(base.tag(), other.tag());
}

/// Fine-tuning keeps the base's hyperparameters, so that the advice is to train afresh with others.
#[test]
fn what_diverges_is_told_what_can_be_done() {
    let mut wild = options(Resume::No);
    let base = fit(&likes_of(5, None), None, &wild, None).unwrap();
    wild.hyperparameters.learning_rate = 1e30;
    let afresh = fit(&likes_of(5, None), None, &wild, None).unwrap_err();
    let afresh = format!("{afresh:#}");
    assert!(
        afresh.contains("diverged; lower --learning-rate or raise --temperature"),
        "{afresh}"
    );
    let mut base = base_of(base);
    base.model.hyperparameters.learning_rate = 1e30;
    let data = likes_of(6, Some(base.seen_until));
    let tuned = fit(&data, Some(&base), &wild, None).unwrap_err();
    let tuned = format!("{tuned:#}");
    assert!(
        tuned.contains("train afresh, without --from, and lower --learning-rate"),
        "{tuned}"
    );
}

fn checkpoints(folder: &Path, resume: Resume) -> Checkpoints {
    Checkpoints {
        folder: folder.to_owned(),
        data: "likes".into(),
        resume,
        interval: Duration::from_hours(1),
    }
}

/// At night nobody is there to remove the checkpoint.
#[test]
fn what_cannot_be_gone_on_from_does_not_stop_a_run_that_may_begin_afresh() {
    let folder = tempfile::tempdir().unwrap();
    let data = likes_of(5, None);
    let learn = |resume: Resume| {
        let checkpoints = checkpoints(folder.path(), resume);
        fit(&data, None, &options(resume), Some(&checkpoints))
    };
    let bytes = |fit: Fit| fit.model.to_safetensors().unwrap();
    let expected = bytes(learn(Resume::No).unwrap());
    let path = checkpoints(folder.path(), Resume::No).path(Phase::Validation);
    let whole = std::fs::read(&path).unwrap();
    let cut = whole[..whole.len() / 2].to_vec();
    let mut of_another_version = whole.clone();
    let tag = whole.windows(3).position(|word| word == b"tag").unwrap();
    of_another_version[tag..tag + 3].copy_from_slice(b"gat");
    for damaged in [cut, of_another_version, b"no file of tensors".to_vec()] {
        std::fs::write(&path, &damaged).unwrap();
        assert!(learn(Resume::Always).is_err());
        assert!(bytes(learn(Resume::IfSame).unwrap()) == expected);
    }
}

/// Without anybody to choose epochs by, there is one run of all epochs.
#[test]
fn where_nothing_can_be_chosen_training_runs_once() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = checkpoints(folder.path(), Resume::No);
    let learn = |data: &TrainingSet| {
        let mut options = options(Resume::No);
        options.hyperparameters.epochs = 2;
        fit(data, None, &options, Some(&checkpoints)).unwrap()
    };
    // Leave-last-out holds nothing out of two likes.
    let fit = learn(&likes_of(2, None));
    assert_eq!((fit.best_epoch, fit.log.len()), (2, 2));
    assert_eq!(fit.validation_ndcg_at_10, None);
    let chosen = checkpoints.path(Phase::Validation);
    assert!(!chosen.exists());
    learn(&likes_of(5, None));
    assert!(chosen.exists(), "the run that chose keeps its end");
}

/// Nobody else has liked a held-out video, so that it ranks behind thousands of others like it, and
/// NDCG@10 is 0 after every epoch.
#[test]
fn where_no_epoch_scores_all_epochs_are_run() {
    let mut options = options(Resume::No);
    options.hyperparameters.epochs = 4;
    options.hyperparameters.patience = 1;
    let data = likes_among(3_000, 5, None, |user, at| 2_999 - 5 * user - at);
    let fit = fit(&data, None, &options, None).unwrap();
    assert_eq!(fit.validation_ndcg_at_10, Some(0.0));
    assert_eq!((fit.best_epoch, fit.log.len()), (4, 4));
    let held_out = data.validation_users().unwrap();
    let mut trainer = Trainer {
        data: &data,
        base: None,
        options: &options,
        checkpoints: None,
        interrupt: &Interrupt::default(),
    };
    let outcome = trainer.run(Phase::Validation, Goal::Best(&held_out));
    assert_eq!(watch::ending(&outcome.unwrap().trained), "4 epochs");
}
