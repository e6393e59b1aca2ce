//! What the roles of the shop share: money ([`money`]), an order and its rules ([`order`]), and how both stand in events
//! ([`record`]). All of it pure. Not here: the roles themselves (`command_side`, `read_side`).

pub mod money;
pub mod order;
pub mod record;

/// Orders that one side keeps; the write side refuses more, so that the read side never sees them.
pub const ORDERS_MAX: usize = 100_000;
