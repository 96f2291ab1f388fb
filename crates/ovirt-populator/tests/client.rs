//! The engine client against scripted servers: what it sends, and what it makes of answers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

use mover::Redactor;
use net::{Egress, Proxies, Rest, Settings, Timeouts, Trust};
use ovirt_populator::engine::{
    Client, Credentials, Disk, DiskId, DiskStatus, Engine, Kind, NewTransfer, Phase, TransferId,
};
use serde_json::{Value, json};
use testkit::{Cut, Fault, Reply, Server, When};

const USER: &str = "mover@example";
const PASSWORD: &str = "pass&word=%";
const TOKEN: &str = "/ovirt-engine/sso/oauth/token";
const LOGOUT: &str = "/ovirt-engine/services/sso-logout";
const TRANSFERS: &str = "/ovirt-engine/api/imagetransfers";
const DISK: &str = "6f2b5d0e-8d6c-4f0e-9a0c-3a1b5c7d9e01";
const NO_RETRY: Duration = Duration::from_millis(10);

/// An engine that gives the tokens `t0`, `t1` and so on, and knows nothing else yet.
fn engine() -> Server {
    let given = std::sync::atomic::AtomicUsize::new(0);
    let token = move |_: &testkit::Request| {
        let number = given.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Reply::json(
            200,
            &json!({"access_token": format!("t{number}"), "exp": "9"}),
        )
    };
    Server::builder().route(TOKEN, token).start()
}

fn client_with(server: &Server, retry_budget: Duration) -> Client {
    let settings = Settings {
        trust: Trust::Insecure,
        proxies: Proxies::none(),
        egress: Egress::anywhere(),
        timeouts: Timeouts::default(),
        user_agent: "test/1".into(),
    };
    let credentials = Credentials {
        user: USER.into(),
        password: PASSWORD.into(),
    };
    let address = server.url("/ovirt-engine/api").parse().unwrap();
    Client::new(
        Rest::new(&settings).unwrap(),
        address,
        credentials,
        retry_budget,
        Redactor::new(),
    )
}

fn client(server: &Server) -> Client {
    client_with(server, NO_RETRY)
}

fn id() -> DiskId {
    format!(" {}\n", DISK.to_uppercase()).parse().unwrap()
}

fn new_transfer() -> NewTransfer {
    NewTransfer {
        disk: id(),
        inactivity_timeout: 120,
    }
}

fn fault(detail: &str) -> Value {
    json!({"detail": detail, "reason": "Operation Failed"})
}

#[tokio::test]
async fn a_token_is_asked_for_once_and_given_back() {
    let server = engine();
    server.route(TRANSFERS, |_| Reply::json(200, &json!({})));
    server.route(LOGOUT, |_| Reply::json(200, &json!({})));
    let client = client(&server);
    client.login().await.unwrap();
    client.transfers().await.unwrap();
    client.logout().await;
    client.logout().await;

    let requests = server.requests();
    let paths: Vec<_> = requests.iter().map(testkit::Request::path).collect();
    assert_eq!(paths, [TOKEN, TRANSFERS, LOGOUT]);
    assert_eq!(
        requests[0].text(),
        "grant_type=password&scope=ovirt-app-api&username=mover%40example&password=pass%26word%3D%25"
    );
    assert_eq!(requests[0].header("accept"), Some("application/json"));
    assert_eq!(requests[1].header("authorization"), Some("Bearer t0"));
    assert_eq!(requests[1].header("accept"), Some("application/json"));
    assert_eq!(requests[1].header("version"), Some("4"));
    assert_eq!(requests[2].text(), "scope=ovirt-app-api&token=t0");
}

#[tokio::test]
async fn a_refused_login_is_told_by_the_body_whatever_the_status() {
    let denied = json!({"error_code": "access_denied",
                        "error": format!("Cannot authenticate user '{USER}': wrong")});
    let other = json!({"error": "unauthorized_client", "error_description": "not my name"});
    for (status, body, kind, words) in [
        (400, &denied, Kind::Credentials, "Cannot authenticate"),
        (200, &denied, Kind::Credentials, "Cannot authenticate"),
        (400, &other, Kind::Configuration, "not my name"),
        (
            400,
            &json!({"error_code": "invalid_scope", "error": "x"}),
            Kind::Protocol,
            "invalid_scope",
        ),
        (
            500,
            &json!({"error_code": "server_error", "error": "x"}),
            Kind::Unreachable,
            "server_error",
        ),
        (200, &json!({}), Kind::Protocol, "log in"),
        (200, &json!([]), Kind::Configuration, "no oVirt engine"),
        (404, &json!([]), Kind::Configuration, "no oVirt engine"),
        (503, &json!([]), Kind::Unreachable, "log in"),
    ] {
        let redactor = Redactor::new();
        redactor.add_name(USER);
        redactor.add_secret(PASSWORD);
        let server = engine();
        let reply = Reply::json(status, body);
        server.route(TOKEN, move |_| reply.clone());
        let error = client(&server).login().await.unwrap_err();
        let text = error.chain();
        assert_eq!(error.kind(), kind, "{text}");
        assert!(text.contains(words), "{text}");
        // As it leaves the process.
        let shown = redactor.apply(&text);
        assert!(
            !shown.contains(USER) && !shown.contains(PASSWORD),
            "{shown}"
        );
    }
}

#[tokio::test]
async fn a_session_that_ended_is_renewed_once() {
    let server = engine();
    let old = |request: &testkit::Request| request.header("authorization") == Some("Bearer t0");
    server.route(TRANSFERS, move |request| {
        if old(request) {
            return Reply::text(401, "<html>Unauthorized</html>");
        }
        Reply::json(200, &json!({"image_transfer": []}))
    });
    let client = client(&server);
    client.transfers().await.unwrap();
    client.transfers().await.unwrap();
    let requests = server.requests();
    let paths: Vec<_> = requests.iter().map(testkit::Request::path).collect();
    assert_eq!(paths, [TOKEN, TRANSFERS, TOKEN, TRANSFERS, TRANSFERS]);

    server.route(TRANSFERS, |_| Reply::text(401, "<html>Unauthorized</html>"));
    let error = client.create(&new_transfer()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Credentials);
    let posts = server.requests().iter().skip(paths.len()).count();
    assert_eq!(posts, 3, "a refused POST, a token, a refused POST");
}

#[tokio::test]
async fn a_disk_is_understood_with_scalars_of_any_kind() {
    let server = engine();
    let path = format!("/ovirt-engine/api/disks/{DISK}");
    for (size, status, seen) in [
        (json!("1073741824"), "ok", DiskStatus::Ok),
        (json!(1_073_741_824_u64), "locked", DiskStatus::Locked),
        (json!("1073741824"), "illegal", DiskStatus::Illegal),
        (json!("1073741824"), "new", DiskStatus::Other("new".into())),
    ] {
        let body = json!({"alias": "a", "name": "n", "provisioned_size": size, "status": status,
                          "storage_type": "image", "sparse": "true", "unknown": {"x": [1]}});
        server.route(&path, move |_| Reply::json(200, &body));
        let disk = client(&server).disk(&id()).await.unwrap();
        assert_eq!((disk.size, disk.name.as_str()), (1 << 30, "a"));
        assert_eq!(disk.status, seen);
    }

    for (body, kind) in [
        (json!({"name": "n"}), Kind::Protocol),
        (json!({"provisioned_size": "many"}), Kind::Protocol),
        (json!({"provisioned_size": "-1"}), Kind::Protocol),
        (json!([]), Kind::Protocol),
    ] {
        let reply = Reply::json(200, &body);
        server.route(&path, move |_| reply.clone());
        assert_eq!(client(&server).disk(&id()).await.unwrap_err().kind(), kind);
    }
    server.route(&path, |_| Reply::status(404));
    let error = client(&server).disk(&id()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Missing);
    assert!(error.to_string().contains(DISK));
}

#[tokio::test]
async fn disks_that_cannot_be_transferred_say_why() {
    let server = engine();
    let path = format!("/ovirt-engine/api/disks/{DISK}");
    for (knobs, words) in [
        (json!({"storage_type": "lun"}), "\"lun\""),
        (
            json!({"storage_type": "lun", "provisioned_size": null}),
            "\"lun\"",
        ),
        (
            json!({"storage_type": "managed_block_storage"}),
            "managed_block_storage",
        ),
        (json!({"status": "illegal"}), "illegal"),
        (json!({"provisioned_size": "0"}), "holds no data"),
        (json!({"provisioned_size": 0}), "holds no data"),
        (
            json!({"provisioned_size": "0", "status": "locked"}),
            "holds no data",
        ),
        (json!({"content_type": "ovf_store"}), "ovf_store"),
        (json!({"content_type": "memory_dump_volume"}), "memory of"),
        (
            json!({"content_type": "memory_metadata_volume"}),
            "memory of",
        ),
        (json!({"content_type": "backup_scratch"}), "back-up"),
        (
            json!({"content_type": "hosted_engine_configuration"}),
            "hosted engine",
        ),
        (
            json!({"content_type": "hosted_engine_metadata"}),
            "hosted engine",
        ),
        (
            json!({"content_type": "hosted_engine_sanlock"}),
            "hosted engine",
        ),
    ] {
        let disk = described(&server, &path, &knobs).await;
        let error = disk.ensure_transferable().unwrap_err();
        assert_eq!(error.kind(), Kind::Unusable);
        assert!(error.to_string().contains(words), "{error}");
    }
    for knobs in [
        json!({}),
        json!({"provisioned_size": "1"}),
        json!({"content_type": "data"}),
        json!({"content_type": null}),
        json!({"content_type": "hosted_engine"}),
        json!({"content_type": "iso"}),
        json!({"content_type": "a_newer_word"}),
        json!({"status": "locked"}),
    ] {
        let disk = described(&server, &path, &knobs).await;
        assert!(disk.ensure_transferable().is_ok(), "{knobs}");
    }
}

/// A disk of 512 bytes that can be transferred, but for the knobs.
async fn described(server: &Server, path: &str, knobs: &Value) -> Disk {
    let mut body = json!({"provisioned_size": "512", "status": "ok", "storage_type": "image"});
    for (key, value) in knobs.as_object().unwrap() {
        body[key] = value.clone();
    }
    server.route(path, move |_| Reply::json(200, &body));
    client(server).disk(&id()).await.unwrap()
}

#[tokio::test]
async fn an_engine_that_restarts_is_asked_again_for_a_disk() {
    let server = engine();
    let path = format!("/ovirt-engine/api/disks/{DISK}");
    let body = json!({"provisioned_size": "512", "status": "ok"});
    server.route(&path, move |_| Reply::json(200, &body));
    let away = Reply::text(503, "<html>Service Unavailable</html>");
    server.fault(When::path(&path), Fault::Answer(away));
    let client = client_with(&server, Duration::from_secs(30));
    assert_eq!(client.disk(&id()).await.unwrap().size, 512);
}

#[tokio::test]
async fn a_transfer_is_asked_for_with_everything_said() {
    let server = engine();
    let answer = json!({
        "id": "x1", "phase": "transferring", "active": "false", "image": {"id": DISK},
        "direction": "download", "format": "raw", "timeout_policy": "cancel",
        "inactivity_timeout": "120", "transfer_url": "https://host:54322/images/SECRET",
        "proxy_url": "https://engine:54323/images/SECRET",
    });
    server.route(TRANSFERS, move |_| Reply::json(201, &answer));
    let transfer = client(&server).create(&new_transfer()).await.unwrap();
    assert_eq!(transfer.phase, Phase::Transferring);
    assert_eq!(transfer.disk.as_deref(), Some(DISK));
    assert_eq!(transfer.inactivity_timeout, Some(120));
    assert!(transfer.transfer_url.is_some() && transfer.proxy_url.is_some());
    assert!(!format!("{transfer:?}").contains("SECRET"));

    let request = &server.requests()[1];
    assert_eq!(request.method, "POST");
    assert_eq!(request.header("content-type"), Some("application/json"));
    assert_eq!(
        request.json(),
        json!({"disk": {"id": DISK}, "direction": "download", "format": "raw",
               "timeout_policy": "cancel", "inactivity_timeout": "120"})
    );
}

#[tokio::test]
async fn answers_to_a_creation_that_leave_it_open_are_told_from_refusals() {
    for (what, kind) in [
        (Fault::NoAnswer(Cut::Reset), Kind::AnswerLost),
        (Fault::NoAnswer(Cut::Fin), Kind::AnswerLost),
        (Fault::cut(5, Cut::Fin), Kind::AnswerLost),
        (
            Fault::Answer(Reply::text(502, "<html>Proxy Error</html>")),
            Kind::AnswerLost,
        ),
        (
            Fault::Answer(Reply::text(201, "<html>odd</html>")),
            Kind::AnswerLost,
        ),
        (
            Fault::Answer(Reply::json(
                409,
                &fault("[The following disks are locked: d]"),
            )),
            Kind::Busy,
        ),
        (
            Fault::Answer(Reply::json(500, &fault("[... ILLEGAL status: d]"))),
            Kind::Unusable,
        ),
        (Fault::status(429), Kind::Unreachable),
    ] {
        let server = engine();
        let answer = json!({"id": "x1", "phase": "transferring"});
        server.route(TRANSFERS, move |_| Reply::json(201, &answer));
        let text = format!("{what:?}");
        server.fault(When::path(TRANSFERS), what);
        let client = client_with(&server, Duration::from_secs(30));
        let error = client.create(&new_transfer()).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{text}: {}", error.chain());
        let requests = server.requests();
        let posts = requests.iter().filter(|one| one.path() == TRANSFERS);
        assert_eq!(posts.count(), 1, "{text}");
    }
}

#[tokio::test]
async fn a_connection_that_is_refused_has_made_no_transfer() {
    let server = engine();
    server.route(TOKEN, |_| {
        Reply::json(200, &json!({"access_token": "t"})).fault(Fault::Close)
    });
    let client = client(&server);
    client.login().await.unwrap();
    server.wait_for_idle();
    server.refuse();
    let error = client.create(&new_transfer()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unreachable, "{}", error.chain());
}

#[tokio::test]
async fn transfers_are_listed_looked_up_and_acted_on() {
    let server = engine();
    let other = json!({"id": 7, "phase": "levitating", "disk": {"id": DISK.to_uppercase()},
                       "inactivity_timeout": 60, "transfer_url": ""});
    // Entries of other clients may hold anything.
    let odd = json!({"id": "x2", "transfer_url": "rubbish", "inactivity_timeout": "soon"});
    let list =
        json!({"image_transfer": [{"id": "x1", "phase": "paused_system"}, odd, null, other]});
    server.route(TRANSFERS, move |_| Reply::json(200, &list));
    server.route(&format!("{TRANSFERS}/x1"), |_| Reply::status(404));
    server.route(&format!("{TRANSFERS}/x1/finalize"), |_| {
        Reply::json(200, &json!({"status": "complete"}))
    });
    server.route(&format!("{TRANSFERS}/x1/cancel"), |_| {
        Reply::json(409, &fault("[Related operation is currently in progress.]"))
    });
    let client = client(&server);
    let all = client.transfers().await.unwrap();
    assert_eq!(all[0].phase, Phase::PausedSystem);
    assert_eq!(all[1].id, TransferId("7".into()));
    assert_eq!(all[1].phase, Phase::Other("levitating".into()));
    assert_eq!(all[1].disk.as_deref(), Some(DISK));
    assert!(all[1].transfer_url.is_none());

    let first = TransferId("x1".into());
    assert!(client.transfer(&first).await.unwrap().is_none());
    client.finalize(&first).await.unwrap();
    let error = client.cancel(&first).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Busy);
    assert!(error.to_string().contains("Related operation"), "{error}");
}
