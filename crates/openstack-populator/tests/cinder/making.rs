//! What is made of a volume, with which words and marks.

use std::fs;

use contract::{Exit, args::flag};
use serde_json::{Value, json};
use testkit::{Fault, When};

use crate::{
    SNAPSHOTS, ended,
    fake::{CLAIM, Fake, NAME, VOLUME, service, without_credentials},
    in_use, run,
};

#[test]
fn force_is_sent_only_to_a_server_that_wants_the_word() {
    for (newest, sent, force) in [
        ("3.60", "volume 3.60", json!(true)),
        ("3.65", "volume 3.65", json!(true)),
        ("3.66", "volume 3.66", Value::Null),
        ("3.71", "volume 3.66", Value::Null),
    ] {
        let fake = Fake::new(&in_use());
        fake.state().version = newest;
        run(&fake, Exit::Success, &["not verified"]);
        let requests = fake.server.requests();
        let made = requests
            .iter()
            .find(|request| request.method == "POST" && request.path() == SNAPSHOTS)
            .unwrap();
        assert_eq!(
            made.json()["snapshot"].get("force"),
            Some(&force).filter(|force| !force.is_null())
        );
        assert_eq!(made.header("OpenStack-API-Version"), Some(sent));
    }
}

#[test]
fn a_server_that_is_too_old_is_refused() {
    let fake = Fake::new(&in_use());
    fake.state().version = "3.4";
    run(&fake, Exit::SourceUnusable, &["3.5", "--image-id"]);
}

#[test]
fn every_object_is_marked() {
    let fake = Fake::new(&in_use());
    run(&fake, Exit::Success, &[]);
    let mark = json!({
        "openstack_populator_claim": CLAIM, "openstack_populator_migration": VOLUME,
        "openstack_populator_source": format!("volume {VOLUME}"),
    });
    for (end, key) in [("/snapshots", "snapshot"), ("/volumes", "volume")] {
        let bodies = fake.bodies("POST", end);
        assert_eq!(bodies.len(), 1);
        assert_eq!(bodies[0][key]["name"], NAME);
        assert_eq!(bodies[0][key]["metadata"], mark);
    }
    let [set, upload] = fake.bodies("POST", "/action").try_into().unwrap();
    assert_eq!(set["os-set_image_metadata"]["metadata"], mark);
    assert_eq!(upload["os-volume_upload_image"]["image_name"], NAME);
    assert_eq!(fake.bodies("PATCH", ""), [Value::Null; 0]);

    // Uploaded from the user's own volume, the image alone is marked.
    let fake = Fake::new(&json!({}));
    run(&fake, Exit::Success, &[]);
    assert_eq!(fake.bodies("POST", "/action").len(), 1);
    let changes = &fake.bodies("PATCH", "")[0];
    let set = changes.as_array().unwrap().iter();
    let set: Value = set
        .map(|change| {
            let key = change["path"].as_str().unwrap().trim_start_matches('/');
            (key.to_owned(), change["value"].clone())
        })
        .collect::<serde_json::Map<_, _>>()
        .into();
    assert_eq!(set, mark);
}

#[test]
fn an_image_that_cannot_be_marked_is_copied_and_removed() {
    let fake = Fake::new(&json!({}));
    let patch = When::any().method("PATCH").always();
    fake.server.fault(patch, Fault::status(403));
    run(&fake, Exit::Success, &["mark the temporary image"]);
}

#[test]
fn keys_that_glance_keeps_for_itself_are_taken_from_the_temporary_volume_alone() {
    let keys = json!({"os_glance_import_task": "x", "os_glance_stage_host": "y", "os_distro": "z"});
    let fake = Fake::new(&json!({"volume_image_metadata": keys}));
    fake.state().inherited = keys.clone();
    run(&fake, Exit::Success, &["making a snapshot"]);
    let requests = fake.server.requests().into_iter();
    let actions: Vec<_> = requests
        .filter(|request| request.path().ends_with("/action"))
        .map(|request| {
            assert!(!request.path().contains(VOLUME), "{request:?}");
            request.json()
        })
        .collect();
    let names: Vec<_> = actions
        .iter()
        .map(|action| action.as_object().unwrap().keys().next().unwrap().as_str())
        .collect();
    let unset = "os-unset_image_metadata";
    assert_eq!(
        names,
        [
            unset,
            unset,
            "os-set_image_metadata",
            "os-volume_upload_image"
        ]
    );
    let record = fake.state().objects[&format!("volumes/{VOLUME}")].clone();
    assert_eq!(record["volume_image_metadata"], keys);
}

/// The services of the region and the interface that a cloud of `clouds.yaml` names.
#[test]
fn a_cloud_of_a_file_leads_to_its_volumes() {
    let fake = Fake::new(&in_use());
    let nowhere = || "http://127.0.0.1:9/".to_owned();
    let at = |path: &str| fake.server.url(path);
    let of = |kind, path| {
        service(
            kind,
            &[
                ("public", "One", nowhere()),
                ("internal", "One", nowhere()),
                ("public", "Two", nowhere()),
                ("internal", "Two", at(path)),
            ],
        )
    };
    let catalog = json!([
        of("image", "/image"),
        of(
            "block-storage",
            "/volume/v3/0123456789abcdef0123456789abcdef"
        )
    ]);
    fake.state().catalog = catalog;
    let folder = tempfile::tempdir().unwrap();
    let (file, target) = (
        folder.path().join("clouds.yaml"),
        folder.path().join("disk"),
    );
    let text = format!(
        "clouds:\n  mine:\n    region_name: Two\n    interface: internal\n    auth:\n      auth_url: {}\n      \
         username: bob\n      password: pa55word\n      user_domain_name: Users\n      project_id: p1\n",
        at("/v3")
    );
    fs::write(&file, text).unwrap();
    let command = without_credentials(flag::VOLUME_ID, VOLUME, &target)
        .flag(flag::OS_CLOUD, "mine")
        .env("OS_CLIENT_CONFIG_FILE", &file);
    ended(&command, Exit::Success, &[]);
    fake.disk.assert_on(&target);
    assert_eq!(fake.made(), [""; 0]);
}
