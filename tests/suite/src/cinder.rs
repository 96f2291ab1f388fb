//! The volume service, as a user of the project `migrate`.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::Duration,
};

use serde_json::{Value, json};
use testkit::Disk;

use crate::{
    curl::{self, Answer, Call},
    eventually,
    glance::{PASSWORD, password_token},
    uuid, variable,
};

/// How long one copy may take before a test fails: Cinder's steps are slow on a machine that does much else. Reached only
/// when something hangs.
pub const COPY: Duration = Duration::from_mins(5);

/// The volume service.
#[derive(Debug, Clone)]
pub struct Cinder {
    token: String,
    /// What stands before a path; the administrator's are those of no project.
    project: String,
}

impl Cinder {
    /// Starts it unless it runs, and logs in.
    pub fn start() -> Self {
        Self::of("fork", "migrate", &variable("PROJECT_MIGRATE"))
    }

    /// The same as a user of the project `other`, of which no other test knows.
    pub fn of_other() -> Self {
        Self::of("fork2", "other", &variable("PROJECT_OTHER"))
    }

    fn of(user: &str, name: &str, project: &str) -> Self {
        static STARTED: OnceLock<()> = OnceLock::new();
        STARTED.get_or_init(|| {
            let start = Path::new(env!("CARGO_MANIFEST_DIR")).join("../services/openstack/start");
            let status = Command::new(start).arg("cinder").status().unwrap();
            assert!(status.success(), "Cinder does not start");
        });
        Self {
            token: password_token(user, PASSWORD, Some(name)),
            project: format!("/{project}"),
        }
    }

    fn admin() -> Self {
        Self {
            token: password_token("admin", "adminpw", Some("admin")),
            project: String::new(),
        }
    }

    /// A volume of 1 GiB, whose file has this content and no more bytes, so that a test need not wait for a GiB.
    pub fn volume(&self, disk: &Disk) -> Volume {
        let body = json!({"volume": {"size": 1, "name": format!("volume-{}", uuid())}});
        let made = self.post("/volumes", &body).expect(202).json();
        let id = made["volume"]["id"].as_str().unwrap().to_owned();
        let volume = Volume { id };
        self.reaches(&volume.path(), "available");
        std::fs::remove_file(volume.file()).unwrap();
        disk.write_to(&volume.file());
        volume
    }

    /// A snapshot of a volume.
    pub fn snapshot(&self, volume: &Volume) -> String {
        let body =
            json!({"snapshot": {"volume_id": volume.id, "name": format!("snapshot-{}", uuid())}});
        let made = self.post("/snapshots", &body).expect(202).json();
        let id = made["snapshot"]["id"].as_str().unwrap().to_owned();
        self.reaches(&format!("/snapshots/{id}"), "available");
        id
    }

    /// Makes a volume one in use, as a server does that attaches it.
    pub fn attach(&self, volume: &Volume) {
        let connector = json!({"host": "server", "ip": "127.0.0.1", "initiator": "iqn.server", "os_type": "linux2",
            "platform": "x86_64", "multipath": false});
        let body = json!({"attachment": {"volume_uuid": volume.id, "connector": connector}});
        let made = self.post("/attachments", &body).expect(200).json();
        let id = made["attachment"]["id"].as_str().unwrap();
        let body = json!({"os-complete": {}});
        self.post(&format!("/attachments/{id}/action"), &body)
            .expect(204);
        self.reaches(&volume.path(), "in-use");
    }

    /// Sets limits of a project's objects (the administrator's right).
    pub fn limit(&self, limits: &Value) {
        let path = format!("/os-quota-sets{}", self.project);
        let call = Self::admin().call("PUT", &path);
        let call = call.json(&json!({"quota_set": limits}));
        call.send().expect(200);
    }

    /// The ids of all volumes, snapshots and images whose name holds the text.
    pub fn named(&self, text: &str) -> Vec<String> {
        let images = format!("{}/v2/images?limit=1000", variable("GLANCE_URL"));
        let images = curl::call("GET", &images).header("X-Auth-Token", &self.token);
        let lists = [
            ("volumes", self.call("GET", "/volumes/detail").send()),
            ("snapshots", self.call("GET", "/snapshots/detail").send()),
            ("images", images.send()),
        ];
        let mut found = Vec::new();
        for (kind, answer) in lists {
            for object in answer.expect(200).json()[kind].as_array().unwrap() {
                let is_named = object["name"].as_str().unwrap_or_default().contains(text);
                // What Glance shows so it has deleted, and its database was busy when it took the record away.
                if is_named && object["status"] != "deleted" {
                    found.push(format!("{kind} {} {}", object["id"], object["status"]));
                }
            }
        }
        found
    }

    /// What the service says about an object below its path.
    pub fn record(&self, path: &str) -> Value {
        let record = self.call("GET", path).send().expect(200).json();
        record.as_object().unwrap().values().next().unwrap().clone()
    }

    /// Sends an order.
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.call("POST", path).json(body).send()
    }

    fn reaches(&self, path: &str, status: &str) {
        eventually(&format!("{path} is {status}"), || {
            self.record(path)["status"] == status
        });
    }

    fn call(&self, method: &str, path: &str) -> Call {
        let url = format!("{}/v3{}{path}", variable("CINDER_URL"), self.project);
        curl::call(method, &url)
            .header("X-Auth-Token", &self.token)
            .header("OpenStack-API-Version", "volume 3.67")
    }
}

/// A volume.
#[derive(Debug, Clone)]
pub struct Volume {
    /// UUID.
    pub id: String,
}

impl Volume {
    /// Its path in the API.
    pub fn path(&self) -> String {
        format!("/volumes/{}", self.id)
    }

    /// The file that holds its bytes.
    pub fn file(&self) -> PathBuf {
        Path::new(&variable("CINDER_STORE")).join(format!("volume-{}", self.id))
    }
}
