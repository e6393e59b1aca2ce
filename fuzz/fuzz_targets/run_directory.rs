//! Whatever a run directory holds, reading and judging it neither panics nor takes memory or time without bound.
//!
//! An input is the files of a directory one after the other, each behind a line `=== NAME`; `scripts/fuzz` makes inputs of real runs.

#![no_main]

use std::path::Path;

use gauntlet_coordinator::catalogue::REPORTS;
use gauntlet_coordinator::judge::judge;
use gauntlet_coordinator::rundir::load;
use libfuzzer_sys::fuzz_target;

/// The files that are read.
const FILES: [&str; 6] = ["plan.json", "events.jsonl", "series.hlog", "metrics.jsonl", "ledger.json", "checksums.jsonl"];

fuzz_target!(|input: &[u8]| {
    let directory = tempfile::tempdir().expect("a directory for the input");
    unpack(input, directory.path());
    if let Ok(loaded) = load(directory.path()) {
        let report = judge(&loaded.plan, &loaded.record);
        for format in REPORTS {
            format.render(&report).expect("every report can be shown");
        }
    }
});

fn unpack(input: &[u8], directory: &Path) {
    let mut current: Option<(&str, Vec<u8>)> = None;
    let mut write = |file: Option<(&str, Vec<u8>)>| {
        if let Some((name, bytes)) = file {
            std::fs::write(directory.join(name), bytes).expect("the input's file");
        }
    };
    for line in input.split_inclusive(|byte| *byte == b'\n') {
        let head = line.strip_prefix(b"=== ").map(|name| name.strip_suffix(b"\n").unwrap_or(name));
        let name = head.and_then(|head| FILES.into_iter().find(|name| name.as_bytes() == head));
        match (name, &mut current) {
            (Some(name), _) => write(current.replace((name, Vec::new()))),
            (None, Some((_, bytes))) => bytes.extend(line),
            (None, None) => {}
        }
    }
    write(current);
}
