//! The story of a run, from a scenario to an exit code.

mod arm;
mod event_loop;
mod fleet;
mod not_run;

use std::path::PathBuf;

use gauntlet_agent::catalogue::catalogue;
use gauntlet_agent::config::Credentials;
use gauntlet_common::plan::bind::bind;
use gauntlet_common::plan::{Isolation, Plan};
use gauntlet_common::scenario::Scenario;

use crate::catalogue::REPORTS;
use crate::cluster::Cluster;
use crate::collect::Collector;
use crate::dispatch::Caller;
use crate::inventory::Host;
use crate::model::Report;
use crate::rundir::Place;
use crate::screen::Screen;
use crate::signals::Signals;
use crate::{judge, report};
pub use not_run::NotRun;

/// What to run, and where.
pub struct Request {
    pub scenario: Scenario,
    pub seed: u64,
    pub fleet: Fleet,
    /// Where the run directory goes.
    pub place: Place,
}

/// The agents of a run.
#[derive(Clone)]
pub enum Fleet {
    /// As many as the scenario needs, on this machine.
    Embedded,
    /// Those of an inventory.
    Inventory { hosts: Vec<Host>, credentials: Credentials },
}

/// A run that ended, well or not, with its directory.
pub struct Finished {
    pub report: Report,
    pub dir: PathBuf,
}

/// Runs a scenario: every numbered step is one of the ways a run can end, and each later one undoes the earlier ones.
pub async fn run(request: Request, screen: &mut Screen, signals: &mut Signals) -> Result<Finished, NotRun> {
    let run_id = uuid::Uuid::now_v7().to_string();

    // 1. Agents: started here, or those of the inventory; each says what it is and that it is free.
    let mut cluster = None;
    let (hosts, credentials, isolation) = match request.fleet {
        Fleet::Inventory { hosts, credentials } => {
            let isolation = fleet::isolation(&hosts);
            (hosts, credentials, isolation)
        }
        Fleet::Embedded => {
            let started = Cluster::start(&request.scenario.needs, &run_id).map_err(NotRun::not_ready)?;
            let ready = (started.hosts.clone(), started.credentials.clone(), Isolation::Shared);
            cluster = Some(started);
            ready
        }
    };
    let (facts, findings) = fleet::all_ready(&hosts, &credentials).await?;

    // 2. The plan: a pure function of scenario, agents and seed.
    let plan = bind(&request.scenario, &catalogue(), &facts, request.seed, isolation).map_err(NotRun::bad_input)?;
    fleet::allowed(&plan, &findings)?;
    fleet::fits(&plan, &findings)?;
    let hosts = fleet::taking_part(&plan, &hosts);

    // 3. The run directory, before anything happens that it should tell.
    let mut collector = Collector::new(&plan, &request.place, &run_id).map_err(NotRun::bad_input)?;
    let dir = collector.dir().to_path_buf();

    // 4. Sessions: hello, prepare, placed, wire, ready, clocks, armed for one instant.
    let caller = Caller { run: run_id.clone(), owner: arm::owner() };
    let mut armed = arm::arm(&plan, &hosts, &credentials, &caller, &mut collector, signals).await?;

    // 5. The run itself, until load has ended, faults are healed, acknowledged work is read back and every batch is here.
    event_loop::run(&plan, &mut armed, &mut collector, screen, signals).await;
    drop(armed);
    if let Some(mut cluster) = cluster {
        // Ending processes blocks, and nothing else is left to do.
        tokio::task::block_in_place(|| cluster.stop());
    }

    // 6. The verdict, and the reports, from what the run directory holds.
    let record = tokio::task::block_in_place(|| collector.close());
    let report = judge::judge(&plan, &record);
    screen.end();
    report::write_all(REPORTS, &report, &dir).map_err(NotRun::internal)?;
    Ok(Finished { report, dir })
}

/// The plan that a run would have: for `--dry-run`, without any agent.
pub fn dry_run(scenario: &Scenario, hosts: Option<&[Host]>, seed: u64) -> Result<Plan, NotRun> {
    let (facts, isolation) = match hosts {
        Some(hosts) => (fleet::assumed_facts(hosts), fleet::isolation(hosts)),
        None => (fleet::embedded_facts(&scenario.needs), Isolation::Shared),
    };
    bind(scenario, &catalogue(), &facts, seed, isolation).map_err(NotRun::bad_input)
}
