//! The loss against reference numbers from autograd: see `fixtures/golden/README.md`.

use super::{Gradients, Operands, Row, SampledSoftmax};
use crate::negative::{CandidateSampler, Candidates, Drawn, SamplerOptions};
use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;
use serde::Deserialize;

/// Largest error, as a share of the largest number of its tensor.
const TOLERANCE: f32 = 2e-5;

#[derive(Deserialize)]
struct Golden {
    temperature: f32,
    like_counts: Vec<u32>,
    negatives: usize,
    targets: Vec<u32>,
    /// Videos drawn uniformly.
    drawn: Vec<u32>,
    items: Vec<u32>,
    counts: Vec<u32>,
    expected: Vec<f32>,
    /// Columns that the user of each row likes.
    known: Vec<Vec<u32>>,
    users: Vec<Vec<f32>>,
    vectors: Vec<Vec<f32>>,
    /// Logits of the first rows, after bias; `None` is masked.
    first_logits: Vec<Vec<Option<f32>>>,
    loss: f32,
    user_gradients: Vec<Vec<f32>>,
    vector_gradients: Vec<Vec<f32>>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!(
        "../../../../fixtures/golden/sampled_softmax.json"
    ))
    .unwrap()
}

impl Golden {
    fn candidates(&self) -> Candidates {
        let bias = |count: u32, expected: f32| (count as f32).ln() - expected.ln();
        let expected = self.expected.iter().copied();
        Candidates {
            items: self.items.clone(),
            negative_bias: (self.counts.iter().copied().zip(expected.clone()))
                .map(|(count, expected)| bias(count, expected))
                .collect(),
            positive_bias: expected.map(|expected| bias(1, expected)).collect(),
            skipped_bias: vec![0.0; self.counts.len()],
        }
    }

    /// Columns of the targets.
    fn columns(&self) -> Vec<usize> {
        let column = |target| self.items.iter().position(|item| item == target).unwrap();
        self.targets.iter().map(column).collect()
    }
}

fn assert_close(what: &str, actual: &[f32], expected: &[f32]) {
    assert_eq!(actual.len(), expected.len(), "{what}: number of values");
    let largest = expected.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
    for (position, (a, e)) in actual.iter().zip(expected).enumerate() {
        assert!(
            (a - e).abs() <= TOLERANCE * largest,
            "{what}, value {position}: {a}, expected {e} (largest {largest})"
        );
    }
}

/// Checks the batch repeated `repeats` times: the mean loss and the gradients of candidates stay
/// the same, and those of each user are divided by `repeats`.
fn check(repeats: usize) {
    let golden = golden();
    let (candidates, columns) = (golden.candidates(), golden.columns());
    let users = golden.users.concat().repeat(repeats);
    let (batch, vectors) = (golden.targets.len(), golden.vectors.concat());
    let dim = golden.users[0].len();
    let mut gradients = (vec![0.0; users.len()], vec![0.0; vectors.len()]);
    let loss = SampledSoftmax::default().forward_backward(
        Operands {
            users: &users,
            vectors: &vectors,
            candidates: &candidates,
            dim,
            temperature: golden.temperature,
        },
        |b| Row {
            target: columns[b % batch],
            known: &golden.known[b % batch],
            skipped: &[],
        },
        &mut Gradients {
            users: &mut gradients.0,
            candidates: &mut gradients.1,
        },
    );
    assert_close("loss", &[loss], &[golden.loss]);
    for user_gradients in gradients.0.chunks_exact(batch * dim) {
        let scaled: Vec<f32> = user_gradients.iter().map(|x| x * repeats as f32).collect();
        assert_close("users", &scaled, &golden.user_gradients.concat());
    }
    assert_close("vectors", &gradients.1, &golden.vector_gradients.concat());
}

#[test]
fn loss_and_gradients_agree_with_autograd() {
    let golden = golden();
    assert!(golden.targets.len() > super::TILE && golden.items.len() > super::TILE);
    check(1);
}

#[test]
fn so_they_do_over_several_blocks_of_rows() {
    assert!(golden().targets.len() * 8 > super::BLOCK);
    check(8);
}

/// With one row at a time the loss is that of the row, and its logits follow from it.
#[test]
fn logits_after_bias_agree_with_the_reference() {
    let golden = golden();
    let (candidates, columns) = (golden.candidates(), golden.columns());
    for (b, expected) in golden.first_logits.iter().enumerate() {
        let mut softmax = SampledSoftmax::default();
        let vectors = golden.vectors.concat();
        let (mut users, mut items) = (vec![0.0; golden.users[b].len()], vec![0.0; vectors.len()]);
        let loss = softmax.forward_backward(
            Operands {
                users: &golden.users[b],
                vectors: &vectors,
                candidates: &candidates,
                dim: users.len(),
                temperature: golden.temperature,
            },
            |_| Row {
                target: columns[b],
                known: &golden.known[b],
                skipped: &[],
            },
            &mut Gradients {
                users: &mut users,
                candidates: &mut items,
            },
        );
        // The buffer holds softmax - 1 of the target, times the denominator that the user is
        // divided by.
        let denominator = golden.users[b][0] / softmax.scaled[0];
        let largest = expected
            .iter()
            .flatten()
            .fold(0.0_f32, |max, x| max.max(x.abs()));
        let target = expected[columns[b]].unwrap();
        for (c, (gradient, expected)) in softmax.logits.iter().zip(expected).enumerate() {
            let p = gradient / denominator + if c == columns[b] { 1.0 } else { 0.0 };
            match expected {
                None => assert_eq!(p.to_bits(), 0, "row {b}, column {c} is masked"),
                Some(expected) => {
                    let logit = p.ln() + loss + target;
                    // p - 1 near 0 has lost digits of the target's p; the others are accurate.
                    let tolerance = if c == columns[b] {
                        1e-6 / p
                    } else {
                        TOLERANCE * largest
                    };
                    assert!(
                        (logit - expected).abs() <= tolerance,
                        "row {b}, column {c}: {logit}, expected {expected}"
                    );
                }
            }
        }
    }
}

fn options(negatives: usize) -> SamplerOptions {
    SamplerOptions {
        negatives,
        log_q: true,
        skip_weight: 0.0,
    }
}

/// Here each like is a target.
fn targets(golden: &Golden) -> Vec<f64> {
    let counts = golden.like_counts.iter();
    counts.map(|&likes| f64::from(likes)).collect()
}

/// Without uniform draws the candidates of a batch are given, and so are their biases.
#[test]
fn the_sampler_subtracts_the_log_of_the_expected_count() {
    let golden = golden();
    let mut candidates = Candidates::default();
    CandidateSampler::new(&targets(&golden), options(0)).draw(
        Drawn {
            targets: &golden.targets,
            skipped: &[],
            history: &[],
        },
        &mut Pcg64Mcg::seed_from_u64(1),
        &mut candidates,
    );
    let uniform = golden.negatives as f32 / golden.like_counts.len() as f32;
    let drawn = |item| golden.drawn.iter().filter(|&&n| n == item).count() as u32;
    for (column, &item) in candidates.items.iter().enumerate() {
        assert_eq!(item, golden.items[column], "in the order of the targets");
        let expected = golden.expected[column] - uniform;
        let count = golden.counts[column] - drawn(item);
        let bias = (count as f32).ln() - expected.ln();
        assert!((candidates.negative_bias[column] - bias).abs() < 1e-4);
        assert!((candidates.positive_bias[column] + expected.ln()).abs() < 1e-4);
    }
}

/// With uniform draws every candidate's two biases differ by the log of its count, and the
/// expectation is the mixture's.
#[test]
fn the_sampler_expects_the_mixture_of_targets_and_uniform_draws() {
    let golden = golden();
    let mut candidates = Candidates::default();
    CandidateSampler::new(&targets(&golden), options(19)).draw(
        Drawn {
            targets: &golden.targets,
            skipped: &[],
            history: &[],
        },
        &mut Pcg64Mcg::seed_from_u64(1),
        &mut candidates,
    );
    let uniform = |negatives: usize| negatives as f32 / golden.like_counts.len() as f32;
    let (mut compared, mut draws) = (0, 0.0);
    for (column, item) in candidates.items.iter().enumerate() {
        let (negative, positive) = (
            candidates.negative_bias[column],
            candidates.positive_bias[column],
        );
        draws += (negative - positive).exp();
        if let Some(known) = golden.items.iter().position(|other| other == item) {
            let expected = golden.expected[known] - uniform(golden.negatives) + uniform(19);
            assert!((positive + expected.ln()).abs() < 1e-4);
            compared += 1;
        }
    }
    assert!(compared > 30);
    assert!((draws - (golden.targets.len() + 19) as f32).abs() < 1e-3);
}
