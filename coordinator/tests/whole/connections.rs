//! The connections to agents break and stall: within the lease that changes nothing, after it the agent has healed itself.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::deaths::{all_free, reasons};
use crate::fleet::{Fleet, SIZE};
use crate::support::{Done, Lab, beside};

const WHOLE: u8 = 0;
/// Every connection is closed, new ones at once.
const BROKEN: u8 = 1;
/// Nothing moves, and nobody is told.
const STALLED: u8 = 2;

/// A network between the coordinator and one agent that breaks and stalls on command. It forwards bytes and reads none.
struct Proxy {
    address: SocketAddr,
    state: Arc<AtomicU8>,
    /// Of connections that live, in the order in which they came: control before data.
    living: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    /// On the agent's own address, by which it is known, and another port.
    fn before(agent: SocketAddr) -> Self {
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
    fn breaks_for(&self, span: Duration) {
        self.state.store(BROKEN, Ordering::SeqCst);
        self.living.lock().unwrap().drain(..).for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
        std::thread::sleep(span);
        self.state.store(WHOLE, Ordering::SeqCst);
    }

    /// Holds everything back for so long.
    fn stalls_for(&self, span: Duration) {
        self.state.store(STALLED, Ordering::SeqCst);
        std::thread::sleep(span);
        self.state.store(WHOLE, Ordering::SeqCst);
    }

    /// Closes the control connection of the session that is open, and no other.
    fn cut_control(&self) {
        self.living.lock().unwrap()[0].shutdown(Shutdown::Both).unwrap();
    }

    fn connections(&self) -> usize {
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

/// A fleet whose every control and data connection goes through a proxy.
fn behind_proxies(fleet: &Fleet<'_>) -> (Vec<Proxy>, String) {
    let agent = |n: usize| format!("127.{}.0.1:{}", 10 + n, fleet.port).parse::<SocketAddr>().unwrap();
    let proxies: Vec<Proxy> = (1..=SIZE).map(|n| Proxy::before(agent(n))).collect();
    let lines = proxies.iter().enumerate().map(|(i, proxy)| format!("{} name=n{}\n", proxy.address, i + 1));
    let hosts = fleet.inventory("proxied.txt", &lines.collect::<String>());
    (proxies, hosts)
}

/// A run of some seconds over proxies, to which something happens.
fn with_connections(happens: impl FnOnce(&[Proxy])) -> (Lab, Done, Vec<usize>) {
    let lab = Lab::new();
    let fleet = Fleet::up(&lab);
    let (proxies, hosts) = behind_proxies(&fleet);
    let args = ["--agents", &hosts, "--set", "needs.agents=3", "--set", "phases.steady=12s", "--seed", "1"];
    let mut going = lab.start(&beside("scenarios/store.yaml"), &args);
    going.says("phase steady");
    std::thread::sleep(Duration::from_secs(1));
    let connections = proxies.iter().map(Proxy::connections).collect();
    happens(&proxies);
    let done = going.ends();
    all_free(&lab, &fleet);
    fleet.down();
    (lab, done, connections)
}

fn nothing_was_lost(done: &Done) {
    let report = done.ended_with(0);
    assert_eq!(report["ledger"]["recorded"], report["ledger"]["merged"]);
    assert!(report["agents"].as_array().unwrap().iter().all(|agent| agent["lost"] == false));
    assert_eq!(report["faults"][0]["undone"], true, "a fault that began and ended meanwhile is told");
}

#[test]
fn connections_that_break_for_three_seconds_change_nothing() {
    let (_lab, done, connections) = with_connections(|proxies| {
        std::thread::scope(|scope| {
            proxies.iter().for_each(|proxy| drop(scope.spawn(|| proxy.breaks_for(Duration::from_secs(3)))));
        });
    });
    assert_eq!(connections, [2; SIZE], "control and data of each agent");
    nothing_was_lost(&done);
}

#[test]
fn a_control_connection_that_breaks_comes_back_at_once() {
    let (_lab, done, _) = with_connections(|proxies| proxies.iter().for_each(Proxy::cut_control));
    nothing_was_lost(&done);
}

#[test]
fn connections_that_stall_for_three_seconds_change_nothing() {
    let (_lab, done, _) = with_connections(|proxies| {
        std::thread::scope(|scope| {
            proxies.iter().for_each(|proxy| drop(scope.spawn(|| proxy.stalls_for(Duration::from_secs(3)))));
        });
    });
    nothing_was_lost(&done);
}

#[test]
fn an_agent_out_of_reach_for_longer_than_its_lease_is_lost_and_heals_itself() {
    let (_lab, done, _) = with_connections(|proxies| proxies[1].breaks_for(Duration::from_secs(8)));
    let report = done.report();
    assert!(report["verdict"]["result"] == "invalid" && matches!(done.code, 5 | 7 | 11), "{done}");
    assert!(reasons(&report).contains("agent n2 was lost"), "{}", report["verdict"]);
}
