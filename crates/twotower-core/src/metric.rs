//! Ranking metrics: of one user's list, of all lists together, and the precision of their means.
//!
//! Every function states its denominator and how ties count. Lists are made by
//! [`crate::recommend::top_k`]: score descending, ties to the smaller position.

mod accuracy;

mod auc;

mod exposure;

mod bootstrap;

pub use accuracy::{ndcg_at_k, precision_at_k, recall_at_k};
pub use auc::auc;
pub(crate) use bootstrap::ONE_IN;

pub use bootstrap::{Bootstrap, Estimate, Interval};
pub use exposure::{Exposure, PopularityScale};

/// A difference with its sign, such as `+0.0123`; without a sign if it rounds to 0.
pub fn signed(x: f64, decimals: usize) -> String {
    let text = format!("{x:+.decimals$}");
    if is_zero(&text) {
        text[1..].to_owned()
    } else {
        text
    }
}

/// Removes the sign of a zero such as `-0.00`.
pub(crate) fn unsigned_zero(text: String) -> String {
    match text.strip_prefix('-') {
        Some(zero) if is_zero(zero) => zero.to_owned(),
        _ => text,
    }
}

fn is_zero(text: &str) -> bool {
    text.chars().all(|c| matches!(c, '0' | '.' | '+' | '-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_has_no_sign() {
        for (x, expected) in [
            (0.012_34, "+0.0123"),
            (-0.012_34, "-0.0123"),
            (-0.000_01, "0.0000"),
            (0.000_01, "0.0000"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(signed(x, 4), expected);
        }
        assert_eq!(unsigned_zero("-0.0".into()), "0.0");
        assert_eq!(unsigned_zero("-0.1".into()), "-0.1");
    }
}
