//! Videos published after the last like that is learned: nobody could like them, and training must
//! not push them down.

use super::{GENRES, Sample, VIDEOS_PER_GENRE, dataset, hyperparameters};
use twotower_core::feature::{Catalogue, Video, VideoRef};
use twotower_core::hyperparameters::Hyperparameters;
use twotower_core::model::Model;
use twotower_core::recommend::Recommender;
use twotower_core::time::DAY_SECONDS;
use twotower_core::train::{Goal, Prepared, ResumeError, Run, TrainingData};

const DAY: u32 = DAY_SECONDS as u32;

/// The day of the first likes; there are ten such days.
const FIRST_DAY: u32 = 1000;

/// Whether nobody has liked the video: the last two of each genre.
fn is_new(item: u32) -> bool {
    item / GENRES >= VIDEOS_PER_GENRE - 2
}

/// A round of likes per day, of videos published in the hundred days before. Videos that nobody has
/// liked are published on the three days after the last round.
fn sample() -> Sample {
    let mut dataset = dataset(31);
    for row in dataset.likes.iter_mut().chain(&mut dataset.skips) {
        row.at = (FIRST_DAY + row.at) * DAY;
    }
    let dated = |(item, video): (u32, Video)| {
        let day = if is_new(item) {
            FIRST_DAY + 10 + item % 3
        } else {
            FIRST_DAY - 1 - item * 7919 % 100
        };
        Video {
            published_at_us: Some(i64::from(day * DAY) * 1_000_000),
            ..video
        }
    };
    let videos = dataset.catalogue.videos().map(VideoRef::to_video);
    let videos: Vec<Video> = (0..).zip(videos).map(dated).collect();
    dataset.catalogue = Catalogue::new(videos).unwrap();
    // Skips are drawn only from liked videos.
    assert!(dataset.skips.iter().all(|skip| !is_new(skip.item)));
    Sample::of(dataset)
}

fn learn(data: TrainingData<'_>) -> Model {
    let mut run = Run::new(data, &hyperparameters(), Goal::Epochs(8)).unwrap();
    while run.advance().unwrap().is_some() {}
    run.finish().model
}

/// The rank of the new videos among all others, from 0, the last, to 1: the mean over users.
fn percentile_of_new(sample: &Sample, model: &Model) -> f64 {
    sample.of_towers(model, |towers| {
        let mut scores = vec![0.0; towers.items()];
        let (mut above, mut pairs) = (0, 0);
        for user in &sample.held_out.users {
            towers.score(user.history(), &mut scores);
            let (new, others): (Vec<(u32, &f32)>, Vec<_>) =
                (0..).zip(&scores).partition(|&(item, _)| is_new(item));
            for (_, score) in &new {
                above += others.iter().filter(|(_, other)| other < score).count();
            }
            pairs += new.len() * others.len();
        }
        above as f64 / pairs as f64
    })
}

#[test]
fn the_newest_uploads_are_not_learned_to_be_disliked() {
    let sample = sample();
    let every_video = TrainingData {
        until: None,
        ..sample.data()
    };
    let [before, after] = [every_video, sample.data()].map(|data| {
        let model = learn(data);
        let place = percentile_of_new(&sample, &model);
        (place, sample.ndcg_of_model(&model))
    });
    println!(
        "mean percentile of new uploads, and NDCG@10: {before:?} with all videos as negatives, {after:?} without them"
    );
    assert!(after.0 > before.0 + 0.05, "{before:?} {after:?}");
    assert!(after.1 > 0.95 * before.1, "{before:?} {after:?}");
}

/// The time alone changes nothing if every video was published in time.
#[test]
fn where_all_videos_were_there_the_model_stays_the_same_to_the_byte() {
    let sample = Sample::new(32);
    let bytes = |until| {
        let data = TrainingData {
            until,
            ..sample.data()
        };
        let two = Hyperparameters {
            epochs: 2,
            ..hyperparameters()
        };
        let mut run = Run::new(data, &two, Goal::Epochs(2)).unwrap();
        while run.advance().unwrap().is_some() {}
        run.finish().model.to_safetensors().unwrap()
    };
    assert!(sample.data().until.is_some());
    assert!(bytes(None) == bytes(sample.data().until));
}

#[test]
fn a_checkpoint_of_a_run_with_other_negatives_is_refused() {
    let sample = sample();
    let begin = |data| Run::new(data, &hyperparameters(), Goal::Epochs(1)).unwrap();
    let every_video = || TrainingData {
        until: None,
        ..sample.data()
    };
    let checkpoint = begin(every_video()).checkpoint("tag").unwrap();
    assert!(begin(every_video()).resume("tag", &checkpoint).is_ok());
    let refused = begin(sample.data()).resume("tag", &checkpoint).err();
    let prepared = Prepared::new(sample.data(), &hyperparameters()).unwrap();
    let checked = prepared.check_checkpoint(&hyperparameters(), "tag", &checkpoint);
    let what = "videos that may be negatives";
    for refused in [refused, checked.err()] {
        let refused = refused.unwrap();
        assert!(refused.is_other_training());
        assert_eq!(refused.to_string(), ResumeError::Other { what }.to_string());
    }
    let checkpoint = begin(sample.data()).checkpoint("tag").unwrap();
    assert!(begin(sample.data()).resume("tag", &checkpoint).is_ok());
}
