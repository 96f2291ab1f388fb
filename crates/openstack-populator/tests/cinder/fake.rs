//! Keystone, Glance and Cinder of one scripted server, as far as a volume becomes an image and goes again.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
};

use contract::args::flag;
use serde_json::{Value, json};
use testkit::{Command, Disk, Reply, Request, Server};

/// The user's volume and snapshot.
pub(crate) const VOLUME: &str = "9df0a5f6-5a70-4bd7-8e5d-2e2a2e7b1c11";
pub(crate) const SNAPSHOT: &str = "5c1d1f0e-9e0c-4a52-b4d1-7a4a5a0f3f21";
/// The claim's UID.
pub(crate) const CLAIM: &str = "u-1";
/// The name of every object that a run for [`VOLUME`] makes.
pub(crate) const NAME: &str = "openstack-populator-u-1-9df0a5f6-5a70-4bd7-8e5d-2e2a2e7b1c11";

/// What the services hold, and how they behave.
pub(crate) struct State {
    /// The newest microversion.
    pub(crate) version: &'static str,
    /// Records by kind and id, such as `volumes/1`.
    pub(crate) objects: BTreeMap<String, Value>,
    /// What becomes of a snapshot, a volume and an image that are made, by kind.
    pub(crate) becomes: BTreeMap<&'static str, &'static str>,
    /// The image metadata of a volume that is made.
    pub(crate) inherited: Value,
    /// Another copy begins its upload of a volume right before this many uploads and snapshots of it.
    pub(crate) rivals: usize,
    /// The quota of GiB, which snapshots and volumes share, the user's among them. Each has one.
    pub(crate) gib: Option<usize>,
    /// The data of the next image is refused for a quota of Glance's; Cinder removes the image then, or leaves it.
    pub(crate) refuses_data: Option<Refused>,
    /// What Cinder says of that once it has happened.
    has_met_quota: bool,
    /// After so many requests for its data an image is deleted by another run.
    pub(crate) lasts: Option<usize>,
    /// An image is deleted, and its record stays.
    pub(crate) deletes_halfway: bool,
    /// The catalog; with `null`, one region with one endpoint of each service.
    pub(crate) catalog: Value,
    made: usize,
}

/// What becomes of an image whose data is refused.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Refused {
    Removed,
    Left,
}

/// The server and what is behind it.
pub(crate) struct Fake {
    pub(crate) server: Server,
    pub(crate) disk: Disk,
    state: Arc<Mutex<State>>,
}

impl Fake {
    /// With the user's volume, which has this on top of an ordinary record, and a snapshot of it.
    pub(crate) fn new(volume: &Value) -> Self {
        let mut record = json!({"id": VOLUME, "status": "available", "size": 1, "name": "theirs", "metadata": {}});
        for (key, value) in volume.as_object().unwrap() {
            record[key] = value.clone();
        }
        let snapshot = json!({"id": SNAPSHOT, "status": "available", "size": 1, "name": "theirs", "volume_id": VOLUME});
        let state = Arc::new(Mutex::new(State {
            version: "3.71",
            objects: [
                (format!("volumes/{VOLUME}"), record),
                (format!("snapshots/{SNAPSHOT}"), snapshot),
            ]
            .into(),
            becomes: [
                ("snapshots", "available"),
                ("volumes", "available"),
                ("images", "active"),
            ]
            .into(),
            inherited: json!({}),
            rivals: 0,
            gib: None,
            refuses_data: None,
            has_met_quota: false,
            lasts: None,
            deletes_halfway: false,
            catalog: Value::Null,
            made: 0,
        }));
        let disk = Disk::random(3, 1 << 20);
        let server = Server::builder().start();
        let (base, shared, data) = (server.url(""), Arc::clone(&state), disk.object());
        server.route("", move |request| {
            let path = request.path();
            let mut state = shared.lock().unwrap();
            if let Some(image) = path.strip_suffix("/file") {
                if !state.has_data(image.trim_start_matches("/image/v2/")) {
                    return Reply::status(404);
                }
                return Reply::object(request, &data);
            }
            state.answer(request, path, &base, data.size())
        });
        Self {
            server,
            disk,
            state,
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// A run for what the flag names.
    pub(crate) fn command(&self, flag: &str, id: &str, target: &Path) -> Command {
        without_credentials(flag, id, target)
            .flag(flag::ENDPOINT, self.server.url("/v3"))
            .env("username", "bob")
            .env("password", "pa55word")
            .env("userDomainName", "Users")
            .env("projectID", "p1")
    }

    /// The bodies of the requests with this method whose path ends so.
    pub(crate) fn bodies(&self, method: &str, end: &str) -> Vec<Value> {
        let requests = self.server.requests().into_iter();
        requests
            .filter(|request| request.method == method && request.path().ends_with(end))
            .map(|request| request.json())
            .collect()
    }

    /// All objects but the user's volume and snapshot.
    pub(crate) fn made(&self) -> Vec<String> {
        let mut objects: Vec<_> = self.state().objects.keys().cloned().collect();
        objects.retain(|path| !path.ends_with(VOLUME) && !path.ends_with(SNAPSHOT));
        objects
    }
}

/// A run for what the flag names, without credentials and without the identity URL.
pub(crate) fn without_credentials(flag: &str, id: &str, target: &Path) -> Command {
    Command::new(env!("CARGO_BIN_EXE_openstack-populator"))
        .flag(flag, id)
        .flag(flag::VOLUME_PATH, target)
        .flag(flag::OWNER_UID, CLAIM)
}

/// The catalog's entry of a service.
pub(crate) fn service(kind: &str, endpoints: &[(&str, &str, String)]) -> Value {
    let endpoint = |(interface, region, url): &(&str, &str, String)| json!({"interface": interface, "region_id": region, "url": url});
    let endpoints: Vec<_> = endpoints.iter().map(endpoint).collect();
    json!({"type": kind, "endpoints": endpoints})
}

impl State {
    fn answer(&mut self, request: &Request, path: &str, base: &str, size: u64) -> Reply {
        if path == "/v3/auth/tokens" {
            return self.token(base);
        }
        if path == "/volume/v3/" {
            let versions = json!({"versions": [{"id": "v3.0", "version": self.version}]});
            return Reply::json(200, &versions);
        }
        let below = ["/volume/v3/0123456789abcdef0123456789abcdef/", "/image/v2/"]
            .map(|prefix| path.strip_prefix(prefix));
        let Some(path) = below.into_iter().flatten().next() else {
            return Reply::text(404, "no route\n");
        };
        match (request.method.as_str(), path) {
            ("GET", "volumes/detail" | "snapshots/detail" | "images") => self.list(request, path),
            ("GET", "messages") => Reply::json(200, &messages(self.has_met_quota)),
            ("GET", _) => self.show(path, size),
            ("POST", "volumes" | "snapshots") => self.make(path, &request.json()),
            ("POST", _) => self.act(path.trim_end_matches("/action"), &request.json()),
            ("PATCH", _) => self.patch(path, &request.json()),
            ("DELETE", _) => self.delete(path),
            _ => Reply::status(405),
        }
    }

    fn token(&self, base: &str) -> Reply {
        let mut catalog = self.catalog.clone();
        if catalog.is_null() {
            let at = |path: &str| [("public", "One", format!("{base}{path}"))];
            catalog = json!([
                service("image", &at("/image")),
                service(
                    "volumev3",
                    &at("/volume/v3/0123456789abcdef0123456789abcdef")
                )
            ]);
        }
        let token = json!({"expires_at": "2999-01-01T00:00:00.000000Z", "methods": ["password"], "catalog": catalog});
        Reply::json(201, &json!({"token": token})).header("X-Subject-Token", "gAAAAtoken")
    }

    fn list(&self, request: &Request, path: &str) -> Reply {
        let kind = path.trim_end_matches("/detail");
        let of_kind = |(path, _): &(&String, &Value)| path.starts_with(kind);
        let of_name = |record: &&Value| {
            let name = format!("name={}", record["name"].as_str().unwrap());
            request.query().split('&').any(|field| field == name)
        };
        let objects = self.objects.iter().filter(of_kind);
        let found: Vec<_> = objects.map(|(_, record)| record).filter(of_name).collect();
        Reply::json(200, &json!({ kind: found }))
    }

    /// The record, which shows what it has become when it is asked for again.
    fn show(&mut self, path: &str, size: u64) -> Reply {
        let Some(record) = self.objects.get_mut(path) else {
            return Reply::status(404);
        };
        let shown = record.clone();
        if shown["uploaded_from"].is_string()
            && shown["status"] == "saving"
            && let Some(refused) = self.refuses_data.take()
        {
            self.refuse_data(path, &shown, refused);
            return Reply::json(200, &shown);
        }
        let kind = path.split('/').next().unwrap();
        // An upload whose image is gone, or another's, is about to end.
        let is_over = shown["image_is_gone"] == true;
        if is_over || matches!(shown["status"].as_str().unwrap(), "creating" | "saving") {
            record["status"] = json!(self.becomes[kind]);
            record.as_object_mut().unwrap().remove("image_is_gone");
            record["size"] = json!(if kind == "images" { size } else { 1 });
            if let Some(volume) = shown["uploaded_from"].as_str() {
                let volume = volume.to_owned();
                self.objects.get_mut(&volume).unwrap()["status"] = json!("available");
            }
        }
        if kind == "images" {
            return Reply::json(200, &shown);
        }
        Reply::json(200, &json!({ kind.trim_end_matches('s'): shown }))
    }

    /// Cinder says why, lets the image go and then frees the volume.
    fn refuse_data(&mut self, image: &str, shown: &Value, refused: Refused) {
        self.has_met_quota = true;
        match refused {
            Refused::Removed => drop(self.objects.remove(image)),
            Refused::Left => self.objects.get_mut(image).unwrap()["status"] = json!("queued"),
        }
        let volume = shown["uploaded_from"].as_str().unwrap();
        self.objects.get_mut(volume).unwrap()["status"] = json!("available");
    }

    fn has_data(&mut self, image: &str) -> bool {
        self.lasts = match self.lasts {
            Some(0) => {
                self.objects.remove(image);
                Some(0)
            }
            lasts => lasts.map(|left| left - 1),
        };
        self.objects.contains_key(image)
    }

    fn delete(&mut self, path: &str) -> Reply {
        if self.deletes_halfway && path.starts_with("images/") {
            let record = self.objects.get_mut(path).unwrap();
            let status = if record["status"] == "deleted" {
                400
            } else {
                500
            };
            record["status"] = json!("deleted");
            return Reply::status(status);
        }
        match self.objects.remove(path) {
            Some(_) => Reply::status(202),
            None => Reply::status(404),
        }
    }

    fn make(&mut self, kind: &str, body: &Value) -> Reply {
        let one = kind.trim_end_matches('s');
        let mut record = body[one].clone();
        if let Some(volume) = record["volume_id"].as_str()
            && self.is_taken(&format!("volumes/{volume}"))
        {
            return invalid("uploading");
        }
        if let Some(refusal) = self.over_quota() {
            return refusal;
        }
        self.made += 1;
        let id = format!("made-{}", self.made);
        record["id"] = json!(id);
        record["size"] = json!(1);
        record["status"] = json!("creating");
        record["volume_image_metadata"] = self.inherited.clone();
        self.objects.insert(format!("{kind}/{id}"), record.clone());
        Reply::json(202, &json!({ one: record }))
    }

    /// Whether another copy takes the user's volume now.
    fn is_taken(&mut self, volume: &str) -> bool {
        let Some(left) = self.rivals.checked_sub(1) else {
            return false;
        };
        self.rivals = left;
        let record = self.objects.get_mut(volume).unwrap();
        record["status"] = json!("uploading");
        record["image_is_gone"] = json!(true);
        true
    }

    /// The refusal of one GiB more, in Cinder's words.
    fn over_quota(&self) -> Option<Reply> {
        let limit = self.gib?;
        let counts = |path: &&String| !path.starts_with("images/");
        let used = self.objects.keys().filter(counts).count();
        let text = format!(
            "VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed gigabytes quota. Requested 1G, quota is \
             {limit}G and {used}G has been consumed."
        );
        let body = json!({"overLimit": {"code": 413, "message": text, "retryAfter": "0"}});
        (used >= limit).then(|| Reply::json(413, &body).header("Retry-After", "0"))
    }

    fn act(&mut self, volume: &str, body: &Value) -> Reply {
        if body.get("os-volume_upload_image").is_some() {
            self.is_taken(volume);
        }
        let record = self.objects.get_mut(volume).unwrap();
        if let Some(upload) = body.get("os-volume_upload_image") {
            if record["status"] != "available" {
                return invalid(record["status"].as_str().unwrap());
            }
            record["status"] = json!("uploading");
            self.made += 1;
            let id = format!("00000000-0000-4000-8000-{:012}", self.made);
            let mut image = json!({
                "id": id, "name": upload["image_name"], "status": "saving", "visibility": "private", "disk_format": "raw",
                "container_format": "bare", "uploaded_from": volume, "size": null,
            });
            for (key, value) in record["volume_image_metadata"]
                .as_object()
                .into_iter()
                .flatten()
            {
                image[key] = value.clone();
            }
            self.objects.insert(format!("images/{id}"), image);
            return Reply::json(
                202,
                &json!({"os-volume_upload_image": {"image_id": id, "status": "uploading"}}),
            );
        }
        if let Some(set) = body.get("os-set_image_metadata") {
            for (key, value) in set["metadata"].as_object().unwrap() {
                record["volume_image_metadata"][key] = value.clone();
            }
        }
        if let Some(unset) = body.get("os-unset_image_metadata") {
            let metadata = record["volume_image_metadata"].as_object_mut().unwrap();
            metadata.remove(unset["key"].as_str().unwrap());
        }
        Reply::json(200, &json!({}))
    }

    fn patch(&mut self, path: &str, changes: &Value) -> Reply {
        let record = self.objects.get_mut(path).unwrap();
        for change in changes.as_array().unwrap() {
            let key = change["path"].as_str().unwrap().trim_start_matches('/');
            record[key] = change["value"].clone();
        }
        Reply::json(200, record)
    }
}

/// What Cinder says of an order for a volume that is not free.
fn invalid(status: &str) -> Reply {
    let text = format!("Invalid volume: its status is {status}");
    Reply::json(400, &json!({"badRequest": {"code": 400, "message": text}}))
}

/// What Cinder tells its users about an object, the newest last or not.
fn messages(has_met_quota: bool) -> Value {
    let mut messages = json!([
        {"user_message": "schedule allocate volume: No storage could be allocated.", "created_at": "2026-11-29T09:00:02"},
        {"user_message": "an older one", "created_at": "2026-11-29T09:00:01"},
    ]);
    if has_met_quota {
        let text = "Copy volume to image: Failed to copy volume to image as image quota has been met. Please delete images or have your \
                    limit increased, then try again.";
        let met = json!({"user_message": text, "created_at": "2026-11-29T09:00:03"});
        messages.as_array_mut().unwrap().insert(0, met);
    }
    json!({ "messages": messages })
}
