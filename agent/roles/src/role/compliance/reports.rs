//! Regulatory reports: how many events of a type each store held, as of a position in it. Nothing is capped: each store is read whole.
//! A report can be counted again at any later time, because what a store holds up to a position never changes. That it was not made of
//! less than there was, an empty or old answer of a store, is known from when each event was created: all from before it was due are in it.

use std::collections::{BTreeMap, HashMap};

use gauntlet_proto::foundation::Event;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::foundation::Events;
use crate::kit::follow::{Source, fold_own};
use crate::role::finance::{COMPLIANCE_VIOLATION, REGULATORY_REPORT, RISK_ALERT, TRADE_EXECUTED};

/// Events of one type, of one store or several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    Trades,
    Risk,
    Compliance,
}

/// What there is to report: the source's three.
pub const REPORTS: [Report; 3] = [Report::Trades, Report::Risk, Report::Compliance];

/// What a report says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    pub report_type: String,
    /// Of all stores.
    pub count: u64,
    /// By instance.
    pub stores: BTreeMap<String, AsOf>,
}

/// How many events of the report's type a store holds up to a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AsOf {
    pub position: u64,
    pub count: u64,
}

/// An event that a report may count.
#[derive(Debug, Clone, Copy)]
struct Counted {
    position: u64,
    /// Wall clock of its node, us.
    created_us: u64,
}

impl Counted {
    fn of(event: &Event) -> Self {
        Self { position: event.position, created_us: event.created_us }
    }
}

/// Whose stores reports are made of.
#[derive(Clone)]
pub struct Stores {
    pub engines: Vec<Source>,
    pub risk: Vec<Source>,
    /// The compliance instance itself, and its own store.
    pub own: (String, Events),
}

impl Report {
    /// As the source calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trades => "trade_summary",
            Self::Risk => "risk_summary",
            Self::Compliance => "compliance_summary",
        }
    }

    /// The id of its event: a report is made once, whoever dies between.
    pub fn id(self, own: &str) -> String {
        format!("{own}:report:{}", self.name())
    }

    fn kind(self) -> &'static str {
        match self {
            Self::Trades => TRADE_EXECUTED,
            Self::Risk => RISK_ALERT,
            Self::Compliance => COMPLIANCE_VIOLATION,
        }
    }

    /// Everything it counts, by store, in order.
    async fn counted(self, stores: &Stores) -> Result<BTreeMap<String, Vec<Counted>>, String> {
        let mut all = BTreeMap::new();
        let others: &[Source] = match self {
            Self::Trades => &stores.engines,
            Self::Risk => &stores.risk,
            Self::Compliance => &[],
        };
        for source in others {
            let mut counted = Vec::new();
            let read = source.read(self.kind(), |event| counted.push(Counted::of(&event))).await;
            read.map_err(|status| format!("{}: {status}", source.name))?;
            all.insert(source.name.clone(), counted);
        }
        if self == Self::Compliance {
            let (name, events) = &stores.own;
            let kind = self.kind();
            let take = move |counted: &mut Vec<Counted>, event: Event| {
                if event.r#type == kind {
                    counted.push(Counted::of(&event));
                }
            };
            all.insert(name.clone(), fold_own(events, Vec::new(), take).await?);
        }
        Ok(all)
    }

    /// Makes it of what the stores hold now.
    pub async fn make(self, stores: &Stores) -> Result<Summary, String> {
        let as_of = |counted: Vec<Counted>| AsOf {
            position: counted.last().map_or(0, |event| event.position),
            count: counted.len() as u64,
        };
        let all = self.counted(stores).await?;
        let stores: BTreeMap<String, AsOf> = all.into_iter().map(|(name, counted)| (name, as_of(counted))).collect();
        Ok(Summary { report_type: self.name().into(), count: stores.values().map(|store| store.count).sum(), stores })
    }

    /// Whether it says what the stores hold as of its positions, and leaves nothing out that was created before `due_us`.
    pub async fn holds(self, said: &Summary, stores: &Stores, due_us: u64) -> Result<bool, String> {
        Ok(agrees(said, &self.counted(stores).await?, due_us))
    }

    /// The event that keeps it.
    pub fn event(self, own: &str, summary: &Summary) -> Event {
        Event {
            id: self.id(own),
            r#type: REGULATORY_REPORT.into(),
            data_json: json!(summary).to_string(),
            metadata: HashMap::from([("report_type".into(), self.name().into())]),
            ..Event::default()
        }
    }
}

/// A summary against everything that it may count; what was created before `due_us` it must.
fn agrees(said: &Summary, counted: &BTreeMap<String, Vec<Counted>>, due_us: u64) -> bool {
    let each = counted.iter().all(|(name, events)| {
        said.stores.get(name).is_some_and(|said| {
            let until = events.iter().filter(|event| event.position <= said.position).count();
            until as u64 == said.count
                && (said.position == 0 || events.iter().any(|event| event.position == said.position))
                && events.iter().all(|event| event.position <= said.position || event.created_us >= due_us)
        })
    });
    each && said.stores.len() == counted.len()
        && said.stores.values().map(|store| store.count).sum::<u64>() == said.count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_agrees_with_the_stores_as_of_its_positions_only_and_never_leaves_out_what_was_there() {
        let events = [2, 5, 9].map(|position| Counted { position, created_us: position * 10 }).to_vec();
        let counted = BTreeMap::from([("e[0]".to_string(), events), ("e[1]".to_string(), vec![])]);
        let said = |stores: &[(&str, u64, u64)], count| Summary {
            report_type: "trade_summary".into(),
            count,
            stores: stores
                .iter()
                .map(|(name, position, count)| ((*name).to_string(), AsOf { position: *position, count: *count }))
                .collect(),
        };
        let agree = |stores: &[(&str, u64, u64)], count| agrees(&said(stores, count), &counted, 60);
        assert!(agree(&[("e[0]", 5, 2), ("e[1]", 0, 0)], 2), "what came after it does not count");
        assert!(agree(&[("e[0]", 9, 3), ("e[1]", 0, 0)], 3));
        assert!(!agree(&[("e[0]", 5, 3), ("e[1]", 0, 0)], 3), "one too many");
        assert!(!agree(&[("e[0]", 9, 2), ("e[1]", 0, 0)], 2), "one too few, as a cap makes it");
        assert!(!agree(&[("e[0]", 5, 2), ("e[1]", 0, 0)], 3), "a wrong sum");
        assert!(!agree(&[("e[0]", 5, 2)], 2), "a store left out");
        assert!(!agree(&[("e[0]", 6, 2), ("e[1]", 0, 0)], 2), "a position that holds something else");
        assert!(!agree(&[("e[0]", 0, 0), ("e[1]", 0, 0)], 0), "a store taken for empty");
        assert!(!agree(&[("e[0]", 2, 1), ("e[1]", 0, 0)], 1), "a store as it was before the report was due");
    }
}
