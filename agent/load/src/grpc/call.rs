//! One call, from its submission to its outcome. It holds no socket: its bytes are HTTP/2's.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use gauntlet_common::snapshot::ErrorClass;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Response, StatusCode};

use super::reply::Reply;
use super::request::{Ended, OK, Outgoing, Prepared, UNKNOWN};
use crate::answer::{self, Kept};
use crate::driver::Submission;

/// A place for one call at a time.
#[derive(Debug)]
pub struct Slot {
    pub waker: Waker,
    pub call: Option<Call>,
    reply: Reply,
}

/// A call.
#[derive(Debug)]
pub struct Call {
    pub token: u64,
    pub request: usize,
    pub submitted_ns: u64,
    /// `None` while it waits for a connection or a free stream.
    pub sent_ns: Option<u64>,
    pub connect_us: Option<u64>,
    /// The generation of the connection that it is on.
    pub http2: u32,
    pub stage: Stage,
    /// What the expectations' templates say for this call.
    filled: Vec<Vec<u8>>,
    head: HeaderMap,
    /// Whether the time for which its stream is read went by before the head of the answer came.
    overdue: bool,
}

/// How far it is.
#[derive(Debug)]
pub enum Stage {
    Waiting(Outgoing),
    Head(ResponseFuture),
    Body(RecvStream),
}

/// How a call ended, and what it left.
pub type Outcome = (Result<(), ErrorClass>, Kept);

impl Slot {
    /// An empty one.
    pub fn new(waker: Waker) -> Self {
        Self { waker, call: None, reply: Reply::default() }
    }

    /// Takes a call, that waits to be sent.
    pub fn submit(
        &mut self,
        submission: &Submission<'_>,
        outgoing: Outgoing,
        filled: Vec<Vec<u8>>,
        prepared: &Prepared,
    ) {
        self.reply.begin(prepared.checks.need_body());
        self.call = Some(Call {
            token: submission.token,
            request: submission.request,
            submitted_ns: submission.now_ns,
            sent_ns: None,
            connect_us: None,
            http2: 0,
            stage: Stage::Waiting(outgoing),
            filled,
            head: HeaderMap::new(),
            overdue: false,
        });
    }

    /// Brings its call as far on as what came allows.
    pub fn poll(&mut self, requests: &[Prepared], ledgers: &[String]) -> Poll<Outcome> {
        let Self { waker, call: Some(call), reply } = self else { return Poll::Pending };
        let mut kept = Kept::default();
        let outcome =
            ready!(call.poll(&mut Context::from_waker(waker), reply, &requests[call.request], ledgers, &mut kept));
        Poll::Ready(with(outcome, kept))
    }

    /// Ends its call's stream, whose time has come; `None` when the server has not said a word: silence is no answer, so that
    /// such a call ends as soon as the head comes, or as one that timed out.
    pub fn read_enough(&mut self, requests: &[Prepared], ledgers: &[String]) -> Option<Outcome> {
        let call = self.call.as_mut()?;
        if !matches!(call.stage, Stage::Body(_)) {
            call.overdue = true;
            return None;
        }
        let mut kept = Kept::default();
        let outcome = call.read_enough(&self.reply, &requests[call.request], ledgers, &mut kept);
        Some(with(outcome, kept))
    }
}

/// A failed call leaves nothing.
fn with(outcome: Result<(), ErrorClass>, kept: Kept) -> Outcome {
    let kept = if outcome.is_ok() { kept } else { Kept::default() };
    (outcome, kept)
}

impl Call {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        reply: &mut Reply,
        prepared: &Prepared,
        ledgers: &[String],
        kept: &mut Kept,
    ) -> Poll<Result<(), ErrorClass>> {
        if let Stage::Head(response) = &mut self.stage {
            let stream = match ready!(Pin::new(response).poll(cx)) {
                Ok(response) => self.begun(response)?,
                Err(error) => return Poll::Ready(Err(class_of(&error))),
            };
            self.stage = Stage::Body(stream);
        }
        let Stage::Body(stream) = &mut self.stage else { return Poll::Pending };
        loop {
            let data = match stream.poll_data(cx) {
                Poll::Pending if self.overdue => {
                    return Poll::Ready(self.read_enough(reply, prepared, ledgers, kept));
                }
                polled => ready!(polled),
            };
            let Some(data) = data else { break };
            let data = data.map_err(|e| class_of(&e))?;
            let until = prepared.stream.and_then(|stream| stream.messages).unwrap_or(u64::MAX);
            if reply.feed(&data, until).map_err(|_| ErrorClass::Protocol)? {
                return Poll::Ready(self.read_enough(reply, prepared, ledgers, kept));
            }
            // It fails only when more is given back than was taken.
            let _ = stream.flow_control().release_capacity(data.len());
        }
        let trailers = ready!(stream.poll_trailers(cx)).map_err(|e| class_of(&e))?.unwrap_or_default();
        Poll::Ready(self.ended(&trailers, reply, prepared, ledgers, kept))
    }

    /// The head of the answer came.
    fn begun(&mut self, response: Response<RecvStream>) -> Result<RecvStream, ErrorClass> {
        let (parts, stream) = response.into_parts();
        if parts.status != StatusCode::OK {
            return Err(ErrorClass::Status);
        }
        let kind = parts.headers.get(http::header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
        if !kind.starts_with(b"application/grpc") {
            return Err(ErrorClass::Protocol);
        }
        self.head = parts.headers;
        Ok(stream)
    }

    fn ended(
        &self,
        trailers: &HeaderMap,
        reply: &Reply,
        prepared: &Prepared,
        ledgers: &[String],
        kept: &mut Kept,
    ) -> Result<(), ErrorClass> {
        // An answer without a message may have its status in the head.
        let find = |name: &str| trailers.get(name).or_else(|| self.head.get(name)).map(|value| value.as_bytes());
        let code = find("grpc-status").and_then(|text| std::str::from_utf8(text).ok()?.trim().parse::<u32>().ok());
        let code = match code {
            Some(known @ 0..=16) => known,
            Some(_) => UNKNOWN,
            None => return Err(ErrorClass::Protocol),
        };
        let messages = reply.messages();
        if code == OK && !(reply.is_whole() && (messages == 1 || prepared.stream.is_some())) {
            return Err(ErrorClass::Protocol);
        }
        if code == OK && prepared.stream.and_then(|stream| stream.messages).is_some_and(|wanted| messages < wanted) {
            return Err(ErrorClass::Expectation);
        }
        self.judged(code, trailers, reply, prepared, ledgers, kept)
    }

    /// All of a stream that is wanted has come: it counts as one that its server ended well.
    fn read_enough(
        &self,
        reply: &Reply,
        prepared: &Prepared,
        ledgers: &[String],
        kept: &mut Kept,
    ) -> Result<(), ErrorClass> {
        self.judged(OK, &HeaderMap::new(), reply, prepared, ledgers, kept)
    }

    fn judged(
        &self,
        code: u32,
        trailers: &HeaderMap,
        reply: &Reply,
        prepared: &Prepared,
        ledgers: &[String],
        kept: &mut Kept,
    ) -> Result<(), ErrorClass> {
        let find = |name: &str| trailers.get(name).or_else(|| self.head.get(name)).map(|value| value.as_bytes());
        if !ledgers.is_empty() {
            let all = self.head.get_all(answer::ACK_HEADER).iter().chain(trailers.get_all(answer::ACK_HEADER));
            kept.acknowledged.extend(all.filter_map(|value| answer::acknowledgement(value.as_bytes(), ledgers)));
        }
        let message = find("grpc-message").unwrap_or_default();
        let ended = Ended { code, message, body: reply.last() };
        prepared.checks.judge(&ended, find, &prepared.output, &self.filled, kept)
    }
}

/// What became of a call, from what became of its stream or connection.
pub fn class_of(error: &h2::Error) -> ErrorClass {
    match error.reason() {
        Some(Reason::ENHANCE_YOUR_CALM) if error.is_remote() => ErrorClass::Overload,
        // The library saw bytes that no HTTP/2 has.
        Some(_) if error.is_library() => ErrorClass::Protocol,
        _ => ErrorClass::Reset,
    }
}
