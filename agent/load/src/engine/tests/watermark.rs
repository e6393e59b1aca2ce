//! The watermark of snapshots: what lies before it is complete.

use proptest::prelude::*;

use super::*;

const MS: u64 = 1_000_000;

#[test]
fn a_request_that_hangs_holds_the_watermark_back_and_an_idle_load_does_not() {
    let (mut engine, asked) =
        engine_of(json!([{ "get": { "path": "/", "name": "a" } }]), json!({ "rate": "10/s" }), "1h");
    engine.begin(monotonic_ns());
    let idle = engine.cut(false).complete_before_ns;
    assert!(idle <= engine.now(), "it is the moment of the cut, and not the next arrival");
    fire_next(&mut engine);
    fire_next(&mut engine);
    engine.start_ns -= 2_000 * MS;
    // The second is answered, the first hangs, and all arrivals since then are due.
    asked.borrow_mut().rotate_left(1);
    answer(&mut engine, &asked);
    assert_eq!(engine.cut(false).complete_before_ns, 50 * MS, "the intended start of the first");
    answer(&mut engine, &asked);
    assert_eq!(engine.cut(false).complete_before_ns, 250 * MS, "the third is due and not begun");
    engine.stop = 200 * MS;
    assert!(engine.cut(false).complete_before_ns >= 2_000 * MS, "what is planned for after the stop never begins");
    assert_eq!(engine.cut(true).complete_before_ns, u64::MAX);
}

#[test]
fn an_arrival_that_waits_for_a_connection_holds_it_back() {
    let (mut engine, asked) = engine(json!({ "rate": "100/s", "connections": 1 }));
    engine.begin(monotonic_ns());
    engine.start_ns -= 500 * MS;
    while let Some(timer) = engine.due(engine.now()) {
        engine.fire(timer);
    }
    answer(&mut engine, &asked);
    assert_eq!(engine.cut(false).complete_before_ns, 15 * MS, "the second is on its way, the others wait");
}

proptest! {
    #[test]
    fn no_snapshot_has_a_request_from_before_an_earlier_watermark(
        open: bool, users in 1u64..4, pauses: bool, deeds in prop::collection::vec(0u8..6, 1..200),
    ) {
        let get = |name: &str| json!({ "get": { "path": "/", "name": name } });
        let pause = if pauses { json!({ "think": "200ms..900ms" }) } else { get("c") };
        let flow = json!([get("a"), { "parallel": [[get("b"), pause], [get("d")]] }, get("e")]);
        let load = if open { json!({ "rate": "5/s", "connections": users }) } else { json!({ "users": users }) };
        let (mut engine, asked) = engine_of(flow, load, "1h");
        engine.begin(monotonic_ns());
        let mut watermark = 0;
        let check = |cut: &gauntlet_common::snapshot::LoadSnapshot, watermark: &mut u64| {
            for delta in cut.intervals.iter().filter(|delta| !delta.series.is_empty()) {
                prop_assert!(u64::from(delta.interval + 1) * 1_000 * MS > *watermark, "second {} after {}", delta.interval, watermark);
            }
            prop_assert!(cut.complete_before_ns >= *watermark || cut.complete_before_ns == u64::MAX);
            *watermark = cut.complete_before_ns;
            Ok(())
        };
        for deed in deeds {
            match deed {
                0 | 1 => {
                    if let Some(timer) = engine.due(engine.now()) {
                        engine.fire(timer);
                    }
                }
                2 | 3 if !asked.borrow().is_empty() => {
                    let outcome = if deed == 2 { Ok(()) } else { Err(ErrorClass::Reset) };
                    answer_with(&mut engine, &asked, outcome, Vec::new());
                }
                4 => engine.start_ns -= 700 * MS,
                5 => check(&engine.cut(false), &mut watermark)?,
                _ => {}
            }
        }
        engine.stop_now();
        engine.end_all(true);
        check(&engine.cut(true), &mut watermark)?;
    }
}
