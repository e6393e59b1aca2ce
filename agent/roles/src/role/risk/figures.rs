//! How much is at risk, pure: the trades of a window in, a figure from 0 (nothing) to 1 (the limit, or more) out.
//!
//! The source's figures cannot alert: its portfolio's is above 0.8 whenever 25 trades are, its counterparties' is drawn. These are
//! the usual ones in their plainest form: a parametric value at risk, and the largest net exposure.

use std::collections::{HashMap, VecDeque};

use crate::role::finance::Trade;

/// Trades of one window; beyond it the oldest are forgotten.
pub const TRADES_MAX: usize = 100_000;

/// The trades that were received within a span of time, on this node's clock.
#[derive(Debug, Default)]
pub struct Window {
    trades: VecDeque<(u64, Trade)>,
}

impl Window {
    /// Takes a trade in. Times do not run backwards.
    pub fn add(&mut self, received_ns: u64, trade: Trade) {
        if self.trades.len() == TRADES_MAX {
            self.trades.pop_front();
        }
        self.trades.push_back((received_ns, trade));
    }

    /// Forgets what was received before.
    pub fn forget_before(&mut self, ns: u64) {
        while self.trades.front().is_some_and(|(received, _)| *received < ns) {
            self.trades.pop_front();
        }
    }

    /// What is in it, the oldest first.
    pub fn trades(&self) -> impl ExactSizeIterator<Item = &Trade> + Clone {
        self.trades.iter().map(|(_, trade)| trade)
    }
}

/// Value at risk as a share of `limit`: for each instrument its net quantity times how much its price moves (the root mean square of
/// the movements its trades were decided on), summed in squares, as prices move independently.
pub fn portfolio<'a>(trades: impl Iterator<Item = &'a Trade>, limit: f64) -> f64 {
    let mut by_instrument: HashMap<&str, (f64, f64, f64)> = HashMap::new();
    for trade in trades {
        let (net, squares, count) = by_instrument.entry(&trade.instrument).or_default();
        *net += trade.side.sign() * trade.quantity as f64;
        *squares += trade.movement * trade.movement;
        *count += 1.0;
    }
    let squares: f64 = by_instrument.values().map(|(net, squares, count)| net * net * squares / count).sum();
    share(squares.sqrt(), limit)
}

/// The largest net value open with one counterparty as a share of `limit`.
pub fn counterparty<'a>(trades: impl Iterator<Item = &'a Trade>, limit: f64) -> f64 {
    let mut by_counterparty: HashMap<&str, f64> = HashMap::new();
    for trade in trades {
        let value = trade.side.sign() * trade.quantity as f64 * trade.price;
        *by_counterparty.entry(&trade.counterparty).or_default() += value;
    }
    share(by_counterparty.values().fold(0.0, |most, net| net.abs().max(most)), limit)
}

fn share(value: f64, limit: f64) -> f64 {
    (value / limit).min(1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::role::finance::Side;

    fn trade(instrument: &str, side: Side, quantity: u64, counterparty: &str, movement: f64) -> Trade {
        Trade {
            number: 1,
            strategy: "momentum".into(),
            instrument: instrument.into(),
            side,
            quantity,
            price: 100.0,
            counterparty: counterparty.into(),
            movement,
            execution_time: 1,
            node: "n1".into(),
        }
    }

    #[test]
    fn value_at_risk_is_the_net_quantity_times_the_movement() {
        let trades = [
            trade("A", Side::Buy, 400, "x", 2.0),
            trade("A", Side::Sell, 100, "y", 2.0),
            trade("B", Side::Sell, 800, "x", 0.5),
        ];
        // 300 × 2 and 800 × 0.5, in squares: √(600² + 400²).
        assert!((portfolio(trades.iter(), 1000.0) - 0.721_11).abs() < 1e-4);
        assert_eq!(portfolio(trades.iter(), 500.0), 1.0, "never more than all of it");
        assert_eq!(portfolio([].iter(), 500.0), 0.0);
    }

    #[test]
    fn exposure_is_the_largest_net_value_with_one_counterparty() {
        let trades = [
            trade("A", Side::Buy, 400, "x", 1.0),
            trade("B", Side::Sell, 300, "x", 1.0),
            trade("B", Side::Sell, 200, "y", 1.0),
        ];
        assert_eq!(counterparty(trades.iter(), 40_000.0), 0.5);
        assert_eq!(counterparty([].iter(), 40_000.0), 0.0);
    }

    #[test]
    fn a_window_forgets_what_is_older_and_keeps_no_more_than_its_bound() {
        let mut window = Window::default();
        (0..10).for_each(|n| window.add(n, trade("A", Side::Buy, n, "x", 1.0)));
        window.forget_before(7);
        assert_eq!(window.trades().map(|trade| trade.quantity).collect::<Vec<_>>(), [7, 8, 9]);
        (0..TRADES_MAX as u64).for_each(|n| window.add(10, trade("A", Side::Buy, n, "x", 1.0)));
        assert_eq!(window.trades().len(), TRADES_MAX);
    }

    proptest! {
        #[test]
        fn a_risk_is_a_share_and_grows_with_what_prices_do(
            quantities in prop::collection::vec((1u64..10_000, any::<bool>(), 0usize..3), 0..50),
            movement in 0.1..2.0f64, limit in 1_000.0..100_000.0f64,
        ) {
            let trades = |movement: f64| -> Vec<Trade> {
                let of = |(quantity, buy, i): &(u64, bool, usize)| {
                    let side = if *buy { Side::Buy } else { Side::Sell };
                    trade(["A", "B", "C"][*i], side, *quantity, ["x", "y", "z"][*i], movement)
                };
                quantities.iter().map(of).collect()
            };
            let (calm, wild) = (trades(movement), trades(movement * 3.0));
            let (low, high) = (portfolio(calm.iter(), limit), portfolio(wild.iter(), limit));
            prop_assert!((0.0..=1.0).contains(&low) && low <= high && high <= 1.0);
            prop_assert!((0.0..=1.0).contains(&counterparty(calm.iter(), limit)));
        }
    }
}
