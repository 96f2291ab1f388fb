//! The pod that fills the temporary claim's volume.

use std::collections::BTreeMap;

use contract::{
    MountedBundle,
    args::{self, flag},
};
use k8s_openapi::{
    api::core::v1::{
        Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EnvVar, KeyToPath,
        LocalObjectReference, PersistentVolumeClaimVolumeSource, Pod, PodSecurityContext, PodSpec,
        ResourceRequirements, SeccompProfile, SecretVolumeSource, SecurityContext, Volume,
        VolumeDevice, VolumeMount,
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{ObjectMeta, OwnerReference},
    },
};
use populator_api::names::{self, annotation as key, label};

use super::{digest::digest, owned_by};
use crate::{
    Settings,
    model::{self, Claim, DiskLocation, OpenstackDisk, PopulatorSpec, TemporaryClaim, VolumeMode},
    settings::{CaBundle, MoverSettings, OPERATING_SYSTEM, Placement},
};

/// Directory in which each key of the secret is a file.
pub const SECRET_FOLDER: &str = "/etc/populator/secret";
/// Name of the volume with the secret.
const SECRET_VOLUME: &str = "secret";
/// Name of the volume with the CA bundle.
const BUNDLE_VOLUME: &str = "ca-bundle";
/// Read by all, and not writable: no secret.
const BUNDLE_MODE: i32 = 0o444;
/// Port of the mover's metrics, in [`contract::args::METRICS_ADDRESS`].
const METRICS_PORT: i32 = 8443;
/// Read by owner and group only; the group is the pod's `fsGroup`.
const SECRET_MODE: i32 = 0o440;
/// In seconds: the mover ends its image transfer, or deletes what it made in the cloud, within 25 s of the signal.
const GRACE_SECONDS: i64 = 30;

/// The pod for `claim`, or `None` when its kind is not served.
///
/// It names no node: the affinity of the volume places it together with what the installation says, and the scheduler
/// checks taints and resources.
#[must_use]
pub fn pod(
    claim: &Claim,
    populator: &PopulatorSpec,
    temporary: &TemporaryClaim,
    settings: &Settings,
) -> Option<Pod> {
    let image = settings.images.get(&populator.location.kind())?;
    let spec = spec(claim, populator, image, settings);
    Some(Pod {
        metadata: ObjectMeta {
            namespace: Some(claim.namespace.clone()),
            name: Some(names::pod(claim.uid.as_str())),
            labels: Some(labels(claim, populator, &settings.placement)),
            annotations: Some(annotations(
                claim,
                populator,
                temporary,
                &spec,
                &settings.placement,
            )),
            finalizers: Some(vec![names::RESULT_FINALIZER.to_owned()]),
            // `kubectl drain` evicts a pod that has a controller, and refuses any other one unless it is
            // forced. The claim's kind says nothing else to it.
            owner_references: Some(vec![OwnerReference {
                controller: Some(true),
                ..owned_by(claim)
            }]),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
        status: None,
    })
}

/// Digest of what decides whether an attempt can succeed: where the disk is, how it is reached, and
/// how it is written. When it changes, another attempt is justified after a permanent failure.
#[must_use]
pub fn origin(claim: &Claim, populator: &PopulatorSpec) -> String {
    let always = (
        disk_arguments(&populator.location),
        network_annotation(populator),
        claim.verbatim,
    );
    let told = claim.mover.as_ref().ok();
    match told.and_then(MoverSettings::to_annotation) {
        // As earlier releases have stored it.
        None => digest(&always),
        Some(told) => digest(&(always, told)),
    }
}

/// The disk, image, volume or snapshot that the pod's arguments name.
#[must_use]
pub fn disk_argument(pod: &model::Pod) -> Option<&str> {
    let mut flags = [
        flag::DISK_ID,
        flag::IMAGE_ID,
        flag::VOLUME_ID,
        flag::SNAPSHOT_ID,
    ]
    .into_iter();
    flags.find_map(|flag| pod.argument(flag))
}

/// The flags that say where the disk is, with their values. A pod whose flags differ was created
/// for an older version of the resource.
#[must_use]
pub fn disk_arguments(location: &DiskLocation) -> [(&'static str, &str); 3] {
    match location {
        DiskLocation::Ovirt {
            engine_url,
            secret,
            disk,
        } => [
            (flag::SECRET_NAME, secret),
            (flag::DISK_ID, disk),
            (flag::ENGINE_URL, engine_url),
        ],
        DiskLocation::Openstack {
            identity_url,
            secret,
            disk,
        } => {
            let flag = match disk {
                OpenstackDisk::Image(_) => flag::IMAGE_ID,
                OpenstackDisk::Volume(_) => flag::VOLUME_ID,
                OpenstackDisk::Snapshot(_) => flag::SNAPSHOT_ID,
            };
            [
                (flag::SECRET_NAME, secret),
                (flag, disk.id()),
                (flag::ENDPOINT, identity_url),
            ]
        }
    }
}

/// The flag that marks what the mover makes in the cloud, beside the claim's UID. Without it the disk's id would: the
/// attempt for another volume, which a new resource of the same name names, would not find what the one before left.
fn migration_argument<'a>(
    claim: &'a Claim,
    location: &DiskLocation,
) -> Option<(&'static str, &'a str)> {
    // An image's record may lead to a snapshot.
    matches!(location, DiskLocation::Openstack { .. })
        .then(|| (flag::MIGRATION_ID, claim.uid.as_str()))
}

/// The flag that tells the attempts for one request from those for another, with its value. Who creates the resource
/// again, or sets another value of the retry annotation, wants the disk as it is then: what the mover made in the cloud for
/// a request before that holds an old state of it.
fn request_argument(claim: &Claim, populator: &PopulatorSpec) -> Option<(&'static str, String)> {
    matches!(populator.location, DiskLocation::Openstack { .. }).then(|| {
        let request = digest(&(&populator.uid, &claim.retry));
        (flag::REQUEST_ID, request)
    })
}

/// The flag that says whether the image is written as it is, with its value.
#[must_use]
pub fn verbatim_argument(
    claim: &Claim,
    location: &DiskLocation,
) -> Option<(&'static str, &'static str)> {
    let value = if claim.verbatim { "true" } else { "false" };
    // imageio always serves the disk as raw bytes, so only Glance's mover has the choice.
    matches!(location, DiskLocation::Openstack { .. }).then_some((flag::VERBATIM, value))
}

/// The annotation that attaches the pod to a secondary network.
#[must_use]
pub fn network_annotation(populator: &PopulatorSpec) -> Option<String> {
    let network = populator.network.as_ref()?;
    Some(format!("{}/{}", network.namespace, network.name))
}

fn spec(claim: &Claim, populator: &PopulatorSpec, image: &str, settings: &Settings) -> PodSpec {
    let placement = &settings.placement;
    let mut node_selector = placement.node_selector.clone();
    // Clusters with Windows nodes have them without a taint.
    node_selector.insert(OPERATING_SYSTEM.to_owned(), "linux".to_owned());
    let secret = |name: &String| LocalObjectReference { name: name.clone() };
    PodSpec {
        affinity: placement.affinity.clone(),
        automount_service_account_token: Some(false),
        containers: vec![container(claim, populator, image, settings)],
        // A variable for each service of the namespace can exceed the limit of the environment.
        enable_service_links: Some(false),
        image_pull_secrets: list(placement.image_pull_secrets.iter().map(secret)),
        node_selector: Some(node_selector),
        priority_class_name: placement.priority_class.clone(),
        restart_policy: Some("Never".to_owned()),
        runtime_class_name: placement.runtime_class.clone(),
        security_context: Some(PodSecurityContext {
            fs_group: Some(names::QEMU_ID),
            fs_group_change_policy: Some("OnRootMismatch".to_owned()),
            run_as_group: Some(names::QEMU_ID),
            run_as_non_root: Some(true),
            run_as_user: Some(names::QEMU_ID),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                localhost_profile: None,
            }),
            ..PodSecurityContext::default()
        }),
        service_account_name: claim.service_account.clone(),
        termination_grace_period_seconds: Some(GRACE_SECONDS),
        tolerations: list(placement.tolerations.iter().cloned()),
        volumes: Some(volumes(claim, populator, placement)),
        ..PodSpec::default()
    }
}

fn volumes(claim: &Claim, populator: &PopulatorSpec, placement: &Placement) -> Vec<Volume> {
    let target = Volume {
        name: names::TARGET_VOLUME.to_owned(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: names::temporary_claim(claim.uid.as_str()),
            read_only: None,
        }),
        ..Volume::default()
    };
    let secret = Volume {
        name: SECRET_VOLUME.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(populator.location.secret().to_owned()),
            default_mode: Some(SECRET_MODE),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    };
    let bundle = placement.ca_bundle.as_ref().map(|bundle| Volume {
        name: BUNDLE_VOLUME.to_owned(),
        config_map: Some(ConfigMapVolumeSource {
            name: bundle.config_map.clone(),
            items: Some(vec![KeyToPath {
                key: bundle.key.clone(),
                path: bundle.key.clone(),
                mode: None,
            }]),
            // A namespace without it has claims whose secrets name their authorities; the mover says what is missing.
            optional: Some(true),
            default_mode: Some(BUNDLE_MODE),
        }),
        ..Volume::default()
    });
    [target, secret].into_iter().chain(bundle).collect()
}

/// Where the pod of the claim has the installation's CA bundle.
fn mounted<'a>(claim: &'a Claim, bundle: &'a CaBundle) -> MountedBundle<'a> {
    MountedBundle {
        namespace: &claim.namespace,
        config_map: &bundle.config_map,
        key: &bundle.key,
    }
}

/// The items; `None` where there are none, as the API server stores it.
fn list<T>(items: impl Iterator<Item = T>) -> Option<Vec<T>> {
    Some(items.collect()).filter(|list: &Vec<T>| !list.is_empty())
}

fn labels(
    claim: &Claim,
    populator: &PopulatorSpec,
    placement: &Placement,
) -> BTreeMap<String, String> {
    let mut labels = placement.labels.clone();
    labels.extend(populator.labels.clone());
    if label::is_valid_value(&claim.name) {
        labels.insert(label::CLAIM_NAME.to_owned(), claim.name.clone());
    }
    labels.insert(label::POPULATED_CLAIM.to_owned(), claim.uid.to_string());
    labels.insert(label::ISTIO_INJECT.to_owned(), "false".to_owned());
    labels
}

fn annotations(
    claim: &Claim,
    populator: &PopulatorSpec,
    temporary: &TemporaryClaim,
    spec: &PodSpec,
    placement: &Placement,
) -> BTreeMap<String, String> {
    let always = [
        (key::SPEC_HASH, spec_hash(spec, placement)),
        (key::TEMPORARY_CLAIM, temporary.uid.to_string()),
        (label::ISTIO_INJECT, "false".to_owned()),
        (key::LINKERD_INJECT, "disabled".to_owned()),
        // A copy that is interrupted begins with the first byte.
        (key::SAFE_TO_EVICT, "false".to_owned()),
        (key::DO_NOT_DISRUPT, "true".to_owned()),
    ];
    let network = network_annotation(populator);
    let networks = [key::NETWORKS, key::TRANSFER_NETWORK]
        .into_iter()
        .filter_map(|name| Some((name, network.clone()?)));
    let retry = claim.retry.clone().map(|retry| (key::RETRY, retry));
    let told = claim.mover.as_ref().ok();
    let told = told.and_then(MoverSettings::to_annotation);
    let told = told.map(|told| (key::CLAIM_SETTINGS, told));
    let all = always.into_iter().chain(networks).chain(retry).chain(told);
    let mut annotations = placement.annotations.clone();
    annotations.extend(all.map(|(name, value)| (name.to_owned(), value)));
    annotations
}

/// Digest of what the installation, the claim and the resource make of the pod.
fn spec_hash(spec: &PodSpec, placement: &Placement) -> String {
    let Placement {
        labels,
        annotations,
        ..
    } = placement;
    if labels.is_empty() && annotations.is_empty() {
        // As earlier releases have stored it.
        return digest(spec);
    }
    digest(&(spec, labels, annotations))
}

fn container(
    claim: &Claim,
    populator: &PopulatorSpec,
    image: &str,
    settings: &Settings,
) -> Container {
    let block = VolumeDevice {
        name: names::TARGET_VOLUME.to_owned(),
        device_path: args::BLOCK_TARGET.to_owned(),
    };
    let secret = VolumeMount {
        name: SECRET_VOLUME.to_owned(),
        mount_path: SECRET_FOLDER.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    };
    let filesystem = VolumeMount {
        name: names::TARGET_VOLUME.to_owned(),
        mount_path: "/mnt/".to_owned(),
        ..VolumeMount::default()
    };
    let (devices, mut mounts) = match claim.mode {
        VolumeMode::Block => (Some(vec![block]), vec![secret]),
        VolumeMode::Filesystem => (None, vec![filesystem, secret]),
    };
    let bundle = settings.placement.ca_bundle.as_ref();
    mounts.extend(bundle.map(|bundle| VolumeMount {
        name: BUNDLE_VOLUME.to_owned(),
        mount_path: mounted(claim, bundle).folder(),
        read_only: Some(true),
        ..VolumeMount::default()
    }));
    let environment = settings.environment.iter().map(|(name, value)| EnvVar {
        name: name.clone(),
        value: Some(value.clone()),
        value_from: None,
    });
    Container {
        name: names::CONTAINER.to_owned(),
        image: Some(image.to_owned()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        args: Some(arguments(claim, populator, settings)),
        env: list(environment),
        ports: Some(vec![ContainerPort {
            name: Some(names::METRICS_PORT.to_owned()),
            container_port: METRICS_PORT,
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        }]),
        resources: Some(ResourceRequirements {
            requests: Some(quantities(&settings.cpu.request, &settings.memory.request)),
            limits: Some(quantities(&settings.cpu.limit, &settings.memory.limit)),
            claims: None,
        }),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities {
                add: None,
                drop: Some(vec!["ALL".to_owned()]),
            }),
            read_only_root_filesystem: Some(true),
            ..SecurityContext::default()
        }),
        // A mover that dies before it writes its report leaves the end of its log.
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_devices: devices,
        volume_mounts: Some(mounts),
        ..Container::default()
    }
}

fn quantities(cpu: &str, memory: &str) -> BTreeMap<String, Quantity> {
    [("cpu", cpu), ("memory", memory)]
        .map(|(name, value)| (name.to_owned(), Quantity(value.to_owned())))
        .into()
}

/// Each flag is one of [`contract::args::flag`], and what the installation and the claim say about the mover has
/// passed [`MoverSettings`].
fn arguments(claim: &Claim, populator: &PopulatorSpec, settings: &Settings) -> Vec<String> {
    let target = match claim.mode {
        VolumeMode::Block => args::BLOCK_TARGET,
        VolumeMode::Filesystem => args::FILESYSTEM_TARGET,
    };
    let bytes = claim.bytes().unwrap_or_default().to_string();
    let before = [(flag::VOLUME_PATH, target)];
    let after = [
        (flag::CR_NAME, populator.name.as_str()),
        (flag::CR_NAMESPACE, populator.namespace.as_str()),
        (flag::PVC_SIZE, bytes.as_str()),
        (flag::OWNER_UID, claim.uid.as_str()),
        (flag::SECRET_DIR, SECRET_FOLDER),
    ];
    let bundle = settings.placement.ca_bundle.as_ref();
    let bundle = bundle.map(|bundle| mounted(claim, bundle).path());
    let bundle = bundle.as_deref().map(|path| (flag::CA_BUNDLE, path));
    let request = request_argument(claim, populator);
    let request = request.as_ref().map(|(flag, id)| (*flag, id.as_str()));
    let mover = settings.mover.overridden_by(claim.mover.as_ref().ok());
    let all = before
        .into_iter()
        .chain(disk_arguments(&populator.location))
        .chain(after)
        .chain(bundle)
        .chain(migration_argument(claim, &populator.location))
        .chain(request)
        .chain(verbatim_argument(claim, &populator.location))
        .chain(mover.arguments(populator.location.kind()));
    // The kubelet would put a variable's value in the place of `$(NAME)`, and the environment may hold
    // the password of a proxy.
    all.map(|(flag, value)| format!("--{flag}={}", value.replace('$', "$$")))
        .collect()
}
