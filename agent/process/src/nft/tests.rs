//! In a network namespace of the test's own thread, which ends with it: real tables, real connections, nothing left behind.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails by panicking")]

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use super::*;
use crate::clock;

/// Runs in a fresh namespace with these addresses on its loopback; skips, loudly, where that is not allowed.
fn in_namespace(addresses: &'static [&'static str], test: impl FnOnce() + Send + 'static) {
    const IP: Tool = Tool { program: "ip", package: "iproute2", places: &["/usr/sbin/ip", "/sbin/ip", "/bin/ip"] };
    let ran = std::thread::spawn(move || {
        if let Err(error) = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET) {
            return eprintln!("SKIPPED LOUDLY: no network namespace of one's own ({error}); run as root");
        }
        if let Err(why) = available() {
            return eprintln!("SKIPPED LOUDLY: {why}");
        }
        let ip = |args: &[&str]| drop(IP.run(args, "", Duration::from_secs(10)).unwrap());
        ip(&["link", "set", "lo", "up"]);
        addresses.iter().for_each(|address| ip(&["address", "add", address, "dev", "lo", "nodad"]));
        test();
    });
    ran.join().unwrap();
}

fn rules(flows: &[(SocketAddr, SocketAddr)], control: &[SocketAddr]) -> Rules {
    let both = |(client, server): &(SocketAddr, SocketAddr)| {
        let there = Flow { from: client.ip(), to: server.ip(), port: server.port(), which: Port::Destination };
        [there, Flow { from: server.ip(), to: client.ip(), which: Port::Source, ..there }]
    };
    let table = table_name("run", "cut", "n1");
    Rules { table, control: control.iter().copied().collect(), flows: flows.iter().flat_map(both).collect() }
}

/// A server that repeats what it hears.
fn echo(at: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind(at).unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut byte = [0];
                while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
            });
        }
    });
    at
}

/// Tries for so long: an address that was added a moment ago may not be routed yet.
fn connect(from: IpAddr, to: SocketAddr, within: Duration) -> Option<TcpStream> {
    let domain = if to.is_ipv4() { socket2::Domain::IPV4 } else { socket2::Domain::IPV6 };
    let until_ns = clock::monotonic_ns() + within.as_nanos() as u64;
    loop {
        let left = Duration::from_nanos(until_ns.saturating_sub(clock::monotonic_ns()));
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None).unwrap();
        let bound = socket.bind(&SocketAddr::new(from, 0).into());
        if bound.and_then(|()| socket.connect_timeout(&to.into(), left.max(Duration::from_millis(1)))).is_ok() {
            return Some(socket.into());
        }
        if clock::monotonic_ns() >= until_ns {
            return None;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn echoes(stream: &mut TcpStream, within: Duration) -> bool {
    stream.set_read_timeout(Some(within)).unwrap();
    stream.write_all(b"x").unwrap();
    stream.read_exact(&mut [0]).is_ok()
}

const CUT: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(30);

/// Cut: the old connection and new ones, in both families; not cut: a bystander, and the control plane though a set names it.
fn cuts_exactly(a: &'static str, b: &'static str, c: &'static str) {
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let (server, bystander) = (echo(SocketAddr::new(ip(b), 0)), echo(SocketAddr::new(ip(c), 0)));
    let control = echo(SocketAddr::new(ip(b), 0));
    let client = SocketAddr::new(ip(a), 0);
    let mut old = connect(ip(a), server, LONG).unwrap();
    assert!(echoes(&mut old, LONG));
    let before = others().unwrap();
    let rules = rules(&[(client, server), (client, control)], &[control]);
    create(&rules, 60).unwrap();
    assert!(create(&rules, 60).is_err(), "a table that is there is not merged with");
    assert_eq!(tables().unwrap(), [rules.table.as_str()]);
    assert_eq!(living(&rules.table).unwrap(), 4);
    assert!(connect(ip(a), server, CUT).is_none(), "a new connection gets through");
    assert!(!echoes(&mut old, CUT), "an old connection lives on");
    assert!(echoes(&mut connect(ip(a), bystander, LONG).unwrap(), LONG), "a bystander is cut");
    assert!(echoes(&mut connect(ip(c), server, LONG).unwrap(), LONG), "another client is cut");
    assert!(echoes(&mut connect(ip(a), control, LONG).unwrap(), LONG), "the control plane is cut");
    let counted = dropped(&rules.table).unwrap();
    assert!(counted.packets >= 2 && counted.bytes > 0 && counted.probes == 0, "{counted:?}");
    remove(&rules.table).unwrap();
    assert!(echoes(&mut connect(ip(a), server, LONG).unwrap(), LONG));
    // Sent again only when TCP thinks it is time.
    old.set_read_timeout(Some(LONG)).unwrap();
    assert_eq!(old.read(&mut [0]).unwrap(), 1, "what was stalled arrives");
    assert_eq!((tables().unwrap(), others().unwrap()), (vec![], before));
    remove(&rules.table).unwrap();
}

#[test]
fn a_table_cuts_old_and_new_connections_of_its_pairs_and_nothing_else() {
    in_namespace(&[], || cuts_exactly("127.0.0.1", "127.0.0.2", "127.0.0.3"));
}

#[test]
fn the_same_holds_for_ipv6() {
    const ULA: &[&str] = &["fd77::1/128", "fd77::2/128", "fd77::3/128"];
    in_namespace(ULA, || cuts_exactly("fd77::1", "fd77::2", "fd77::3"));
}

#[test]
fn probes_are_dropped_and_counted_apart() {
    in_namespace(&[], || {
        let server = echo("127.0.0.2:0".parse().unwrap());
        let rules = rules(&[("127.0.0.1:0".parse().unwrap(), server)], &[]);
        create(&rules, 60).unwrap();
        let probe = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        probe.bind(&SocketAddr::from(([127, 0, 0, 1], *PROBE_PORTS.start())).into()).unwrap();
        assert!(probe.connect_timeout(&server.into(), CUT).is_err());
        let counted = dropped(&rules.table).unwrap();
        assert!(counted.probes >= 1 && counted.packets == 0, "{counted:?}");
    });
}

#[test]
fn elements_vanish_by_themselves_and_only_a_renewal_keeps_them() {
    in_namespace(&[], || {
        let server = echo("127.0.0.2:0".parse().unwrap());
        let rules = rules(&[("127.0.0.1:0".parse().unwrap(), server)], &[]);
        let begun = clock::monotonic_ns();
        create(&rules, 4).unwrap();
        std::thread::sleep(Duration::from_secs(2));
        renew(&rules, 4).unwrap();
        let renewed = clock::monotonic_ns();
        std::thread::sleep(Duration::from_nanos((begun + 4_500_000_000).saturating_sub(clock::monotonic_ns())));
        // On a machine so slow that even the renewed time is over, nothing can be said.
        if clock::monotonic_ns() < renewed + 3_500_000_000 {
            assert_eq!(living(&rules.table).unwrap(), 2, "the renewal did not hold");
            assert_eq!(sweep(false), (0, vec![]), "a table that still cuts is somebody's");
        }
        let from: IpAddr = "127.0.0.1".parse().unwrap();
        while clock::monotonic_ns() < renewed + 30_000_000_000 && living(&rules.table).unwrap() > 0 {
            std::thread::sleep(Duration::from_millis(100));
        }
        assert_eq!(living(&rules.table).unwrap(), 0, "nothing renews it, and it stays");
        assert!(connect(from, server, LONG).is_some());
        assert!(renew(&rules, 4).is_err(), "what has lapsed does not come back");
        assert_eq!((sweep(false), tables().unwrap()), ((1, vec![]), vec![]));
        create(&rules, 60).unwrap();
        assert_eq!((sweep(true), tables().unwrap()), ((1, vec![]), vec![]));
    });
}

#[test]
fn what_the_firewall_holds_beside_is_left_alone() {
    in_namespace(&[], || {
        let own = r#"{"nftables": [{"add": {"table": {"family": "inet", "name": "mine"}}},
            {"add": {"counter": {"family": "inet", "table": "mine", "name": "seen"}}}]}"#;
        transact(own).unwrap();
        let before = others().unwrap();
        assert!(before.contains("mine"));
        let rules = rules(&[("127.0.0.1:0".parse().unwrap(), "127.0.0.2:9".parse().unwrap())], &[]);
        create(&rules, 60).unwrap();
        assert_eq!(others().unwrap(), before);
        remove(&rules.table).unwrap();
        assert_eq!(others().unwrap(), before);
        assert_eq!(sweep(true), (0, vec![]), "a table without our prefix is nobody's to remove");
    });
}

#[test]
fn a_firewall_that_could_not_be_looked_at_is_not_called_empty() {
    let program = "nft";
    let missing = ToolError::Missing { program, places: String::new(), package: "nftables" };
    let refused = |said: &str| ToolError::Refused { program, code: 1, said: said.into() };
    assert!(is_elsewhere(&missing, false) && is_elsewhere(&missing, true));
    let not_permitted = refused("Operation not permitted (you must be root)");
    assert!(is_elsewhere(&not_permitted, false) && !is_elsewhere(&not_permitted, true));
    assert!(!is_elsewhere(&ToolError::Slow { program, after: WITHIN }, false), "the tables may be there");
    assert!(!is_elsewhere(&refused("Device or resource busy"), false));
}
