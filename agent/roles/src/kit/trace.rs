//! Correlation id and trace context of a request, as they cross every hop: taken over from whoever asked, put on whatever is asked in
//! turn, kept with every event. Source: W3C Trace Context, version 00.

use std::collections::HashMap;

use gauntlet_common::seed::Draws;
use gauntlet_proto::foundation::Event;
use tonic::Request;
use tonic::metadata::MetadataValue;

use super::RoleContext;

/// Longest correlation id that is taken over, bytes; in the place of a longer one a new one is made.
const CORRELATION_BYTES_MAX: usize = 128;
/// The headers, of HTTP and of gRPC, and the key of an event's metadata.
pub const CORRELATION_ID: &str = "x-correlation-id";
/// See [`CORRELATION_ID`].
pub const TRACEPARENT: &str = "traceparent";

/// What one hop of a user's request carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// Of the user's request; the same at every hop.
    pub correlation_id: String,
    /// This hop's own span in the user's trace, as a header: `00-TRACE-SPAN-FLAGS`.
    pub traceparent: String,
}

impl Trace {
    /// A new span in the caller's trace, with its correlation id; what it did not bring is made.
    pub fn continued(correlation_id: Option<&str>, traceparent: Option<&str>, draws: &mut Draws) -> Self {
        let correlation_id = correlation_id
            .filter(|id| !id.is_empty() && id.len() <= CORRELATION_BYTES_MAX)
            .map_or_else(|| uuid::Uuid::now_v7().to_string(), String::from);
        let (trace, flags) = traceparent
            .and_then(parent)
            .unwrap_or_else(|| (format!("{:016x}{:016x}", draws.next_u64(), draws.next_u64().max(1)), "01".into()));
        let traceparent = format!("00-{trace}-{:016x}-{flags}", draws.next_u64().max(1));
        Self { correlation_id, traceparent }
    }

    /// A request to the next hop.
    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        for (name, value) in [(CORRELATION_ID, &self.correlation_id), (TRACEPARENT, &self.traceparent)] {
            // Of ASCII both, unless a role made its own correlation id of something else: then that id goes no further.
            if let Ok(value) = MetadataValue::try_from(value) {
                request.metadata_mut().insert(name, value);
            }
        }
        request
    }

    /// The event as one of this request: with its correlation id, and its trace context in the metadata.
    pub fn mark(&self, event: Event) -> Event {
        let mut metadata: HashMap<_, _> = event.metadata;
        metadata.insert(TRACEPARENT.into(), self.traceparent.clone());
        Event { correlation_id: self.correlation_id.clone(), metadata, ..event }
    }
}

impl RoleContext {
    /// The trace that a request came with, gone on by one span.
    pub fn trace<T>(&self, request: &Request<T>) -> Trace {
        let header = |name: &str| request.metadata().get(name).and_then(|value| value.to_str().ok());
        Trace::continued(header(CORRELATION_ID), header(TRACEPARENT), &mut self.draws())
    }
}

/// Trace id and flags of a header; none of one that is not of version 00, or that the standard forbids.
fn parent(text: &str) -> Option<(String, String)> {
    let hex = |text: &str, length| {
        text.len() == length && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let mut parts = text.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let whole = version == "00" && hex(trace, 32) && hex(span, 16) && hex(flags, 2) && parts.next().is_none();
    let nothing = |id: &str| id.bytes().all(|b| b == b'0');
    (whole && !nothing(trace) && !nothing(span)).then(|| (trace.into(), flags.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn every_hop_keeps_trace_and_correlation_id_and_has_a_span_of_its_own() {
        let mut draws = Draws::new(1);
        let first = Trace::continued(Some("order-7"), Some(PARENT), &mut draws);
        let request = first.request(());
        let header = |name: &str| request.metadata().get(name).and_then(|value| value.to_str().ok());
        let second = Trace::continued(header(CORRELATION_ID), header(TRACEPARENT), &mut draws);
        for hop in [&first, &second] {
            assert_eq!(hop.correlation_id, "order-7");
            assert_eq!(parent(&hop.traceparent), parent(PARENT));
        }
        let spans = [PARENT, &first.traceparent, &second.traceparent].map(|text| text[36..52].to_string());
        assert!(spans[0] != spans[1] && spans[1] != spans[2] && spans[0] != spans[2], "{spans:?}");
        let event = second.mark(Event { metadata: [("shade".into(), "red".into())].into(), ..Event::default() });
        assert_eq!(
            (event.correlation_id.as_str(), event.metadata[TRACEPARENT].as_str()),
            ("order-7", &*second.traceparent)
        );
        assert_eq!(event.metadata["shade"], "red");
    }

    #[test]
    fn what_is_no_trace_context_begins_a_new_trace() {
        let mut draws = Draws::new(2);
        let zeros = format!("00-{}-b7ad6b7169203331-01", "0".repeat(32));
        for bad in ["", "00", "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", &PARENT.to_uppercase(), &zeros]
        {
            let trace = Trace::continued(None, Some(bad), &mut draws);
            assert!(parent(&trace.traceparent).is_some(), "{}", trace.traceparent);
            assert_ne!(parent(&trace.traceparent), parent(PARENT));
        }
        let long = "x".repeat(CORRELATION_BYTES_MAX + 1);
        for bad in ["", &long] {
            assert!(uuid::Uuid::parse_str(&Trace::continued(Some(bad), None, &mut draws).correlation_id).is_ok());
        }
    }
}
