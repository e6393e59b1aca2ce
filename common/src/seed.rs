//! One seed, one plan: everything random derives from (seed, stable key), never from an order of calls, so that
//! taking one fault or user out moves no other.
//!
//! The generator is SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", OOPSLA 2014) over a key
//! hashed by XXH3: both are fixed by their definitions, so draws are equal on every machine and version.

use xxhash_rust::xxh3::xxh3_64_with_seed;

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// A stream of draws that depends on nothing but the key it was made from.
#[derive(Debug, Clone)]
pub struct Draws {
    state: u64,
}

/// The key of a stream: the run's seed and a stable name, such as `["fault", id]`.
pub fn key(seed: u64, parts: &[&str]) -> u64 {
    parts.iter().fold(mix(seed ^ GOLDEN), |acc, part| xxh3_64_with_seed(part.as_bytes(), acc))
}

/// A key narrowed by numbers: (user, iteration). Cheap enough for every request.
pub fn narrow(key: u64, numbers: [u64; 2]) -> u64 {
    mix(mix(key ^ numbers[0].wrapping_mul(GOLDEN)).wrapping_add(numbers[1].wrapping_mul(0xD1B5_4A32_D192_ED03)))
}

const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl Draws {
    /// Starts the stream of a key.
    pub fn new(key: u64) -> Self {
        Self { state: key }
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GOLDEN);
        mix(self.state)
    }

    /// Uniform in [0, 1), 53 bits.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in 0..n by widening multiplication (Lemire 2019; the bias is below n / 2^64). `n` > 0.
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(n)) >> 64) as u64
    }

    /// Uniform in min..=max.
    pub fn between(&mut self, min: u64, max: u64) -> u64 {
        match (max - min).checked_add(1) {
            Some(n) => min + self.below(n),
            None => self.next_u64(),
        }
    }

    /// Exponential with mean 1.
    pub fn exponential(&mut self) -> f64 {
        -(1.0 - self.unit()).ln()
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Shuffles in place (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_draws_of_a_key_never_change_between_versions() {
        let mut draws = Draws::new(key(42, &["users", "p1"]));
        let first: Vec<u64> = (0..3).map(|_| draws.next_u64()).collect();
        assert_eq!(first, FIRST_DRAWS);
    }
    const FIRST_DRAWS: [u64; 3] = [17_889_511_299_226_828_510, 11_695_711_673_460_109_781, 2_675_837_403_364_030_832];

    #[test]
    fn streams_of_neighbouring_users_are_unlike() {
        let base = key(1, &["users"]);
        let mut heads: Vec<u64> = (0..1000).flat_map(|user| (0..100).map(move |i| narrow(base, [user, i]))).collect();
        heads.sort_unstable();
        heads.dedup();
        assert_eq!(heads.len(), 100_000);
    }

    #[test]
    fn draws_are_uniform_and_exponential_within_error() {
        let mut draws = Draws::new(7);
        let n = 200_000;
        let mean: f64 = (0..n).map(|_| draws.unit()).sum::<f64>() / f64::from(n);
        assert!((mean - 0.5).abs() < 0.005, "{mean}");
        let mean: f64 = (0..n).map(|_| draws.exponential()).sum::<f64>() / f64::from(n);
        assert!((mean - 1.0).abs() < 0.02, "{mean}");
        let mut buckets = [0u32; 7];
        (0..n).for_each(|_| buckets[draws.below(7) as usize] += 1);
        assert!(buckets.iter().all(|b| (f64::from(*b) / f64::from(n) * 7.0 - 1.0).abs() < 0.05), "{buckets:?}");
    }
}
