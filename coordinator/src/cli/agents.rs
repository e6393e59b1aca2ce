//! Commands about a fleet: preflight, heal, certificates.

use std::path::PathBuf;

use futures_util::future::join_all;
use gauntlet_agent::config::Credentials;
use gauntlet_common::units::counted;

use super::args::{FleetArgs, PkiCommand};
use super::output::{Failure, print_bytes};
use crate::inventory::{self, Host};
use crate::{dispatch, pki, preflight};

/// The agents of an inventory and the coordinator's credentials for them.
pub fn fleet(agents: &std::path::Path, pki_dir: Option<&PathBuf>) -> Result<(Vec<Host>, Credentials), Failure> {
    let hosts = inventory::read(agents).map_err(|e| Failure::new(3, e))?;
    let beside = agents.parent().unwrap_or(std::path::Path::new(".")).join("pki");
    let credentials = pki::coordinator(pki_dir.unwrap_or(&beside)).map_err(|e| Failure::new(3, e))?;
    Ok((hosts, credentials))
}

/// A runtime for commands that talk to agents.
pub fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| Failure::new(1, format!("no runtime: {e}")))
}

pub(super) fn agents(args: &FleetArgs) -> Result<u8, Failure> {
    let (hosts, credentials) = fleet(&args.agents, args.pki.as_ref())?;
    let findings = runtime()?.block_on(preflight::look(&hosts, &credentials));
    anstream::print!("{}", preflight::table(&findings));
    Ok(if findings.iter().all(|finding| finding.problems.is_empty()) { 0 } else { 6 })
}

pub(super) fn heal(args: &FleetArgs) -> Result<u8, Failure> {
    let (hosts, credentials) = fleet(&args.agents, args.pki.as_ref())?;
    let healing = hosts.iter().map(|host| dispatch::heal(host, &credentials, "coordinator heal"));
    let all = runtime()?.block_on(join_all(healing));
    let (mut not_undone, mut unreached) = (0, 0);
    for (host, result) in hosts.iter().zip(all) {
        match result {
            Ok(reply) => {
                anstream::println!("{}: {}", host.name, healed(&reply));
                for fault in &reply.not_undone {
                    anstream::println!("{}: NOT undone: {fault}", host.name);
                    not_undone += 1;
                }
            }
            Err(error) => {
                anstream::println!("{}: NOT healed: {error}", host.name);
                unreached += 1;
            }
        }
    }
    if unreached > 0 {
        anstream::println!(
            "an agent that is dead took its load and roles along; what else it did is undone when it starts, or by `agent heal` there"
        );
    }
    Ok(match (not_undone, unreached) {
        (0, 0) => 0,
        (0, _) => 6,
        _ => 7,
    })
}

fn healed(reply: &gauntlet_proto::agent::HealReply) -> String {
    let undone = counted(reply.faults_undone as usize, "fault");
    match (reply.stopped_a_run, reply.faults_undone) {
        (true, _) => format!("a run stopped, {undone} undone"),
        (false, 0) if reply.not_undone.is_empty() => "nothing was running, and nothing was left to undo".into(),
        (false, _) => format!("nothing was running, {undone} undone"),
    }
}

pub(super) fn pki(command: &PkiCommand) -> Result<u8, Failure> {
    match command {
        PkiCommand::Init { dir } => {
            pki::init(dir).map_err(|e| Failure::new(3, e))?;
            anstream::println!(
                "{}: a CA and the coordinator's certificate; next: coordinator pki issue {} NAME...",
                dir.display(),
                dir.display()
            );
        }
        PkiCommand::Issue { dir, names } => {
            for name in names {
                let cert = pki::issue(dir, name).map_err(|e| Failure::new(3, e))?;
                anstream::println!("{}", cert.display());
            }
        }
    }
    Ok(0)
}

pub(super) fn man(command: clap::Command) -> Result<u8, Failure> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page).map_err(|e| Failure::new(1, e))?;
    print_bytes(&page)
}
