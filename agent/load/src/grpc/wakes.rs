//! Who asked for another look. HTTP/2's library tells by wakers; here a waker notes its owner in a list, and the driver takes
//! the list when the loop gives it a turn. All of it happens on one thread, so that the lock is never waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

use parking_lot::Mutex;

/// An owner of a waker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// A connection of a channel, by its number.
    Http2 { channel: u32, number: u32 },
    /// The call of a slot.
    Slot(u32),
}

/// The list. Bounded by the owners: each stands in it once at most.
#[derive(Debug, Default)]
pub struct Wakes(Mutex<Vec<Arc<Note>>>);

#[derive(Debug)]
struct Note {
    who: Who,
    noted: AtomicBool,
    wakes: Arc<Wakes>,
}

impl Wake for Note {
    fn wake(self: Arc<Self>) {
        if !self.noted.swap(true, Ordering::Relaxed) {
            let wakes = self.wakes.clone();
            wakes.0.lock().push(self);
        }
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.noted.load(Ordering::Relaxed) {
            self.clone().wake();
        }
    }
}

impl Wakes {
    /// A waker that notes this owner.
    pub fn waker(self: &Arc<Self>, who: Who) -> Waker {
        Waker::from(Arc::new(Note { who, noted: AtomicBool::new(false), wakes: self.clone() }))
    }

    /// Takes everybody noted so far.
    pub fn take(&self, into: &mut Vec<Who>) {
        into.clear();
        for note in self.0.lock().drain(..) {
            note.noted.store(false, Ordering::Relaxed);
            into.push(note.who);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_told_once_however_often_it_was_woken_and_again_after_it_was_taken() {
        let wakes = Arc::new(Wakes::default());
        let (slot, http2) = (Who::Slot(7), Who::Http2 { channel: 1, number: 2 });
        let wakers = [wakes.waker(slot), wakes.waker(http2)];
        let mut woken = Vec::new();
        for _ in 0..2 {
            (0..3).for_each(|_| wakers.iter().for_each(Waker::wake_by_ref));
            let by_value = wakers[0].clone();
            by_value.wake();
            wakes.take(&mut woken);
            assert_eq!(woken, [slot, http2]);
        }
        wakes.take(&mut woken);
        assert!(woken.is_empty());
    }
}
