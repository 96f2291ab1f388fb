//! The stand-in engine behaves as oVirt's does, and oVirt's own client is content with it.

use std::{path::Path, process::Command};

use serde_json::{Value, json};
use suite::{
    Engine, EngineDisk, User,
    curl::{self, Answer},
    eventually, folder, variable,
};
use testkit::Disk;

use crate::{MIB, mib};

struct Client {
    engine: Engine,
    token: String,
}

impl Client {
    fn new(user: &User) -> Self {
        Self {
            engine: Engine::default(),
            token: user.token(),
        }
    }

    fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let call = curl::call(
            method,
            &format!("{}/ovirt-engine/api/{path}", self.engine.url),
        )
        .header("Authorization", &format!("Bearer {}", self.token))
        .header("Accept", "application/json");
        body.map_or(call.clone(), |body| call.json(body)).send()
    }

    fn create(&self, disk: &EngineDisk) -> Answer {
        let body = json!({
            "disk": { "id": disk.id }, "direction": "download", "format": "raw",
            "timeout_policy": "cancel", "inactivity_timeout": "60",
        });
        self.send("POST", "imagetransfers", Some(&body))
    }

    fn created(&self, disk: &EngineDisk) -> Value {
        self.create(disk).expect(201).json()
    }

    fn phase(&self, transfer: &Value) -> String {
        let path = format!("imagetransfers/{}", text(transfer, "id"));
        let answer = self.send("GET", &path, None);
        match answer.status {
            404 => "gone".into(),
            _ => text(&answer.json(), "phase").to_owned(),
        }
    }

    fn act(&self, transfer: &Value, action: &str) -> Answer {
        let path = format!("imagetransfers/{}/{action}", text(transfer, "id"));
        self.send("POST", &path, Some(&json!({})))
    }
}

fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object[key]
        .as_str()
        .unwrap_or_else(|| panic!("{key} is no string: {object}"))
}

fn setting(knobs: &Value) -> (tempfile::TempDir, Disk, EngineDisk, Client) {
    let (engine, folder) = (Engine::default(), folder());
    let disk = Disk::sparse(1, mib(8), &[0..MIB, 4 * MIB..6 * MIB]);
    let source = engine.raw_disk(folder.path(), &disk).with(knobs);
    let client = Client::new(&engine.user());
    (folder, disk, source, client)
}

fn read(transfer: &Value, range: &str) -> Answer {
    curl::call("GET", text(transfer, "transfer_url"))
        .header("Range", &format!("bytes={range}"))
        .send()
}

#[test]
fn ovirts_own_client_downloads_equal_bytes() {
    let (engine, folder) = (Engine::default(), folder());
    let disk = Disk::sparse(2, mib(48), &[MIB..9 * MIB, 40 * MIB..48 * MIB]);
    let raw = engine.raw_disk(folder.path(), &disk);
    let qcow2 = folder.path().join("qcow2");
    let status = Command::new("qemu-img")
        .args(["convert", "-f", "raw", "-O", "qcow2"])
        .args([&raw.path, &qcow2])
        .status();
    assert!(status.unwrap().success());
    let cow = engine.disk(&qcow2, "cow");
    let proxied = engine
        .raw_disk(folder.path(), &disk)
        .with(&json!({ "transfer_url": "https://localhost:9/images" }));
    for (name, source) in [("raw", raw), ("cow", cow), ("proxied", proxied)] {
        let target = folder.path().join(name);
        ovirt_img(&source, &target);
        disk.assert_on(&target);
        source.wait_until_tidy();
        assert_eq!(source.phases(), ["finished_success"]);
    }
}

fn ovirt_img(source: &EngineDisk, target: &Path) {
    let output = Command::new(variable("OVIRT_IMG"))
        .args(["download-disk", "--output", "json", "-f", "raw"])
        .args(["--engine-url", &variable("ENGINE_URL")])
        .args(["--username", &variable("ENGINE_USER")])
        .args(["--password-file", &variable("ENGINE_PASSWORD_FILE")])
        .args(["--cafile", &variable("SERVICES_CA")])
        .arg(&source.id)
        .arg(target)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn scalars_are_strings_in_json_and_elements_in_xml() {
    let (_folder, disk, source, client) = setting(&json!({}));
    let path = format!("disks/{}", source.id);
    let json = client.send("GET", &path, None).expect(200).json();
    assert_eq!(text(&json, "provisioned_size"), disk.size().to_string());
    assert_eq!(text(&json, "sparse"), "true");
    assert!(json["storage_domains"]["storage_domain"][0]["id"].is_string());
    let xml = curl::call(
        "GET",
        &format!("{}/ovirt-engine/api/{path}", client.engine.url),
    )
    .header("Authorization", &format!("Bearer {}", client.token))
    .header("Accept", "application/xml")
    .send()
    .expect(200)
    .text();
    let size = format!("<provisioned_size>{}</provisioned_size>", disk.size());
    assert!(
        xml.contains(&size) && xml.contains(&format!("id=\"{}\"", source.id)),
        "{xml}"
    );
}

#[test]
fn requests_without_a_good_token() {
    let (_folder, _disk, source, mut client) = setting(&json!({}));
    client.token = "expired".into();
    let answer = client
        .send("GET", &format!("disks/{}", source.id), None)
        .expect(401);
    assert!(answer.text().starts_with("<html>"));
    assert_eq!(
        answer.header("www-authenticate"),
        Some("Basic realm=\"RESTAPI\"")
    );
}

#[test]
fn refusals() {
    let locked = "[Cannot transfer Virtual Disk: The following disks are locked: NAME. Please try again in a few minutes.]";
    for (knobs, status, detail) in [
        (json!({ "status": "locked" }), 409, locked),
        (
            json!({ "engine_lock": "transfer" }),
            409,
            "[Cannot transfer Virtual Disk. Disk NAME is being transferred.]",
        ),
        (
            json!({ "engine_lock": "other" }),
            409,
            "[Cannot transfer Virtual Disk. Related operation is currently in progress. Please try again later.]",
        ),
        (
            json!({ "plugged_to": "vm1,vm2" }),
            409,
            "[Cannot transfer Virtual Disk. The disk NAME is plugged to non-Down VMs: vm1,vm2]",
        ),
        (
            json!({ "status": "illegal" }),
            500,
            "[Cannot transfer Virtual Disk. The following attached disks are in ILLEGAL status: NAME - please remove them and try again.]",
        ),
        (
            json!({ "domain_status": "Maintenance" }),
            409,
            "[Cannot transfer Virtual Disk. The relevant Storage Domain's status is Maintenance.]",
        ),
        (
            json!({ "host_up": false }),
            409,
            "[Cannot transfer Virtual Disk. There is no active Host in the Data Center.]",
        ),
        (json!({ "fail_start": true }), 400, "[]"),
    ] {
        let (_folder, _disk, source, client) = setting(&knobs);
        let name = source.state()["name"].as_str().unwrap().to_owned();
        let fault = client.create(&source).expect(status).json();
        assert_eq!(text(&fault, "detail"), detail.replace("NAME", &name));
        assert_eq!(text(&fault, "reason"), "Operation Failed");
    }
}

#[test]
fn objects_that_are_not_there() {
    let (_folder, _disk, source, client) = setting(&json!({}));
    let mut unknown = source;
    unknown.id = suite::uuid();
    let answer = client
        .send("GET", &format!("disks/{}", unknown.id), None)
        .expect(404);
    assert!(answer.body.is_empty());
    let fault = client.create(&unknown).expect(400).json();
    assert_eq!(
        text(&fault, "detail"),
        "[Cannot transfer Virtual Disk. The specified disk does not exist.]"
    );
    let answer = client.send("GET", "imagetransfers/0", None).expect(404);
    assert!(answer.body.is_empty());
    client
        .send("POST", "imagetransfers/0/finalize", Some(&json!({})))
        .expect(200);
}

#[test]
fn permissions() {
    let (_folder, _disk, source, _client) = setting(&json!({}));
    let user = Engine::default().user();
    user.set(&json!({ "may_transfer": false }));
    let fault = Client::new(&user).create(&source).expect(403).json();
    assert_eq!(
        text(&fault, "detail"),
        "[User is not authorized to perform this action.]"
    );
}

#[test]
fn a_transfer_from_beginning_to_end() {
    let (_folder, disk, source, client) = setting(&json!({ "finalizing_seconds": 3600 }));
    let transfer = client.created(&source);
    assert_eq!(text(&transfer, "phase"), "transferring");
    assert_eq!(source.state()["status"], "locked");
    let answer = read(&transfer, "0-9").expect(206);
    assert_eq!(answer.body, disk.bytes()[..10]);
    let refusal = client.act(&transfer, "pause").expect(400).json();
    assert!(text(&refusal, "detail").starts_with("[Cannot pause image download"));
    let refusal = client.act(&transfer, "resume").expect(409).json();
    assert!(text(&refusal, "detail").starts_with("[Cannot resume image transfer"));
    let done = client.act(&transfer, "finalize").expect(200).json();
    assert_eq!(text(&done, "status"), "complete");
    assert_eq!(client.phase(&transfer), "finalizing_success");
    // The phase lasts until it has been seen.
    source.set(&json!({ "finalizing_seconds": 0 }));
    eventually("it finished", || {
        client.phase(&transfer) == "finished_success"
    });
    assert_eq!(source.state()["status"], "ok");
    read(&transfer, "0-9").expect(403);
    // An action on what has ended changes nothing.
    client.act(&transfer, "cancel").expect(200);
    assert_eq!(client.phase(&transfer), "finished_success");
    let list = client
        .send("GET", "imagetransfers", None)
        .expect(200)
        .json();
    let ids = list["image_transfer"].as_array().unwrap().iter();
    assert!(
        ids.map(|transfer| text(transfer, "id"))
            .any(|id| id == text(&transfer, "id"))
    );
}

#[test]
fn a_cancelled_transfer_unlocks_the_disk() {
    let (_folder, _disk, source, client) = setting(&json!({}));
    let transfer = client.created(&source);
    client.act(&transfer, "cancel").expect(200);
    eventually("it finished", || {
        client.phase(&transfer) == "finished_failure"
    });
    source.assert_tidy("finished_failure");
}

#[test]
fn a_transfer_that_was_read_completely_is_finalized() {
    let (_folder, _disk, source, client) = setting(&json!({}));
    let transfer = client.created(&source);
    read(&transfer, "0-4194303").expect(206);
    read(&transfer, "4194304-").expect(206);
    eventually("it finished by itself", || {
        client.phase(&transfer) == "finished_success"
    });
}

#[test]
fn a_checksum_counts_as_read() {
    let (_folder, _disk, source, client) = setting(&json!({}));
    let transfer = client.created(&source);
    let url = format!("{}/checksum", text(&transfer, "transfer_url"));
    let answer = curl::call("GET", &url).send().expect(200);
    assert_eq!(answer.json()["algorithm"], "blake2b");
    eventually("it finished by itself", || {
        client.phase(&transfer) == "finished_success"
    });
}

#[test]
fn an_idle_transfer_ends_by_its_policy() {
    let idle = json!({ "inactivity_timeout": 1 });
    for (policy, phase, status) in [
        ("legacy", "finished_failure", "ok"),
        ("cancel", "finished_failure", "ok"),
        ("pause", "paused_system", "locked"),
    ] {
        let (_folder, _disk, source, client) = setting(&idle);
        let body = json!({ "disk": { "id": source.id }, "direction": "download", "format": "raw", "timeout_policy": policy });
        let transfer = client
            .send("POST", "imagetransfers", Some(&body))
            .expect(201)
            .json();
        eventually("it ended", || client.phase(&transfer) == phase);
        assert_eq!(source.state()["status"], status, "{policy}");
    }
}

#[test]
fn a_lost_ticket_ends_the_transfer() {
    let (_folder, _disk, source, client) = setting(&json!({}));
    let transfer = client.created(&source);
    client.engine.lose_ticket(text(&transfer, "id"));
    read(&transfer, "0-9").expect(403);
    eventually("it ended", || client.phase(&transfer) == "finished_failure");
    source.assert_tidy("finished_failure");
}

#[test]
fn the_system_cancels_and_pauses() {
    let (_folder, _disk, source, client) = setting(&json!({}));
    let transfer = client.created(&source);
    client
        .engine
        .set_phase(text(&transfer, "id"), "paused_system");
    eventually("the ticket is gone", || {
        read(&transfer, "0-9").status == 403
    });
    assert_eq!(source.state()["status"], "locked");
    client
        .engine
        .set_phase(text(&transfer, "id"), "cancelled_system");
    eventually("it ended", || client.phase(&transfer) == "finished_failure");
    source.assert_tidy("finished_failure");
}

#[test]
fn creation_takes_its_time_in_the_request_or_in_a_phase() {
    let (_folder, _disk, source, client) = setting(&json!({ "initializing_seconds": 1 }));
    let transfer = client.created(&source);
    assert_eq!(text(&transfer, "phase"), "initializing");
    assert!(transfer.get("transfer_url").is_none());
    eventually("it is ready", || client.phase(&transfer) == "transferring");

    let (_folder, _disk, source, client) = setting(&json!({ "post_seconds": 1 }));
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| client.created(&source));
        // Others are served meanwhile, and see the transfer.
        eventually("the transfer exists", || {
            source.phases() == ["initializing"]
        });
        assert_eq!(text(&asked.join().unwrap(), "phase"), "transferring");
    });
}

#[test]
fn an_answer_that_is_lost_leaves_a_transfer() {
    let (_folder, _disk, source, client) = setting(&json!({ "lose_post_answers": 1 }));
    assert_eq!(client.create(&source).status, 0);
    assert_eq!(source.phases(), ["transferring"]);
    client.create(&source).expect(409);
}

#[test]
fn finished_transfers_are_forgotten() {
    let (_folder, _disk, source, client) = setting(&json!({ "keep_finished_seconds": 0 }));
    let transfer = client.created(&source);
    client.act(&transfer, "finalize").expect(200);
    eventually("it is gone", || client.phase(&transfer) == "gone");
    let disk = client
        .send("GET", &format!("disks/{}", source.id), None)
        .expect(200)
        .json();
    assert_eq!(text(&disk, "status"), "ok");
}

#[test]
fn tokens_expire() {
    let (_folder, _disk, source, _client) = setting(&json!({}));
    let user = Engine::default().user();
    let client = Client::new(&user);
    let path = format!("disks/{}", source.id);
    client.send("GET", &path, None).expect(200);
    user.expire_tokens();
    client.send("GET", &path, None).expect(401);
    Client::new(&user).send("GET", &path, None).expect(200);
    assert_eq!(user.state()["logins"], 2);
}
