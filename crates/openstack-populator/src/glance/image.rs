//! The record of an image.

use serde::Deserialize;
use serde_json::Value;
use transfer::{Error, Kind};

use super::mapping::{self, Mapping, Place};
use crate::cinder::PlaceId;

/// What `GET /v2/images/{id}` says. Fields that a download does not need are not read.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Image {
    /// `active` when there is data.
    #[serde(default)]
    pub status: Option<String>,
    /// Bytes of data, in whatever format.
    #[serde(default)]
    pub size: Option<u64>,
    /// `raw`, `qcow2` and so on, as the uploader said.
    #[serde(default)]
    pub disk_format: Option<String>,
    /// `bare` for data that is the disk and nothing else.
    #[serde(default)]
    pub container_format: Option<String>,
    /// MD5 of the data.
    #[serde(default)]
    pub checksum: Option<String>,
    /// Which digest `os_hash_value` is, by Python's name for it.
    #[serde(default)]
    pub os_hash_algo: Option<String>,
    /// Digest of the data.
    #[serde(default)]
    pub os_hash_value: Option<String>,
    /// Everything else: properties that mark encryption, or name where the data of an image without
    /// data is. `virtual_size` is not used: Glance states none for what it cannot measure, and
    /// bytes are copied as they are.
    #[serde(flatten)]
    pub(super) properties: serde_json::Map<String, Value>,
}

impl Image {
    /// The number of bytes to copy, which is not 0: an image without data is no disk, in any
    /// format.
    ///
    /// # Errors
    /// [`Kind::Unusable`] when the image is in a state that has no data, says why; or when an active
    /// image has no data or states no size, says where the data may be.
    pub fn bytes(&self) -> Result<u64, Error> {
        let status = self.status.as_deref().unwrap_or("(none)");
        let why = match status {
            "active" => None,
            "queued" => Some("no data has been uploaded yet, or an upload was refused"),
            "saving" | "uploading" => Some("its data is still being uploaded"),
            "importing" => Some("its data is still being imported"),
            "deactivated" => Some(
                "an administrator has blocked downloads; have it reactivated (openstack image set --activate)",
            ),
            "killed" => Some("its upload failed"),
            "deleted" | "pending_delete" => Some("it has been deleted"),
            _ => Some("only active images can be copied"),
        };
        if let Some(why) = why {
            return Err(unusable(format!("the image's status is {status}: {why}")));
        }
        let what = match self.size {
            Some(0) => "the image holds no data: its size is 0 bytes",
            Some(bytes) => return Ok(bytes),
            None => "the image is active, but Glance states no size for it",
        };
        Err(unusable(format!("{what}; {}", self.way_to_data())))
    }

    /// The snapshot to copy in place of an active image without data: the one that a server's image names, if it names
    /// exactly one source of a disk that the server boots from.
    #[must_use]
    pub fn boot_snapshot(&self) -> Option<PlaceId> {
        let is_record =
            self.status.as_deref() == Some("active") && matches!(self.size, None | Some(0));
        is_record
            .then(|| mapping::boot_snapshot(self.properties.get("block_device_mapping")))
            .flatten()
    }

    /// Where the data of an image without data is, and what to do about it.
    fn way_to_data(&self) -> String {
        const RECORD: &str = "it is the record of a server that was booted from a volume";
        const UPLOAD: &str = "--disk-format raw --container-format bare NAME), and name that image";
        match Mapping::of(self.properties.get("block_device_mapping")) {
            Mapping::Disk { place, others } => {
                let others = listed(&others);
                match place {
                    Place::Snapshot(id) => format!(
                        "{RECORD}, whose disk is in the volume snapshot {id}{others}. Make a volume from the snapshot (openstack volume create --snapshot {id} VOLUME), upload it as a raw image (openstack image create --volume VOLUME {UPLOAD}"
                    ),
                    Place::Volume(id) => format!(
                        "{RECORD}, whose disk is in the volume {id}{others}. Upload the volume as a raw image (openstack image create --volume {id} {UPLOAD}"
                    ),
                }
            }
            Mapping::Unreadable => format!(
                "{RECORD}, but its property block_device_mapping names no volume snapshot that can be read. Find the snapshot of the server's disk (openstack volume snapshot list), make a volume from it (openstack volume create --snapshot ID VOLUME), upload it as a raw image (openstack image create --volume VOLUME {UPLOAD}"
            ),
            Mapping::Absent => {
                "there is nothing to copy. Check that its upload was finished, or upload the disk as a new image and name that one".into()
            }
        }
    }

    /// The name of a property which says that the data is encrypted, if there is one.
    ///
    /// `os_encrypt_*` is Glance's own; a volume of an encrypted Cinder type that was uploaded as an
    /// image carries `cinder_encryption_key_id`.
    #[must_use]
    pub fn encryption(&self) -> Option<&str> {
        self.properties
            .iter()
            .filter(|(_, value)| !matches!(value, Value::Null) && *value != "")
            .map(|(name, _)| name.as_str())
            .find(|name| name.starts_with("os_encrypt_") || *name == "cinder_encryption_key_id")
    }
}

/// The places that a mapping names besides, as far as a message has room.
fn listed(others: &[Place]) -> String {
    const MOST: usize = 4;
    if others.is_empty() {
        return String::new();
    }
    let mut shown: Vec<String> = others.iter().take(MOST).map(Place::to_string).collect();
    if others.len() > MOST {
        shown.push(format!("{} more", others.len() - MOST));
    }
    format!(
        " (its property block_device_mapping names {} as well)",
        shown.join(", ")
    )
}

fn unusable(text: String) -> Error {
    Error::new(Kind::Unusable, text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn image(record: Value) -> Image {
        serde_json::from_value(record).unwrap()
    }

    #[test]
    fn only_active_images_have_bytes() {
        for (status, needle) in [
            (json!("queued"), "uploaded yet"),
            (json!("saving"), "still being uploaded"),
            (json!("uploading"), "still being uploaded"),
            (json!("importing"), "imported"),
            (json!("deactivated"), "reactivated"),
            (json!("killed"), "upload failed"),
            (json!("deleted"), "deleted"),
            (json!("pending_delete"), "deleted"),
            (json!("hibernating"), "only active"),
            (json!(null), "only active"),
        ] {
            // After a refused upload a queued record keeps the hashes of what was refused.
            let record =
                json!({"status": status, "size": 5, "checksum": "stale", "os_hash_value": "stale"});
            let error = image(record).bytes().unwrap_err();
            assert_eq!(error.kind(), Kind::Unusable);
            let text = error.to_string();
            assert!(text.contains(needle), "{text}");
            assert!(text.contains(status.as_str().unwrap_or("(none)")), "{text}");
        }
    }

    #[test]
    fn an_active_image_needs_a_size() {
        assert_eq!(
            image(json!({"status": "active", "size": 5}))
                .bytes()
                .unwrap(),
            5
        );
        for size in [
            json!(-1),
            json!(0.0),
            json!(-0.0),
            json!("0"),
            json!(""),
            json!([]),
        ] {
            let record = json!({"status": "active", "size": size});
            assert!(serde_json::from_value::<Image>(record).is_err(), "{size}");
        }
    }

    #[test]
    fn an_image_without_data_is_no_disk_and_says_where_the_data_is() {
        const SNAPSHOT: &str =
            r#"[{"snapshot_id": "b", "boot_index": 1}, {"snapshot_id": "a-1", "boot_index": 0}]"#;
        const VOLUME: &str = r#"[{"volume_id": "v-1", "boot_index": 0}]"#;
        for (mapping, needles) in [
            (
                json!(SNAPSHOT),
                &[
                    "in the volume snapshot a-1 ",
                    "names snapshot b as well",
                    "volume create --snapshot a-1 ",
                    "image create --volume VOLUME --disk-format raw",
                ][..],
            ),
            (
                json!(VOLUME),
                &[
                    "in the volume v-1.",
                    "image create --volume v-1 --disk-format raw",
                ],
            ),
            (
                json!("\u{7}rubbish"),
                &["names no volume snapshot that can be read", "snapshot list"],
            ),
            (json!(null), &["nothing to copy", "upload"]),
        ] {
            for (size, what) in [(json!(0), "holds no data"), (json!(null), "no size")] {
                for format in [json!("raw"), json!("qcow2"), json!(null)] {
                    let error = image(json!({
                        "status": "active", "size": size, "disk_format": format, "virtual_size": 1 << 30,
                        "checksum": "d41d8cd98f00b204e9800998ecf8427e", "block_device_mapping": mapping,
                    }))
                    .bytes()
                    .unwrap_err();
                    assert_eq!(error.kind(), Kind::Unusable);
                    let text = error.to_string();
                    for needle in needles.iter().chain(&[what]) {
                        assert!(text.contains(needle), "{needle}: {text}");
                    }
                    for evil in ["--verbatim", "rubbish", "\u{7}"] {
                        assert!(!text.contains(evil), "{text}");
                    }
                    assert!(text.len() < 600, "{text}");
                }
            }
        }
        let record = json!({"status": "active", "block_device_mapping": SNAPSHOT});
        assert!(image(record).bytes().is_err());
    }

    #[test]
    fn data_is_copied_whatever_else_the_record_says() {
        // A server that was booted from an image, with a volume beside it: the image holds its
        // disk.
        for record in [
            json!({"status": "active", "size": 1, "block_device_mapping": r#"[{"snapshot_id": "a"}]"#}),
            json!({"status": "active", "size": 1, "virtual_size": 0}),
        ] {
            assert_eq!(image(record).bytes().unwrap(), 1);
        }
    }

    #[test]
    fn marks_of_encryption() {
        for (record, mark) in [
            (
                json!({"status": "active", "os_hidden": true, "virtual_size": 7}),
                None,
            ),
            (json!({"os_encrypt_key_id": "k"}), Some("os_encrypt_key_id")),
            (
                json!({"os_encrypt_format": "LUKSv1"}),
                Some("os_encrypt_format"),
            ),
            (
                json!({"cinder_encryption_key_id": "k"}),
                Some("cinder_encryption_key_id"),
            ),
            (json!({"cinder_encryption_key_id": ""}), None),
            (json!({"os_encrypt_key_id": null}), None),
        ] {
            assert_eq!(image(record).encryption(), mark);
        }
    }
}
