//! An engine with one disk, and an imageio daemon that serves it.

use std::sync::{Arc, Mutex};

use rustls::ServerConfig;
use serde_json::{Value, json};

use super::hex;
use crate::{Disk, Object, Reply, Request, Server, lock};

/// Id of the disk.
pub const DISK: &str = "6f2b5d0e-8d6c-4f0e-9a0c-3a1b5c7d9e01";
/// Path that gives tokens.
pub const TOKEN: &str = "/ovirt-engine/sso/oauth/token";
/// Path of the image transfers.
pub const TRANSFERS: &str = "/ovirt-engine/api/imagetransfers";
/// Path prefix of tickets at the daemon.
pub const IMAGES: &str = "/images/";
/// Password of the user, to be looked for in outputs.
pub const PASSWORD: &str = "pass-word-that-must-not-leak";
/// How every token begins, to be looked for in outputs.
pub const TOKEN_PREFIX: &str = "token-that-must-not-leak-";
/// How every ticket begins, to be looked for in outputs.
pub const TICKET_PREFIX: &str = "ticket-that-must-not-leak-";

const HOST: &str = "0c2f8f4c-0000-4000-8000-000000000001";
const DOMAIN: &str = "0c2f8f4c-0000-4000-8000-000000000002";

/// The engine and the daemon, on two servers.
#[derive(Debug)]
pub struct Engine {
    api: Server,
    data: Server,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    disk: Disk,
    object: Object,
    knobs: Knobs,
    tokens: Vec<String>,
    issued: usize,
    transfers: Vec<Transfer>,
    made: usize,
}

/// What a test may change.
#[derive(Debug, Clone)]
pub struct Knobs {
    /// State of the disk while no transfer holds it.
    pub disk_status: String,
    /// Phases that a new transfer goes through, one for each look at it, before `transferring`.
    pub first_phases: Vec<&'static str>,
    /// What `OPTIONS` answers; `None` is an old daemon's 405.
    pub options: Option<Value>,
    /// Whether the daemon knows extents.
    pub extents: bool,
    /// The checksum in place of the right one.
    pub checksum: Option<String>,
    /// Whether the engine finalizes a transfer by itself once its last byte was asked for.
    pub auto_finalize: bool,
}

#[derive(Debug, Clone)]
struct Transfer {
    id: String,
    ticket: String,
    phase: &'static str,
    inactivity_timeout: Value,
    /// Phases to come, one for each look.
    next: Vec<&'static str>,
}

impl Engine {
    /// An engine with this disk; plain without `tls`.
    pub fn start(disk: &Disk, tls: Option<&Arc<ServerConfig>>) -> Self {
        let state = Arc::new(Mutex::new(State {
            object: disk.object(),
            disk: disk.clone(),
            knobs: Knobs {
                disk_status: "ok".to_owned(),
                first_phases: Vec::new(),
                options: Some(json!({"features": ["checksum", "extents"],
                                     "max_readers": 8, "max_writers": 8})),
                extents: true,
                checksum: None,
                auto_finalize: false,
            },
            tokens: Vec::new(),
            issued: 0,
            transfers: Vec::new(),
            made: 0,
        }));
        let server = || {
            let builder = Server::builder();
            match tls {
                Some(config) => builder.tls(Arc::clone(config)).start(),
                None => builder.start(),
            }
        };
        let (api, data) = (server(), server());
        let (images, known) = (data.url("/images"), Arc::clone(&state));
        api.route("/ovirt-engine/", move |request| {
            lock(&known).api(request, &images)
        });
        let known = Arc::clone(&state);
        data.route(IMAGES, move |request| lock(&known).image(request));
        Self { api, data, state }
    }

    /// The engine's server, for faults and its log.
    pub fn api(&self) -> &Server {
        &self.api
    }

    /// The daemon's server, for faults and its log.
    pub fn data(&self) -> &Server {
        &self.data
    }

    /// The engine's URL as a user gives it.
    pub fn url(&self) -> String {
        self.api.url("")
    }

    /// The keys of a secret that the engine accepts.
    pub fn secret(&self) -> [(&'static str, &'static str); 2] {
        [("user", "admin@internal"), ("password", PASSWORD)]
    }

    /// Changes the knobs.
    pub fn change(&self, change: impl FnOnce(&mut Knobs)) {
        change(&mut lock(&self.state).knobs);
    }

    /// The disk's content from now on.
    pub fn replace_object(&self, object: Object) {
        lock(&self.state).object = object;
    }

    /// Ends every session: the next call is answered 401.
    pub fn expire_tokens(&self) {
        lock(&self.state).tokens.clear();
    }

    /// The engine cancels whatever transfer is open: its ticket is gone.
    pub fn cancel_by_system(&self) {
        for transfer in &mut lock(&self.state).transfers {
            if transfer.is_open() {
                transfer.phase = "cancelled_system";
                transfer.next = vec!["finalizing_failure", "finished_failure"];
            }
        }
    }

    /// The engine pauses whatever transfer is open: its ticket is gone.
    pub fn pause_by_system(&self) {
        for transfer in &mut lock(&self.state).transfers {
            if transfer.is_open() {
                transfer.phase = "paused_system";
                transfer.next.clear();
            }
        }
    }

    /// The engine forgets every transfer, as it does some time after their end.
    pub fn forget_transfers(&self) {
        lock(&self.state).transfers.clear();
    }

    /// How many transfers were made, and how many of them were neither finalized nor cancelled.
    pub fn transfers(&self) -> (usize, usize) {
        let state = lock(&self.state);
        let ending = |phase: &str| phase.starts_with("fin") || phase.starts_with("cancelled");
        let open = state.transfers.iter().filter(|it| !ending(it.phase));
        let open = open.count();
        (state.made, open)
    }

    /// Whether the engine was asked to end a transfer in this way.
    pub fn asked_for(&self, action: &str) -> bool {
        let requests = self.api.requests();
        requests
            .iter()
            .any(|request| request.path().ends_with(action))
    }

    /// The requests for the disk's data.
    pub fn data_requests(&self) -> Vec<Request> {
        let mut requests = self.data.requests();
        let last = |request: &Request| request.path().rsplit('/').next().unwrap().to_owned();
        requests.retain(|it| it.method == "GET" && last(it).starts_with(TICKET_PREFIX));
        requests
    }
}

impl Transfer {
    fn is_open(&self) -> bool {
        !self.phase.starts_with("finished_")
    }

    /// One look at it: it goes on to its next phase afterwards.
    fn model(&mut self, images: &str) -> Value {
        let href = format!("{TRANSFERS}/{}", self.id);
        let mut model = json!({
            "href": href, "id": self.id, "active": "false", "direction": "download",
            "format": "raw", "inactivity_timeout": self.inactivity_timeout, "phase": self.phase, "shallow": "false",
            "timeout_policy": "cancel", "transferred": "0", "image": {"id": DISK},
            "host": {"id": HOST, "href": format!("/ovirt-engine/api/hosts/{HOST}")},
        });
        if self.phase == "transferring" {
            let url = format!("{images}/{}", self.ticket);
            model["transfer_url"] = json!(url);
            model["proxy_url"] = json!(url);
        }
        if !self.next.is_empty() {
            self.phase = self.next.remove(0);
        }
        model
    }
}

impl State {
    fn api(&mut self, request: &Request, images: &str) -> Reply {
        if request.path() == TOKEN {
            return self.token(request);
        }
        if request.path() == "/ovirt-engine/services/sso-logout" {
            return Reply::json(200, &json!({}));
        }
        let token = request.header("authorization").unwrap_or_default();
        let token = token.strip_prefix("Bearer ").unwrap_or_default();
        if !self.tokens.iter().any(|known| known == token) {
            return Reply::text(401, "<html><body>Unauthorized</body></html>")
                .header("WWW-Authenticate", "Basic realm=\"RESTAPI\"");
        }
        let path = request.path().trim_start_matches("/ovirt-engine/api");
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        match (request.method.as_str(), parts.as_slice()) {
            ("GET", []) => Reply::json(200, &json!({"product_info": {"name": "oVirt Engine"}})),
            ("GET", ["disks", DISK]) => Reply::json(200, &self.disk()),
            ("GET", ["hosts", HOST]) => Reply::json(
                200,
                &json!({"id": HOST, "name": "host1", "address": "localhost"}),
            ),
            ("GET", ["imagetransfers"]) => {
                let list = self
                    .transfers
                    .iter_mut()
                    .map(|transfer| transfer.model(images));
                Reply::json(200, &json!({"image_transfer": list.collect::<Vec<_>>()}))
            }
            ("POST", ["imagetransfers"]) => self.create(&request.json(), images),
            ("GET", ["imagetransfers", id]) => match self.find(id) {
                Some(transfer) => Reply::json(200, &transfer.model(images)),
                None => Reply::status(404),
            },
            ("POST", ["imagetransfers", id, action]) => self.act(id, action),
            _ => Reply::status(404),
        }
    }

    fn token(&mut self, request: &Request) -> Reply {
        if !request.text().contains(&format!("password={PASSWORD}")) {
            return Reply::json(
                400,
                &json!({"error_code": "access_denied", "error": "Cannot authenticate user"}),
            );
        }
        self.issued += 1;
        let token = format!("{TOKEN_PREFIX}{}", self.issued);
        self.tokens.push(token.clone());
        let body = json!({"access_token": token, "scope": "ovirt-app-api",
                          "exp": "9223372036854775807", "token_type": "bearer"});
        Reply::json(200, &body)
    }

    fn disk(&self) -> Value {
        let size = self.disk.size().to_string();
        json!({
            "id": DISK, "name": "disk1", "alias": "disk1", "status": self.disk_status(),
            "storage_type": "image", "content_type": "data", "format": "raw", "sparse": "true",
            "provisioned_size": size, "actual_size": size, "total_size": size,
            "storage_domains": {"storage_domain": [{"id": DOMAIN}]},
        })
    }

    fn disk_status(&self) -> &str {
        if self.transfers.iter().any(Transfer::is_open) {
            "locked"
        } else {
            &self.knobs.disk_status
        }
    }

    fn create(&mut self, wanted: &Value, images: &str) -> Reply {
        if self.disk_status() == "locked" {
            let detail = "[Cannot transfer Virtual Disk: The following disks are locked: disk1. \
                          Please try again in a few minutes.]";
            return Reply::json(
                409,
                &json!({"detail": detail, "reason": "Operation Failed"}),
            );
        }
        self.made += 1;
        let number = self.made;
        let mut phases = self.knobs.first_phases.clone();
        phases.push("transferring");
        let mut transfer = Transfer {
            id: format!("7b0e55d1-0000-4000-8000-{number:012}"),
            ticket: format!("{TICKET_PREFIX}{number}"),
            phase: phases.remove(0),
            inactivity_timeout: wanted["inactivity_timeout"].clone(),
            next: phases,
        };
        let model = transfer.model(images);
        self.transfers.push(transfer);
        Reply::json(201, &model).header("Location", model["href"].as_str().unwrap())
    }

    fn find(&mut self, id: &str) -> Option<&mut Transfer> {
        self.transfers.iter_mut().find(|transfer| transfer.id == id)
    }

    fn act(&mut self, id: &str, action: &str) -> Reply {
        if let Some(transfer) = self.find(id).filter(|transfer| transfer.is_open()) {
            match action {
                "finalize" => {
                    transfer.phase = "finalizing_success";
                    transfer.next = vec!["finished_success"];
                }
                "cancel" => {
                    transfer.phase = "cancelled_user";
                    transfer.next = vec!["finalizing_cleanup", "finished_failure"];
                }
                _ => {}
            }
        }
        Reply::json(200, &json!({"status": "complete"}))
    }

    /// The daemon.
    fn image(&mut self, request: &Request) -> Reply {
        let path = request.path().trim_start_matches(IMAGES);
        let (ticket, resource) = path.split_once('/').unwrap_or((path, ""));
        let readable =
            |transfer: &Transfer| transfer.ticket == ticket && transfer.phase == "transferring";
        if !self.transfers.iter().any(readable) {
            let text =
                format!("You are not allowed to access this resource: No such ticket {ticket}\n");
            return Reply::text(403, &text).fault(crate::Fault::Close);
        }
        match (request.method.as_str(), resource) {
            ("OPTIONS", "") => match &self.knobs.options {
                Some(options) => Reply::json(200, options),
                None => Reply::text(405, "Method 'OPTIONS' not defined\n"),
            },
            ("GET", "") => self.read(request, ticket),
            ("GET", "extents") if self.knobs.extents => Reply::json(200, &self.extents()),
            ("GET", "checksum") => {
                let sum = self.knobs.checksum.clone();
                let sum = sum.unwrap_or_else(|| blkhash(self.disk.bytes()));
                let body = json!({"algorithm": "blake2b", "block_size": BLOCK, "checksum": sum});
                Reply::json(200, &body)
            }
            _ => Reply::text(404, "No handler\n"),
        }
    }

    fn read(&mut self, request: &Request, ticket: &str) -> Reply {
        let end = request
            .range()
            .and_then(|(_, last)| last)
            .map(|last| last + 1);
        if self.knobs.auto_finalize && end == Some(self.object.size()) {
            let mut transfers = self.transfers.iter_mut();
            if let Some(transfer) = transfers.find(|transfer| transfer.ticket == ticket) {
                transfer.phase = "finalizing_success";
                transfer.next = vec!["finished_success"];
            }
        }
        Reply::object(request, &self.object)
    }

    fn extents(&self) -> Value {
        let extents = self.disk.extents().iter();
        extents
            .map(|extent| {
                json!({"start": extent.start, "length": extent.length,
                       "zero": extent.zero, "hole": extent.hole})
            })
            .collect()
    }
}

const BLOCK: usize = 4 << 20;

/// imageio's block hash: the hash of the concatenated hashes of all blocks.
fn blkhash(bytes: &[u8]) -> String {
    let hash = |data: &[u8]| blake2b_simd::Params::new().hash_length(32).hash(data);
    let digests: Vec<u8> = bytes
        .chunks(BLOCK)
        .flat_map(|block| hash(block).as_bytes().to_vec())
        .collect();
    hex(hash(&digests).as_bytes())
}
