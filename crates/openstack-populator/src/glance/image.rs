//! The record of an image.

use serde::Deserialize;
use serde_json::Value;

use crate::{Error, Kind};

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
    /// Everything else, of which only the marks of encryption are looked at.
    #[serde(flatten)]
    pub(super) properties: serde_json::Map<String, Value>,
}

impl Image {
    /// The number of bytes to copy.
    ///
    /// # Errors
    /// [`Kind::Unusable`] when the image is in a state that has no data, says why; or when an active
    /// image states no size.
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
        self.size
            .ok_or_else(|| unusable("the image is active, but Glance states no size for it".into()))
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
        assert_eq!(
            image(json!({"status": "active", "size": 0}))
                .bytes()
                .unwrap(),
            0
        );
        for record in [
            json!({"status": "active", "size": null}),
            json!({"status": "active"}),
        ] {
            let error = image(record).bytes().unwrap_err();
            assert!(error.to_string().contains("no size"), "{error}");
        }
        assert!(serde_json::from_value::<Image>(json!({"status": "active", "size": -1})).is_err());
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
