//! Events in human words.

use gauntlet_common::event::{Abort, Event, FaultEdge, What, signal_name};

use crate::report::facts::plural;
use crate::report::numbers;
use crate::report::paint::{Line, Tone};

/// What is said of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub line: Line,
    /// Says the same as another event with an equal key, from another agent: once is enough.
    pub key: Option<String>,
}

/// The line for an event: `12.0s  fault kill-app: node n3 is down (confirmed)`. None: it is only for the record, or the
/// block shows it as a number.
pub fn told(event: &Event) -> Option<Told> {
    let (tone, text, key) = words(event)?;
    let line = Line::of(Tone::Dim, format!("{:>8}  ", numbers::moment(event.at_us as f64 / 1e6))).with(tone, text);
    Some(Told { line, key })
}

fn words(event: &Event) -> Option<(Tone, String, Option<String>)> {
    let (tone, text) = match &event.what {
        What::RunStarted { run, .. } => (Tone::Plain, format!("run {run} started")),
        What::PhaseStarted { phase } => {
            return Some((Tone::Accent, format!("phase {phase}"), Some(format!("phase {phase}"))));
        }
        What::AgentLost { agent, planned: true, why } => {
            (Tone::Plain, with(&format!("agent {agent} is gone, as planned"), why))
        }
        What::AgentLost { agent, planned: false, why } => (Tone::Bad, with(&format!("agent {agent} is lost"), why)),
        // The regular end of every process of a run is no news.
        What::RoleExited { planned: true, how, .. } | What::LoadWorkerExited { planned: true, how, .. }
            if how == "exit 0" =>
        {
            return None;
        }
        What::RoleExited { role, instance, planned: true, how } => {
            (Tone::Plain, with(&format!("{role}[{instance}] is down, as planned"), how))
        }
        What::RoleExited { role, instance, planned: false, how } => {
            (Tone::Bad, with(&format!("{role}[{instance}] died"), how))
        }
        What::RoleRestarted { role, instance, restarts } => {
            (Tone::Plain, format!("{role}[{instance}] is up again ({})", plural(u64::from(*restarts), "restart")))
        }
        What::LoadWorkerExited { worker, planned: true, how } => {
            (Tone::Plain, with(&format!("load worker {worker} is down, as planned"), how))
        }
        What::LoadWorkerExited { worker, planned: false, how } => {
            (Tone::Bad, with(&format!("load worker {worker} died"), how))
        }
        What::Fault { id, edge, detail } => return fault(id, *edge, detail),
        What::Detected { observer, subject } => (Tone::Plain, format!("{observer} noticed that {subject} is gone")),
        What::ReadBack { role, ledger, acknowledged, missing, duplicated, unreachable, .. } => {
            let lost = missing + duplicated + unreachable > 0;
            let counts = format!(
                "{} acknowledged, {} missing, {} duplicated, {} unreachable",
                numbers::count(*acknowledged),
                numbers::count(*missing),
                numbers::count(*duplicated),
                numbers::count(*unreachable)
            );
            (if lost { Tone::Bad } else { Tone::Good }, format!("{role}.{ledger} read back: {counts}"))
        }
        What::Audited { role, instance, figures, error } if error.is_empty() => {
            let figures: Vec<String> =
                figures.iter().map(|(name, n)| format!("{} {name}", numbers::count(*n))).collect();
            (Tone::Plain, format!("{role}[{instance}] audited: {}", figures.join(", ")))
        }
        What::Audited { role, instance, error, .. } => {
            (Tone::Bad, with(&format!("{role}[{instance}] could not be audited"), error))
        }
        What::Aborted { why, detail, .. } => (Tone::Warn, with(&format!("stopping early, {}", reason(*why)), detail)),
        What::Trouble { what } => (Tone::Bad, format!("the record is not whole: {what}")),
        What::RunEnded { duration_us } => {
            (Tone::Plain, format!("ended after {}", numbers::span(*duration_us as f64 / 1e6)))
        }
        What::LoadWorkerCounted { worker, sent, recorded, .. } => {
            let recorded: u64 = recorded.iter().sum();
            (Tone::Bad, format!("load[{worker}] died after recording {recorded} requests; {sent} had been sent"))
        }
        What::AgentJoined { .. }
        | What::AgentStarted { .. }
        | What::ClockMeasured { .. }
        | What::RoleReady { .. }
        | What::FaultEffect { .. }
        | What::Failovers { .. }
        | What::LoadStopped { .. } => return None,
    };
    Some((tone, text, None))
}

/// What went well is told once for all agents, or once for each thing that its detail names first, as `aws eu-west-1 is back: ..`;
/// what did not, each time.
fn fault(id: &str, edge: FaultEdge, detail: &str) -> Option<(Tone, String, Option<String>)> {
    let (tone, plain, state) = match edge {
        FaultEdge::Requested | FaultEdge::Applied | FaultEdge::ClearRequested => return None,
        FaultEdge::Confirmed => (Tone::Warn, "in effect", "confirmed"),
        FaultEdge::Cleared => (Tone::Good, "undone", "confirmed clear"),
        FaultEdge::NotApplied => (Tone::Bad, "could not be applied", "NOT APPLIED"),
        FaultEdge::NotConfirmed => (Tone::Bad, "no effect was seen", "NOT CONFIRMED"),
        FaultEdge::NotUndone => (Tone::Bad, "could not be undone", "NOT UNDONE"),
    };
    let what = if detail.is_empty() { plain } else { detail };
    let which = detail.split_once(": ").map_or("", |(which, _)| which);
    let key = matches!(edge, FaultEdge::Confirmed | FaultEdge::Cleared).then(|| format!("fault {id} {state} {which}"));
    Some((tone, format!("fault {id}: {what} ({state})"), key))
}

fn reason(why: Abort) -> String {
    match why {
        Abort::Signal(number) => return format!("interrupted by {}", signal_name(number)),
        Abort::Check => "a check failed that ends the run",
        Abort::AgentLost => "an agent was lost",
        Abort::Internal => "because of an internal error",
    }
    .into()
}

fn with(text: &str, detail: &str) -> String {
    if detail.is_empty() { text.to_owned() } else { format!("{text}: {detail}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(at_us: i64, what: What) -> Option<String> {
        told(&Event { at_us, agent: Some("n3".into()), what }).map(|told| told.line.paint(false))
    }

    fn edge(edge: FaultEdge, detail: &str) -> What {
        What::Fault { id: "kill-app".into(), edge, detail: detail.into() }
    }

    #[test]
    fn a_fault_is_told_as_it_takes_effect_and_as_it_ends() {
        assert_eq!(
            say(12_000_000, edge(FaultEdge::Confirmed, "node n3 is down")).as_deref(),
            Some("   12.0s  fault kill-app: node n3 is down (confirmed)")
        );
        assert_eq!(
            say(150_380_000, edge(FaultEdge::Cleared, "")).as_deref(),
            Some("  2m 30s  fault kill-app: undone (confirmed clear)")
        );
        assert_eq!(say(0, edge(FaultEdge::Requested, "")), None);
    }

    #[test]
    fn what_went_wrong_is_told_every_time_and_what_went_well_once() {
        let key = |what| told(&Event { at_us: 0, agent: None, what }).and_then(|told| told.key);
        assert!(key(edge(FaultEdge::Confirmed, "n1")).is_some());
        assert_eq!(key(edge(FaultEdge::Confirmed, "n1")), key(edge(FaultEdge::Confirmed, "n2")));
        assert_eq!(key(edge(FaultEdge::NotUndone, "n1")), None);
        let back = |region| key(edge(FaultEdge::Cleared, region));
        assert_eq!(
            back("aws eu-west-1 is back: 1 role ready again"),
            back("aws eu-west-1 is back: 2 roles ready again")
        );
        assert_ne!(
            back("aws eu-west-1 is back: 1 role ready again"),
            back("aws us-east-1 is back: 1 role ready again")
        );
    }

    #[test]
    fn a_planned_death_is_told_from_an_accident() {
        let exit = |planned| What::RoleExited { role: "app".into(), instance: 0, planned, how: "signal 9".into() };
        assert_eq!(say(0, exit(true)).as_deref(), Some("    0.0s  app[0] is down, as planned: signal 9"));
        assert_eq!(say(0, exit(false)).as_deref(), Some("    0.0s  app[0] died: signal 9"));
    }

    #[test]
    fn trouble_with_the_record_is_told() {
        let trouble = What::Trouble { what: "batches 3..4 of agent n2 are missing".into() };
        let text = say(2_000_000, trouble).unwrap();
        assert_eq!(text, "    2.0s  the record is not whole: batches 3..4 of agent n2 are missing");
    }

    #[test]
    fn lost_work_is_told_with_its_counts() {
        let back = What::ReadBack {
            role: "app".into(),
            ledger: "events".into(),
            acknowledged: 801_204,
            missing: 3,
            duplicated: 0,
            unreachable: 0,
            examples: Vec::new(),
        };
        let text = say(0, back).unwrap();
        assert!(text.ends_with("app.events read back: 801,204 acknowledged, 3 missing, 0 duplicated, 0 unreachable"));
    }
}
