//! The image service, as a user of the project `migrate`.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

use serde_json::{Value, json};
use testkit::Disk;

use crate::{
    curl::{self, Call},
    uuid, variable,
};

/// Password of every user but `admin`.
pub const PASSWORD: &str = "forkpw";

/// The image service.
#[derive(Debug, Clone)]
pub struct Glance {
    token: String,
}

impl Default for Glance {
    fn default() -> Self {
        static TOKEN: OnceLock<String> = OnceLock::new();
        let token = TOKEN
            .get_or_init(|| password_token("fork", PASSWORD, Some("migrate")))
            .clone();
        Self { token }
    }
}

impl Glance {
    /// The service as seen by the administrator.
    pub fn admin() -> Self {
        static TOKEN: OnceLock<String> = OnceLock::new();
        let token = TOKEN
            .get_or_init(|| password_token("admin", "adminpw", Some("admin")))
            .clone();
        Self { token }
    }

    /// An image with the given content.
    pub fn image(&self, folder: &Path, disk: &Disk) -> Image {
        let path = folder.join(format!("{}.raw", uuid()));
        disk.write_to(&path);
        self.upload(&path, "raw")
    }

    /// An image made of a file's bytes, whatever they are.
    #[track_caller]
    pub fn upload(&self, path: &Path, disk_format: &str) -> Image {
        let image = self.queued(disk_format);
        image.put(path).expect(204);
        image
    }

    /// An image made of the bytes of a file that was compressed as a whole.
    #[track_caller]
    pub fn upload_compressed(&self, path: &Path, disk_format: &str) -> Image {
        let image = self.register(disk_format, "compressed", json!({}));
        image.put(path).expect(204);
        image
    }

    /// What Nova makes of a server that was booted from a volume: an active image of no bytes, with
    /// this property in place of data.
    #[track_caller]
    pub fn of_a_server(
        &self,
        folder: &Path,
        disk_format: &str,
        block_device_mapping: &str,
    ) -> Image {
        let path = folder.join(uuid());
        fs::write(&path, "").unwrap();
        let properties = json!({
            "block_device_mapping": block_device_mapping, "bdm_v2": "True", "root_device_name": "/dev/vda",
        });
        let image = self.register(disk_format, "bare", properties);
        image.put(&path).expect(204);
        image
    }

    /// An image without content.
    pub fn queued(&self, disk_format: &str) -> Image {
        self.register(disk_format, "bare", json!({}))
    }

    fn register(&self, disk_format: &str, container_format: &str, mut body: Value) -> Image {
        for (field, value) in [
            ("name", &*format!("image-{}", uuid())),
            ("disk_format", disk_format),
            ("container_format", container_format),
            ("visibility", "private"),
        ] {
            body[field] = json!(value);
        }
        let _turn = writing();
        let answer = self.call("POST", "/v2/images").json(&body).send();
        let id = answer.expect(201).json()["id"].as_str().unwrap().to_owned();
        Image {
            glance: self.clone(),
            id,
        }
    }

    /// Stops an image from being downloaded (the administrator's right).
    pub fn deactivate(&self, image: &Image) {
        let path = format!("/v2/images/{}/actions/deactivate", image.id);
        let _turn = writing();
        self.call("POST", &path).send().expect(204);
    }

    fn call(&self, method: &str, path: &str) -> Call {
        curl::call(method, &format!("{}{path}", variable("GLANCE_URL")))
            .header("X-Auth-Token", &self.token)
    }
}

/// An image.
#[derive(Debug, Clone)]
pub struct Image {
    glance: Glance,
    /// UUID.
    pub id: String,
}

impl Image {
    /// What the service says about it.
    pub fn metadata(&self) -> Value {
        let path = format!("/v2/images/{}", self.id);
        self.glance.call("GET", &path).send().expect(200).json()
    }

    /// Sends content.
    pub fn put(&self, path: &Path) -> curl::Answer {
        let target = format!("/v2/images/{}/file", self.id);
        let call = self.glance.call("PUT", &target);
        let _turn = writing();
        call.file("application/octet-stream", path).send()
    }

    /// Everybody may see and download it (the administrator's right).
    pub fn publish(&self) {
        let path = format!("/v2/images/{}", self.id);
        let change = r#"[{"op": "replace", "path": "/visibility", "value": "public"}]"#;
        let call = self.glance.call("PATCH", &path);
        let _turn = writing();
        call.text("application/openstack-images-v2.1-json-patch", change)
            .send()
            .expect(200);
    }

    /// The file in the store that holds its bytes.
    pub fn blob(&self) -> PathBuf {
        Path::new(&variable("GLANCE_STORE")).join(&self.id)
    }

    /// Removes its bytes behind the service's back.
    pub fn lose_blob(&self) {
        fs::remove_file(self.blob()).unwrap();
    }

    /// Shortens its bytes behind the service's back.
    pub fn truncate_blob(&self, size: u64) {
        let file = fs::OpenOptions::new().write(true).open(self.blob());
        file.unwrap().set_len(size).unwrap();
    }

    /// Changes one byte behind the service's back.
    pub fn corrupt_blob(&self, at: u64) {
        use std::os::unix::fs::FileExt;
        let mut options = fs::OpenOptions::new();
        let file = options.read(true).write(true).open(self.blob()).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[!byte[0]], at).unwrap();
    }
}

/// The service's database takes one writer at a time, and refuses a second one.
fn writing() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A token for a user of the domain Default; without a project it is unscoped.
#[track_caller]
pub fn password_token(user: &str, password: &str, project: Option<&str>) -> String {
    token_at(&variable("KEYSTONE_URL"), user, password, project)
}

/// The same from a given identity service.
#[track_caller]
pub fn token_at(keystone: &str, user: &str, password: &str, project: Option<&str>) -> String {
    let mut auth = json!({ "identity": { "methods": ["password"], "password": { "user": {
        "name": user, "domain": { "id": "default" }, "password": password } } } });
    auth["scope"] = match project {
        Some(name) => json!({ "project": { "name": name, "domain": { "id": "default" } } }),
        None => json!("unscoped"),
    };
    let call = curl::call("POST", &format!("{keystone}/auth/tokens"));
    let answer = call.json(&json!({ "auth": auth })).send().expect(201);
    answer.header("x-subject-token").unwrap().to_owned()
}
