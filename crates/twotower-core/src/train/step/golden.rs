//! Training against reference numbers from autograd: see `fixtures/golden/README.md`.

use super::{Plan, StepData, Stepper};
use crate::feature::{Catalogue, Preprocessing, PreprocessingOptions, Video};
use crate::hyperparameters::Hyperparameters;
use crate::interaction::Interaction;
use crate::kernel;
use crate::model::Model;
use crate::timeline::{HeldTimelines, Timeline};
use crate::train::plan::Frequencies;
use crate::train::prefix_states::PrefixStates;
use crate::train::table::RowUses;
use crate::train::target::Targets;
use crate::train::window::{self, Excerpt, Window};
use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// Largest error of a gradient or logit, as a share of the largest number of its tensor.
const TOLERANCE: f32 = 2e-5;

/// The same after ten steps, each of which adds to the rounding error.
const TEN_STEP_TOLERANCE: f32 = 1e-4;

#[derive(Deserialize)]
struct Golden {
    hyperparameters: Hyperparameters,
    videos: Vec<Video>,
    users: usize,
    likes: Vec<[u32; 3]>,
    skips: Vec<[u32; 3]>,
    features: Vec<Features>,
    /// (user, target)
    examples: Vec<[u32; 2]>,
    weights: BTreeMap<String, Value>,
    /// `[B, V]` before the user's likes are masked.
    logits: Vec<Vec<f32>>,
    gradients: BTreeMap<String, Value>,
    losses: Vec<f32>,
    weights_after_ten_steps: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
struct Features {
    id_row: u32,
    terms: Vec<(u32, f32)>,
    numeric: Vec<f32>,
}

/// The fixture, and what the crate computes from its catalogue and sequences.
struct Case {
    golden: Golden,
    model: Model,
    features: crate::feature::ItemFeatures,
    timelines: HeldTimelines,
    windows: Vec<Window>,
    like_counts: Vec<u32>,
    targets: Vec<f64>,
}

impl Case {
    fn plan(&self) -> Plan {
        let videos = Frequencies {
            targets: &self.targets,
            likes: &self.like_counts,
            eligible: None,
        };
        Plan::new(&self.golden.hyperparameters, videos)
    }
}

fn case() -> Case {
    let json = include_str!("../../../../../fixtures/golden/training.json");
    let golden: Golden = serde_json::from_str(json).unwrap();
    let interactions = |rows: &[[u32; 3]]| -> Vec<Interaction> {
        let row = |&[user, item, at]: &[u32; 3]| Interaction { user, item, at };
        rows.iter().map(row).collect()
    };
    let (likes, skips) = (interactions(&golden.likes), interactions(&golden.skips));
    let catalogue = Catalogue::new(golden.videos.clone()).unwrap();
    let mut like_counts = vec![0; catalogue.len()];
    for like in &likes {
        like_counts[like.item as usize] += 1;
    }
    let seen = |item: usize| {
        likes
            .iter()
            .chain(&skips)
            .any(|row| row.item as usize == item)
    };
    let options = PreprocessingOptions {
        min_term_videos: golden.hyperparameters.min_term_videos,
        ngram_buckets: golden.hyperparameters.ngram_buckets,
    };
    let preprocessing = Preprocessing::fit(&catalogue, seen, options);
    let features = preprocessing.features(catalogue.videos());
    let mut model = Model::zeros(golden.hyperparameters.clone(), preprocessing);
    for (name, _, data) in model.tensors_mut() {
        data.copy_from_slice(&flat(&golden.weights[&name]));
    }
    let timelines = HeldTimelines::new(golden.users, likes, skips);
    let mut targets = Targets::new(catalogue.len(), 1);
    let count =
        |windows: &[Window], timeline: Timeline<'_>| targets.count(windows, timeline, |_| true);
    let length = golden.hyperparameters.window;
    let windows = window::windows(&timelines, length, false, count).unwrap();
    Case {
        golden,
        model,
        features,
        timelines,
        windows,
        like_counts,
        targets: targets.of_an_epoch(),
    }
}

fn excerpts<'t>(timelines: &'t HeldTimelines, windows: &[Window]) -> Vec<Excerpt<'t>> {
    let excerpt = |window: &Window| window.of(timelines.of(window.user as usize));
    windows.iter().map(excerpt).collect()
}

/// The numbers of a nested array, row-major.
fn flat(value: &Value) -> Vec<f32> {
    match value {
        Value::Array(values) => values.iter().flat_map(flat).collect(),
        _ => vec![value.as_f64().unwrap() as f32],
    }
}

fn assert_close(what: &str, actual: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(actual.len(), expected.len(), "{what}: number of values");
    let largest = expected.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
    assert!(largest > 0.0, "{what}: the expected values are all zero");
    for (position, (a, e)) in actual.iter().zip(expected).enumerate() {
        assert!(
            (a - e).abs() <= tolerance * largest,
            "{what}, value {position}: {a}, expected {e} (largest {largest})"
        );
    }
}

#[test]
fn features_are_those_of_the_reference() {
    let case = case();
    assert_eq!(case.features.len(), case.golden.features.len());
    for (item, expected) in case.golden.features.iter().enumerate() {
        assert_eq!(case.features.id_row(item), expected.id_row);
        let mut scratch = Vec::new();
        let (rows, weights) = case.features.terms(item, &mut scratch);
        let (expected_rows, expected_weights): (Vec<u32>, Vec<f32>) =
            expected.terms.iter().copied().unzip();
        assert_eq!(rows, expected_rows, "terms of video {item}");
        assert_eq!(weights, expected_weights, "term weights of video {item}");
        for (a, e) in case.features.numeric(item).iter().zip(&expected.numeric) {
            assert!(
                (a - e).abs() < 2e-6,
                "numbers of video {item}: {a}, expected {e}"
            );
        }
    }
}

#[test]
fn examples_are_those_of_the_reference() {
    let case = case();
    let examples: Vec<[u32; 2]> = case
        .windows
        .iter()
        .zip(excerpts(&case.timelines, &case.windows))
        .flat_map(|(window, excerpt)| {
            let targets = excerpt.targets(1, &mut Pcg64Mcg::seed_from_u64(1));
            targets.into_iter().map(|item| [window.user, item])
        })
        .collect();
    assert_eq!(examples, case.golden.examples);
}

#[test]
fn logits_loss_and_every_gradient_agree_with_autograd() {
    let mut case = case();
    let dim = case.model.hyperparameters.embedding_dim;
    let mut stepper = Stepper::new(&mut case.model);
    let mut plan = case.plan();
    let vectors = case.model.item_tower.embed_all(&case.features);
    let batch = excerpts(&case.timelines, &case.windows);
    let mut random = Pcg64Mcg::seed_from_u64(1);
    plan.draw(&case.features, &batch, &mut random);
    let data = StepData {
        features: &case.features,
        vectors: &vectors,
        prefix_states: &PrefixStates::default(),
        batch: &batch,
        plan: &plan,
    };
    let loss = stepper.gradients(&case.model, data);

    assert_eq!(plan.targets.len(), case.golden.examples.len());
    let videos: Vec<u32> = (0..case.golden.videos.len() as u32).collect();
    assert_eq!(plan.candidates.items, videos, "every video is scored");
    let logits: Vec<f32> = stepper
        .user_pass
        .out
        .chunks_exact(dim)
        .flat_map(|user| {
            let items = stepper.item_pass.out.chunks_exact(dim);
            items.map(|item| kernel::dot(user, item) / case.golden.hyperparameters.temperature)
        })
        .collect();
    assert_close("logits", &logits, &case.golden.logits.concat(), TOLERANCE);
    assert_close("loss", &[loss], &case.golden.losses[..1], TOLERANCE);

    let item_tower = &case.model.item_tower;
    let table = |uses: &RowUses, rows: usize, offset: usize| {
        let inputs = kernel::Rows {
            data: &stepper.item_pass.dx,
            stride: item_tower.inputs(),
            offset,
        };
        let mut dense = vec![0.0; rows * dim];
        let uses = uses.grouped();
        for (n, &row) in uses.rows.iter().enumerate() {
            let (sources, weights) = uses.of(n);
            let sum = &mut dense[row as usize * dim..][..dim];
            kernel::weighted_sum(inputs, sources, weights, sum);
        }
        dense
    };
    let tables = [
        table(&plan.ids, item_tower.id_table.rows(), 0),
        table(&plan.terms, item_tower.term_table.rows(), dim),
    ];
    let gradients: Vec<&Vec<f32>> = tables
        .iter()
        .chain(&stepper.item_gradients)
        .chain(&stepper.user_gradients)
        .collect();
    let tensors = case.model.tensors_mut();
    assert_eq!(gradients.len(), tensors.len());
    assert_eq!(case.golden.gradients.len(), tensors.len());
    for ((name, ..), gradient) in tensors.iter().zip(gradients) {
        assert_close(
            name,
            gradient,
            &flat(&case.golden.gradients[name]),
            TOLERANCE,
        );
    }
}

#[test]
fn ten_steps_agree_with_the_reference() {
    let mut case = case();
    let mut stepper = Stepper::new(&mut case.model);
    let mut plan = case.plan();
    let mut random = Pcg64Mcg::seed_from_u64(1);
    let mut losses = Vec::new();
    for _ in 0..case.golden.losses.len() {
        let vectors = case.model.item_tower.embed_all(&case.features);
        let batches = window::batches(
            &mut case.windows,
            case.golden.hyperparameters.batch_size,
            &mut random,
        );
        assert_eq!(batches.len(), 1, "an epoch is one step");
        let batch = excerpts(&case.timelines, &case.windows);
        plan.draw(&case.features, &batch, &mut random);
        let data = StepData {
            features: &case.features,
            vectors: &vectors,
            prefix_states: &PrefixStates::default(),
            batch: &batch,
            plan: &plan,
        };
        losses.push(stepper.step(&mut case.model, data));
    }
    assert_eq!(losses.len(), 10);
    assert_close("losses", &losses, &case.golden.losses, TEN_STEP_TOLERANCE);
    for (name, _, data) in case.model.tensors_mut() {
        let expected = flat(&case.golden.weights_after_ten_steps[&name]);
        assert_close(&name, data, &expected, TEN_STEP_TOLERANCE);
    }
}
