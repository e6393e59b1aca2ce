//! What guards observed and demand, in words.

use gauntlet_common::check::{Figure, Unit};

use crate::model::{Guard, GuardState, GuardValue, Part};

/// "4 of 5", "3.1ms apart", "aborted".
pub fn observed(guard: &Guard) -> String {
    match &guard.observed {
        GuardValue::Figure(figure) => {
            let figure = digits(*figure);
            match guard.guard.as_str() {
                "load drained" => format!("{figure} agents cut off"),
                "clocks known" => format!("within {figure}"),
                "clocks steady" => format!("moved by {figure}"),
                "common start" => format!("{figure} apart"),
                "load issued in time" => format!("{figure} not issued"),
                "iterations made" => format!("{figure} not made"),
                "load workers up" => format!("{figure} down"),
                "record written whole" => format!("{figure} troubles"),
                "checks have samples" => format!("{figure} without"),
                _ => figure,
            }
        }
        other => words(other),
    }
}

/// "all", "within 50ms", "at most 1%".
pub fn limit(guard: &Guard) -> String {
    let name = guard.guard.as_str();
    match &guard.limit {
        GuardValue::Figure(figure) => {
            let figure = figure.exact();
            match name {
                "clocks known" | "clocks steady" | "common start" => format!("within {figure}"),
                "load issued in time" => format!("at most {figure}"),
                "iterations made" => "all of an exact number".into(),
                "roles up" => "no exit, unless planned".into(),
                "load workers up" => format!("{figure} down, unless planned"),
                "coverage" => format!("at least {figure} of each workload's load"),
                "record written whole" => "none".into(),
                "requests made" => "some of every workload".into(),
                "checks have samples" => format!("{figure} without"),
                _ => figure,
            }
        }
        GuardValue::State(GuardState::All) => match name {
            "faults applied" => "all that were due".into(),
            "ledger complete" => "all batches, all requests".into(),
            _ => "all".into(),
        },
        other => words(other),
    }
}

/// What measures clocks is as exact as their limits are written.
fn digits(figure: Figure) -> String {
    if figure.unit == Unit::Duration { figure.exact() } else { figure.to_string() }
}

fn words(value: &GuardValue) -> String {
    let part = |part: &Part| format!("{} of {}", part.value, part.of);
    match value {
        GuardValue::Figure(figure) => digits(*figure),
        GuardValue::Part(of) => part(of),
        GuardValue::Ledger { batches, requests } => format!("{} batches, {} requests", part(batches), part(requests)),
        GuardValue::Exits { exited, stayed_down } => format!("{exited} exited, {stayed_down} stayed down"),
        GuardValue::Coverage { workloads, roles, agents_gone_s } => {
            let workloads = workloads.iter().map(|(name, share)| format!("{name} {share} of its load"));
            let roles = roles.iter().map(|(name, share)| format!("{name} {share} of its time"));
            let agents = agents_gone_s.iter().map(|(agent, from)| format!("{agent} gone from second {from}"));
            let shares = workloads.chain(roles).collect::<Vec<_>>().join(", ");
            let told = [shares, agents.collect::<Vec<_>>().join(", ")];
            let told: Vec<String> = told.into_iter().filter(|text| !text.is_empty()).collect();
            if told.is_empty() { "all of the load".into() } else { told.join("; ") }
        }
        GuardValue::Tainted { tainted_s, judged_s, why } => {
            let why = if why.is_empty() { String::new() } else { format!(": {why}") };
            format!("{tainted_s} of {judged_s} s tainted{why}")
        }
        GuardValue::Unreadable { unreadable } => unreadable.clone(),
        GuardValue::State(state) => match state {
            GuardState::ToItsEnd => "to its end",
            GuardState::Aborted => "aborted",
            GuardState::RecordCutShort => "the record ends before the run did",
            GuardState::All => "all",
            GuardState::Any => "any (on_agent_loss: degrade)",
            GuardState::NoCheckHangsOnIt => "no check hangs on tainted seconds",
            GuardState::AnyCheck => "at least one, if there are any",
        }
        .into(),
    }
}
