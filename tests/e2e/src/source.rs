//! Disks of oVirt and of OpenStack, with what a user writes to have them copied.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use suite::{EngineDisk, Image, User};

use crate::{
    cluster::cluster,
    resource::{self, Resource},
};

/// Where a disk comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A disk of oVirt.
    Ovirt,
    /// An image of OpenStack.
    Openstack,
}

/// A disk or image, its secret and its populator resource.
#[derive(Debug, Clone)]
pub struct Source {
    /// Kind.
    pub kind: Kind,
    /// Name of the populator resource.
    pub name: String,
    /// Name of the secret.
    pub secret: String,
    /// What the secret holds.
    pub data: BTreeMap<String, String>,
    /// Spec of the populator resource.
    pub spec: Value,
    /// Labels of the populator resource.
    pub labels: BTreeMap<String, String>,
    /// What it is there.
    pub remote: Remote,
}

/// What a source is at its service.
#[derive(Debug, Clone)]
pub enum Remote {
    /// A disk, and an account that may read it.
    Ovirt(EngineDisk, User),
    /// An image.
    Openstack(Image),
}

impl Kind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Ovirt, Self::Openstack];

    /// Its populator resources.
    pub const fn resource(self) -> Resource {
        match self {
            Self::Ovirt => resource::OVIRT,
            Self::Openstack => resource::OPENSTACK,
        }
    }

    /// Its short name for `kubectl`.
    pub const fn short(self) -> &'static str {
        match self {
            Self::Ovirt => "ovvp",
            Self::Openstack => "osvp",
        }
    }
}

impl Source {
    /// The engine's disk.
    #[track_caller]
    pub fn engine_disk(&self) -> &EngineDisk {
        match &self.remote {
            Remote::Ovirt(disk, _) => disk,
            Remote::Openstack(_) => panic!("an image is no disk of an engine"),
        }
    }

    /// Copies that begin from now on are slow: the disk gives so many bytes a second. Of OpenStack it is its
    /// region, which gives 4 MiB/s to all that read from it together, and counts only before the secret is applied.
    pub fn slow(mut self, bytes_per_second: u64) -> Self {
        match &self.remote {
            Remote::Ovirt(disk, _) => disk.set(&json!({ "bytes_per_second": bytes_per_second })),
            Remote::Openstack(_) => {
                self.data
                    .insert("regionName".to_owned(), "RegionSlow".to_owned());
            }
        }
        self
    }

    /// Copies from oVirt have all bytes, but do not end until [`Self::let_go`]: the engine goes on finalizing their
    /// transfers. The mover waits for that longer than a test does.
    pub fn held(self) -> Self {
        self.engine_disk()
            .set(&json!({ "finalizing_seconds": 3600 }));
        self
    }

    /// Waits until a copy has all bytes, and is held.
    #[track_caller]
    pub fn wait_until_held(&self) {
        let disk = self.engine_disk();
        cluster().wait_for("a copy is held", || {
            let phases = disk.phases();
            (phases.last()? == "finalizing_success").then_some(())
        });
    }

    /// Copies that were [held](Self::held) may end.
    pub fn let_go(&self) {
        self.engine_disk().set(&json!({ "finalizing_seconds": 0 }));
    }

    /// Copies that begin from now on run at full speed again. Says nothing to OpenStack.
    pub fn hurry(&self) {
        if let Remote::Ovirt(disk, _) = &self.remote {
            disk.set(&json!({ "bytes_per_second": 0 }));
        }
    }

    /// Replaces a key of the secret, before it is applied.
    pub fn with_secret(mut self, key: &str, value: &str) -> Self {
        self.data.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Another object of OpenStack in the place of the image, before it is applied: `volumeId` or `snapshotId`.
    pub fn of_cinder(mut self, field: &str, id: &str) -> Self {
        self.spec.as_object_mut().unwrap().remove("imageId");
        self.with_spec(field, id)
    }

    /// Replaces a field of the spec, before it is applied.
    pub fn with_spec(mut self, field: &str, value: &str) -> Self {
        self.spec[field] = json!(value);
        self
    }
}
