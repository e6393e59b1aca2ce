//! Limits of this process and this node, and raising those that the system sets lower than it allows.

use std::path::Path;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the soft limit of open files to the hard one: a login's usual 1,024 is less than a thousand users need.
/// Children inherit it. A system that refuses keeps its limit; the preflight shows it.
pub fn raise_open_files() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::warn!("open files stay limited to {soft} of {hard}: {error}");
    }
}

/// Ports that one source address has for connections to one target; 0: the system does not tell.
pub fn ephemeral_ports() -> u32 {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    ports_in(&text).unwrap_or(0)
}

fn ports_in(text: &str) -> Option<u32> {
    let (low, high) = text.trim().split_once(char::is_whitespace)?;
    let (low, high) = (low.parse::<u32>().ok()?, high.trim().parse::<u32>().ok()?);
    Some(high.checked_sub(low)? + 1)
}

/// Processes and threads that this process's control group (version 2) may still make; 0: nobody limits them, or the
/// system does not tell.
pub fn tasks_left() -> u64 {
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let Some(own) = groups.lines().find_map(|line| line.strip_prefix("0::/")) else { return 0 };
    let root = Path::new("/sys/fs/cgroup");
    // A limit of any group above holds as well; the narrowest counts.
    let left = root.join(own).ancestors().take_while(|group| group.starts_with(root)).filter_map(tasks_left_in).min();
    left.unwrap_or(0)
}

fn tasks_left_in(group: &Path) -> Option<u64> {
    let number = |name: &str| std::fs::read_to_string(group.join(name)).ok()?.trim().parse::<u64>().ok();
    // Where there is no limit the file says `max`. A full group has one left to say, as 0 means that nobody tells.
    Some(number("pids.max")?.saturating_sub(number("pids.current")?).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_of_a_node_are_read_as_the_kernel_writes_them() {
        assert_eq!(ports_in("32768\t60999\n"), Some(28_232));
        assert_eq!(ports_in("60999\t32768\n"), None);
        assert_eq!(ports_in(""), None);
        assert!(ephemeral_ports() > 0);
        let group = tempfile::tempdir().unwrap();
        std::fs::write(group.path().join("pids.current"), "12\n").unwrap();
        std::fs::write(group.path().join("pids.max"), "max\n").unwrap();
        assert_eq!(tasks_left_in(group.path()), None);
        std::fs::write(group.path().join("pids.max"), "100\n").unwrap();
        assert_eq!(tasks_left_in(group.path()), Some(88));
        std::fs::write(group.path().join("pids.max"), "10\n").unwrap();
        assert_eq!(tasks_left_in(group.path()), Some(1));
    }

    #[test]
    fn the_soft_limit_of_open_files_is_raised_to_the_hard_one() {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, hard.min(512), hard).unwrap();
        raise_open_files();
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (hard, hard));
    }
}
