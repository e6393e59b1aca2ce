//! Two agents that see different latencies: the cluster's percentile is that of all requests.

use std::collections::BTreeMap;

use gauntlet_common::histogram::Histogram;
use gauntlet_common::snapshot::LoadSnapshot;
use serde_json::Value;

use crate::server::Server;
use crate::support::{Done, Lab};
use crate::{Measured, believable, figure, measured, quantile};

/// Between the server's three delays (5, 50, 200 ms), far from each, us.
const EDGES: [u64; 2] = [30_000, 150_000];

#[test]
fn the_percentiles_of_two_agents_are_those_of_their_requests_in_one_pool() {
    let lab = Lab::alone();
    believable(|| {
        let server = Server::start(&lab, &["serve", "--delays", "by-source", "--seed", "3"]);
        let Measured { done, report, known, way_us } = measured(&lab, 2, 400, server)?;
        let agents = by_agent(&done);
        assert_eq!(agents.len(), 2, "each agent sent its share");

        // Count by count, from what each agent sent.
        let pooled = pool(agents.values());
        let of_each: Vec<f64> = agents.values().map(|one| at(one, 0.99)).collect();
        for (name, q) in [("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99), ("p999", 0.999)] {
            assert_eq!(figure(&report, "measured", name), at(&pooled, q), "{name} is not of the pool");
        }
        let mean = of_each.iter().sum::<f64>() / 2.0;
        let p99 = figure(&report, "measured", "p99");
        assert!((p99 - mean).abs() > 0.2 * p99, "this pool would not show a mean of percentiles: {p99}, {of_each:?}");

        // And against what the server kept, request by request.
        let mut kept: Vec<u64> = serde_json::from_value(known["delays_us"].clone()).unwrap();
        kept.sort_unstable();
        let kept_p99 = quantile(&kept, 0.99);
        assert!(p99 >= kept_p99, "p99 {p99} us is less than the server took: {kept_p99}");
        let (seen, kept) = (levels(pooled.into_iter()), levels(kept.into_iter().map(|us| (us, 1))));
        let told = format!("p99 {p99} us, the server kept {kept_p99}; by level {seen:?}, the server kept {kept:?}");
        if seen != kept || p99 > kept_p99 + 1_000.0 + way_us {
            return Err(told);
        }
        Ok(())
    });
}

type Counts = BTreeMap<u64, u64>;

/// What each load worker counted of `measured`, by bucket.
fn by_agent(done: &Done) -> BTreeMap<u32, Counts> {
    let mut all: BTreeMap<u32, Counts> = BTreeMap::new();
    for (worker, histogram) in histograms(done) {
        let counts = all.entry(worker).or_default();
        histogram.buckets().for_each(|(us, count)| *counts.entry(us).or_default() += count);
    }
    all
}

/// Response times of `measured`, by load worker.
fn histograms(done: &Done) -> Vec<(u32, Histogram)> {
    let text = std::fs::read_to_string(done.dir.join("series.hlog")).unwrap();
    let plan: Value = serde_json::from_slice(&std::fs::read(done.dir.join("plan.json")).unwrap()).unwrap();
    let measured = plan["workloads"].as_array().unwrap().iter().position(|w| w["name"] == "measured").unwrap() as u32;
    let mut all = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let snapshot: LoadSnapshot = serde_json::from_str(line).unwrap();
        for interval in snapshot.intervals {
            let series = interval.series.into_iter().filter(|s| s.workload == measured);
            all.extend(series.map(|s| (snapshot.worker, s.response_time)));
        }
    }
    all
}

fn pool<'c>(all: impl Iterator<Item = &'c Counts>) -> Counts {
    let mut pool = Counts::new();
    for (us, count) in all.flatten() {
        *pool.entry(*us).or_default() += count;
    }
    pool
}

/// Counted up by hand, not by the histogram.
fn at(counts: &Counts, q: f64) -> f64 {
    let rank = (q * counts.values().sum::<u64>() as f64).ceil() as u64;
    let mut below = 0;
    let found = counts.iter().find(|(_, count)| {
        below += **count;
        below >= rank
    });
    *found.unwrap().0 as f64
}

/// How many of each of the three delays.
fn levels(counts: impl Iterator<Item = (u64, u64)>) -> [u64; 3] {
    let mut levels = [0; 3];
    counts.for_each(|(us, count)| levels[EDGES.partition_point(|edge| *edge <= us)] += count);
    levels
}
