//! Roles that lacked cores while a check failed: told beside the failure. It stays one: nobody can say whether the target would have been
//! fast enough with cores of its own, and how many it has is the user's to say.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use gauntlet_common::check::{Finding, Intervals, Judged, Subject, Unit, show};

use super::view::View;

/// Told for one check; more are counted.
const TOLD_MAX: usize = 2;

/// What kept the roles, whose durations and rates made a check fail, from their cores in those seconds, by the limits that
/// hold for load workers. `None`: nothing did.
pub(super) fn why(view: &View<'_>, judged: &Judged) -> Option<String> {
    let failed = judged.pieces.iter().filter(|piece| piece.result == Finding::Fail);
    let leaning: Vec<&(Subject, Intervals)> = failed.flat_map(|piece| &piece.leans_on).collect();
    let over = |role: &str| {
        // A request may have passed through any role.
        let on = leaning.iter().filter(|(subject, _)| match subject {
            Subject::Load { .. } => true,
            Subject::Metric { role: measured, .. } => measured == role,
        });
        Intervals::new(on.flat_map(|(_, over)| over.spans().to_vec()))
    };
    let (mut found, mut hosts) = (Vec::new(), BTreeMap::<&str, Vec<_>>::new());
    for role in &view.plan.roles {
        let over = over(&role.name);
        if over.is_empty() {
            continue;
        }
        for (number, agent) in role.instances.iter().enumerate() {
            hosts.entry(agent).or_default().extend(over.spans().to_vec());
            let name = format!("{}[{number}]", role.name);
            let used = view.record.processes().find(|(a, process, _)| a == agent && *process == name);
            let limit = view.plan.guards.run_delay.0;
            let waited = used.iter().flat_map(|(.., seconds)| seconds.picked(|peak| peak.run_delay > limit));
            let waited = waited.filter_map(|(second, usage)| Some((second, usage.run_delay?)));
            found.extend(above(waited, limit, &over).map(|(worst, seconds)| {
                // All its threads together, so that it may be more than a second a second.
                (format!("{name} on {agent} waited for cores up to {worst:.1} s a second in {seconds}"), seconds)
            }));
        }
    }
    let limit = view.plan.guards.steal.0;
    for (agent, over) in hosts {
        let node = view.record.nodes().find(|(name, _)| *name == agent);
        let stolen = node.iter().flat_map(|(_, seconds)| seconds.picked(|peak| peak.steal > limit));
        let stolen = stolen.map(|(second, node)| (second, node.steal / f64::from(node.cores.max(1))));
        found.extend(above(stolen, limit, &Intervals::new(over)).map(|(worst, seconds)| {
            let worst = show(worst, Unit::Ratio);
            (format!("the hypervisor took up to {worst} of {agent}'s cores in {seconds}"), seconds)
        }));
    }
    found.sort_by_key(|(_, seconds)| Reverse(seconds.len()));
    let mut told: Vec<String> = found.iter().take(TOLD_MAX).map(|(text, _)| text.clone()).collect();
    if found.len() > TOLD_MAX {
        told.push(format!("and {} more", found.len() - TOLD_MAX));
    }
    (!told.is_empty()).then(|| format!("roles lacked cores: {}", told.join(", ")))
}

/// The largest share above the limit in these seconds, and all seconds of such.
fn above(all: impl Iterator<Item = (u32, f64)>, limit: f64, over: &Intervals) -> Option<(f64, Intervals)> {
    let all: Vec<(u32, f64)> = all.filter(|(second, share)| *share > limit && over.contains(*second)).collect();
    let worst = all.iter().map(|(_, share)| *share).reduce(f64::max)?;
    Some((worst, Intervals::new(all.iter().map(|(second, _)| *second..second + 1))))
}
