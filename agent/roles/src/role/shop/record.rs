//! How commands and what came of them stand in the event store: for each command two events that follow one another, the
//! command as it was received and the domain event. Types and data are the source's; the aggregate's id, its sequence and which
//! of the two it is are also metadata, so that they can be asked for. Pure.

use std::collections::HashMap;

use gauntlet_proto::foundation::Event;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::order::Step;
use crate::kit::trace::TRACEPARENT;

/// The type of every command event.
pub const COMMAND: &str = "command_received";
/// Names of metadata.
pub const AGGREGATE: &str = "aggregate_id";
pub const SEQUENCE: &str = "sequence";
pub const KEY: &str = "idempotency_key";
/// The id of the command event that a domain event came of.
pub const CAUSE: &str = "cause";

/// Which of a command's two events. Ordered as they are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Command,
    Domain,
}

/// An event of the shop, as it is read again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    pub part: Part,
    pub order_id: String,
    /// Of the order after the step, from 1.
    pub sequence: u32,
    /// Unique for each command of an order.
    pub key: String,
    pub step: Step,
}

/// An event with a type of the shop's that does not read as such.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("event {id} at position {position} is no event of an order: {why}")]
pub struct RecordError {
    pub id: String,
    pub position: u64,
    pub why: String,
}

impl Recorded {
    /// The two events of a command, in the order in which they are stored. They share a correlation id of their own.
    pub fn events(&self, traceparent: &str, now_us: u64) -> [Event; 2] {
        let correlation_id = Uuid::now_v7().to_string();
        let command_id = Uuid::now_v7().to_string();
        let mut command = serde_json::to_value(&self.step).unwrap_or_default();
        let mut domain = command.get("command_data").cloned().unwrap_or_default();
        if let Some(command) = command.as_object_mut() {
            command.insert(AGGREGATE.into(), json!(self.order_id));
            command.insert(SEQUENCE.into(), json!(self.sequence));
        }
        if let Some(domain) = domain.as_object_mut() {
            domain.insert(AGGREGATE.into(), json!(self.order_id));
            domain.insert(SEQUENCE.into(), json!(self.sequence));
            domain.insert("timestamp".into(), json!(now_us));
        }
        let event = |id: &str, kind: &str, data: Value, cause: Option<&str>| {
            let sequence = self.sequence.to_string();
            let mut metadata: HashMap<String, String> =
                [(AGGREGATE, self.order_id.as_str()), (SEQUENCE, &sequence), (KEY, &self.key)]
                    .map(|(name, value)| (name.to_string(), value.to_string()))
                    .into();
            metadata.extend(cause.map(|id| (CAUSE.to_string(), id.to_string())));
            metadata.insert(TRACEPARENT.into(), traceparent.into());
            Event {
                id: id.into(),
                r#type: kind.into(),
                data_json: data.to_string(),
                metadata,
                correlation_id: correlation_id.clone(),
                created_us: now_us,
                ..Event::default()
            }
        };
        let domain_id = Uuid::now_v7().to_string();
        [event(&command_id, COMMAND, command, None), event(&domain_id, self.step.event(), domain, Some(&command_id))]
    }

    /// Reads an event; `None` for one of another type than the shop's.
    pub fn read(event: &Event) -> Result<Option<Self>, RecordError> {
        let error = |why: String| RecordError { id: event.id.clone(), position: event.position, why };
        let part = match Step::command_of(&event.r#type) {
            Some(_) => Part::Domain,
            None if event.r#type == COMMAND => Part::Command,
            None => return Ok(None),
        };
        let data: Map<String, Value> = serde_json::from_str(&event.data_json).map_err(|e| error(e.to_string()))?;
        let step = match Step::command_of(&event.r#type) {
            Some(command) => json!({ "command_type": command, "command_data": data }),
            None => Value::Object(data),
        };
        let metadata = |name: &str| {
            event.metadata.get(name).cloned().ok_or_else(|| error(format!("its metadata has no `{name}`")))
        };
        Ok(Some(Self {
            part,
            order_id: metadata(AGGREGATE)?,
            sequence: metadata(SEQUENCE)?.parse().map_err(|_| error("its sequence is no number".into()))?,
            key: metadata(KEY)?,
            step: serde_json::from_value(step).map_err(|e| error(e.to_string()))?,
        }))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::role::shop::order::tests::five;

    /// The ten events of an order of the scenario, at positions from `first` on.
    pub(crate) fn ten(order_id: &str, first: u64) -> Vec<Event> {
        let mut events = Vec::new();
        for (step, sequence) in five().into_iter().zip(1..) {
            let key = step.command().to_string();
            let recorded = Recorded { part: Part::Command, order_id: order_id.into(), sequence, key, step };
            events.extend(recorded.events("00-1-2-01", 1_000 + u64::from(sequence)));
        }
        (events.iter_mut().zip(first..)).for_each(|(event, position)| event.position = position);
        events
    }

    #[test]
    fn both_events_of_a_command_are_read_as_what_they_were() {
        for (events, (step, sequence)) in ten("o-1", 1).chunks(2).zip(five().into_iter().zip(1..)) {
            let [command, domain] = [&events[0], &events[1]].map(|event| Recorded::read(event).unwrap().unwrap());
            assert_eq!((command.part, domain.part), (Part::Command, Part::Domain));
            assert_eq!((&command.step, command.sequence, command.order_id.as_str()), (&step, sequence, "o-1"));
            assert_eq!((domain.step, domain.sequence, domain.order_id), (step, sequence, command.order_id));
            assert_eq!(events[0].correlation_id, events[1].correlation_id);
            assert_eq!(events[1].metadata[CAUSE], events[0].id);
        }
    }

    #[test]
    fn events_of_others_are_passed_over_and_spoilt_ones_are_not() {
        let other = Event { r#type: "user_login".into(), ..Event::default() };
        assert_eq!(Recorded::read(&other), Ok(None));
        let mut spoilt = ten("o-1", 1).remove(1);
        spoilt.data_json = "{}".into();
        let error = Recorded::read(&spoilt).unwrap_err().to_string();
        assert!(error.contains("at position 2 is no event of an order: missing field `user_id`"), "{error}");
        spoilt.metadata.remove(AGGREGATE);
        spoilt.data_json = ten("o-1", 1).remove(1).data_json;
        assert!(Recorded::read(&spoilt).unwrap_err().why.contains("no `aggregate_id`"));
    }
}
