//! The populator resource.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::ObjectReference, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use populator_api::{OpenstackVolumePopulator, OvirtVolumePopulator, names::label as label_key};

use super::{Uid, label};

/// The kinds of populator resources that this controller serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `OvirtVolumePopulator`: a disk of oVirt or RHV.
    Ovirt,
    /// `OpenstackVolumePopulator`: an image of Glance.
    Openstack,
}

/// A populator resource: where the disk is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PopulatorSpec {
    /// Namespace of the resource.
    pub namespace: String,
    /// Name of the resource.
    pub name: String,
    /// UID of the resource.
    pub uid: Uid,
    /// Whether the resource is being deleted.
    pub terminating: bool,
    /// Forklift's labels, which are copied to the pod.
    pub labels: BTreeMap<String, String>,
    /// The disk, and how to reach it.
    pub location: DiskLocation,
    /// Secondary network over which the disk is copied.
    pub network: Option<Network>,
}

/// A disk, and how to reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskLocation {
    /// A disk of oVirt.
    Ovirt {
        /// URL of the engine.
        engine_url: String,
        /// Name of the secret with the credentials.
        secret: String,
        /// UUID of the disk.
        disk: String,
    },
    /// An image of Glance.
    Openstack {
        /// URL of Keystone.
        identity_url: String,
        /// Name of the secret with the credentials.
        secret: String,
        /// UUID of the image.
        image: String,
    },
}

/// Reference to a `NetworkAttachmentDefinition`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Namespace of the definition.
    pub namespace: String,
    /// Name of the definition.
    pub name: String,
}

/// Why a resource cannot be used. Only definitions other than ours let the API server accept it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSpec {
    /// A required field is empty.
    #[error("spec.{0} is empty; set it")]
    Empty(&'static str),
    /// The API server did not fill in the metadata.
    #[error("the resource has no name, namespace or UID")]
    Unnamed,
}

impl Kind {
    /// Both kinds.
    pub const ALL: [Self; 2] = [Self::Ovirt, Self::Openstack];

    /// The kind of that name in our API group.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The kind's name in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ovirt => "OvirtVolumePopulator",
            Self::Openstack => "OpenstackVolumePopulator",
        }
    }

    /// The kind's name in URLs of the API server.
    #[must_use]
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Ovirt => "ovirtvolumepopulators",
            Self::Openstack => "openstackvolumepopulators",
        }
    }
}

impl PopulatorSpec {
    /// Converts a resource for an oVirt disk.
    pub fn from_ovirt(object: &OvirtVolumePopulator) -> Result<Self, InvalidSpec> {
        let spec = &object.spec;
        let location = DiskLocation::Ovirt {
            engine_url: filled(&spec.engine_url, "engineUrl")?,
            secret: filled(&spec.engine_secret_name, "engineSecretName")?,
            disk: filled(&spec.disk_id, "diskId")?,
        };
        Self::new(&object.metadata, location, spec.transfer_network.as_ref())
    }

    /// Converts a resource for a Glance image.
    pub fn from_openstack(object: &OpenstackVolumePopulator) -> Result<Self, InvalidSpec> {
        let spec = &object.spec;
        let location = DiskLocation::Openstack {
            identity_url: filled(&spec.identity_url, "identityUrl")?,
            secret: filled(&spec.secret_name, "secretName")?,
            image: filled(&spec.image_id, "imageId")?,
        };
        Self::new(&object.metadata, location, spec.transfer_network.as_ref())
    }

    fn new(
        metadata: &ObjectMeta,
        location: DiskLocation,
        network: Option<&ObjectReference>,
    ) -> Result<Self, InvalidSpec> {
        let required = |field: &Option<String>| field.clone().ok_or(InvalidSpec::Unnamed);
        let namespace = required(&metadata.namespace)?;
        let labels = [label_key::MIGRATION, label_key::PLAN, label_key::VM_ID];
        let copied = |name: &str| Some((name.to_owned(), label(metadata, name)?.to_owned()));
        Ok(Self {
            name: required(&metadata.name)?,
            uid: required(&metadata.uid)?.into(),
            terminating: metadata.deletion_timestamp.is_some(),
            labels: labels.into_iter().filter_map(copied).collect(),
            location,
            network: network.and_then(|network| Network::new(network, &namespace)),
            namespace,
        })
    }
}

impl DiskLocation {
    /// The kind of resource that describes such a disk.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Ovirt { .. } => Kind::Ovirt,
            Self::Openstack { .. } => Kind::Openstack,
        }
    }

    /// The secret with the credentials, in the claim's namespace.
    #[must_use]
    pub fn secret(&self) -> &str {
        match self {
            Self::Ovirt { secret, .. } | Self::Openstack { secret, .. } => secret,
        }
    }

    /// UUID of the disk or image.
    #[must_use]
    pub fn disk(&self) -> &str {
        match self {
            Self::Ovirt { disk, .. } => disk,
            Self::Openstack { image, .. } => image,
        }
    }

    /// The engine or identity service, whose claims share a limit.
    #[must_use]
    pub fn url(&self) -> &str {
        match self {
            Self::Ovirt { engine_url, .. } => engine_url,
            Self::Openstack { identity_url, .. } => identity_url,
        }
    }
}

impl Network {
    fn new(reference: &ObjectReference, namespace: &str) -> Option<Self> {
        let given = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
        Some(Self {
            name: given(&reference.name)?,
            namespace: given(&reference.namespace).unwrap_or_else(|| namespace.to_owned()),
        })
    }
}

fn filled(text: &str, field: &'static str) -> Result<String, InvalidSpec> {
    let text = text.trim();
    if text.is_empty() {
        return Err(InvalidSpec::Empty(field));
    }
    Ok(text.to_owned())
}
