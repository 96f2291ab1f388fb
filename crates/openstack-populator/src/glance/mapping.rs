//! Where the data of an image without data is.
//!
//! Nova makes such an image of a server that was booted from a volume: the record is active and has
//! a size of 0, and the property `block_device_mapping` names the snapshots that Cinder made of the
//! server's volumes. It is a string that holds JSON, and the owner of the image may write anything
//! into it; so only ids are taken from it.

use std::fmt;

use serde_json::Value;

use crate::cinder::PlaceId;

/// Longest text that is parsed; Nova writes some 400 bytes for each volume.
const LONGEST: usize = 64 << 10;
/// Longest id that is shown. Ids of Cinder are UUIDs, of 36 characters.
const LONGEST_ID: usize = 64;

/// What the property says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mapping {
    /// It is not there, or lists no device.
    Absent,
    /// It is there, and names neither a snapshot nor a volume.
    Unreadable,
    /// The server's first disk is there.
    Disk {
        /// The object of Cinder that holds it.
        place: Place,
        /// The other places that the property names, in its order.
        others: Vec<Place>,
    },
}

/// An object of Cinder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// The snapshot with this id.
    Snapshot(String),
    /// The volume with this id.
    Volume(String),
}

impl Mapping {
    /// Reads the property. Of several disks the one that the server boots from counts, else the
    /// first.
    pub(super) fn of(property: Option<&Value>) -> Self {
        let devices = match devices(property) {
            Some(devices) if devices.is_empty() => return Self::Absent,
            Some(devices) => devices,
            None => return Self::Unreadable,
        };
        let mut places: Vec<(bool, Place)> = devices
            .iter()
            .filter_map(|device| Some((is_first(device), place(device)?)))
            .collect();
        if places.is_empty() {
            return Self::Unreadable;
        }
        let first = places.iter().position(|(first, _)| *first).unwrap_or(0);
        let (_, place) = places.remove(first);
        Self::Disk {
            place,
            others: places.into_iter().map(|(_, place)| place).collect(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Snapshot(id) => write!(f, "snapshot {id}"),
            Self::Volume(id) => write!(f, "volume {id}"),
        }
    }
}

/// The snapshot that holds the server's disk, when the property leaves no doubt: one device alone has a boot index that is
/// not negative, and names a snapshot by its UUID.
pub(super) fn boot_snapshot(property: Option<&Value>) -> Option<PlaceId> {
    let devices = devices(property)?;
    let mut bootable = devices.iter().filter(|device| is_bootable(device));
    let device = bootable.next().filter(|_| bootable.next().is_none())?;
    match place(device)? {
        Place::Snapshot(id) => id.parse().ok(),
        Place::Volume(_) => None,
    }
}

/// The devices that the property lists; `None` when it cannot be read.
fn devices(property: Option<&Value>) -> Option<Vec<Value>> {
    let devices = match property {
        None | Some(Value::Null) => return Some(Vec::new()),
        Some(Value::String(text)) if text.trim().is_empty() => return Some(Vec::new()),
        Some(Value::String(text)) if text.len() > LONGEST => return None,
        Some(Value::String(text)) => serde_json::from_str(text).unwrap_or_default(),
        Some(other) => other.clone(),
    };
    match devices {
        Value::Array(devices) => Some(devices),
        _ => None,
    }
}

/// Nova gives -1 or null to a disk that the server does not boot from.
fn is_bootable(device: &Value) -> bool {
    let index = &device["boot_index"];
    let text = index.as_str().and_then(|text| text.parse().ok());
    index.as_i64().or(text).is_some_and(|index| index >= 0)
}

fn is_first(device: &Value) -> bool {
    let index = &device["boot_index"];
    *index == 0 || *index == "0"
}

fn place(device: &Value) -> Option<Place> {
    let snapshot = id(&device["snapshot_id"]).map(Place::Snapshot);
    snapshot.or_else(|| id(&device["volume_id"]).map(Place::Volume))
}

fn id(value: &Value) -> Option<String> {
    let safe = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    value
        .as_str()
        .filter(|id| (1..=LONGEST_ID).contains(&id.len()))
        // A dash at the start would be an option of the command that is advised.
        .filter(|id| !id.starts_with('-') && id.bytes().all(safe))
        .map(Into::into)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ID: &str = "9df0a5f6-5a70-4bd7-8e5d-2e2a2e7b1c11";

    fn snapshot(id: &str, others: &[&str]) -> Mapping {
        let place = |id: &str| Place::Snapshot(id.into());
        Mapping::Disk {
            place: place(id),
            others: others.iter().map(|id| place(id)).collect(),
        }
    }

    #[test]
    fn a_snapshot_is_followed_when_there_is_no_doubt() {
        let volume = json!({"boot_index": 0, "volume_id": ID});
        for (devices, followed) in [
            (json!([entry(ID, &json!(0))]), true),
            (json!([entry(ID, &json!("0"))]), true),
            (
                json!([
                    entry("b", &json!(-1)),
                    entry(ID, &json!(0)),
                    entry("c", &json!(null))
                ]),
                true,
            ),
            (json!([entry(ID, &json!(0)), entry("b", &json!(1))]), false),
            (json!([entry(ID, &json!(0)), volume]), false),
            (json!([volume]), false),
            (json!([entry(ID, &json!(null))]), false),
            (json!([entry("not-a-uuid", &json!(0))]), false),
            (
                json!([{"boot_index": 0, "source_type": "blank"}, entry(ID, &json!(1))]),
                false,
            ),
            (json!([]), false),
        ] {
            let text = json!(devices.to_string());
            let found = boot_snapshot(Some(&text)).map(|id| id.to_string());
            assert_eq!(found.as_deref(), followed.then_some(ID), "{devices}");
        }
        for rubbish in [
            json!(null),
            json!("rubbish"),
            json!(7),
            json!(" ".repeat(LONGEST + 1)),
        ] {
            assert_eq!(boot_snapshot(Some(&rubbish)), None);
        }
    }

    /// An entry as Nova writes it.
    fn entry(id: &str, boot_index: &Value) -> Value {
        json!({
            "guest_format": null, "boot_index": boot_index, "no_device": null, "image_id": null,
            "volume_id": null, "device_name": "/dev/vda", "disk_bus": "virtio", "volume_size": 10,
            "source_type": "snapshot", "device_type": "disk", "snapshot_id": id,
            "destination_type": "volume", "delete_on_termination": false, "tag": null,
        })
    }

    #[test]
    fn the_disk_that_the_server_boots_from() {
        for (devices, mapping) in [
            (json!([entry(ID, &json!(0))]), snapshot(ID, &[])),
            (
                json!([
                    entry("data", &json!(-1)),
                    entry(ID, &json!(0)),
                    entry("more", &json!(null))
                ]),
                snapshot(ID, &["data", "more"]),
            ),
            (
                json!([entry("data", &json!("1")), entry(ID, &json!("0"))]),
                snapshot(ID, &["data"]),
            ),
            // The form of Nova before 2013 has no index.
            (
                json!([{"device_name": "vda", "snapshot_id": ID}, {"device_name": "vdb", "snapshot_id": "b"}]),
                snapshot(ID, &["b"]),
            ),
            // A disk without a place is no disk to name.
            (
                json!([{"boot_index": 0, "source_type": "blank"}, entry(ID, &json!(1)), 7, null]),
                snapshot(ID, &[]),
            ),
            (
                json!([{"boot_index": 0, "volume_id": ID, "snapshot_id": null}]),
                Mapping::Disk {
                    place: Place::Volume(ID.into()),
                    others: Vec::new(),
                },
            ),
        ] {
            let text = devices.to_string();
            assert_eq!(Mapping::of(Some(&json!(text))), mapping, "{text}");
            // Not the form of the API, but what it means is plain.
            assert_eq!(Mapping::of(Some(&devices)), mapping, "{text}");
        }
    }

    #[test]
    fn nothing_is_there() {
        assert_eq!(Mapping::of(None), Mapping::Absent);
        for value in [json!(null), json!(""), json!(" \n"), json!("[]"), json!([])] {
            assert_eq!(Mapping::of(Some(&value)), Mapping::Absent, "{value}");
        }
    }

    #[test]
    fn rubbish_is_not_shown() {
        let entry = |id: &str| json!([{"boot_index": 0, "snapshot_id": id}]).to_string();
        for text in [
            "rubbish".to_owned(),
            "null".into(),
            "{}".into(),
            "[[[".into(),
            "[".repeat(10_000),
            r#"{"snapshot_id": "x"}"#.into(),
            r#"[{"snapshot_id": 7}]"#.into(),
            r#"["snapshot_id"]"#.into(),
            "[null, 1e999, {}]".into(),
            format!("[{}]", vec!["{}"; 1000].join(",")),
            entry(""),
            entry("a b"),
            entry("$(reboot)"),
            entry("--os-password"),
            entry("\u{1b}[31mred"),
            entry("ünsafe"),
            entry(&"a".repeat(65)),
            format!("{}{}", " ".repeat(LONGEST), entry("x")),
        ] {
            let found = Mapping::of(Some(&json!(text)));
            assert_eq!(found, Mapping::Unreadable, "{text:.80}");
        }
        for value in [json!(true), json!(0), json!({"snapshot_id": "x"})] {
            assert_eq!(Mapping::of(Some(&value)), Mapping::Unreadable, "{value}");
        }
        assert_eq!(
            Mapping::of(Some(&json!(entry(&"a".repeat(64))))),
            snapshot(&"a".repeat(64), &[])
        );
    }
}
