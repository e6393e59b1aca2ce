//! What a gateway aggregates: the names, the pools that are asked, the event stores of the cluster.

use gauntlet_common::scenario::{Problem, RoleName};
use indexmap::IndexMap;
use tonic::transport::Channel;

use super::params::Params;
use super::pool::Pool;
use crate::foundation::peers::instance_name;
use crate::kit::hlc::HybridClock;
use crate::kit::{RoleContext, RoleError, history};

/// Roles of one aggregation; more are refused when the file is read.
pub const PARTS_MAX: usize = 16;

/// What a gateway aggregates.
pub struct Aggregations {
    /// Roles by name.
    pub names: IndexMap<String, Vec<String>>,
    /// By role.
    pub pools: IndexMap<String, Pool>,
    /// The event stores of the whole cluster, the gateway's own first.
    pub stores: Vec<Store>,
    pub clock: HybridClock,
}

/// The event store of a role instance.
pub struct Store {
    /// `users[0]`
    pub of: String,
    pub node: String,
    pub channel: Channel,
}

pub fn validate(aggregate: &IndexMap<String, Vec<RoleName>>) -> Vec<Problem> {
    let wrong = |(name, roles): (&String, &Vec<RoleName>)| {
        let twice = roles.iter().enumerate().find(|(i, role)| roles[..*i].contains(role));
        let message = match twice {
            _ if roles.is_empty() || roles.len() > PARTS_MAX => {
                format!("`{name}` asks {} roles; name 1 to {PARTS_MAX}: {name}: [users, orders]", roles.len())
            }
            Some((_, role)) => format!("`{name}` asks `{role}` twice; name each role once"),
            None => return None,
        };
        Some(Problem { pointer: format!("/aggregate/{name}"), message })
    };
    aggregate.iter().filter_map(wrong).collect()
}

impl Aggregations {
    pub fn new(own: &RoleContext, params: &Params) -> Result<Self, RoleError> {
        let mut pools = IndexMap::new();
        for role in params.aggregate.values().flatten() {
            if !pools.contains_key(&role.0) {
                pools.insert(role.0.clone(), Pool::new(own, role, params)?);
            }
        }
        let mut stores = Vec::new();
        for endpoint in own.endpoints.iter() {
            let address = endpoint.foundation.parse().map_err(|_| RoleError::Address(endpoint.foundation.clone()))?;
            let channel = own.links.channel(address, history::ANSWER_WITHIN);
            let of = instance_name(&endpoint.role, endpoint.instance);
            stores.push(Store { of, node: endpoint.agent.clone(), channel });
        }
        let name = own.name();
        stores.sort_by_key(|store: &Store| store.of != name);
        let names = params.aggregate.iter();
        let names = names.map(|(name, roles)| (name.clone(), roles.iter().map(|role| role.0.clone()).collect()));
        Ok(Self { names: names.collect(), pools, stores, clock: HybridClock::default() })
    }

    pub fn own_store(&self) -> &Store {
        self.stores.first().expect("a gateway starts when it knows all instances of the run, itself among them")
    }

    pub fn has(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}
