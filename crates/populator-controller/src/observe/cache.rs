//! What the watches show, and the world of one claim from it.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use k8s_openapi::api::{core::v1 as core, storage::v1::StorageClass as StorageClassObject};
use kube::{core::DynamicObject, runtime::watcher::Event};
use populator_api::{
    GROUP, OpenstackVolumePopulator, OvirtVolumePopulator, PopulatorStatus, names,
};
use serde::de::DeserializeOwned;

use super::table::{Change, Row, Table};
use population::model::{
    Claim, Grant, Kind, Lookup, Node, Nodes, Pod, PopulatorSpec, StorageClass, TemporaryClaim,
    Volume, World,
};

/// Namespace and name.
pub type Name = (String, String);

/// A populator resource.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PopulatorRef {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// What is kept of a populator resource.
#[derive(Debug, Clone, PartialEq)]
pub struct Populator {
    /// Whose it is.
    pub name: PopulatorRef,
    /// UID, the precondition of writes.
    pub uid: String,
    /// Generation of its spec.
    pub generation: Option<i64>,
    /// Where the disk is, or why that cannot be read.
    pub spec: Result<PopulatorSpec, String>,
    /// What was said of it.
    pub status: PopulatorStatus,
}

/// A claim to us: one that is to be populated, one that is being filled, or both.
#[derive(Debug, Clone, PartialEq)]
struct AnyClaim {
    target: Option<Claim>,
    temporary: Option<TemporaryClaim>,
}

/// What the watches show.
#[derive(Debug, Default)]
pub struct Cache {
    claims: Table<Name, AnyClaim>,
    /// Where the claim with a UID is.
    names: HashMap<String, Name>,
    pods: Table<Name, Pod>,
    volumes: Table<String, Volume>,
    classes: Table<String, StorageClass>,
    resources: BTreeMap<Kind, Table<PopulatorRef, Populator>>,
    nodes: Table<String, Node>,
    nodes_are_known: bool,
    /// The nodes as one value, which the worlds share.
    node_list: Arc<[Node]>,
}

impl Cache {
    /// Takes over what is said about claims; returns the UIDs of the claims to look at.
    pub fn claims(&mut self, event: Event<core::PersistentVolumeClaim>) -> HashSet<String> {
        let changes = self.claims.take(event, |object| {
            let name = object.metadata.name.as_deref()?;
            let target = Claim::from_object(object).filter(|claim| claim.reference.group == GROUP);
            let temporary =
                claim_of_temporary(name).and_then(|_| TemporaryClaim::from_object(object));
            let is_ours = target.is_some() || temporary.is_some();
            Some(Row {
                key: (object.metadata.namespace.clone()?, name.to_owned()),
                value: is_ours.then_some(AnyClaim { target, temporary }),
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
                .extend(temporaries.filter_map(|temporary| {
                    claim_of_temporary(&temporary.name).map(str::to_owned)
                }));
        }
        affected
    }

    /// The same about pods.
    pub fn pods(&mut self, event: Event<core::Pod>) -> HashSet<String> {
        let changes = self.pods.take(event, |object| {
            let metadata = &object.metadata;
            Some(Row {
                key: (metadata.namespace.clone()?, metadata.name.clone()?),
                value: Pod::from_object(object),
            })
        });
        both(&changes)
            .filter_map(|pod| claim_of_pod(&pod.name).map(str::to_owned))
            .collect()
    }

    /// The same about volumes.
    pub fn volumes(&mut self, event: Event<core::PersistentVolume>) -> HashSet<String> {
        let changes = self.volumes.take(event, |object| {
            Some(Row {
                key: object.metadata.name.clone()?,
                value: Volume::from_object(object).filter(is_of_interest),
            })
        });
        let owners = both(&changes).filter_map(|volume| volume.claim.as_ref());
        owners
            .map(|claim| {
                claim_of_temporary(&claim.name)
                    .unwrap_or(&claim.uid)
                    .to_owned()
            })
            .collect()
    }

    /// The same about storage classes.
    pub fn classes(&mut self, event: Event<StorageClassObject>) -> HashSet<String> {
        let changes = self.classes.take(event, |object| {
            Some(Row {
                key: object.metadata.name.clone()?,
                value: StorageClass::from_object(object),
            })
        });
        let different: HashSet<&str> = both(&changes).map(|class| class.name.as_str()).collect();
        self.unbound()
            .filter(|claim| {
                claim
                    .class
                    .as_deref()
                    .is_some_and(|class| different.contains(class))
            })
            .map(|claim| claim.uid.clone())
            .collect()
    }

    /// The same about populator resources of one kind. What we write into their status changes nothing.
    pub fn resources(&mut self, kind: Kind, event: Event<DynamicObject>) -> HashSet<String> {
        let table = self.resources.entry(kind).or_default();
        let changes = table.take(event, |object| {
            let name = PopulatorRef {
                kind,
                namespace: object.metadata.namespace.clone()?,
                name: object.metadata.name.clone()?,
            };
            let value = read_resource(&name, object);
            Some(Row { key: name, value })
        });
        let matters = |change: &&Change<Populator>| {
            let spec = |resource: &Option<Populator>| resource.as_ref().map(|it| it.spec.clone());
            spec(&change.before) != spec(&change.after)
        };
        let different: HashSet<&PopulatorRef> = changes
            .iter()
            .filter(matters)
            .flat_map(|change| [&change.before, &change.after])
            .flatten()
            .map(|resource| &resource.name)
            .collect();
        if different.is_empty() {
            return HashSet::new();
        }
        self.targets()
            .filter(|claim| populator_ref(claim).is_some_and(|name| different.contains(&name)))
            .map(|claim| claim.uid.clone())
            .collect()
    }

    /// The same about nodes. Until their list is complete nothing is concluded from a node's absence.
    pub fn nodes(&mut self, event: Event<core::Node>) -> HashSet<String> {
        self.nodes_are_known |= matches!(event, Event::InitDone);
        let changes = self.nodes.take(event, |object| {
            Some(Row {
                key: object.metadata.name.clone()?,
                value: Node::from_object(object),
            })
        });
        if changes.is_empty() {
            return HashSet::new();
        }
        self.node_list = self.nodes.values().cloned().collect();
        self.unbound().map(|claim| claim.uid.clone()).collect()
    }

    /// Nodes may not be read any more: what was known of them may be out of date.
    pub fn forget_nodes(&mut self) {
        self.nodes_are_known = false;
    }

    /// The world of the claim with this UID, as far as the watches show it.
    #[must_use]
    pub fn world(&self, claim_uid: &str) -> Option<World> {
        let name = self.names.get(claim_uid)?;
        let claim = self.claims.get(name)?.target.clone()?;
        let beside = |name: String| (claim.namespace.clone(), name);
        let temporary = self
            .claims
            .get(&beside(names::temporary_claim(claim_uid)))
            .and_then(|any| any.temporary.clone());
        let resource = populator_ref(&claim).and_then(|name| self.resource(&name));
        let class = claim
            .class
            .as_deref()
            .and_then(|name| self.classes.get(name));
        Some(World {
            populator: match resource.map(|resource| &resource.spec) {
                Some(Ok(populator)) => Lookup::Found(populator.clone()),
                Some(Err(why)) => Lookup::Invalid(why.clone()),
                None => Lookup::Missing,
            },
            grant: if claim.populator_namespace() == claim.namespace {
                Grant::NotNeeded
            } else {
                Grant::Missing
            },
            class: class.map_or(Lookup::Missing, |class| Lookup::Found(class.clone())),
            pod: self.pods.get(&beside(names::pod(claim_uid))).cloned(),
            pod_warning: None,
            volume: self.volume_of(&claim, temporary.as_ref()).cloned(),
            nodes: if self.nodes_are_known {
                Nodes::Known(Arc::clone(&self.node_list))
            } else {
                Nodes::Unreadable
            },
            temporary,
            claim,
        })
    }

    /// A populator resource.
    #[must_use]
    pub fn resource(&self, name: &PopulatorRef) -> Option<&Populator> {
        self.resources.get(&name.kind)?.get(name)
    }

    /// Every populator resource.
    pub fn all_resources(&self) -> impl Iterator<Item = &Populator> {
        self.resources.values().flat_map(Table::values)
    }

    /// UIDs of all claims that are to be populated, or were.
    #[must_use]
    pub fn all_claims(&self) -> Vec<String> {
        self.names.keys().cloned().collect()
    }

    /// UIDs of claims that are gone, and have left a pod behind.
    #[must_use]
    pub fn gone_claims(&self) -> HashSet<String> {
        let pods = self.pods.values();
        pods.filter_map(|pod| claim_of_pod(&pod.name))
            .filter(|uid| !self.names.contains_key(*uid))
            .map(str::to_owned)
            .collect()
    }

    /// Every pod, with the UID of the claim that it works for.
    pub fn all_pods(&self) -> impl Iterator<Item = (&str, &Name, &Pod)> {
        let owned = |(name, pod)| {
            let (name, pod): (&Name, &Pod) = (name, pod);
            let claim = claim_of_pod(&pod.name)?;
            let is_owner = pod.owners.iter().any(|owner| owner == claim);
            is_owner.then_some((claim, name, pod))
        };
        self.pods.iter().filter_map(owned)
    }

    /// Pods that were made for the claim with this UID, with their namespaces, whoever owns them now.
    #[must_use]
    pub fn pods_of(&self, claim_uid: &str) -> Vec<(String, Pod)> {
        let made_for = |(_, pod): &(&Name, &Pod)| claim_of_pod(&pod.name) == Some(claim_uid);
        let pods = self.pods.iter().filter(made_for);
        pods.map(|((namespace, _), pod)| (namespace.clone(), pod.clone()))
            .collect()
    }

    fn volume_of(&self, claim: &Claim, temporary: Option<&TemporaryClaim>) -> Option<&Volume> {
        if let Some(name) = &claim.volume {
            return self.volumes.get(name.as_str());
        }
        let refers = |volume: &&Volume| {
            let owner = volume.claim.as_ref();
            owner.is_some_and(|owner| owner.uid == claim.uid)
        };
        let named = |name: Option<&String>| name.and_then(|name| self.volumes.get(name.as_str()));
        self.volumes
            .values()
            .find(refers)
            .or_else(|| named(temporary.and_then(|temporary| temporary.volume.as_ref())))
    }

    fn targets(&self) -> impl Iterator<Item = &Claim> {
        self.claims.values().filter_map(|any| any.target.as_ref())
    }

    fn unbound(&self) -> impl Iterator<Item = &Claim> {
        self.targets().filter(|claim| claim.volume.is_none())
    }
}

/// The populator resource that a claim refers to, if it is of a kind that we know.
#[must_use]
pub fn populator_ref(claim: &Claim) -> Option<PopulatorRef> {
    Some(PopulatorRef {
        kind: Kind::from_name(&claim.reference.kind)?,
        namespace: claim.populator_namespace().to_owned(),
        name: claim.reference.name.clone(),
    })
}

/// Volumes of claims that we do not serve are not kept. One that a claim of ours got from elsewhere is asked
/// for when it is needed.
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
        uid: object.metadata.uid.clone()?,
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
        // What somebody else wrote there is replaced by the next write.
        status: status
            .and_then(|status| serde_json::from_value(status).ok())
            .unwrap_or_default(),
    })
}

/// Read one at a time: a malformed resource is that resource's trouble, not the watch's.
fn spec_of<S: DeserializeOwned>(object: &DynamicObject) -> Result<S, String> {
    let spec = object.data.get("spec").cloned().unwrap_or_default();
    serde_json::from_value(spec).map_err(|error| format!("spec: {error}"))
}

fn both<V>(changes: &[Change<V>]) -> impl Iterator<Item = &V> {
    changes
        .iter()
        .flat_map(|change| [&change.before, &change.after])
        .flatten()
}

/// UID of the claim for which a temporary claim of this name would have been made.
fn claim_of_temporary(name: &str) -> Option<&str> {
    uid_after(name, &names::temporary_claim(""))
}

fn claim_of_pod(name: &str) -> Option<&str> {
    uid_after(name, &names::pod(""))
}

fn uid_after<'a>(name: &'a str, prefix: &str) -> Option<&'a str> {
    name.strip_prefix(prefix).filter(|rest| !rest.is_empty())
}
