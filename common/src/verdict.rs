//! pass, fail or invalid, and the one exit code of a run.

use serde::{Deserialize, Serialize};

/// Three values: a run that could not measure is not a run that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Pass,
    Fail,
    Invalid,
}

/// Why a run's exit code is not 0; each has its code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// A fault was not applied or not undone.
    FaultNotUndone,
    /// Ended by this signal.
    Signal(u8),
    Internal,
    /// A correctness check failed: work was lost or duplicated.
    Correctness,
    ClusterNotReady,
    Invalid,
    CheckFailed,
    Regression,
    NothingRan,
}

impl Cause {
    /// All but signals, of which there are many.
    const ALL: [Self; 8] = [
        Self::FaultNotUndone,
        Self::Internal,
        Self::Correctness,
        Self::ClusterNotReady,
        Self::Invalid,
        Self::CheckFailed,
        Self::Regression,
        Self::NothingRan,
    ];

    /// The process's exit code.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::FaultNotUndone => 7,
            Self::Signal(number) => 128 + number,
            Self::Internal => 1,
            Self::Correctness => 11,
            Self::ClusterNotReady => 6,
            Self::Invalid => 5,
            Self::CheckFailed => 10,
            Self::Regression => 12,
            Self::NothingRan => 4,
        }
    }

    /// Lower comes first when several hold: 7, signal, 1, 11, 6, 5, 10, 12, 4.
    pub const fn rank(self) -> u8 {
        match self {
            Self::FaultNotUndone => 0,
            Self::Signal(_) => 1,
            Self::Internal => 2,
            Self::Correctness => 3,
            Self::ClusterNotReady => 4,
            Self::Invalid => 5,
            Self::CheckFailed => 6,
            Self::Regression => 7,
            Self::NothingRan => 8,
        }
    }
}

/// The worst of several runs' exit codes, in the order of [`Cause::rank`]; 0 when all passed.
pub fn worst(codes: impl IntoIterator<Item = u8>) -> u8 {
    let rank = |code: &u8| match code {
        0 => u8::MAX,
        // Bad input: nothing could begin, as on a cluster that is not ready.
        3 => Cause::ClusterNotReady.rank(),
        129.. => Cause::Signal(0).rank(),
        code => Cause::ALL.iter().find(|cause| cause.exit_code() == *code).map_or(Cause::Internal.rank(), |c| c.rank()),
    };
    codes.into_iter().min_by_key(rank).unwrap_or(0)
}

/// The exit code of all causes together; 0 without any.
pub fn exit_code(causes: impl IntoIterator<Item = Cause>) -> u8 {
    causes.into_iter().min_by_key(|cause| cause.rank()).map_or(0, Cause::exit_code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_several_causes_hold_the_documented_order_decides() {
        assert_eq!(exit_code([]), 0);
        assert_eq!(exit_code([Cause::CheckFailed, Cause::Invalid]), 5);
        assert_eq!(exit_code([Cause::Invalid, Cause::Correctness]), 11);
        assert_eq!(exit_code([Cause::Correctness, Cause::Signal(2)]), 130);
        assert_eq!(exit_code([Cause::Signal(15), Cause::FaultNotUndone]), 7);
        assert_eq!(exit_code([Cause::NothingRan, Cause::Regression]), 12);
    }

    #[test]
    fn the_worst_of_several_runs_follows_the_same_order() {
        let in_order = [7, 143, 1, 11, 6, 5, 10, 12, 4, 0];
        for (i, code) in in_order.iter().enumerate() {
            assert_eq!(worst(in_order[i..].iter().rev().copied()), *code);
        }
        assert_eq!((worst([10, 3, 0]), worst([3, 11]), worst([])), (3, 11, 0));
    }
}
