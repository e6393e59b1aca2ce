//! What must hold for a run to count as measured, and the evidence: numbers and names, which views put into words.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use gauntlet_common::check::{Figure, Unit};
use gauntlet_common::units::{Micros, Ratio};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Guard {
    /// What it watches: "ledger complete", "load issued in time", ...
    pub guard: String,
    pub ok: bool,
    pub observed: GuardValue,
    pub limit: GuardValue,
}

/// What a guard observed or demands. Each shape has keys of its own, which tell it when it is read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum GuardValue {
    Part(Part),
    Figure(Figure),
    /// What arrived of what was sent.
    Ledger {
        batches: Part,
        requests: Part,
    },
    /// Role instances.
    Exits {
        exited: u64,
        stayed_down: u64,
    },
    /// What was left of each workload's load and each role's time, only where something was lost; and the second from
    /// which nothing is known of an agent.
    Coverage {
        workloads: IndexMap<String, Figure>,
        roles: IndexMap<String, Figure>,
        agents_gone_s: IndexMap<String, u32>,
    },
    /// `why` tells the causes; empty: there were none.
    Tainted {
        tainted_s: u64,
        judged_s: u64,
        why: String,
    },
    /// The record cannot be read, and what the disk says of it.
    Unreadable {
        unreadable: String,
    },
    State(GuardState),
}

/// So many of so many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    pub value: u64,
    pub of: u64,
}

/// What is no number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuardState {
    ToItsEnd,
    Aborted,
    /// The record ends before the run did.
    RecordCutShort,
    All,
    /// Losses are allowed: `on_agent_loss: degrade`.
    Any,
    NoCheckHangsOnIt,
    /// At least one, where there are any.
    AnyCheck,
}

impl GuardValue {
    pub fn count(number: u64) -> Self {
        Self::Figure(Figure::new(number as f64, Unit::Number))
    }

    pub fn share(of_one: f64) -> Self {
        Self::Figure(Figure::new(of_one, Unit::Ratio))
    }
}

impl From<Micros> for GuardValue {
    fn from(us: Micros) -> Self {
        Self::Figure(Figure::new(us.0 as f64, Unit::Duration))
    }
}

impl From<Ratio> for GuardValue {
    fn from(share: Ratio) -> Self {
        Self::share(share.0)
    }
}

impl From<Part> for GuardValue {
    fn from(part: Part) -> Self {
        Self::Part(part)
    }
}

impl From<GuardState> for GuardValue {
    fn from(state: GuardState) -> Self {
        Self::State(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json, to_value};

    #[test]
    fn every_shape_reads_back_as_itself() {
        let share = |of_one| Figure::new(of_one, Unit::Ratio);
        let all = [
            (GuardValue::count(3), json!({ "value": 3.0, "unit": "number" })),
            (Micros(140).into(), json!({ "value": 140.0, "unit": "us" })),
            (Ratio(0.01).into(), json!({ "value": 0.01, "unit": "ratio" })),
            (Part { value: 4, of: 5 }.into(), json!({ "value": 4, "of": 5 })),
            (
                GuardValue::Ledger { batches: Part { value: 1, of: 2 }, requests: Part { value: 3, of: 4 } },
                json!({ "batches": { "value": 1, "of": 2 }, "requests": { "value": 3, "of": 4 } }),
            ),
            (GuardValue::Exits { exited: 2, stayed_down: 1 }, json!({ "exited": 2, "stayed_down": 1 })),
            (
                GuardValue::Coverage {
                    workloads: IndexMap::from([("users".to_string(), share(0.5))]),
                    roles: IndexMap::new(),
                    agents_gone_s: IndexMap::from([("n3".to_string(), 12)]),
                },
                json!({
                    "workloads": { "users": { "value": 0.5, "unit": "ratio" } },
                    "roles": {},
                    "agents_gone_s": { "n3": 12 },
                }),
            ),
            (
                GuardValue::Tainted { tainted_s: 1, judged_s: 40, why: "load[0] was late".into() },
                json!({ "tainted_s": 1, "judged_s": 40, "why": "load[0] was late" }),
            ),
            (GuardValue::Unreadable { unreadable: "no".into() }, json!({ "unreadable": "no" })),
            (GuardState::RecordCutShort.into(), json!("record_cut_short")),
        ];
        for (value, text) in all {
            assert_eq!(to_value(&value).unwrap(), text);
            assert_eq!(from_value::<GuardValue>(text).unwrap(), value);
        }
    }
}
