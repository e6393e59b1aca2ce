//! Sums of what was read back of acknowledged work: over an agent's load workers, and over the agents.

use crate::agent::{ReadBack, ReadBackDone};

/// Examples of missing ids that a sum keeps; more are left out, and counted all the same.
const EXAMPLES_MAX: usize = 10;

/// Nothing read yet of this ledger.
pub fn nothing(of: &ReadBack) -> ReadBackDone {
    ReadBackDone { role: of.role.clone(), ledger: of.ledger.clone(), ..Default::default() }
}

/// Whether a part is of this sum's ledger.
pub fn same_ledger(sum: &ReadBackDone, part: &ReadBackDone) -> bool {
    (&sum.role, &sum.ledger) == (&part.role, &part.ledger)
}

/// Adds a part of the same ledger.
pub fn add(sum: &mut ReadBackDone, part: ReadBackDone) {
    sum.acknowledged += part.acknowledged;
    sum.missing += part.missing;
    sum.duplicated += part.duplicated;
    sum.unreachable += part.unreachable;
    sum.examples.extend(part.examples);
    sum.examples.truncate(EXAMPLES_MAX);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up_and_their_examples_stay_few() {
        let mut sum = nothing(&ReadBack { role: "app".into(), ledger: "events".into() });
        for part in 1..=4 {
            let examples = (0..part).map(|i| format!("{part}.{i}")).collect();
            let done =
                ReadBackDone { acknowledged: part, missing: 1, duplicated: 2, unreachable: 3, examples, ..sum.clone() };
            assert!(same_ledger(&sum, &done));
            add(&mut sum, done);
        }
        assert_eq!((sum.acknowledged, sum.missing, sum.duplicated, sum.unreachable), (10, 4, 8, 12));
        assert_eq!(sum.examples.len(), EXAMPLES_MAX);
    }
}
