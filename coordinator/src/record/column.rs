//! One thing by the second: the newest cells in memory, older ones in the store's file, in blocks of up to
//! [`BLOCK_CELLS`]. Each second's cell is in exactly one place; one that is amended after it was written comes back into memory first,
//! so that nothing that is read depends on what was written when.
//!
//! A block begins with its index, a second and the end of its cell for each; then the cells; then their sum, where they
//! have one.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, btree_map};
use std::io;
use std::iter::Peekable;
use std::mem::size_of;
use std::ops::Range;

use gauntlet_common::check::Intervals;

use super::block::{BLOCK_CELLS, Block, Place, Reader};
use super::cell::{Cell, Sum};
use super::store::Store;

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

/// Bytes that a cell takes in memory: nodes of the map are at least two thirds full, in the mean.
fn weight<T: Cell>(cell: &T) -> usize {
    size_of::<(u32, T)>() * 3 / 2 + cell.owns()
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
            if let Some(place) = block.places(store, &(second..second + 1)).pop() {
                block.gone.push(second);
                return Some(Reader::new(store).cell(place));
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
            let block = Block::write(store, &cells)?;
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
        let mut blocks: Vec<&Block<T::Sum>> =
            self.blocks.iter().filter(|block| block.touches(&span) && wanted(&block.sum)).collect();
        blocks.sort_by_key(|block| block.first);
        let fresh = self.fresh.range(span.start..span.end.max(span.start));
        InOrder {
            reader: Reader::new(store),
            blocks: blocks.into_iter().peekable(),
            span,
            open: BinaryHeap::new(),
            fresh: fresh.peekable(),
        }
    }

    /// The sum of all cells in these spans.
    pub(super) fn sum(&self, store: &Store, over: &Intervals) -> T::Sum {
        let mut sum = T::Sum::default();
        for span in over.spans() {
            for block in self.blocks.iter().filter(|block| block.touches(span)) {
                if block.is_within(span) {
                    sum.join(&block.sum);
                } else {
                    block.cells_within(store, span).for_each(|cell: T| sum.join(&cell.sum()));
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
                    take(&Reader::new(store).cell(block.whole_place()));
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

/// Cells of the file and of memory, each in the order of time, as one. Blocks are opened when their first second is due, so
/// that few of their indices are in memory at once.
pub(crate) struct InOrder<'a, T: Cell> {
    reader: Reader<'a>,
    /// By their first second.
    blocks: Peekable<std::vec::IntoIter<&'a Block<T::Sum>>>,
    span: Range<u32>,
    open: BinaryHeap<Reverse<Place>>,
    fresh: Peekable<btree_map::Range<'a, u32, T>>,
}

impl<'a, T: Cell> Iterator for InOrder<'a, T> {
    type Item = (u32, Cow<'a, T>);

    fn next(&mut self) -> Option<Self::Item> {
        let fresh = self.fresh.peek().map(|(second, _)| **second);
        loop {
            let opened = self.open.peek().map(|Reverse(place)| place.second);
            let next = opened.into_iter().chain(fresh).min();
            let Some(block) = self.blocks.next_if(|block| next.is_none_or(|next| block.first <= next)) else { break };
            self.open.extend(block.places(self.reader.store, &self.span).into_iter().map(Reverse));
        }
        let in_file = self.open.peek().is_some_and(|Reverse(place)| fresh.is_none_or(|fresh| place.second < fresh));
        match if in_file { self.open.pop() } else { None } {
            Some(Reverse(place)) => Some((place.second, Cow::Owned(self.reader.cell(place)))),
            None => self.fresh.next().map(|(second, cell)| (*second, Cow::Borrowed(cell))),
        }
    }
}
