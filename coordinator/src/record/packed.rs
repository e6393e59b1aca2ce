//! A histogram at rest: HDR V2 bytes, some hundred times smaller than its array of counts. One that much is added to is
//! kept live for a while: of many workers' shares of one second, each costs its buckets, and none an encoding.

use gauntlet_common::histogram::Histogram;

use super::bytes::Bytes;
use super::cell::Cell;

/// Parts that are kept before they are merged into a live one: late amendments and other workers' shares.
const PARTS_MAX: usize = 8;
/// What a live one is taken to weigh: its array, for latencies up to half a minute.
const LIVE_BYTES: usize = 128 * 1024;

/// The sum of the histograms that were added.
#[derive(Debug, Clone, Default)]
pub(crate) struct Packed {
    parts: Vec<Box<[u8]>>,
    live: Option<Box<Histogram>>,
}

impl Packed {
    /// Whether it has just become a live one, whose memory is the caller's to bound by [`Packed::freeze`].
    pub(super) fn add(&mut self, histogram: &Histogram) -> bool {
        if histogram.is_empty() {
            return false;
        }
        if let Some(live) = &mut self.live {
            live.add(histogram);
            return false;
        }
        if self.parts.len() < PARTS_MAX {
            self.parts.push(histogram.encode().into_boxed_slice());
            return false;
        }
        let mut live = Histogram::new();
        self.add_to(&mut live);
        live.add(histogram);
        (self.parts, self.live) = (Vec::new(), Some(Box::new(live)));
        true
    }

    /// Gives the memory of a live one back.
    pub(super) fn freeze(&mut self) {
        if let Some(live) = self.live.take() {
            self.parts.push(live.encode().into_boxed_slice());
        }
    }

    pub(super) fn add_to(&self, sum: &mut Histogram) {
        for part in &self.parts {
            sum.add(&Histogram::decode(part).expect("these bytes were encoded by this process"));
        }
        if let Some(live) = &self.live {
            sum.add(live);
        }
    }

    /// All of them in one part.
    pub(super) fn of<'a>(all: impl Iterator<Item = &'a Self>) -> Self {
        let mut sum = Histogram::new();
        all.for_each(|one| one.add_to(&mut sum));
        let mut packed = Self::default();
        packed.add(&sum);
        packed
    }
}

impl Cell for Packed {
    type Sum = ();

    fn owns(&self) -> usize {
        let parts: usize = self.parts.iter().map(|part| part.len() + 2 * size_of::<Box<[u8]>>()).sum();
        parts + self.live.as_ref().map_or(0, |_| LIVE_BYTES)
    }

    fn sum(&self) {}

    fn encode(&self, bytes: &mut Vec<u8>) {
        let live = self.live.as_ref().map(|live| live.encode());
        let parts = self.parts.iter().map(|part| &part[..]).chain(live.as_deref());
        bytes.extend((self.parts.len() as u32 + u32::from(live.is_some())).to_le_bytes());
        for part in parts {
            bytes.extend((part.len() as u32).to_le_bytes());
            bytes.extend(part);
        }
    }

    /// Bytes that are no histogram are refused here, so that nothing else needs to.
    fn decode(bytes: &mut Bytes<'_>) -> Option<Self> {
        let mut packed = Self::default();
        for _ in 0..bytes.u32()? {
            let length = bytes.u32()? as usize;
            let part = bytes.take(length)?;
            Histogram::decode(part).ok()?;
            packed.parts.push(part.into());
        }
        Some(packed)
    }

    fn whole<'a>(cells: impl Iterator<Item = &'a Self> + Clone) -> Option<Self> {
        Some(Self::of(cells))
    }
}
