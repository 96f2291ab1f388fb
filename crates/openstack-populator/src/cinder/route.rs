//! Which way a volume or a snapshot takes, by its record alone.

use transfer::{Error, Kind};

use super::{Microversion, Snapshot, Volume};

/// The first step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// The volume is uploaded as it is.
    Upload,
    /// A snapshot of the volume is made first. `force` says that the server takes one of a volume in use only when
    /// told so.
    Snapshot {
        /// Sent below microversion 3.66, which refuses it.
        force: bool,
    },
    /// The snapshot is turned into a volume first.
    Volume,
    /// It is busy, and may be free soon.
    Wait,
}

/// The way of a volume.
///
/// # Errors
/// [`Kind::Unusable`], which says what to do.
pub fn route_of_volume(volume: &Volume, version: Microversion) -> Result<Route, Error> {
    let id = &volume.id;
    refuse_encrypted(volume)?;
    if volume.multiattach && volume.attachments.len() > 1 {
        return Err(unusable(format!(
            "the volume {id} is attached to {} servers, each of which may write to it, so that a snapshot of it may hold half a \
             change; detach it from all but one of them",
            volume.attachments.len()
        )));
    }
    let force = version < Microversion::WITHOUT_FORCE;
    match volume.status.as_str() {
        // To take these keys away would change a volume that is not ours.
        "available" if volume.reserved().next().is_some() => Ok(Route::Snapshot { force: false }),
        "available" => Ok(Route::Upload),
        "in-use" => Ok(Route::Snapshot { force }),
        "creating" | "downloading" | "uploading" | "reserved" | "attaching" | "detaching"
        | "backing-up" | "restoring-backup" | "extending" | "retyping" | "maintenance" => {
            Ok(Route::Wait)
        }
        status => Err(unusable(format!(
            "the volume {id} has the status {}: only one that is available or in use can be copied; have it repaired, or copy a \
             snapshot of it with --snapshot-id",
            net::quoted(status)
        ))),
    }
}

/// The way of a snapshot.
///
/// # Errors
/// [`Kind::Unusable`], which says what to do.
pub fn route_of_snapshot(snapshot: &Snapshot) -> Result<Route, Error> {
    match snapshot.status.as_str() {
        "available" => Ok(Route::Volume),
        "creating" | "backing-up" => Ok(Route::Wait),
        status => Err(unusable(format!(
            "the snapshot {} has the status {}: only one that is available can be copied; make another one",
            snapshot.id,
            net::quoted(status)
        ))),
    }
}

/// Refuses a volume whose image would be of no use.
///
/// # Errors
/// [`Kind::Unusable`], which says what to do.
pub(super) fn refuse_encrypted(volume: &Volume) -> Result<(), Error> {
    if !volume.encrypted {
        return Ok(());
    }
    let of_type = volume.volume_type.as_deref().map_or_else(
        || "an encrypted type".to_owned(),
        |name| format!("the encrypted type {}", net::quoted(name)),
    );
    Err(unusable(format!(
        "the volume {} is of {of_type}: an image of it would hold what only the cloud's key can open; give it another type \
         (openstack volume set --type TYPE --retype-policy on-demand {}), or copy its files inside of a server to a volume of \
         another type",
        volume.id, volume.id
    )))
}

fn unusable(text: String) -> Error {
    Error::new(Kind::Unusable, text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn volume(record: &serde_json::Value) -> Volume {
        let mut whole = json!({"id": "v-1", "status": "available", "size": 1});
        for (key, value) in record.as_object().unwrap() {
            whole[key] = value.clone();
        }
        serde_json::from_value(whole).unwrap()
    }

    const OLD: Microversion = Microversion::new(3, 65);
    const NEW: Microversion = Microversion::new(3, 66);

    #[test]
    fn the_way_of_a_volume() {
        let kept =
            json!({"volume_image_metadata": {"os_glance_import_task": "x", "os_distro": "y"}});
        for (record, version, route) in [
            (json!({}), NEW, Route::Upload),
            (
                json!({"volume_image_metadata": {"os_distro": "x"}}),
                NEW,
                Route::Upload,
            ),
            (kept, NEW, Route::Snapshot { force: false }),
            (
                json!({"status": "in-use"}),
                NEW,
                Route::Snapshot { force: false },
            ),
            (
                json!({"status": "in-use"}),
                OLD,
                Route::Snapshot { force: true },
            ),
            (json!({"status": "uploading"}), NEW, Route::Wait),
            (
                json!({"status": "in-use", "multiattach": true, "attachments": [{}]}),
                NEW,
                Route::Snapshot { force: false },
            ),
        ] {
            let found = route_of_volume(&volume(&record), version);
            assert_eq!(found.unwrap(), route, "{record}");
        }
    }

    #[test]
    fn a_refusal_names_the_way_out() {
        for (record, needle) in [
            (json!({"encrypted": true}), "--retype-policy"),
            (
                json!({"encrypted": true, "volume_type": "luks"}),
                "the encrypted type \"luks\"",
            ),
            (
                json!({"multiattach": true, "attachments": [{}, {}]}),
                "detach it from all but one",
            ),
            (json!({"status": "error"}), "\"error\""),
            (json!({"status": "\u{1b}x"}), "repaired"),
        ] {
            let error = route_of_volume(&volume(&record), NEW).unwrap_err();
            assert_eq!(error.kind(), Kind::Unusable);
            assert!(error.to_string().contains(needle), "{error}");
            testkit::plain::assert_plain(&error.to_string());
        }
    }

    #[test]
    fn the_way_of_a_snapshot() {
        let of = |status: &str| {
            route_of_snapshot(&Snapshot {
                status: status.into(),
                ..Snapshot::default()
            })
        };
        assert_eq!(of("available").unwrap(), Route::Volume);
        assert_eq!(of("creating").unwrap(), Route::Wait);
        assert_eq!(of("error_deleting").unwrap_err().kind(), Kind::Unusable);
    }
}
