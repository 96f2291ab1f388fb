//! Nodes, and which of them reach a volume.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1 as core;

/// The cluster's nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Nodes {
    /// The controller may not read nodes: nothing is concluded from a node's absence.
    Unreadable,
    /// All nodes of the cluster.
    Known(Arc<[Node]>),
}

/// A node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Name, to which pods and claims refer.
    pub name: String,
    /// Labels, which the terms of volumes select.
    pub labels: BTreeMap<String, String>,
    /// Whether its kubelet reports that it is ready.
    pub ready: bool,
}

/// A set of requirements, all of which a node must meet. Without any, no node does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeTerm {
    /// Requirements on labels.
    pub labels: Vec<Requirement>,
    /// Requirements on fields; there is one field, `metadata.name`.
    pub fields: Vec<Requirement>,
}

/// What a label or field must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// Key of the label or field.
    pub key: String,
    /// `In`, `NotIn`, `Exists`, `DoesNotExist`, `Gt` or `Lt`.
    pub operator: String,
    /// The values that the operator compares with.
    pub values: Vec<String>,
}

impl Nodes {
    /// Whether a node is known not to exist.
    #[must_use]
    pub fn lacks(&self, name: &str) -> bool {
        match self {
            Self::Unreadable => false,
            Self::Known(nodes) => nodes.iter().all(|node| node.name != name),
        }
    }

    /// Whether a node is known not to answer, or not to exist.
    #[must_use]
    pub fn is_lost(&self, name: &str) -> bool {
        match self {
            Self::Unreadable => false,
            Self::Known(nodes) => !nodes.iter().any(|node| node.name == name && node.ready),
        }
    }

    /// Whether it is known that no node will meet one of these terms: none does, and they name
    /// certain nodes. A zone without nodes may get one at any moment, from an autoscaler that waits
    /// for a pod to need it.
    #[must_use]
    pub fn none_will_meet(&self, terms: &[NodeTerm]) -> bool {
        self.none_meets(terms) && !terms.iter().any(NodeTerm::is_wide)
    }

    fn none_meets(&self, terms: &[NodeTerm]) -> bool {
        match self {
            Self::Unreadable => false,
            Self::Known(_) if terms.is_empty() => false,
            Self::Known(nodes) => !nodes
                .iter()
                .any(|node| terms.iter().any(|term| term.is_met_by(node))),
        }
    }
}

impl Node {
    /// The node, if it has a name.
    #[must_use]
    pub fn from_object(object: &core::Node) -> Option<Self> {
        let conditions = object
            .status
            .as_ref()
            .and_then(|status| status.conditions.as_ref());
        let mut conditions = conditions.into_iter().flatten();
        Some(Self {
            name: object.metadata.name.clone()?,
            labels: object.metadata.labels.clone().unwrap_or_default(),
            ready: conditions
                .any(|condition| condition.type_ == "Ready" && condition.status == "True"),
        })
    }
}

impl NodeTerm {
    /// Converts a term of a node selector.
    #[must_use]
    pub fn from_object(term: &core::NodeSelectorTerm) -> Self {
        let requirements = |list: &Option<Vec<core::NodeSelectorRequirement>>| {
            let list = list.iter().flatten();
            list.map(|requirement| Requirement {
                key: requirement.key.clone(),
                operator: requirement.operator.clone(),
                values: requirement.values.clone().unwrap_or_default(),
            })
            .collect()
        };
        Self {
            labels: requirements(&term.match_expressions),
            fields: requirements(&term.match_fields),
        }
    }

    /// Whether it is about zones and regions only.
    fn is_wide(&self) -> bool {
        // Kubernetes' own keys, and those of the clouds' CSI drivers.
        let of_zone = |requirement: &Requirement| {
            requirement.key.ends_with("/zone") || requirement.key.ends_with("/region")
        };
        self.fields.is_empty() && !self.labels.is_empty() && self.labels.iter().all(of_zone)
    }

    fn is_met_by(&self, node: &Node) -> bool {
        let label = |requirement: &Requirement| {
            requirement.is_met_by(node.labels.get(&requirement.key).map(String::as_str))
        };
        let field = |requirement: &Requirement| {
            let value = (requirement.key == "metadata.name").then_some(node.name.as_str());
            requirement.is_met_by(value)
        };
        (!self.labels.is_empty() || !self.fields.is_empty())
            && self.labels.iter().all(label)
            && self.fields.iter().all(field)
    }
}

impl Requirement {
    fn is_met_by(&self, value: Option<&str>) -> bool {
        let is_listed = value.is_some_and(|value| self.values.iter().any(|listed| listed == value));
        let number = value.and_then(|value| value.parse::<i64>().ok());
        let limit = self
            .values
            .first()
            .and_then(|limit| limit.parse::<i64>().ok());
        match self.operator.as_str() {
            "In" => is_listed,
            "NotIn" => !is_listed,
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            "Gt" => number
                .zip(limit)
                .is_some_and(|(number, limit)| number > limit),
            "Lt" => number
                .zip(limit)
                .is_some_and(|(number, limit)| number < limit),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, labels: &[(&str, &str)]) -> Node {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        Node {
            name: name.to_owned(),
            labels: labels.iter().map(owned).collect(),
            ready: true,
        }
    }

    fn term(operator: &str, values: &[&str]) -> NodeTerm {
        let requirement = Requirement {
            key: "zone".to_owned(),
            operator: operator.to_owned(),
            values: values.iter().map(|value| (*value).to_owned()).collect(),
        };
        NodeTerm {
            labels: vec![requirement],
            fields: vec![],
        }
    }

    #[test]
    fn operators_mean_what_they_mean_to_the_scheduler() {
        let three = node("a", &[("zone", "3")]);
        let bare = node("b", &[]);
        for (operator, values, labelled, unlabelled) in [
            ("In", &["2", "3"][..], true, false),
            ("In", &["2"], false, false),
            ("NotIn", &["2"], true, true),
            ("NotIn", &["3"], false, true),
            ("Exists", &[], true, false),
            ("DoesNotExist", &[], false, true),
            ("Gt", &["2"], true, false),
            ("Lt", &["2"], false, false),
            ("Lt", &["x"], false, false),
            ("Like", &["3"], false, false),
        ] {
            let term = term(operator, values);
            assert_eq!(term.is_met_by(&three), labelled, "{operator} {values:?}");
            assert_eq!(term.is_met_by(&bare), unlabelled, "{operator} {values:?}");
        }
    }

    #[test]
    fn terms_are_alternatives_and_an_empty_one_matches_nothing() {
        let nodes = Nodes::Known([node("a", &[("zone", "3")])].into());
        let empty = NodeTerm {
            labels: vec![],
            fields: vec![],
        };
        assert!(!nodes.none_meets(&[]));
        assert!(nodes.none_meets(std::slice::from_ref(&empty)));
        assert!(!nodes.none_meets(&[empty, term("In", &["3"])]));
        assert!(nodes.none_meets(&[term("In", &["4"])]));
        assert!(!Nodes::Unreadable.none_meets(&[term("In", &["4"])]));
    }

    #[test]
    fn a_field_is_the_name() {
        let mut by_name = term("In", &["a"]);
        by_name.fields = std::mem::take(&mut by_name.labels);
        by_name.fields[0].key = "metadata.name".to_owned();
        assert!(by_name.is_met_by(&node("a", &[])));
        assert!(!by_name.is_met_by(&node("b", &[])));
    }

    #[test]
    fn what_cannot_be_read_is_never_lost() {
        let known = Nodes::Known([node("a", &[])].into());
        assert!(known.lacks("b") && known.is_lost("b"));
        assert!(!known.lacks("a") && !known.is_lost("a"));
        assert!(!Nodes::Unreadable.lacks("b") && !Nodes::Unreadable.is_lost("b"));
    }
}
