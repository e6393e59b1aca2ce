//! A load worker's running counts, where its own death does not take them: a mapping of a memory file that its agent owns.
//!
//! The worker is the only writer, with plain stores; the agent reads the file once the worker is dead, so that neither
//! waits for the other and no read is torn. Without an agent (tests, benches) the counts lie in the worker's own memory.

use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use gauntlet_process::channel::TALLY_FD;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// Cells: the latest second of an intended start plus one, then each series.
const SECOND: usize = 0;
const SERIES: usize = 1;
/// Most cells: the series of a run are bounded far below it. More are refused.
const CELLS_MAX: usize = 65_536;

/// Cells that so many series need.
pub fn cells(series: usize) -> u32 {
    (SERIES + series) as u32
}

/// The writing side.
#[derive(Debug)]
pub struct Tally(Cells);

#[derive(Debug)]
enum Cells {
    Own(Box<[AtomicU64]>),
    Shared(Mapping),
}

#[derive(Debug)]
struct Mapping {
    at: NonNull<AtomicU64>,
    cells: usize,
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped with this length by `Mapping::of`, and no reference to it outlives this value.
        let _ = unsafe { munmap(self.at.cast(), self.cells * size_of::<AtomicU64>()) };
    }
}

impl Mapping {
    fn of(file: impl AsFd, cells: usize) -> io::Result<Self> {
        let length = NonZeroUsize::new(cells * size_of::<AtomicU64>()).ok_or(io::ErrorKind::InvalidInput)?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice, of a file that its agent made this long and sealed
        // against shrinking; an AtomicU64 may hold any bits.
        let at = unsafe { mmap(None, length, protection, MapFlags::MAP_SHARED, file, 0) }?;
        Ok(Self { at: at.cast(), cells })
    }

    fn cells(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is this long, page-aligned, and lives as long as `self`.
        unsafe { std::slice::from_raw_parts(self.at.as_ptr(), self.cells) }
    }
}

impl Tally {
    /// In this process's own memory.
    pub fn own(series: usize) -> Self {
        Self(Cells::Own((0..SERIES + series).map(|_| AtomicU64::new(0)).collect()))
    }

    /// In the mapping that the agent left in its descriptor; 0 cells: there is none.
    pub fn inherited(announced: u32, series: usize) -> io::Result<Self> {
        if announced == 0 {
            return Ok(Self::own(series));
        }
        if announced != cells(series) {
            return Err(io::Error::other(format!("the agent's has {announced} cells, the plan {}", cells(series))));
        }
        // SAFETY: the supervisor passes exactly this descriptor where it announces cells, and nothing else here owns it.
        let file = unsafe { OwnedFd::from_raw_fd(TALLY_FD) };
        Ok(Self(Cells::Shared(Mapping::of(file, announced as usize)?)))
    }

    fn cells(&self) -> &[AtomicU64] {
        match &self.0 {
            Cells::Own(cells) => cells,
            Cells::Shared(mapping) => mapping.cells(),
        }
    }

    /// Counts one request of this series, intended for this second. There is one writer, so that nothing is lost between
    /// the reads and the writes.
    #[inline]
    pub fn count(&self, series: usize, second: u32) {
        let cells = self.cells();
        let cell = &cells[SERIES + series];
        cell.store(cell.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        let second = u64::from(second) + 1;
        if second > cells[SECOND].load(Ordering::Relaxed) {
            cells[SECOND].store(second, Ordering::Relaxed);
        }
    }

    /// By series.
    pub fn recorded(&self) -> Vec<u64> {
        self.cells()[SERIES..].iter().map(|cell| cell.load(Ordering::Relaxed)).collect()
    }
}

/// The reading side: what the supervisor keeps.
#[derive(Debug)]
pub struct Kept {
    file: File,
    cells: u32,
}

/// What a worker had counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// By series.
    pub recorded: Vec<u64>,
    pub second_max: Option<u32>,
}

impl Kept {
    /// A memory file of so many cells, all 0.
    pub fn new(cells: u32) -> io::Result<Self> {
        if cells as usize > CELLS_MAX {
            return Err(io::Error::other(format!("{cells} counts for one load worker, more than {CELLS_MAX}")));
        }
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let file = File::from(memfd_create(c"gauntlet-tally", flags)?);
        file.set_len(u64::from(cells) * 8)?;
        use nix::fcntl::{FcntlArg, SealFlag, fcntl};
        let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
        Ok(Self { file, cells })
    }

    /// The file, for the worker to inherit.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// What the worker had counted by now; by its death, once it is reaped.
    pub fn read(&self) -> io::Result<Reading> {
        let mut bytes = vec![0; self.cells as usize * 8];
        self.file.read_exact_at(&mut bytes, 0)?;
        let cells: Vec<u64> = bytes.as_chunks::<8>().0.iter().map(|cell| u64::from_ne_bytes(*cell)).collect();
        Ok(Reading {
            recorded: cells[SERIES..].to_vec(),
            second_max: cells[SECOND].checked_sub(1).and_then(|second| u32::try_from(second).ok()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_reads_what_the_worker_counted() {
        let kept = Kept::new(cells(2)).unwrap();
        assert_eq!(kept.read().unwrap().second_max, None);
        let mapping = Mapping::of(kept.file(), cells(2) as usize).unwrap();
        let tally = Tally(Cells::Shared(mapping));
        (0..5).for_each(|second| tally.count(1, second));
        tally.count(0, 2);
        let reading = Reading { recorded: vec![1, 5], second_max: Some(4) };
        assert_eq!(kept.read().unwrap(), reading);
        drop(tally);
        assert_eq!(kept.read().unwrap(), reading, "it outlives the worker's mapping");
    }
}
