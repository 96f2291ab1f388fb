//! Nodes, and which of them reach a volume.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;

use super::created;

/// A node gets the labels of its storage drivers a moment after it is registered, also when it was
/// registered again.
const SETTLED: Duration = Duration::from_mins(2);

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
    /// When it was registered.
    pub created: Timestamp,
    /// Whether its kubelet reports that it is ready.
    pub ready: bool,
    /// Since when its kubelet has not been ready, as far as it is known.
    pub unready_since: Option<Timestamp>,
    /// Whether it is cordoned: it gets no new pods.
    pub unschedulable: bool,
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

    /// The node, if it is known.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Node> {
        match self {
            Self::Unreadable => None,
            Self::Known(nodes) => nodes.iter().find(|node| node.name == name),
        }
    }

    /// Whether it is known that no node will meet one of these terms: none does, and they name
    /// certain nodes. A zone without nodes may get one at any moment, from an autoscaler that waits
    /// for a pod to need it.
    #[must_use]
    pub fn none_will_meet(&self, terms: &[NodeTerm], now: Timestamp) -> bool {
        let may_get_labels = |node: &Node| {
            let age = now.duration_since(node.created);
            age.unsigned_abs() < SETTLED && terms.iter().any(|term| term.lacks_labels(node))
        };
        self.none_meets(terms)
            && !terms.iter().any(NodeTerm::is_wide)
            && !matches!(self, Self::Known(nodes) if nodes.iter().any(may_get_labels))
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
        let condition = conditions.find(|condition| condition.type_ == "Ready");
        let ready = condition.is_some_and(|condition| condition.status == "True");
        let since = condition.and_then(|condition| condition.last_transition_time.as_ref());
        Some(Self {
            name: object.metadata.name.clone()?,
            labels: object.metadata.labels.clone().unwrap_or_default(),
            created: created(&object.metadata),
            ready,
            unready_since: since.filter(|_| !ready).map(|time| time.0),
            unschedulable: object
                .spec
                .as_ref()
                .and_then(|spec| spec.unschedulable)
                .unwrap_or_default(),
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
        // Kubernetes' own keys, and those of CSI drivers: `topology.csi.vmware.com/k8s-zone`.
        let of_zone = |requirement: &Requirement| {
            requirement.key.ends_with("zone") || requirement.key.ends_with("region")
        };
        self.fields.is_empty() && !self.labels.is_empty() && self.labels.iter().all(of_zone)
    }

    /// Whether the node has none of the labels that the term asks for, not even with other values.
    fn lacks_labels(&self, node: &Node) -> bool {
        let lacks = |requirement: &Requirement| !node.labels.contains_key(&requirement.key);
        !self.labels.is_empty() && self.labels.iter().all(lacks)
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
            created: Timestamp::UNIX_EPOCH,
            ready: true,
            unready_since: None,
            unschedulable: false,
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
