//! Volumes and snapshots of a scripted cloud that refuses, fails and lies on command.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod fake;

use std::{fs, time::Duration};

use contract::{Exit, args::flag};
use fake::{CLAIM, Fake, NAME, SNAPSHOT, VOLUME, service, without_credentials};
use serde_json::{Value, json};
use testkit::{Command, Cut, Fault, Finished, LoopDevice, Reply, Request, When};

const SNAPSHOTS: &str = "/volume/v3/0123456789abcdef0123456789abcdef/snapshots";
const VOLUMES: &str = "/volume/v3/0123456789abcdef0123456789abcdef/volumes";

fn in_use() -> Value {
    json!({"status": "in-use", "attachments": [{}]})
}

/// Runs it for the user's volume, and looks that nothing but what was there is there.
#[track_caller]
fn run(fake: &Fake, exit: Exit, words: &[&str]) -> Finished {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("disk");
    let finished = ended(&fake.command(flag::VOLUME_ID, VOLUME, &target), exit, words);
    assert_eq!(fake.made(), [""; 0], "{}", finished.output());
    if exit == Exit::Success {
        fake.disk.assert_on(&target);
    }
    finished
}

#[track_caller]
fn ended(command: &Command, exit: Exit, words: &[&str]) -> Finished {
    let finished = command.run();
    let output = finished.output();
    assert_eq!(finished.code(), Some(exit.code().into()), "{output}");
    for word in words {
        assert!(output.contains(word), "no {word:?} in {output}");
    }
    assert!(!output.contains("pa55word"), "{output}");
    finished
}

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
fn a_limit_is_named_in_the_services_words() {
    let text = "VolumeSizeExceedsAvailableQuota: 5G is left";
    let body = json!({"overLimit": {"code": 413, "message": text}});
    for path in [SNAPSHOTS, VOLUMES] {
        for status in [413, 403] {
            let fake = Fake::new(&in_use());
            let refused = Fault::Answer(Reply::json(status, &body));
            fake.server.fault(When::path(path).method("POST"), refused);
            run(&fake, Exit::SourceBusy, &["quota", text]);
        }
    }
}

#[test]
fn a_right_that_is_missing_is_named() {
    let body =
        json!({"forbidden": {"code": 403, "message": "Policy doesn't allow it to be performed."}});
    let action = format!("{VOLUMES}/{VOLUME}/action");
    for (volume, path, words) in [
        (
            in_use(),
            SNAPSHOTS,
            &["make a snapshot", "--snapshot-id"][..],
        ),
        (in_use(), VOLUMES, &["make a volume"]),
        (json!({}), &action, &["upload the volume"]),
    ] {
        let fake = Fake::new(&volume);
        let refused = Fault::Answer(Reply::json(403, &body));
        fake.server.fault(When::path(path).method("POST"), refused);
        let words = [words, &["Policy doesn't allow it", "role member"]].concat();
        run(&fake, Exit::Permission, &words);
    }
}

#[test]
fn what_cannot_be_copied_is_refused_before_anything_is_made() {
    for (volume, words) in [
        (
            json!({"encrypted": true, "volume_type": "luks-gold"}),
            &["the encrypted type \"luks-gold\""][..],
        ),
        (
            json!({"status": "in-use", "multiattach": true, "attachments": [{}, {}]}),
            &["attached to 2 servers"],
        ),
        (
            json!({"status": "error_extending"}),
            &["\"error_extending\"", "repaired"],
        ),
    ] {
        let fake = Fake::new(&volume);
        run(&fake, Exit::SourceUnusable, words);
        assert_eq!(fake.bodies("POST", "s"), fake.bodies("POST", "tokens"));
    }
    // Of a snapshot, its volume says it.
    let fake = Fake::new(&json!({"encrypted": true, "volume_type": "luks-gold"}));
    let folder = tempfile::tempdir().unwrap();
    let command = fake.command(flag::SNAPSHOT_ID, SNAPSHOT, &folder.path().join("disk"));
    ended(&command, Exit::SourceUnusable, &["luks-gold"]);
    assert_eq!(fake.made(), [""; 0]);
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

#[test]
fn a_step_that_fails_says_why() {
    for (kind, status, words) in [
        (
            "snapshots",
            "error",
            &["temporary snapshot", "\"error\""][..],
        ),
        ("volumes", "error", &["temporary volume", "\"error\""]),
        (
            "volumes",
            "error_extending",
            &["temporary volume", "\"error_extending\""],
        ),
        ("images", "killed", &["did not upload", "\"killed\""]),
        // Cinder puts the volume back and takes the image away, or leaves it.
        ("images", "queued", &["did not upload", "\"queued\""]),
    ] {
        let fake = Fake::new(&in_use());
        fake.state().becomes.insert(kind, status);
        let words = [
            words,
            &["Cinder says: schedule allocate volume: No storage could be allocated"],
        ]
        .concat();
        run(&fake, Exit::SourceUnavailable, &words);
    }
}

#[test]
fn what_cannot_be_removed_is_named_and_keeps_nothing_else() {
    let fake = Fake::new(&in_use());
    let refused = Fault::Answer(Reply::json(
        403,
        &json!({"forbidden": {"message": "Not yours."}}),
    ));
    let delete = When::path(VOLUMES).method("DELETE").always();
    fake.server.fault(delete, refused);
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("disk");
    let command = fake.command(flag::VOLUME_ID, VOLUME, &target);
    let words = [
        "left in the cloud: volume made-2",
        "Not yours",
        "--cleanup",
        NAME,
    ];
    ended(&command, Exit::Success, &words);
    fake.disk.assert_on(&target);
    assert_eq!(fake.made(), ["volumes/made-2"]);

    // The next command finds it.
    ended(
        &command.clone().arg("--cleanup"),
        Exit::Permission,
        &words[..2],
    );
    fake.server.clear_faults();
    ended(&command.arg("--cleanup"), Exit::Success, &[]);
    assert_eq!(fake.made(), [""; 0]);
}

#[test]
fn what_a_run_has_made_is_named_when_it_cannot_be_looked_up() {
    let fake = Fake::new(&in_use());
    let lists = When::path(&format!("{VOLUMES}/detail"));
    // Two are read at the beginning.
    fake.server
        .fault(lists.skip(2).always(), Fault::status(403));
    let folder = tempfile::tempdir().unwrap();
    let command = fake.command(flag::VOLUME_ID, VOLUME, &folder.path().join("disk"));
    ended(
        &command,
        Exit::Success,
        &[
            "left in the cloud: image 0",
            "volume made-2, snapshot made-1",
        ],
    );
}

/// As Glance does when its database is busy: the data is gone, the record is not, and no user can remove that.
#[test]
fn the_record_of_an_image_that_is_deleted_is_not_removed_for_ever() {
    let fake = Fake::new(&in_use());
    fake.state().deletes_halfway = true;
    let folder = tempfile::tempdir().unwrap();
    let command = fake.command(flag::VOLUME_ID, VOLUME, &folder.path().join("disk"));
    for (command, word) in [
        (command.clone(), "copied"),
        (command.arg("--cleanup"), "is left"),
    ] {
        let finished = ended(&command, Exit::Success, &[word]);
        assert!(
            !finished.output().contains("left in the cloud"),
            "{}",
            finished.output()
        );
        assert_eq!(fake.made().len(), 1, "{:?}", fake.made());
    }
}

#[test]
fn what_has_the_name_and_another_mark_is_neither_used_nor_removed() {
    let fake = Fake::new(&in_use());
    let theirs =
        json!({"openstack_populator_claim": CLAIM, "openstack_populator_migration": "another"});
    let mut image = theirs.clone();
    let own = json!({"id": "theirs", "name": NAME, "status": "active", "visibility": "private"});
    for (key, value) in own.as_object().unwrap() {
        image[key] = value.clone();
    }
    let mut shared = image.clone();
    shared["visibility"] = json!("shared");
    let object = |metadata: &Value| json!({"id": "theirs", "name": NAME, "status": "available", "size": 1, "metadata": metadata});
    let others = [
        ("images/theirs", image),
        ("images/shared", shared),
        ("volumes/marked", object(&theirs)),
        ("volumes/theirs", object(&json!({}))),
        ("snapshots/theirs", object(&json!({}))),
    ];
    let names = others.clone().map(|(path, _)| path.to_owned());
    fake.state()
        .objects
        .extend(others.map(|(path, record)| (path.to_owned(), record)));
    let folder = tempfile::tempdir().unwrap();
    let command = fake.command(flag::VOLUME_ID, VOLUME, &folder.path().join("disk"));
    for command in [command.clone(), command.arg("--cleanup")] {
        ended(&command, Exit::Success, &[]);
        let mut names = names.to_vec();
        names.sort();
        assert_eq!(fake.made(), names);
    }
}

#[test]
fn a_direct_upload_of_a_killed_run_is_waited_for() {
    let fake = Fake::new(&json!({"status": "uploading"}));
    let id = "00000000-0000-4000-8000-000000000009";
    let image = json!({
        "id": id, "name": NAME, "status": "saving", "visibility": "private", "disk_format": "raw",
        "container_format": "bare", "uploaded_from": format!("volumes/{VOLUME}"),
        "openstack_populator_claim": CLAIM, "openstack_populator_migration": VOLUME,
        "openstack_populator_source": format!("volume {VOLUME}"),
    });
    fake.state().objects.insert(format!("images/{id}"), image);
    run(&fake, Exit::Success, &["an earlier run began the upload"]);
    assert_eq!(fake.bodies("POST", "/action"), [Value::Null; 0]);
}

/// Of one volume Cinder makes one image at a time.
#[test]
fn two_copies_of_one_volume_both_end_well() {
    let fake = Fake::new(&json!({}));
    let folder = tempfile::tempdir().unwrap();
    let targets = ["a", "b"].map(|name| folder.path().join(name));
    let runs = targets.each_ref().map(|target| {
        let command = fake.command(flag::VOLUME_ID, VOLUME, target);
        let name = target.file_name().unwrap();
        command.flag(flag::MIGRATION_ID, name).spawn()
    });
    for run in runs {
        let finished = run.wait();
        assert_eq!(finished.code(), Some(0), "{}", finished.output());
    }
    for target in &targets {
        fake.disk.assert_on(target);
    }
    assert_eq!(fake.made(), [""; 0]);
}

#[test]
fn a_volume_that_another_copy_uploads_first_is_waited_for() {
    for rivals in [1, 3] {
        let fake = Fake::new(&json!({}));
        fake.state().rivals = rivals;
        let words = ["Invalid volume", "trying again when the volume is free"];
        run(&fake, Exit::Success, &words);
        assert_eq!(fake.bodies("POST", "/action").len(), rivals + 1);
    }
    // One that is free and refused nevertheless is no such case.
    let fake = Fake::new(&json!({}));
    let action = When::path(&format!("{VOLUMES}/{VOLUME}/action"));
    fake.server.fault(action.always(), Fault::status(400));
    run(&fake, Exit::SourceUnusable, &["400"]);
    assert_eq!(fake.bodies("POST", "/action").len(), 2);
}

/// A pod that was cut off, and tidies up when its node is back, removes what the next pod reads.
#[test]
fn a_temporary_image_that_vanishes_is_no_fault_of_the_source() {
    let id = "00000000-0000-4000-8000-000000000001";
    let data = || When::path("/image/v2/images").with_range();
    let vanished = [id, "vanished", "start the copy again"];
    let fake = Fake::new(&json!({}));
    fake.state().lasts = Some(0);
    run(&fake, Exit::SourceUnavailable, &vanished);
    // Its record is still there.
    let fake = Fake::new(&json!({}));
    fake.server.fault(data().always(), Fault::status(204));
    run(&fake, Exit::SourceUnavailable, &vanished);
    // The record is gone before the copy looks at it.
    let fake = Fake::new(&json!({}));
    let record = When::path(&format!("/image/v2/images/{id}")).method("GET");
    fake.server.fault(record.skip(2), Fault::status(404));
    run(&fake, Exit::SourceUnavailable, &vanished);
}

/// A source that has given data is asked again for a minute before such an answer is believed.
#[test]
fn a_temporary_image_that_is_deleted_between_two_ranges_is_no_fault_of_the_source() {
    let fake = Fake::new(&json!({}));
    fake.state().lasts = Some(1);
    let data = When::path("/image/v2/images").with_range();
    fake.server.fault(data, Fault::cut(300_000, Cut::Fin));
    let folder = tempfile::tempdir().unwrap();
    let command = fake.command(flag::VOLUME_ID, VOLUME, &folder.path().join("disk"));
    let finished = command.spawn().wait_within(Duration::from_mins(3));
    let output = finished.output();
    let exit = Exit::SourceUnavailable.code();
    assert_eq!(finished.code(), Some(exit.into()), "{output}");
    assert!(output.contains("vanished while it was needed"), "{output}");
    assert_eq!(fake.made(), [""; 0]);
}

#[test]
fn what_is_larger_than_the_target_is_named() {
    let device = LoopDevice::blank(8 << 20, 512);
    for (flag, id, what) in [
        (flag::VOLUME_ID, VOLUME, "the volume"),
        (flag::SNAPSHOT_ID, SNAPSHOT, "the snapshot"),
    ] {
        let fake = Fake::new(&json!({}));
        let command = fake.command(flag, id, device.path());
        let words = [
            &*format!("{what} {id} has 1073741824 bytes"),
            "holds only 8388608",
            "of at least 1073741824 bytes",
        ];
        ended(&command, Exit::TargetTooSmall, &words);
        assert_eq!(fake.made(), [""; 0]);
    }
}

/// It holds the disk as it was when the earlier request was made, which may be days ago.
#[test]
fn what_another_request_made_is_removed_and_made_again() {
    let id = "00000000-0000-4000-8000-000000000009";
    for (made_for, asked_for) in [
        (Some("r-1"), Some("r-1")),
        (None, None),
        (Some("r-1"), Some("r-2")),
        (Some("r-1"), None),
        (None, Some("r-1")),
    ] {
        for (kind, status) in [
            ("images", "active"),
            ("volumes", "available"),
            ("snapshots", "available"),
        ] {
            let mut mark = json!({
                "openstack_populator_claim": CLAIM, "openstack_populator_migration": VOLUME,
                "openstack_populator_source": format!("volume {VOLUME}"),
            });
            if let Some(request) = made_for {
                mark["openstack_populator_request"] = json!(request);
            }
            let mut left = json!({
                "id": id, "name": NAME, "status": status, "metadata": mark, "volume_image_metadata": mark, "size": 1,
            });
            let fake = Fake::new(&in_use());
            if kind == "images" {
                left = mark;
                let record = json!({
                    "id": id, "name": NAME, "status": status, "visibility": "private", "disk_format": "raw",
                    "container_format": "bare", "size": fake.disk.size(),
                });
                for (key, value) in record.as_object().unwrap() {
                    left[key] = value.clone();
                }
            }
            fake.state().objects.insert(format!("{kind}/{id}"), left);
            let folder = tempfile::tempdir().unwrap();
            let target = folder.path().join("disk");
            let mut command = fake.command(flag::VOLUME_ID, VOLUME, &target);
            if let Some(request) = asked_for {
                command = command.flag(flag::REQUEST_ID, request);
            }
            let is_taken = made_for == asked_for;
            let finished = ended(&command, Exit::Success, &[]);
            let text = format!("{kind} {made_for:?} {asked_for:?} {}", finished.output());
            assert_eq!(
                finished.output().contains("an earlier run made"),
                is_taken,
                "{text}"
            );
            let made = match kind {
                "images" => fake.bodies("POST", "/action").len(),
                _ => fake.bodies("POST", &format!("/{kind}")).len(),
            };
            assert_eq!(made == 0, is_taken, "{text}");
            assert_eq!(fake.made(), [""; 0], "{text}");
            let read = format!("images/{id}/file");
            let is_read = |request: &Request| request.path().ends_with(&read);
            let is_read = fake.server.requests().iter().any(is_read);
            assert_eq!(is_read, is_taken && kind == "images", "{text}");
        }
    }
}

/// SIGTERM deletes the image, and the time to tidy up may be over before Cinder notices.
#[test]
fn a_volume_that_was_left_while_it_was_uploaded_is_taken_over() {
    let fake = Fake::new(&in_use());
    let metadata = json!({
        "openstack_populator_claim": CLAIM, "openstack_populator_migration": VOLUME,
        "openstack_populator_source": format!("volume {VOLUME}"),
    });
    let left = |status: &str| json!({"id": "left", "name": NAME, "status": status, "size": 1, "metadata": metadata, "volume_image_metadata": metadata});
    let mut volume = left("uploading");
    volume["image_is_gone"] = json!(true);
    let left = [
        ("volumes/left", volume),
        ("snapshots/left", left("available")),
    ];
    let left = left.map(|(path, record)| (path.to_owned(), record));
    fake.state().objects.extend(left);
    run(&fake, Exit::Success, &["an earlier run made the volume"]);
    for end in ["/snapshots", "/volumes"] {
        assert_eq!(fake.bodies("POST", end), [Value::Null; 0]);
    }
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
