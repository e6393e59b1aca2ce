//! When an engine trades and what, pure: the latest market updates in, an intent out.

use gauntlet_common::seed::Draws;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::role::finance::{MarketUpdate, Side};

/// The mean change above which momentum trades: the source's.
const MOMENTUM: f64 = 0.5;
/// The share of decisions in which a market maker trades: the source's.
const LIQUIDITY: f64 = 0.3;

/// How an engine decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Strategy {
    /// Follows the market when its latest changes are more than 0.5 on average: what moved most, the way it moved.
    Momentum,
    /// Offers liquidity either way in three decisions of ten.
    MarketMaking,
}

/// What is to be traded.
#[derive(Debug, Clone, PartialEq)]
pub struct Intent {
    /// An index into the updates that were decided on.
    pub update: usize,
    pub side: Side,
}

impl Strategy {
    /// As in `strategies:`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Momentum => "momentum",
            Self::MarketMaking => "market_making",
        }
    }

    /// Decides on the latest updates; without any there is no trade.
    pub fn decide(self, updates: &[MarketUpdate], draws: &mut Draws) -> Option<Intent> {
        if updates.is_empty() {
            return None;
        }
        match self {
            Self::Momentum => {
                let mean = updates.iter().map(|update| update.price_change).sum::<f64>() / updates.len() as f64;
                let along = |change: f64| change * mean.signum();
                let most = |a: &(usize, f64), b: &(usize, f64)| along(a.1).total_cmp(&along(b.1));
                let changes = updates.iter().map(|update| update.price_change).enumerate();
                let (update, _) = changes.max_by(most).filter(|_| mean.abs() > MOMENTUM)?;
                Some(Intent { update, side: if mean > 0.0 { Side::Buy } else { Side::Sell } })
            }
            Self::MarketMaking => draws.chance(LIQUIDITY).then(|| Intent {
                update: draws.below(updates.len() as u64) as usize,
                side: if draws.chance(0.5) { Side::Buy } else { Side::Sell },
            }),
        }
    }
}

/// The root mean square of the changes; 0 without any.
pub fn movement(updates: &[MarketUpdate]) -> f64 {
    let squares: f64 = updates.iter().map(|update| update.price_change * update.price_change).sum();
    (squares / updates.len().max(1) as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Draws, Intent, MarketUpdate, Side, Strategy, movement};

    fn updates(changes: &[f64]) -> Vec<MarketUpdate> {
        let update = |change: &f64| MarketUpdate {
            instrument: "AAPL".into(),
            price_change: *change,
            price: 100.0,
            volume: 1_001,
            timestamp: 1,
        };
        changes.iter().map(update).collect()
    }

    #[test]
    fn momentum_follows_a_move_and_waits_while_there_is_none() {
        let decide = |changes: &[f64]| Strategy::Momentum.decide(&updates(changes), &mut Draws::new(1));
        assert_eq!(decide(&[]), None);
        assert_eq!(decide(&[0.9, -0.9, 0.6]), None);
        assert_eq!(decide(&[0.5, 0.5]), None, "above the limit, not at it");
        assert_eq!(decide(&[0.4, 0.9, 0.7]), Some(Intent { update: 1, side: Side::Buy }));
        assert_eq!(decide(&[-0.4, 0.1, -2.0]), Some(Intent { update: 2, side: Side::Sell }));
    }

    #[test]
    fn a_market_maker_trades_three_times_in_ten_either_way() {
        let (mut draws, updates) = (Draws::new(5), updates(&[0.1; 10]));
        let intents: Vec<_> = (0..20_000).filter_map(|_| Strategy::MarketMaking.decide(&updates, &mut draws)).collect();
        assert!((5_700..6_300).contains(&intents.len()), "{}", intents.len());
        let bought = intents.iter().filter(|intent| intent.side == Side::Buy).count();
        assert!((0.47..0.53).contains(&(bought as f64 / intents.len() as f64)), "{bought}");
    }

    proptest! {
        #[test]
        fn an_intent_is_about_an_update_that_was_seen(changes in prop::collection::vec(-4.0..4.0f64, 0..12), seed: u64) {
            for strategy in [Strategy::Momentum, Strategy::MarketMaking] {
                if let Some(intent) = strategy.decide(&updates(&changes), &mut Draws::new(seed)) {
                    prop_assert!(intent.update < changes.len());
                }
            }
            let most = changes.iter().fold(0.0f64, |most, change| most.max(change.abs()));
            prop_assert!(movement(&updates(&changes)) <= most + 1e-9);
        }
    }
}
