//! HTTP/1.1 responses, sans IO: bytes in, whole responses out. RFC 9112.
//!
//! Any split of the byte stream gives the same responses. Nothing is copied but a head that came in pieces and a body
//! that somebody asked for.

use std::mem::MaybeUninit;

/// Largest head, bytes; a longer one is a protocol error.
pub const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Most headers of a response.
const HEADERS_MAX: usize = 96;
/// Of a body that is asked for, so much is kept; the rest is read and forgotten.
pub const BODY_KEPT_MAX: usize = 64 * 1024;
/// Longest line of a chunk's size with its extensions, or of a trailer, bytes.
const LINE_MAX: usize = 4 * 1024;

/// Most interim heads (1xx) before an answer; a server that sends more without end would keep the worker from its other work,
/// and is a protocol error.
const INTERIM_MAX: u32 = 64;

/// Bytes that are no HTTP/1.1 response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    #[error("no HTTP/1.1 response head")]
    Head,
    #[error("a response head of more than {HEAD_BYTES_MAX} bytes")]
    HeadTooLong,
    #[error("a content length that is no number, or two that differ")]
    Length,
    #[error("a chunk without a size")]
    Chunk,
    #[error("a transfer coding other than chunked")]
    Coding,
    #[error("the connection switched protocols unasked")]
    Switched,
    #[error("more than {INTERIM_MAX} interim heads before the answer")]
    Interim,
}

/// One header of a response.
pub type Header<'a> = httparse::Header<'a>;

/// Reads the responses of one connection.
#[derive(Debug, Default)]
pub struct Decoder {
    state: State,
    /// The request was a HEAD: its response has no body.
    head_only: bool,
    keep_body: bool,
    close: bool,
    status: u16,
    /// Interim heads of this response so far.
    interim: u32,
    /// The beginning of a head, or of a line of a chunked body, that came in pieces.
    partial: Vec<u8>,
    /// The body, when asked for.
    pub body: Vec<u8>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Head,
    Length(u64),
    ChunkSize,
    Chunk(u64),
    ChunkEnd,
    Trailer,
    UntilClose,
    Done,
}

/// How far a piece of the stream brought a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// All bytes are consumed, and more are needed.
    More,
    /// Its last byte was this many bytes into the piece.
    Done(usize),
}

impl Decoder {
    /// Before each request: what its response will be.
    pub fn begin(&mut self, head_only: bool, keep_body: bool) {
        self.state = State::Head;
        (self.head_only, self.keep_body, self.close) = (head_only, keep_body, false);
        self.interim = 0;
        self.partial.clear();
        self.body.clear();
    }

    /// The status of the last head.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Whether the connection ends with this response.
    pub fn closes(&self) -> bool {
        self.close
    }

    /// The stream ended: true when that completes the response.
    pub fn end(&mut self) -> bool {
        self.close = true;
        let complete = self.state == State::UntilClose;
        if complete {
            self.state = State::Done;
        }
        complete
    }

    /// Reads a piece. `on_head` sees the headers of the final head once.
    pub fn feed(&mut self, bytes: &[u8], on_head: &mut impl FnMut(u16, &[Header<'_>])) -> Result<Progress, CodecError> {
        let mut at = 0;
        loop {
            let rest = &bytes[at..];
            match self.state {
                State::Done => return Ok(Progress::Done(at)),
                _ if rest.is_empty() => return Ok(Progress::More),
                State::Head => at += self.head(rest, on_head)?,
                State::Length(left) => at += self.take(rest, left, State::Done, State::Length),
                State::Chunk(left) => at += self.take(rest, left, State::ChunkEnd, State::Chunk),
                State::UntilClose => at += self.take(rest, u64::MAX, State::UntilClose, |_| State::UntilClose),
                State::ChunkSize | State::ChunkEnd | State::Trailer => at += self.line(rest)?,
            }
        }
    }

    fn take(&mut self, bytes: &[u8], left: u64, then: State, go_on: impl Fn(u64) -> State) -> usize {
        let n = left.min(bytes.len() as u64) as usize;
        if self.keep_body {
            let room = BODY_KEPT_MAX - self.body.len();
            self.body.extend_from_slice(&bytes[..n.min(room)]);
        }
        self.state = if n as u64 == left { then } else { go_on(left - n as u64) };
        n
    }

    /// Parses a head, from the piece itself when it is whole there. Returns how much of the piece it took.
    fn head(&mut self, bytes: &[u8], on_head: &mut impl FnMut(u16, &[Header<'_>])) -> Result<usize, CodecError> {
        if self.partial.is_empty() {
            return match self.parse(bytes, on_head)? {
                Some(used) => Ok(used),
                None => {
                    self.partial.extend_from_slice(bytes);
                    Ok(bytes.len())
                }
            };
        }
        let mut whole = std::mem::take(&mut self.partial);
        let before = whole.len();
        whole.extend_from_slice(&bytes[..bytes.len().min(HEAD_BYTES_MAX + 1 - before.min(HEAD_BYTES_MAX))]);
        let parsed = self.parse(&whole, on_head)?;
        let used = match parsed {
            Some(used) => {
                whole.clear();
                used - before
            }
            None => whole.len() - before,
        };
        self.partial = whole;
        Ok(used)
    }

    fn parse(
        &mut self,
        bytes: &[u8],
        on_head: &mut impl FnMut(u16, &[Header<'_>]),
    ) -> Result<Option<usize>, CodecError> {
        // Not initialised: filling so many empty headers would cost more than reading the few that come.
        let mut headers = [const { MaybeUninit::uninit() }; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut []);
        let parser = httparse::ParserConfig::default();
        let parsed = parser.parse_response_with_uninit_headers(&mut response, bytes, &mut headers);
        let used = match parsed.map_err(|_| CodecError::Head)? {
            httparse::Status::Complete(used) if used <= HEAD_BYTES_MAX => used,
            httparse::Status::Partial if bytes.len() <= HEAD_BYTES_MAX => return Ok(None),
            _ => return Err(CodecError::HeadTooLong),
        };
        let status = response.code.ok_or(CodecError::Head)?;
        match status {
            101 => return Err(CodecError::Switched),
            100..200 if self.interim < INTERIM_MAX => {
                self.interim += 1;
                return Ok(Some(used));
            }
            100..200 => return Err(CodecError::Interim),
            _ => {}
        }
        self.status = status;
        self.close = response.version == Some(0);
        self.state = self.framing(status, response.headers)?;
        on_head(status, response.headers);
        Ok(Some(used))
    }

    /// How the body ends, RFC 9112 section 6.3.
    fn framing(&mut self, status: u16, headers: &[Header<'_>]) -> Result<State, CodecError> {
        let (mut length, mut chunked) = (None, false);
        for header in headers {
            if header.name.eq_ignore_ascii_case("content-length") {
                let number = number(header.value).ok_or(CodecError::Length)?;
                if length.is_some_and(|l| l != number) {
                    return Err(CodecError::Length);
                }
                length = Some(number);
            } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                if !header.value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                    return Err(CodecError::Coding);
                }
                chunked = true;
            } else if header.name.eq_ignore_ascii_case("connection") {
                self.connection(header.value);
            }
        }
        Ok(match length {
            _ if self.head_only || matches!(status, 204 | 304) => State::Done,
            _ if chunked => State::ChunkSize,
            Some(0) => State::Done,
            Some(n) => State::Length(n),
            None => {
                self.close = true;
                State::UntilClose
            }
        })
    }

    fn connection(&mut self, value: &[u8]) {
        for token in value.split(|b| *b == b',').map(<[u8]>::trim_ascii) {
            if token.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if token.eq_ignore_ascii_case(b"keep-alive") {
                self.close = false;
            }
        }
    }

    /// One line of a chunked body's frame. Returns how much of the piece it took.
    fn line(&mut self, bytes: &[u8]) -> Result<usize, CodecError> {
        let end = bytes.iter().position(|b| *b == b'\n');
        let used = end.map_or(bytes.len(), |e| e + 1);
        if self.partial.len() + used > LINE_MAX {
            return Err(CodecError::Chunk);
        }
        self.partial.extend_from_slice(&bytes[..used]);
        if end.is_none() {
            return Ok(used);
        }
        let line = self.partial.trim_ascii();
        self.state = match self.state {
            State::ChunkEnd if line.is_empty() => State::ChunkSize,
            State::Trailer if line.is_empty() => State::Done,
            State::Trailer => State::Trailer,
            State::ChunkSize => match chunk_size(line).ok_or(CodecError::Chunk)? {
                0 => State::Trailer,
                n => State::Chunk(n),
            },
            _ => return Err(CodecError::Chunk),
        };
        self.partial.clear();
        Ok(used)
    }
}

fn number(value: &[u8]) -> Option<u64> {
    let digits = value.trim_ascii();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|b| *b == b';').next()?.trim_ascii();
    if digits.is_empty() || digits.len() > 16 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RESPONSES: [(&str, &str); 5] = [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=1\r\n0123456789\r\n0\r\nT: v\r\n\r\n",
            "abc0123456789",
        ),
        ("HTTP/1.1 204 No Content\r\nA: b\r\n\r\n", ""),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 No\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno", "no"),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n", ""),
    ];

    /// Feeds a stream in pieces; (status, body, closes) of each response.
    fn decode(stream: &[u8], cuts: &[usize], responses: usize) -> Result<Vec<(u16, Vec<u8>, bool)>, CodecError> {
        let mut decoder = Decoder::default();
        decoder.begin(false, true);
        let mut found = Vec::new();
        let mut bounds: Vec<usize> = cuts.iter().map(|c| c % (stream.len() + 1)).collect();
        bounds.extend([0, stream.len()]);
        bounds.sort_unstable();
        for pair in bounds.windows(2) {
            let mut piece = &stream[pair[0]..pair[1]];
            while let Progress::Done(used) = decoder.feed(piece, &mut |_, _| {})? {
                found.push((decoder.status(), decoder.body.clone(), decoder.closes()));
                decoder.begin(false, true);
                piece = &piece[used..];
                if found.len() == responses {
                    return Ok(found);
                }
            }
        }
        Ok(found)
    }

    proptest! {
        #[test]
        fn any_split_of_the_stream_gives_the_same_responses(order in prop::collection::vec(0usize..5, 1..6),
                                                            cuts in prop::collection::vec(any::<usize>(), 0..40)) {
            let stream: String = order.iter().map(|i| RESPONSES[*i].0).collect();
            let whole = decode(stream.as_bytes(), &[], order.len()).unwrap();
            prop_assert_eq!(whole.len(), order.len());
            for (found, i) in whole.iter().zip(&order) {
                prop_assert_eq!(&found.1, RESPONSES[*i].1.as_bytes());
            }
            prop_assert_eq!(whole, decode(stream.as_bytes(), &cuts, order.len()).unwrap());
        }

        #[test]
        fn no_bytes_make_it_panic(head in 0usize..5, noise in prop::collection::vec(any::<u8>(), 0..300),
                                  at in any::<usize>(), cuts in prop::collection::vec(any::<usize>(), 0..8)) {
            let mut stream = RESPONSES[head].0.as_bytes().to_vec();
            let at = at % stream.len();
            stream.splice(at..at, noise);
            let _ = decode(&stream, &cuts, 100);
        }
    }

    fn one(text: &str) -> Result<Progress, CodecError> {
        let mut decoder = Decoder::default();
        decoder.begin(false, false);
        decoder.feed(text.as_bytes(), &mut |_, _| {})
    }

    #[test]
    fn what_is_not_http_is_told_apart() {
        assert_eq!(one("SSH-2.0-OpenSSH\r\n\r\n"), Err(CodecError::Head));
        assert_eq!(one("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n"), Err(CodecError::Length));
        assert_eq!(one("HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n"), Err(CodecError::Length));
        assert_eq!(one("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"), Err(CodecError::Coding));
        assert_eq!(one("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), Err(CodecError::Chunk));
        assert_eq!(one("HTTP/1.1 101 Switching\r\n\r\n"), Err(CodecError::Switched));
        let long = format!("HTTP/1.1 200 OK\r\nA: {}", "x".repeat(HEAD_BYTES_MAX));
        assert_eq!(one(&long), Err(CodecError::HeadTooLong));
    }

    #[test]
    fn interim_heads_without_end_are_no_answer() {
        let interim = |n: u32| "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n".repeat(n as usize);
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        let whole = interim(INTERIM_MAX) + answer;
        assert_eq!(one(&whole), Ok(Progress::Done(whole.len())));
        assert_eq!(one(&interim(INTERIM_MAX + 1)), Err(CodecError::Interim));
    }

    #[test]
    fn a_body_without_a_length_ends_with_the_connection() {
        let mut decoder = Decoder::default();
        decoder.begin(false, true);
        assert_eq!(decoder.feed(b"HTTP/1.1 200 OK\r\n\r\nab", &mut |_, _| {}), Ok(Progress::More));
        assert_eq!(decoder.feed(b"c", &mut |_, _| {}), Ok(Progress::More));
        assert!(decoder.end() && decoder.closes());
        assert_eq!(decoder.body, b"abc");
        decoder.begin(false, true);
        decoder.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", &mut |_, _| {}).unwrap();
        assert!(!decoder.end(), "a cut body is no response");
    }

    #[test]
    fn the_answer_to_head_has_no_body() {
        let mut decoder = Decoder::default();
        decoder.begin(true, false);
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n";
        assert_eq!(decoder.feed(text, &mut |_, _| {}), Ok(Progress::Done(text.len())));
    }
}
