//! Ports of roles: outside the kernel's ephemeral range (32768..60999 unless set otherwise), so that no client socket takes one.

use std::net::{TcpListener, ToSocketAddrs};

/// Where role ports lie.
pub const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// Two neighbouring ports that were free a moment ago, searched from an offset. The worker binds them itself, so that a
/// dead role's port refuses; whoever comes between makes it fail with "in use", and the caller tries the next.
pub fn free_pair(host: &str, offset: u32) -> Option<[u16; 2]> {
    let pairs = u32::from(RANGE.end - RANGE.start) / 2;
    (0..pairs).find_map(|i| {
        let first = RANGE.start + (2 * ((offset + i) % pairs)) as u16;
        let free = |port: u16| {
            let mut addresses = (host, port).to_socket_addrs().ok()?;
            TcpListener::bind(addresses.next()?).ok()
        };
        let both = (free(first)?, free(first + 1)?);
        drop(both);
        Some([first, first + 1])
    })
}
