//! Which trades are not allowed, and whether exactly those were found, pure.

use std::collections::HashMap;

/// Whether a trade is so large that it must be told. (The source's limit of 5000 lies above all quantities it draws; scenarios inject
/// larger ones.)
pub fn is_large(quantity: u64, limit: u64) -> bool {
    quantity > limit
}

/// What was found, held against what there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Matched {
    /// Large trades with a violation.
    pub found: u64,
    /// Large trades without.
    pub missed: u64,
    /// Violations of trades that are not large, that do not exist, or that have one already.
    pub false_alarms: u64,
}

/// Matches violations, by the ids of their trades, with all trades: id and quantity.
pub fn matched<'a>(
    violations: impl IntoIterator<Item = &'a str>,
    trades: impl IntoIterator<Item = (&'a str, u64)>,
    limit: u64,
) -> Matched {
    let mut alarms: HashMap<&str, u64> = HashMap::new();
    let mut all = 0;
    for trade in violations {
        *alarms.entry(trade).or_default() += 1;
        all += 1;
    }
    let mut matched = Matched::default();
    for (id, quantity) in trades {
        if is_large(quantity, limit) {
            match alarms.remove(id) {
                Some(_) => matched.found += 1,
                None => matched.missed += 1,
            }
        }
    }
    matched.false_alarms = all - matched.found;
    matched
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_limit_itself_is_allowed() {
        assert!(!is_large(5_000, 5_000) && is_large(5_001, 5_000));
    }

    #[test]
    fn what_is_missed_invented_or_told_twice_is_told_apart() {
        let trades = [("a", 6_000), ("b", 100), ("c", 7_000), ("d", 5_001)];
        let matched = |violations: &[&'static str]| matched(violations.iter().copied(), trades, 5_000);
        assert_eq!(matched(&["a", "c", "d"]), Matched { found: 3, missed: 0, false_alarms: 0 });
        assert_eq!(matched(&["a", "c"]), Matched { found: 2, missed: 1, false_alarms: 0 });
        assert_eq!(matched(&["a", "b", "c", "d"]), Matched { found: 3, missed: 0, false_alarms: 1 });
        assert_eq!(matched(&["a", "a", "c", "d"]), Matched { found: 3, missed: 0, false_alarms: 1 });
        assert_eq!(matched(&["a", "c", "d", "x"]), Matched { found: 3, missed: 0, false_alarms: 1 });
    }

    proptest! {
        #[test]
        fn every_large_trade_is_found_or_missed_and_every_alarm_right_or_false(
            quantities in prop::collection::vec(1u64..10_000, 0..60),
            alarms in prop::collection::vec(0usize..80, 0..60),
        ) {
            let names: Vec<String> = (0..80).map(|n| format!("t{n}")).collect();
            let trades = || quantities.iter().enumerate().map(|(n, quantity)| (names[n].as_str(), *quantity));
            let violations: Vec<&str> = alarms.iter().map(|n| names[*n].as_str()).collect();
            let matched = matched(violations.iter().copied(), trades(), 5_000);
            let large = trades().filter(|(_, quantity)| *quantity > 5_000).count() as u64;
            prop_assert_eq!(matched.found + matched.missed, large);
            prop_assert_eq!(matched.found + matched.false_alarms, violations.len() as u64);
            let right: BTreeSet<_> = trades().filter(|(_, q)| *q > 5_000).map(|(id, _)| id).collect();
            let told: BTreeSet<_> = violations.into_iter().collect();
            prop_assert_eq!(matched.found as usize, right.intersection(&told).count());
        }
    }
}
