//! The populator resource.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::ObjectReference, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use populator_api::{
    OpenstackVolumePopulator, OpenstackVolumePopulatorSpec, OvirtVolumePopulator,
    names::{annotation::SECRET, is_object_name, label as label_key},
};

use super::{Claim, Uid, label};
use crate::text;

/// So much of a malformed value is shown, in bytes.
const MOST_SHOWN: usize = 64;

/// The kinds of populator resources that this controller serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `OvirtVolumePopulator`: a disk of oVirt or RHV.
    Ovirt,
    /// `OpenstackVolumePopulator`: an image of Glance, or a volume or a snapshot of Cinder.
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
    /// What a cloud of OpenStack has.
    Openstack {
        /// URL of Keystone.
        identity_url: String,
        /// Name of the secret with the credentials.
        secret: String,
        /// What is copied.
        disk: OpenstackDisk,
    },
}

/// An object of OpenStack that holds a disk, by its UUID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpenstackDisk {
    /// An image of Glance.
    Image(String),
    /// A volume of Cinder.
    Volume(String),
    /// A snapshot of a volume of Cinder.
    Snapshot(String),
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
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSpec {
    /// A required field is empty.
    #[error("spec.{0} is empty; set it")]
    Empty(&'static str),
    /// A field has another form than what it goes into.
    #[error("spec.{field} {value:?} is not {expected}; correct it")]
    Malformed {
        /// The field.
        field: &'static str,
        /// Its value, or the beginning of it.
        value: String,
        /// What it must be.
        expected: &'static str,
    },
    /// No field names a disk.
    #[error(
        "the spec names no disk; create a new resource that has one of imageId, volumeId and snapshotId (the definitions of \
         Forklift know imageId alone, and drop the others)"
    )]
    NoDisk,
    /// Two fields name a disk, and nothing says which one is meant.
    #[error("spec.{0} and spec.{1} name two disks; create a new resource that has one of them")]
    TwoDisks(&'static str, &'static str),
    /// The URL holds credentials, which everyone who may read the resource or the pod would see.
    #[error("spec.{0} holds a user or a password; put them into the secret")]
    UserInformation(&'static str),
    /// The resource is in another namespace than the claim, which names no secret.
    #[error(
        "it is in another namespace; name the secret with its credentials, one of the claim's namespace, by the claim's \
         annotation {SECRET}"
    )]
    ForeignSecret,
    /// The claim's name of the secret is none.
    #[error("the claim's annotation {SECRET}: {0:?} is no name of a secret; correct it")]
    SecretName(String),
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
            engine_url: url(&spec.engine_url, "engineUrl")?,
            secret: object_name(&spec.engine_secret_name, "engineSecretName")?,
            disk: id(&spec.disk_id, "diskId")?,
        };
        Self::new(&object.metadata, location, spec.transfer_network.as_ref())
    }

    /// Converts a resource for an image, a volume or a snapshot of OpenStack.
    pub fn from_openstack(object: &OpenstackVolumePopulator) -> Result<Self, InvalidSpec> {
        let spec = &object.spec;
        let location = DiskLocation::Openstack {
            identity_url: url(&spec.identity_url, "identityUrl")?,
            secret: object_name(&spec.secret_name, "secretName")?,
            disk: OpenstackDisk::new(spec)?,
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
            network: network
                .and_then(|network| Network::new(network, &namespace))
                .transpose()?,
            namespace,
        })
    }

    /// The resource as the claim may use it. The secret is one of the claim's namespace: a resource of
    /// another one, whose owner may have no right there, cannot choose it.
    pub fn for_claim(mut self, claim: &Claim) -> Result<Self, InvalidSpec> {
        if self.namespace != claim.namespace {
            let name = claim.secret.as_deref().ok_or(InvalidSpec::ForeignSecret)?;
            let (DiskLocation::Ovirt { secret, .. } | DiskLocation::Openstack { secret, .. }) =
                &mut self.location;
            if !is_object_name(name) {
                return Err(InvalidSpec::SecretName(text::plain(name, MOST_SHOWN)));
            }
            name.clone_into(secret);
        }
        Ok(self)
    }
}

impl OpenstackDisk {
    /// The one disk that the spec names.
    fn new(spec: &OpenstackVolumePopulatorSpec) -> Result<Self, InvalidSpec> {
        match (&spec.image_id, &spec.volume_id, &spec.snapshot_id) {
            (Some(text), None, None) => Ok(Self::Image(id(text, "imageId")?)),
            (None, Some(text), None) => Ok(Self::Volume(id(text, "volumeId")?)),
            (None, None, Some(text)) => Ok(Self::Snapshot(id(text, "snapshotId")?)),
            (None, None, None) => Err(InvalidSpec::NoDisk),
            (Some(_), Some(_), _) => Err(InvalidSpec::TwoDisks("imageId", "volumeId")),
            (Some(_), None, Some(_)) => Err(InvalidSpec::TwoDisks("imageId", "snapshotId")),
            (None, Some(_), Some(_)) => Err(InvalidSpec::TwoDisks("volumeId", "snapshotId")),
        }
    }

    /// UUID of the object.
    #[must_use]
    pub fn id(&self) -> &str {
        let (Self::Image(id) | Self::Volume(id) | Self::Snapshot(id)) = self;
        id
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

    /// UUID of the disk, image, volume or snapshot.
    #[must_use]
    pub fn disk(&self) -> &str {
        match self {
            Self::Ovirt { disk, .. } => disk,
            Self::Openstack { disk, .. } => disk.id(),
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
    fn new(reference: &ObjectReference, namespace: &str) -> Option<Result<Self, InvalidSpec>> {
        let given = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
        let name = given(&reference.name)?;
        let namespace = given(&reference.namespace).unwrap_or_else(|| namespace.to_owned());
        // Multus reads the annotation as a list of names, or as JSON: no other character may get in.
        let of = |text: &str, field| object_name(text, field);
        let name = of(&name, "transferNetwork.name");
        let namespace = of(&namespace, "transferNetwork.namespace");
        Some(name.and_then(|name| {
            Ok(Self {
                namespace: namespace?,
                name,
            })
        }))
    }
}

fn filled<'a>(text: &'a str, field: &'static str) -> Result<&'a str, InvalidSpec> {
    let text = text.trim();
    if text.is_empty() {
        return Err(InvalidSpec::Empty(field));
    }
    Ok(text)
}

fn checked(
    text: &str,
    field: &'static str,
    expected: &'static str,
    is_good: impl Fn(&str) -> bool,
) -> Result<String, InvalidSpec> {
    let text = filled(text, field)?;
    if is_good(text) {
        return Ok(text.to_owned());
    }
    Err(InvalidSpec::Malformed {
        field,
        value: text::plain(text, MOST_SHOWN),
        expected,
    })
}

fn object_name(text: &str, field: &'static str) -> Result<String, InvalidSpec> {
    let expected = "the name of an object: lower case letters, digits, `-` and `.`";
    checked(text, field, expected, is_object_name)
}

/// A UUID, or what another definition of the resource lets through and an argument can hold.
fn id(text: &str, field: &'static str) -> Result<String, InvalidSpec> {
    let is_id = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let expected = "an id: at most 253 letters, digits, `-`, `_` and `.`";
    checked(text, field, expected, |text| {
        text.len() <= 253 && text.bytes().all(is_id)
    })
}

fn url(text: &str, field: &'static str) -> Result<String, InvalidSpec> {
    let text = filled(text, field)?;
    let authority = text.split_once("://").map_or(text, |(_, rest)| rest);
    let authority = authority.split(['/', '?', '#']).next().unwrap_or_default();
    // Before anything shows the value.
    if authority.contains('@') {
        return Err(InvalidSpec::UserInformation(field));
    }
    let expected = "a URL of at most 2048 characters, without blanks";
    checked(text, field, expected, |text| {
        text.len() <= 2048 && text.bytes().all(|byte| byte.is_ascii_graphic())
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const ID: &str = "b815a36a-feef-49e0-85c6-ef61bc83c15f";

    fn disk(fields: Value) -> Result<OpenstackDisk, InvalidSpec> {
        let mut spec = json!({"identityUrl": "https://k", "secretName": "cloud"});
        let Value::Object(fields) = fields else {
            panic!("{fields}");
        };
        spec.as_object_mut().unwrap().extend(fields);
        OpenstackDisk::new(&serde_json::from_value(spec).unwrap())
    }

    /// Other definitions than ours may let none pass, or several.
    #[test]
    fn a_resource_of_openstack_names_one_disk() {
        for nothing in [json!({}), json!({"imageId": null, "volumeId": null})] {
            assert_eq!(disk(nothing), Err(InvalidSpec::NoDisk));
        }
        let fields = ["imageId", "volumeId", "snapshotId"];
        for (first, second) in [(0, 1), (0, 2), (1, 2)] {
            let (first, second) = (fields[first], fields[second]);
            // An empty one is there too, and nothing says which one is meant.
            for text in [ID, ""] {
                let two = disk(json!({first: ID, second: text}));
                assert_eq!(two, Err(InvalidSpec::TwoDisks(first, second)));
            }
        }
        for field in fields {
            assert_eq!(disk(json!({field: ID})).unwrap().id(), ID);
            let empty = disk(json!({field: " "}));
            assert_eq!(empty, Err(InvalidSpec::Empty(field)));
            for id in ["a b", "a,b", "a\nb", "$(X)", "../a", &"a".repeat(254)] {
                let error = disk(json!({field: id})).unwrap_err().to_string();
                assert!(error.starts_with(&format!("spec.{field} ")), "{error}");
                assert!(error.ends_with("; correct it"), "{error}");
            }
        }
    }
}
