//! Checks of a version's vectors before readers see them.

use thiserror::Error;
use twotower_core::embedding::NORM_TOLERANCE;
use twotower_store::{Store, StoreError, VectorSummary, VectorTable};

/// Why a version cannot be made active.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum VectorFault {
    #[error(
        "{table} has {actual} vectors of version {version} where there should be {expected}, somebody else may have changed \
         them: run the same command again"
    )]
    Count {
        table: &'static str,
        version: i64,
        expected: u64,
        actual: u64,
    },
    #[error(
        "the vectors of version {version} are gone: load them with `twotower update --model-path models/{version} --no-activate`"
    )]
    Gone { version: i64 },
    #[error(
        "the vectors of version {version} were removed by `twotower prune` on {on}: load them again with `twotower update --model-path \
         models/{version} --no-activate`, if there is a copy of its folder"
    )]
    Pruned { version: i64, on: String },
    #[error(
        "{wrong} of {rows} vectors of version {version} in {table} {fault}: compute them again with `twotower update --model-path \
         models/{version} --full`"
    )]
    Wrong {
        table: &'static str,
        version: i64,
        wrong: u64,
        rows: u64,
        fault: String,
    },
}

/// Number of vectors of each kind that there must be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected {
    pub(super) videos: u64,
    /// `None` accepts any number.
    pub(super) users: Option<u64>,
}

/// Reads all vectors of a version. Without `expected`, any number of user vectors is accepted,
/// because they come and go.
///
/// `Ok(Err(_))` is the fault that was found.
pub(super) async fn check_vectors(
    store: &Store,
    version: i64,
    dim: usize,
    expected: Option<Expected>,
) -> Result<Result<(), VectorFault>, StoreError> {
    let videos = store.summarize_vectors(VectorTable::Videos, version, dim);
    let videos = videos.await?;
    let users = store.summarize_vectors(VectorTable::Users, version, dim);
    let users = users.await?;
    if videos.rows == 0 && expected.is_none() {
        return Ok(Err(VectorFault::Gone { version }));
    }
    let judge = |table, summary, expected| {
        Judged {
            table,
            version,
            dim,
            summary,
        }
        .verdict(expected)
    };
    Ok(
        judge("video_embeddings", videos, expected.map(|of| of.videos))
            .and_then(|()| judge("user_embeddings", users, expected.and_then(|of| of.users))),
    )
}

/// The vectors of one kind.
struct Judged {
    table: &'static str,
    version: i64,
    dim: usize,
    summary: VectorSummary,
}

impl Judged {
    fn verdict(&self, expected: Option<u64>) -> Result<(), VectorFault> {
        let (table, version) = (self.table, self.version);
        let VectorSummary {
            rows,
            wrong_dimension,
            not_finite,
            wrong_norm,
        } = self.summary;
        let faults = [
            (
                wrong_dimension,
                format!("have another dimension than {}", self.dim),
            ),
            (not_finite, "hold NaN or infinity".into()),
            (wrong_norm, format!("do not have norm 1 ± {NORM_TOLERANCE}")),
        ];
        for (wrong, fault) in faults {
            if wrong > 0 {
                return Err(VectorFault::Wrong {
                    table,
                    version,
                    wrong,
                    rows,
                    fault,
                });
            }
        }
        match expected {
            Some(expected) if expected != rows => Err(VectorFault::Count {
                table,
                version,
                expected,
                actual: rows,
            }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_is_said_in_words() {
        let good = VectorSummary {
            rows: 9,
            ..VectorSummary::default()
        };
        let verdict = |summary, expected| {
            let judged = Judged {
                table: "video_embeddings",
                version: 7,
                dim: 64,
                summary,
            };
            judged.verdict(expected).map_err(|fault| fault.to_string())
        };
        assert_eq!(verdict(good, Some(9)), Ok(()));
        assert_eq!(verdict(good, None), Ok(()));
        let cases = [
            (
                good,
                Some(10),
                "9 vectors of version 7 where there should be 10",
            ),
            (
                VectorSummary {
                    wrong_dimension: 2,
                    ..good
                },
                Some(9),
                "2 of 9 vectors of version 7 in video_embeddings have another dimension than 64",
            ),
            (
                VectorSummary {
                    not_finite: 1,
                    ..good
                },
                None,
                "hold NaN or infinity",
            ),
            (
                VectorSummary {
                    wrong_norm: 9,
                    ..good
                },
                None,
                "9 of 9 vectors of version 7 in video_embeddings do not have norm 1 ± 0.001",
            ),
        ];
        for (summary, expected, words) in cases {
            let said = verdict(summary, expected).unwrap_err();
            assert!(said.contains(words), "{said}");
        }
    }
}
