use gauntlet_proto::agent::AgentAddress;
use gauntlet_proto::worker::{ProbeLink, ProbeOver};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::link::{LinkStream, Probes, listen};

/// For what must not happen: long enough to see it if it did.
const MOMENT: Duration = Duration::from_millis(60);
/// For what must happen: only a broken test waits so long.
const GUARD: Duration = Duration::from_secs(20);

/// An address of this process's own.
pub(crate) fn own_ip(last: u8) -> IpAddr {
    let pid = std::process::id();
    IpAddr::from([127, 100 + (pid % 100) as u8, (pid / 100 % 250) as u8, last])
}

struct Pair {
    a: Links,
    b: Links,
    at: SocketAddr,
    from_a: LinkStream,
    at_b: LinkStream,
    listener: TcpListener,
}

async fn pair(first_ip: u8, traffic: Traffic) -> Pair {
    let (ip_a, ip_b) = (own_ip(first_ip), own_ip(first_ip + 1));
    let (a, b) = (Links::new("a", ip_a, None), Links::new("b", ip_b, None));
    let address = |agent: &str, ip: IpAddr| AgentAddress { agent: agent.into(), host: ip.to_string() };
    let wire = Wire { endpoints: vec![], agents: vec![address("a", ip_a), address("b", ip_b)] };
    a.wire(&wire);
    b.wire(&wire);
    let listener = listen(SocketAddr::new(ip_b, 0)).unwrap();
    let at = listener.local_addr().unwrap();
    let (from_a, at_b) = tokio::join!(a.connect(at), b.next_connection(&listener, traffic));
    Pair { from_a: from_a.unwrap(), at_b, a, b, at, listener }
}

fn cuts(pairs: &[(&str, &str)], for_ms: u64) -> CutLinks {
    let until_ns = clock::monotonic_ns() + for_ms * 1_000_000;
    let cut = |(from, to): &(&str, &str)| Cut {
        fault: "cut".into(),
        from_agent: (*from).into(),
        to_agent: (*to).into(),
        until_ns,
    };
    CutLinks { id: 1, cuts: pairs.iter().map(cut).collect() }
}

fn none() -> CutLinks {
    CutLinks { id: 2, cuts: vec![] }
}

async fn pends<F: Future>(future: F) -> bool {
    tokio::time::timeout(MOMENT, future).await.is_err()
}

async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(GUARD, future).await.expect("it happens at all")
}

#[tokio::test]
async fn a_cut_stalls_both_ways_and_a_heal_lets_everything_go_on() {
    let mut p = pair(10, Traffic::Role).await;
    let both = cuts(&[("a", "b"), ("b", "a")], 60_000);
    p.a.cut(both.clone());
    p.b.cut(both);
    assert!(pends(p.from_a.write_all(b"x")).await);
    assert!(pends(p.at_b.write_all(b"y")).await);
    assert!(pends(p.a.connect(p.at)).await);

    let effects = p.a.cut(none()).effects;
    assert_eq!(effects, [CutEffect { fault: "cut".into(), stalled: 2 }], "a write and a connect");
    p.b.cut(none());
    soon(p.from_a.write_all(b"x")).await.unwrap();
    let mut byte = [0];
    soon(p.at_b.read_exact(&mut byte)).await.unwrap();
    assert_eq!(&byte, b"x");
    let (again, _) = tokio::join!(soon(p.a.connect(p.at)), p.b.next_connection(&p.listener, Traffic::Role));
    again.unwrap();
}

#[tokio::test]
async fn what_waits_goes_on_at_the_heal_without_being_asked_again() {
    let mut p = pair(12, Traffic::Role).await;
    p.b.cut(cuts(&[("a", "b")], 60_000));
    p.from_a.write_all(b"late").await.unwrap();
    let mut at_b = p.at_b;
    let reader = tokio::spawn(async move {
        let mut bytes = [0; 4];
        at_b.read_exact(&mut bytes).await.map(|_| bytes)
    });
    tokio::time::sleep(MOMENT).await;
    assert!(!reader.is_finished(), "bytes that arrived during the cut are not seen before the heal");
    let effects = p.b.cut(none()).effects;
    assert_eq!(effects[0].stalled, 1);
    assert_eq!(&soon(reader).await.unwrap().unwrap(), b"late");
}

#[tokio::test]
async fn an_idle_connection_is_no_effect() {
    let mut p = pair(14, Traffic::Role).await;
    p.b.cut(cuts(&[("a", "b")], 60_000));
    assert!(pends(p.at_b.read_u8()).await);
    assert_eq!(p.b.cut(none()).effects[0].stalled, 0);
}

#[tokio::test]
async fn a_cut_ends_by_itself_when_nobody_heals_it() {
    let mut p = pair(16, Traffic::Role).await;
    p.a.cut(cuts(&[("a", "b")], 200));
    assert!(pends(p.from_a.write_all(b"x")).await);
    soon(p.from_a.write_all(b"x")).await.unwrap();
    assert!(!p.a.0.active.load(Ordering::Relaxed), "and then costs nothing any more");
}

#[tokio::test]
async fn one_direction_can_be_cut_alone() {
    let mut p = pair(18, Traffic::Role).await;
    let one = cuts(&[("b", "a")], 60_000);
    p.a.cut(one.clone());
    p.b.cut(one);
    soon(p.from_a.write_all(b"x")).await.unwrap();
    assert_eq!(soon(p.at_b.read_u8()).await.unwrap(), b'x');
    assert!(pends(p.at_b.write_all(b"y")).await);
}

#[tokio::test]
async fn a_bystander_is_not_touched() {
    let mut p = pair(20, Traffic::Role).await;
    let other = cuts(&[("a", "c"), ("c", "b")], 60_000);
    p.a.cut(other.clone());
    p.b.cut(other);
    soon(p.from_a.write_all(b"x")).await.unwrap();
    assert_eq!(soon(p.at_b.read_u8()).await.unwrap(), b'x');
}

#[tokio::test]
async fn load_passes_a_cut() {
    let mut p = pair(22, Traffic::Load).await;
    p.b.cut(cuts(&[("a", "b"), ("b", "a")], 60_000));
    p.from_a.write_all(b"xy").await.unwrap();
    assert_eq!(soon(p.at_b.read_u8()).await.unwrap(), b'x');
    assert_eq!(soon(p.at_b.read_u8()).await.unwrap(), b'y');
}

#[tokio::test]
async fn a_probe_tells_cut_from_open_and_is_no_effect() {
    let p = pair(24, Traffic::Role).await;
    let probes = Probes::new(p.a.clone());
    let probe = |id| ProbeLink { id, address: p.at.to_string(), timeout_ms: 100, ..Default::default() };
    assert!(probes.probe(ProbeLink { timeout_ms: 20_000, ..probe(7) }).await.reached);
    p.a.cut(cuts(&[("a", "b")], 60_000));
    let result = probes.probe(probe(8)).await;
    assert!(!result.reached && result.id == 8);
    assert_eq!(p.a.cut(none()).effects[0].stalled, 0);
    assert!(!probes.probe(ProbeLink { address: "nowhere".into(), ..probe(9) }).await.reached);
}

/// A server of HTTP/2 without any service: it answers pings.
fn serve(p: Pair) -> (Links, Links, SocketAddr, tokio::task::JoinHandle<()>) {
    let incoming = p.b.incoming(p.listener, Traffic::Role);
    let server = tonic::transport::Server::builder().add_routes(tonic::service::Routes::default());
    let serving = tokio::spawn(async move { server.serve_with_incoming(incoming).await.unwrap() });
    (p.a, p.b, p.at, serving)
}

#[tokio::test]
async fn an_old_connection_is_silent_while_cut_and_flows_after_the_heal_and_is_no_effect() {
    let (a, b, at, _serving) = serve(pair(28, Traffic::Role).await);
    let probes = Probes::new(a.clone());
    let ask = |over: ProbeOver, timeout: Duration| {
        let timeout_ms = timeout.as_millis() as u32;
        let probe = ProbeLink { address: at.to_string(), fault: "cut".into(), timeout_ms, ..Default::default() };
        probes.probe(ProbeLink { over: over.into(), ..probe })
    };
    let none_yet = ask(ProbeOver::Kept, GUARD).await;
    assert!(none_yet.ended && !none_yet.reached);
    assert!(ask(ProbeOver::KeptNew, GUARD).await.reached);
    assert!(ask(ProbeOver::Kept, GUARD).await.reached);
    // Both ways, and each way alone: then the question or the answer stays behind at one end.
    for cut in [&[("a", "b"), ("b", "a")][..], &[("a", "b")], &[("b", "a")]] {
        let cut = cuts(cut, 60_000);
        a.cut(cut.clone());
        b.cut(cut);
        let silent = ask(ProbeOver::Kept, MOMENT).await;
        assert!(!silent.reached && !silent.ended, "{silent:?}");
        for links in [&a, &b] {
            assert_eq!(links.cut(none()).effects[0].stalled, 0, "a probe is no effect at either end");
        }
    }
    assert!(ask(ProbeOver::KeptLast, GUARD).await.reached, "it flows again");
    assert!(ask(ProbeOver::Kept, GUARD).await.ended, "and is closed then");
}

#[tokio::test]
async fn connections_come_from_their_own_nodes_address() {
    let p = pair(26, Traffic::Role).await;
    assert_eq!(p.at_b.peer(), own_ip(26));
}

/// One way between the nodes of a pair that are apart.
const ONE_WAY: Duration = Duration::from_millis(60);

/// Two nodes that are apart, `b` of which hosts a role, and `a` too unless `a_is_load`.
fn apart(first_ip: u8, a_is_load: bool) -> (Links, Links, SocketAddr, TcpListener) {
    let plan: gauntlet_common::plan::Plan = serde_json::from_value(serde_json::json!({
        "schema": "gauntlet.plan/v1", "scenario": "s", "title": "", "tier": "custom", "profile": "full", "seed": 1, "isolation": "shared",
        "phases": [], "agents": [{ "name": "a", "labels": {} }, { "name": "b", "labels": {} }], "workloads": [], "load_workers": [],
        "roles": [{ "name": "r", "kind": "k", "restart": "never", "params": {}, "instances": if a_is_load { vec!["b"] } else { vec!["a", "b"] } }],
        "links": { "jitter": "0s", "load": true, "regions": {}, "pairs": [
            { "from": "a", "to": "b", "delay": "60ms" }, { "from": "b", "to": "a", "delay": "60ms" },
        ] },
        "faults": [], "checks": [], "on_agent_loss": "fail", "guards": {},
    }))
    .unwrap();
    let (ip_a, ip_b) = (own_ip(first_ip), own_ip(first_ip + 1));
    let links = |agent: &str, ip| Links::new(agent, ip, Delays::of(&plan, agent));
    let (a, b) = (links("a", ip_a), links("b", ip_b));
    let address = |agent: &str, ip: IpAddr| AgentAddress { agent: agent.into(), host: ip.to_string() };
    let wire = Wire { endpoints: vec![], agents: vec![address("a", ip_a), address("b", ip_b)] };
    a.wire(&wire);
    b.wire(&wire);
    let listener = listen(SocketAddr::new(ip_b, 0)).unwrap();
    let at = listener.local_addr().unwrap();
    (a, b, at, listener)
}

/// Answers each byte with itself, on every connection.
fn echo(links: Links, listener: TcpListener, traffic: Traffic) {
    tokio::spawn(async move {
        loop {
            let mut stream = links.next_connection(&listener, traffic).await;
            tokio::spawn(async move {
                let (mut read, mut write) = tokio::io::split(&mut stream);
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
}

/// How long it takes, and the shortest of several tries how long it needs.
async fn shortest<T, F: Future<Output = T>>(mut again: impl FnMut() -> F) -> Duration {
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let begun_ns = clock::monotonic_ns();
        soon(again()).await;
        best = best.min(Duration::from_nanos(clock::monotonic_ns() - begun_ns));
    }
    best
}

/// Two ways, and what a timer of a millisecond and a busy machine add to that.
fn is_a_round_trip(took: Duration) {
    assert!(took >= ONE_WAY * 2 && took < ONE_WAY * 2 + Duration::from_millis(30), "{took:?}");
}

#[tokio::test]
async fn nodes_that_are_apart_feel_it_in_every_connect_and_every_answer() {
    let (a, b, at, listener) = apart(30, false);
    echo(b, listener, Traffic::Role);
    is_a_round_trip(shortest(|| async { a.connect(at).await.unwrap() }).await);
    let stream = tokio::sync::Mutex::new(a.connect(at).await.unwrap());
    let ask = || async {
        let mut stream = stream.lock().await;
        stream.write_all(b"x").await.unwrap();
        stream.read_u8().await.unwrap()
    };
    is_a_round_trip(shortest(ask).await);
    let refused = SocketAddr::new(at.ip(), 1);
    is_a_round_trip(shortest(|| async { a.connect(refused).await.err().unwrap() }).await);
}

#[tokio::test]
async fn what_is_under_way_comes_whole_in_order_and_through_a_bounded_window() {
    let (a, b, at, listener) = apart(32, false);
    echo(b, listener, Traffic::Role);
    let mut stream = a.connect(at).await.unwrap();
    // Three windows and what both ends' sockets hold.
    let sent: Vec<u8> = (0..16_000_000u32).map(|i| (i % 251) as u8).collect();
    let expected = sent.clone();
    let (mut read, mut write) = tokio::io::split(&mut stream);
    let writing = async {
        write.write_all(&sent).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let mut got = Vec::new();
    let reading = read.read_to_end(&mut got);
    let (_, count) = soon(async { tokio::join!(writing, reading) }).await;
    assert_eq!(count.unwrap(), expected.len());
    assert!(got == expected, "every byte, in order");
}

#[tokio::test]
async fn a_cut_holds_what_was_under_way_and_probes_know_no_distance() {
    let (a, b, at, listener) = apart(34, false);
    let accepting = {
        let b = b.clone();
        async move { b.next_connection(&listener, Traffic::Role).await }
    };
    let (from_a, mut at_b) = tokio::join!(a.connect(at), accepting);
    let mut from_a = from_a.unwrap();
    from_a.write_all(b"x").await.unwrap();
    b.cut(cuts(&[("a", "b")], 60_000));
    assert!(tokio::time::timeout(ONE_WAY * 3, at_b.read_u8()).await.is_err());
    assert_eq!(b.cut(none()).effects[0].stalled, 1);
    assert_eq!(soon(at_b.read_u8()).await.unwrap(), b'x');
    let probes = Probes::new(a);
    let probe = || ProbeLink { id: 1, address: at.to_string(), timeout_ms: 20_000, ..Default::default() };
    assert!(shortest(|| probes.probe(probe())).await < ONE_WAY);
}

#[tokio::test]
async fn loads_round_trip_is_that_of_the_link_although_its_own_end_knows_none() {
    for (first_ip, traffic) in [(36, Traffic::Load), (38, Traffic::Role)] {
        let (_, b, at, listener) = apart(first_ip, true);
        echo(b, listener, traffic);
        let from = own_ip(first_ip);
        let connect = || async move {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(SocketAddr::new(from, 0)).unwrap();
            socket.connect(at).await.unwrap()
        };
        let first = || async {
            let mut stream = connect().await;
            stream.write_all(b"x").await.unwrap();
            stream.read_u8().await.unwrap()
        };
        let took = shortest(first).await;
        assert!(took >= ONE_WAY * 4 && took < ONE_WAY * 4 + Duration::from_millis(30), "opened and asked: {took:?}");
        let stream = tokio::sync::Mutex::new(connect().await);
        tokio::time::sleep(ONE_WAY * 2).await;
        let ask = || async {
            let mut stream = stream.lock().await;
            stream.write_all(b"x").await.unwrap();
            stream.read_u8().await.unwrap()
        };
        is_a_round_trip(shortest(ask).await);
    }
}
