//! Where populator pods run, and what an installation adds to them and to temporary claims.
//!
//! A value that cannot be is an error of the start: ignored, it would put pods where they must not run. Of a
//! Deployment that is updated, the old pod goes on serving.

mod ca_bundle;
mod keys;
mod scheduling;
#[cfg(test)]
mod tests;
mod yaml;

pub use ca_bundle::CaBundle;
pub(crate) use keys::OPERATING_SYSTEM;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, Toleration};
use populator_api::names::is_object_name;

use super::variable;
use crate::text;

/// So much of a wrong name or value is shown, in bytes.
const MOST_SHOWN: usize = 64;

/// What values in YAML look like.
const TOLERATIONS: &str = "a list such as [{key: dedicated, operator: Exists}]";
const MAPPING: &str = "a mapping such as {disktype: ssd}";
const AFFINITY: &str =
    "a mapping with nodeAffinity, podAffinity or podAntiAffinity, as in the spec of a pod";

/// What the installation says about populator pods and temporary claims, beside what the controller sets. Empty
/// for an installation that says nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Placement {
    /// Taints that the pods tolerate.
    pub tolerations: Vec<Toleration>,
    /// Labels that a node of the pods has, beside the operating system that the controller asks for.
    pub node_selector: BTreeMap<String, String>,
    /// Nodes, and neighbours, that the pods prefer or need.
    pub affinity: Option<Affinity>,
    /// Name of the pods' `PriorityClass`.
    pub priority_class: Option<String>,
    /// Name of the pods' `RuntimeClass`.
    pub runtime_class: Option<String>,
    /// Names of the secrets, in the claims' namespaces, that nodes pull the movers' images with.
    pub image_pull_secrets: Vec<String>,
    /// The certificates, in the claims' namespaces, that the movers trust beside the system's.
    pub ca_bundle: Option<CaBundle>,
    /// Labels of pods and temporary claims.
    pub labels: BTreeMap<String, String>,
    /// Annotations of pods and temporary claims.
    pub annotations: BTreeMap<String, String>,
}

/// A variable whose value cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the variable {variable}: {problem}")]
pub struct InvalidPlacement {
    /// Its name.
    pub variable: &'static str,
    /// Which part of the value is wrong, and what to do about it.
    pub problem: String,
}

impl Placement {
    /// The placement in an environment. `get` returns the value of a variable; an empty one counts as absent.
    ///
    /// # Errors
    /// The first variable that holds what cannot be.
    pub fn from_environment(
        get: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, InvalidPlacement> {
        let of = |variable| Variable::of(variable, &get);
        let mut placement = Self::default();
        if let Some(found) = of(variable::TOLERATIONS) {
            placement.tolerations = found.parse(TOLERATIONS)?;
            found.check(scheduling::check_tolerations(&placement.tolerations))?;
        }
        if let Some(found) = of(variable::NODE_SELECTOR) {
            placement.node_selector = found.parse(MAPPING)?;
            found.check(keys::check_node_selector(&placement.node_selector))?;
        }
        if let Some(found) = of(variable::AFFINITY) {
            let affinity: Affinity = found.parse(AFFINITY)?;
            found.check(scheduling::check_affinity(&affinity))?;
            placement.affinity = Some(affinity).filter(|given| *given != Affinity::default());
        }
        if let Some(found) = of(variable::PRIORITY_CLASS) {
            placement.priority_class = Some(found.name(&found.value)?);
            found.check(keys::check_priority_class(&found.value))?;
        }
        if let Some(found) = of(variable::RUNTIME_CLASS) {
            placement.runtime_class = Some(found.name(&found.value)?);
        }
        if let Some(found) = of(variable::IMAGE_PULL_SECRETS) {
            let names = found.value.split(',').map(str::trim);
            let names = names.filter(|name| !name.is_empty());
            placement.image_pull_secrets = names
                .map(|name| found.name(name))
                .collect::<Result<_, _>>()?;
        }
        if let Some(found) = of(variable::CA_BUNDLE) {
            let parsed = CaBundle::parse(&found.value);
            placement.ca_bundle = Some(parsed.map_err(|problem| found.problem(problem))?);
        }
        if let Some(found) = of(variable::LABELS) {
            placement.labels = found.parse(MAPPING)?;
            found.check(keys::check_labels(&placement.labels))?;
        }
        if let Some(found) = of(variable::ANNOTATIONS) {
            placement.annotations = found.parse(MAPPING)?;
            found.check(keys::check_annotations(&placement.annotations))?;
        }
        Ok(placement)
    }
}

/// A variable that is set.
struct Variable {
    name: &'static str,
    /// Without blanks around it; not empty.
    value: String,
}

impl Variable {
    fn of(name: &'static str, get: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let value = get(name)?.trim().to_owned();
        (!value.is_empty()).then_some(Self { name, value })
    }

    fn check(&self, outcome: Result<(), String>) -> Result<(), InvalidPlacement> {
        outcome.map_err(|problem| self.problem(problem))
    }

    const fn problem(&self, problem: String) -> InvalidPlacement {
        InvalidPlacement {
            variable: self.name,
            problem,
        }
    }

    /// The value, of YAML in this form.
    fn parse<T>(&self, form: &str) -> Result<T, InvalidPlacement>
    where
        T: serde::de::DeserializeOwned + serde::Serialize,
    {
        yaml::parse(&self.value, form).map_err(|problem| self.problem(problem))
    }

    /// The name of an object, as the value or a part of it gives it.
    fn name(&self, name: &str) -> Result<String, InvalidPlacement> {
        let problem = || {
            let shown = text::plain(name, MOST_SHOWN);
            Err(format!(
                "{shown:?} is no name of an object; give lower case letters, digits, \"-\" and \".\""
            ))
        };
        if !is_object_name(name) {
            self.check(problem())?;
        }
        Ok(name.to_owned())
    }
}
