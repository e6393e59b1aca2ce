//! Plugins bring schemas derived by schemars, with `$defs`, options and enums of their own: those are checked as well as ours.

use std::collections::BTreeMap;

use gauntlet_common::fault::Select;
use gauntlet_common::plan::Isolation;
use gauntlet_common::plan::bind::{AgentFacts, bind};
use gauntlet_common::scenario::{Catalogue, Kind, ReadOptions, Scenario, read};
use gauntlet_common::units::{Micros, MicrosRange, Ratio};
use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "only its schema is of interest")]
struct Latency {
    /// The two sides.
    between: [Select; 2],
    /// A bystander.
    #[serde(default)]
    spare: Option<Select>,
    #[serde(default)]
    shape: Option<Shape>,
    delay: Delay,
    #[serde(default)]
    by_step: BTreeMap<String, MicrosRange>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "only its schema is of interest")]
struct Delay {
    mean: Micros,
    #[serde(default)]
    ratio: Option<Ratio>,
    #[serde(default)]
    count: Option<u32>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(dead_code, reason = "only its schema is of interest")]
enum Shape {
    /// Evenly.
    Uniform,
    /// As a bell.
    Normal,
    /// From a table.
    Table(Vec<Micros>),
}

fn with_latency() -> Catalogue {
    let mut all = gauntlet_agent::catalogue::catalogue();
    all.faults.push(Kind {
        name: "latency",
        help: "Delays what passes between two groups.",
        schema: schemars::schema_for!(Latency).to_value(),
        validate: |params| {
            serde_json::from_value::<Latency>(params.clone())
                .expect("the checker passes only what the plugin can read");
            Vec::new()
        },
        metrics: Vec::new(),
        ledgers: Vec::new(),
        audits: Vec::new(),
        verbs: Vec::new(),
        reach: gauntlet_common::plan::reach::Reach::of_nodes,
        backend: "link",
    });
    all
}

fn scenario(params: &str) -> Result<Scenario, String> {
    let text = format!(
        "schema: gauntlet/v1\nname: x\nphases: [{{ name: a, for: 60s }}]\nroles: {{ app: {{ kind: app_server, on: 3, actions: {{ login: 50ms }} }} }}\n\
         faults: [{{ id: slow, at: a+5s, for: 5s, do: {{ latency: {params} }} }}]\n"
    );
    read(&text, "x.yaml", &with_latency(), &ReadOptions::default()).map_err(|problems| problems.to_string())
}

#[test]
fn what_a_derived_schema_allows_is_read() {
    for params in [
        "{ between: [app, 'not app[0]'], delay: { mean: 5ms } }",
        "{ between: [app, app], shape: normal, delay: { mean: 5ms, ratio: 5%, count: 3 }, spare: any 1 of app }",
        "{ between: [app, app], shape: { table: [1ms, 2ms] }, delay: { mean: 5ms }, by_step: { login: 1ms..2ms } }",
    ] {
        scenario(params).unwrap();
    }
}

#[test]
fn what_it_forbids_is_told_precisely() {
    for (params, told) in [
        ("{ between: [app, ap], delay: { mean: 5ms } }", "there is no role or workload `ap`; did you mean `app`?"),
        ("{ between: [app], delay: { mean: 5ms } }", "this has 1 items; exactly 2 must stand here"),
        ("{ between: [app, app], delay: { mean: 5 } }", "`5` is a number without a unit; write a duration"),
        ("{ between: [app, app], delay: { meen: 5ms } }", "`meen` is not known here; did you mean `mean`?"),
        ("{ between: [app, app], delay: { mean: 5ms, ratio: 5 } }", "`5` is a number without a unit; write percent"),
        ("{ between: [app, app], delay: { mean: 5ms, count: -1 } }", "`-1` is too small; a whole number from 0"),
        (
            "{ between: [app, app], delay: { mean: 5ms }, shape: norml }",
            "`norml` is not possible here; did you mean `normal`?",
        ),
        ("{ between: [app, app], delay: { mean: 5ms }, shape: { table: [5] } }", "`5` is a number without a unit"),
        ("{ between: [app, app], delay: { mean: 5ms }, spare: 'app[9]' }", "there is no `app[9]`; `app` has 3"),
        (
            "{ between: [app, app], delay: { mean: 5ms }, by_step: { login: 2ms..1ms } }",
            "runs backwards; write the shorter",
        ),
    ] {
        let problems = scenario(params).unwrap_err();
        assert!(problems.contains(told), "{params}: {problems}");
        assert_eq!(problems.lines().count(), 1, "{problems}");
    }
}

#[test]
fn selectors_are_found_wherever_the_schema_has_them() {
    let scenario =
        scenario("{ between: ['app[0]', 'not app[0]'], delay: { mean: 5ms }, spare: any 1 of app }").unwrap();
    let agent =
        |i| AgentFacts { name: format!("n{i}"), labels: Default::default(), cores: 1, capabilities: Vec::new() };
    let agents: Vec<AgentFacts> = (0..3).map(agent).collect();
    let plan = bind(&scenario, &with_latency(), &agents, 5, Isolation::Shared).unwrap();
    let selected = &plan.faults[0].selected;
    assert_eq!(selected.keys().collect::<Vec<_>>(), ["/between/0", "/between/1", "/spare"]);
    assert_eq!(selected["/between/1"].len(), 2);
}
