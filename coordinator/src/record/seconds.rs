//! One thing by the second, wherever its cells are kept.

use std::borrow::Cow;

use gauntlet_common::check::Intervals;
use gauntlet_common::phase::RUN_MAX;

use super::cell::Cell;
use super::column::{Column, InOrder};
use super::store::Store;

/// Longest record, in intervals of a second: the longest run, and an hour in which it drains, heals and is read back.
pub const INTERVALS_MAX: u32 = (RUN_MAX.0 / 1_000_000) as u32 + 3_600;

/// One thing by the second, in memory or not.
pub(crate) struct Seconds<'a, T: Cell> {
    column: &'a Column<T>,
    store: &'a Store,
}

impl<'a, T: Cell> Seconds<'a, T> {
    pub fn new(column: &'a Column<T>, store: &'a Store) -> Self {
        Self { column, store }
    }

    /// In the order of time.
    pub fn all(&self) -> InOrder<'a, T> {
        self.column.cells(self.store, 0..INTERVALS_MAX, |_| true)
    }

    /// The same, of the seconds before this one.
    pub fn within(&self, until: u32) -> InOrder<'a, T> {
        self.column.cells(self.store, 0..until, |_| true)
    }

    /// The same, of these seconds.
    pub fn over<'o>(&self, over: &'o Intervals) -> impl Iterator<Item = (u32, Cow<'a, T>)> + use<'a, 'o, T> {
        let (column, store) = (self.column, self.store);
        over.spans().iter().flat_map(move |span| column.cells(store, span.clone(), |_| true))
    }

    /// The same, where blocks on disk may be left out whose sum is not wanted: the caller picks from the rest.
    pub fn picked(&self, wanted: impl Fn(&T::Sum) -> bool) -> InOrder<'a, T> {
        self.column.cells(self.store, 0..INTERVALS_MAX, wanted)
    }

    /// The last.
    pub fn last(&self) -> Option<u32> {
        self.column.last()
    }

    /// The cells of these seconds in any order, many in one where that is written ([`Cell::whole`]).
    pub fn pieces(&self, over: &Intervals, take: impl FnMut(&T)) {
        self.column.pieces(self.store, over, take);
    }
}
