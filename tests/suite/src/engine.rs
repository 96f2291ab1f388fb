//! The stand-in engine: disks and users of one test, and what the engine knows about them.
//!
//! Tests share one engine, so each makes disks and users of its own; what it sets concerns those
//! only. The knobs are listed in `tests/services/imageio/engine/knobs.py`.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use testkit::Disk;

use crate::{
    curl::{self, Answer},
    eventually, uuid, variable,
};

/// The stand-in engine.
#[derive(Debug, Clone)]
pub struct Engine {
    /// `scheme://host:port`.
    pub url: String,
}

impl Default for Engine {
    fn default() -> Self {
        Self {
            url: variable("ENGINE_URL"),
        }
    }
}

impl Engine {
    /// A user of this test's own.
    pub fn user(&self) -> User {
        let user = User {
            engine: self.clone(),
            name: format!("{}@internal", &uuid()[..8]),
            password: format!("pass-{}", uuid()),
        };
        user.put(&json!({ "password": user.password }));
        user
    }

    /// A disk whose image has the given content, in a file of its own.
    pub fn raw_disk(&self, folder: &Path, disk: &Disk) -> EngineDisk {
        let path = folder.join(format!("{}.raw", uuid()));
        disk.write_to(&path);
        self.disk(&path, "raw")
    }

    /// A disk whose image is the given file; the format is the engine's word, `raw` or `cow`.
    pub fn disk(&self, path: &Path, format: &str) -> EngineDisk {
        let disk = EngineDisk {
            engine: self.clone(),
            id: uuid(),
            path: path.to_owned(),
        };
        let name = format!("disk-{}", &disk.id[..8]);
        let knobs = json!({ "name": name, "path": path, "format": format });
        disk.put(&knobs);
        disk
    }

    /// A transfer was paused, cancelled and so on by the system.
    pub fn set_phase(&self, transfer: &str, phase: &str) {
        let path = format!("transfers/{transfer}");
        self.fake("PATCH", &path, &json!({ "phase": phase }));
    }

    /// The host loses a transfer's ticket.
    pub fn lose_ticket(&self, transfer: &str) {
        let path = format!("transfers/{transfer}/ticket");
        self.fake("DELETE", &path, &Value::Null);
    }

    fn fake(&self, method: &str, path: &str, body: &Value) -> Answer {
        let call = curl::call(method, &format!("{}/_fake/{path}", self.url));
        let call = if body.is_null() {
            call
        } else {
            call.json(body)
        };
        call.send().expect(200)
    }
}

/// An account.
#[derive(Debug, Clone)]
pub struct User {
    engine: Engine,
    /// With its profile.
    pub name: String,
    /// Its password.
    pub password: String,
}

impl User {
    /// Sets knobs.
    pub fn set(&self, knobs: &Value) {
        self.engine
            .fake("PATCH", &format!("users/{}", self.name), knobs);
    }

    /// Its knobs, the number of its logins and of its tokens that are still good.
    pub fn state(&self) -> Value {
        let path = format!("users/{}", self.name);
        self.engine.fake("GET", &path, &Value::Null).json()
    }

    /// All its tokens expire.
    pub fn expire_tokens(&self) {
        let path = format!("users/{}/tokens", self.name);
        self.engine.fake("DELETE", &path, &Value::Null);
    }

    /// A token, as a client gets it.
    pub fn token(&self) -> String {
        let url = format!("{}/ovirt-engine/sso/oauth/token", self.engine.url);
        let form = format!(
            "grant_type=password&scope=ovirt-app-api&username={}&password={}",
            self.name.replace('@', "%40"),
            self.password
        );
        let answer = curl::call("POST", &url)
            .text("application/x-www-form-urlencoded", &form)
            .send();
        let token = &answer.expect(200).json()["access_token"];
        token.as_str().unwrap().to_owned()
    }

    fn put(&self, knobs: &Value) {
        self.engine
            .fake("PUT", &format!("users/{}", self.name), knobs);
    }
}

/// A disk of the engine.
#[derive(Debug, Clone)]
pub struct EngineDisk {
    engine: Engine,
    /// UUID.
    pub id: String,
    /// The image.
    pub path: PathBuf,
}

impl EngineDisk {
    /// Sets knobs.
    pub fn set(&self, knobs: &Value) {
        self.engine
            .fake("PATCH", &format!("disks/{}", self.id), knobs);
    }

    /// Sets knobs, in a chain.
    pub fn with(self, knobs: &Value) -> Self {
        self.set(knobs);
        self
    }

    /// Its knobs, the number of POSTs, and its transfers.
    pub fn state(&self) -> Value {
        let path = format!("disks/{}", self.id);
        self.engine.fake("GET", &path, &Value::Null).json()
    }

    /// The phase of each of its transfers, in order of their creation.
    pub fn phases(&self) -> Vec<String> {
        let state = self.state();
        let transfers = state["transfers"].as_array().unwrap().iter();
        transfers
            .map(|transfer| transfer["phase"].as_str().unwrap().to_owned())
            .collect()
    }

    /// How often a transfer was requested, refusals included.
    pub fn posts(&self) -> u64 {
        self.state()["posts"].as_u64().unwrap()
    }

    /// Credentials for data that must not be shown: the ids of its tickets.
    pub fn tickets(&self) -> Vec<String> {
        let state = self.state();
        let transfers = state["transfers"].as_array().unwrap().iter();
        transfers
            .map(|transfer| transfer["ticket"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Waits until the newest transfer has been read up to so many bytes.
    #[track_caller]
    pub fn wait_until_read(&self, bytes: u64) {
        eventually("bytes were read", || {
            let state = self.state();
            let newest = state["transfers"].as_array().unwrap().last().cloned();
            newest.is_some_and(|transfer| transfer["transferred"].as_u64().unwrap() >= bytes)
        });
    }

    /// Fails unless every transfer has ended, the last one as given, and the disk is unlocked.
    #[track_caller]
    pub fn assert_tidy(&self, last: &str) {
        let state = self.state();
        let phases = self.phases();
        assert!(
            phases.iter().all(|phase| phase.starts_with("finished_")),
            "open transfers: {phases:?}"
        );
        assert_eq!(phases.last().map(String::as_str), Some(last), "{phases:?}");
        assert_eq!(state["status"], "ok", "{state}");
    }

    /// Waits until every transfer has ended and the disk is unlocked.
    #[track_caller]
    pub fn wait_until_tidy(&self) {
        eventually("every transfer ended", || {
            let ended = |phase: &String| phase.starts_with("finished_");
            self.phases().iter().all(ended) && self.state()["status"] == "ok"
        });
    }

    fn put(&self, knobs: &Value) {
        self.engine
            .fake("PUT", &format!("disks/{}", self.id), knobs);
    }
}
