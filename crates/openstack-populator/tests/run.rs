//! Whole runs against the scripted cloud.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::{fs, sync::Arc};

use contract::Exit;
use mover::Done;
use serde_json::json;
use support::{
    APPLICATION_CREDENTIAL, IMAGE, Leap, PASSWORD, TOKEN,
    run::{Run, failure, image, run},
};
use testkit::{
    Cut, Fault, Gate, Reply, Server, When,
    qemu::{self, Qemu},
};
use transfer::{Algorithm, Digest};

/// A disk of some MiB whose every block is another one, not a multiple of anything.
fn disk() -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..(5_u32 << 20) / 4).flat_map(u32::to_le_bytes).collect();
    bytes.extend([7; 331]);
    bytes
}

// Computed with coreutils over `disk()`.
const MD5: &str = "565f4c7aa7fad623aee5f4f53dd22371";
const SHA512: &str = "10c259ab3afe08f931f3aa6e9f9cacfcb97839ab46e8d637c0ef64dbb801347d30db3b89e641926a2335941986c6c38ee09404a1aa4b51c6f44cf3f44f184010";

#[tokio::test(flavor = "multi_thread")]
async fn copies_and_verifies_with_every_kind_of_credentials() {
    for keys in [PASSWORD, TOKEN, APPLICATION_CREDENTIAL] {
        let cloud = image(
            &json!({"os_hash_algo": "sha512", "os_hash_value": SHA512}),
            &disk(),
        );
        let mut run = Run::new();
        let done = run.go(&cloud, keys, &[]).await.unwrap();
        let verified = Digest {
            algorithm: Algorithm::Sha512,
            hex: SHA512.into(),
        };
        assert_eq!(
            done,
            Done::Copied {
                verified: Some(verified)
            }
        );
        assert!(fs::read(run.target()).unwrap() == disk());
        assert_eq!(cloud.tokens_given(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_checksum_serves_where_there_is_nothing_better() {
    let cloud = image(&json!({"checksum": MD5}), &disk());
    let (result, bytes) = run(&cloud, &["--verify=full"]).await;
    let Done::Copied {
        verified: Some(digest),
    } = result.unwrap()
    else {
        panic!("not verified");
    };
    assert_eq!(
        (digest.algorithm, digest.hex.as_str()),
        (Algorithm::Md5, MD5)
    );
    assert!(bytes.unwrap() == disk());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_hash_nothing_is_called_verified() {
    let cloud = image(&json!({}), &disk());
    let (result, bytes) = run(&cloud, &[]).await;
    assert_eq!(result.unwrap(), Done::Copied { verified: None });
    assert!(bytes.unwrap() == disk());

    let (result, bytes) = run(&cloud, &["--verify=full"]).await;
    failure(result, Exit::SourceUnusable, &["--verify=full"]);
    assert_eq!(bytes, None, "nothing is made before everything is known");

    let cloud = image(&json!({"checksum": "00".repeat(16)}), &disk());
    let (result, _) = run(&cloud, &["--verify=off"]).await;
    assert_eq!(result.unwrap(), Done::Copied { verified: None });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_hash_says_both() {
    let stated = "00".repeat(64);
    let cloud = image(
        &json!({"os_hash_algo": "sha512", "os_hash_value": stated}),
        &disk(),
    );
    let (result, _) = run(&cloud, &[]).await;
    failure(result, Exit::HashMismatch, &[&stated, SHA512]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_ranges_gives_one_stream() {
    let cloud = image(&json!({"checksum": MD5}), &disk());
    cloud
        .glance
        .fault(When::ranged().always(), Fault::IgnoreRange);
    let (result, bytes) = run(&cloud, &[]).await;
    assert!(matches!(
        result.unwrap(),
        Done::Copied { verified: Some(_) }
    ));
    assert!(bytes.unwrap() == disk());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_expires_mid_way_is_renewed_once() {
    for keys in [PASSWORD, TOKEN, APPLICATION_CREDENTIAL] {
        let cloud = Arc::new(image(&json!({"checksum": MD5}), &disk()));
        let gate = Gate::new();
        // One answer is held while the token expires, and another is needed.
        let copy = || When::ranged();
        cloud.glance.fault(copy(), Fault::HoldHead(gate.clone()));
        cloud
            .glance
            .fault(copy(), Fault::cut(1_000_000, Cut::Reset));
        let mut run = Run::new();
        let (done, ()) = tokio::join!(run.go(&cloud, keys, &["--connections=1"]), async {
            let watched = Arc::clone(&cloud);
            let held = tokio::task::spawn_blocking(move || watched.glance.wait_for_held(1));
            held.await.unwrap();
            cloud.expire();
            gate.open();
        });
        assert!(matches!(done.unwrap(), Done::Copied { verified: Some(_) }));
        assert_eq!(cloud.tokens_given(), 2);
        assert!(fs::read(run.target()).unwrap() == disk());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_raw_is_refused_unless_somebody_wants_it() {
    let forklift = [
        "--cr-name=c",
        "--metrics-address=off",
        "--termination-log=off",
    ];
    for (record, data, named) in [
        (json!({"disk_format": "qcow2"}), disk(), "qcow2"),
        (
            json!({"disk_format": "vmdk", "container_format": "ova"}),
            disk(),
            "ova",
        ),
        (
            json!({"os_encrypt_key_id": "k"}),
            disk(),
            "os_encrypt_key_id",
        ),
        (
            json!({}),
            [b"QFI\xfb".as_slice(), &disk()].concat(),
            "qcow2",
        ),
        (json!({}), b"KDMV".to_vec(), "vmdk"),
    ] {
        let cloud = image(&record, &data);
        for flags in [
            &[][..],
            &["--verbatim=false"],
            &[forklift[0], "--verbatim=false"],
        ] {
            let (result, bytes) = run(&cloud, flags).await;
            failure(result, Exit::SourceUnusable, &[named, "--verbatim"]);
            assert_eq!(bytes, None);
        }
        for flags in [&["--verbatim"][..], &["--verbatim=true"], &forklift] {
            let (result, bytes) = run(&cloud, flags).await;
            result.unwrap();
            assert!(bytes.unwrap() == data, "{record} {flags:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_disk_of_an_image_that_is_not_raw_arrives() {
    let qemu = Qemu::new();
    let disk = qemu::disk(1, 4 << 20, 200_000);
    let raw = qemu.raw("disk.raw", &disk);
    for (format, arguments, named) in [
        ("qcow2", &["-c"][..], "qcow2"),
        ("vmdk", &["-o", "subformat=streamOptimized"], "vmdk"),
        ("qcow2", &[], "vdi"), // the content decides
    ] {
        let bytes = fs::read(qemu.convert(&raw, format, arguments)).unwrap();
        let record = json!({"disk_format": named, "checksum": MD5});
        let cloud = image(&record, &bytes);
        for flags in [&[][..], &["--verbatim=false", "--verify=off"]] {
            let (result, found) = run(&cloud, flags).await;
            // The hash is the file's.
            assert_eq!(result.unwrap(), Done::Copied { verified: None });
            assert!(found.unwrap() == disk, "{format} {arguments:?}");
        }
        let (result, found) = run(&cloud, &["--check"]).await;
        assert_eq!(result.unwrap(), Done::Checked);
        assert_eq!(found, None);

        // The file's hash is another one than the disk's.
        let (result, found) = run(&cloud, &["--verify=full"]).await;
        failure(result, Exit::HashMismatch, &[MD5]);
        assert_eq!(found, None);

        let cut = image(&record, &bytes[..bytes.len() / 2]);
        let (result, found) = run(&cut, &[]).await;
        failure(result, Exit::SourceUnusable, &[format, "upload"]);
        assert_eq!(found, None);

        cloud
            .glance
            .fault(When::ranged().always(), Fault::IgnoreRange);
        // In one pass all of the file is read.
        let (result, _) = run(&cloud, &[]).await;
        failure(result, Exit::HashMismatch, &[MD5]);
        let (result, found) = run(&cloud, &["--verify=off"]).await;
        assert_eq!(result.unwrap(), Done::Copied { verified: None });
        assert!(found.unwrap() == disk, "{format} {arguments:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_before_anything_is_written() {
    let file = format!("/v2/images/{IMAGE}/file");
    for (status, exit, needles) in [
        (204, Exit::SourceUnusable, &["store"][..]),
        (403, Exit::Permission, &["role", "deactivated"]),
        (404, Exit::SourceMissing, &["deleted"]),
        (410, Exit::SourceMissing, &["deleted"]),
        (401, Exit::Credentials, &["credentials"]),
        (400, Exit::SourceProtocol, &["400"]),
    ] {
        let cloud = image(&json!({}), &disk());
        cloud
            .glance
            .fault(When::path(&file).always(), Fault::status(status));
        let (result, bytes) = run(&cloud, &[]).await;
        failure(result, exit, needles);
        assert_eq!(bytes, None, "{status}");
    }
    for (record, exit, needle) in [
        (
            json!({"status": "queued", "size": null}),
            Exit::SourceUnusable,
            "queued",
        ),
        (
            json!({"status": "deactivated"}),
            Exit::SourceUnusable,
            "deactivated",
        ),
        (json!({"size": null}), Exit::SourceUnusable, "no size"),
        (json!({"size": 5}), Exit::SourceProtocol, "Content-Range"),
    ] {
        let (result, bytes) = run(&image(&record, &disk()), &[]).await;
        failure(result, exit, &[needle]);
        assert_eq!(bytes, None, "{record}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_without_a_catalog_says_what_to_set() {
    let cloud = image(&json!({}), &disk());
    cloud.catalog(json!(null));
    let (result, _) = run(&cloud, &[]).await;
    failure(result, Exit::Configuration, &["projectID", "projectName"]);
    assert_eq!(cloud.glance.requests().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_secret_chooses_the_endpoint() {
    let cloud = image(&json!({"checksum": MD5}), &disk());
    let nowhere = "http://127.0.0.1:9/";
    cloud.catalog(json!([{"type": "image", "endpoints": [
        {"interface": "public", "region_id": "One", "url": nowhere},
        {"interface": "internal", "region_id": "One", "url": nowhere},
        {"interface": "internal", "region": "Two", "url": cloud.glance.url("/v2/")},
        {"interface": "public", "region_id": "Two", "url": "http://127.0.0.1:10/"},
    ]}]));
    let keys = [
        PASSWORD,
        &[("regionName", "Two\n"), ("availability", "internal")],
    ]
    .concat();
    Run::new().go(&cloud, &keys, &[]).await.unwrap();

    let (result, _) = run(&cloud, &[]).await;
    failure(result, Exit::Configuration, &["regionName", "One, Two"]);
    let keys = [PASSWORD, &[("availability", "private")]].concat();
    let result = Run::new().go(&cloud, &keys, &[]).await;
    failure(result, Exit::Configuration, &["availability", "private"]);
    assert_eq!(
        cloud.tokens_given(),
        2,
        "what is malformed is refused before any server is asked"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_elsewhere_gets_no_token() {
    let store = Server::builder()
        .address("127.0.0.2".parse().unwrap())
        .object("/blob", disk())
        .start();
    let cloud = image(&json!({"checksum": MD5}), &disk());
    let file = format!("/v2/images/{IMAGE}/file");
    let there = Reply::redirect(302, &store.url("/blob?signature=s"));
    cloud
        .glance
        .fault(When::path(&file).always(), Fault::Answer(there));
    let (result, bytes) = run(&cloud, &[]).await;
    result.unwrap();
    assert!(bytes.unwrap() == disk());
    assert!(!store.requests().is_empty());
    for request in store.requests() {
        assert_eq!(request.header("x-auth-token"), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_reads_one_byte_and_makes_nothing() {
    for flag in ["--check", "--check=transfer"] {
        let cloud = image(&json!({"checksum": MD5}), &disk());
        let (result, bytes) = run(&cloud, &[flag]).await;
        assert_eq!(result.unwrap(), Done::Checked);
        assert_eq!(bytes, None);
        let ranges: Vec<_> = cloud
            .glance
            .requests()
            .iter()
            .filter_map(testkit::Request::range)
            .collect();
        assert_eq!(ranges, [(0, Some(0))]);
    }
    let cloud = image(&json!({"disk_format": "qcow2"}), &disk());
    let (result, _) = run(&cloud, &["--check"]).await;
    failure(result, Exit::SourceUnusable, &["qcow2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_before_the_copy_are_survived() {
    let cloud = image(&json!({"checksum": MD5}), &disk());
    cloud
        .keystone
        .fault(When::any(), Fault::NoAnswer(Cut::Reset));
    cloud.glance.fault(When::any(), Fault::status(503));
    cloud
        .glance
        .fault(When::ranged(), Fault::NoAnswer(Cut::Reset));
    cloud
        .glance
        .fault(When::ranged().skip(1), Fault::cut(10, Cut::Reset));
    let (result, bytes) = run(&cloud, &[]).await;
    assert!(matches!(
        result.unwrap(),
        Done::Copied { verified: Some(_) }
    ));
    assert!(bytes.unwrap() == disk());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_whose_server_restarts_ends_no_copy() {
    for answer in [
        Reply::text(404, "404 page not found"),
        Reply::text(200, "<html>We will be back soon</html>"),
        Reply::status(204),
    ] {
        for (times, exit) in [(3, None), (4, Some(()))] {
            let cloud = image(&json!({"checksum": MD5}), &disk());
            // A part of the disk passes.
            let cut = Fault::cut(1_100_000, Cut::Reset);
            cloud.glance.fault(When::ranged(), cut);
            let when = When::ranged().skip(1).times(times);
            cloud.glance.fault(when, Fault::Answer(answer.clone()));
            let mut run = Run {
                clock: Arc::new(Leap::default()),
                ..Run::new()
            };
            let result = run.go(&cloud, PASSWORD, &["--connections=1"]).await;
            assert_eq!(result.is_err().then_some(()), exit, "{result:?}");
            if result.is_ok() {
                assert!(fs::read(run.target()).unwrap() == disk());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stops_at_once_when_it_is_told_to() {
    let gate = Gate::new();
    let cloud = Arc::new(image(&json!({}), &disk()));
    cloud
        .keystone
        .fault(When::any(), Fault::HoldHead(gate.clone()));
    let mut run = Run::new();
    let job = run.job(&cloud, PASSWORD, &[]);
    let (result, ()) = tokio::join!(job, async {
        let watched = Arc::clone(&cloud);
        let asked = tokio::task::spawn_blocking(move || watched.keystone.wait_for_held(1));
        asked.await.unwrap();
        run.stop.take().unwrap().pull();
    });
    failure(result, Exit::Terminated, &["nothing was written"]);
    gate.open();
}
