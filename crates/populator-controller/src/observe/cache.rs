//! The cache that the watches fill, and the world of one claim from it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use k8s_openapi::{
    api::{core::v1 as core, storage::v1::StorageClass as StorageClassObject},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{core::DynamicObject, runtime::watcher::Event};
use populator_api::{
    GROUP, OpenstackVolumePopulator, OvirtVolumePopulator, PopulatorStatus, names,
};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;

use super::table::{Change, Key, Row, Table};
use crate::namespaces::Scope;
use population::model::{
    Claim, Grant, Kind, Lookup, Node, Nodes, Pod, PopulatorSpec, StorageClass, TemporaryClaim, Uid,
    Volume, World,
};

/// Namespace and name of an object.
pub type Name = (String, String);

/// Reference to a populator resource.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PopulatorRef {
    /// Kind of the resource.
    pub kind: Kind,
    /// Namespace of the resource.
    pub namespace: String,
    /// Name of the resource.
    pub name: String,
}

impl Key for Name {
    fn namespace(&self) -> Option<&str> {
        Some(&self.0)
    }
}

impl Key for PopulatorRef {
    fn namespace(&self) -> Option<&str> {
        Some(&self.namespace)
    }
}

/// A populator resource in the cache.
#[derive(Debug, Clone, PartialEq)]
pub struct Populator {
    /// Kind, namespace and name.
    pub name: PopulatorRef,
    /// UID, the precondition of writes to its status.
    pub uid: Uid,
    /// Version of the resource, which grows with each write of it; 0 when it is no number.
    pub version: u64,
    /// Generation of the spec, for `observedGeneration`.
    pub generation: Option<i64>,
    /// The spec, or why it cannot be read.
    pub spec: Result<PopulatorSpec, String>,
    /// The status that the API server holds.
    pub status: Arc<PopulatorStatus>,
}

/// A claim in one or both of its roles: a target has a `dataSourceRef` to us, a temporary claim has
/// the name of one.
#[derive(Debug, Clone, PartialEq)]
struct AnyClaim {
    /// Shared with what reports on the claim.
    target: Option<Arc<Claim>>,
    temporary: Option<Box<TemporaryClaim>>,
}

/// Which labels of nodes are kept. A node has hundreds of them, and volumes name a few.
#[derive(Debug)]
struct NodeLabels {
    /// Those that volumes name.
    wanted: BTreeSet<String>,
    /// Those that were wanted when the list under way began.
    listing: BTreeSet<String>,
    /// Those that the cached nodes have, if they have them at all.
    listed: BTreeSet<String>,
    /// Notified when more are wanted than are listed.
    grown: Arc<Notify>,
}

impl Default for NodeLabels {
    /// With the labels that most local and zonal volumes name, so that the first of them does not
    /// have the nodes listed again, during which nothing is known of them.
    fn default() -> Self {
        let common = ["kubernetes.io/hostname", "topology.kubernetes.io/zone"];
        Self {
            wanted: common.map(str::to_owned).into(),
            listing: BTreeSet::new(),
            listed: BTreeSet::new(),
            grown: Arc::default(),
        }
    }
}

/// The objects that the watches show.
#[derive(Debug, Default)]
pub struct Cache {
    claims: Table<Name, AnyClaim>,
    /// Namespace and name of the target with a UID.
    names: HashMap<Uid, Name>,
    pods: Table<Name, Pod>,
    volumes: Table<String, Volume>,
    classes: Table<String, StorageClass>,
    resources: BTreeMap<Kind, Table<PopulatorRef, Populator>>,
    nodes: Table<String, Node>,
    nodes_are_known: bool,
    labels: NodeLabels,
    /// The nodes as one value, which all worlds share.
    node_list: Arc<[Node]>,
}

impl Cache {
    /// Applies an event of the watch of claims in a scope; returns the UIDs of the claims to reconcile.
    pub fn claims(
        &mut self,
        scope: &Scope,
        event: Event<core::PersistentVolumeClaim>,
    ) -> HashSet<Uid> {
        let changes = self.claims.take(scope, event, |object| {
            let name = object.metadata.name.as_deref()?;
            let target = Claim::from_object(object).filter(|claim| claim.reference.group == GROUP);
            let temporary =
                claim_of_temporary(name).and_then(|_| TemporaryClaim::from_object(object));
            let is_ours = target.is_some() || temporary.is_some();
            let any = || AnyClaim {
                target: target.map(Arc::new),
                temporary: temporary.map(Box::new),
            };
            Some(Row {
                key: (object.metadata.namespace.clone()?, name.to_owned()),
                value: is_ours.then(any),
            })
        });
        let mut affected = HashSet::new();
        for Change { before, after } in changes {
            if let Some(claim) = before.as_ref().and_then(|any| any.target.as_ref()) {
                self.names.remove(&claim.uid);
                affected.insert(claim.uid.clone());
            }
            if let Some(claim) = after.as_ref().and_then(|any| any.target.as_ref()) {
                let name = (claim.namespace.clone(), claim.name.clone());
                self.names.insert(claim.uid.clone(), name);
                affected.insert(claim.uid.clone());
            }
            let temporaries = [&before, &after].into_iter().flatten();
            let temporaries = temporaries.filter_map(|any| any.temporary.as_ref());
            affected
                .extend(temporaries.filter_map(|temporary| claim_of_temporary(&temporary.name)));
        }
        affected
    }

    /// Applies an event of the watch of pods; returns as above, like those below.
    pub fn pods(&mut self, scope: &Scope, event: Event<core::Pod>) -> HashSet<Uid> {
        let changes = self.pods.take(scope, event, |object| {
            let metadata = &object.metadata;
            Some(Row {
                key: (metadata.namespace.clone()?, metadata.name.clone()?),
                value: Pod::from_object(object),
            })
        });
        both(&changes)
            .filter_map(|pod| claim_of_pod(&pod.name))
            .collect()
    }

    /// Applies an event of the watch of volumes.
    pub fn volumes(&mut self, event: Event<core::PersistentVolume>) -> HashSet<Uid> {
        let changes = self.volumes.take(&Scope::ALL, event, |object| {
            Some(Row {
                key: object.metadata.name.clone()?,
                value: Volume::from_object(object).filter(is_of_interest),
            })
        });
        for volume in changes.iter().filter_map(|change| change.after.as_ref()) {
            self.want_labels(volume);
        }
        let owners = both(&changes).filter_map(|volume| volume.claim.as_ref());
        owners
            .map(|claim| claim_of_temporary(&claim.name).unwrap_or_else(|| claim.uid.clone()))
            .collect()
    }

    /// Applies an event of the watch of storage classes.
    pub fn classes(&mut self, event: Event<StorageClassObject>) -> HashSet<Uid> {
        let changes = self.classes.take(&Scope::ALL, event, |object| {
            Some(Row {
                key: object.metadata.name.clone()?,
                value: StorageClass::from_object(object),
            })
        });
        let names: HashSet<&str> = both(&changes).map(|class| class.name.as_str()).collect();
        self.unbound()
            .filter(|claim| {
                claim
                    .class
                    .as_deref()
                    .is_some_and(|class| names.contains(class))
            })
            .map(|claim| claim.uid.clone())
            .collect()
    }

    /// Applies an event of the watch of populator resources of one kind. Our own writes to their
    /// status trigger no claim.
    pub fn resources(
        &mut self,
        kind: Kind,
        scope: &Scope,
        event: Event<DynamicObject>,
    ) -> HashSet<Uid> {
        let table = self.resources.entry(kind).or_default();
        let changes = table.take(scope, event, |object| {
            let name = PopulatorRef {
                kind,
                namespace: object.metadata.namespace.clone()?,
                name: object.metadata.name.clone()?,
            };
            let value = read_resource(&name, object);
            Some(Row { key: name, value })
        });
        let spec = |resource: &Option<Populator>| resource.as_ref().map(|it| it.spec.clone());
        let names: HashSet<&PopulatorRef> = changes
            .iter()
            .filter(|change| spec(&change.before) != spec(&change.after))
            .flat_map(|change| [&change.before, &change.after])
            .flatten()
            .map(|resource| &resource.name)
            .collect();
        if names.is_empty() {
            return HashSet::new();
        }
        self.targets()
            .filter(|claim| populator_ref(claim).is_some_and(|name| names.contains(&name)))
            .map(|claim| claim.uid.clone())
            .collect()
    }

    /// Applies an event of the watch of nodes. Until their first list is complete, nothing is
    /// concluded from a node's absence.
    pub fn nodes(&mut self, event: Event<core::Node>) -> HashSet<Uid> {
        let mut are_relisted = false;
        match event {
            Event::Init => self.labels.listing = self.labels.wanted.clone(),
            Event::InitDone => {
                self.nodes_are_known = true;
                are_relisted = self.labels.listed != self.labels.listing;
                self.labels.listed = self.labels.listing.clone();
            }
            _ => {}
        }
        let wanted = &self.labels.wanted;
        let changes = self.nodes.take(&Scope::ALL, event, |object| {
            let mut node = Node::from_object(object)?;
            node.labels.retain(|key, _| wanted.contains(key));
            Some(Row {
                key: node.name.clone(),
                value: Some(node),
            })
        });
        if changes.is_empty() && !are_relisted {
            return HashSet::new();
        }
        self.node_list = self.nodes.values().cloned().collect();
        let names: HashSet<&str> = both(&changes).map(|node| node.name.as_str()).collect();
        self.unbound()
            .filter(|claim| self.depends_on(claim, &names))
            .map(|claim| claim.uid.clone())
            .collect()
    }

    /// Whether something of the claim is on one of these nodes, or is to be; or its volume can be
    /// reached from certain nodes only.
    fn depends_on(&self, claim: &Claim, nodes: &HashSet<&str>) -> bool {
        let beside = |name: String| (claim.namespace.clone(), name);
        let uid = claim.uid.as_str();
        let temporary = self.claims.get(&beside(names::temporary_claim(uid)));
        let temporary = temporary.and_then(|any| any.temporary.as_deref());
        let pod = self.pods.get(&beside(names::pod(uid)));
        let volume = temporary.and_then(|temporary| self.volumes.get(temporary.volume.as_deref()?));
        let named = [
            claim.selected_node.as_deref(),
            temporary.and_then(|temporary| temporary.selected_node.as_deref()),
            pod.and_then(|pod| pod.node.as_deref()),
        ];
        named.into_iter().flatten().any(|name| nodes.contains(name))
            || volume.is_some_and(|volume| !volume.node_terms.is_empty())
    }

    /// Notified when nodes have to be listed again, with more labels.
    #[must_use]
    pub fn labels_are_wanted(&self) -> Arc<Notify> {
        Arc::clone(&self.labels.grown)
    }

    /// Keeps the labels of nodes that the volume names, from the next list on.
    pub fn want_labels(&mut self, volume: &Volume) {
        let before = self.labels.wanted.len();
        let keys = label_keys(volume).map(str::to_owned);
        self.labels.wanted.extend(keys);
        if self.labels.wanted.len() > before {
            self.labels.grown.notify_one();
        }
    }

    /// Whether the cached nodes have all labels that the volume names, if they have them at all.
    #[must_use]
    pub fn knows_labels(&self, volume: &Volume) -> bool {
        label_keys(volume).all(|key| self.labels.listed.contains(key))
    }

    /// The permission to read nodes is gone: the cached nodes may be out of date.
    pub fn forget_nodes(&mut self) {
        self.nodes_are_known = false;
    }

    /// The world of the claim with this UID, as far as the watches show it.
    ///
    /// It is cloned, so that the lock of the cache is held for a moment only. What the cache cannot
    /// know is left at its cautious value, which the observer replaces: no grant, no warning.
    #[must_use]
    pub fn world(&self, claim_uid: &Uid) -> Option<World> {
        let name = self.names.get(claim_uid)?;
        let claim = self.claims.get(name)?.target.as_deref()?.clone();
        let beside = |name: String| (claim.namespace.clone(), name);
        // Found by name and not by owner: an object of another owner under that name is part of the
        // world too, since it is in the way.
        let temporary = self
            .claims
            .get(&beside(names::temporary_claim(claim_uid.as_str())))
            .and_then(|any| any.temporary.as_deref().cloned());
        let resource = populator_ref(&claim).and_then(|name| self.resource(&name));
        let class = claim
            .class
            .as_deref()
            .and_then(|name| self.classes.get(name));
        let volume = self.volume_of(&claim, temporary.as_ref());
        Some(World {
            populator: match resource.map(|resource| &resource.spec) {
                Some(Ok(populator)) => match populator.clone().for_claim(&claim) {
                    Ok(populator) => Lookup::Found(populator),
                    Err(why) => Lookup::Invalid(why.to_string()),
                },
                Some(Err(why)) => Lookup::Invalid(why.clone()),
                None => Lookup::Missing,
            },
            grant: if claim.populator_namespace() == claim.namespace {
                Grant::NotNeeded
            } else {
                Grant::Missing
            },
            class: class.map_or(Lookup::Missing, |class| Lookup::Found(class.clone())),
            pod: self
                .pods
                .get(&beside(names::pod(claim_uid.as_str())))
                .cloned(),
            pod_warning: None,
            provisioning_warning: None,
            is_short_of_quota: false,
            nodes: if self.nodes_are_known && volume.is_none_or(|volume| self.knows_labels(volume))
            {
                Nodes::Known(Arc::clone(&self.node_list))
            } else {
                Nodes::Unreadable
            },
            volume: volume.cloned(),
            temporary,
            claim,
        })
    }

    /// The claim with this UID, shared.
    #[must_use]
    pub fn claim(&self, claim_uid: &Uid) -> Option<Arc<Claim>> {
        let name = self.names.get(claim_uid)?;
        self.claims.get(name)?.target.clone()
    }

    /// The populator resource with this name, if it exists.
    #[must_use]
    pub fn resource(&self, name: &PopulatorRef) -> Option<&Populator> {
        self.resources.get(&name.kind)?.get(name)
    }

    /// Every populator resource.
    pub fn all_resources(&self) -> impl Iterator<Item = &Populator> {
        self.resources.values().flat_map(Table::values)
    }

    /// Every populator resource that a claim refers to, also if it does not exist.
    pub fn all_references(&self) -> impl Iterator<Item = PopulatorRef> {
        self.targets().filter_map(populator_ref)
    }

    /// UIDs of all targets, populated or not.
    #[must_use]
    pub fn all_claims(&self) -> Vec<Uid> {
        self.names.keys().cloned().collect()
    }

    /// UIDs of claims that are gone and whose pods are left.
    #[must_use]
    pub fn gone_claims(&self) -> HashSet<Uid> {
        let pods = self.pods.values();
        pods.filter_map(|pod| claim_of_pod(&pod.name))
            .filter(|uid| !self.names.contains_key(uid))
            .collect()
    }

    /// Every pod that the claim in its name owns, with the UID of that claim.
    pub fn all_pods(&self) -> impl Iterator<Item = (Uid, &Name, &Pod)> {
        let owned = |(name, pod)| {
            let (name, pod): (&Name, &Pod) = (name, pod);
            let claim = claim_of_pod(&pod.name)?;
            // UIDs of claims are no secrets: a pod of another namespace may name one.
            let (namespace, _) = self.names.get(&claim)?;
            let is_owner = *namespace == name.0 && pod.owners.contains(&claim);
            is_owner.then_some((claim, name, pod))
        };
        self.pods.iter().filter_map(owned)
    }

    /// Pods named after the claim with this UID, with their namespaces, regardless of their owners.
    #[must_use]
    pub fn pods_of(&self, claim_uid: &Uid) -> Vec<(String, Pod)> {
        self.pods
            .iter()
            .filter(|(_, pod)| claim_of_pod(&pod.name).as_ref() == Some(claim_uid))
            .map(|((namespace, _), pod)| (namespace.clone(), pod.clone()))
            .collect()
    }

    /// The one volume that matters for the claim.
    fn volume_of(&self, claim: &Claim, temporary: Option<&TemporaryClaim>) -> Option<&Volume> {
        // A claim that names a volume can get no other one, whatever was filled for it beside that.
        if let Some(name) = &claim.volume {
            return self.volumes.get(name.as_str());
        }
        // Before the temporary claim's: after a rebind and until Kubernetes has bound the claim,
        // only the volume's reference shows that the rebind is done, also when the temporary claim
        // is gone or has got a second volume.
        let rebound = self.volumes.values().find(|volume| {
            let owner = volume.claim.as_ref();
            owner.is_some_and(|owner| owner.uid == claim.uid)
        });
        rebound.or_else(|| self.volumes.get(temporary?.volume.as_deref()?))
    }

    fn targets(&self) -> impl Iterator<Item = &Claim> {
        self.claims.values().filter_map(|any| any.target.as_deref())
    }

    fn unbound(&self) -> impl Iterator<Item = &Claim> {
        self.targets().filter(|claim| claim.volume.is_none())
    }
}

/// The populator resource that a claim refers to, if this controller knows its kind.
#[must_use]
pub fn populator_ref(claim: &Claim) -> Option<PopulatorRef> {
    Some(PopulatorRef {
        kind: Kind::from_name(&claim.reference.kind)?,
        namespace: claim.populator_namespace().to_owned(),
        name: claim.reference.name.clone(),
    })
}

/// The resource version as a number, by which two versions of one object are ordered
/// (<https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions>).
#[must_use]
pub fn version_of(metadata: &ObjectMeta) -> Option<u64> {
    metadata.resource_version.as_ref()?.parse().ok()
}

/// Volumes of claims that this controller does not serve are not cached. A volume that one of its
/// claims got from another provisioner is read when it is needed.
fn is_of_interest(volume: &Volume) -> bool {
    let owner = volume.claim.as_ref();
    volume.populated_from.is_some()
        || volume.populated_for.is_some()
        || owner.is_some_and(|owner| claim_of_temporary(&owner.name).is_some())
}

fn read_resource(name: &PopulatorRef, object: &DynamicObject) -> Option<Populator> {
    let status = object.data.get("status").cloned();
    Some(Populator {
        name: name.clone(),
        uid: object.metadata.uid.clone()?.into(),
        version: version_of(&object.metadata).unwrap_or_default(),
        generation: object.metadata.generation,
        spec: match name.kind {
            Kind::Ovirt => spec_of(object).and_then(|spec| {
                let mut typed = OvirtVolumePopulator::new(&name.name, spec);
                typed.metadata = object.metadata.clone();
                PopulatorSpec::from_ovirt(&typed).map_err(|error| error.to_string())
            }),
            Kind::Openstack => spec_of(object).and_then(|spec| {
                let mut typed = OpenstackVolumePopulator::new(&name.name, spec);
                typed.metadata = object.metadata.clone();
                PopulatorSpec::from_openstack(&typed).map_err(|error| error.to_string())
            }),
        },
        // The next write replaces a status that cannot be read.
        status: status
            .and_then(|status| serde_json::from_value(status).ok())
            .map(Arc::new)
            .unwrap_or_default(),
    })
}

/// The typed spec. Resources are parsed one at a time, so that a malformed one does not end the
/// watch.
fn spec_of<S: DeserializeOwned>(object: &DynamicObject) -> Result<S, String> {
    let spec = object.data.get("spec").cloned().unwrap_or_default();
    serde_json::from_value(spec).map_err(|error| format!("spec: {error}"))
}

/// The labels of nodes that a volume names.
fn label_keys(volume: &Volume) -> impl Iterator<Item = &str> {
    let requirements = volume.node_terms.iter().flat_map(|term| &term.labels);
    requirements.map(|requirement| requirement.key.as_str())
}

fn both<V>(changes: &[Change<V>]) -> impl Iterator<Item = &V> {
    changes
        .iter()
        .flat_map(|change| [&change.before, &change.after])
        .flatten()
}

/// UID of the claim whose temporary claim has this name.
fn claim_of_temporary(name: &str) -> Option<Uid> {
    uid_after(name, &names::temporary_claim(""))
}

fn claim_of_pod(name: &str) -> Option<Uid> {
    uid_after(name, &names::pod(""))
}

fn uid_after(name: &str, prefix: &str) -> Option<Uid> {
    let uid = name.strip_prefix(prefix).filter(|rest| !rest.is_empty());
    uid.map(Uid::from)
}
