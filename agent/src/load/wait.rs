//! Waiting: precise instants by timerfd (tokio's timer has 1 ms), and the queue in which drivers leave what happened.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use gauntlet_proto::worker::to_worker;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use super::{Event, LoadError};

/// What happened, from drivers to the loop of the same thread. Bounded by the connections: each has one request in flight.
#[derive(Debug, Default)]
pub struct Events {
    queue: RefCell<VecDeque<Event>>,
    waker: RefCell<Option<Waker>>,
}

impl Events {
    /// Leaves one and wakes the loop.
    pub fn push(&self, event: Event) {
        self.queue.borrow_mut().push_back(event);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Takes the oldest.
    pub fn pop(&self) -> Option<Event> {
        self.queue.borrow_mut().pop_front()
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.queue.borrow().is_empty() {
            return Poll::Ready(());
        }
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

/// Why a wait ended.
#[derive(Debug)]
pub enum Woken {
    /// The instant has come, or something happened, or nothing did: look.
    Look,
    /// The agent said something; `None`: it is gone.
    Agent(Option<to_worker::Body>),
}

/// The wait of a loop.
pub struct Wait {
    timer: AsyncFd<Timer>,
    /// What the timer is set to, ns; `u64::MAX`: nothing.
    armed: Cell<u64>,
    events: Rc<Events>,
}

struct Timer(TimerFd);

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Wait {
    /// On the current runtime.
    pub fn new(events: Rc<Events>) -> Result<Self, LoadError> {
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)
            .map_err(|e| LoadError::Timer(e.into()))?;
        // SAFETY: the timer owns its descriptor, always says the same one, and lives as long as the registration.
        let timer = unsafe { AsyncFd::register_with_interest(Timer(timer), Interest::READABLE) };
        let timer = timer.map_err(|e| LoadError::Timer(e.into()))?;
        Ok(Self { timer, armed: Cell::new(u64::MAX), events })
    }

    /// Until this instant of CLOCK_MONOTONIC, an event or a word of the agent. When the instant has passed it still
    /// lets the connections' tasks run once, so that an overloaded loop does not starve them.
    pub async fn until(&self, at_ns: u64, now_ns: u64, from_agent: &mut mpsc::Receiver<to_worker::Body>) -> Woken {
        if at_ns <= now_ns {
            tokio::task::yield_now().await;
            return match from_agent.try_recv() {
                Ok(body) => Woken::Agent(Some(body)),
                Err(mpsc::error::TryRecvError::Empty) => Woken::Look,
                Err(mpsc::error::TryRecvError::Disconnected) => Woken::Agent(None),
            };
        }
        // An earlier instant that is armed already only wakes the loop for nothing; that is cheaper than the call.
        if at_ns < self.armed.get() || self.armed.get() <= now_ns {
            let flags = TimerSetTimeFlags::TFD_TIMER_ABSTIME;
            let at = Expiration::OneShot(Duration::from_nanos(at_ns).into());
            // The only error left for a valid timer and a non-negative time is memory; the next wait tries again.
            self.armed.set(if self.timer.get_ref().0.set(at, flags).is_ok() { at_ns } else { u64::MAX });
        }
        poll_fn(|cx| {
            if let Poll::Ready(body) = from_agent.poll_recv(cx) {
                return Poll::Ready(Woken::Agent(body));
            }
            if self.events.poll(cx).is_ready() {
                return Poll::Ready(Woken::Look);
            }
            // Setting the timer anew clears its expiry, and epoll tells the next one as a new edge: it need not be read.
            match self.timer.poll_read_ready(cx) {
                Poll::Ready(Ok(mut guard)) => {
                    guard.clear_ready();
                    self.armed.set(u64::MAX);
                    Poll::Ready(Woken::Look)
                }
                Poll::Ready(Err(_)) => Poll::Ready(Woken::Look),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }
}
