//! What the cluster shows: watches fill a cache of values, and the world of one claim is assembled
//! from it, with a live read where the cache cannot know.

mod cache;
mod health;
mod table;
mod watch;

pub use cache::{Cache, Name, Populator, PopulatorRef, populator_ref, version_of};
pub use health::WatchHealth;
pub use watch::{Triggers, watch_all};

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, ListParams},
    core::GroupVersionKind,
};
use populator_api::{GROUP, VERSION, names};
use serde_json::Value;

use population::{
    Settings,
    model::{
        Claim, ClaimPhase, Grant, Kind, Lookup, Node, Nodes, Pod, PodPhase, TemporaryClaim, Uid,
        Volume, World,
    },
};

/// Assembles the world of each claim.
pub struct Observer {
    client: Client,
    cache: Mutex<Cache>,
    health: WatchHealth,
}

impl Observer {
    /// An observer of `cache`, which watches fill.
    #[must_use]
    pub fn new(client: Client, cache: Cache) -> Self {
        Self {
            client,
            cache: Mutex::new(cache),
            health: WatchHealth::default(),
        }
    }

    /// The cache. The guard must not be held across an await.
    pub fn cache(&self) -> MutexGuard<'_, Cache> {
        // A panic cannot leave a change half done: none is between two changes of the cache.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which watches work.
    #[must_use]
    pub const fn health(&self) -> &WatchHealth {
        &self.health
    }

    /// The complete world of a claim; `None` when there is no such claim.
    ///
    /// A claim with all its objects in the cache costs no request. Each live read below is for a
    /// case where acting on the cache alone would do harm, or would never end.
    pub async fn world(
        &self,
        claim_uid: &Uid,
        settings: &Settings,
        now: Timestamp,
    ) -> kube::Result<Option<World>> {
        let Some(mut world) = self.cache().world(claim_uid) else {
            return Ok(None);
        };
        if world.claim.volume.is_none() && !world.claim.terminating {
            self.reread(&mut world).await?;
        } else if world.temporary.is_none() && world.pod.is_some() {
            world.temporary = self.temporary_claim(&world.claim).await?;
        }
        if world.volume.is_none()
            && let Some(name) = &world.claim.volume
        {
            // The cache keeps only volumes that were populated. A claim that got another one must
            // be seen to be bound to it, or its temporary objects would stay.
            world.volume = self.volume(name).await?;
        }
        if let Some(volume) = &world.volume {
            let mut cache = self.cache();
            if !cache.knows_labels(volume) {
                cache.want_labels(volume);
                world.nodes = Nodes::Unreadable;
            }
        }
        self.find_new_nodes(&mut world).await?;
        if world.grant == Grant::Missing {
            world.grant = self.grant(&world.claim).await?;
        }
        if world.grant == Grant::Missing {
            // Nothing that is said to the claim's owner shows whether there is such a resource.
            world.populator = Lookup::Missing;
        }
        // For people only. Events are many, so they are read when a pod is late and not watched.
        if let Some(pod) = world.own_pod().filter(|pod| is_late(pod, settings, now)) {
            let found = self.warning(&world.claim.namespace, &pod.uid, None);
            world.pod_warning = found.await?;
        }
        let unprovisioned = world.own_temporary();
        if let Some(temporary) = unprovisioned.filter(|it| is_unprovisioned(it, settings, now)) {
            let reason = Some("ProvisioningFailed");
            let found = self.warning(&world.claim.namespace, &temporary.uid, reason);
            world.provisioning_warning = found.await?;
        }
        Ok(Some(world))
    }

    /// Reads again what watches of different ages show of a claim that is not bound yet, where acting
    /// on it would create a second pod for a volume, or delete a good one.
    async fn reread(&self, world: &mut World) -> kube::Result<()> {
        let claim = &world.claim;
        if world.temporary.is_some() && world.pod.is_none() {
            // Pods that Forklift created lack the label that the watch of pods selects.
            world.pod = self.pod(claim).await?;
        } else if world.pod.as_ref().is_some_and(|pod| is_news(claim, pod)) {
            // The watch of pods may be a whole attempt behind that of claims, and show a failure
            // that was counted before the last one.
            world.pod = self.pod(claim).await?;
        }
        // After the pod: that it may still write is recorded on the temporary claim before the pod
        // can go, so that whoever sees it gone sees the record.
        let is_stale = match (&world.temporary, &world.pod) {
            (None, None) => false,
            // Without its temporary claim the pod is deleted; without a pod, one is created.
            (None, Some(_)) | (Some(_), None) => true,
            (Some(temporary), Some(pod)) => !fits(temporary, pod),
        };
        if is_stale {
            world.temporary = self.temporary_claim(claim).await?;
        }
        // The volume was looked up for the temporary claim that the watch shows. Without a pod it may
        // have been given to the claim already, which the watch of volumes need not show yet. One that
        // is lost and shows no volume may have been given away by another controller.
        let own = world.temporary.as_ref().filter(|temporary| {
            is_stale || (world.volume.is_none() && temporary.phase == ClaimPhase::Lost)
        });
        let name = own.and_then(|temporary| temporary.volume.clone());
        if let Some(name) = name.filter(|_| !world.is_rebound()) {
            world.volume = self.volume(&name).await?;
        }
        Ok(())
    }

    /// Looks for the nodes of the claim that the watch does not show. The scheduler may choose a new
    /// node before the watch of nodes has shown it, and it would be taken for one that is gone.
    async fn find_new_nodes(&self, world: &mut World) -> kube::Result<()> {
        let absent: BTreeSet<String> = named_nodes(world)
            .filter(|name| world.nodes.lacks(name))
            .map(str::to_owned)
            .collect();
        let mut found = Vec::new();
        for name in absent {
            match self.node(&name).await {
                Ok(node) => found.extend(node),
                Err(error) if is_forbidden(&error) => {
                    world.nodes = Nodes::Unreadable;
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        if let Nodes::Known(seen) = &mut world.nodes
            && !found.is_empty()
        {
            *seen = seen.iter().cloned().chain(found).collect();
        }
        Ok(())
    }

    /// A list of one, since Forklift's role and ours may list nodes and not get them.
    async fn node(&self, name: &str) -> kube::Result<Option<Node>> {
        let api = Api::<core::Node>::all(self.client.clone());
        let named = ListParams::default().fields(&format!("metadata.name={name}"));
        let found = api.list(&named).await?.items;
        Ok(found.first().and_then(Node::from_object))
    }

    fn namespaced<K>(&self, namespace: &str) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    async fn temporary_claim(&self, claim: &Claim) -> kube::Result<Option<TemporaryClaim>> {
        let api = self.namespaced::<core::PersistentVolumeClaim>(&claim.namespace);
        let found = api
            .get_opt(&names::temporary_claim(claim.uid.as_str()))
            .await?;
        Ok(found.as_ref().and_then(TemporaryClaim::from_object))
    }

    async fn pod(&self, claim: &Claim) -> kube::Result<Option<Pod>> {
        let api = self.namespaced::<core::Pod>(&claim.namespace);
        let found = api.get_opt(&names::pod(claim.uid.as_str())).await?;
        Ok(found.as_ref().and_then(Pod::from_object))
    }

    async fn volume(&self, name: &str) -> kube::Result<Option<Volume>> {
        let api = Api::<core::PersistentVolume>::all(self.client.clone());
        Ok(api
            .get_opt(name)
            .await?
            .as_ref()
            .and_then(Volume::from_object))
    }

    /// The newest warning event about an object, of one reason or of any.
    async fn warning(
        &self,
        namespace: &str,
        uid: &Uid,
        reason: Option<&str>,
    ) -> kube::Result<Option<String>> {
        let mut of_object = format!("involvedObject.uid={uid},type=Warning");
        if let Some(reason) = reason {
            of_object = format!("{of_object},reason={reason}");
        }
        let api = self.namespaced::<core::Event>(namespace);
        let found = match api.list(&ListParams::default().fields(&of_object)).await {
            Ok(found) => found.items,
            // Nothing depends on an explanation.
            Err(error) => {
                tracing::debug!(namespace, "events cannot be listed: {error}");
                return Ok(None);
            }
        };
        let seen = |event: &core::Event| {
            let last = event.last_timestamp.as_ref().map(|time| time.0);
            last.or(event.event_time.as_ref().map(|time| time.0))
        };
        let newest = found.into_iter().max_by_key(seen);
        Ok(newest.map(|event| {
            let reason = event.reason.unwrap_or_default();
            let message = event.message.unwrap_or_default();
            format!("{reason}: {message}")
        }))
    }

    /// Whether a `ReferenceGrant` allows the claim's reference. If the cluster has no such objects,
    /// or they may not be read, none does. They are read and not watched: a claim that needs one is
    /// rare, and is requeued until it has one.
    async fn grant(&self, claim: &Claim) -> kube::Result<Grant> {
        let kind = GroupVersionKind::gvk("gateway.networking.k8s.io", "v1beta1", "ReferenceGrant");
        let resource = ApiResource::from_gvk_with_plural(&kind, "referencegrants");
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), claim.populator_namespace(), &resource);
        match api.list(&ListParams::default()).await {
            Ok(found) if found.items.iter().any(|grant| allows(&grant.data, claim)) => {
                Ok(Grant::Given)
            }
            Ok(_) => Ok(Grant::Missing),
            Err(error) if is_forbidden(&error) || is_missing(&error) => Ok(Grant::Missing),
            Err(error) => Err(error),
        }
    }
}

/// A populator kind for untyped calls: a malformed resource must not end the watch of all.
#[must_use]
pub fn api_resource(kind: Kind) -> ApiResource {
    let gvk = GroupVersionKind::gvk(GROUP, VERSION, kind.name());
    ApiResource::from_gvk_with_plural(&gvk, kind.plural())
}

/// Whether the API server denies the permission.
#[must_use]
pub fn is_forbidden(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403)
}

/// Whether the API server has no such object or kind.
#[must_use]
pub fn is_missing(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// The nodes on which something of the claim is, or is to be.
fn named_nodes(world: &World) -> impl Iterator<Item = &str> {
    let temporary = world.temporary.as_ref();
    let names = [
        world.claim.selected_node.as_deref(),
        temporary.and_then(|temporary| temporary.selected_node.as_deref()),
        temporary.and_then(|temporary| temporary.chosen_node.as_deref()),
        world.pod.as_ref().and_then(|pod| pod.node.as_deref()),
    ];
    names.into_iter().flatten()
}

/// Whether the pod was created for this temporary claim, which records no other one as lost. If not,
/// one of them is out of date.
fn fits(temporary: &TemporaryClaim, pod: &Pod) -> bool {
    let of_another = pod.temporary_claim.as_ref();
    let is_of_another = of_another.is_some_and(|uid| *uid != temporary.uid);
    let lost = temporary.lost_pod.as_ref();
    !is_of_another && lost.is_none_or(|lost| lost.pod == pod.uid)
}

/// Whether the pod has failed, and its failure is not the one that was counted last.
fn is_news(claim: &Claim, pod: &Pod) -> bool {
    let last = claim.attempts.last_failure.as_ref();
    pod.phase == PodPhase::Failed && last.is_none_or(|last| last.pod != pod.uid)
}

/// Whether the claim should have its volume by now, or its provisioner has given its node up.
fn is_unprovisioned(temporary: &TemporaryClaim, settings: &Settings, now: Timestamp) -> bool {
    let waited = now.duration_since(temporary.created).unsigned_abs();
    let is_given_up = temporary.chosen_node.is_some() && temporary.selected_node.is_none();
    temporary.volume.is_none()
        && temporary.terminating.is_none()
        && (is_given_up || waited >= settings.stuck_after)
}

/// Whether the pod should have started by now. Only then is the reason worth a request.
fn is_late(pod: &Pod, settings: &Settings, now: Timestamp) -> bool {
    let waited = now.duration_since(pod.created);
    pod.phase == PodPhase::Pending
        && pod.terminating.is_none()
        && waited.unsigned_abs() >= settings.stuck_after
}

/// Whether a grant (<https://gateway-api.sigs.k8s.io/api-types/referencegrant/>) covers the claim.
fn allows(grant: &Value, claim: &Claim) -> bool {
    let list = |field: &str| {
        let list = grant["spec"][field].as_array();
        list.into_iter().flatten()
    };
    let is = |value: &Value, expected: &str| value.as_str().unwrap_or_default() == expected;
    let from = list("from").any(|from| {
        is(&from["group"], "")
            && is(&from["kind"], "PersistentVolumeClaim")
            && is(&from["namespace"], &claim.namespace)
    });
    let to = list("to").any(|to| {
        is(&to["group"], GROUP)
            && is(&to["kind"], &claim.reference.kind)
            && to["name"]
                .as_str()
                .is_none_or(|name| name.is_empty() || name == claim.reference.name)
    });
    from && to
}
