use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use gauntlet_common::verdict::Outcome;
use proptest::prelude::*;

use super::error::failed;
use super::files::{EVENTS, LEDGER, METRICS, PLAN, SERIES};
use super::*;
use crate::judge::fixture::RecordedRun;
use crate::judge::judge;

const ID: &str = "0190a000-0000-7000-8000-000000000001";

fn write(run: &RecordedRun, place: &Place, id: &str) -> RunDir {
    let mut dir = RunDir::create(place, id, &run.plan).unwrap();
    run.events.iter().for_each(|event| dir.event(event).unwrap());
    run.snapshots.iter().for_each(|snapshot| dir.snapshot(snapshot).unwrap());
    run.metrics.iter().for_each(|metrics| dir.role_metrics(metrics).unwrap());
    run.samples.iter().for_each(|sample| dir.process(sample).unwrap());
    run.nodes.iter().for_each(|sample| dir.node(sample).unwrap());
    dir.log("n1", "app[0]", b"ready\n").unwrap();
    dir.finish(&run.record().ledger()).unwrap();
    assert_eq!(dir.trouble(), None);
    dir
}

fn cut(path: &Path, bytes: usize) {
    let text = fs::read(path).unwrap();
    fs::write(path, &text[..text.len().saturating_sub(bytes)]).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn a_report_from_the_directory_alone_is_the_report_of_the_run(
        gone in prop::collection::vec(0usize..86, 0..4),
        lost_event in prop::option::of(0usize..24),
        took_us in 1u64..10_000_000,
        errors in 0u64..3,
    ) {
        let mut run = RecordedRun::good();
        run.snapshots = crate::judge::fixture::load(|tenth| (10, if tenth % 7 == 0 { errors } else { 0 }), took_us);
        for at in gone {
            run.snapshots.remove(at.min(run.snapshots.len() - 1));
        }
        if let Some(at) = lost_event {
            run.events.remove(at);
        }
        let home = tempfile::tempdir().unwrap();
        let dir = write(&run, &Place::Out(home.path().join("run")), ID);
        let loaded = load(dir.path()).unwrap();
        prop_assert_eq!(&loaded.plan, &run.plan);
        prop_assert_eq!(&loaded.notes, &Vec::<String>::new());
        prop_assert_eq!(judge(&loaded.plan, &loaded.record), run.report());
    }
}

#[test]
fn a_torn_last_line_is_left_out_and_the_rest_is_read() {
    let home = tempfile::tempdir().unwrap();
    let run = RecordedRun::good();
    let dir = write(&run, &Place::Out(home.path().join("run")), ID);
    cut(&dir.path().join(SERIES), 1);
    cut(&dir.path().join(METRICS), 20);
    let loaded = load(dir.path()).unwrap();
    assert_eq!(
        loaded.notes,
        ["series.hlog: line 90 is torn and left out", "metrics.jsonl: line 388 is torn and left out"]
    );
    let report = judge(&loaded.plan, &loaded.record);
    assert_eq!((report.verdict.result, report.verdict.exit_code), (Outcome::Invalid, 5));
    assert!(
        report.verdict.reasons[0].contains("load[1] on n3: nothing after snapshot 42"),
        "{:?}",
        report.verdict.reasons
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn a_directory_cut_at_any_byte_is_told_or_invalid_and_never_a_pass(file in 0usize..4, at in 0.0f64..1.0, line_end: bool) {
        let home = tempfile::tempdir().unwrap();
        let dir = write(&RecordedRun::good(), &Place::Out(home.path().join("run")), ID);
        let name = [PLAN, EVENTS, SERIES, METRICS][file];
        let path = dir.path().join(name);
        let bytes = fs::read(&path).unwrap();
        let mut end = (bytes.len() as f64 * at) as usize;
        // The end of a line is the hardest: nothing looks torn.
        if line_end && let Some(newline) = bytes[..end].iter().rposition(|byte| *byte == b'\n') {
            end = newline + 1;
        }
        fs::write(&path, &bytes[..end]).unwrap();
        match load(dir.path()) {
            Err(error) => prop_assert!(error.to_string().contains(name), "{}", error),
            Ok(loaded) => {
                let verdict = judge(&loaded.plan, &loaded.record).verdict;
                prop_assert_eq!(verdict.result, Outcome::Invalid, "{} cut at {} of {}", name, end, bytes.len());
                prop_assert!(!verdict.reasons.is_empty());
            }
        }
        // Of the list, too: it is shown, whatever it holds.
        let listed = home.path().join(ID);
        fs::rename(dir.path(), &listed).unwrap();
        prop_assert_eq!(list(home.path()).unwrap().len(), 1);
    }
}

#[test]
fn a_report_cut_in_the_middle_is_no_verdict() {
    let home = tempfile::tempdir().unwrap();
    let dir = write(&RecordedRun::good(), &Place::Root(home.path().into()), ID);
    let report = serde_json::to_vec(&RecordedRun::good().report()).unwrap();
    for length in (0..report.len()).step_by(report.len() / 50) {
        fs::write(dir.path().join("report.json"), &report[..length]).unwrap();
        assert_eq!(list(home.path()).unwrap()[0].verdict, None, "cut at {length}");
    }
}

#[test]
fn a_partial_run_is_read_and_invalid() {
    let home = tempfile::tempdir().unwrap();
    let run = RecordedRun::good();
    let mut dir = RunDir::create(&Place::Out(home.path().join("run")), ID, &run.plan).unwrap();
    run.events[..9].iter().for_each(|event| dir.event(event).unwrap());
    run.snapshots[..10].iter().for_each(|snapshot| dir.snapshot(snapshot).unwrap());
    let loaded = load(dir.path()).unwrap();
    let report = judge(&loaded.plan, &loaded.record);
    assert_eq!(report.verdict.result, Outcome::Invalid);
    assert!(report.verdict.reasons.iter().any(|r| r.contains("the record ends before the run did")));
    assert_eq!(report.workloads["users"].requests, 700);
}

#[test]
fn what_cannot_be_read_in_the_middle_keeps_the_run_from_passing() {
    let home = tempfile::tempdir().unwrap();
    let dir = write(&RecordedRun::good(), &Place::Out(home.path().join("run")), ID);
    let path = dir.path().join(METRICS);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("{\"role\"", "{\"rle\"", 1)).unwrap();
    let loaded = load(dir.path()).unwrap();
    let report = judge(&loaded.plan, &loaded.record);
    assert_eq!(report.verdict.result, Outcome::Invalid);
    assert!(report.verdict.reasons[0].contains("metrics.jsonl: line 1 cannot be read"), "{:?}", report.verdict.reasons);
    fs::remove_file(&path).unwrap();
    let loaded = load(dir.path()).unwrap();
    assert!(loaded.record.troubles()[0].contains("metrics.jsonl is missing"));
    fs::write(dir.path().join(PLAN), "{}").unwrap();
    assert!(load(dir.path()).unwrap_err().to_string().contains("no plan"));
}

#[test]
fn a_directory_that_holds_something_is_never_written_into() {
    let home = tempfile::tempdir().unwrap();
    let run = RecordedRun::good();
    fs::write(home.path().join("mine.txt"), "").unwrap();
    let place = Place::Out(home.path().into());
    assert!(matches!(RunDir::create(&place, ID, &run.plan), Err(RunDirError::Occupied(_))));
    let place = Place::Root(home.path().join("runs"));
    RunDir::create(&place, ID, &run.plan).unwrap();
    assert!(matches!(RunDir::create(&place, ID, &run.plan), Err(RunDirError::Exists(_))));
}

#[test]
fn a_full_disk_is_told_once_and_clearly_and_writing_may_go_on() {
    let home = tempfile::tempdir().unwrap();
    let run = RecordedRun::good();
    let mut dir = RunDir::create(&Place::Out(home.path().join("run")), ID, &run.plan).unwrap();
    // Every write to it fails with ENOSPC.
    dir.events.file = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let error = dir.event(&run.events[0]).unwrap_err().to_string();
    assert!(error.contains("events.jsonl") && error.contains("runs prune"), "{error}");
    assert!(dir.trouble().unwrap().contains("incomplete"));
    dir.snapshot(&run.snapshots[0]).unwrap();
}

#[test]
fn a_directory_without_permission_says_what_to_do() {
    if nix::unistd::Uid::effective().is_root() {
        // Root may write everywhere: the message is all that can be seen.
        let source = io::Error::from(io::ErrorKind::PermissionDenied);
        assert!(failed(Path::new("x"), "make it")(source).to_string().contains("--out"));
        return;
    }
    let home = tempfile::tempdir().unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o500)).unwrap();
    let error = RunDir::create(&Place::Out(home.path().join("run")), ID, &RecordedRun::good().plan).unwrap_err();
    assert!(error.to_string().contains("--out"));
}

#[test]
fn logs_are_bounded_and_stay_in_their_directory() {
    let home = tempfile::tempdir().unwrap();
    let mut dir = RunDir::create(&Place::Out(home.path().join("run")), ID, &RecordedRun::good().plan).unwrap();
    dir.logs.bound(100);
    for _ in 0..50 {
        dir.log("n1", "app[0]", b"0123456789").unwrap();
    }
    dir.log("../../etc", "../passwd", b"x").unwrap();
    dir.log("n1", "agent", b"x").unwrap();
    let log = fs::read_to_string(dir.path().join("agents/n1.app[0].log")).unwrap();
    assert!(log.starts_with("0123456789") && log.ends_with("left out]\n") && log.len() < 200, "{log}");
    assert!(dir.path().join("agents/n1.log").is_file());
    assert_eq!(fs::read_dir(dir.path().join("agents")).unwrap().count(), 3);
    assert!(dir.path().join("agents/_.._.._etc._.._passwd.log").is_file());
}

fn id(n: u32) -> String {
    format!("0190a00{n}-0000-7000-8000-000000000000")
}

#[test]
fn runs_are_found_by_latest_id_unique_beginning_and_path() {
    let home = tempfile::tempdir().unwrap();
    let root = home.path();
    assert!(resolve(root, "latest").unwrap_err().to_string().contains("there are no runs yet"));
    let run = RecordedRun::good();
    for n in 1..=3 {
        write(&run, &Place::Root(root.into()), &id(n));
    }
    let name = |text: &str| resolve(root, text).map(|p| p.file_name().unwrap().to_string_lossy().into_owned());
    assert_eq!(name("latest").unwrap(), id(3));
    assert_eq!(name(&id(2)).unwrap(), id(2));
    assert_eq!(name("0190a001").unwrap(), id(1));
    assert!(matches!(name("0190"), Err(RunDirError::Ambiguous { .. })));
    assert!(name("ffff").unwrap_err().to_string().contains("runs list"));
    assert!(name("").is_err());
    assert_eq!(resolve(root, root.join(id(2)).to_str().unwrap()).unwrap(), root.join(id(2)));
    assert!(resolve(root, "/nowhere/at/all").unwrap_err().to_string().contains("no run directory"));
}

#[test]
fn the_list_shows_verdicts_where_there_are_any_the_newest_first() {
    let home = tempfile::tempdir().unwrap();
    let run = RecordedRun::good();
    (1..=2).for_each(|n| drop(write(&run, &Place::Root(home.path().into()), &id(n))));
    fs::write(home.path().join(id(1)).join("report.json"), serde_json::to_vec(&run.report()).unwrap()).unwrap();
    let runs = list(home.path()).unwrap();
    assert_eq!(runs.iter().map(|r| r.id.clone()).collect::<Vec<_>>(), [id(2), id(1)]);
    assert_eq!((runs[0].verdict, runs[0].scenario.as_str(), runs[0].profile.as_str()), (None, "p1", "smoke"));
    assert_eq!((runs[1].verdict, runs[1].duration_s), (Some((Outcome::Pass, 0)), Some(46.0)));
    assert_eq!(runs[1].started_at, "2026-01-01T00:00:00Z");
}

#[test]
fn pruning_removes_old_runs_and_touches_nothing_else() {
    let home = tempfile::tempdir().unwrap();
    let root = home.path();
    let run = RecordedRun::good();
    (1..=4).for_each(|n| drop(write(&run, &Place::Root(root.into()), &id(n))));
    fs::create_dir(root.join("notes")).unwrap();
    fs::create_dir(root.join(id(0))).unwrap();
    fs::write(root.join("0190.txt"), "").unwrap();
    let now = gauntlet_process::clock::unix_us();
    assert_eq!(prune(root, Prune::Keep(2), now).unwrap(), Vec::<String>::new(), "they may be going on");
    let later = now + 3_600_000_000;
    assert_eq!(prune(root, Prune::OlderThan(Duration::from_secs(7200)), later).unwrap(), Vec::<String>::new());
    assert_eq!(prune(root, Prune::Keep(2), later).unwrap(), [id(1), id(2)]);
    assert_eq!(prune(root, Prune::OlderThan(Duration::from_secs(1800)), later).unwrap(), [id(3), id(4)]);
    assert!(root.join("notes").is_dir() && root.join(id(0)).is_dir() && root.join("0190.txt").is_file());
    assert!(fs::symlink_metadata(root.join("latest")).is_err(), "latest points at nothing that was removed");
}

#[test]
fn a_run_that_still_writes_figures_is_not_pruned_however_old_its_events_are() {
    for still_written in [SERIES, METRICS] {
        let home = tempfile::tempdir().unwrap();
        let root = home.path();
        drop(write(&RecordedRun::good(), &Place::Root(root.into()), &id(1)));
        let old = std::time::SystemTime::now() - Duration::from_secs(3600);
        for name in [EVENTS, SERIES, METRICS].into_iter().filter(|name| *name != still_written) {
            File::options().append(true).open(root.join(id(1)).join(name)).unwrap().set_modified(old).unwrap();
        }
        let now = gauntlet_process::clock::unix_us();
        assert_eq!(prune(root, Prune::Keep(0), now).unwrap(), Vec::<String>::new(), "{still_written}");
        assert_eq!(prune(root, Prune::Keep(0), now + 3_600_000_000).unwrap(), [id(1)]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    #[test]
    fn every_report_can_be_made_of_what_a_crash_left(kept in prop::array::uniform3(0.0f64..1.0)) {
        let home = tempfile::tempdir().unwrap();
        let dir = write(&RecordedRun::good(), &Place::Out(home.path().join("run")), ID);
        fs::remove_file(dir.path().join(LEDGER)).unwrap();
        for (file, share) in [EVENTS, SERIES, METRICS].into_iter().zip(kept) {
            let bytes = fs::metadata(dir.path().join(file)).unwrap().len() as usize;
            cut(&dir.path().join(file), bytes - (bytes as f64 * share) as usize);
        }
        let loaded = load(dir.path()).unwrap();
        let report = judge(&loaded.plan, &loaded.record);
        prop_assert_eq!(report.verdict.result, Outcome::Invalid);
        for format in crate::catalogue::REPORTS {
            let text = String::from_utf8(format.render(&report).unwrap()).unwrap();
            prop_assert!(text.to_lowercase().contains("invalid"), "{} says nothing of it", format.name());
            prop_assert!(!text.contains("NaN"), "{}", format.name());
        }
    }
}

/// Files whose every byte has its checksum.
const SUMMED: [&str; 6] = [PLAN, EVENTS, SERIES, METRICS, LEDGER, sums::SUMS];

#[test]
fn a_byte_that_changed_anywhere_is_named_and_lets_nothing_pass() {
    let home = tempfile::tempdir().unwrap();
    let dir = write(&RecordedRun::good(), &Place::Out(home.path().join("run")), ID);
    let whole = load(dir.path()).unwrap();
    assert_eq!(judge(&whole.plan, &whole.record).verdict.result, Outcome::Pass);
    for name in SUMMED {
        let path = dir.path().join(name);
        let bytes = fs::read(&path).unwrap();
        // A prime's multiples, so that every kind of place is hit: digits, names, quotes, ends of lines.
        for at in (0..bytes.len()).step_by((bytes.len() / 24).max(1) | 1) {
            let mut spoilt = bytes.clone();
            spoilt[at] ^= 1;
            fs::write(&path, &spoilt).unwrap();
            match load(dir.path()) {
                Err(error) => assert!(error.to_string().contains(name), "{name} at {at}: {error}"),
                Ok(loaded) => {
                    let verdict = judge(&loaded.plan, &loaded.record).verdict;
                    assert_eq!(verdict.result, Outcome::Invalid, "{name} at {at}");
                    let told =
                        |reason: &String| reason.contains(name) || name == sums::SUMS && reason.contains("bytes");
                    assert!(verdict.reasons.iter().any(told), "{name} at {at}: {:?}", verdict.reasons);
                }
            }
        }
        fs::write(&path, &bytes).unwrap();
    }
}

#[test]
fn a_line_that_is_taken_out_doubled_or_added_is_named_by_its_block() {
    let home = tempfile::tempdir().unwrap();
    let dir = write(&RecordedRun::good(), &Place::Out(home.path().join("run")), ID);
    let spoil = |name: &str, change: &dyn Fn(&mut Vec<String>)| {
        let path = dir.path().join(name);
        let text = fs::read_to_string(&path).unwrap();
        let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_string).collect();
        change(&mut lines);
        fs::write(&path, lines.concat()).unwrap();
        let loaded = load(dir.path()).unwrap();
        fs::write(&path, text).unwrap();
        let verdict = judge(&loaded.plan, &loaded.record).verdict;
        assert_eq!(verdict.result, Outcome::Invalid);
        verdict.reasons
    };
    let told = spoil(METRICS, &|lines| drop(lines.remove(100)));
    assert!(
        told.iter().any(|why| why.starts_with("metrics.jsonl: bytes ") && why.contains("from line 65 on")),
        "{told:?}"
    );
    let told = spoil(EVENTS, &|lines| lines.insert(3, lines[3].clone()));
    assert!(told.iter().any(|why| why.contains("events.jsonl: bytes 0..")), "{told:?}");
    let told = spoil(EVENTS, &|lines| lines.push(lines[3].clone()));
    assert!(told.iter().any(|why| why.contains("have no checksum in checksums.jsonl")), "{told:?}");
    let told = spoil(sums::SUMS, &|lines| drop(lines.remove(2)));
    assert!(told.iter().any(|why| why.starts_with("checksums.jsonl: bytes from")), "{told:?}");
    fs::remove_file(dir.path().join(sums::SUMS)).unwrap();
    let loaded = load(dir.path()).unwrap();
    let reasons = judge(&loaded.plan, &loaded.record).verdict.reasons;
    assert!(reasons.iter().any(|why| why.contains("checksums.jsonl is missing")), "{reasons:?}");
}

#[test]
fn numbers_near_the_end_of_their_range_add_up_to_no_wonder() {
    let home = tempfile::tempdir().unwrap();
    let mut run = RecordedRun::good();
    for snapshot in &mut run.snapshots {
        for counts in snapshot.intervals.iter_mut().flat_map(|delta| &mut delta.workloads) {
            (counts.planned, counts.skipped, counts.not_issued) = (u64::MAX, u64::MAX / 2, u64::MAX);
            counts.errors = [u64::MAX; gauntlet_common::snapshot::ErrorClass::COUNT];
            counts.bins = [(u64::MAX, u64::MAX); 10];
            counts.asserted = [u64::MAX; 10];
        }
    }
    for event in &mut run.events {
        use gauntlet_common::event::What;
        match &mut event.what {
            What::FaultEffect { touched, .. } => *touched = u64::MAX,
            What::Failovers { count, .. } => *count = u64::MAX,
            What::ReadBack { acknowledged, missing, .. } => (*acknowledged, *missing) = (u64::MAX, u64::MAX),
            _ => {}
        }
    }
    let twice: Vec<_> = run
        .events
        .iter()
        .filter(|e| !matches!(e.what, gauntlet_common::event::What::RunEnded { .. }))
        .cloned()
        .collect();
    run.events.splice(1..1, twice);
    let dir = write(&run, &Place::Out(home.path().join("run")), ID);
    let loaded = load(dir.path()).unwrap();
    assert_ne!(judge(&loaded.plan, &loaded.record).verdict.result, Outcome::Pass);
}

#[test]
fn a_plan_whose_numbers_no_run_can_have_is_refused_with_its_reason() {
    let home = tempfile::tempdir().unwrap();
    let dir = write(&RecordedRun::good(), &Place::Out(home.path().join("run")), ID);
    let path = dir.path().join(PLAN);
    let text = fs::read_to_string(&path).unwrap();
    for (from, to, why) in [
        ("\"end\": \"43s\"", "\"end\": \"200d\"", "a run lasts 7d at most"),
        ("\"start\": \"40s\"", "\"start\": \"41s\"", "phase `calm` does not begin where the one before it ends"),
        (
            "\"workers\": [\n        0,\n        1\n      ]",
            "\"workers\": [4000000000]",
            "a load worker that the plan does not have",
        ),
        ("\"for\": \"3s\"", "\"for\": \"900h\"", "ends later than a run may"),
    ] {
        assert!(text.contains(from), "{from} is not in {text}");
        fs::write(&path, text.replacen(from, to, 1)).unwrap();
        let error = load(dir.path()).unwrap_err().to_string();
        assert!(error.contains(why) && error.contains(PLAN), "{error}");
    }
}
