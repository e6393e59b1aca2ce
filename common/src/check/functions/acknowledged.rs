//! What became of the work: acknowledged ids that are read back, and the exact figures that instances tell at the end.

use crate::check::function::{Found, Function, Name, Takes, Value, once};
use crate::check::source::Acks;
use crate::check::unit::Unit;

/// `lost_acks(app.events)`: acknowledged, and not there.
pub static LOST_ACKS: Function = Function {
    name: Name::Word("lost_acks"),
    takes: Takes::Ledger(|source, role, ledger| acks(source.acks(role, ledger), role, ledger, |acks| acks.missing)),
    unit: Some(Unit::Number),
    is_total: false,
    is_correctness: true,
};

/// `duplicated_acks(app.events)`: acknowledged once, and there more than once.
pub static DUPLICATED_ACKS: Function = Function {
    name: Name::Word("duplicated_acks"),
    takes: Takes::Ledger(|source, role, ledger| acks(source.acks(role, ledger), role, ledger, |acks| acks.duplicated)),
    unit: Some(Unit::Number),
    is_total: false,
    is_correctness: true,
};

/// `audit(jobs.done)`: the sum over all instances.
pub static AUDIT: Function = Function {
    name: Name::Word("audit"),
    takes: Takes::Audit(|source, role, figure| once(source.audit(role, figure).map(|count| count as f64))),
    unit: Some(Unit::Number),
    is_total: false,
    is_correctness: true,
};

fn acks(found: Option<Acks>, role: &str, ledger: &str, count: fn(&Acks) -> u64) -> Found {
    let acks = found.ok_or_else(|| format!("`{role}.{ledger}` was not read back"))?;
    if acks.acknowledged == 0 {
        return Err(format!("no work of `{role}.{ledger}` was acknowledged").into());
    }
    // What cannot be read is neither there nor lost, but what is lost is lost.
    if acks.unreachable > 0 && count(&acks) == 0 {
        return Err(format!(
            "{} of {} acknowledged ids of `{role}.{ledger}` could not be read back",
            acks.unreachable, acks.acknowledged
        )
        .into());
    }
    Ok(Value::exact(count(&acks) as f64, Some(acks.acknowledged)))
}
