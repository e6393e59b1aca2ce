//! Numbers and bytes as the record's file has them, little-endian. Only this process reads what it wrote.

/// What is left to read.
pub(crate) struct Bytes<'a>(pub(super) &'a [u8]);

impl<'a> Bytes<'a> {
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    pub(super) fn f64(&mut self) -> Option<f64> {
        self.u64().map(f64::from_bits)
    }

    /// One that may be missing.
    pub(super) fn maybe(&mut self) -> Option<Option<f64>> {
        match self.take(1)? {
            [0] => Some(None),
            _ => self.f64().map(Some),
        }
    }
}

pub(super) fn put_maybe(bytes: &mut Vec<u8>, number: Option<f64>) {
    bytes.push(u8::from(number.is_some()));
    bytes.extend(number.into_iter().flat_map(f64::to_le_bytes));
}

pub(super) fn put(bytes: &mut Vec<u8>, numbers: impl IntoIterator<Item = u64>) {
    numbers.into_iter().for_each(|number| bytes.extend(number.to_le_bytes()));
}
