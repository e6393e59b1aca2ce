//! Names → addresses, on threads of their own: the system's resolver blocks.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use crate::load::reactor::Bell;

/// Names resolved at once; more wait. There is at most one question for each slot.
const THREADS: usize = 4;

/// The threads that resolve for one driver; they end when it is dropped.
#[derive(Debug)]
pub struct Resolver {
    questions: Sender<Question>,
    answers: Receiver<Answer>,
}

#[derive(Debug)]
struct Question {
    slot: u32,
    connection: u32,
    host: String,
    port: u16,
}

/// What a name is, for the connection of a slot that asked.
#[derive(Debug)]
pub struct Answer {
    pub slot: u32,
    pub connection: u32,
    /// As the resolver orders them; none when there is no such name.
    pub addresses: Vec<SocketAddr>,
}

impl Resolver {
    /// Starts the threads. They ring when there is an answer.
    pub fn start(bell: &Bell) -> io::Result<Self> {
        let (questions, asked) = channel::<Question>();
        let (answer, answers) = channel();
        let asked = Arc::new(Mutex::new(asked));
        for _ in 0..THREADS {
            let (asked, answer, bell) = (asked.clone(), answer.clone(), bell.clone());
            std::thread::Builder::new().name("resolve".into()).spawn(move || {
                loop {
                    let next = asked.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(Question { slot, connection, host, port }) = next else { return };
                    let addresses = (host.as_str(), port).to_socket_addrs().map(Iterator::collect).unwrap_or_default();
                    if answer.send(Answer { slot, connection, addresses }).is_err() {
                        return;
                    }
                    bell.ring();
                }
            })?;
        }
        Ok(Self { questions, answers })
    }

    /// Asks. The answer comes with a ring of the bell.
    pub fn ask(&self, slot: u32, connection: u32, host: &str, port: u16) {
        // The threads live as long as this; without them the connection's own bound ends it.
        let _ = self.questions.send(Question { slot, connection, host: host.into(), port });
    }

    /// The next answer that has come.
    pub fn answer(&self) -> Option<Answer> {
        self.answers.try_recv().ok()
    }
}
