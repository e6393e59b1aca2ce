//! The instances of one role behind a gateway: a connection to each, which of them a request goes to, and what becomes of one that
//! does not answer. Not here: retries.

use std::net::SocketAddr;
use std::time::Duration;

use gauntlet_common::event::What;
use gauntlet_common::scenario::RoleName;
use gauntlet_process::clock;
use gauntlet_proto::agent::Endpoint;
use parking_lot::Mutex;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

use super::params::Params;
use super::upstreams::{Change, Picked, Upstreams};
use crate::foundation::peers::instance_name;
use crate::foundation::registry;
use crate::foundation::telemetry::Counter;
use crate::kit::{RoleContext, RoleError};

/// See the module.
pub(super) struct Pool {
    context: RoleContext,
    endpoints: Vec<(Endpoint, SocketAddr)>,
    /// With a number that grows when it is replaced, by instance.
    channels: Vec<Mutex<(u64, Channel)>>,
    upstreams: Mutex<Upstreams>,
    deadline: Duration,
    ejections: Counter,
}

/// Why a request has no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// The upstream does not know or take it: the user's mistake.
    Refused(Status),
    Failed(Status),
    TooLate,
}

/// An attempt under way. Dropped without an outcome, its user went away.
struct Attempt<'a> {
    pool: &'a Pool,
    picked: Picked,
    done: bool,
}

impl Attempt<'_> {
    fn end(mut self, ok: bool) {
        self.done = true;
        let change = self.pool.upstreams.lock().report(self.picked, ok, clock::monotonic_ns());
        self.pool.changed(self.picked.index, change);
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.pool.upstreams.lock().abandon(self.picked, clock::monotonic_ns());
        }
    }
}

impl Pool {
    pub(super) fn new(context: &RoleContext, role: &RoleName, params: &Params) -> Result<Self, RoleError> {
        let endpoints = context.instances(&role.0, |endpoint| &endpoint.service)?;
        let eject = &params.eject;
        let upstreams = Upstreams::new(endpoints.len(), params.balance, eject.after.0, eject.duration.0 * 1000);
        let deadline = params.deadline_per_attempt.duration();
        let channel = |address| Mutex::new((0, context.links.channel(address, deadline)));
        Ok(Self {
            channels: endpoints.iter().map(|(_, address)| channel(*address)).collect(),
            upstreams: Mutex::new(upstreams),
            ejections: context.foundation.telemetry.counter("ejections"),
            context: context.clone(),
            endpoints,
            deadline,
        })
    }

    /// Whose instances these are.
    pub(super) fn role(&self) -> &str {
        // Never without one: a role that has none is refused.
        self.endpoints.first().map_or("", |(endpoint, _)| &endpoint.role)
    }

    /// Which instance an attempt goes to; `failed` is the one that a retry comes from.
    pub(super) fn pick(&self, failed: Option<usize>) -> Picked {
        self.upstreams.lock().pick(clock::monotonic_ns(), failed, &mut self.context.draws())
    }

    /// One call to the picked instance, within the deadline.
    pub(super) async fn attempt<T>(
        &self,
        picked: Picked,
        call: impl AsyncFnOnce(Channel) -> Result<Response<T>, Status>,
    ) -> Result<T, Failure> {
        let attempt = Attempt { pool: self, picked, done: false };
        let (generation, channel) = self.channels[picked.index].lock().clone();
        let outcome = match tokio::time::timeout(self.deadline, call(channel)).await {
            Ok(Ok(reply)) => Ok(reply.into_inner()),
            Ok(Err(status)) if matches!(status.code(), Code::NotFound | Code::InvalidArgument) => {
                Err(Failure::Refused(status))
            }
            Ok(Err(status)) => Err(Failure::Failed(status)),
            Err(_) => {
                self.reconnect(picked.index, generation);
                Err(Failure::TooLate)
            }
        };
        attempt.end(matches!(outcome, Ok(_) | Err(Failure::Refused(_))));
        outcome
    }

    /// Leaves a connection on which a request did not come back in time: what broke it may have left it silent for ever. All who
    /// time out on the same one make one new one.
    fn reconnect(&self, index: usize, generation: u64) {
        let mut channel = self.channels[index].lock();
        if channel.0 == generation {
            *channel = (generation + 1, self.context.links.channel(self.endpoints[index].1, self.deadline));
        }
    }

    fn changed(&self, index: usize, change: Change) {
        let endpoint = &self.endpoints[index].0;
        let health = |healthy| {
            let instance = endpoint.instance.to_string();
            self.context.foundation.registry.set_health(registry::ROLES, &endpoint.role, &instance, healthy);
        };
        match change {
            Change::None | Change::StillOut => {}
            Change::Restored => health(true),
            Change::Ejected => {
                health(false);
                self.ejections.one();
                let subject = instance_name(&endpoint.role, endpoint.instance);
                let context = self.context.clone();
                self.context.spawn(async move {
                    context.tell(What::Detected { observer: context.name(), subject }).await;
                });
            }
        }
    }
}
