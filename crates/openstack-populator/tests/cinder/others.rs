//! Other runs: of the same migration, and copies of the same volume.

use std::time::Duration;

use contract::{Exit, args::flag};
use serde_json::{Value, json};
use testkit::{Cut, Fault, Request, When};

use crate::{
    SNAPSHOTS, VOLUMES, ended,
    fake::{CLAIM, Fake, NAME, VOLUME},
    in_use, run,
};

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

/// Its status may be another one already when the snapshot is ordered.
#[test]
fn a_volume_that_another_copy_takes_before_the_snapshot_is_waited_for() {
    let kept = json!({"volume_image_metadata": {"os_glance_import_task": "x"}});
    for (volume, rivals) in [(&kept, 1), (&kept, 3), (&in_use(), 1)] {
        let fake = Fake::new(volume);
        fake.state().rivals = rivals;
        let words = ["Invalid volume", "trying again when the volume is free"];
        run(&fake, Exit::Success, &words);
    }
    // One that is free and refused nevertheless is no such case.
    let fake = Fake::new(&in_use());
    let post = When::path(SNAPSHOTS).method("POST").always();
    fake.server.fault(post, Fault::status(400));
    let words = ["400", "detach the volume", "--snapshot-id"];
    run(&fake, Exit::SourceUnusable, &words);
    assert_eq!(fake.bodies("POST", "/snapshots").len(), 2);
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
