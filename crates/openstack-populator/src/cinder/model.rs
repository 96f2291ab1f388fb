//! What the services say of volumes, snapshots and images; fields that are not needed are not read.

use serde::Deserialize;
use serde_json::{Map, Value};

/// A volume.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Volume {
    /// UUID.
    pub id: String,
    /// `available`, `in-use` and so on.
    pub status: String,
    /// In GiB.
    #[serde(default)]
    pub size: u64,
    /// Its data is encrypted by the hosts that attach it.
    #[serde(default)]
    pub encrypted: bool,
    /// The name of its type.
    #[serde(default)]
    pub volume_type: Option<String>,
    /// Several servers may have it at a time.
    #[serde(default)]
    pub multiattach: bool,
    /// An entry for each server that has it.
    #[serde(default)]
    pub attachments: Vec<Value>,
    /// The user's.
    #[serde(default)]
    pub metadata: Map<String, Value>,
    /// What an image that is made of it inherits.
    #[serde(default)]
    pub volume_image_metadata: Map<String, Value>,
}

/// A snapshot of a volume.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Snapshot {
    /// UUID.
    pub id: String,
    /// `available`, `creating` and so on.
    pub status: String,
    /// In GiB.
    #[serde(default)]
    pub size: u64,
    /// The volume that it is of.
    #[serde(default)]
    pub volume_id: Option<String>,
    /// The user's.
    #[serde(default)]
    pub metadata: Map<String, Value>,
}

/// An image in Glance's list.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct StoredImage {
    /// UUID.
    pub id: String,
    /// `active` when the upload is complete.
    #[serde(default)]
    pub status: String,
    /// `private` unless its owner says otherwise.
    #[serde(default)]
    pub visibility: String,
    /// Everything else, the user's properties among it.
    #[serde(flatten)]
    pub properties: Map<String, Value>,
}

/// Bytes of the unit in which Cinder counts.
const GIB: u64 = 1 << 30;

impl Volume {
    /// Size in bytes.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.size.saturating_mul(GIB)
    }

    /// Image metadata that Glance keeps for itself: with it older releases of Cinder fail to upload.
    pub fn reserved(&self) -> impl Iterator<Item = &str> {
        let keys = self.volume_image_metadata.keys();
        keys.filter(|key| key.starts_with("os_glance"))
            .map(String::as_str)
    }
}

impl Snapshot {
    /// Size in bytes.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.size.saturating_mul(GIB)
    }
}
