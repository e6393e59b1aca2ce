//! How the state of a run looks: a block for terminals, a line for logs. Pure.

use super::status::{Offered, RunStatus};
use crate::report::facts::plural;
use crate::report::numbers::{self, NONE};
use crate::report::paint::{Line, Tone};

/// Wider lines are hard to read at a glance.
const MOST_WIDTH: usize = 100;
/// Of the block: it must stay on the screen to be drawn over; what is below is left out.
const MOST_LINES: usize = 14;
/// Faults and notes that are named; of more only the number.
const MOST_NAMED: usize = 6;
/// Counters of roles that are shown.
const MOST_COUNTED: usize = 4;

/// The block, lines of fewer than `width` characters joined by newlines, without one at the end. The last column stays
/// free: some terminals wrap when it is written.
pub fn frame(live: &RunStatus, width: usize, colour: bool) -> String {
    let width = width.saturating_sub(1).clamp(20, MOST_WIDTH);
    let mut lines = vec![title(live, width)];
    match &live.work {
        Some(work) => lines.extend(flow("work", counted(work), width)),
        None => {
            lines.extend(flow("load", load(live), width));
            lines.extend(flow("latency", latency(live), width));
            lines.extend(flow("total", total(live), width));
        }
    }
    if !live.faults.is_empty() {
        lines.extend(flow("faults", faults(live), width));
    }
    lines.extend(flow("agents", agents(live), width));
    lines.truncate(MOST_LINES);
    lines.iter().map(|line| line.paint(colour)).collect::<Vec<_>>().join("\n")
}

/// The same in one line, for logs; without escape codes.
pub fn line(live: &RunStatus) -> String {
    let phase = if live.phase.is_empty() { "after the load".into() } else { format!("phase {}", live.phase) };
    let mut parts = vec![Line::new().plain(phase)];
    match &live.work {
        Some(work) => parts.extend(counted(work)),
        None => {
            parts.extend(load(live));
            parts.extend(latency(live));
            parts.extend(total(live));
        }
    }
    if !live.faults.is_empty() {
        parts.push(faults(live).into_iter().fold(Line::new().plain("faults"), |all, f| all.plain(" ").join(f)));
    }
    parts.push(Line::new().plain(format!("{} of {} agents up", live.agents_up, live.agents_total)));
    parts.extend(live.notes.iter().take(MOST_NAMED).map(|note| Line::new().plain(note)).chain(rest(live.notes.len())));
    let parts: Vec<String> = parts.iter().map(|part| part.paint(false)).collect();
    format!("{:>8}  {}", numbers::moment(live.elapsed_s), parts.join(", "))
}

fn title(live: &RunStatus, width: usize) -> Line {
    let name = Line::of(Tone::Strong, &live.scenario).with(Tone::Dim, " · ").with(Tone::Accent, &live.phase);
    let time = if live.total_s > 0.0 {
        format!("{} of {}", numbers::ticking(live.elapsed_s.max(0.0).floor()), numbers::ticking(live.total_s))
    } else {
        numbers::ticking(live.elapsed_s.max(0.0).floor())
    };
    let time_width = time.chars().count();
    let name = name.fit(width.saturating_sub(time_width + 2));
    let room = width.saturating_sub(name.width() + time_width + 4);
    if live.total_s <= 0.0 || room < 8 {
        let gap = width.saturating_sub(name.width() + time_width);
        return name.plain(" ".repeat(gap)).plain(time);
    }
    let share = (live.elapsed_s / live.total_s).clamp(0.0, 1.0);
    let done = (room as f64 * share).floor() as usize;
    name.plain("  ")
        .with(Tone::Accent, "━".repeat(done))
        .with(Tone::Dim, "─".repeat(room - done))
        .plain("  ")
        .plain(time)
}

fn load(live: &RunStatus) -> Vec<Line> {
    let tone = if live.error_rate > 0.0 { Tone::Warn } else { Tone::Plain };
    vec![
        Line::new().plain(offered(&live.offered)),
        Line::of(Tone::Strong, numbers::rate(live.achieved)).plain(" achieved"),
        Line::of(tone, numbers::percent(live.error_rate)).plain(" errors"),
    ]
}

/// What the roles of a scenario without workloads did.
fn counted(work: &[(String, f64)]) -> Vec<Line> {
    let rate =
        |(name, rate): &(String, f64)| Line::new().plain(format!("{name} ")).with(Tone::Strong, numbers::rate(*rate));
    work.iter().take(MOST_COUNTED).map(rate).collect()
}

fn total(live: &RunStatus) -> Vec<Line> {
    let tone = if live.errors > 0 { Tone::Warn } else { Tone::Plain };
    vec![Line::new().plain(plural(live.requests, "request")), Line::of(tone, plural(live.errors, "error"))]
}

fn offered(offered: &Offered) -> String {
    match (offered.users, offered.rate) {
        (0, rate) => format!("{} offered", numbers::rate(rate)),
        (users, 0.0) => plural(users, "user"),
        (users, rate) => format!("{} and {} offered", plural(users, "user"), numbers::rate(rate)),
    }
}

fn latency(live: &RunStatus) -> Vec<Line> {
    let show = |name: &str, us: Option<u64>| {
        Line::new().plain(name).plain(" ").with(Tone::Strong, us.map_or(NONE.into(), numbers::latency))
    };
    vec![show("p50", live.p50), show("p99", live.p99)]
}

fn faults(live: &RunStatus) -> Vec<Line> {
    let named = live.faults.iter().take(MOST_NAMED).map(|fault| {
        let left = format!(" {} left", numbers::ticking(fault.remaining_s.max(0.0).ceil()));
        Line::of(Tone::Bad, &fault.id).with(Tone::Dim, left)
    });
    named.chain(rest(live.faults.len())).collect()
}

fn agents(live: &RunStatus) -> Vec<Line> {
    let tone = if live.agents_up < live.agents_total { Tone::Warn } else { Tone::Plain };
    let up = Line::of(tone, format!("{} of {} up", live.agents_up, live.agents_total));
    let notes = live.notes.iter().take(MOST_NAMED).map(|note| Line::of(Tone::Warn, note));
    [up].into_iter().chain(notes).chain(rest(live.notes.len())).collect()
}

fn rest(count: usize) -> Option<Line> {
    (count > MOST_NAMED).then(|| Line::of(Tone::Dim, format!("{} more", count - MOST_NAMED)))
}

/// A label and parts after it, on as many lines as they need.
fn flow(label: &str, parts: Vec<Line>, width: usize) -> Vec<Line> {
    const LABEL: usize = 9;
    const GAP: &str = "   ";
    let mut lines = vec![Line::of(Tone::Dim, format!("{label:<LABEL$}"))];
    let mut fresh = true;
    for part in parts {
        let part = part.fit(width - LABEL);
        let last = lines.last().expect("it starts with one line");
        if !fresh && last.width() + GAP.len() + part.width() > width {
            lines.push(Line::new().plain(" ".repeat(LABEL)));
            fresh = true;
        }
        let last = lines.pop().expect("it starts with one line");
        lines.push(if fresh { last.join(part) } else { last.plain(GAP).join(part) });
        fresh = false;
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::status::{ActiveFault, sample};
    use super::*;

    #[test]
    fn the_block_is_narrower_than_the_terminal() {
        let mut crowded = sample();
        crowded.faults = vec![ActiveFault { id: "a-rather-long-fault-id".into(), remaining_s: 3.2 }; 20];
        crowded.notes = vec!["a note that goes on and on, longer than any terminal is wide, I should say".into(); 20];
        crowded.scenario = "a scenario with a very long name".into();
        for live in [sample(), RunStatus::default(), crowded] {
            for width in [40, 80, 120, 300] {
                let block = frame(&live, width, false);
                assert!(block.lines().all(|line| line.chars().count() < width), "{width}:\n{block}");
                assert!(block.lines().count() <= MOST_LINES, "{block}");
            }
        }
    }

    #[test]
    fn the_block_says_phase_load_latency_faults_and_agents() {
        let block = frame(&sample(), 100, false);
        for part in [
            "p1 · peak",
            "2m 14s of 5m 10s",
            "1,200 users",
            "2,634/s achieved",
            "0.03% errors",
            "412,033 requests",
            "118 errors",
            "p50 265 ms",
            "p99 1.35 s",
            "kill-app 16s left",
            "4 of 5 up",
            "n3 is down as planned",
        ] {
            assert!(block.contains(part), "`{part}` is missing:\n{block}");
        }
    }

    #[test]
    fn a_line_for_logs_is_one_line_and_has_no_escape_codes() {
        let mut live = sample();
        live.phase = "pe\x1b[31mak\n".into();
        let text = line(&live);
        assert!(!text.contains(['\x1b', '\n']), "{text}");
        assert!(text.starts_with("  2m 14s  phase pe") && text.contains("faults kill-app 16s left"), "{text}");
        assert!(text.contains("4 of 5 agents up, n3 is down as planned"), "{text}");
    }

    #[test]
    fn a_scenario_without_workloads_tells_what_its_roles_did_and_nothing_of_requests() {
        let work = Some(vec![("market.updates".to_string(), 1000.0), ("engines.decisions".to_string(), 400.0)]);
        let live = RunStatus { work, phase: String::new(), ..sample() };
        for text in [line(&live), frame(&live, 100, false)] {
            assert!(text.contains("market.updates 1,000/s") && text.contains("engines.decisions 400/s"), "{text}");
            assert!(!text.contains("request") && !text.contains("p99") && !text.contains("phase ,"), "{text}");
        }
        assert!(line(&live).contains("after the load"), "{}", line(&live));
    }

    #[test]
    fn an_end_that_is_not_known_has_no_bar() {
        let block = frame(&RunStatus { total_s: 0.0, ..sample() }, 80, false);
        assert!(!block.contains('━') && !block.contains(" of 0"), "{block}");
    }
}
