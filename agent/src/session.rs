//! The session, pure: who owns this agent, how far the run has come, and when the lease ends it. An event in, a decision
//! out; the shell around it is [`crate::service`] and [`crate::runner`].

use gauntlet_proto::agent::RefusedWhy;

use crate::lease::Lease;

/// How far a session has come. Steps are taken in this order, each once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    Greeted,
    Placed,
    Wired,
    Armed,
    LoadStopped,
    Healed,
}

/// A no, with what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    pub why: RefusedWhy,
    pub message: String,
}

impl Refusal {
    /// A refusal of this kind.
    pub fn new(why: RefusedWhy, message: impl Into<String>) -> Self {
        Self { why, message: message.into() }
    }
}

/// What a coordinator says first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    pub protocol: u32,
    pub catalogue_hash: String,
    pub run: String,
    pub owner: String,
    /// 0: a new session.
    pub resume_token: u64,
    pub lease_ms: u32,
}

/// Who this agent is to a coordinator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub name: String,
    pub protocol: u32,
    pub catalogue_hash: String,
}

/// A session that holds the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub token: u64,
    pub run: String,
    pub owner: String,
    pub lease: Lease,
    pub stage: Stage,
}

/// At most one session; tokens only grow, so that a message of an older one is known as such.
#[derive(Debug)]
pub struct Session {
    identity: Identity,
    last_token: u64,
    held: Option<Held>,
    closed: bool,
}

impl Session {
    /// An idle agent that has handed out tokens up to `last_token`, in this life or an earlier one.
    pub fn new(identity: Identity, last_token: u64) -> Self {
        Self { identity, last_token, held: None, closed: false }
    }

    /// Who owns the agent now.
    pub fn held(&self) -> Option<&Held> {
        self.held.as_ref()
    }

    /// No session begins any more: the agent itself ends.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// Opens a session, or takes one up again within its lease. Returns its token.
    pub fn hello(&mut self, hello: &Hello, now_ns: u64) -> Result<u64, Refusal> {
        let me = &self.identity;
        if hello.protocol != me.protocol {
            return Err(Refusal::new(
                RefusedWhy::Version,
                format!(
                    "agent {} speaks protocol {}, the coordinator {}; install the same version on both",
                    me.name, me.protocol, hello.protocol
                ),
            ));
        }
        if hello.catalogue_hash != me.catalogue_hash {
            return Err(Refusal::new(
                RefusedWhy::Catalogue,
                format!(
                    "agent {} has other roles, drivers or faults (catalogue {}) than the coordinator ({}); install the same build on both",
                    me.name, me.catalogue_hash, hello.catalogue_hash
                ),
            ));
        }
        if self.closed {
            return Err(Refusal::new(RefusedWhy::State, format!("agent {} is ending", me.name)));
        }
        match (&mut self.held, hello.resume_token) {
            // The run too: a token of before a lost state folder may be in use again.
            (Some(held), token) if token == held.token && hello.run == held.run && !held.lease.expired(now_ns) => {
                held.lease.renew(now_ns);
                Ok(token)
            }
            (_, token) if token != 0 => Err(Refusal::new(
                RefusedWhy::Token,
                format!("session {token} on agent {} is over: its lease ended", me.name),
            )),
            (Some(held), _) => Err(Refusal::new(
                RefusedWhy::Busy,
                format!(
                    "agent {} is busy with run {} of {}; its lease ends in {} s unless renewed (coordinator heal stops it)",
                    me.name,
                    held.run,
                    held.owner,
                    held.lease.left_ms(now_ns).div_ceil(1000)
                ),
            )),
            (None, _) => {
                self.last_token += 1;
                self.held = Some(Held {
                    token: self.last_token,
                    run: hello.run.clone(),
                    owner: hello.owner.clone(),
                    lease: Lease::new(hello.lease_ms, now_ns),
                    stage: Stage::Greeted,
                });
                Ok(self.last_token)
            }
        }
    }

    /// Takes the next step of the order; the same session's lease must be alive.
    pub fn advance(&mut self, token: u64, to: Stage, now_ns: u64) -> Result<(), Refusal> {
        let held = self.owned(token, now_ns)?;
        let allowed = match to {
            Stage::Greeted => false,
            Stage::Placed => held.stage == Stage::Greeted,
            Stage::Wired => held.stage == Stage::Placed,
            Stage::Armed => held.stage == Stage::Wired,
            // An abort may come at any time; asking twice is harmless.
            Stage::LoadStopped | Stage::Healed => true,
        };
        if !allowed {
            return Err(Refusal::new(
                RefusedWhy::State,
                format!(
                    "{to:?} does not follow {:?}: the steps are prepare, wire, arm, stop load, heal, finish",
                    held.stage
                ),
            ));
        }
        held.stage = held.stage.max(to);
        Ok(())
    }

    /// Prolongs the lease; milliseconds left.
    pub fn renew(&mut self, token: u64, now_ns: u64) -> Result<u32, Refusal> {
        let held = self.owned(token, now_ns)?;
        held.lease.renew(now_ns);
        Ok(held.lease.left_ms(now_ns))
    }

    /// Whether a message of this token may still change anything here.
    pub fn check(&mut self, token: u64, now_ns: u64) -> Result<(), Refusal> {
        self.owned(token, now_ns).map(drop)
    }

    /// Ends the session of this token, whatever its stage.
    pub fn end(&mut self, token: u64) {
        if self.held.as_ref().is_some_and(|held| held.token == token) {
            self.held = None;
        }
    }

    /// The session whose lease is over, if there is one. It holds the agent until [`Session::end`].
    pub fn expired(&self, now_ns: u64) -> Option<u64> {
        self.held.as_ref().filter(|held| held.lease.expired(now_ns)).map(|held| held.token)
    }

    fn owned(&mut self, token: u64, now_ns: u64) -> Result<&mut Held, Refusal> {
        let name = &self.identity.name;
        match &mut self.held {
            Some(held) if held.token == token && !held.lease.expired(now_ns) => Ok(held),
            _ => Err(Refusal::new(
                RefusedWhy::Token,
                format!("session {token} on agent {name} is over: its lease ended"),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const S: u64 = 1_000_000_000;

    fn session() -> Session {
        Session::new(Identity { name: "n1".into(), protocol: 1, catalogue_hash: "abc".into() }, 6)
    }
    fn hello() -> Hello {
        Hello {
            protocol: 1,
            catalogue_hash: "abc".into(),
            run: "r1".into(),
            owner: "ann@laptop".into(),
            resume_token: 0,
            lease_ms: 5_000,
        }
    }

    #[test]
    fn a_busy_agent_refuses_and_names_owner_and_expiry() {
        let mut session = session();
        assert_eq!(session.hello(&hello(), 0), Ok(7));
        let refusal = session.hello(&Hello { run: "r2".into(), ..hello() }, 2 * S).unwrap_err();
        assert_eq!(refusal.why, RefusedWhy::Busy);
        assert!(refusal.message.contains("ann@laptop") && refusal.message.contains("3 s"), "{refusal}");
    }

    #[test]
    fn a_coordinator_comes_back_within_the_lease_and_not_after_it() {
        let mut session = session();
        let token = session.hello(&hello(), 0).unwrap();
        let again = Hello { resume_token: token, ..hello() };
        assert_eq!(session.hello(&again, 4 * S), Ok(token));
        assert_eq!(session.hello(&again, 10 * S).unwrap_err().why, RefusedWhy::Token);
        assert_eq!(session.expired(10 * S), Some(token));
    }

    #[test]
    fn an_agent_that_ends_begins_nothing() {
        let mut session = session();
        session.close();
        assert_eq!(session.hello(&hello(), 0).unwrap_err().why, RefusedWhy::State);
    }

    #[test]
    fn a_token_of_another_run_takes_nothing_up() {
        let mut session = session();
        let token = session.hello(&hello(), 0).unwrap();
        let other = Hello { run: "r2".into(), resume_token: token, ..hello() };
        assert_eq!(session.hello(&other, 1).unwrap_err().why, RefusedWhy::Token);
    }

    #[test]
    fn an_expired_session_holds_the_agent_until_it_is_cleaned_up() {
        let mut session = session();
        let token = session.hello(&hello(), 0).unwrap();
        assert_eq!(session.hello(&hello(), 10 * S).unwrap_err().why, RefusedWhy::Busy);
        session.end(token);
        assert_eq!(session.hello(&hello(), 10 * S), Ok(token + 1));
    }

    #[test]
    fn other_versions_and_other_catalogues_are_refused_with_the_mend() {
        let refusal = session().hello(&Hello { protocol: 2, ..hello() }, 0).unwrap_err();
        assert!(refusal.why == RefusedWhy::Version && refusal.message.contains("same version"));
        let refusal = session().hello(&Hello { catalogue_hash: "x".into(), ..hello() }, 0).unwrap_err();
        assert!(refusal.why == RefusedWhy::Catalogue && refusal.message.contains("same build"));
    }

    proptest! {
        #[test]
        fn no_order_of_messages_arms_what_was_not_prepared_and_wired(steps in prop::collection::vec(0usize..5, 0..12)) {
            let mut session = session();
            let token = session.hello(&hello(), 0).unwrap();
            let stages = [Stage::Placed, Stage::Wired, Stage::Armed, Stage::LoadStopped, Stage::Healed];
            let mut taken = Vec::new();
            for step in steps {
                if session.advance(token, stages[step], 0).is_ok() {
                    taken.push(stages[step]);
                }
            }
            if let Some(armed) = taken.iter().position(|s| *s == Stage::Armed) {
                prop_assert!(taken[..armed].contains(&Stage::Placed) && taken[..armed].contains(&Stage::Wired));
            }
            prop_assert!(session.advance(token + 1, Stage::Healed, 0).is_err());
        }

        /// Two coordinators, each with the newest token it was given, any messages at any time.
        #[test]
        fn only_the_newest_token_changes_anything_and_only_within_its_lease(
            messages in prop::collection::vec((0usize..2, 0usize..8, 0u64..3_000), 0..60)
        ) {
            let mut session = session();
            let (mut tokens, mut now, mut renewed) = ([0u64; 2], 0, 0);
            for (who, message, ms) in messages {
                now += ms * 1_000_000;
                let before = session.held().cloned();
                let alive = before.as_ref().is_some_and(|held| held.token == tokens[who] && now < renewed + 5 * S);
                let run = format!("r{who}");
                let done = match message {
                    0 => {
                        if let Ok(token) = session.hello(&Hello { run, ..hello() }, now) {
                            prop_assert!(before.is_none() && token > tokens[0].max(tokens[1]), "a token came back");
                            tokens[who] = token;
                            renewed = now;
                        }
                        None
                    }
                    1 => Some(session.hello(&Hello { run, resume_token: tokens[who].max(1), ..hello() }, now).is_ok()),
                    2 => Some(session.renew(tokens[who], now).is_ok()),
                    3 => Some(session.check(tokens[who], now).is_ok()),
                    7 => {
                        session.end(tokens[who]);
                        prop_assert_eq!(session.held().is_none(), before.is_none_or(|held| held.token == tokens[who]));
                        None
                    }
                    n => {
                        let to = [Stage::Placed, Stage::Wired, Stage::Armed][n - 4];
                        prop_assert!(alive || session.advance(tokens[who], to, now).is_err());
                        None
                    }
                };
                if let Some(done) = done {
                    prop_assert_eq!(done, alive, "message {} of {} at {}", message, who, now);
                }
                if done == Some(true) && message != 3 {
                    renewed = now;
                }
            }
        }
    }
}
