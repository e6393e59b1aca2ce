//! Latencies: HDR histograms of microseconds, 3 significant digits from 1 us, that resize and never clip.
//! Source: G. Tene, HdrHistogram; the encoding is its V2 format.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use hdrhistogram::serialization::{Deserializer, Serializer, V2Serializer};
use serde::{Deserialize, Serialize, de};

/// A histogram of microseconds.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram(hdrhistogram::Histogram<u64>);

/// Bytes that are no histogram.
#[derive(Debug, thiserror::Error)]
#[error("{} bytes are no HDR V2 histogram: {why}", .bytes)]
pub struct DecodeError {
    bytes: usize,
    why: String,
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

impl Histogram {
    /// An empty one.
    pub fn new() -> Self {
        let mut inner = hdrhistogram::Histogram::new(3).expect("3 digits are within HDR's 0..=5");
        inner.auto(true);
        Self(inner)
    }

    /// Counts one value, in microseconds. Never fails and never clips: the histogram grows (a year is 2^45 us).
    pub fn record(&mut self, us: u64) {
        self.0.record(us.min(1 << 50)).expect("a resizing histogram takes any value below 2^50");
    }

    /// Adds all of another's values. Exact: bucket by bucket.
    pub fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("a resizing histogram takes any other");
    }

    /// Forgets all values and keeps the memory.
    pub fn clear(&mut self) {
        self.0.reset();
    }

    /// How many values.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// Whether it has no values.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value below or at which this share (0..=1) of all lies; 0 when empty.
    pub fn quantile(&self, q: f64) -> u64 {
        if self.is_empty() { 0 } else { self.0.value_at_quantile(q) }
    }

    /// Smallest value; 0 when empty.
    pub fn min(&self) -> u64 {
        if self.is_empty() { 0 } else { self.0.min() }
    }

    /// Largest value; 0 when empty.
    pub fn max(&self) -> u64 {
        if self.is_empty() { 0 } else { self.0.max() }
    }

    /// Mean; 0 when empty.
    pub fn mean(&self) -> f64 {
        if self.is_empty() { 0.0 } else { self.0.mean() }
    }

    /// Recorded buckets as (highest equivalent value in us, count), ascending.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.iter_recorded().map(|v| (v.value_iterated_to(), v.count_since_last_iteration()))
    }

    /// As HDR V2 bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(256);
        V2Serializer::new().serialize(&self.0, &mut bytes).expect("writing to memory does not fail");
        bytes
    }

    /// From HDR V2 bytes; no bytes are an empty histogram.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.is_empty() {
            return Ok(Self::new());
        }
        let mut inner: hdrhistogram::Histogram<u64> = Deserializer::new()
            .deserialize(&mut &*bytes)
            .map_err(|e| DecodeError { bytes: bytes.len(), why: e.to_string() })?;
        inner.auto(true);
        Ok(Self(inner))
    }
}

/// In text: the V2 bytes in base64; an empty text is an empty histogram.
impl Serialize for Histogram {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes = if self.is_empty() { Vec::new() } else { self.encode() };
        serializer.serialize_str(&STANDARD_NO_PAD.encode(bytes))
    }
}

impl<'de> Deserialize<'de> for Histogram {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = STANDARD_NO_PAD.decode(text).map_err(de::Error::custom)?;
        Self::decode(&bytes).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn merging_is_the_same_as_recording_into_one(a in prop::collection::vec(0u64..100_000_000, 0..300),
                                                     b in prop::collection::vec(0u64..100_000_000, 0..300)) {
            let (mut left, mut right, mut pooled) = (Histogram::new(), Histogram::new(), Histogram::new());
            a.iter().for_each(|v| { left.record(*v); pooled.record(*v) });
            b.iter().for_each(|v| { right.record(*v); pooled.record(*v) });
            left.add(&Histogram::decode(&right.encode()).unwrap());
            prop_assert_eq!(left.count(), pooled.count());
            for q in [0.0, 0.5, 0.9, 0.99, 1.0] {
                prop_assert_eq!(left.quantile(q), pooled.quantile(q));
            }
        }
        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Histogram::decode(&bytes);
        }
    }

    #[test]
    fn values_are_never_clipped() {
        let mut h = Histogram::new();
        h.record(3_600_000_000);
        assert!(h.max() >= 3_600_000_000);
    }
}
