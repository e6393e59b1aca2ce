//! The site's HTTP side: requests in, answers out.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use gauntlet_proto::edge::EdgeRequest;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::site::{Answered, Failure, Site};
use crate::foundation::telemetry::Gauge;
use crate::link::Traffic;

/// Largest body of a request, bytes; larger ones get 413. What it says is the user's: edge requests differ by kind alone.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Connections at once; more wait to be accepted.
const CONNECTIONS_MAX: usize = 100_000;
/// Longest name of a cloud that is passed on.
const CLOUD_CHARS_MAX: usize = 64;
/// Longest correlation id that is taken over; in the place of a longer one a new one is made.
const CORRELATION_CHARS_MAX: usize = 128;
/// What tells a load worker which id was acknowledged.
const ACK: HeaderName = HeaderName::from_static("x-gauntlet-ack");
const OVERLOAD: HeaderName = HeaderName::from_static("x-gauntlet-overload");

type Answer = Response<Full<Bytes>>;

struct InFlight<'a>(&'a AtomicUsize, &'a Gauge);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.1.set((self.0.fetch_sub(1, Ordering::Relaxed) - 1) as f64);
    }
}

/// Accepts and serves until the role is shut down.
pub(super) async fn serve(site: Arc<Site>, listener: TcpListener) {
    let in_flight = Arc::new(AtomicUsize::new(0));
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Ok(slot) = slots.clone().acquire_owned().await {
        let stream = site.context.links.next_connection(&listener, Traffic::Load).await;
        let (site, in_flight) = (site.clone(), in_flight.clone());
        let context = site.context.clone();
        context.spawn(async move {
            let _slot = slot;
            let service = service_fn(|request| {
                let (site, in_flight) = (site.clone(), in_flight.clone());
                async move { Ok::<_, Infallible>(route(&site, &in_flight, request).await) }
            });
            // Without a limit on the wait for a request's head: a user's idle connection is not to be closed under the next request.
            let mut http = hyper::server::conn::http1::Builder::new();
            http.header_read_timeout(None);
            // A connection that its user broke has nobody to tell.
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn route(site: &Site, in_flight: &AtomicUsize, request: Request<Incoming>) -> Answer {
    let path = request.uri().path().to_string();
    let kind = path.strip_prefix("/edge/").filter(|kind| !kind.is_empty() && !kind.contains('/'));
    match (request.method(), kind) {
        (&Method::POST, Some(kind)) => edge(site, in_flight, kind, request).await,
        (_, Some(_)) => error(StatusCode::METHOD_NOT_ALLOWED, "edge requests are made by POST"),
        (&Method::GET, None) if path == "/health" => answer(StatusCode::OK, &json!({ "status": "ok" })),
        _ => error(StatusCode::NOT_FOUND, "no such path; POST /edge/{kind}?cloud=NAME or GET /health"),
    }
}

async fn edge(site: &Site, in_flight: &AtomicUsize, kind: &str, request: Request<Incoming>) -> Answer {
    let metrics = &site.metrics;
    metrics.requests.one();
    let now = in_flight.fetch_add(1, Ordering::Relaxed) + 1;
    metrics.in_flight.set(now as f64);
    let _in_flight = InFlight(in_flight, &metrics.in_flight);
    if now > site.params.limit as usize {
        metrics.overloads.one();
        metrics.user_errors.one();
        return overloaded();
    }
    let request = match read(kind, request).await {
        Ok(request) => request,
        Err(answer) => return answer,
    };
    match site.perform(&request).await {
        Ok(answered) => acknowledged(&answered),
        Err(Failure::Refused(status)) if status.code() == tonic::Code::NotFound => {
            error(StatusCode::NOT_FOUND, status.message())
        }
        Err(Failure::Refused(status)) => error(StatusCode::BAD_REQUEST, status.message()),
        Err(Failure::Failed(status)) => {
            metrics.user_errors.one();
            error(StatusCode::BAD_GATEWAY, &format!("region: {}", status.message()))
        }
        Err(Failure::TooLate) => {
            metrics.user_errors.one();
            error(StatusCode::GATEWAY_TIMEOUT, "no region answered in time")
        }
    }
}

/// The request as a region gets it, or the answer that says why not.
async fn read(kind: &str, request: Request<Incoming>) -> Result<EdgeRequest, Answer> {
    let (parts, body) = request.into_parts();
    Limited::new(body, BODY_BYTES_MAX).collect().await.map_err(|why| {
        if why.is::<LengthLimitError>() {
            error(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 64 KiB")
        } else {
            error(StatusCode::BAD_REQUEST, "the body did not arrive")
        }
    })?;
    let cloud = parts.uri.query().unwrap_or_default().split('&').find_map(|pair| pair.strip_prefix("cloud="));
    let cloud = cloud.unwrap_or_default();
    if cloud.len() > CLOUD_CHARS_MAX {
        return Err(error(StatusCode::BAD_REQUEST, "the name of a cloud has at most 64 characters"));
    }
    let correlation_id = parts.headers.get("x-correlation-id").and_then(|value| value.to_str().ok());
    let correlation_id = correlation_id
        .filter(|id| !id.is_empty() && id.len() <= CORRELATION_CHARS_MAX)
        .map_or_else(|| uuid::Uuid::now_v7().to_string(), String::from);
    Ok(EdgeRequest { kind: kind.into(), cloud: cloud.into(), correlation_id })
}

fn acknowledged(Answered { role, reply }: &Answered<'_>) -> Answer {
    let body = json!({ "event_id": reply.event_id, "region": reply.region, "processing_ms": reply.processing_ms });
    let mut answer = answer(StatusCode::OK, &body);
    if let Ok(ack) = HeaderValue::from_str(&format!("{role}.events {}", reply.event_id)) {
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
    answer(status, &json!({ "error": why }))
}

fn answer(status: StatusCode, body: &serde_json::Value) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body.to_string())));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}
