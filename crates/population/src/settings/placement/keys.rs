//! Labels and annotations that an installation may choose: valid ones, and none that has a meaning for the
//! controller, Forklift or Kubernetes.

use std::collections::BTreeMap;

use populator_api::names::{annotation, is_object_name, label};

use super::MOST_SHOWN;
use crate::text;

/// The label that the controller asks of a node.
pub(crate) const OPERATING_SYSTEM: &str = "kubernetes.io/os";

/// Domains, with all below them, of keys that others read. What CDI finds on a claim starts an import, and what
/// Forklift finds on one makes it a disk.
const RESERVED_DOMAINS: [&str; 4] = ["k8s.io", "konveyor.io", "kubernetes.io", "kubevirt.io"];
/// The one below them whose keys are for people
/// (<https://kubernetes.io/docs/concepts/overview/working-with-objects/common-labels/>).
const FREE_DOMAIN: &str = "app.kubernetes.io";
/// Keys of other domains, or of none, that the controller sets or Forklift selects by.
const RESERVED: [&str; 14] = [
    label::MIGRATION,
    label::PLAN,
    label::VM_ID,
    label::DISK_ID,
    label::IMAGE_ID,
    label::CLAIM_NAME,
    label::VELERO_EXCLUDE,
    label::ISTIO_INJECT,
    annotation::RECREATIONS,
    annotation::NETWORKS,
    annotation::LINKERD_INJECT,
    annotation::DO_NOT_DISRUPT,
    // Of the pods by which Forklift has the scheduler choose a node.
    "forklift.app",
    // The controller's Service and NetworkPolicy select by it.
    "app.kubernetes.io/name",
];

/// Prefix of the classes that keep a node or a cluster alive.
const SYSTEM_PRIORITIES: &str = "system-";

pub(super) fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), String> {
    labels.iter().try_for_each(|(key, value)| {
        check_key(key).map_err(|why| format!("a key {why}"))?;
        check_free(key)?;
        check_value(value).map_err(|why| format!("{key} {why}"))
    })
}

pub(super) fn check_annotations(annotations: &BTreeMap<String, String>) -> Result<(), String> {
    annotations.keys().try_for_each(|key| {
        check_key(key).map_err(|why| format!("a key {why}"))?;
        check_free(key)
    })
}

pub(super) fn check_node_selector(labels: &BTreeMap<String, String>) -> Result<(), String> {
    labels.iter().try_for_each(|(key, value)| {
        check_key(key).map_err(|why| format!("a key {why}"))?;
        if key == OPERATING_SYSTEM {
            return Err(format!("{key} is set by the controller; remove it"));
        }
        check_value(value).map_err(|why| format!("{key} {why}"))
    })
}

pub(super) fn check_priority_class(name: &str) -> Result<(), String> {
    if name.starts_with(SYSTEM_PRIORITIES) {
        let shown = text::plain(name, MOST_SHOWN);
        return Err(format!(
            "{shown:?} is for what the cluster itself needs; name a class of your own"
        ));
    }
    Ok(())
}

/// Whether the text is the key of a label or an annotation: a name of at most 63 characters, which may follow a domain
/// and a slash (<https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set>).
pub(super) fn check_key(key: &str) -> Result<(), String> {
    let (is_domain, name) = match key.split_once('/') {
        Some((domain, name)) => (is_object_name(domain), name),
        None => (true, key),
    };
    if is_domain && !name.is_empty() && label::is_valid_value(name) {
        return Ok(());
    }
    let shown = text::plain(key, MOST_SHOWN);
    Err(format!(
        "is {shown:?}, which is no key of a label or an annotation; give one such as \"team\" or \"example.org/team\""
    ))
}

/// Whether the value may be that of a label.
pub(super) fn check_value(value: &str) -> Result<(), String> {
    if label::is_valid_value(value) {
        return Ok(());
    }
    let shown = text::plain(value, MOST_SHOWN);
    Err(format!(
        "is {shown:?}, which is no value of a label; give at most 63 letters, digits, \"-\", \"_\" and \".\", with a letter or a \
         digit at both ends"
    ))
}

fn check_free(key: &str) -> Result<(), String> {
    let domain = key.split_once('/').map_or(key, |(domain, _)| domain);
    let is_in = |parent: &&str| {
        let above = domain.strip_suffix(*parent);
        above.is_some_and(|above| above.is_empty() || above.ends_with('.'))
    };
    let is_reserved = domain != FREE_DOMAIN && RESERVED_DOMAINS.iter().any(is_in);
    if is_reserved || RESERVED.contains(&key) {
        return Err(format!(
            "{key} has a meaning for the controller, Forklift or Kubernetes; remove it"
        ));
    }
    Ok(())
}
