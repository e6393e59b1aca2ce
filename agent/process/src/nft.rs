//! The node's firewall: one table of our own per fault, whose elements the kernel lets go by itself.
//!
//! Owns the talk with `nft` (fixed arguments, JSON on its stdin) and what a table's life promises: made in one transaction,
//! never beyond its elements' time without a renewal, gone after [`remove`], nothing else of the firewall touched. Not here:
//! which packets (`partition`), when it is renewed (the partition by the kernel). Everything blocks for as long as `nft` takes: call it off
//! the control thread, by [`off_thread`].

mod ruleset;

use std::time::Duration;

use crate::tool::{Tool, ToolError};

pub use ruleset::{Dropped, Flow, PREFIX, PROBE_PORTS, Port, Rules};

/// The packet filter's command; looked for where systems put it.
const NFT: Tool = Tool {
    program: "nft",
    package: "nftables",
    places: &["/usr/sbin/nft", "/sbin/nft", "/usr/local/sbin/nft", "/usr/bin/nft"],
};
/// How long one transaction or listing may take; then it is killed, and the fault counts as applied.
const WITHIN: Duration = Duration::from_secs(5);

const LIST_TABLES: &[&str] = &["-j", "list", "tables"];
/// As `nft` says it in the C locale, that of [`Tool::run`].
const NOT_PERMITTED: &str = "Operation not permitted";

fn nft(args: &[&str], input: &str) -> Result<Vec<u8>, String> {
    NFT.run(args, input, WITHIN).map_err(|e| e.to_string())
}

fn transact(document: &str) -> Result<(), String> {
    nft(&["-j", "-f", "-"], document).map(drop)
}

/// Does something that blocks where it keeps nobody waiting.
pub async fn off_thread<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(act).await.unwrap_or_else(|e| Err(format!("nft: {e}")))
}

/// Whether this node's kernel takes our kind of table from this process: asked of the kernel, which changes nothing.
///
/// # Errors
/// What is missing, with how to mend it.
pub fn available() -> Result<(), String> {
    let checked = NFT.run(&["--check", "-j", "-f", "-"], &ruleset::trial(), WITHIN);
    checked.map(drop).map_err(|e| match e {
        ToolError::Refused { said, .. } if said.contains(NOT_PERMITTED) => {
            "nft: not permitted; give the agent CAP_NET_ADMIN".into()
        }
        error => error.to_string(),
    })
}

/// The table's name for one fault of one run on one agent: agents may share a network namespace.
pub fn table_name(run: &str, fault: &str, agent: &str) -> String {
    format!("{PREFIX}{:012x}", gauntlet_common::seed::key(0, &[run, fault, agent]) >> 16)
}

/// Makes the table; its elements vanish after `timeout_s`. An error means nothing was made, or that `nft` was too slow to tell.
pub fn create(rules: &Rules, timeout_s: u32) -> Result<(), String> {
    transact(&rules.create(timeout_s))
}

/// Gives every element a new time.
pub fn renew(rules: &Rules, timeout_s: u32) -> Result<(), String> {
    transact(&rules.renew(timeout_s))
}

/// Removes a table, there or not, and looks that it is gone.
pub fn remove(table: &str) -> Result<(), String> {
    transact(&ruleset::delete(table))?;
    if tables()?.iter().any(|name| name == table) {
        return Err(format!("table inet {table} is still there; remove it: nft delete table inet {table}"));
    }
    Ok(())
}

/// What a table has dropped.
pub fn dropped(table: &str) -> Result<Dropped, String> {
    ruleset::dropped(&nft(&["-j", "list", "table", "inet", table], "")?)
}

/// How many elements of a table the kernel still holds.
pub fn living(table: &str) -> Result<usize, String> {
    ruleset::living(&nft(&["-j", "list", "table", "inet", table], "")?)
}

/// Every table of ours in this network namespace, of whatever run and version.
pub fn tables() -> Result<Vec<String>, String> {
    ruleset::ours(&nft(LIST_TABLES, "")?)
}

/// The firewall without our tables, handles and counts: what must be the same again.
pub fn others() -> Result<String, String> {
    ruleset::others(&nft(&["-j", "list", "ruleset"], "")?)
}

/// A short form of [`others`] for the journal.
pub fn fingerprint(others: &str) -> u64 {
    gauntlet_common::seed::key(0, &[others])
}

/// Removes tables of ours that nobody holds any more: those whose elements have all timed out, and with `all` also those
/// that still cut. How many, and which not. Where there is no `nft`, or it may not even ask, this node has made no table;
/// with `all`, other agents may have, and not being permitted to look is told.
pub fn sweep(all: bool) -> (u32, Vec<String>) {
    let tables = match NFT.run(LIST_TABLES, "", WITHIN) {
        Ok(listed) => ruleset::ours(&listed),
        Err(error) if is_elsewhere(&error, all) => return (0, Vec::new()),
        Err(error) => Err(error.to_string()),
    };
    let tables = match tables {
        Ok(tables) => tables,
        Err(why) => return (0, vec![format!("tables inet {PREFIX}* in the firewall, if there are any: {why}")]),
    };
    let (mut removed, mut failed) = (0, Vec::new());
    for table in tables {
        match living(&table) {
            Ok(1..) if !all => continue,
            // Removed meanwhile by whoever made it.
            Err(_) if !self::tables().is_ok_and(|now| now.contains(&table)) => continue,
            _ => {}
        }
        match remove(&table) {
            Ok(()) => removed += 1,
            Err(why) => failed.push(why),
        }
    }
    (removed, failed)
}

/// Whether an error of the listing means that no table of this node's making is there.
fn is_elsewhere(error: &ToolError, all: bool) -> bool {
    match error {
        ToolError::Missing { .. } => true,
        ToolError::Refused { said, .. } => !all && said.contains(NOT_PERMITTED),
        ToolError::Broken { .. } | ToolError::Slow { .. } => false,
    }
}

#[cfg(test)]
#[path = "nft/tests.rs"]
mod tests;
