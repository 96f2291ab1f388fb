//! The two kinds: what a user writes, and what the API server checks.
//!
//! `kubectl explain` shows the descriptions, and the answer to `kubectl apply` the messages of the
//! rules: both are written for the person who typed the resource.
#![allow(
    clippy::duplicated_attributes,
    reason = "two short names of one kind, and columns of the same type, are no duplicates"
)]
#![allow(
    clippy::doc_markdown,
    reason = "descriptions are shown by kubectl, which does not render Markdown"
)]
#![allow(
    unreachable_pub,
    reason = "the derived validators are public in a private scope"
)]

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::PopulatorStatus;

/// A disk of oVirt or RHV, as the source of claims that refer to it by dataSourceRef.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[kube(
    group = "forklift.konveyor.io",
    version = "v1beta1",
    kind = "OvirtVolumePopulator",
    plural = "ovirtvolumepopulators",
    shortname = "ovvp",
    shortname = "ovvps",
    namespaced,
    status = "PopulatorStatus",
    derive = "PartialEq",
    doc = "A disk of oVirt or RHV, as the source of claims that refer to it by dataSourceRef.",
    printcolumn(
        name = "Progress",
        type_ = "string",
        json_path = ".status.progress",
        description = "Percent of the disk that is in place"
    ),
    printcolumn(
        name = "Rate",
        type_ = "string",
        json_path = ".status.rate",
        description = "Rate of the copy"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].reason"
    ),
    printcolumn(
        name = "Claims",
        type_ = "integer",
        json_path = ".status.claimCount",
        description = "How many claims refer to it",
        priority = 1
    ),
    printcolumn(
        name = "Disk",
        type_ = "string",
        json_path = ".spec.diskId",
        priority = 1
    ),
    printcolumn(
        name = "Error",
        type_ = "string",
        json_path = ".status.lastError",
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct OvirtVolumePopulatorSpec {
    /// URL of the engine: scheme://host[:port], with or without /ovirt-engine/api.
    #[schemars(length(max = 2048))]
    #[x_kube(validation = Rule::new("isURL(self) && url(self).getScheme() in ['http', 'https'] && url(self).getHostname() != '' && !self.matches('^[^/]*//[^/?#]*@')").message("must be a URL such as https://engine.example.org, without a user or a password"))]
    pub engine_url: String,

    /// Name of the secret, in the claim's namespace, with the keys user, password, cacert or
    /// ca.crt, and insecureSkipVerify.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')").message("must be the name of a secret in the claim's namespace, not its content"))]
    pub engine_secret_name: String,

    /// UUID of the disk. Immutable.
    #[schemars(length(max = 36))]
    #[x_kube(validation = Rule::new("self.matches('^[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$')").message("must be the UUID of a disk, as the engine shows it"))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("is immutable: create a new OvirtVolumePopulator for another disk"))]
    pub disk_id: String,

    /// Secondary network over which the disk is copied: namespace and name of a
    /// NetworkAttachmentDefinition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("has(self.name) && self.name != ''").message("must name a NetworkAttachmentDefinition; its namespace is this one unless given"))]
    pub transfer_network: Option<ObjectReference>,
}

/// An image, a volume or a volume's snapshot of OpenStack, as the source of claims that refer to it by
/// dataSourceRef.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[kube(
    group = "forklift.konveyor.io",
    version = "v1beta1",
    kind = "OpenstackVolumePopulator",
    plural = "openstackvolumepopulators",
    shortname = "osvp",
    shortname = "osvps",
    namespaced,
    status = "PopulatorStatus",
    derive = "PartialEq",
    doc = "An image, a volume or a volume's snapshot of OpenStack, as the source of claims that refer to it by dataSourceRef.",
    printcolumn(
        name = "Progress",
        type_ = "string",
        json_path = ".status.progress",
        description = "Percent of the disk that is in place"
    ),
    printcolumn(
        name = "Rate",
        type_ = "string",
        json_path = ".status.rate",
        description = "Rate of the copy"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].reason"
    ),
    printcolumn(
        name = "Claims",
        type_ = "integer",
        json_path = ".status.claimCount",
        description = "How many claims refer to it",
        priority = 1
    ),
    printcolumn(
        name = "Image",
        type_ = "string",
        json_path = ".spec.imageId",
        priority = 1
    ),
    printcolumn(
        name = "Volume",
        type_ = "string",
        json_path = ".spec.volumeId",
        priority = 1
    ),
    printcolumn(
        name = "Snapshot",
        type_ = "string",
        json_path = ".spec.snapshotId",
        priority = 1
    ),
    printcolumn(
        name = "Error",
        type_ = "string",
        json_path = ".status.lastError",
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.imageId) ? 1 : 0) + (has(self.volumeId) ? 1 : 0) + (has(self.snapshotId) ? 1 : 0) == 1").message("must name one disk: exactly one of imageId, volumeId and snapshotId"))]
#[x_kube(validation = Rule::new("has(self.imageId) == has(oldSelf.imageId) && has(self.volumeId) == has(oldSelf.volumeId) && has(self.snapshotId) == has(oldSelf.snapshotId)").message("must keep the field that names its disk: create a new OpenstackVolumePopulator for another disk"))]
pub struct OpenstackVolumePopulatorSpec {
    /// URL of Keystone, such as https://keystone.example.org:5000/v3.
    #[schemars(length(max = 2048))]
    #[x_kube(validation = Rule::new("isURL(self) && url(self).getScheme() in ['http', 'https'] && url(self).getHostname() != '' && !self.matches('^[^/]*//[^/?#]*@')").message("must be a URL such as https://keystone.example.org:5000/v3, without a user or a password"))]
    pub identity_url: String,

    /// Name of the secret, in the claim's namespace, with the credentials.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')").message("must be the name of a secret in the claim's namespace, not its content"))]
    pub secret_name: String,

    /// UUID of the image, of Glance. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 36))]
    #[x_kube(validation = Rule::new("self.matches('^[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$')").message("must be the UUID of an image, as Glance shows it"))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("is immutable: create a new OpenstackVolumePopulator for another image"))]
    pub image_id: Option<String>,

    /// UUID of the volume, of Cinder, in use or not. It is copied by way of a temporary image, and of a snapshot
    /// when it is in use. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 36))]
    #[x_kube(validation = Rule::new("self.matches('^[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$')").message("must be the UUID of a volume, as Cinder shows it"))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("is immutable: create a new OpenstackVolumePopulator for another volume"))]
    pub volume_id: Option<String>,

    /// UUID of the snapshot of a volume, of Cinder. It is copied by way of a temporary volume and image.
    /// Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = 36))]
    #[x_kube(validation = Rule::new("self.matches('^[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$')").message("must be the UUID of a snapshot, as Cinder shows it"))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("is immutable: create a new OpenstackVolumePopulator for another snapshot"))]
    pub snapshot_id: Option<String>,

    /// Secondary network over which the disk is copied: namespace and name of a
    /// NetworkAttachmentDefinition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("has(self.name) && self.name != ''").message("must name a NetworkAttachmentDefinition; its namespace is this one unless given"))]
    pub transfer_network: Option<ObjectReference>,
}
