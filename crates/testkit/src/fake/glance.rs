//! Keystone and Glance with one user and one image.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
};

use aws_lc_rs::digest::{SHA512, digest};
use rustls::ServerConfig;
use serde_json::{Value, json};

use super::hex;
use crate::{Disk, Object, Reply, Request, Server, lock};

/// Id of the image.
pub const IMAGE: &str = "b815a36a-feef-49e0-85c6-ef61bc83c15f";
/// Path that the image's data has.
pub const FILE: &str = "/v2/images/b815a36a-feef-49e0-85c6-ef61bc83c15f/file";
/// Path of the image's record (and prefix of its data).
pub const RECORD: &str = "/v2/images/b815a36a-feef-49e0-85c6-ef61bc83c15f";
/// Path that gives tokens.
pub const TOKENS: &str = "/v3/auth/tokens";
/// Password of the user, to be looked for in outputs.
pub const PASSWORD: &str = "pass-word-that-must-not-leak";
/// How every token begins, to be looked for in outputs.
pub const TOKEN_PREFIX: &str = "token-that-must-not-leak-";

/// Keystone under `/v3` and Glance under `/v2` of one server, without knowledge of projects.
#[derive(Debug)]
pub struct Glance {
    server: Server,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    image: Mutex<Image>,
    tokens: Mutex<HashSet<String>>,
    issued: Mutex<usize>,
}

/// What the image's record states, and what its data is.
#[derive(Debug, Clone)]
pub struct Image {
    /// `active` unless the test says otherwise.
    pub status: String,
    /// `raw` unless the test says otherwise.
    pub disk_format: String,
    /// Stated size.
    pub size: Option<u64>,
    /// Stated algorithm and digest in hex; the right SHA-512 unless the test says otherwise.
    pub hash: Option<(String, String)>,
    /// Stated MD5 in hex; none unless the test says otherwise.
    pub checksum: Option<String>,
    /// The data.
    pub object: Object,
}

impl Glance {
    /// A service with this disk as its raw image; plain without `tls`.
    pub fn start(disk: &Disk, tls: Option<Arc<ServerConfig>>) -> Self {
        let state = Arc::new(State {
            image: Mutex::new(Image::of(disk)),
            tokens: Mutex::default(),
            issued: Mutex::default(),
        });
        let mut builder = Server::builder();
        if let Some(config) = tls {
            builder = builder.tls(config);
        }
        let server = builder.start();
        let base = server.url("");
        for (prefix, answer) in [
            (TOKENS, State::token as fn(&State, &Request, &str) -> Reply),
            (RECORD, State::record),
            (FILE, State::file),
        ] {
            let (state, base) = (Arc::clone(&state), base.clone());
            server.route(prefix, move |request| answer(&state, request, &base));
        }
        Self { server, state }
    }

    /// The server, for faults and its log.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// The identity URL as a user gives it.
    pub fn identity_url(&self) -> String {
        self.server.url("/v3")
    }

    /// The keys of a secret that the service accepts.
    pub fn secret(&self) -> [(&'static str, &'static str); 5] {
        [
            ("username", "fork"),
            ("password", PASSWORD),
            ("projectName", "migrate"),
            ("domainName", "Default"),
            ("regionName", "RegionOne"),
        ]
    }

    /// Changes the image.
    pub fn change(&self, change: impl FnOnce(&mut Image)) {
        change(&mut lock(&self.state.image));
    }

    /// What the image is now.
    pub fn image(&self) -> Image {
        lock(&self.state.image).clone()
    }

    /// Ends every token that was issued so far.
    pub fn expire_tokens(&self) {
        lock(&self.state.tokens).clear();
    }

    /// How many tokens were issued.
    pub fn tokens_issued(&self) -> usize {
        *lock(&self.state.issued)
    }

    /// The requests for the image's data.
    pub fn data_requests(&self) -> Vec<Request> {
        let mut requests = self.server.requests();
        requests.retain(|request| request.path() == FILE);
        requests
    }
}

impl Image {
    fn of(disk: &Disk) -> Self {
        let hash = hex(digest(&SHA512, disk.bytes()).as_ref());
        Self {
            status: "active".to_owned(),
            disk_format: "raw".to_owned(),
            size: Some(disk.size()),
            hash: Some(("sha512".to_owned(), hash)),
            checksum: None,
            object: disk.object(),
        }
    }
}

impl State {
    fn token(&self, request: &Request, base: &str) -> Reply {
        let user = &request.json()["auth"]["identity"]["password"]["user"];
        if user["password"] != PASSWORD {
            return unauthorized(base);
        }
        let token = {
            let mut issued = lock(&self.issued);
            *issued += 1;
            format!("{TOKEN_PREFIX}{issued}")
        };
        lock(&self.tokens).insert(token.clone());
        let endpoint = |interface: &str| {
            json!({"id": interface, "interface": interface, "region": "RegionOne",
                   "region_id": "RegionOne", "url": base})
        };
        let endpoints = ["public", "internal", "admin"].map(endpoint);
        let body = json!({"token": {
            "methods": ["password"],
            "expires_at": "2999-01-01T00:00:00.000000Z",
            "issued_at": "2026-01-01T00:00:00.000000Z",
            "project": {"id": "p", "name": "migrate", "domain": {"id": "default", "name": "Default"}},
            "catalog": [{"type": "image", "id": "g", "name": "glance",
                         "endpoints": endpoints}],
        }});
        Reply::json(201, &body).header("X-Subject-Token", &token)
    }

    fn record(&self, request: &Request, base: &str) -> Reply {
        if !self.knows(request) {
            return unauthorized(base);
        }
        if request.path() != RECORD {
            return Reply::text(404, "no such image\n");
        }
        let image = lock(&self.image).clone();
        let (algorithm, value) = image.hash.unzip();
        let size = image.size.map_or(Value::Null, Value::from);
        Reply::json(
            200,
            &json!({
                "id": IMAGE, "name": "disk", "status": image.status, "size": size,
                "virtual_size": Value::Null, "disk_format": image.disk_format,
                "container_format": "bare", "checksum": image.checksum, "os_hash_algo": algorithm,
                "os_hash_value": value, "file": FILE, "self": RECORD, "visibility": "private",
                "min_disk": 0, "min_ram": 0, "protected": false, "os_hidden": false, "tags": [],
            }),
        )
    }

    fn file(&self, request: &Request, base: &str) -> Reply {
        if !self.knows(request) {
            return unauthorized(base);
        }
        let image = lock(&self.image).clone();
        let reply = Reply::object(request, &image.object);
        if reply.status == 416 {
            // Glance's own answer says no total size.
            return Reply::text(416, "416 Requested Range Not Satisfiable\n");
        }
        // Glance states the hash of the whole image, also with a range of it.
        reply.header("Content-MD5", image.checksum.as_deref().unwrap_or("none"))
    }

    fn knows(&self, request: &Request) -> bool {
        let token = request.header("x-auth-token");
        token.is_some_and(|token| lock(&self.tokens).contains(token))
    }
}

fn unauthorized(base: &str) -> Reply {
    let realm = format!("Keystone uri=\"{base}/v3\"");
    Reply::text(401, "unauthorized\n").header("WWW-Authenticate", &realm)
}
