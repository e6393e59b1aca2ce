//! A network between the coordinator and one agent that breaks and stalls on command. It forwards bytes and reads none.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const WHOLE: u8 = 0;
/// Every connection is closed, new ones at once.
const BROKEN: u8 = 1;
/// Nothing moves, and nobody is told.
const STALLED: u8 = 2;

pub struct Proxy {
    pub address: SocketAddr,
    state: Arc<AtomicU8>,
    /// Of connections that live, in the order in which they came: control before data.
    living: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    /// On the agent's own address, by which it is known, and another port.
    pub fn before(agent: SocketAddr) -> Self {
        let listener = TcpListener::bind((agent.ip(), 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (state, living) = (Arc::new(AtomicU8::new(WHOLE)), Arc::<Mutex<Vec<TcpStream>>>::default());
        let (shared, list) = (state.clone(), living.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if shared.load(Ordering::SeqCst) == BROKEN {
                    continue;
                }
                let Ok(server) = TcpStream::connect(agent) else { continue };
                list.lock().unwrap().push(client.try_clone().unwrap());
                for (from, to) in [(client.try_clone(), server.try_clone()), (server.try_clone(), client.try_clone())] {
                    let (shared, list, mine) = (shared.clone(), list.clone(), client.peer_addr().unwrap());
                    let (from, to) = (from.unwrap(), to.unwrap());
                    std::thread::spawn(move || {
                        forward(from, to, &shared);
                        list.lock().unwrap().retain(|other| other.peer_addr().is_ok_and(|peer| peer != mine));
                    });
                }
            }
        });
        Self { address, state, living }
    }

    /// Closes every connection and refuses new ones for so long.
    pub fn breaks_for(&self, span: Duration) {
        self.state.store(BROKEN, Ordering::SeqCst);
        self.living.lock().unwrap().drain(..).for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
        std::thread::sleep(span);
        self.state.store(WHOLE, Ordering::SeqCst);
    }

    /// Holds everything back for so long.
    pub fn stalls_for(&self, span: Duration) {
        self.state.store(STALLED, Ordering::SeqCst);
        std::thread::sleep(span);
        self.state.store(WHOLE, Ordering::SeqCst);
    }

    /// Closes the control connection of the session that is open, and no other.
    pub fn cut_control(&self) {
        self.living.lock().unwrap()[0].shutdown(Shutdown::Both).unwrap();
    }

    pub fn connections(&self) -> usize {
        self.living.lock().unwrap().len()
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream, state: &AtomicU8) {
    let mut buffer = [0; 65536];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        while state.load(Ordering::SeqCst) == STALLED {
            std::thread::sleep(Duration::from_millis(10));
        }
        if to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
