//! A histogram at rest: HDR V2 bytes, some hundred times smaller than its array of counts. One that much is added to is
//! kept live for a while: of many workers' shares of one second, each costs its buckets, and none an encoding.

use gauntlet_common::histogram::Histogram;

/// Parts that are kept before they are merged into a live one: late amendments and other workers' shares.
const PARTS_MAX: usize = 8;

/// The sum of the histograms that were added.
#[derive(Debug, Clone, Default)]
pub(super) struct Packed {
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
}
