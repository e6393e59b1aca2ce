//! The gateway's HTTP side: requests in, answers out.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use gauntlet_process::clock;
use gauntlet_proto::foundation::{ActionReply, ActionRequest};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::aggregate::Unanswered;
use super::correlation;
use super::gateway::{Action, Gateway};
use super::pool::{Failure, Pool};
use crate::foundation::telemetry::Gauge;
use crate::kit::trace::{CORRELATION_ID, TRACEPARENT, Trace};
use crate::link::Traffic;

/// Largest body of a request, bytes; larger ones get 413.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Longest name of a user of an aggregation, bytes.
const USER_BYTES_MAX: usize = 128;
/// Connections at once; more wait to be accepted.
const CONNECTIONS_MAX: usize = 100_000;
/// What tells a load worker which id was acknowledged.
const ACK: HeaderName = HeaderName::from_static("x-gauntlet-ack");
const OVERLOAD: HeaderName = HeaderName::from_static("x-gauntlet-overload");

type Answer = Response<Full<Bytes>>;

/// Body of an action; a user's other fields are none of the gateway's business.
#[derive(Deserialize)]
struct ActionBody {
    user: String,
}

struct InFlight<'a>(&'a AtomicUsize, &'a Gauge);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.1.set((self.0.fetch_sub(1, Ordering::Relaxed) - 1) as f64);
    }
}

/// Accepts and serves until the role is shut down.
pub(super) async fn serve(gateway: Arc<Gateway>, listener: TcpListener) {
    let in_flight = Arc::new(AtomicUsize::new(0));
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Ok(slot) = slots.clone().acquire_owned().await {
        let stream = gateway.context.links.next_connection(&listener, Traffic::Load).await;
        let (gateway, in_flight) = (gateway.clone(), in_flight.clone());
        let context = gateway.context.clone();
        context.spawn(async move {
            let _slot = slot;
            let service = service_fn(|request| {
                let (gateway, in_flight) = (gateway.clone(), in_flight.clone());
                async move { Ok::<_, Infallible>(route(&gateway, &in_flight, request).await) }
            });
            // Without a limit on the wait for a request's head: a user's idle connection is not to be closed under the next request.
            let mut http = hyper::server::conn::http1::Builder::new();
            http.header_read_timeout(None);
            // A connection that its user broke has nobody to tell.
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn route(gateway: &Gateway, in_flight: &AtomicUsize, request: Request<Incoming>) -> Answer {
    let path = request.uri().path().to_string();
    let method = request.method().clone();
    let below = |place: &str| path.strip_prefix(place).filter(|rest| !rest.is_empty() && !rest.contains('/'));
    if let (Some(action), Some(pool)) = (below("/actions/"), &gateway.pool) {
        return match method {
            Method::POST => act(gateway, pool, in_flight, action, request).await,
            _ => error(StatusCode::METHOD_NOT_ALLOWED, "actions are performed by POST"),
        };
    }
    if let Some(name) = below("/aggregate/").filter(|name| gateway.aggregations.has(name)) {
        return match method {
            Method::GET => aggregate(gateway, in_flight, name, &request).await,
            _ => error(StatusCode::METHOD_NOT_ALLOWED, "an aggregation is asked for by GET"),
        };
    }
    match (method, below("/correlated/")) {
        (Method::GET, Some(id)) if !gateway.aggregations.is_empty() => correlated(gateway, id).await,
        (Method::GET, None) if path == "/health" => json(StatusCode::OK, &serde_json::json!({ "status": "ok" })),
        _ => error(StatusCode::NOT_FOUND, &no_such_path(gateway)),
    }
}

/// What there is.
fn no_such_path(gateway: &Gateway) -> String {
    let actions = gateway.pool.iter().map(|_| "POST /actions/{action}, ");
    let names = gateway.params.aggregate.keys().map(|name| format!("GET /aggregate/{name}?user=.., "));
    let paths: String = actions.map(String::from).chain(names).collect();
    format!("no such path; there are {paths}GET /health")
}

/// Counts a request as in flight while this lives; none when there are too many already.
fn enter<'a>(gateway: &'a Gateway, in_flight: &'a AtomicUsize) -> Option<InFlight<'a>> {
    let metrics = &gateway.metrics;
    let now = in_flight.fetch_add(1, Ordering::Relaxed) + 1;
    metrics.in_flight.set(now as f64);
    let place = InFlight(in_flight, &metrics.in_flight);
    if now > gateway.params.limit as usize {
        metrics.overloads.one();
        return None;
    }
    Some(place)
}

async fn aggregate(gateway: &Gateway, in_flight: &AtomicUsize, name: &str, request: &Request<Incoming>) -> Answer {
    let metrics = &gateway.metrics;
    metrics.aggregations.one();
    let Some(_place) = enter(gateway, in_flight) else {
        metrics.aggregation_errors.one();
        return overloaded();
    };
    let query = request.uri().query().unwrap_or_default();
    let user = query.split('&').find_map(|pair| pair.strip_prefix("user=")).unwrap_or_default();
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    if user.is_empty() || user.len() > USER_BYTES_MAX || !user.bytes().all(plain) {
        let why = format!("name a user: ?user=.., 1 to {USER_BYTES_MAX} of a-z, A-Z, 0-9, _, - and .");
        return error(StatusCode::BAD_REQUEST, &why);
    }
    let trace = trace(gateway, request.headers());
    let outcome = gateway.aggregate(name, user, &trace).await;
    if !matches!(outcome, Ok(_) | Err(Unanswered::Service(_, Failure::Refused(_)))) {
        metrics.aggregation_errors.one();
    }
    match outcome {
        Ok(found) => {
            let body = serde_json::json!({
                "correlation_id": trace.correlation_id, "event_id": found.event_id, "user": user, "parts": found.parts,
                "overlap_us": found.overlap_us,
            });
            with_ack(json(StatusCode::OK, &body), &gateway.context.role, &found.event_id)
        }
        Err(Unanswered::Service(_, Failure::Refused(status))) => error(StatusCode::BAD_REQUEST, status.message()),
        Err(Unanswered::Service(role, Failure::Failed(status))) => {
            error(StatusCode::BAD_GATEWAY, &format!("{role}: {}", status.message()))
        }
        Err(Unanswered::Service(role, Failure::TooLate)) => {
            error(StatusCode::GATEWAY_TIMEOUT, &format!("{role} did not answer in time"))
        }
        Err(Unanswered::Store(why)) => error(StatusCode::INTERNAL_SERVER_ERROR, &why.to_string()),
    }
}

async fn correlated(gateway: &Gateway, id: &str) -> Answer {
    match correlation::correlated(gateway, id).await {
        Ok(found) => json(StatusCode::OK, &found),
        Err(silent) => {
            error(StatusCode::SERVICE_UNAVAILABLE, &format!("these stores did not answer: {}", silent.join(", ")))
        }
    }
}

async fn act(
    gateway: &Gateway,
    pool: &Pool,
    in_flight: &AtomicUsize,
    action: &str,
    request: Request<Incoming>,
) -> Answer {
    let begun_ns = clock::monotonic_ns();
    let metrics = &gateway.metrics;
    metrics.requests.one();
    let Some(_place) = enter(gateway, in_flight) else {
        metrics.user_errors.one();
        return overloaded();
    };
    let action = match read(gateway, action, request).await {
        Ok(action) => action,
        Err(answer) => return answer,
    };
    let outcome = gateway.perform(pool, &action).await;
    metrics.buckets.record((clock::monotonic_ns() - begun_ns) / 1000);
    match outcome {
        Ok(reply) => acknowledged(pool, &action, &reply),
        Err(Failure::Refused(status)) if status.code() == tonic::Code::NotFound => {
            error(StatusCode::NOT_FOUND, status.message())
        }
        Err(Failure::Refused(status)) => error(StatusCode::BAD_REQUEST, status.message()),
        Err(Failure::Failed(status)) => {
            metrics.user_errors.one();
            error(StatusCode::BAD_GATEWAY, &format!("upstream: {}", status.message()))
        }
        Err(Failure::TooLate) => {
            metrics.user_errors.one();
            error(StatusCode::GATEWAY_TIMEOUT, "upstream did not answer in time")
        }
    }
}

/// The request as the upstream gets it, or the answer that says why not.
async fn read(gateway: &Gateway, action: &str, request: Request<Incoming>) -> Result<Action, Answer> {
    let (parts, body) = request.into_parts();
    let body = Limited::new(body, BODY_BYTES_MAX).collect().await.map_err(|why| {
        if why.is::<LengthLimitError>() {
            error(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 64 KiB")
        } else {
            error(StatusCode::BAD_REQUEST, "the body did not arrive")
        }
    })?;
    let body: ActionBody = serde_json::from_slice(&body.to_bytes())
        .map_err(|why| error(StatusCode::BAD_REQUEST, &format!("the body is not {{\"user\": \"..\"}}: {why}")))?;
    let trace = trace(gateway, &parts.headers);
    let idempotency_key = trace.correlation_id.clone();
    Ok(Action { request: ActionRequest { action: action.into(), user: body.user, idempotency_key }, trace })
}

/// Of a user's request.
fn trace(gateway: &Gateway, headers: &HeaderMap) -> Trace {
    Trace::continued(header(headers, CORRELATION_ID), header(headers, TRACEPARENT), &mut gateway.context.draws())
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn acknowledged(pool: &Pool, action: &Action, reply: &ActionReply) -> Answer {
    let body = serde_json::json!({
        "event_id": reply.event_id, "action": action.request.action, "processing_ms": reply.processing_ms,
    });
    with_ack(json(StatusCode::OK, &body), pool.role(), &reply.event_id)
}

/// Tells a load worker which id of a role's store was acknowledged.
fn with_ack(mut answer: Answer, role: &str, id: &str) -> Answer {
    if let Ok(ack) = HeaderValue::from_str(&format!("{role}.events {id}")) {
        answer.headers_mut().insert(ACK, ack);
    }
    answer
}

fn overloaded() -> Answer {
    let mut answer = error(StatusCode::SERVICE_UNAVAILABLE, "too many requests in flight; try again in a second");
    answer.headers_mut().insert(OVERLOAD, HeaderValue::from_static("1"));
    answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    answer
}

fn error(status: StatusCode, why: &str) -> Answer {
    json(status, &serde_json::json!({ "error": why }))
}

fn json(status: StatusCode, body: &serde_json::Value) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body.to_string())));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}
