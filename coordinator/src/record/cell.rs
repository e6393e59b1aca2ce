//! What a column has for each second, and what many of them come to.

use super::bytes::Bytes;

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
