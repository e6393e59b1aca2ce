//! Cells in the store's file: written once, many together, and read back one by one, in spans or as their sum.
//!
//! A block begins with its index, a second and the end of its cell for each, ascending; then the cells; then their sum,
//! where they have one. A checksum of the index stays in memory, so that a cell is found by halves and never missed.

use std::io;
use std::ops::Range;

use super::bytes::Bytes;
use super::cell::{Cell, Sum};
use super::store::Store;

/// Most cells of a block: its index is read whole to find one of them.
pub(super) const BLOCK_CELLS: usize = 512;
/// Bytes of a block's index for each cell.
const ENTRY: usize = 8;
/// Bytes that are read at once where cell after cell is wanted.
const READ_AHEAD: u64 = 32 * 1024;
const SPOILT: &str = "its bytes are not those that were written";

#[derive(Debug)]
pub(super) struct Block<S> {
    pub first: u32,
    pub last: u32,
    cells: u32,
    /// In the file.
    at: u64,
    /// Bytes of all cells, and then of their sum.
    length: u32,
    pub whole: u32,
    /// Of all cells as they were written.
    pub sum: S,
    /// Of the index.
    check: u64,
    /// Seconds whose cells came back into memory.
    pub gone: Vec<u32>,
}

/// Where a cell is in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub second: u32,
    length: u32,
    at: u64,
    /// Where the last cell ends that is wanted from the same block.
    until: u64,
}

impl<S: Sum> Block<S> {
    /// Writes these cells, at least one, in the order of time.
    pub fn write<T: Cell<Sum = S>>(store: &mut Store, cells: &[(u32, &T)]) -> io::Result<Self> {
        let (mut index, mut bytes) = (Vec::with_capacity(cells.len() * ENTRY), Vec::new());
        let mut sum = S::default();
        for (second, cell) in cells {
            sum.join(&cell.sum());
            cell.encode(&mut bytes);
            index.extend(second.to_le_bytes());
            index.extend((bytes.len() as u32).to_le_bytes());
        }
        let check = checksum(&index);
        let length = bytes.len();
        if let Some(whole) = T::whole(cells.iter().map(|(_, cell)| *cell)) {
            whole.encode(&mut bytes);
        }
        let whole = (bytes.len() - length) as u32;
        index.append(&mut bytes);
        let at = store.append(&index)?;
        let (first, last) = (cells[0].0, cells[cells.len() - 1].0);
        let (cells, length) = (cells.len() as u32, length as u32);
        Ok(Self { first, last, cells, at, length, whole, sum, check, gone: Vec::new() })
    }

    pub fn touches(&self, span: &Range<u32>) -> bool {
        self.first < span.end && self.last >= span.start
    }

    /// All of it is within, and is as it was written.
    pub fn is_within(&self, span: &Range<u32>) -> bool {
        self.gone.is_empty() && span.start <= self.first && self.last < span.end
    }

    /// Its cells in this span that are still there, in the order of time.
    pub fn cells_within<T: Cell>(&self, store: &Store, span: &Range<u32>) -> impl Iterator<Item = T> {
        let mut reader = Reader::new(store);
        self.places(store, span).into_iter().map(move |place| reader.cell(place))
    }

    pub fn whole_place(&self) -> Place {
        let at = self.cells_at() + u64::from(self.length);
        Place { second: self.first, length: self.whole, at, until: at + u64::from(self.whole) }
    }

    fn cells_at(&self) -> u64 {
        self.at + u64::from(self.cells) * ENTRY as u64
    }

    /// Where those cells are; nowhere in a block that cannot be read, which the store then knows.
    pub fn places(&self, store: &Store, span: &Range<u32>) -> Vec<Place> {
        let Some(index) = store.read(self.at, self.cells as usize * ENTRY) else { return Vec::new() };
        if checksum(&index) != self.check {
            store.spoilt(SPOILT);
            return Vec::new();
        }
        let entries = index.as_chunks::<ENTRY>().0;
        let second = |entry: &[u8; ENTRY]| u32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]);
        let end = |entry: &[u8; ENTRY]| u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
        let from = entries.partition_point(|entry| second(entry) < span.start);
        let to = entries.partition_point(|entry| second(entry) < span.end);
        let Some(last) = to.checked_sub(1).map(|last| end(&entries[last])) else { return Vec::new() };
        let until = self.cells_at() + u64::from(last);
        let mut begin = from.checked_sub(1).map_or(0, |before| end(&entries[before]));
        let mut places = Vec::with_capacity(to.saturating_sub(from));
        for entry in entries.get(from..to).unwrap_or_default() {
            let (second, end) = (second(entry), end(entry));
            if !self.gone.contains(&second) {
                let at = self.cells_at() + u64::from(begin);
                places.push(Place { second, length: end - begin, at, until });
            }
            begin = end;
        }
        places
    }
}

/// Fowler, Noll and Vo's hash by words, whose number is that of the entries.
fn checksum(index: &[u8]) -> u64 {
    let words = index.as_chunks::<ENTRY>().0.iter();
    words.fold(0xcbf2_9ce4_8422_2325, |hash, word| {
        (hash ^ u64::from_le_bytes(*word)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Reads cells, and some that are wanted next with them.
pub(super) struct Reader<'a> {
    pub store: &'a Store,
    /// Of the bytes that it has.
    at: u64,
    bytes: Vec<u8>,
}

impl<'a> Reader<'a> {
    pub fn new(store: &'a Store) -> Self {
        Self { store, at: 0, bytes: Vec::new() }
    }

    /// An empty one where its bytes cannot be read, which the store then knows.
    pub fn cell<T: Cell>(&mut self, place: Place) -> T {
        let Some(bytes) = self.bytes(place) else { return T::default() };
        T::decode(&mut Bytes(bytes)).unwrap_or_else(|| {
            self.store.spoilt(SPOILT);
            T::default()
        })
    }

    fn bytes(&mut self, place: Place) -> Option<&[u8]> {
        let length = u64::from(place.length);
        let has = self.at..self.at + self.bytes.len() as u64;
        if place.at < has.start || place.at + length > has.end {
            let wanted = (place.until - place.at).min(READ_AHEAD).max(length);
            (self.at, self.bytes) = (place.at, self.store.read(place.at, wanted as usize)?);
        }
        let from = (place.at - self.at) as usize;
        self.bytes.get(from..from + place.length as usize)
    }
}
