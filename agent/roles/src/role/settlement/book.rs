//! Which trades of one engine are to be settled, pure: a delivery in, what of it is new out.
//!
//! An engine numbers its trades from 1 without a gap, so that one number says all: everything up to it is settled, nothing beyond. A
//! delivery that begins further on is refused, and read again from where this book stands; what is not new is dropped. So each
//! trade is settled exactly once, in whatever order and however often deliveries come, as long as a settlement and the book's place are
//! kept together: the book is made of the last settlement in the store.

/// Up to where an engine's trades are settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Book {
    /// The number of the last settled trade; 0 before the first.
    pub number: u64,
    /// Its position in the engine's store, after which to go on reading.
    pub position: u64,
}

/// A delivery from which trades are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("trade {found} came where {expected} was due")]
pub struct Gap {
    pub expected: u64,
    pub found: u64,
}

impl Book {
    /// Whether a trade of this number and position is new; then it is in the book.
    pub fn take(&mut self, number: u64, position: u64) -> Result<bool, Gap> {
        let expected = self.number + 1;
        if number > expected {
            return Err(Gap { expected, found: number });
        }
        let new = number == expected;
        if new {
            *self = Self { number, position };
        }
        Ok(new)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What happens to a settlement node.
    #[derive(Debug, Clone)]
    enum Step {
        /// These trades arrive, in this order, and what is new of them is kept in one piece.
        Deliver(Vec<u64>),
        /// The same, but the process dies before the batch is kept.
        DieBefore(Vec<u64>),
        /// Or after it, before anybody knows.
        DieAfter(Vec<u64>),
        /// What the subscription brings when it is joined anew: so many from where the book stands.
        Join(usize),
    }

    const TRADES: u64 = 40;

    fn step() -> impl Strategy<Value = Step> {
        // Any trades in any order; runs of them, so that some of what is delivered is due.
        let run = (1..=TRADES, 1..15u64).prop_map(|(from, n)| (from..(from + n).min(TRADES + 1)).collect::<Vec<_>>());
        let any = prop::collection::vec(1..=TRADES, 1..10);
        let trades = prop_oneof![run, any];
        prop_oneof![
            trades.clone().prop_map(Step::Deliver),
            trades.clone().prop_map(Step::DieBefore),
            trades.prop_map(Step::DieAfter),
            (1..10usize).prop_map(Step::Join),
        ]
    }

    /// Trade n lies at position 3n: others' events lie between.
    fn settle(book: &mut Book, trades: impl IntoIterator<Item = u64>) -> Vec<u64> {
        let mut batch = Vec::new();
        for number in trades {
            match book.take(number, number * 3) {
                Ok(true) => batch.push(number),
                Ok(false) => {}
                Err(_) => break,
            }
        }
        batch
    }

    fn of_store(store: &[u64]) -> Book {
        store.last().map_or_else(Book::default, |number| Book { number: *number, position: number * 3 })
    }

    proptest! {
        #[test]
        fn each_trade_is_settled_exactly_once_whatever_comes(steps in prop::collection::vec(step(), 0..40)) {
            let (mut store, mut book) = (Vec::new(), Book::default());
            for step in steps {
                match step {
                    Step::Deliver(trades) => store.extend(settle(&mut book, trades)),
                    Step::DieBefore(trades) => {
                        settle(&mut book, trades);
                        book = of_store(&store);
                    }
                    Step::DieAfter(trades) => {
                        store.extend(settle(&mut book, trades));
                        book = of_store(&store);
                    }
                    Step::Join(n) => {
                        let after = book.position;
                        store.extend(settle(&mut book, (1..=TRADES).filter(|n| n * 3 > after).take(n)));
                    }
                }
                prop_assert_eq!(book, of_store(&store), "the book and the store stand at the same place");
            }
            // In the end everything is delivered.
            let after = book.position;
            store.extend(settle(&mut book, (1..=TRADES).filter(|n| n * 3 > after)));
            prop_assert_eq!(store, (1..=TRADES).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_trade_that_is_missing_holds_everything_after_it_back() {
        let mut book = Book { number: 4, position: 12 };
        assert_eq!(book.take(6, 18), Err(Gap { expected: 5, found: 6 }));
        assert_eq!((book.take(4, 12), book.take(5, 15), book.take(6, 18)), (Ok(false), Ok(true), Ok(true)));
    }
}
