//! Seeded models and catalogues.

use twotower_core::feature::{Catalogue, Preprocessing, PreprocessingOptions, Video};
use twotower_core::hyperparameters::Hyperparameters;
use twotower_core::model::Model;
use uuid::Uuid;

/// `SplitMix64` (Steele, Lea & Flood 2014).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of 0..n.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// Uniform in -1..1.
    pub(crate) fn symmetric(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    pub(crate) fn unit_vector(&mut self, dim: usize) -> Vec<f32> {
        let vector: Vec<f32> = (0..dim).map(|_| self.symmetric()).collect();
        let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        vector.iter().map(|x| x / norm).collect()
    }

    fn pick<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len())]
    }

    fn text(&mut self, most_words: usize) -> String {
        const WORDS: [&str; 16] = [
            "Night",
            "TRAIN",
            "to",
            "the",
            "sea",
            "Ünder",
            "4K",
            "夜行列車",
            "海辺の",
            "カフェ",
            "ー第2話",
            "【限定】",
            "ﾊﾝｶｸ",
            "完全版!",
            "№",
            "🙂",
        ];
        (0..self.below(most_words + 1))
            .map(|_| self.pick(&WORDS))
            .collect::<Vec<_>>()
            .join(["", " ", "・"][self.below(3)])
    }

    fn terms(&mut self, words: &[&str], most: usize) -> Vec<String> {
        let mut terms: Vec<String> = (0..self.below(most + 1))
            .map(|_| self.pick(words).to_owned())
            .collect();
        terms.sort_unstable();
        terms.dedup();
        terms
    }
}

/// `n` videos, in English and Japanese, with gaps in every field.
pub(crate) fn catalogue(random: &mut Random, n: usize) -> Catalogue {
    const GENRES: [&str; 4] = ["drama", "ドラマ", "documentary", "旅"];
    const TAGS: [&str; 8] = ["new", "short", "sea", "海", "字幕", "限定", "café", "4k"];
    let videos = (0..n).map(|_| Video {
        id: Uuid::from_u64_pair(random.next(), random.next()),
        title: random.text(6),
        description: random.text(60),
        genre: random.terms(&GENRES, 1).pop(),
        maker: random.terms(&["North", "北極", "Only once"], 1).pop(),
        price: (random.below(3) > 0).then(|| random.below(5000) as f32 / 4.0),
        duration_seconds: (random.below(3) > 0).then(|| random.below(9000) as f32),
        published_at_us: (random.below(3) > 0)
            .then(|| 1_600_000_000_000_000 + random.below(1 << 50) as i64),
        thumbnail_url: None,
        tags: random.terms(&TAGS, 6),
        performers: random.terms(&["A. Smith", "佐藤", "鈴木", "B. Jones"], 3),
    });
    Catalogue::new(videos).unwrap()
}

/// A model with random weights; every fifth video of `catalogue` is new to it.
pub(crate) fn model(
    random: &mut Random,
    catalogue: &Catalogue,
    hyperparameters: Hyperparameters,
) -> Model {
    let options = PreprocessingOptions {
        min_term_videos: hyperparameters.min_term_videos,
        ngram_buckets: hyperparameters.ngram_buckets,
    };
    let preprocessing = Preprocessing::fit(catalogue, |item| item % 5 > 0, options);
    let mut model = Model::zeros(hyperparameters, preprocessing);
    for (name, shape, data) in model.tensors_mut() {
        let scale = if name.ends_with("weight") || name.ends_with("residual") {
            (3.0 / shape[0] as f32).sqrt()
        } else {
            0.5
        };
        for x in data {
            *x = scale * random.symmetric();
        }
    }
    model.item_tower.id_table.row_mut(0).fill(0.0);
    model
}
