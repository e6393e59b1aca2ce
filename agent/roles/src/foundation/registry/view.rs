//! What one host knows of who offers what: its own entries, and those that the other hosts last told of theirs. Pure: every question
//! and every answer brings its time.
//!
//! A host's entries are that host's: it alone changes them, and they are gone everywhere when it has been silent for
//! [`SILENT_NS`], and there again with its next word.

use std::collections::{BTreeMap, BTreeSet};

use gauntlet_proto::foundation::Entry;

use super::error::{OWN_MAX, RegistryError, TEXT_BYTES_MAX};

/// From a host's last word until its entries are gone: three questions, one a second, may go unanswered.
pub(super) const SILENT_NS: u64 = 3_500_000_000;

/// Namespace, name, instance.
type Key = (String, String, String);

#[derive(Debug, Default)]
pub(super) struct View {
    /// The agent, and the role instance on it: `app[1]`.
    node: String,
    host: String,
    own: BTreeMap<Key, Entry>,
    /// Of the own entries: grows with each change, and from one life of this host to the next.
    version: u64,
    others: BTreeMap<String, Other>,
    /// What this host itself found unhealthy, whoever registered it.
    unhealthy: BTreeSet<Key>,
}

/// Another host's last word.
#[derive(Debug)]
struct Other {
    heard_ns: u64,
    /// 0: it has not spoken yet, and these are what the run's wiring says of it.
    version: u64,
    entries: Vec<Entry>,
}

fn key(entry: &Entry) -> Key {
    (entry.namespace.clone(), entry.name.clone(), entry.instance.clone())
}

impl View {
    /// Of a host that begins now; `version` must be beyond all of its life before.
    pub(super) fn new(node: &str, host: &str, version: u64) -> Self {
        Self { node: node.into(), host: host.into(), version: version.max(1), ..Self::default() }
    }

    /// Puts an own entry in, in the place of one with the same namespace, name and instance.
    pub(super) fn register(&mut self, mut entry: Entry) -> Result<(), RegistryError> {
        let key = key(&entry);
        if key.0.is_empty() || key.1.is_empty() || key.2.is_empty() {
            return Err(RegistryError::Incomplete);
        }
        if [&key.0, &key.1, &key.2, &entry.address].iter().any(|text| text.len() > TEXT_BYTES_MAX) {
            return Err(RegistryError::TooLong);
        }
        entry.node.clone_from(&self.node);
        entry.host.clone_from(&self.host);
        if self.own.len() >= OWN_MAX && !self.own.contains_key(&key) {
            return Err(RegistryError::Full);
        }
        if self.own.get(&key) != Some(&entry) {
            self.own.insert(key, entry);
            self.version += 1;
        }
        Ok(())
    }

    /// Takes an own entry out; says whether there was one.
    pub(super) fn deregister(
        &mut self,
        namespace: &str,
        name: &str,
        instance: &str,
        now: u64,
    ) -> Result<bool, RegistryError> {
        let key = (namespace.to_string(), name.to_string(), instance.to_string());
        if self.own.remove(&key).is_some() {
            self.version += 1;
            return Ok(true);
        }
        let elsewhere = self.all(now).find(|entry| self::key(entry) == key).map(|entry| entry.host.clone());
        elsewhere.map_or(Ok(false), |host| Err(RegistryError::Elsewhere { host }))
    }

    /// What another host will offer, as long as it has not spoken itself.
    pub(super) fn expect(&mut self, host: &str, entries: Vec<Entry>, now: u64) {
        self.others.entry(host.into()).or_insert(Other { heard_ns: now, version: 0, entries });
    }

    /// The version of what is known of a host; 0 for nothing.
    pub(super) fn known(&self, host: &str) -> u64 {
        self.others.get(host).map_or(0, |other| other.version)
    }

    /// A host's word; without entries when they are as they were.
    pub(super) fn heard(&mut self, host: &str, version: u64, entries: Option<Vec<Entry>>, now: u64) {
        let other = self.others.entry(host.into()).or_insert(Other { heard_ns: now, version: 0, entries: Vec::new() });
        other.heard_ns = other.heard_ns.max(now);
        if let Some(mut entries) = entries {
            entries.truncate(OWN_MAX);
            (other.version, other.entries) = (version, entries);
        }
    }

    /// The own entries with their version, unless that is known to who asks.
    pub(super) fn tell(&self, known: u64) -> (u64, Option<Vec<Entry>>) {
        (self.version, (known != self.version).then(|| self.own.values().cloned().collect()))
    }

    /// What this host finds of a service. At the bound nothing more is found unhealthy.
    pub(super) fn set_health(&mut self, namespace: &str, name: &str, instance: &str, healthy: bool) {
        let key = (namespace.to_string(), name.to_string(), instance.to_string());
        if healthy {
            self.unhealthy.remove(&key);
        } else if self.unhealthy.len() < OWN_MAX {
            self.unhealthy.insert(key);
        }
    }

    /// The entries that `pick` takes, by namespace, name, instance and host.
    pub(super) fn list(&self, now: u64, pick: impl Fn(&Entry) -> bool) -> Vec<Entry> {
        let mut found: Vec<Entry> = self.all(now).filter(|entry| pick(entry)).cloned().collect();
        for entry in &mut found {
            entry.healthy &= !self.unhealthy.contains(&key(entry));
        }
        found.sort_by(|a, b| key(a).cmp(&key(b)).then_with(|| a.host.cmp(&b.host)));
        found
    }

    fn all(&self, now: u64) -> impl Iterator<Item = &Entry> {
        let living = move |other: &&Other| now.saturating_sub(other.heard_ns) < SILENT_NS;
        self.own.values().chain(self.others.values().filter(living).flat_map(|other| &other.entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;

    fn entry(name: &str) -> Entry {
        Entry { namespace: "mine".into(), name: name.into(), instance: "0".into(), healthy: true, ..Entry::default() }
    }

    fn names(view: &View, now: u64) -> Vec<String> {
        view.list(now, |_| true).into_iter().map(|entry| entry.name).collect()
    }

    #[test]
    fn entries_of_a_silent_host_are_gone_and_there_again_with_its_next_word() {
        let mut view = View::new("n0", "a[0]", 7);
        view.expect("b[0]", vec![entry("wired")], 0);
        assert_eq!(names(&view, SECOND), ["wired"]);
        view.heard("b[0]", 9, Some(vec![entry("db")]), SECOND);
        assert_eq!((names(&view, 4 * SECOND), view.known("b[0]")), (vec!["db".into()], 9));
        assert_eq!(names(&view, SECOND + SILENT_NS), Vec::<String>::new());
        view.heard("b[0]", 9, None, 60 * SECOND);
        assert_eq!(names(&view, 61 * SECOND), ["db"]);
        view.expect("b[0]", vec![entry("wired")], 61 * SECOND);
        assert_eq!(names(&view, 61 * SECOND), ["db"], "what it said itself counts more than the wiring");
    }

    #[test]
    fn an_entry_belongs_to_the_host_that_took_it() {
        let mut view = View::new("n0", "a[0]", 1);
        view.register(Entry { node: "elsewhere".into(), ..entry("db") }).unwrap();
        let listed = view.list(0, |_| true).remove(0);
        assert_eq!((listed.node.as_str(), listed.host.as_str()), ("n0", "a[0]"));
        view.heard("b[0]", 1, Some(vec![Entry { host: "b[0]".into(), ..entry("queue") }]), 0);
        let elsewhere = Err(RegistryError::Elsewhere { host: "b[0]".into() });
        assert_eq!(view.deregister("mine", "queue", "0", 0), elsewhere);
        assert_eq!(view.deregister("mine", "db", "0", 0), Ok(true));
        assert_eq!(view.deregister("mine", "db", "0", 0), Ok(false));
        let long = Entry { address: "x".repeat(TEXT_BYTES_MAX + 1), ..entry("db") };
        assert_eq!(view.register(long), Err(RegistryError::TooLong));
        for n in 0..OWN_MAX {
            view.register(entry(&n.to_string())).unwrap();
        }
        assert_eq!(view.register(entry("more")), Err(RegistryError::Full));
        assert_eq!(view.register(entry("7")), Ok(()), "one that is there can be replaced");
        let words: usize = view.tell(0).1.unwrap().iter().map(prost::Message::encoded_len).sum();
        assert!(
            words < gauntlet_proto::bounds::MESSAGE_BYTES_MAX / 2
                && OWN_MAX * 5 * (TEXT_BYTES_MAX + 3) < gauntlet_proto::bounds::MESSAGE_BYTES_MAX
        );
    }

    #[test]
    fn health_is_what_this_host_finds_whatever_the_owner_says() {
        let mut view = View::new("n0", "a[0]", 1);
        view.heard("b[0]", 1, Some(vec![entry("db")]), 0);
        view.set_health("mine", "db", "0", false);
        view.heard("b[0]", 2, Some(vec![entry("db")]), SECOND);
        assert!(!view.list(SECOND, |_| true)[0].healthy);
        view.set_health("mine", "db", "0", true);
        assert!(view.list(SECOND, |_| true)[0].healthy);
    }

    /// What may happen between three hosts, once a tick of a second.
    #[derive(Debug, Clone)]
    enum Step {
        Register(usize, u8),
        Deregister(usize, u8),
        /// Kills a host for so many seconds; it comes back without what it was told.
        Kill(usize, u64),
        /// Cuts two hosts off one another for so many seconds.
        Cut(usize, usize, u64),
        Nothing,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..3usize, 0..4u8).prop_map(|(host, name)| Step::Register(host, name)),
            (0..3usize, 0..4u8).prop_map(|(host, name)| Step::Deregister(host, name)),
            (0..3usize, 1..8u64).prop_map(|(host, s)| Step::Kill(host, s)),
            (0..3usize, 0..3usize, 1..8u64).prop_map(|(a, b, s)| Step::Cut(a, b, s)),
            Just(Step::Nothing),
        ]
    }

    proptest! {
        /// Whatever is killed and cut: a host lists its own; of another, after four quiet seconds, exactly what that one lists of its own,
        /// or nothing when it is dead or cut off; and never an entry of a host that has been so for four seconds.
        #[test]
        fn every_host_lists_what_the_living_it_reaches_offer_and_nothing_else(steps in proptest::collection::vec(step(), 1..60)) {
            let host = |n: usize| format!("h[{n}]");
            let mut views: Vec<View> = (0..3).map(|n| View::new(&format!("n{n}"), &host(n), 1)).collect();
            let (mut dead_until, mut cut_until) = ([0u64; 3], [[0u64; 3]; 3]);
            let (mut changed_at, mut lost_since) = ([0u64; 3], [[0u64; 3]; 3]);
            for (second, step) in (1u64..).zip(steps) {
                let now = second * SECOND;
                match step {
                    Step::Register(n, name) if dead_until[n] <= second => {
                        views[n].register(entry(&name.to_string())).unwrap();
                        changed_at[n] = second;
                    }
                    Step::Deregister(n, name) if dead_until[n] <= second => {
                        let _ = views[n].deregister("mine", &name.to_string(), "0", now);
                        changed_at[n] = second;
                    }
                    Step::Kill(n, s) if dead_until[n] <= second => {
                        dead_until[n] = second + s;
                        views[n] = View::new(&format!("n{n}"), &host(n), now);
                        changed_at[n] = second + s;
                    }
                    Step::Cut(a, b, s) if a != b => {
                        cut_until[a][b] = second + s;
                        cut_until[b][a] = second + s;
                    }
                    _ => {}
                }
                for a in 0..3 {
                    for b in (0..3).filter(|b| *b != a) {
                        let reached = dead_until[a].max(dead_until[b]) <= second && cut_until[a][b] <= second;
                        if reached {
                            let (version, entries) = views[b].tell(views[a].known(&host(b)));
                            views[a].heard(&host(b), version, entries, now);
                            lost_since[a][b] = 0;
                        } else if lost_since[a][b] == 0 {
                            lost_since[a][b] = second;
                        }
                        let of_b = |view: &View| {
                            view.list(now, |entry| entry.host == host(b)).into_iter().map(|e| e.name).collect::<Vec<_>>()
                        };
                        if reached && changed_at[b] <= second {
                            prop_assert_eq!(of_b(&views[a]), of_b(&views[b]));
                        } else if !reached && second - lost_since[a][b] >= 4 {
                            prop_assert_eq!(of_b(&views[a]), Vec::<String>::new());
                        }
                    }
                }
            }
        }
    }
}
