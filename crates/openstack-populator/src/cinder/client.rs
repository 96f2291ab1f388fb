//! Cinder's calls, one method each.

use std::{fmt, sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue, Method, StatusCode};
use mover::Failure;
use net::Rest;
use serde::Deserialize;
use serde_json::{Value, json};
use transfer::{Error, Kind};
use url::Url;

use super::{Api, Mark, PlaceId, Snapshot, Volume, api::shown, quota::Refusal, removal::Deletion};
use crate::keystone::Session;

/// A version of the API, as it is negotiated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Microversion {
    major: u16,
    minor: u16,
}

impl Microversion {
    /// From here on a volume in use needs no `force` for a snapshot, and the word is refused.
    pub const WITHOUT_FORCE: Self = Self::new(3, 66);
    /// The least one: an upload states the image's visibility, and messages are told.
    const LEAST: Self = Self::new(3, 5);

    /// `major.minor`.
    #[must_use]
    pub const fn new(major: u16, minor: u16) -> Self {
        Self { major, minor }
    }

    fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.')?;
        Some(Self::new(major.parse().ok()?, minor.parse().ok()?))
    }

    /// The one to use with a server that knows those up to `newest`: none that is newer than what this client was
    /// written for.
    ///
    /// # Errors
    /// [`Kind::Unusable`] when the server is too old.
    pub fn negotiate(newest: &str) -> Result<Self, Error> {
        let known = Self::parse(newest).unwrap_or(Self::new(3, 0));
        if known < Self::LEAST {
            return Err(Error::new(
                Kind::Unusable,
                format!(
                    "Cinder's newest microversion is {}, and {} is needed; upload the volume as a raw image (openstack image create \
                     --volume) and name that with --image-id",
                    net::quoted(newest),
                    Self::LEAST
                ),
            ));
        }
        Ok(known.min(Self::WITHOUT_FORCE))
    }
}

impl fmt::Display for Microversion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The client of one Cinder.
#[derive(Debug, Clone)]
pub struct Cinder {
    api: Api,
    version: Microversion,
}

impl Cinder {
    /// Asks for the version. `base` ends in `/v3`, or in the project behind it.
    ///
    /// # Errors
    /// No answer, a server that is none or too old.
    pub async fn open(
        rest: Rest,
        base: Url,
        session: Arc<Session>,
        retry: Duration,
    ) -> Result<Self, Failure> {
        const DOING: &str = "ask for the versions of its API";
        let api = Api::new("Cinder", rest, base, session, retry);
        let mut root = api.base().clone();
        crate::path::cut_project(&mut root);
        root.set_path(&format!("{}/", root.path().trim_end_matches('/')));
        let answer = api.call(Method::GET, root, None, DOING).await?;
        if !answer.status.is_success() {
            return Err(api.refusal(&answer, DOING));
        }
        let versions: Versions = api.understand(&answer, DOING)?;
        let newest = versions
            .versions
            .iter()
            .find(|version| version.id.starts_with("v3"))
            .map_or("", |version| version.version.as_str());
        let version = Microversion::negotiate(newest)?;
        let value = HeaderValue::try_from(format!("volume {version}"));
        let value = value.map_err(|_| Error::new(Kind::Internal, "the microversion's header"))?;
        Ok(Self {
            api: api.with_header(HeaderName::from_static("openstack-api-version"), value),
            version,
        })
    }

    /// The version that was negotiated.
    #[must_use]
    pub const fn version(&self) -> Microversion {
        self.version
    }

    pub(super) async fn volume(&self, id: &str) -> Result<Option<Volume>, Failure> {
        let found: Option<Wrapped<Volume>> = self
            .api
            .find(self.api.url(&format!("volumes/{id}")), "read the volume")
            .await?;
        Ok(found.map(|found| found.inner))
    }

    pub(super) async fn snapshot(&self, id: &str) -> Result<Option<Snapshot>, Failure> {
        let url = self.api.url(&format!("snapshots/{id}"));
        let found: Option<Wrapped<Snapshot>> = self.api.find(url, "read the snapshot").await?;
        Ok(found.map(|found| found.inner))
    }

    /// The volumes of this mark.
    pub(super) async fn volumes_of(&self, mark: &Mark) -> Result<Vec<Volume>, Failure> {
        let url = self.api.query("volumes/detail", &[("name", &mark.name())]);
        let found: Option<Volumes> = self.api.find(url, "list the volumes").await?;
        let mut volumes = found.unwrap_or_default().volumes;
        volumes.retain(|volume| mark.is_on(&volume.metadata));
        Ok(volumes)
    }

    /// The snapshots of this mark.
    pub(super) async fn snapshots_of(&self, mark: &Mark) -> Result<Vec<Snapshot>, Failure> {
        let url = self
            .api
            .query("snapshots/detail", &[("name", &mark.name())]);
        let found: Option<Snapshots> = self.api.find(url, "list the snapshots").await?;
        let mut snapshots = found.unwrap_or_default().snapshots;
        snapshots.retain(|snapshot| mark.is_on(&snapshot.metadata));
        Ok(snapshots)
    }

    pub(super) async fn make_snapshot(
        &self,
        volume: &PlaceId,
        force: bool,
        mark: &Mark,
    ) -> Result<Snapshot, Refusal> {
        let mut snapshot = json!({
            "volume_id": volume.to_string(), "name": mark.name(), "metadata": mark.metadata(),
        });
        if force {
            snapshot["force"] = json!(true);
        }
        let body = json!({ "snapshot": snapshot });
        let doing = format!("make a snapshot of the volume {volume}");
        let url = self.api.url("snapshots");
        let made: Result<Wrapped<Snapshot>, Refusal> = self.api.order(url, &body, &doing).await;
        let hint = |failure: Failure| match failure.exit() {
            contract::Exit::SourceUnusable | contract::Exit::Permission => {
                let exit = failure.exit();
                Failure::new(
                    exit,
                    format!(
                        "{failure}; where a snapshot of a volume in use is not allowed, stop the server and detach the volume, or have \
                         a snapshot made and name it with --snapshot-id"
                    ),
                )
            }
            _ => failure,
        };
        Ok(made.map_err(|refusal| refusal.map(hint))?.inner)
    }

    pub(super) async fn make_volume(
        &self,
        snapshot: &Snapshot,
        mark: &Mark,
    ) -> Result<Volume, Refusal> {
        let body = json!({"volume": {
            "snapshot_id": snapshot.id, "size": snapshot.size, "name": mark.name(), "metadata": mark.metadata(),
        }});
        let doing = format!("make a volume from the snapshot {}", snapshot.id);
        let url = self.api.url("volumes");
        let made: Wrapped<Volume> = self.api.order(url, &body, &doing).await?;
        Ok(made.inner)
    }

    /// Takes a key out of what an image of the volume inherits.
    pub(super) async fn unset_image_metadata(
        &self,
        volume: &str,
        key: &str,
    ) -> Result<(), Failure> {
        const DOING: &str = "take image metadata from the temporary volume";
        let body = json!({"os-unset_image_metadata": {"key": key}});
        let answer = self.act(volume, &body, DOING).await?;
        if answer.status.is_success() || answer.status == StatusCode::NOT_FOUND {
            return Ok(());
        }
        Err(self.api.refusal(&answer, DOING))
    }

    /// Gives an image of the volume the mark from its beginning.
    pub(super) async fn mark_image_of(&self, volume: &str, mark: &Mark) -> Result<(), Failure> {
        const DOING: &str = "mark the temporary volume";
        let body = json!({"os-set_image_metadata": {"metadata": mark.metadata()}});
        let answer = self.act(volume, &body, DOING).await?;
        if answer.status.is_success() {
            return Ok(());
        }
        Err(self.api.refusal(&answer, DOING))
    }

    /// Begins the upload; returns the image's id.
    pub(super) async fn upload(&self, volume: &str, mark: &Mark) -> Result<String, Refusal> {
        let body = json!({"os-volume_upload_image": {
            "image_name": mark.name(), "disk_format": "raw", "container_format": "bare", "visibility": "private",
        }});
        let doing = format!("upload the volume {volume} as an image");
        let url = self.api.url(&format!("volumes/{volume}/action"));
        let begun: Wrapped<Upload> = self.api.order_of_image(url, &body, &doing).await?;
        Ok(begun.inner.image_id)
    }

    async fn act(&self, volume: &str, body: &Value, doing: &str) -> Result<net::Answer, Failure> {
        let url = self.api.url(&format!("volumes/{volume}/action"));
        self.api.call(Method::POST, url, Some(body), doing).await
    }

    /// Orders the end of an object below `path`.
    pub(super) async fn delete(&self, path: &str) -> Result<Deletion, Failure> {
        let doing = format!("delete {path}");
        let answer = self
            .api
            .call(Method::DELETE, self.api.url(path), None, &doing)
            .await?;
        match answer.status {
            StatusCode::NOT_FOUND | StatusCode::GONE => Ok(Deletion::Gone),
            status if status.is_success() => Ok(Deletion::Ordered),
            // An upload is under way, or another object still depends on it.
            StatusCode::BAD_REQUEST | StatusCode::CONFLICT => Ok(Deletion::Busy),
            _ => Err(self.api.refusal(&answer, &doing)),
        }
    }

    /// Why an object went wrong, as Cinder tells its users; best effort.
    pub(super) async fn reason(&self, id: &str) -> Option<String> {
        let url = self.api.query("messages", &[("resource_uuid", id)]);
        let found: Option<Messages> = self.api.find(url, "read messages").await.ok()?;
        let mut messages = found?.messages;
        messages.sort_by(|a, b| a.created_at.cmp(&b.created_at));
        messages.last().map(|message| shown(&message.user_message))
    }
}

impl fmt::Display for Cinder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.api.fmt(f)
    }
}

#[derive(Deserialize)]
struct Versions {
    versions: Vec<Version>,
}

#[derive(Deserialize)]
struct Version {
    id: String,
    #[serde(default)]
    version: String,
}

#[derive(Deserialize)]
struct Wrapped<T> {
    #[serde(alias = "volume", alias = "snapshot", alias = "os-volume_upload_image")]
    inner: T,
}

#[derive(Deserialize)]
struct Upload {
    image_id: String,
}

#[derive(Deserialize, Default)]
struct Volumes {
    volumes: Vec<Volume>,
}

#[derive(Deserialize, Default)]
struct Snapshots {
    snapshots: Vec<Snapshot>,
}

#[derive(Deserialize)]
struct Messages {
    messages: Vec<Message>,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    user_message: String,
    #[serde(default)]
    created_at: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_one_that_both_know() {
        for (newest, used) in [
            ("3.71", Microversion::WITHOUT_FORCE),
            ("4.0", Microversion::WITHOUT_FORCE),
            ("3.66", Microversion::WITHOUT_FORCE),
            ("3.65", Microversion::new(3, 65)),
            ("3.5", Microversion::new(3, 5)),
        ] {
            assert_eq!(Microversion::negotiate(newest).unwrap(), used, "{newest}");
        }
        for newest in ["3.0", "3.4", "2.0", "", "x.y"] {
            let error = Microversion::negotiate(newest).unwrap_err();
            assert!(error.to_string().contains("--image-id"), "{error}");
        }
    }
}
