//! What this node is and can do, as `describe` tells it.

use gauntlet_process::{clock, limits, nft};
use gauntlet_proto::agent::DescribeReply;

use crate::VERSION;
use crate::catalogue;
use crate::config::Config;

/// What this node is and can do, without the session's part.
pub fn facts(config: &Config) -> DescribeReply {
    use procfs::Current;
    let memory = procfs::Meminfo::current().ok();
    let files = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).map_or(0, |(_, hard)| hard);
    let faults = catalogue::fault_kinds().into_iter().map(|kind| kind.name.to_string());
    let allowed = faults.filter(|kind| config.allow.faults.as_ref().is_none_or(|allowed| allowed.contains(kind)));
    DescribeReply {
        version: VERSION.into(),
        catalogue_hash: catalogue::hash(),
        name: config.name.clone(),
        cores: std::thread::available_parallelism().map_or(1, |n| n.get() as u32),
        memory_bytes: memory.as_ref().map_or(0, |m| m.mem_total),
        available_bytes: memory.and_then(|m| m.mem_available).unwrap_or(0),
        ephemeral_ports: limits::ephemeral_ports(),
        tasks_max: limits::tasks_left(),
        open_files_max: files,
        capabilities: capabilities(),
        monotonic_ns: clock::monotonic_ns(),
        unix_ns: clock::unix_us() * 1_000,
        allowed_faults: allowed.collect(),
        ..Default::default()
    }
}

/// `net_admin` when this process may change the firewall.
fn capabilities() -> Vec<String> {
    const CAP_NET_ADMIN: u64 = 12;
    let effective = procfs::process::Process::myself().and_then(|p| p.status()).map_or(0, |status| status.capeff);
    if effective & (1 << CAP_NET_ADMIN) != 0 { vec!["net_admin".into()] } else { Vec::new() }
}

/// What this node's kernel lets faults do, asked of it: `nft` drops packets, `netem` shapes them.
pub async fn kernel_capabilities() -> Vec<String> {
    let nft = nft::off_thread(nft::available).await;
    if let Err(why) = &nft {
        tracing::debug!("partitions on links only: {why}");
    }
    let netem = tokio::task::spawn_blocking(has_netem).await.unwrap_or(false);
    [("nft", nft.is_ok()), ("netem", netem)].into_iter().filter(|(_, has)| *has).map(|(name, _)| name.into()).collect()
}

/// Whether the kernel has the packet scheduler netem: loaded, or among its modules.
fn has_netem() -> bool {
    let holds = |path: String| std::fs::read_to_string(path).is_ok_and(|text| text.contains("sch_netem"));
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let modules = format!("/lib/modules/{}", release.trim());
    ["/proc/modules".into(), format!("{modules}/modules.dep"), format!("{modules}/modules.builtin")]
        .into_iter()
        .any(holds)
}
