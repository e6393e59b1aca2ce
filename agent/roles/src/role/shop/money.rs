//! Money in whole cents: sums are exact, which those of binary fractions are not.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Digits before the point; larger amounts are refused, so that the sum of an order's items cannot overflow.
const DIGITS_MAX: usize = 9;

/// An amount, never below zero. Written with a point and at most two decimals: `926.99`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Cents(pub u64);

/// A text that is no amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no amount of money; write at most {DIGITS_MAX} digits and two decimals: 999.99")]
pub struct MoneyError(String);

impl FromStr for Cents {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Self, MoneyError> {
        let bad = || MoneyError(text.escape_debug().to_string().chars().take(40).collect());
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
        let sound = (1..=DIGITS_MAX).contains(&whole.len()) && (1..=2).contains(&part.len());
        if !sound || !digits(whole) || !digits(part) {
            return Err(bad());
        }
        let number = |text: &str| text.parse::<u64>().map_err(|_| bad());
        let tenths = if part.len() == 1 { 10 } else { 1 };
        Ok(Self(number(whole)? * 100 + number(part)? * tenths))
    }
}

impl fmt::Display for Cents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.0 / 100, self.0 % 100)
    }
}

impl Serialize for Cents {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cents {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn money_is_read_as_it_was_written(cents in 0..100_000_000_000u64) {
            prop_assert_eq!(Cents(cents).to_string().parse(), Ok(Cents(cents)));
        }
    }

    #[test]
    fn the_order_of_the_scenario_costs_exactly_926_99() {
        let cents = |text: &str| text.parse::<Cents>().unwrap().0;
        assert_eq!(Cents(cents("999.99") + cents("29.99") - cents("102.99")).to_string(), "926.99");
    }

    #[test]
    fn what_is_no_amount_is_refused_and_not_rounded() {
        for text in ["", ".5", "1.", "-1", "+1", "1.234", "1e3", "1,5", " 1", "1000000000", "٣"] {
            assert!(text.parse::<Cents>().is_err(), "{text}");
        }
        assert_eq!("7".parse(), Ok(Cents(700)));
        assert_eq!("7.5".parse(), Ok(Cents(750)));
    }
}
