//! Which positions may hold events of a span of time: the earliest and the latest creation of every [`SIZE`] positions. Sixteen bytes
//! a zone take the place of an index on creation times. Events are stored about as they are created, so a span of time is
//! a few zones; where they are not, queries by time read more and stay right.

/// Positions of one zone.
pub(super) const SIZE: u64 = 256;

/// Creation times of one zone, us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Zone {
    pub min: u64,
    pub max: u64,
}

/// Zone i holds the positions i × SIZE + 1 ..= (i + 1) × SIZE.
#[derive(Debug, Clone, Default)]
pub(super) struct Zones(Vec<Zone>);

impl Zones {
    pub(super) fn push(&mut self, zone: Zone) {
        self.0.push(zone);
    }

    pub(super) fn count(&self) -> u64 {
        self.0.len() as u64
    }

    pub(super) fn get(&self, index: u64) -> Option<Zone> {
        self.0.get(index as usize).copied()
    }

    /// Takes an event in. Positions come in order.
    pub(super) fn add(&mut self, position: u64, created_us: u64) {
        let index = ((position - 1) / SIZE) as usize;
        match self.0.get_mut(index) {
            Some(zone) => {
                zone.min = zone.min.min(created_us);
                zone.max = zone.max.max(created_us);
            }
            None => self.0.push(Zone { min: created_us, max: created_us }),
        }
    }

    /// The zones that may hold events created after `after` and before `before` (0: any), ascending, with their positions.
    pub(super) fn within(&self, after: u64, before: u64) -> impl Iterator<Item = (Zone, u64, u64)> + '_ {
        let hit = move |zone: &Zone| (after == 0 || zone.max > after) && (before == 0 || zone.min < before);
        let place = |(index, zone): (usize, &Zone)| (*zone, index as u64 * SIZE + 1, (index as u64 + 1) * SIZE);
        self.0.iter().enumerate().filter(move |(_, zone)| hit(zone)).map(place)
    }

    /// The same as runs of positions.
    pub(super) fn runs(&self, after: u64, before: u64) -> Vec<(u64, u64)> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for (_, from, to) in self.within(after, before) {
            match runs.last_mut() {
                Some((_, end)) if *end + 1 == from => *end = to,
                _ => runs.push((from, to)),
            }
        }
        runs
    }
}
