//! Commands about a fleet: preflight, heal, certificates.

use std::path::PathBuf;

use gauntlet_agent::config::Credentials;

use super::{Failure, FleetArgs, PkiCommand, print_bytes};
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
    let runtime = runtime()?;
    let mut code = 0;
    let mut healing = tokio::task::JoinSet::new();
    for host in hosts {
        let credentials = credentials.clone();
        healing.spawn_on(
            async move { (dispatch::heal(&host, &credentials, "coordinator heal").await, host) },
            runtime.handle(),
        );
    }
    for (result, host) in runtime.block_on(healing.join_all()) {
        match result {
            Ok(reply) => {
                let stopped = if reply.stopped_a_run { "a run stopped, " } else { "" };
                anstream::println!("{}: {stopped}{} faults undone", host.name, reply.faults_undone);
                for fault in reply.not_undone {
                    anstream::println!("{}: NOT undone: {fault}", host.name);
                    code = 7;
                }
            }
            Err(error) => {
                anstream::println!("{}: {error}", host.name);
                code = if code == 7 { 7 } else { 6 };
            }
        }
    }
    Ok(code)
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
