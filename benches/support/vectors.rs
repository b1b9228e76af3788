//! Trained vectors of videos and of users, for benchmarks of search.

use crate::gowalla;
use crate::public_data;
use crate::taste;
use std::error::Error;
use std::fs;
use std::path::Path;
use twotower_core::embedding::Embeddings;
use twotower_core::hyperparameters::Hyperparameters;
use twotower_core::interaction::{Dataset, History, Sequences};
use twotower_core::model::TwoTower;
use twotower_core::train::{Goal, Run, TrainingData};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Number of users whose vectors are queries.
const QUERIES: usize = 2_000;

/// A source of vectors.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source {
    /// `MovieLens`-100K, 1,682 videos.
    MovieLens,
    /// Gowalla, 40,981 places.
    Gowalla,
    /// This many generated videos.
    Generated(usize),
}

/// What was trained.
pub(crate) struct Trained {
    /// One row per video.
    pub(crate) videos: Embeddings,
    /// One row per user.
    pub(crate) users: Embeddings,
}

impl Source {
    /// Name in tables and of files.
    pub(crate) fn name(self) -> String {
        match self {
            Self::MovieLens => "movielens".to_owned(),
            Self::Gowalla => "gowalla".to_owned(),
            Self::Generated(videos) => format!("generated-{videos}"),
        }
    }

    fn dataset(self) -> Outcome<(Dataset, usize)> {
        Ok(match self {
            Self::MovieLens => (public_data::movielens()?.dataset, 10),
            Self::Gowalla => (gowalla::latest()?.dataset, 5),
            Self::Generated(videos) => {
                let (users, likes, epochs) = match videos {
                    0..=20_000 => (20_000, 1_000_000, 4),
                    20_001..=200_000 => (60_000, 3_000_000, 2),
                    _ => (200_000, 10_000_000, 1),
                };
                (taste::generate(videos, users, likes)?, epochs)
            }
        })
    }

    /// Trains with the default hyperparameters, or reads the vectors that an earlier call left in
    /// `folder`.
    pub(crate) fn trained(self, folder: Option<&Path>) -> Outcome<Trained> {
        let Some(folder) = folder else {
            return self.train();
        };
        let dim = Hyperparameters::default().embedding_dim;
        let file = |part: &str| folder.join(format!("{}-{part}.f32", self.name()));
        if !file("users").exists() {
            let trained = self.train()?;
            fs::create_dir_all(folder)?;
            // The users' file is written last: if it exists, so does the other.
            write(&file("videos"), &trained.videos)?;
            write(&file("users"), &trained.users)?;
        }
        Ok(Trained {
            videos: read(&file("videos"), dim)?,
            users: read(&file("users"), dim)?,
        })
    }

    fn train(self) -> Outcome<Trained> {
        let (dataset, epochs) = self.dataset()?;
        let data = TrainingData::held(
            &dataset.catalogue,
            dataset.users,
            &dataset.likes[..],
            &dataset.skips[..],
        );
        // Generated times count likes, not seconds.
        let data = TrainingData {
            until: None,
            ..data
        };
        let hyperparameters = Hyperparameters::default();
        let mut run = Run::new(data, &hyperparameters, Goal::Epochs(epochs))?;
        while run.advance()?.is_some() {}
        let model = run.finish().model;
        let videos = model.embed_videos(dataset.catalogue.videos())?;
        let towers = TwoTower {
            user_tower: &model.user_tower,
            videos: &videos,
        };
        let likes = Sequences::new(dataset.users, &dataset.likes);
        let mut users = Embeddings::new(videos.dim());
        for user in (0..dataset.users).step_by((dataset.users / QUERIES).max(1)) {
            let history = History {
                likes: likes.of(user),
                skips: &[],
            };
            if let Some(vector) = towers.embed_user(history) {
                users.push(&vector)?;
            }
        }
        Ok(Trained { videos, users })
    }
}

fn read(path: &Path, dim: usize) -> Outcome<Embeddings> {
    let bytes = fs::read(path)?;
    let (numbers, _) = bytes.as_chunks::<4>();
    let numbers = numbers.iter().map(|&bytes| f32::from_le_bytes(bytes));
    Ok(Embeddings::from_rows(dim, numbers.collect())?)
}

fn write(path: &Path, vectors: &Embeddings) -> Outcome<()> {
    let bytes: Vec<u8> = vectors
        .as_slice()
        .iter()
        .flat_map(|x| x.to_le_bytes())
        .collect();
    Ok(fs::write(path, bytes)?)
}
