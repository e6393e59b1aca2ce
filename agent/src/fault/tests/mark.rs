//! A fault of one file and one line, as `docs/extending.md` walks through it: while it lasts, a file marks the node.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use gauntlet_common::event::{Event, FaultEdge, What};
use gauntlet_common::fault::Select;
use gauntlet_common::plan::bind::{AgentFacts, bind};
use gauntlet_common::plan::reach::Reach;
use gauntlet_common::plan::{Isolation, PlannedFault};
use gauntlet_common::scenario::{Kind, ReadOptions, read};
use gauntlet_process::clock;
use gauntlet_proto::agent::{Wire, batch};
use gauntlet_proto::convert::sealed;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::{Doing, Fault, Faults, Step, kind};
use crate::config::{Config, Tls};
use crate::home::Home;
use crate::journal::{Journal, Undo};
use crate::node::{Lent, Node};
use crate::pump::Pump;
use crate::runner::Run;

/// Parameters of `mark`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Params {
    /// Which nodes.
    #[allow(dead_code, reason = "resolved by the planner, kept for the schema")]
    select: Select,
    /// The name of the file.
    name: String,
}

struct Mark;

impl Mark {
    fn file(node: &Node, fault: &PlannedFault) -> PathBuf {
        let params: Params = serde_json::from_value(fault.params.clone().into()).expect("checked with the plan");
        node.data_dir().join(params.name)
    }
}

impl Fault for Mark {
    fn kind(&self) -> Kind {
        kind::<Params>("mark", "marks a node by a file", "process", |_| Vec::new(), Reach::of_nodes)
    }

    fn undo(&self, node: &Node, fault: &PlannedFault) -> Vec<Undo> {
        // The file lies in the run's own folder, which goes with the run: there is nothing to do for a later agent.
        vec![Undo::Uncut { until_ns: node.fault_end_ns(fault) }]
    }

    fn inject<'a>(&'a self, node: &'a Node, fault: &'a PlannedFault, _until_ns: u64) -> Step<'a> {
        Box::pin(async move {
            std::fs::write(Self::file(node, fault), "").map_err(|e| e.to_string())?;
            Ok("marked".into())
        })
    }

    fn confirm<'a>(&'a self, node: &'a Node, fault: &'a PlannedFault) -> Step<'a> {
        Box::pin(async move {
            let there = Self::file(node, fault).exists();
            if there { Ok("the mark is there".into()) } else { Err("there is no mark".into()) }
        })
    }

    fn heal<'a>(&'a self, node: &'a Node, fault: &'a PlannedFault) -> Step<'a> {
        Box::pin(async move {
            std::fs::remove_file(Self::file(node, fault)).map_err(|e| e.to_string())?;
            Ok("the mark is gone".into())
        })
    }

    fn touched<'a>(&'a self, _: &'a Node, _: &'a PlannedFault) -> Doing<'a, Option<u64>> {
        Box::pin(async { Some(1) })
    }
}

/// The line of registration.
const WITH_MARK: Faults = &[&Mark];

const FILE: &str = "schema: gauntlet/v1\nname: x\nneeds: { agents: 1, labels: [{ cloud: aws }] }\nphases: [{ name: p, for: 2s }]\n\
    faults:\n  - { id: marked, at: p+100ms, for: 300ms, do: { mark: { select: cloud=aws, name: marked } } }\n";

/// What the run's story says of the fault, edge by edge, until it is cleared.
async fn story(pump: &Pump) -> Vec<(FaultEdge, String)> {
    let (mut story, mut seen) = (Vec::new(), 0);
    while !story.iter().any(|(edge, _)| *edge == FaultEdge::Cleared) {
        for batch in pump.after(seen, 64).await.expect("the session lives") {
            seen = batch.sequence;
            if let Some(batch::Body::EventJson(json)) = sealed::open(batch).unwrap().body
                && let What::Fault { edge, detail, .. } = serde_json::from_slice::<Event>(&json).unwrap().what
            {
                story.push((edge, detail));
            }
        }
    }
    story
}

#[tokio::test]
async fn a_new_fault_is_one_file_and_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let mut catalogue = crate::catalogue::catalogue();
    catalogue.faults = WITH_MARK.iter().map(|fault| fault.kind()).collect();
    let scenario = read(FILE, "x.yaml", &catalogue, &ReadOptions::default()).unwrap();
    let wrong = FILE.replace("name: marked }", "nome: marked }");
    assert!(read(&wrong, "x.yaml", &catalogue, &ReadOptions::default()).unwrap_err().to_string().contains("`nome`"));
    let labels = [("cloud".to_string(), "aws".to_string())].into_iter().collect();
    let facts = AgentFacts { name: "n1".into(), labels, cores: 2, capabilities: Vec::new() };
    let plan = bind(&scenario, &catalogue, &[facts], 1, Isolation::Dedicated).unwrap();

    let file = |name: &str| dir.path().join(name);
    let config = Config {
        name: "n1".into(),
        listen: "127.0.0.1:7700".parse().unwrap(),
        state_dir: dir.path().into(),
        tls: Tls { ca: file("ca"), cert: file("cert"), key: file("key") },
        allow: Default::default(),
    };
    let journal = Arc::new(Journal::open(dir.path()).unwrap().into());
    let home = Home { config: Arc::new(config), journal };
    let pump = Pump::spooling("n1", dir.path().join("spool"));
    let lent = Lent {
        run_id: "r1".into(),
        pump: pump.clone(),
        lease_expires_ns: Arc::new(AtomicU64::new(clock::monotonic_ns() + 60_000_000_000)),
    };
    let json = serde_json::to_vec(&plan).unwrap();
    let unknown = Run::new(&home, crate::catalogue::FAULTS, lent.clone(), &json, "n1").err().unwrap();
    assert!(unknown.message.contains("unknown `mark`"), "{}", unknown.message);

    let mut run = Run::new(&home, WITH_MARK, lent, &json, "n1").unwrap();
    assert_eq!(run.start().await.unwrap(), []);
    run.wire(Wire::default()).await.unwrap();
    run.arm(clock::monotonic_ns() + 50_000_000).await.unwrap();
    let told = tokio::time::timeout(std::time::Duration::from_secs(20), story(&pump)).await.unwrap();
    let told: Vec<_> = told.iter().map(|(edge, detail)| (*edge, detail.as_str())).collect();
    assert_eq!(
        told,
        [
            (FaultEdge::Requested, "n1"),
            (FaultEdge::Applied, "marked"),
            (FaultEdge::Confirmed, "the mark is there"),
            (FaultEdge::ClearRequested, ""),
            (FaultEdge::Cleared, "the mark is gone"),
        ]
    );
    assert_eq!(home.journal.lock().pending().count(), 0, "it was journalled, and struck out");
    assert!(std::fs::read_to_string(dir.path().join("journal.jsonl")).unwrap().contains("\"fault\":\"marked\""));
    run.stop().await;
}
