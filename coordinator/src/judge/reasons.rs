//! Why a run does not pass, and which of the three verdicts follows.

use gauntlet_common::verdict::{Cause, Outcome};

/// Why a run's exit code is not 0, in words for people.
pub(super) type Reasons = Vec<(Cause, String)>;

/// Invalid before failed before passed.
pub(super) fn outcome(reasons: &Reasons) -> Outcome {
    let failed = |cause: &Cause| matches!(cause, Cause::CheckFailed | Cause::Correctness | Cause::Regression);
    match () {
        () if reasons.iter().any(|(cause, _)| !failed(cause)) => Outcome::Invalid,
        () if reasons.is_empty() => Outcome::Pass,
        () => Outcome::Fail,
    }
}
