//! The formats of texts: quantities, names, and references to what the file names elsewhere.

use super::super::model::At;
use super::super::node::Node;
use super::{Checker, split_help};
use crate::fault::{Pool, Select};
use crate::nearest::{nearest, suggest};
use crate::{storage, units};

impl Checker<'_> {
    /// Holds a text against a `format`; one that is not known here is the plugin's to check.
    pub(super) fn format(&mut self, node: &Node, format: &str, value: &str) {
        if let Some(result) = units::check_format(format, value).or_else(|| storage::check_format(format, value)) {
            if let Err(error) = result {
                let (message, help) = split_help(&error.to_string());
                self.problem(node, message, help);
            }
            return;
        }
        let names = self.names;
        match format {
            // That the phases are missing is one problem, not as many as there are references to them.
            "phase" | "at" if names.phases.is_empty() => {}
            "name" => self.name(node, value),
            "phase" => self.reference(node, value, "phase", names.phases.iter().map(String::as_str)),
            "workload" => self.reference(node, value, "workload", names.workloads.iter().map(String::as_str)),
            "fault" => self.reference(node, value, "fault", names.faults.iter().map(String::as_str)),
            "role" => self.reference(node, value, "role", names.roles.iter().map(|(name, _)| name.as_str())),
            "target" if value.contains("://") => self.url(node, value),
            "target" => {
                let known = names.roles.iter().map(|(name, _)| name.as_str());
                if !names.roles.iter().any(|(name, _)| name == value) {
                    let help = match nearest(value, known.clone()) {
                        Some(near) => format!("did you mean `{near}`? a target is a role or a URL"),
                        None => "a target is a role of this file, or a URL: http://127.0.0.1:8080".to_string(),
                    };
                    self.problem(node, format!("there is no role `{value}`"), help);
                }
            }
            "at" => self.at(node, value),
            "label" => self.label(node, value),
            "select" => self.select(node, value),
            _ => {}
        }
    }

    fn label(&mut self, node: &Node, value: &str) {
        if !value.split_once('=').is_some_and(|(name, value)| !name.is_empty() && !value.is_empty()) {
            return self.problem(node, format!("`{value}` is no label"), "write name=value: cloud=aws");
        }
        self.known_label(node, value);
    }

    /// Where the file says which labels its agents have, others are mistakes.
    fn known_label(&mut self, node: &Node, label: &str) {
        let known = &self.names.labels;
        if !known.is_empty() && !known.iter().any(|known| known == label) {
            let help = suggest(label, "label", known.iter().map(String::as_str));
            self.problem(node, format!("no agent of `needs` has the label `{label}`"), help);
        }
    }

    fn name(&mut self, node: &Node, value: &str) {
        let first = value.chars().next().is_some_and(|c| c.is_ascii_lowercase());
        let rest = value.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-');
        if !(first && rest && value.len() <= 64) {
            let help =
                "a name begins with a lower-case letter, goes on with a-z, 0-9, - and _, and has at most 64 characters";
            self.problem(node, format!("`{value}` is no name"), help);
        }
    }

    fn reference<'n>(&mut self, node: &Node, value: &str, what: &str, known: impl Iterator<Item = &'n str> + Clone) {
        if !known.clone().any(|name| name == value) {
            let help = suggest(value, what, known);
            self.problem(node, format!("there is no {what} `{value}`"), help);
        }
    }

    fn url(&mut self, node: &Node, value: &str) {
        let (scheme, rest) = value.split_once("://").unwrap_or_default();
        let host = rest.split(['/', '?']).next().unwrap_or("");
        let port = host.rsplit_once(':').map(|(_, port)| port).filter(|port| !port.ends_with(']'));
        if host.is_empty() || scheme.is_empty() || value.contains(char::is_whitespace) {
            self.problem(node, format!("`{value}` is no URL"), "write scheme, host and port: http://127.0.0.1:8080/");
        } else if port.is_some_and(|port| port.parse::<u16>().is_err()) {
            self.problem(node, format!("`{value}` has no valid port"), "a port is a number from 0 to 65535");
        }
    }

    fn at(&mut self, node: &Node, value: &str) {
        match value.parse::<At>() {
            Err(error) => {
                let (message, help) = split_help(&error.to_string());
                self.problem(node, message, help);
            }
            Ok(At { phase: Some(phase), .. }) => {
                let names = self.names;
                self.reference(node, &phase, "phase", names.phases.iter().map(String::as_str));
            }
            Ok(At { phase: None, .. }) => {}
        }
    }

    fn select(&mut self, node: &Node, value: &str) {
        let select = match value.parse::<Select>() {
            Ok(select) => select,
            Err(error) => {
                let (message, help) = split_help(&error.to_string());
                return self.problem(node, message, help);
            }
        };
        let names = self.names;
        let known = names.roles.iter().map(|(name, _)| name.as_str()).chain(names.workloads.iter().map(String::as_str));
        let count = |name: &str| names.roles.iter().find(|(role, _)| role == name).map(|(_, count)| *count);
        match &select.of {
            Pool::Agent(_) => {}
            Pool::Label(..) => self.known_label(node, &select.of.to_string()),
            Pool::Name(name) => self.reference(node, name, "role or workload", known),
            Pool::Instance(name, instance) => match count(name) {
                None => self.reference(node, name, "role", names.roles.iter().map(|(name, _)| name.as_str())),
                Some(count) if u64::from(*instance) >= count => {
                    let help =
                        format!("`{name}` has {count}, numbered from 0: the last is {name}[{}]", count.max(1) - 1);
                    self.problem(node, format!("there is no `{value}`"), help);
                }
                Some(_) => {}
            },
        }
    }
}
