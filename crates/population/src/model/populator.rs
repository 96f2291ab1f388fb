//! The populator resource.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::ObjectReference, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use populator_api::{OpenstackVolumePopulator, OvirtVolumePopulator, names::label as label_key};

use super::label;

/// The kinds that are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `OvirtVolumePopulator`.
    Ovirt,
    /// `OpenstackVolumePopulator`.
    Openstack,
}

/// A populator resource: where the disk is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PopulatorSpec {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Whether it is being deleted.
    pub terminating: bool,
    /// Forklift's labels, which the pod gets too.
    pub labels: BTreeMap<String, String>,
    /// Where the disk is.
    pub location: DiskLocation,
    /// Secondary network over which it travels.
    pub network: Option<Network>,
}

/// Where the disk is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskLocation {
    /// A disk of oVirt.
    Ovirt {
        /// The engine.
        engine_url: String,
        /// The secret with the credentials.
        secret: String,
        /// UUID of the disk.
        disk: String,
    },
    /// An image of Glance.
    Openstack {
        /// Keystone.
        identity_url: String,
        /// The secret with the credentials.
        secret: String,
        /// UUID of the image.
        image: String,
    },
}

/// A `NetworkAttachmentDefinition`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// A resource that cannot be used. Definitions other than ours let it pass the API server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSpec {
    /// A field that is needed is empty.
    #[error("spec.{0} is empty; set it")]
    Empty(&'static str),
    /// The API server did not fill in the metadata.
    #[error("the resource has no name, namespace or UID")]
    Unnamed,
}

impl Kind {
    /// Both.
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
    /// An oVirt disk.
    pub fn from_ovirt(object: &OvirtVolumePopulator) -> Result<Self, InvalidSpec> {
        let spec = &object.spec;
        let location = DiskLocation::Ovirt {
            engine_url: filled(&spec.engine_url, "engineUrl")?,
            secret: filled(&spec.engine_secret_name, "engineSecretName")?,
            disk: filled(&spec.disk_id, "diskId")?,
        };
        Self::new(&object.metadata, location, spec.transfer_network.as_ref())
    }

    /// A Glance image.
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
        let needed = |field: &Option<String>| field.clone().ok_or(InvalidSpec::Unnamed);
        let namespace = needed(&metadata.namespace)?;
        let labels = [label_key::MIGRATION, label_key::PLAN, label_key::VM_ID];
        let copied = |name: &str| Some((name.to_owned(), label(metadata, name)?.to_owned()));
        Ok(Self {
            name: needed(&metadata.name)?,
            uid: needed(&metadata.uid)?,
            terminating: metadata.deletion_timestamp.is_some(),
            labels: labels.into_iter().filter_map(copied).collect(),
            location,
            network: network.and_then(|network| Network::new(network, &namespace)),
            namespace,
        })
    }
}

impl DiskLocation {
    /// The kind of resource that says so.
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

    /// The disk or image.
    #[must_use]
    pub fn disk(&self) -> &str {
        match self {
            Self::Ovirt { disk, .. } => disk,
            Self::Openstack { image, .. } => image,
        }
    }

    /// The server that is asked first. Claims of one server share a limit.
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
