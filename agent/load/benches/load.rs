//! What one request costs beside its system calls: the pacer, the record, the codec; and what a second's snapshot costs.
#![allow(clippy::unwrap_used)]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use gauntlet_common::arrival::{Arrivals, Curve};
use gauntlet_common::phase::Phase;
use gauntlet_common::scenario::{self, Load};
use gauntlet_common::units::{Micros, Rate};
use gauntlet_load::http::Decoder;
use gauntlet_load::record::{Recorder, Sample, emptied};
use gauntlet_proto::agent::LoadSnapshot;
use indexmap::IndexMap;

fn arrivals(kind: scenario::Arrivals) -> Arrivals {
    let phases = [Phase { name: "p".into(), start: Micros(0), end: Micros::from_secs(86_400), warmup: false }];
    let load = Load { rate: Some(Rate(10_000.0)), ramp: Some(Micros::from_secs(60)), ..Load::default() };
    Arrivals::new(Curve::rate(&phases, &IndexMap::from([("p".to_string(), load)])), kind, 7, 0, 1)
}

fn sample(n: u64) -> Sample {
    let intended = n % 2 * 1_000_000_000;
    let step = (n % 25) as u32;
    Sample {
        workload: 0,
        step,
        intended,
        sent: intended + 20_000,
        ended: intended + 90_000 + n % 7 * 1_000_000,
        outcome: Ok(()),
    }
}

fn load(c: &mut Criterion) {
    let (mut constant, mut poisson) = (arrivals(scenario::Arrivals::Constant), arrivals(scenario::Arrivals::Poisson));
    c.bench_function("next arrival, constant", |b| b.iter(|| black_box(constant.next())));
    c.bench_function("next arrival, poisson", |b| b.iter(|| black_box(poisson.next())));

    let mut recorder = Recorder::new(0, &[25]);
    let mut n = 0;
    c.bench_function("record a request", |b| {
        b.iter(|| {
            n += 1;
            recorder.record(black_box(sample(n)));
        });
    });
    // 25 steps, response and service time, two seconds: 100 histograms, and the workload's own.
    let full = || {
        let mut recorder = Recorder::new(0, &[25]);
        (0..10_000).for_each(|n| recorder.record(sample(n)));
        recorder
    };
    c.bench_function("cut a snapshot of 100 histograms (hot thread)", |b| {
        b.iter_batched(full, |mut recorder| recorder.cut(false, 0), BatchSize::LargeInput);
    });
    let cut = || full().cut(false, 0);
    c.bench_function("encode a snapshot of 100 histograms (other thread)", |b| {
        b.iter_batched(cut, |snapshot| LoadSnapshot::from(&snapshot), BatchSize::LargeInput);
    });
    c.bench_function("empty 100 histograms for their next use (other thread)", |b| {
        b.iter_batched(cut, emptied, BatchSize::LargeInput);
    });

    let answer = b"HTTP/1.1 200 OK\r\nserver: x\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\ncontent-type: text/plain\r\n\
                   content-length: 5\r\n\r\nhello";
    let mut decoder = Decoder::default();
    c.bench_function("decode a response of 4 headers", |b| {
        b.iter(|| {
            decoder.begin(false, false);
            decoder.feed(black_box(answer), &mut |status, _| {
                black_box(status);
            })
        });
    });
}

criterion_group!(benches, load);
criterion_main!(benches);
