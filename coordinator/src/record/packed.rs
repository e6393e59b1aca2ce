//! A histogram at rest: HDR V2 bytes, some hundred times smaller than its array of counts.

use gauntlet_common::histogram::Histogram;

/// Parts that are kept before they are merged into one: late amendments and other workers' shares.
const PARTS_MAX: usize = 8;

/// The sum of the histograms that were added.
#[derive(Debug, Clone, Default)]
pub(super) struct Packed {
    parts: Vec<Box<[u8]>>,
}

impl Packed {
    pub(super) fn add(&mut self, histogram: &Histogram) {
        if histogram.is_empty() {
            return;
        }
        self.parts.push(histogram.encode().into_boxed_slice());
        if self.parts.len() > PARTS_MAX {
            let mut all = Histogram::new();
            self.add_to(&mut all);
            self.parts = vec![all.encode().into_boxed_slice()];
        }
    }

    pub(super) fn add_to(&self, sum: &mut Histogram) {
        for part in &self.parts {
            sum.add(&Histogram::decode(part).expect("these bytes were encoded by this process"));
        }
    }
}
