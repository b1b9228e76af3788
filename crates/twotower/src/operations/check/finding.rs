use super::{Finding, Verdict};
use twotower_core::time::{DAY_SECONDS, SECOND_US};
use twotower_store::StoreError;

impl Finding {
    fn new(check: &'static str, verdict: Verdict, evidence: String, fix: String) -> Self {
        Self {
            check,
            subject: None,
            verdict,
            evidence,
            fix,
        }
    }

    /// All is well.
    pub(super) fn passed(check: &'static str, evidence: impl Into<String>) -> Self {
        Self::new(check, Verdict::Passed, evidence.into(), String::new())
    }

    /// It works, but should be better.
    pub(super) fn warned(
        check: &'static str,
        evidence: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self::new(check, Verdict::Warned, evidence.into(), fix.into())
    }

    /// Something is wrong.
    pub(super) fn failed(
        check: &'static str,
        evidence: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self::new(check, Verdict::Failed, evidence.into(), fix.into())
    }

    /// It does not apply, or could not be checked; `fix` says how it could be.
    pub(super) fn skipped(
        check: &'static str,
        evidence: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self::new(check, Verdict::Skipped, evidence.into(), fix.into())
    }

    /// The database returned an error.
    pub(super) fn unseen(check: &'static str, error: &StoreError) -> Self {
        let fix = match error {
            StoreError::Permission(_) => {
                "run `twotower doctor` as the owner of the tables, or as a role that may see it"
            }
            StoreError::Schema(_) => "run `twotower migrate`",
            _ => "",
        };
        Self::skipped(check, format!("could not be looked at: {error}"), fix)
    }

    /// Names which of several things this is about.
    #[must_use]
    pub(super) fn about(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }
}

/// Passed if `holds`, else failed.
pub(super) fn judged(
    check: &'static str,
    holds: bool,
    evidence: impl Into<String>,
    fix: impl Into<String>,
) -> Finding {
    if holds {
        Finding::passed(check, evidence)
    } else {
        Finding::failed(check, evidence, fix)
    }
}

/// `1 video`, `2 videos`.
pub(super) fn counted(number: u64, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {thing}{plural}")
}

/// A duration for people.
pub(super) fn span(us: i64) -> String {
    let seconds = us / SECOND_US;
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / DAY_SECONDS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_rounded_down() {
        let said: Vec<String> = [59, 120, 7_199, 7_200, 172_799, 172_800]
            .map(|seconds| span(seconds * SECOND_US))
            .into();
        assert_eq!(said, ["59 s", "2 min", "119 min", "2 h", "47 h", "2 days"]);
    }
}
