//! Names → addresses, on threads of their own: the system's resolver blocks.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use gauntlet_process::clock::monotonic_ns;
use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::reactor::Bell;

/// Names resolved at once, each on a thread that is started when none is free; more wait.
const THREADS_MAX: usize = 32;
/// Questions that wait. Those whose connection was given up are taken out first, so that about one is left for each slot;
/// at the bound a question is not asked, and its connection ends by its own timeout.
const QUESTIONS_MAX: usize = 65_536;

type LookUp = fn(&str, u16) -> Vec<SocketAddr>;

/// The threads that resolve for one driver; they end when it is dropped, or when the system's resolver lets them.
#[derive(Debug)]
pub struct Resolver {
    shared: Arc<Shared>,
    answers: Receiver<Resolved>,
    /// For the threads still to come.
    answer: Sender<Resolved>,
    bell: Bell,
    look_up: LookUp,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    asked: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// In the order of their deadlines: a driver has one timeout.
    questions: VecDeque<Question>,
    threads: usize,
    idle: usize,
    closed: bool,
}

#[derive(Debug)]
struct Question {
    slot: u32,
    connection: u32,
    host: String,
    port: u16,
    /// When the connection is given up, ns of CLOCK_MONOTONIC: nobody wants the answer any more.
    until_ns: u64,
}

/// What a name is, for the connection of a slot that asked.
#[derive(Debug)]
pub struct Resolved {
    pub slot: u32,
    pub connection: u32,
    /// As the resolver orders them; none when there is no such name.
    pub addresses: Vec<SocketAddr>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// The next question that somebody still waits for; waits for one. `None`: there will be no more.
    fn next(&self) -> Option<Question> {
        let mut state = self.state();
        loop {
            if state.closed {
                return None;
            }
            state.forget_stale();
            if let Some(question) = state.questions.pop_front() {
                return Some(question);
            }
            state.idle += 1;
            self.asked.wait(&mut state);
            state.idle -= 1;
        }
    }
}

impl State {
    fn forget_stale(&mut self) {
        let now_ns = monotonic_ns();
        while self.questions.pop_front_if(|question| question.until_ns <= now_ns).is_some() {}
    }
}

impl Resolver {
    /// Starts the first thread. They ring when there is an answer.
    pub fn start(bell: &Bell) -> io::Result<Self> {
        Self::with(bell, |host, port| (host, port).to_socket_addrs().map(Iterator::collect).unwrap_or_default())
    }

    fn with(bell: &Bell, look_up: LookUp) -> io::Result<Self> {
        let (answer, answers) = channel();
        let resolver = Self { shared: Arc::default(), answers, answer, bell: bell.clone(), look_up };
        resolver.shared.state().threads = 1;
        resolver.spawn()?;
        Ok(resolver)
    }

    fn spawn(&self) -> io::Result<()> {
        let (shared, answer, bell) = (self.shared.clone(), self.answer.clone(), self.bell.clone());
        let look_up = self.look_up;
        std::thread::Builder::new().name("resolve".into()).spawn(move || {
            while let Some(Question { slot, connection, host, port, .. }) = shared.next() {
                let addresses = look_up(&host, port);
                if answer.send(Resolved { slot, connection, addresses }).is_err() {
                    return;
                }
                bell.ring();
            }
        })?;
        Ok(())
    }

    /// Asks for a connection that is given up at `until_ns` of CLOCK_MONOTONIC. The answer comes with a ring of the bell,
    /// unless it comes too late.
    pub fn ask(&self, slot: u32, connection: u32, host: &str, port: u16, until_ns: u64) {
        let mut state = self.shared.state();
        state.forget_stale();
        if state.questions.len() >= QUESTIONS_MAX {
            return;
        }
        state.questions.push_back(Question { slot, connection, host: host.into(), port, until_ns });
        let one_more = state.questions.len() > state.idle && state.threads < THREADS_MAX;
        state.threads += usize::from(one_more);
        drop(state);
        self.shared.asked.notify_one();
        if one_more && let Err(error) = self.spawn() {
            // Those that there are answer it, later.
            tracing::warn!(%error, "no further thread to look names up");
            self.shared.state().threads -= 1;
        }
    }

    /// The next answer that has come.
    pub fn answer(&self) -> Option<Resolved> {
        self.answers.try_recv().ok()
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.shared.state().closed = true;
        self.shared.asked.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    fn next(resolver: &Resolver) -> Resolved {
        resolver.answers.recv_timeout(Duration::from_secs(60)).expect("an answer by and by")
    }

    #[test]
    fn names_that_take_long_keep_no_other_waiting() {
        static ALL: Barrier = Barrier::new(THREADS_MAX);
        let together: LookUp = |_, port| {
            ALL.wait();
            vec![SocketAddr::from(([127, 0, 0, 1], port))]
        };
        let resolver = Resolver::with(&Bell::new().unwrap(), together).unwrap();
        (0..THREADS_MAX as u32).for_each(|slot| resolver.ask(slot, 1, "slow", 80, u64::MAX));
        let mut slots: Vec<u32> = (0..THREADS_MAX).map(|_| next(&resolver).slot).collect();
        slots.sort();
        assert_eq!(slots, (0..THREADS_MAX as u32).collect::<Vec<_>>());
        assert_eq!(resolver.shared.state().threads, THREADS_MAX);
    }

    #[test]
    fn a_question_whose_connection_was_given_up_is_not_asked_any_more() {
        static LOOKED_UP: AtomicUsize = AtomicUsize::new(0);
        let counting: LookUp = |_, _| {
            LOOKED_UP.fetch_add(1, Ordering::Relaxed);
            Vec::new()
        };
        let resolver = Resolver::with(&Bell::new().unwrap(), counting).unwrap();
        (0..100).for_each(|slot| resolver.ask(slot, 1, "stale", 80, monotonic_ns()));
        resolver.ask(100, 1, "fresh", 80, u64::MAX);
        assert_eq!(next(&resolver).slot, 100);
        assert_eq!(LOOKED_UP.load(Ordering::Relaxed), 1);
        assert!(resolver.shared.state().questions.is_empty());
    }
}
