//! A scenario file, typed. The schema of the language comes from these types, and the model comes from their values.
//!
//! Every place that goes through the keys of a mapping takes the mapping apart without `..`, or matches its keys without `_`: a key that
//! is forgotten in one of them does not compile. Keys of plugins are not here; the catalogue has them.

pub mod check;
pub mod fault;
pub mod profile;
pub mod role;
pub mod workload;

use indexmap::IndexMap;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use super::links::Links;
use super::model::{Guards, Needs, OnAgentLoss, PhaseSpec, Scenario, Tier};
use super::shape::{self, By, NewName};
use check::CheckFile;
use fault::FaultFile;
use profile::Profile;
use role::RoleFile;
use workload::WorkloadFile;

/// What `schema:` says in a file.
pub const VERSION: &str = "gauntlet/v1";

/// The whole file, with its profile and its overrides in it.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Gauntlet scenario", description = "")]
pub struct ScenarioFile {
    /// The version of this language: gauntlet/v1.
    #[schemars(schema_with = "version")]
    pub schema: String,
    /// What `coordinator run` calls it.
    #[schemars(extend("format" = "name"))]
    pub name: String,
    /// One line for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub title: Option<String>,
    /// A paragraph for `coordinator show`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Tier")]
    pub tier: Option<Tier>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Needs")]
    pub needs: Option<Needs>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Links")]
    pub links: Option<Links>,
    /// The timeline: a list of { name, for }.
    #[schemars(length(min = 1, max = 100))]
    pub phases: Vec<PhaseSpec>,
    /// Services, by name.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    #[schemars(with = "By<NewName, RoleFile>")]
    pub roles: IndexMap<String, RoleFile>,
    /// Traffic, by name.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    #[schemars(with = "By<NewName, WorkloadFile>")]
    pub workloads: IndexMap<String, WorkloadFile>,
    /// Chaos: a list of { id, at, for, do }.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200))]
    pub faults: Vec<FaultFile>,
    /// Assertions: a list of expressions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500))]
    pub checks: Vec<CheckFile>,
    /// Other sizes of the same scenario, by name.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    #[schemars(with = "By<NewName, Profile>")]
    pub profiles: IndexMap<String, Profile>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "OnAgentLoss")]
    pub on_agent_loss: Option<OnAgentLoss>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Guards")]
    pub guards: Option<Guards>,
}

fn version(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "const": VERSION })
}

/// The keys of a [`ScenarioFile`], for code that goes by the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Section {
    Schema,
    Name,
    Title,
    Description,
    Tier,
    Needs,
    Links,
    Phases,
    Roles,
    Workloads,
    Faults,
    Checks,
    Profiles,
    OnAgentLoss,
    Guards,
}

/// Does not compile unless every field has a key and every key a field.
const _: fn(&ScenarioFile, Section) -> usize = |file, section| {
    let ScenarioFile {
        schema,
        name,
        title,
        description,
        tier,
        needs,
        links,
        phases,
        roles,
        workloads,
        faults,
        checks,
        profiles,
        on_agent_loss,
        guards,
    } = file;
    match section {
        Section::Schema => size_of_val(schema),
        Section::Name => size_of_val(name),
        Section::Title => size_of_val(title),
        Section::Description => size_of_val(description),
        Section::Tier => size_of_val(tier),
        Section::Needs => size_of_val(needs),
        Section::Links => size_of_val(links),
        Section::Phases => size_of_val(phases),
        Section::Roles => size_of_val(roles),
        Section::Workloads => size_of_val(workloads),
        Section::Faults => size_of_val(faults),
        Section::Checks => size_of_val(checks),
        Section::Profiles => size_of_val(profiles),
        Section::OnAgentLoss => size_of_val(on_agent_loss),
        Section::Guards => size_of_val(guards),
    }
};

impl Section {
    /// The section that a key is.
    pub fn of(key: &str) -> Option<Self> {
        shape::key(key)
    }

    /// Whether its entries have names of the user's; of those only existing ones can be changed from the command line.
    pub fn is_named(self) -> bool {
        match self {
            Self::Phases | Self::Roles | Self::Workloads | Self::Faults | Self::Profiles => true,
            Self::Schema
            | Self::Name
            | Self::Title
            | Self::Description
            | Self::Tier
            | Self::Needs
            | Self::Links
            | Self::Checks
            | Self::OnAgentLoss
            | Self::Guards => false,
        }
    }
}

impl ScenarioFile {
    /// The model. `profile` and `set` were applied before the file was read; `not_judged` are the checks, by index, that the profile is
    /// too short to judge.
    pub fn scenario(self, profile: &str, set: Vec<String>, not_judged: &[usize]) -> Scenario {
        let Self {
            // The checker has held it against the one that there is.
            schema: _,
            name,
            title,
            description,
            tier,
            needs,
            links,
            phases,
            roles,
            workloads,
            faults,
            checks,
            // They have changed the tree that this was read from.
            profiles: _,
            on_agent_loss,
            guards,
        } = self;
        let roles: IndexMap<_, _> = roles.into_iter().map(|(name, role)| (name, role.spec())).collect();
        let agents = roles.values().map(|role| role.on).max().unwrap_or(1);
        Scenario {
            title: title.unwrap_or_else(|| name.clone()),
            name,
            description: description.unwrap_or_default(),
            tier: tier.unwrap_or(Tier::Custom),
            profile: profile.into(),
            set,
            needs: needs.unwrap_or(Needs { agents, labels: Vec::new() }),
            links,
            phases,
            roles,
            workloads: workloads.into_iter().map(|(name, workload)| (name, workload.model())).collect(),
            faults: faults.into_iter().map(FaultFile::spec).collect(),
            checks: checks.into_iter().enumerate().map(|(i, check)| check.spec(not_judged.contains(&i))).collect(),
            on_agent_loss: on_agent_loss.unwrap_or_default(),
            guards: guards.unwrap_or_default(),
        }
    }
}
