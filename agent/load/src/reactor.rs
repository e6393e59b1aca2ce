//! Waiting: one epoll for all connections of a worker, precise instants, and a bell that other threads ring.
//!
//! A wait costs one system call whatever ended it. Sockets are watched edge-triggered, once, for their whole life; a
//! driver must take all there is, and must stand being told for nothing. Deliberately not here: who is waited for.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

/// Sockets told of by one wait; at the bound the rest come with the next one.
pub(super) const READY_MAX: usize = 512;
/// The kernel may be late by a thousandth of a wait (`select_estimate_accuracy` in fs/select.c), so a longer one than
/// this ends early by a hundredth and the loop waits again, ns.
const EXACT_NS_MAX: u64 = 10_000_000;
const BELL: u64 = u64::MAX;
const TIMER: u64 = u64::MAX - 1;

/// Ends a loop's wait from another thread.
#[derive(Debug, Clone)]
pub struct Bell(Arc<EventFd>);

impl Bell {
    /// A new one, for one [`Reactor`].
    pub fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?)))
    }

    /// Wakes the loop, now or at its next wait.
    pub fn ring(&self) {
        // Fails only when it was rung 2^64 times and nobody looked; then it is rung.
        let _ = self.0.write(1);
    }
}

/// What a socket is ready for. Never a promise: a driver tries and sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    /// There are bytes to read, or the end, or an error.
    pub readable: bool,
    pub writable: bool,
    /// The peer sends no more, or the connection broke: read to the end, for no other edge will come.
    pub ended: bool,
}

/// What a wait brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    Bell,
    Socket { workload: u32, slot: u32, ready: Ready },
}

/// The wait of one loop.
#[derive(Debug)]
pub struct Reactor {
    epoll: Epoll,
    bell: Bell,
    /// Where there is no epoll_pwait2: in kernels before 5.11, and where an older filter of system calls does not know it.
    timer: Option<TimerFd>,
    buffer: RefCell<Vec<EpollEvent>>,
}

impl Reactor {
    /// That this bell wakes.
    pub fn new(bell: Bell) -> io::Result<Self> {
        let reactor = Self::with_timer(bell, None)?;
        let probe = reactor.pwait2(0);
        reactor.falling_back(probe)
    }

    /// As it is, unless its first wait failed: with ENOSYS or, from a container's filter, EPERM. A cause that a timer does
    /// not mend fails the waits to come.
    fn falling_back(self, probe: Result<usize, Errno>) -> io::Result<Self> {
        if probe.is_ok() {
            return Ok(self);
        }
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        Self::with_timer(self.bell, Some(TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?))
    }

    fn with_timer(bell: Bell, timer: Option<TimerFd>) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let edge = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
        epoll.add(&*bell.0, EpollEvent::new(edge, BELL))?;
        if let Some(timer) = &timer {
            epoll.add(timer.as_fd(), EpollEvent::new(edge, TIMER))?;
        }
        Ok(Self { epoll, bell, timer, buffer: RefCell::new(vec![EpollEvent::empty(); READY_MAX]) })
    }

    /// The bell that wakes it.
    pub fn bell(&self) -> &Bell {
        &self.bell
    }

    /// Tells of this socket from now on until it is closed.
    pub fn watch(&self, socket: impl AsFd, workload: u32, slot: u32) -> io::Result<()> {
        Ok(self.epoll.add(socket, Self::interest(workload, slot))?)
    }

    /// Tells anew what a watched socket is ready for now: its driver left something unread.
    pub fn rewatch(&self, socket: impl AsFd, workload: u32, slot: u32) -> io::Result<()> {
        Ok(self.epoll.modify(socket, &mut Self::interest(workload, slot))?)
    }

    fn interest(workload: u32, slot: u32) -> EpollEvent {
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
        EpollEvent::new(flags, u64::from(workload) << 32 | u64::from(slot))
    }

    /// Waits until an instant of CLOCK_MONOTONIC (which may have passed), or until something happened, and says what. May
    /// return earlier for nothing.
    pub fn wait(&self, until_ns: u64, now_ns: u64, woken: &mut Vec<Woken>) -> io::Result<()> {
        woken.clear();
        let span = until_ns.saturating_sub(now_ns);
        let span = if span > EXACT_NS_MAX { span - span / 100 } else { span };
        let waited = match &self.timer {
            None => self.pwait2(span),
            Some(timer) => self.wait_by(timer, now_ns, span),
        };
        let n = match waited {
            Err(Errno::EINTR) => 0,
            other => other?,
        };
        for event in &self.buffer.borrow()[..n] {
            match event.data() {
                TIMER => {}
                BELL => {
                    // Read until it says that nobody rang: it is edge-triggered, and counts.
                    let _ = self.bell.0.read();
                    woken.push(Woken::Bell);
                }
                key => {
                    woken.push(Woken::Socket { workload: (key >> 32) as u32, slot: key as u32, ready: ready(event) })
                }
            }
        }
        Ok(())
    }

    fn pwait2(&self, span_ns: u64) -> Result<usize, Errno> {
        let span = libc::timespec { tv_sec: (span_ns / 1_000_000_000) as _, tv_nsec: (span_ns % 1_000_000_000) as _ };
        let mut buffer = self.buffer.borrow_mut();
        let no_mask = std::ptr::null::<libc::sigset_t>();
        // SAFETY: epoll_pwait2(2): the descriptor lives as long as self, the buffer has room for as many events as are asked
        // for (EpollEvent is transparent over the kernel's struct), the span lives across the call, no mask is given.
        let n = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.epoll.0.as_raw_fd(),
                buffer.as_mut_ptr(),
                READY_MAX as libc::c_int,
                &span,
                no_mask,
                0usize,
            )
        };
        Errno::result(n).map(|n| n as usize)
    }

    fn wait_by(&self, timer: &TimerFd, now_ns: u64, span_ns: u64) -> Result<usize, Errno> {
        let mut timeout = EpollTimeout::ZERO;
        if span_ns > 0 {
            let at = Expiration::OneShot(Duration::from_nanos(now_ns + span_ns).into());
            timer.set(at, TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
            timeout = EpollTimeout::NONE;
        }
        self.epoll.wait(&mut self.buffer.borrow_mut(), timeout)
    }
}

fn ready(event: &EpollEvent) -> Ready {
    let flags = event.events();
    let ended = flags.intersects(EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR);
    Ready {
        readable: ended || flags.contains(EpollFlags::EPOLLIN),
        writable: ended || flags.contains(EpollFlags::EPOLLOUT),
        ended,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;
    use gauntlet_process::clock::monotonic_ns;

    fn timer() -> Option<TimerFd> {
        Some(TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK).unwrap())
    }

    #[test]
    fn a_system_call_that_is_missing_or_forbidden_is_done_without() {
        for (probe, timed) in [(Ok(0), false), (Err(Errno::ENOSYS), true), (Err(Errno::EPERM), true)] {
            let reactor = Reactor::with_timer(Bell::new().unwrap(), None).unwrap().falling_back(probe).unwrap();
            assert_eq!(reactor.timer.is_some(), timed, "{probe:?}");
        }
    }

    #[test]
    fn a_wait_ends_with_its_instant_a_bell_or_a_socket_and_never_before_for_no_reason_but_a_hundredth() {
        for timer in [None, timer()] {
            let reactor = Reactor::with_timer(Bell::new().unwrap(), timer).unwrap();
            let mut woken = Vec::new();
            for span in [0, 300_000, 40_000_000] {
                let begin = monotonic_ns();
                reactor.wait(begin + span, begin, &mut woken).unwrap();
                assert!(monotonic_ns() - begin >= span - span / 100 && woken.is_empty(), "{span}");
            }
            let far = monotonic_ns() + 60_000_000_000;
            let bell = reactor.bell().clone();
            let ringer = std::thread::spawn(move || bell.ring());
            reactor.wait(far, monotonic_ns(), &mut woken).unwrap();
            assert_eq!(woken, [Woken::Bell]);
            ringer.join().unwrap();
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            reactor.watch(&ours, 3, 70_000).unwrap();
            theirs.write_all(b"x").unwrap();
            reactor.wait(far, monotonic_ns(), &mut woken).unwrap();
            let ready = Ready { readable: true, writable: true, ended: false };
            assert_eq!(woken, [Woken::Socket { workload: 3, slot: 70_000, ready }]);
            reactor.wait(0, 1, &mut woken).unwrap();
            assert!(woken.is_empty(), "an edge is told once: {woken:?}");
            reactor.rewatch(&ours, 3, 70_000).unwrap();
            drop(theirs);
            reactor.wait(far, monotonic_ns(), &mut woken).unwrap();
            assert!(matches!(woken[..], [Woken::Socket { ready: Ready { ended: true, .. }, .. }]), "{woken:?}");
        }
    }
}
