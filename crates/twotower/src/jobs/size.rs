//! Checks before training whether the model could be saved.

use twotower_core::feature::Catalogue;
use twotower_core::hyperparameters::Hyperparameters;
use twotower_store::model_files;

/// Number of kinds of terms that a name may be: genre, maker, tag, performer.
const KINDS: usize = 4;

/// Refuses a model that would be too large to save. `known`: number of rows of the model to go on
/// from. `exact` counts the rows that there will be; it is called only if the bounds do not decide.
pub(super) fn check(
    catalogue: &Catalogue,
    hyperparameters: &Hyperparameters,
    known: usize,
    exact: impl FnOnce() -> anyhow::Result<usize>,
) -> anyhow::Result<()> {
    // Every bucket has a row, and so do videos without a row of their own, together.
    let least = known.max(1 + hyperparameters.ngram_buckets as usize);
    let most = 1
        + hyperparameters.ngram_buckets as usize
        + catalogue.len()
        + KINDS * catalogue.names()
        + known;
    model_files::check_size(least, hyperparameters)?;
    if model_files::check_size(most, hyperparameters).is_err() {
        model_files::check_size(exact()?, hyperparameters)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use twotower_core::feature::Video;
    use twotower_store::model_files::ModelFilesError;
    use uuid::Uuid;

    /// For two videos with a name each, in a model of `rows` rows and this many buckets.
    fn refused(ngram_buckets: u32, rows: Option<usize>) -> bool {
        let video = |n| Video {
            id: Uuid::from_u128(n),
            maker: Some(n.to_string()),
            ..Video::default()
        };
        let catalogue = Catalogue::new([video(1), video(2)]).unwrap();
        let hyperparameters = Hyperparameters {
            ngram_buckets,
            ..Hyperparameters::default()
        };
        let exact = || Ok(rows.expect("to be asked only where it decides"));
        let Err(error) = check(&catalogue, &hyperparameters, 0, exact) else {
            return false;
        };
        let text = error.to_string();
        assert!(
            text.contains("lower embedding_dim or ngram_buckets"),
            "{text}"
        );
        matches!(error.downcast_ref(), Some(ModelFilesError::TooLarge { .. }))
    }

    #[test]
    fn what_cannot_be_saved_is_refused_before_it_is_trained() {
        // 2 GiB are 2²³ rows of 64 numbers, minus the rest of the file.
        let most = (1..1 << 24)
            .rev()
            .find(|&rows| model_files::check_size(rows, &Hyperparameters::default()).is_ok())
            .unwrap();
        assert!((8_380_000..1 << 23).contains(&most), "{most}");
        assert!(!refused(1 << 15, None));
        assert!(refused(1 << 24, None));
        // This many buckets leave room for three rows.
        let buckets = u32::try_from(most - 4).unwrap();
        assert!(!refused(buckets, Some(most)));
        assert!(refused(buckets, Some(most + 1)));
    }
}
