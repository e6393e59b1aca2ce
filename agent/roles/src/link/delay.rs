//! Distance: what arrives over a link is handed on when it would have arrived over one as long as the plan says.
//!
//! The receiving end of a connection keeps what came until it is due, so that neither order nor back-pressure is touched, nothing
//! runs beside the connection, and one without a delay pays nothing. Bytes are stamped when the reader is polled and the kernel has
//! them: a reader that asks for none for longer than the delay sees them that much later than a network would bring them.
//!
//! Load is delayed where it is accepted, the way there and back at once, because its own end runs over plain sockets: what it
//! measures is the round trip, to the bit; only what a role says unasked comes to it too early.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;

use gauntlet_common::plan::Plan;
use gauntlet_common::seed::{self, Draws};
use gauntlet_common::units::Micros;

/// Bytes under way on one connection and direction; at the bound the kernel is read no further, and the sender feels it as it feels
/// the window of a long link: 1 MiB over 100 ms is 10 MB/s.
const WINDOW_BYTES: usize = 1 << 20;
/// Pieces under way on one connection; at the bound likewise. Two seconds of a connection that never rests.
const PIECES_MAX: usize = 8192;
/// What becomes due within the same quarter of a millisecond is one piece; timers are coarser.
const GRAIN_NS: u64 = 250_000;

/// How far one node is from its peers.
#[derive(Debug)]
pub struct Delays {
    by_peer: HashMap<String, Distance>,
    /// Agents that host a role: connections of others are load's.
    serving: HashSet<String>,
    load: bool,
}

/// How far one node is from one other, ns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Distance {
    out_ns: u64,
    in_ns: u64,
    jitter_ns: u64,
    /// Of the draws of jitter.
    key: u64,
}

impl Distance {
    /// There and back.
    pub fn round_trip_ns(self) -> u64 {
        self.out_ns + self.in_ns
    }
}

impl Delays {
    /// Those of one agent; none where the plan has none for it.
    pub fn of(plan: &Plan, agent: &str) -> Option<Self> {
        let links = plan.links.as_ref()?;
        let ns = |delay: Micros| delay.0.saturating_mul(1_000);
        let mut by_peer: HashMap<String, Distance> = HashMap::new();
        for pair in &links.pairs {
            let (peer, outward) = match (pair.from == agent, pair.to == agent) {
                (true, _) => (&pair.to, true),
                (_, true) => (&pair.from, false),
                _ => continue,
            };
            let distance = by_peer.entry(peer.clone()).or_default();
            let way = if outward { &mut distance.out_ns } else { &mut distance.in_ns };
            *way = ns(pair.delay);
            distance.jitter_ns = ns(links.jitter);
            distance.key = seed::key(plan.seed, &["jitter", peer, agent]);
        }
        let serving = plan.roles.iter().flat_map(|role| &role.instances).cloned().collect();
        (!by_peer.is_empty()).then_some(Self { by_peer, serving, load: links.load })
    }

    /// To a peer that this node connects to.
    pub fn to(&self, peer: &str) -> Option<Distance> {
        self.by_peer.get(peer).copied()
    }

    /// What is to be done to a connection that a peer opened at this instant; `from_load`: nobody else calls there.
    pub fn accepted(&self, peer: &str, from_load: bool, now_ns: u64) -> Option<Arriving> {
        let distance = self.to(peer)?;
        if from_load || !self.serving.contains(peer) {
            // Its connect cost it nothing yet: what it sends at once is held for that round trip too.
            let round_trip_ns = distance.round_trip_ns();
            return self.load.then(|| Arriving { way_ns: round_trip_ns, open_ns: now_ns + round_trip_ns, distance });
        }
        Some(Arriving::over(distance))
    }
}

/// How what arrives on one connection is delayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arriving {
    way_ns: u64,
    /// Nothing can have been sent before.
    open_ns: u64,
    distance: Distance,
}

impl Arriving {
    /// What a connection between roles takes one way.
    pub fn over(distance: Distance) -> Self {
        Self { way_ns: distance.in_ns, open_ns: 0, distance }
    }

    /// The way of the connection with this number.
    pub fn line(self, connection: u64) -> Line {
        Line {
            arriving: self,
            draws: Draws::new(seed::narrow(self.distance.key, [connection, 0])),
            due_ns: 0,
            pieces: VecDeque::new(),
            bytes: 0,
            end: End::Open,
        }
    }
}

/// What is under way to one end of one connection. Pure: instants are the caller's.
#[derive(Debug)]
pub struct Line {
    arriving: Arriving,
    draws: Draws,
    /// Of what came last: nothing overtakes.
    due_ns: u64,
    pieces: VecDeque<Piece>,
    bytes: usize,
    end: End,
}

#[derive(Debug)]
struct Piece {
    due_ns: u64,
    bytes: Vec<u8>,
    taken: usize,
}

/// The end of what the other side sends.
#[derive(Debug)]
enum End {
    Open,
    /// It is under way like everything before it.
    Coming {
        due_ns: u64,
        error: Option<io::Error>,
    },
    Arrived,
}

impl Line {
    /// How many more bytes may be under way; none after the end.
    pub fn room(&self) -> usize {
        match self.end {
            End::Open if self.pieces.len() < PIECES_MAX => WINDOW_BYTES.saturating_sub(self.bytes),
            _ => 0,
        }
    }

    /// Bytes that the kernel had at this instant.
    pub fn push(&mut self, now_ns: u64, bytes: &[u8]) {
        let due_ns = self.next_due(now_ns);
        self.bytes += bytes.len();
        match self.pieces.back_mut() {
            Some(last) if last.due_ns == due_ns => last.bytes.extend_from_slice(bytes),
            _ => self.pieces.push_back(Piece { due_ns, bytes: bytes.to_vec(), taken: 0 }),
        }
    }

    /// The other side has ended, or the connection has broken.
    pub fn end(&mut self, now_ns: u64, error: Option<io::Error>) {
        self.end = End::Coming { due_ns: self.next_due(now_ns), error };
    }

    fn next_due(&mut self, now_ns: u64) -> u64 {
        let sent_ns = now_ns.max(self.arriving.open_ns);
        let jitter_ns = match self.arriving.distance.jitter_ns {
            0 => 0,
            most => self.draws.between(0, most),
        };
        let due_ns = (sent_ns + self.arriving.way_ns + jitter_ns).next_multiple_of(GRAIN_NS);
        self.due_ns = due_ns.max(self.due_ns);
        self.due_ns
    }

    /// When the next of it arrives; none while nothing is under way. What has ended has arrived.
    pub fn due_ns(&self) -> Option<u64> {
        match (self.pieces.front(), &self.end) {
            (Some(piece), _) => Some(piece.due_ns),
            (None, End::Open) => None,
            (None, End::Coming { due_ns, .. }) => Some(*due_ns),
            (None, End::Arrived) => Some(0),
        }
    }

    /// Whether any bytes are under way or have arrived.
    pub fn holds_bytes(&self) -> bool {
        self.bytes > 0
    }

    /// Puts up to so many bytes of what has arrived by this instant, and says how many; 0 is the end, `None` that nothing has.
    pub fn take(&mut self, now_ns: u64, most: usize, put: impl FnOnce(&[u8])) -> io::Result<Option<usize>> {
        if self.due_ns().is_none_or(|due_ns| due_ns > now_ns) {
            return Ok(None);
        }
        let Some(piece) = self.pieces.front_mut() else {
            return match std::mem::replace(&mut self.end, End::Arrived) {
                End::Coming { error: Some(error), .. } => Err(error),
                _ => Ok(Some(0)),
            };
        };
        let count = most.min(piece.bytes.len() - piece.taken);
        put(&piece.bytes[piece.taken..piece.taken + count]);
        piece.taken += count;
        self.bytes -= count;
        if piece.taken == piece.bytes.len() {
            self.pieces.pop_front();
        }
        Ok(Some(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: u64 = 1_000_000;

    fn line(way_ms: u64, jitter_ms: u64) -> Line {
        let distance = Distance { in_ns: way_ms * MS, out_ns: way_ms * MS, jitter_ns: jitter_ms * MS, key: 7 };
        Arriving::over(distance).line(1)
    }

    fn taken(line: &mut Line, now_ns: u64) -> Option<Vec<u8>> {
        let mut got = Vec::new();
        line.take(now_ns, usize::MAX, |bytes| got.extend_from_slice(bytes)).unwrap().map(|_| got)
    }

    #[test]
    fn bytes_arrive_after_their_way_and_not_before() {
        let mut line = line(100, 0);
        line.push(10 * MS, b"there");
        assert_eq!(taken(&mut line, 109 * MS), None);
        assert_eq!(taken(&mut line, 110 * MS).as_deref(), Some(&b"there"[..]));
        assert_eq!(taken(&mut line, 500 * MS), None, "once");
    }

    #[test]
    fn an_end_is_under_way_like_everything_before_it() {
        let mut line = line(100, 0);
        line.push(0, b"last words");
        line.end(MS, None);
        assert_eq!(line.room(), 0);
        assert_eq!(taken(&mut line, 100 * MS).as_deref(), Some(&b"last words"[..]));
        assert_eq!(taken(&mut line, 100 * MS), None);
        assert_eq!(taken(&mut line, 101 * MS), Some(vec![]));
        assert_eq!(taken(&mut line, 101 * MS), Some(vec![]), "and stays one");
        let mut broken = self::line(5, 0);
        broken.end(0, Some(io::ErrorKind::ConnectionReset.into()));
        assert_eq!(taken(&mut broken, 4 * MS), None);
        assert!(broken.take(5 * MS, 1, |_| ()).is_err());
    }

    #[test]
    fn what_is_under_way_is_bounded_and_room_comes_back_as_it_is_taken() {
        let mut line = line(100, 0);
        while line.room() > 0 {
            line.push(0, &[0; 4096]);
        }
        assert_eq!(line.bytes, WINDOW_BYTES);
        line.take(100 * MS, 1000, |_| ()).unwrap();
        assert_eq!(line.room(), 1000);
        let mut small = self::line(100, 0);
        (0..PIECES_MAX as u64).for_each(|i| small.push(i * MS, b"x"));
        assert_eq!(small.room(), 0);
    }

    #[test]
    fn a_connection_of_load_pays_the_round_trip_where_it_is_accepted_and_once_more_for_its_opening() {
        let distance = Distance { in_ns: 30 * MS, out_ns: 50 * MS, jitter_ns: 0, key: 0 };
        let by_peer = HashMap::from([("n1".to_string(), distance), ("n2".to_string(), distance)]);
        let delays = Delays { by_peer, serving: HashSet::from(["n1".to_string()]), load: true };
        for arriving in [delays.accepted("n1", true, 0), delays.accepted("n2", false, 0)] {
            let mut line = arriving.unwrap().line(0);
            line.push(MS, b"hello");
            assert_eq!(line.due_ns(), Some(160 * MS), "sent when it would have been open");
            line.push(300 * MS, b"again");
            taken(&mut line, 160 * MS);
            assert_eq!(line.due_ns(), Some(380 * MS), "300 ms and the round trip");
        }
        let mut role = delays.accepted("n1", false, 0).unwrap().line(0);
        role.push(MS, b"hello");
        assert_eq!(role.due_ns(), Some(31 * MS), "a role's own end holds what comes back");
        let exempt = Delays { load: false, ..delays };
        assert_eq!(exempt.accepted("n1", true, 0), None);
        assert!(exempt.accepted("n1", false, 0).is_some() && exempt.accepted("n3", false, 0).is_none());
    }

    proptest! {
        /// Whatever comes when, and however it is taken: everything arrives, in order, none early, none later than way, jitter
        /// and grain allow after what it must not overtake.
        #[test]
        fn nothing_is_lost_reordered_or_early(
            way_ms in 0u64..300, jitter_ms in 0u64..50,
            pieces in proptest::collection::vec((0u64..20_000_000, 1usize..40), 1..60), most in 1usize..64,
        ) {
            let mut line = line(way_ms, jitter_ms);
            let (mut now, mut sent) = (0, Vec::new());
            for (i, (pause_ns, length)) in pieces.iter().enumerate() {
                now += pause_ns;
                line.push(now, &vec![i as u8; *length]);
                sent.extend(std::iter::repeat_n((i as u8, now), *length));
            }
            line.end(now, None);
            let mut got = Vec::new();
            loop {
                let due_ns = line.due_ns().unwrap();
                let count = line.take(due_ns, most, |bytes| got.extend(bytes.iter().map(|byte| (*byte, due_ns)))).unwrap();
                if count == Some(0) { break }
            }
            prop_assert_eq!(got.len(), sent.len());
            for ((byte, at), (expected, sent_ns)) in got.iter().zip(&sent) {
                prop_assert_eq!(byte, expected);
                prop_assert!(*at >= sent_ns + way_ms * MS);
                prop_assert!(*at <= sent_ns + (way_ms + jitter_ms) * MS + GRAIN_NS);
            }
            prop_assert_eq!(line.bytes, 0);
        }
    }
}
