//! What roles and processes measured. A histogram that is none and a figure that is no number are refused; nothing else
//! can be wrong here.

use gauntlet_common::histogram::{DecodeError, Histogram};
use gauntlet_common::snapshot::{NodeSample, ProcessSample, RoleMetrics};

use crate::agent as wire;

/// Most metrics in one message; more are refused.
const METRICS_MAX: usize = 1_000;

/// Why a message is no measurement.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    #[error("histogram `{metric}` of {role}[{instance}]: {source}")]
    Histogram { role: String, instance: u32, metric: String, source: DecodeError },
    #[error("`{metric}` of {process} is no finite number")]
    NotFinite { process: String, metric: String },
    #[error("{role}[{instance}] sent {count} metrics at once, more than {METRICS_MAX}")]
    TooMany { role: String, instance: u32, count: usize },
}

/// Wire to domain.
pub fn role_metrics(from: wire::RoleMetrics) -> Result<RoleMetrics, MetricsError> {
    let (role, instance) = (from.role, from.instance);
    let count = from.counters.len() + from.gauges.len() + from.histograms.len();
    if count > METRICS_MAX {
        return Err(MetricsError::TooMany { role, instance, count });
    }
    let mut numbers = from.counters.iter().chain(&from.gauges);
    if let Some((metric, _)) = numbers.find(|(_, value)| !value.is_finite()) {
        return Err(MetricsError::NotFinite { process: format!("{role}[{instance}]"), metric: metric.clone() });
    }
    let decode = |(metric, bytes): (String, _)| match Histogram::decode(AsRef::<[u8]>::as_ref(&bytes)) {
        Ok(histogram) => Ok((metric, histogram)),
        Err(source) => Err(MetricsError::Histogram { role: role.clone(), instance, metric, source }),
    };
    let histograms = from.histograms.into_iter().map(decode).collect::<Result<_, _>>()?;
    let (counters, gauges) = (from.counters.into_iter().collect(), from.gauges.into_iter().collect());
    Ok(RoleMetrics { role, instance, interval: from.interval, counters, gauges, histograms })
}

/// Domain to wire.
pub fn role_metrics_to_wire(from: &RoleMetrics) -> wire::RoleMetrics {
    wire::RoleMetrics {
        role: from.role.clone(),
        instance: from.instance,
        interval: from.interval,
        counters: from.counters.clone().into_iter().collect(),
        gauges: from.gauges.clone().into_iter().collect(),
        histograms: from.histograms.iter().map(|(name, h)| (name.clone(), h.encode().into())).collect(),
    }
}

/// Wire to domain; the wire does not repeat which agent's connection it came over.
pub fn process_sample(agent: &str, from: wire::ProcessSample) -> Result<ProcessSample, MetricsError> {
    let figures = [("cpu", Some(from.cpu)), ("run_delay", from.run_delay)];
    finite(&from.process, &figures)?;
    Ok(ProcessSample {
        agent: agent.into(),
        process: from.process,
        interval: from.interval,
        cpu: from.cpu,
        run_delay: from.run_delay,
        rss_bytes: from.rss_bytes,
        fds: from.fds,
        restarts: from.restarts,
    })
}

/// Domain to wire.
pub fn process_sample_to_wire(from: &ProcessSample) -> wire::ProcessSample {
    wire::ProcessSample {
        process: from.process.clone(),
        interval: from.interval,
        cpu: from.cpu,
        run_delay: from.run_delay,
        rss_bytes: from.rss_bytes,
        fds: from.fds,
        restarts: from.restarts,
    }
}

/// Wire to domain; the wire does not repeat which agent's connection it came over.
pub fn node_sample(agent: &str, from: wire::NodeSample) -> Result<NodeSample, MetricsError> {
    let figures = [
        ("busy", Some(from.busy)),
        ("steal", Some(from.steal)),
        ("psi_cpu", from.psi_cpu),
        ("psi_memory", from.psi_memory),
        ("psi_io", from.psi_io),
    ];
    finite(agent, &figures)?;
    Ok(NodeSample {
        agent: agent.into(),
        interval: from.interval,
        cores: from.cores,
        busy: from.busy,
        steal: from.steal,
        psi_cpu: from.psi_cpu,
        psi_memory: from.psi_memory,
        psi_io: from.psi_io,
        available_bytes: from.available_bytes,
        rx_bytes: from.rx_bytes,
        tx_bytes: from.tx_bytes,
    })
}

/// Domain to wire.
pub fn node_sample_to_wire(from: &NodeSample) -> wire::NodeSample {
    wire::NodeSample {
        interval: from.interval,
        cores: from.cores,
        busy: from.busy,
        steal: from.steal,
        psi_cpu: from.psi_cpu,
        psi_memory: from.psi_memory,
        psi_io: from.psi_io,
        available_bytes: from.available_bytes,
        rx_bytes: from.rx_bytes,
        tx_bytes: from.tx_bytes,
    }
}

fn finite(process: &str, figures: &[(&str, Option<f64>)]) -> Result<(), MetricsError> {
    match figures.iter().find(|(_, value)| value.is_some_and(|value| !value.is_finite())) {
        Some((metric, _)) => Err(MetricsError::NotFinite { process: process.into(), metric: (*metric).into() }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measurements_survive_the_wire() {
        let mut took = Histogram::new();
        took.record(1234);
        let metrics = RoleMetrics {
            role: "app".into(),
            instance: 1,
            interval: 7,
            counters: [("requests".to_string(), 5.0)].into(),
            gauges: [("in_flight".to_string(), 2.5)].into(),
            histograms: [("handle_us".to_string(), took)].into(),
        };
        assert_eq!(role_metrics(role_metrics_to_wire(&metrics)).unwrap(), metrics);
        let sample = ProcessSample {
            agent: "n1".into(),
            process: "app[1]".into(),
            interval: 7,
            cpu: 0.5,
            run_delay: Some(0.25),
            rss_bytes: 9,
            fds: 3,
            restarts: 1,
        };
        assert_eq!(process_sample("n1", process_sample_to_wire(&sample)).unwrap(), sample);
        let node = NodeSample {
            agent: "n1".into(),
            interval: 7,
            cores: 2,
            busy: 1.5,
            steal: 0.25,
            psi_cpu: Some(0.5),
            psi_memory: None,
            psi_io: Some(0.0),
            available_bytes: 9,
            rx_bytes: 10,
            tx_bytes: 11,
        };
        assert_eq!(node_sample("n1", node_sample_to_wire(&node)).unwrap(), node);
    }

    #[test]
    fn what_is_no_measurement_is_refused_by_name() {
        let mut wire = role_metrics_to_wire(&RoleMetrics { role: "app".into(), ..RoleMetrics::default() });
        wire.histograms.insert("handle_us".into(), vec![1, 2, 3].into());
        assert!(role_metrics(wire.clone()).unwrap_err().to_string().contains("handle_us"));
        wire.histograms.clear();
        wire.counters.insert("requests".into(), f64::NAN);
        assert!(role_metrics(wire).unwrap_err().to_string().contains("requests"));
        let sample =
            wire::ProcessSample { process: "app[1]".into(), run_delay: Some(f64::INFINITY), ..Default::default() };
        assert!(process_sample("n1", sample).unwrap_err().to_string().contains("run_delay"));
        let node = wire::NodeSample { psi_io: Some(f64::NAN), ..Default::default() };
        assert!(node_sample("n1", node).unwrap_err().to_string().contains("psi_io"));
    }
}
