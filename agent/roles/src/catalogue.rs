//! Which roles this build can host. A new one is a file in `role/` and a line in [`ROLES`].

use gauntlet_common::scenario::Kind;

use crate::role::{
    RoleEntry, analytics, api_gateway, app_server, command_side, compliance, edge_region, edge_site, foundation,
    job_worker, market_data, order_service, read_side, risk, settlement, trading_engine, user_service,
};

/// All roles of this build.
pub const ROLES: &[RoleEntry] = &[
    RoleEntry::of::<api_gateway::ApiGateway>(),
    RoleEntry::of::<app_server::AppServer>(),
    RoleEntry::of::<job_worker::JobWorker>(),
    RoleEntry::of::<analytics::Analytics>(),
    RoleEntry::of::<user_service::UserService>(),
    RoleEntry::of::<order_service::OrderService>(),
    RoleEntry::of::<command_side::CommandSide>(),
    RoleEntry::of::<read_side::ReadSide>(),
    RoleEntry::of::<edge_region::EdgeRegion>(),
    RoleEntry::of::<edge_site::EdgeSite>(),
    RoleEntry::of::<foundation::FoundationHost>(),
    RoleEntry::of::<market_data::MarketData>(),
    RoleEntry::of::<trading_engine::TradingEngine>(),
    RoleEntry::of::<risk::Risk>(),
    RoleEntry::of::<settlement::Settlement>(),
    RoleEntry::of::<compliance::Compliance>(),
];

/// Every role's kind, for the catalogue.
pub fn kinds() -> Vec<Kind> {
    ROLES.iter().map(|role| (role.kind)()).collect()
}

/// Whether instances of this kind tell exact figures at the end.
pub fn is_audited(kind: &str) -> bool {
    ROLES.iter().any(|role| role.name == kind && !(role.kind)().audits.is_empty())
}
