//! Telemetry: counters, gauges and measured times of one process. What is emitted here reaches the run's report as deltas.
//!
//! A handle costs one lookup to make and an atomic operation (a measure: an uncontended lock) to use; roles keep theirs.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gauntlet_common::histogram::Histogram;
use gauntlet_common::scenario::{Metric, MetricKind};
use gauntlet_common::snapshot::METRICS_MAX;
use gauntlet_proto::agent::RoleMetrics;
use gauntlet_proto::foundation::{
    EmitReply, EmitRequest, GetMetricsReply, GetMetricsRequest, MeasureSummary, emit_request, telemetry_server,
};
use parking_lot::Mutex;
use tonic::{Request, Response, Status};

/// Names of each kind; a role's own beyond it go nowhere. Three times this is what a message of metrics holds.
const NAMES_MAX: usize = 300;
/// Names that one host takes from outside beside those that its role has, of all kinds together; more are refused.
const OTHERS_MAX: usize = 300;
/// Longest name, bytes; longer ones are refused.
const NAME_BYTES_MAX: usize = 128;

/// A process's metrics. Cheap to clone.
#[derive(Clone)]
pub struct Telemetry(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// Names that may still come from outside.
    room: usize,
    /// With what has been drained of it.
    counters: BTreeMap<String, (Counter, f64)>,
    gauges: BTreeMap<String, Gauge>,
    /// With the total of what has been drained.
    measures: BTreeMap<String, (Measure, Histogram)>,
}

/// Only grows. Cheap to clone.
#[derive(Clone, Default)]
pub struct Counter(Arc<AtomicU64>);

/// The latest value. Cheap to clone.
#[derive(Clone, Default)]
pub struct Gauge(Arc<AtomicU64>);

/// Times in microseconds. Cheap to clone.
#[derive(Clone, Default)]
pub struct Measure(Arc<Mutex<Histogram>>);

impl Counter {
    /// One more.
    pub fn one(&self) {
        self.add(1.0);
    }

    /// So many more.
    pub fn add(&self, n: f64) {
        let add = |bits| Some((f64::from_bits(bits) + n).to_bits());
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// Since the process began.
    pub fn total(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }
}

impl Gauge {
    /// The value from now on.
    pub fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }

    /// The latest value; 0 before the first.
    pub fn value(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }
}

impl Measure {
    /// Counts one time, in microseconds.
    pub fn record(&self, us: u64) {
        self.0.lock().record(us);
    }
}

/// A name that cannot be taken.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TelemetryError {
    #[error("a metric needs a name of at most {NAME_BYTES_MAX} bytes, of letters, digits, `_`, `-`, `.` and `/`")]
    Name,
    #[error("this host takes no further name; reuse one that it has")]
    Full,
    #[error("a counter only grows, by finite numbers")]
    Shrinking,
    #[error("a gauge's value is a finite number")]
    NotFinite,
}

impl From<TelemetryError> for Status {
    fn from(error: TelemetryError) -> Self {
        match error {
            TelemetryError::Full => Self::resource_exhausted(error.to_string()),
            _ => Self::invalid_argument(error.to_string()),
        }
    }
}

impl Telemetry {
    /// With all these at zero, so that what never happens is reported as 0 and not as missing. The hosts of a run share what its
    /// record has room for: half of it is for names from outside, so that no user's make a role's own be refused.
    pub fn declared(metrics: &[Metric], hosts: usize) -> Self {
        let room = (METRICS_MAX / 2 / hosts.max(1)).min(OTHERS_MAX);
        let telemetry = Self(Arc::new(Mutex::new(State { room, ..State::default() })));
        for metric in metrics {
            match metric.kind {
                MetricKind::Counter => drop(telemetry.counter(metric.name)),
                MetricKind::Gauge => drop(telemetry.gauge(metric.name)),
                MetricKind::Histogram => drop(telemetry.measure(metric.name)),
            }
        }
        telemetry
    }

    /// The counter of this name.
    pub fn counter(&self, name: &str) -> Counter {
        entry(&mut self.0.lock().counters, name).map_or_else(|_| Counter::default(), |(counter, _)| counter.clone())
    }

    /// The gauge of this name.
    pub fn gauge(&self, name: &str) -> Gauge {
        entry(&mut self.0.lock().gauges, name).map_or_else(|_| Gauge::default(), |gauge| gauge.clone())
    }

    /// The measure of this name.
    pub fn measure(&self, name: &str) -> Measure {
        entry(&mut self.0.lock().measures, name).map_or_else(|_| Measure::default(), |(measure, _)| measure.clone())
    }

    /// What was gained since the last time; gauges as they are.
    pub fn drain_deltas(&self, role: &str, instance: u32, interval: u32) -> RoleMetrics {
        let mut state = self.0.lock();
        let mut counters = HashMap::with_capacity(state.counters.len());
        for (name, (counter, drained)) in &mut state.counters {
            let total = counter.total();
            counters.insert(name.clone(), total - *drained);
            *drained = total;
        }
        let gauges = state.gauges.iter().map(|(name, gauge)| (name.clone(), gauge.value())).collect();
        let mut histograms = HashMap::with_capacity(state.measures.len());
        for (name, (measure, total)) in &mut state.measures {
            let mut delta = measure.0.lock();
            histograms.insert(name.clone(), delta.encode().into());
            total.add(&delta);
            delta.clear();
        }
        RoleMetrics { role: role.into(), instance, interval, counters, gauges, histograms }
    }

    fn emit(&self, sample: emit_request::Sample) -> Result<(), TelemetryError> {
        let mut guard = self.0.lock();
        let state = &mut *guard;
        let known = match &sample {
            emit_request::Sample::Counter(c) => state.counters.contains_key(&c.name),
            emit_request::Sample::Gauge(g) => state.gauges.contains_key(&g.name),
            emit_request::Sample::Measure(m) => state.measures.contains_key(&m.name),
        };
        if !known && state.room == 0 {
            return Err(TelemetryError::Full);
        }
        match sample {
            emit_request::Sample::Counter(c) if !(c.add >= 0.0 && c.add.is_finite()) => {
                return Err(TelemetryError::Shrinking);
            }
            emit_request::Sample::Counter(c) => entry(&mut state.counters, &c.name)?.0.add(c.add),
            emit_request::Sample::Gauge(g) if !g.value.is_finite() => return Err(TelemetryError::NotFinite),
            emit_request::Sample::Gauge(g) => entry(&mut state.gauges, &g.name)?.set(g.value),
            emit_request::Sample::Measure(m) => entry(&mut state.measures, &m.name)?.0.record(m.us),
        }
        state.room -= usize::from(!known);
        Ok(())
    }
}

fn entry<'a, T: Default>(map: &'a mut BTreeMap<String, T>, name: &str) -> Result<&'a mut T, TelemetryError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-./".contains(&b);
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(plain) {
        return Err(TelemetryError::Name);
    }
    if map.len() >= NAMES_MAX && !map.contains_key(name) {
        return Err(TelemetryError::Full);
    }
    Ok(map.entry(name.to_string()).or_default())
}

#[tonic::async_trait]
impl telemetry_server::Telemetry for Telemetry {
    async fn emit(&self, request: Request<EmitRequest>) -> Result<Response<EmitReply>, Status> {
        let sample = request.into_inner().sample;
        let sample = sample.ok_or_else(|| Status::invalid_argument("no sample; send a counter, gauge or measure"))?;
        Self::emit(self, sample)?;
        Ok(Response::new(EmitReply {}))
    }

    async fn get_metrics(&self, _: Request<GetMetricsRequest>) -> Result<Response<GetMetricsReply>, Status> {
        let state = self.0.lock();
        let measures = state.measures.iter().map(|(name, (measure, total))| {
            let mut all = total.clone();
            all.add(&measure.0.lock());
            let summary = MeasureSummary {
                count: all.count(),
                p50_us: all.quantile(0.5),
                p99_us: all.quantile(0.99),
                max_us: all.max(),
                mean_us: all.mean(),
            };
            (name.clone(), summary)
        });
        Ok(Response::new(GetMetricsReply {
            counters: state.counters.iter().map(|(name, (counter, _))| (name.clone(), counter.total())).collect(),
            gauges: state.gauges.iter().map(|(name, gauge)| (name.clone(), gauge.value())).collect(),
            measures: measures.collect(),
        }))
    }
}
