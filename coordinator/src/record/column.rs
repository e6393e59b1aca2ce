//! One thing by the second: the newest cells in memory, older ones in the store's file, in blocks of up to
//! [`BLOCK_CELLS`]. Each second's cell is in exactly one place; one that is amended after it was written comes back into memory first,
//! so that nothing that is read depends on what was written when.
//!
//! A block begins with its index, a second and the end of its cell for each; then the cells; then their sum, where they
//! have one.

use std::borrow::Cow;
use std::collections::{BTreeMap, btree_map};
use std::io;
use std::iter::Peekable;
use std::mem::size_of;
use std::ops::Range;

use gauntlet_common::check::Intervals;

use super::bytes::Bytes;
use super::store::Store;

/// Most cells of a block: its index is read whole to find one of them.
const BLOCK_CELLS: usize = 512;
const SPOILT: &str = "its bytes are not those that were written";
/// Bytes of a block's index for each cell.
const ENTRY: usize = 8;

/// What a column has for each second.
pub(crate) trait Cell: Clone + Default + 'static {
    /// Of any number of cells: what is asked for so often, or rules out so much, that it stays in memory.
    type Sum: Sum;
    /// Bytes that it owns beside itself.
    fn owns(&self) -> usize;
    fn sum(&self) -> Self::Sum;
    fn encode(&self, bytes: &mut Vec<u8>);
    /// None: these are not its bytes.
    fn decode(bytes: &mut Bytes<'_>) -> Option<Self>;
    /// All of these cells in one, of those parts that are the same in whatever order they are added. None: it has no such parts.
    fn whole<'a>(_cells: impl Iterator<Item = &'a Self> + Clone) -> Option<Self> {
        None
    }
}

/// What cells come to.
pub(crate) trait Sum: Copy + Default + std::fmt::Debug {
    fn join(&mut self, other: &Self);
}

impl Sum for () {
    fn join(&mut self, _: &Self) {}
}

#[derive(Debug)]
pub(crate) struct Column<T: Cell> {
    fresh: BTreeMap<u32, T>,
    /// In the order in which they were written.
    blocks: Vec<Block<T::Sum>>,
}

impl<T: Cell> Default for Column<T> {
    fn default() -> Self {
        Self { fresh: BTreeMap::new(), blocks: Vec::new() }
    }
}

#[derive(Debug)]
struct Block<S> {
    first: u32,
    last: u32,
    cells: u32,
    /// In the file.
    at: u64,
    /// Bytes of all cells, and then of their sum.
    length: u32,
    whole: u32,
    /// Of all cells as they were written.
    sum: S,
    /// Seconds whose cells came back into memory.
    gone: Vec<u32>,
}

/// Where a cell is in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    second: u32,
    at: u64,
    length: u32,
}

impl<S> Block<S> {
    fn touches(&self, span: &Range<u32>) -> bool {
        self.first < span.end && self.last >= span.start
    }

    /// All of it is within, and is as it was written.
    fn is_within(&self, span: &Range<u32>) -> bool {
        self.gone.is_empty() && span.start <= self.first && self.last < span.end
    }

    fn cells_within<T: Cell>(&self, store: &Store, span: &Range<u32>) -> impl Iterator<Item = T> {
        let places = self.places(store).into_iter().filter(|place| span.contains(&place.second));
        places.map(|place| read(store, place))
    }

    fn whole_place(&self) -> Place {
        let at = self.at + u64::from(self.cells) * ENTRY as u64 + u64::from(self.length);
        Place { second: self.first, at, length: self.whole }
    }

    /// Its cells that are still there; none of a block that cannot be read, which the store then knows.
    fn places(&self, store: &Store) -> Vec<Place> {
        let index = self.cells as usize * ENTRY;
        let Some(bytes) = store.read(self.at, index) else { return Vec::new() };
        let mut bytes = Bytes(&bytes);
        let mut begin = 0;
        let mut places = Vec::with_capacity(self.cells as usize);
        while let (Some(second), Some(end)) = (bytes.u32(), bytes.u32()) {
            if !(self.first..=self.last).contains(&second) || !(begin..=self.length).contains(&end) {
                store.spoilt(SPOILT);
                return Vec::new();
            }
            if !self.gone.contains(&second) {
                places.push(Place { second, at: self.at + index as u64 + u64::from(begin), length: end - begin });
            }
            begin = end;
        }
        places
    }
}

/// Bytes that a cell takes in memory: nodes of the map are at least two thirds full, in the mean.
fn weight<T: Cell>(cell: &T) -> usize {
    size_of::<(u32, T)>() * 3 / 2 + cell.owns()
}

fn read<T: Cell>(store: &Store, place: Place) -> T {
    let Some(bytes) = store.read(place.at, place.length as usize) else { return T::default() };
    T::decode(&mut Bytes(&bytes)).unwrap_or_else(|| {
        store.spoilt(SPOILT);
        T::default()
    })
}

impl<T: Cell> Column<T> {
    /// Changes a second's cell, an empty one when it has none.
    pub(super) fn change<R>(&mut self, store: &mut Store, second: u32, change: impl FnOnce(&mut T) -> R) -> R {
        if !self.fresh.contains_key(&second) {
            let cell = self.take_back(store, second).unwrap_or_default();
            store.held += weight(&cell);
            self.fresh.insert(second, cell);
        }
        self.change_fresh(store, second, change).expect("it was put there above")
    }

    /// The same of one that is in memory, if it is.
    pub(super) fn change_fresh<R>(
        &mut self,
        store: &mut Store,
        second: u32,
        change: impl FnOnce(&mut T) -> R,
    ) -> Option<R> {
        let cell = self.fresh.get_mut(&second)?;
        store.held -= weight(cell);
        let changed = change(cell);
        store.held += weight(cell);
        Some(changed)
    }

    fn take_back(&mut self, store: &Store, second: u32) -> Option<T> {
        for block in self.blocks.iter_mut().filter(|b| b.touches(&(second..second + 1))) {
            if let Some(place) = block.places(store).into_iter().find(|place| place.second == second) {
                block.gone.push(second);
                return Some(read(store, place));
            }
        }
        None
    }

    /// The first and the last second in memory.
    pub(super) fn in_memory(&self) -> Option<(u32, u32)> {
        Some((*self.fresh.first_key_value()?.0, *self.fresh.last_key_value()?.0))
    }

    /// Writes all cells before this second. After an error those that were not written are still in memory.
    pub(super) fn evict(&mut self, store: &mut Store, until: u32) -> io::Result<()> {
        while self.fresh.first_key_value().is_some_and(|(first, _)| *first < until) {
            let cells: Vec<(u32, &T)> =
                self.fresh.range(..until).take(BLOCK_CELLS).map(|(second, cell)| (*second, cell)).collect();
            let (mut block, bytes) = pack(&cells);
            block.at = store.append(&bytes)?;
            let kept = self.fresh.split_off(&(block.last + 1));
            let written = std::mem::replace(&mut self.fresh, kept);
            store.held -= written.values().map(weight).sum::<usize>();
            store.index += size_of::<Block<T::Sum>>();
            self.blocks.push(block);
        }
        Ok(())
    }

    /// The last second that it has.
    pub(crate) fn last(&self) -> Option<u32> {
        let fresh = self.fresh.keys().next_back().copied();
        self.blocks.iter().map(|block| block.last).chain(fresh).max()
    }

    /// Cells in the order of time. Blocks of the file whose sum is not wanted are left out; cells in memory never are.
    pub(super) fn cells<'a>(
        &'a self,
        store: &'a Store,
        span: Range<u32>,
        wanted: impl Fn(&T::Sum) -> bool,
    ) -> InOrder<'a, T> {
        let blocks = self.blocks.iter().filter(|block| block.touches(&span) && wanted(&block.sum));
        let mut places: Vec<Place> = blocks.flat_map(|block| block.places(store)).collect();
        places.retain(|place| span.contains(&place.second));
        places.sort_unstable();
        let fresh = self.fresh.range(span.start..span.end.max(span.start));
        InOrder { store, places: places.into_iter().peekable(), fresh: fresh.peekable() }
    }

    /// The sum of all cells in these spans.
    pub(super) fn sum(&self, store: &Store, over: &Intervals) -> T::Sum {
        let mut sum = T::Sum::default();
        for span in over.spans() {
            for block in self.blocks.iter().filter(|block| block.touches(span)) {
                if block.is_within(span) {
                    sum.join(&block.sum);
                } else {
                    block.cells_within::<T>(store, span).for_each(|cell| sum.join(&cell.sum()));
                }
            }
            self.fresh.range(span.clone()).for_each(|(_, cell)| sum.join(&cell.sum()));
        }
        sum
    }

    /// All cells in these spans in any order, many in one where that is written ([`Cell::whole`]).
    pub(super) fn pieces(&self, store: &Store, over: &Intervals, mut take: impl FnMut(&T)) {
        for span in over.spans() {
            for block in self.blocks.iter().filter(|block| block.touches(span)) {
                if block.whole > 0 && block.is_within(span) {
                    take(&read(store, block.whole_place()));
                } else {
                    block.cells_within(store, span).for_each(|cell| take(&cell));
                }
            }
            self.fresh.range(span.clone()).for_each(|(_, cell)| take(cell));
        }
    }
}

#[cfg(test)]
impl<T: Cell> Column<T> {
    /// Loses a second that is in memory.
    pub(super) fn lose(&mut self, second: u32) -> Option<T> {
        self.fresh.remove(&second)
    }
}

/// A block, still without its place in the file, and its bytes. Of one cell at least.
fn pack<T: Cell>(cells: &[(u32, &T)]) -> (Block<T::Sum>, Vec<u8>) {
    let (mut index, mut bytes) = (Vec::with_capacity(cells.len() * ENTRY), Vec::new());
    let mut sum = T::Sum::default();
    for (second, cell) in cells {
        sum.join(&cell.sum());
        cell.encode(&mut bytes);
        index.extend(second.to_le_bytes());
        index.extend((bytes.len() as u32).to_le_bytes());
    }
    let length = bytes.len();
    if let Some(whole) = T::whole(cells.iter().map(|(_, cell)| *cell)) {
        whole.encode(&mut bytes);
    }
    let whole = (bytes.len() - length) as u32;
    index.append(&mut bytes);
    let (first, last) = (cells[0].0, cells[cells.len() - 1].0);
    let block =
        Block { first, last, cells: cells.len() as u32, at: 0, length: length as u32, whole, sum, gone: Vec::new() };
    (block, index)
}

/// Cells of the file and of memory, each in the order of time, as one.
pub(crate) struct InOrder<'a, T: Cell> {
    store: &'a Store,
    places: Peekable<std::vec::IntoIter<Place>>,
    fresh: Peekable<btree_map::Range<'a, u32, T>>,
}

impl<'a, T: Cell> Iterator for InOrder<'a, T> {
    type Item = (u32, Cow<'a, T>);

    fn next(&mut self) -> Option<Self::Item> {
        let fresh = self.fresh.peek().map(|(second, _)| **second);
        let place = self.places.next_if(|place| fresh.is_none_or(|fresh| place.second < fresh));
        match place {
            Some(place) => Some((place.second, Cow::Owned(read(self.store, place)))),
            None => self.fresh.next().map(|(second, cell)| (*second, Cow::Borrowed(cell))),
        }
    }
}
