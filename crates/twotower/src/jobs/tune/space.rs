//! The search space: one table, from which trials are drawn, and which docs/training.md shows row
//! by row.

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use std::collections::BTreeMap;
use std::fmt;
use twotower_core::hyperparameters::Hyperparameters;

/// The search space. It does not contain `embedding_dim`: people have to decide what vectors may
/// cost in storage and serving.
pub(super) const SEARCH_SPACE: [Dimension; 13] = [
    number("temperature", Values::LogUniform(0.05, 0.3), |h| {
        &mut h.temperature
    }),
    number("learning_rate", Values::LogUniform(0.0005, 0.01), |h| {
        &mut h.learning_rate
    }),
    number("table_learning_rate", Values::LogUniform(0.01, 0.5), |h| {
        &mut h.table_learning_rate
    }),
    number("input_dropout", Values::Uniform(0.0, 0.6), |h| {
        &mut h.input_dropout
    }),
    number("hidden_dropout", Values::Uniform(0.0, 0.6), |h| {
        &mut h.hidden_dropout
    }),
    number("weight_decay", Values::LogUniform(1e-5, 1e-1), |h| {
        &mut h.weight_decay
    }),
    count("negatives", &[256.0, 512.0, 1024.0, 2048.0], |h| {
        &mut h.negatives
    }),
    count("batch_size", &[256.0, 512.0, 1024.0], |h| &mut h.batch_size),
    count("user_hidden", &[64.0, 128.0, 256.0], |h| &mut h.user_hidden),
    count("item_hidden", &[64.0, 128.0, 256.0], |h| &mut h.item_hidden),
    number("id_dropout", Values::Uniform(0.0, 0.3), |h| {
        &mut h.id_dropout
    }),
    number("skip_weight", Values::Choice(&[0.0, 1.0, 4.0]), |h| {
        &mut h.skip_weight
    }),
    number("popularity", Values::Uniform(0.0, 0.4), |h| {
        &mut h.popularity
    }),
];

/// One row of the search space.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dimension {
    /// Name of the hyperparameter.
    pub(super) name: &'static str,
    values: Values,
    field: Field,
}

/// Values and their distribution.
#[derive(Debug, Clone, Copy)]
enum Values {
    /// Uniform, from the first to the last.
    Uniform(f64, f64),
    /// Uniform in the logarithm.
    LogUniform(f64, f64),
    /// One of these.
    Choice(&'static [f64]),
}

/// The field that the value is written to.
#[derive(Debug, Clone, Copy)]
enum Field {
    Number(fn(&mut Hyperparameters) -> &mut f32),
    Count(fn(&mut Hyperparameters) -> &mut usize),
}

const fn number(
    name: &'static str,
    values: Values,
    field: fn(&mut Hyperparameters) -> &mut f32,
) -> Dimension {
    let field = Field::Number(field);
    Dimension {
        name,
        values,
        field,
    }
}

const fn count(
    name: &'static str,
    choice: &'static [f64],
    field: fn(&mut Hyperparameters) -> &mut usize,
) -> Dimension {
    let (values, field) = (Values::Choice(choice), Field::Count(field));
    Dimension {
        name,
        values,
        field,
    }
}

impl Dimension {
    fn set(&self, hyperparameters: &mut Hyperparameters, value: f64) {
        match self.field {
            Field::Number(field) => *field(hyperparameters) = value as f32,
            Field::Count(field) => *field(hyperparameters) = value as usize,
        }
    }

    /// The value as it is written: the shortest decimal that parses to the same float32.
    fn get(&self, hyperparameters: &Hyperparameters) -> f64 {
        let mut hyperparameters = hyperparameters.clone();
        match self.field {
            Field::Number(field) => {
                let value = *field(&mut hyperparameters);
                value.to_string().parse().unwrap_or(f64::from(value))
            }
            Field::Count(field) => *field(&mut hyperparameters) as f64,
        }
    }
}

impl Values {
    fn draw(self, random: &mut Pcg64Mcg) -> f64 {
        match self {
            Self::Uniform(low, high) => rounded(low + (high - low) * random.random::<f64>()),
            Self::LogUniform(low, high) => {
                let (low, high) = (low.ln(), high.ln());
                rounded((low + (high - low) * random.random::<f64>()).exp())
            }
            Self::Choice(values) => values[random.random_range(0..values.len())],
        }
    }
}

/// The row as in the documentation.
impl fmt::Display for Values {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uniform(low, high) => write!(formatter, "{low} to {high}"),
            Self::LogUniform(low, high) => write!(formatter, "{low} to {high}, logarithmic"),
            Self::Choice(values) => {
                let values: Vec<String> = values.iter().map(f64::to_string).collect();
                formatter.write_str(&values.join(", "))
            }
        }
    }
}

/// Rounds to three digits: more make no difference, and people read the configuration file.
fn rounded(value: f64) -> f64 {
    format!("{value:.2e}").parse().unwrap_or(value)
}

/// The hyperparameters of `trials` trials. The first is `base`. Trial n does not depend on
/// `trials`.
pub(super) fn draw(base: &Hyperparameters, seed: u64, trials: usize) -> Vec<Hyperparameters> {
    let mut random = Pcg64Mcg::seed_from_u64(seed);
    let drawn = std::iter::repeat_with(|| {
        let mut hyperparameters = base.clone();
        for dimension in &SEARCH_SPACE {
            dimension.set(&mut hyperparameters, dimension.values.draw(&mut random));
        }
        hyperparameters
    });
    std::iter::once(base.clone())
        .chain(drawn)
        .take(trials)
        .collect()
}

/// Hyperparameters that need at least as much memory as any of `trials`: the largest value in each
/// dimension, and otherwise those of the first.
pub(super) fn largest<'h>(
    mut trials: impl Iterator<Item = &'h Hyperparameters>,
) -> Hyperparameters {
    let mut largest = trials.next().cloned().unwrap_or_default();
    for trial in trials {
        for dimension in &SEARCH_SPACE {
            let value = dimension.get(trial).max(dimension.get(&largest));
            dimension.set(&mut largest, value);
        }
    }
    largest
}

/// The values of the search space that differ from `base`.
pub(super) fn differences(
    hyperparameters: &Hyperparameters,
    base: &Hyperparameters,
) -> BTreeMap<&'static str, f64> {
    SEARCH_SPACE
        .iter()
        .map(|dimension| (dimension, dimension.get(hyperparameters)))
        .filter(|(dimension, value)| value.total_cmp(&dimension.get(base)).is_ne())
        .map(|(dimension, value)| (dimension.name, value))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn within(values: Values, value: f64) -> bool {
        match values {
            Values::Uniform(low, high) | Values::LogUniform(low, high) => {
                (low..=high).contains(&value)
            }
            Values::Choice(values) => values.contains(&value),
        }
    }

    #[test]
    fn trials_are_of_the_space_and_valid() {
        let base = Hyperparameters {
            embedding_dim: 32,
            user_hidden: 17,
            ..Hyperparameters::default()
        };
        let trials = draw(&base, 42, 300);
        assert_eq!((trials.len(), &trials[0]), (300, &base));
        for trial in &trials[1..] {
            assert_eq!(trial.validate(), Ok(()));
            assert_eq!(trial.embedding_dim, 32);
            for dimension in &SEARCH_SPACE {
                let value = dimension.get(trial);
                assert!(
                    within(dimension.values, value),
                    "{} is {value}",
                    dimension.name
                );
            }
        }
        for dimension in &SEARCH_SPACE {
            let middle = match dimension.values {
                Values::Uniform(low, high) => f64::midpoint(low, high),
                Values::LogUniform(low, high) => (low * high).sqrt(),
                Values::Choice(values) => f64::midpoint(values[0], values[1]),
            };
            let below = trials[1..].iter().filter(|h| dimension.get(h) < middle);
            let below = below.count();
            assert!(
                (50..250).contains(&below),
                "{}: {below} of 299 are below {middle}",
                dimension.name
            );
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_trials_and_more_of_them_change_none() {
        let base = Hyperparameters::default();
        let trials = draw(&base, 7, 9);
        assert_eq!(trials, draw(&base, 7, 27)[..9]);
        assert_ne!(trials[1..], draw(&base, 8, 9)[1..]);
    }

    #[test]
    fn no_trial_is_larger_than_the_largest() {
        let base = Hyperparameters {
            batch_size: 2000,
            ..Hyperparameters::default()
        };
        let trials = draw(&base, 3, 40);
        let largest = largest(trials.iter());
        for dimension in &SEARCH_SPACE {
            let values = trials.iter().map(|trial| dimension.get(trial));
            let most = values.fold(f64::MIN, f64::max);
            assert!(dimension.get(&largest).total_cmp(&most).is_eq());
        }
        assert_eq!((largest.batch_size, largest.negatives), (2000, 2048));
        assert_eq!(largest.embedding_dim, base.embedding_dim);
    }

    #[test]
    fn differences_are_said_as_they_are_written() {
        let base = Hyperparameters::default();
        let other = Hyperparameters {
            temperature: 0.0837,
            negatives: 1024,
            epochs: 3,
            ..base.clone()
        };
        assert!(differences(&base, &base).is_empty());
        assert_eq!(
            differences(&other, &base),
            [("negatives", 1024.0), ("temperature", 0.0837)].into()
        );
    }

    #[test]
    fn the_documentation_shows_the_space() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/training.md");
        let text = std::fs::read_to_string(path).unwrap();
        let section = text.split("\n### Search space\n").nth(1).unwrap();
        let section = section.split("\n#").next().unwrap();
        let documented: Vec<&str> = section
            .lines()
            .filter(|line| line.starts_with("| `"))
            .collect();
        let rows = SEARCH_SPACE.map(|row| format!("| `{}` | {} |", row.name, row.values));
        assert_eq!(documented.len(), rows.len());
        for (documented, row) in documented.iter().zip(rows) {
            assert!(documented.starts_with(&row), "{documented}, not {row}");
        }
    }
}
