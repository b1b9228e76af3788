//! Resuming a run from its checkpoint, and fine-tuning a model with new likes.

use super::{Sample, hyperparameters};
use twotower_core::feature::{Catalogue, Video};
use twotower_core::hyperparameters::Hyperparameters;
use twotower_core::interaction::Interaction;
use twotower_core::model::Model;
use twotower_core::train::{
    Base, FineTuneError, Goal, Prepared, ResumeError, Run, Trained, TrainingData, table_rows,
};
use uuid::Uuid;

/// A run that is interrupted after step `cut` and resumed from the checkpoint ends with the same
/// bytes as one that is not.
#[test]
fn a_resumed_run_ends_at_the_same_bytes() {
    let sample = Sample::new(10);
    let hyperparameters = Hyperparameters {
        epochs: 3,
        ..hyperparameters()
    };
    let goal = Goal::Best(&sample.held_out);
    let whole = sample.train(&hyperparameters).unwrap();
    let bytes = whole.model.to_safetensors().unwrap();
    let steps = 3 * (whole.epochs[0].examples.div_ceil(256) + 1);
    for cut in [0, 1, 7, steps / 2, steps - 1, steps + 3] {
        let mut run = Run::new(sample.data(), &hyperparameters, goal).unwrap();
        for _ in 0..cut {
            run.advance().unwrap();
        }
        let checkpoint = run.checkpoint("likes of today").unwrap();
        drop(run);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build();
        let resumed = pool.unwrap().install(|| {
            let tag = "likes of today";
            let run = Run::new(sample.data(), &hyperparameters, goal).unwrap();
            let mut run = run.resume(tag, &checkpoint).unwrap();
            while run.advance().unwrap().is_some() {}
            run.finish()
        });
        assert_eq!(resumed.epochs, whole.epochs, "cut after {cut} of {steps}");
        assert!(
            resumed.model.to_safetensors().unwrap() == bytes,
            "cut after {cut} of {steps}"
        );
    }
}

#[test]
fn what_is_prepared_once_serves_runs_of_the_same_bytes() {
    let sample = Sample::new(13);
    let one = Hyperparameters {
        epochs: 1,
        ..hyperparameters()
    };
    let prepared = Prepared::new(sample.data(), &one).unwrap();
    let others = [
        one.clone(),
        Hyperparameters {
            seed: 7,
            batch_size: 128,
            ..one.clone()
        },
        // With other vocabularies than those prepared.
        Hyperparameters {
            ngram_buckets: 32,
            min_users: 3,
            ..one
        },
    ];
    let goal = Goal::Epochs(1);
    let bytes = |mut run: Run<'_>| {
        while run.advance().unwrap().is_some() {}
        run.finish().model.to_safetensors().unwrap()
    };
    for hyper in &others {
        let mut afresh = Run::new(sample.data(), hyper, goal).unwrap();
        // The counts that are kept for the next run: four bytes per video.
        let mut memory = afresh.memory();
        memory.videos += 4 * sample.dataset.catalogue.len();
        assert_eq!(prepared.memory(hyper, goal).unwrap(), memory);
        assert!(bytes(prepared.run(hyper, goal).unwrap()) == bytes(afresh));
    }
}

#[test]
fn a_checkpoint_of_something_else_is_refused() {
    let sample = Sample::new(11);
    let ours = hyperparameters();
    let goal = Goal::Epochs(2);
    let mut run = Run::new(sample.data(), &ours, goal).unwrap();
    run.advance().unwrap();
    let checkpoint = run.checkpoint("ours").unwrap();
    let resume = |hyperparameters: &Hyperparameters, tag: &str, bytes: &[u8]| {
        let run = Run::new(sample.data(), hyperparameters, goal).unwrap();
        match run.resume(tag, bytes) {
            Ok(_) => "resumed".to_owned(),
            Err(error) => error.to_string(),
        }
    };
    assert_eq!(resume(&ours, "ours", &checkpoint), "resumed");
    assert_eq!(
        resume(&ours, "theirs", &checkpoint),
        ResumeError::Other { what: "data" }.to_string()
    );
    let theirs = Hyperparameters {
        seed: 7,
        ..ours.clone()
    };
    assert!(resume(&theirs, "ours", &checkpoint).contains("hyperparameters"));
    // Headers that are damaged.
    for length in [0, 7, 1 << 26, u64::MAX] {
        let mut bytes = checkpoint.clone();
        bytes[..8].copy_from_slice(&length.to_le_bytes());
        assert!(resume(&ours, "ours", &bytes).contains("safetensors"));
    }
    let mut bytes = checkpoint.clone();
    let offset = bytes.windows(3).position(|bytes| bytes == b"[0,").unwrap();
    bytes[offset + 1] = b'9';
    assert!(resume(&ours, "ours", &bytes).contains("safetensors"));
    let truncated = &checkpoint[..checkpoint.len() - 5];
    assert!(resume(&ours, "ours", truncated).contains("safetensors"));
    let weights = run.finish().model.to_safetensors().unwrap();
    assert!(resume(&ours, "ours", &weights).contains("does not say where"));

    // The same without a run, and whether the cause is the file or the way this version trains.
    let prepared = Prepared::new(sample.data(), &ours).unwrap();
    let refusal = |hyperparameters: &Hyperparameters, tag: &str, bytes: &[u8]| {
        let error = prepared.check_checkpoint(hyperparameters, tag, bytes).err();
        error.map(|error| error.is_other_training())
    };
    assert_eq!(refusal(&ours, "ours", &checkpoint), None);
    assert_eq!(refusal(&ours, "theirs", &checkpoint), Some(false));
    assert_eq!(refusal(&theirs, "ours", &checkpoint), Some(false));
    assert_eq!(refusal(&ours, "ours", truncated), Some(false));
    assert_eq!(refusal(&ours, "ours", &weights), Some(true));
    // As a version wrote it whose logQ used likes. Spaces have no meaning, and keep the length at
    // the start of the file.
    let written = br#",\"correction\":\"targets\""#;
    let at = checkpoint
        .windows(written.len())
        .position(|bytes| bytes == written);
    let mut older = checkpoint.clone();
    older[at.unwrap()..][..written.len()].fill(b' ');
    assert!(resume(&ours, "ours", &older).contains("probabilities of targets differ"));
    assert_eq!(refusal(&ours, "ours", &older), Some(true));
    // As a version wrote it that found other terms in the same catalogue.
    let others = Hyperparameters {
        ngram_buckets: ours.ngram_buckets + 1,
        ..ours.clone()
    };
    let prepared = Prepared::new(sample.data(), &others).unwrap();
    let error = prepared.check_checkpoint(&ours, "ours", &checkpoint);
    assert!(error.unwrap_err().is_other_training());
}

#[test]
fn a_checkpoint_whose_best_epoch_was_never_run_is_refused() {
    let sample = Sample::new(11);
    let hyperparameters = Hyperparameters {
        epochs: 1,
        ..hyperparameters()
    };
    let run = || {
        Run::new(
            sample.data(),
            &hyperparameters,
            Goal::Best(&sample.held_out),
        )
        .unwrap()
    };
    let mut whole = run();
    while whole.advance().unwrap().is_some() {}
    let mut bytes = whole.checkpoint("ours").unwrap();
    let key = br#"\"best\":["#;
    let begin = bytes.windows(key.len()).position(|bytes| bytes == key);
    let begin = begin.unwrap() + key.len();
    let end = bytes[begin..].iter().position(|&byte| byte == b']');
    let epoch = &mut bytes[begin + end.unwrap() - 1];
    assert_eq!(std::mem::replace(epoch, b'9'), b'1');
    let error = run().resume("ours", &bytes).err().unwrap();
    assert!(error.to_string().contains("the best epoch is 9 of 1"));
}

/// A model that has learned all but the last of ten days is fine-tuned with that day's likes, some
/// of them of videos that it has never seen.
#[test]
fn fine_tuning_on_new_likes_is_as_good_as_training_afresh_on_all_in_a_tenth_of_the_examples() {
    let sample = Sample::new(21);
    let hyperparameters = Hyperparameters {
        epochs: 20,
        ..hyperparameters()
    };
    let latest = sample.split.train.iter().map(|like| like.at).max().unwrap();
    let learned_until = latest - 1;
    let known = |rows: &[Interaction]| -> Vec<Interaction> {
        let until = rows.partition_point(|row| row.at <= learned_until);
        rows[..until].to_vec()
    };
    let (likes, skips) = (known(&sample.split.train), known(&sample.skips));
    let dataset = &sample.dataset;
    let before = TrainingData::held(&dataset.catalogue, dataset.users, likes, skips);
    let whole = |data| {
        let mut run = Run::new(data, &hyperparameters, Goal::Epochs(20)).unwrap();
        while run.advance().unwrap().is_some() {}
        let optimizer = run.optimizer_state().unwrap();
        (run.finish(), optimizer)
    };
    let ((base, optimizer), (afresh, _)) = (whole(before), whole(sample.data()));
    let mut learned = vec![0; dataset.users];
    for like in known(&sample.split.train) {
        learned[like.user as usize] += 1;
    }
    let from = Base {
        model: &base.model,
        optimizer: &optimizer,
        learned: &learned,
    };
    let mut run = Run::fine_tune(sample.data(), from, 2).unwrap();
    // While a run begins, the base is in memory beside it. The formula covers it, as no checkpoint
    // is written meanwhile.
    let tower = &base.model.item_tower;
    let tables = [&tower.id_table, &tower.term_table].map(|table| size_of_val(table.as_slice()));
    assert!(run.memory().checkpoint > tables.iter().sum::<usize>() + optimizer.len());
    while run.advance().unwrap().is_some() {}
    let tuned = run.finish();
    let examples = |trained: &Trained| -> usize { trained.epochs.iter().map(|e| e.examples).sum() };
    let scores = [&base, &tuned, &afresh].map(|trained| sample.ndcg_of_model(&trained.model));
    assert!(10 * examples(&tuned) <= examples(&afresh));
    assert!(
        scores[1] > scores[0] && scores[1] > 0.97 * scores[2],
        "{scores:?}"
    );
    let known = base.model.preprocessing.videos.len();
    assert!(tuned.model.preprocessing.videos.len() > known);

    let nothing_new = Base {
        learned: &vec![u32::MAX; dataset.users],
        ..from
    };
    let error = Run::fine_tune(sample.data(), nothing_new, 2).err().unwrap();
    assert!(matches!(error, FineTuneError::NothingNew));
}

#[test]
fn rows_of_tables_are_counted_without_a_run() {
    let sample = Sample::new(22);
    let hyperparameters = Hyperparameters {
        min_users: 3,
        ..hyperparameters()
    };
    let first = |rows: &[Interaction]| rows[..rows.len() / 4].to_vec();
    let (likes, skips) = (first(&sample.split.train), first(&sample.skips));
    let dataset = &sample.dataset;
    let before = TrainingData::held(&dataset.catalogue, dataset.users, likes, skips);
    let rows = |model: &Model| {
        let tower = &model.item_tower;
        tower.id_table.rows() + tower.term_table.rows()
    };
    let count = |data: &TrainingData<'_>, base| table_rows(data, &hyperparameters, base).unwrap();
    let mut run = Run::new(before.clone(), &hyperparameters, Goal::Epochs(1)).unwrap();
    let optimizer = run.optimizer_state().unwrap();
    let base = run.finish().model;
    assert_eq!(count(&before, None), rows(&base));
    let from = Base {
        model: &base,
        optimizer: &optimizer,
        learned: &vec![0; dataset.users],
    };
    let run = Run::fine_tune(sample.data(), from, 1).unwrap();
    let tuned = run.finish().model;
    assert_eq!(count(&sample.data(), Some(&base)), rows(&tuned));
    assert!(rows(&base) < rows(&tuned));
}

/// The new rows must not separate the video from the terms that the model knows before they have
/// learned anything.
#[test]
fn a_video_with_new_terms_begins_where_it_was_served_without_them() {
    let video = |n: u32, genre: &str, tags: &[&str]| Video {
        id: Uuid::from_u128(u128::from(n)),
        title: format!("video {n}"),
        genre: Some(genre.to_owned()),
        tags: tags.iter().map(ToString::to_string).collect(),
        ..Video::default()
    };
    let new = video(5, "new", &["a", "b", "new"]);
    let videos = (0..5).map(|n| video(n, "old", &["a", "b"][..=n as usize % 2]));
    let catalogue = Catalogue::new(videos.chain([new.clone()])).unwrap();
    let likes = |videos: u32| -> Vec<Interaction> {
        let of_video = |item: u32| {
            (0..4).map(move |user| Interaction {
                user,
                item,
                at: item,
            })
        };
        (0..videos).flat_map(of_video).collect()
    };
    let hyperparameters = Hyperparameters {
        min_term_videos: 1,
        epochs: 1,
        ..hyperparameters()
    };
    let data = |videos| TrainingData::held(&catalogue, 4, likes(videos), []);
    let mut run = Run::new(data(5), &hyperparameters, Goal::Epochs(1)).unwrap();
    while run.advance().unwrap().is_some() {}
    let optimizer = run.optimizer_state().unwrap();
    let base = run.finish().model;
    let from = Base {
        model: &base,
        optimizer: &optimizer,
        learned: &[5; 4],
    };
    let mut run = Run::fine_tune(data(6), from, 1).unwrap();
    assert!(run.advance().unwrap().is_some());
    let learned = run.finish().model;
    let begun = Run::fine_tune(data(6), from, 1).unwrap().finish().model;
    assert_eq!(begun.preprocessing.tags, ["a", "b", "new"]);
    assert_eq!(begun.preprocessing.genres, ["new", "old"]);
    let [before, begins, goes_on] =
        [&base, &begun, &learned].map(|model| model.embed_videos([&new]).unwrap());
    let apart = |a: &[f32], b: &[f32]| a.iter().zip(b).any(|(a, b)| (a - b).abs() > 1e-6);
    assert!(!apart(before.row(0), begins.row(0)));
    assert!(apart(before.row(0), goes_on.row(0)));
}
