//! Quotas of the project that are full, or too small.

use std::fs;

use contract::{Exit, args::flag};

use serde_json::json;
use testkit::{Fault, Reply, When, process::Signal};

use crate::{
    SNAPSHOTS, VOLUMES, ended,
    fake::{CLAIM, Fake, NAME, Refused, SNAPSHOT, VOLUME},
    in_use, run,
};

fn full(status: u16, message: &str) -> Fault {
    let body = json!({"overLimit": {"code": 413, "message": message}});
    Fault::Answer(Reply::json(status, &body))
}

#[test]
fn room_in_a_quota_is_waited_for() {
    let text = "SnapshotLimitExceeded: Maximum number of snapshots allowed (10) exceeded";
    for (volume, path, status) in [
        (in_use(), SNAPSHOTS, 413),
        (in_use(), SNAPSHOTS, 403),
        (in_use(), VOLUMES, 413),
    ] {
        let fake = Fake::new(&volume);
        let post = When::path(path).method("POST");
        fake.server.fault(post, full(status, text));
        let words = [
            "waiting for room in a quota, for 0 s of at most 3600 s",
            text,
            "openstack quota show",
        ];
        run(&fake, Exit::Success, &words);
        if path == VOLUMES {
            // The snapshot is given up before the wait.
            assert_eq!(fake.bodies("POST", "/snapshots").len(), 2);
            assert!(is_removed_before_the_volume(&fake, "made-1"));
        }
    }
}

/// Whether the snapshot was deleted before the second order for a volume.
fn is_removed_before_the_volume(fake: &Fake, snapshot: &str) -> bool {
    let requests = fake.server.requests();
    let path = format!("{SNAPSHOTS}/{snapshot}");
    let removed = requests
        .iter()
        .position(|request| request.method == "DELETE" && request.path() == path);
    let ordered = (0..requests.len())
        .filter(|at| requests[*at].method == "POST" && requests[*at].path() == VOLUMES);
    let second = ordered.skip(1).min();
    removed
        .zip(second)
        .is_some_and(|(removed, second)| removed < second)
}

/// Cinder asks Glance before it takes an upload, and answers 400 with Glance's words.
#[test]
fn room_for_one_more_image_is_waited_for() {
    for (volume, path, skipped) in [
        (json!({}), format!("{VOLUMES}/{VOLUME}/action"), 0),
        // The mark is set by an action too.
        (in_use(), format!("{VOLUMES}/made-2/action"), 1),
    ] {
        let fake = Fake::new(&volume);
        let text = "413 Request Entity Too Large: User p1 is over limit: Resource image_count_total is over limit of 10 due to current usage \
                    10 and delta 1";
        let body = json!({"badRequest": {"code": 400, "message": text}});
        // More often than a refusal of a free volume is believed.
        let post = When::path(&path).method("POST").skip(skipped).times(2);
        fake.server
            .fault(post, Fault::Answer(Reply::json(400, &body)));
        let words = ["waiting for room in a quota", text, "openstack quota show"];
        run(&fake, Exit::Success, &words);
    }
}

/// Other quotas of Glance's are found full when the data comes, after the upload was taken.
#[test]
fn room_for_the_data_of_an_image_is_waited_for() {
    for refused in [Refused::Removed, Refused::Left] {
        for volume in [json!({}), in_use()] {
            let fake = Fake::new(&volume);
            fake.state().refuses_data = Some(refused);
            let words = ["waiting for room in a quota", "image quota has been met"];
            run(&fake, Exit::Success, &words);
            let requests = fake.server.requests();
            let uploads: Vec<_> = (0..requests.len())
                .filter(|at| requests[*at].text().contains("os-volume_upload_image"))
                .collect();
            let [first, second] = uploads[..] else {
                panic!("{volume} {uploads:?}");
            };
            // What is left of the image counts in the quota.
            let is_removed = requests[first..second]
                .iter()
                .any(|request| request.method == "DELETE" && request.path().contains("/images/"));
            assert_eq!(is_removed, refused == Refused::Left, "{volume}");
        }
    }
}

/// The upload that an earlier run began is refused.
#[test]
fn room_for_an_image_that_was_begun_before_is_waited_for() {
    let fake = Fake::new(&json!({"status": "uploading"}));
    let id = "00000000-0000-4000-8000-000000000009";
    let image = json!({
        "id": id, "name": NAME, "status": "saving", "visibility": "private", "disk_format": "raw",
        "container_format": "bare", "uploaded_from": format!("volumes/{VOLUME}"),
        "openstack_populator_claim": CLAIM, "openstack_populator_migration": VOLUME,
        "openstack_populator_source": format!("volume {VOLUME}"),
    });
    fake.state().objects.insert(format!("images/{id}"), image);
    fake.state().refuses_data = Some(Refused::Removed);
    let words = ["began the upload", "waiting for room in a quota"];
    run(&fake, Exit::Success, &words);
    assert_eq!(fake.bodies("POST", "/action").len(), 1);
}

/// The user's snapshot is not removed while room is waited for; one that an earlier run left is, since it takes a part of the room.
#[test]
fn room_for_the_volume_of_a_snapshot_is_waited_for() {
    let fake = Fake::new(&json!({}));
    let left = json!({
        "id": "left", "name": NAME.replace(VOLUME, SNAPSHOT), "status": "available", "size": 1, "metadata": {
            "openstack_populator_claim": CLAIM, "openstack_populator_migration": SNAPSHOT,
            "openstack_populator_source": format!("volume {VOLUME}"),
        },
    });
    let objects = [("snapshots/left".to_owned(), left)];
    fake.state().objects.extend(objects);
    let refused = full(
        413,
        "VolumeLimitExceeded: Maximum number of volumes allowed (10) exceeded",
    );
    fake.server
        .fault(When::path(VOLUMES).method("POST"), refused);
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("disk");
    let command = fake.command(flag::SNAPSHOT_ID, SNAPSHOT, &target);
    ended(&command, Exit::Success, &["waiting for room in a quota"]);
    fake.disk.assert_on(&target);
    assert_eq!(fake.made(), [""; 0]);
    assert!(is_removed_before_the_volume(&fake, "left"));
    assert!(
        fake.state()
            .objects
            .contains_key(&format!("snapshots/{SNAPSHOT}"))
    );
}

#[test]
fn a_quota_that_is_smaller_than_what_is_asked_for_is_not_waited_for() {
    let fake = Fake::new(&in_use());
    fake.state().gib = Some(0);
    let words = [
        "Requested 1G, quota is 0G",
        "smaller than what is asked for",
    ];
    let finished = run(&fake, Exit::SourceUnusable, &words);
    assert!(
        !finished.output().contains("waiting for room"),
        "{}",
        finished.output()
    );
    assert_eq!(fake.bodies("POST", "/snapshots").len(), 1);
}

/// No other object is in the project, so that a wait would be one for itself.
#[test]
fn a_quota_that_the_copy_alone_fills_is_not_waited_for() {
    let removed = format!("snapshots/{SNAPSHOT}");
    for (flag, id, gib, made) in [
        (flag::VOLUME_ID, VOLUME, 2, 1),
        (flag::VOLUME_ID, VOLUME, 1, 0),
        (flag::SNAPSHOT_ID, SNAPSHOT, 2, 0),
    ] {
        let fake = Fake::new(&in_use());
        fake.state().gib = Some(gib);
        if id == VOLUME {
            fake.state().objects.remove(&removed);
        }
        let folder = tempfile::tempdir().unwrap();
        let command = fake.command(flag, id, &folder.path().join("disk"));
        let quota = format!("quota is {gib}G and {gib}G has been consumed");
        let words = [&*quota, "needs a quota of at least 3 GiB"];
        let finished = ended(&command, Exit::SourceUnusable, &words);
        let output = finished.output();
        assert!(!output.contains("waiting for room"), "{output}");
        assert!(!output.contains("wait for other copies"), "{output}");
        assert_eq!(fake.made(), [""; 0], "{output}");
        let taken = output.matches("making a snapshot of the volume").count();
        assert_eq!(taken, made, "{output}");
    }
    let fake = Fake::new(&in_use());
    let text =
        "VolumeLimitExceeded: Maximum number of volumes allowed (1) exceeded for quota 'volumes'";
    let post = When::path(VOLUMES).method("POST").always();
    fake.server.fault(post, full(413, text));
    run(
        &fake,
        Exit::SourceUnusable,
        &[text, "a quota of at least 2 volumes"],
    );
}

/// With room for one snapshot and one volume beside the user's, copies that kept their snapshots would wait for each other for ever.
#[test]
fn copies_that_share_a_small_quota_all_end_well() {
    let fake = Fake::new(&in_use());
    fake.state().gib = Some(4);
    let folder = tempfile::tempdir().unwrap();
    let targets = ["a", "b"].map(|name| folder.path().join(name));
    // Both have their snapshot before either asks for its volume.
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
fn a_signal_ends_the_wait_for_room_and_leaves_nothing() {
    let text = "VolumeLimitExceeded: Maximum number of volumes allowed (10) exceeded";
    for (volume, path) in [
        (in_use(), VOLUMES),
        (json!({}), &*format!("{VOLUMES}/{VOLUME}/action")),
    ] {
        let fake = Fake::new(&volume);
        let post = When::path(path).method("POST").always();
        fake.server.fault(post, full(413, text));
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("disk");
        let running = fake.command(flag::VOLUME_ID, VOLUME, &target).spawn();
        running.wait_for_line("waiting for room in a quota");
        running.signal(Signal::TERM);
        let finished = running.wait();
        let exit = Exit::Terminated.code().into();
        assert_eq!(finished.code(), Some(exit), "{}", finished.output());
        assert_eq!(fake.made(), [""; 0], "{}", finished.output());
        assert!(fs::metadata(&target).is_ok_and(|file| file.len() == 0) || !target.exists());
    }
}
