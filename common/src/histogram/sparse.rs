//! A histogram as it travels: only the buckets that hold something, read and written in HDR's V2 format without the array
//! of counts that a live one has. A second of one series has some hundred of them, its array tens of thousands of bytes.
//!
//! Source: HdrHistogram's V2 encoding: a header of 40 bytes, then zig-zag LEB128 integers; a negative one is a run of
//! empty buckets.

/// Cookie of the V2 format, uncompressed.
const COOKIE: u32 = 0x1c84_9303 | 0x10;
const HEADER_BYTES: usize = 40;
/// Of 3 significant digits: 2,048 buckets of the first range, 1,024 of each next one.
const HALF_BITS: u32 = 10;
const HALF: u32 = 1 << HALF_BITS;
/// The bucket of 2^50 us, the largest value that is recorded; a higher one is none of ours.
const INDEX_MAX: u32 = (50 - HALF_BITS + 1) << HALF_BITS;

/// Counts by bucket, ascending, none of them 0.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Sparse {
    pub(super) counts: Vec<(u32, u64)>,
    pub(super) total: u64,
}

/// The bucket of a value.
pub(super) fn index_of(value: u64) -> u32 {
    let range = 63 - (value | u64::from(2 * HALF - 1)).leading_zeros() - HALF_BITS;
    ((range + 1) << HALF_BITS) + (value >> range) as u32 - HALF
}

/// The smallest value of a bucket, and the width of it.
pub(super) fn value_of(index: u32) -> (u64, u64) {
    match (index >> HALF_BITS).checked_sub(1) {
        None => (u64::from(index), 1),
        Some(range) => (u64::from(index % HALF + HALF) << range, 1 << range),
    }
}

impl Sparse {
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let Some((header, payload)) = bytes.split_at_checked(HEADER_BYTES) else { return Err("shorter than a header") };
        let word = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        if word(0) != COOKIE {
            return Err("not the V2 format");
        }
        if word(4) as usize != payload.len() {
            return Err("its length is not the one it says");
        }
        // No offset, 3 digits, from 1 us.
        if (word(8), word(12), word(16), word(20)) != (0, 3, 0, 1) {
            return Err("not of 3 digits from 1 us");
        }
        let mut sparse = Self { counts: Vec::with_capacity(payload.len() / 2), total: 0 };
        let (mut rest, mut index) = (payload, 0u32);
        while !rest.is_empty() {
            let (number, after) = varint(rest).ok_or("it breaks off")?;
            rest = after;
            let number = (number >> 1) as i64 ^ -((number & 1) as i64);
            let buckets = if number < 0 { u32::try_from(number.unsigned_abs()).unwrap_or(u32::MAX) } else { 1 };
            if number > 0 {
                if index > INDEX_MAX {
                    return Err("a value past 2^50 us");
                }
                sparse.counts.push((index, number as u64));
                sparse.total = sparse.total.checked_add(number as u64).ok_or("more values than can be counted")?;
            }
            index = index.checked_add(buckets).filter(|index| *index <= 2 * INDEX_MAX).ok_or("a value past 2^50 us")?;
        }
        Ok(sparse)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + self.counts.len() * 3);
        let highest = self.counts.last().map_or(2, |(index, _)| {
            let (value, width) = value_of(*index);
            (value + width - 1).max(2)
        });
        for word in [COOKIE, 0, 0, 3] {
            bytes.extend(word.to_be_bytes());
        }
        bytes.extend(1u64.to_be_bytes());
        bytes.extend(highest.to_be_bytes());
        bytes.extend(1f64.to_be_bytes());
        let mut next = 0;
        for (index, count) in &self.counts {
            if *index > next {
                put_varint(&mut bytes, -i64::from(index - next));
            }
            put_varint(&mut bytes, *count as i64);
            next = index + 1;
        }
        let length = (bytes.len() - HEADER_BYTES) as u32;
        bytes[4..8].copy_from_slice(&length.to_be_bytes());
        bytes
    }
}

/// LEB128 of at most 9 bytes, the ninth of which is whole.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (i, byte) in bytes.iter().enumerate().take(9) {
        if i == 8 || byte & 0x80 == 0 {
            return Some((value | u64::from(*byte) << (7 * i), &bytes[i + 1..]));
        }
        value |= u64::from(byte & 0x7f) << (7 * i);
    }
    None
}

fn put_varint(bytes: &mut Vec<u8>, number: i64) {
    let mut left = ((number << 1) ^ (number >> 63)) as u64;
    for _ in 0..8 {
        if left < 0x80 {
            return bytes.push(left as u8);
        }
        bytes.push(left as u8 | 0x80);
        left >>= 7;
    }
    bytes.push(left as u8);
}
