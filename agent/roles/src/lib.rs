//! The reference system: a complete small distributed system that agents host.
//!
//! [`link`] carries its traffic and can be cut, [`foundation`] are the services of every host, [`role`] is what a role is, [`catalogue`]
//! which there are, [`kit`] what they are made with, [`host`] the process around one instance.

pub mod catalogue;
pub mod foundation;
pub mod host;
pub mod kit;
pub mod link;
pub mod role;
