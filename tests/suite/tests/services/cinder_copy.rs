//! Volumes and snapshots of a real Cinder: each way to a copy, and what is refused.

use contract::{
    Exit,
    args::{flag, secret},
};
use serde_json::json;
use suite::{
    Cinder, Glance, assert_exit,
    cinder::COPY,
    folder, mover,
    mover::{assert_failure, openstack_disk},
    uuid,
};
use testkit::{Command, Disk};

use crate::mib;

fn disk() -> Disk {
    Disk::sparse(3, mib(4), &[0..70_000, 2 << 20..3 << 20])
}

/// Copies what the flag names, and looks at what is left. Every object of the cloud that was there before is there after.
#[track_caller]
fn copies(cinder: &Cinder, flag: &str, id: &str, disk: &Disk, made: &[&str]) {
    let (folder, claim) = (folder(), uuid());
    let target = folder.path().join("target");
    let run = openstack_disk(flag, id, &target)
        .flag(flag::OWNER_UID, &claim)
        .spawn()
        .wait_within(COPY);
    assert_exit(&run, Exit::Success);
    disk.assert_on(&target);
    let output = run.output();
    for step in [
        "making a snapshot",
        "making a volume",
        "uploading the volume",
    ] {
        assert_eq!(
            output.contains(step),
            made.contains(&step),
            "{step}: {output}"
        );
    }
    assert_eq!(cinder.named(&claim), [""; 0], "{output}");
}

#[test]
fn a_detached_volume_is_uploaded_as_it_is() {
    let (cinder, disk) = (Cinder::start(), disk());
    let volume = cinder.volume(&disk);
    copies(
        &cinder,
        flag::VOLUME_ID,
        &volume.id,
        &disk,
        &["uploading the volume"],
    );
    let record = cinder.record(&volume.path());
    assert_eq!(record["status"], "available");
    assert_eq!(record["metadata"], json!({}));
    assert_eq!(record["volume_image_metadata"], json!(null), "{record}");
}

#[test]
fn a_volume_in_use_is_copied_from_a_snapshot() {
    let (cinder, disk) = (Cinder::start(), disk());
    let volume = cinder.volume(&disk);
    cinder.attach(&volume);
    let all = [
        "making a snapshot",
        "making a volume",
        "uploading the volume",
    ];
    copies(&cinder, flag::VOLUME_ID, &volume.id, &disk, &all);
    assert_eq!(cinder.record(&volume.path())["status"], "in-use");
}

#[test]
fn a_snapshot_is_copied_and_stays() {
    let (cinder, disk) = (Cinder::start(), disk());
    let volume = cinder.volume(&disk);
    let snapshot = cinder.snapshot(&volume);
    let two = ["making a volume", "uploading the volume"];
    copies(&cinder, flag::SNAPSHOT_ID, &snapshot, &disk, &two);
    let record = cinder.record(&format!("/snapshots/{snapshot}"));
    assert_eq!(record["status"], "available");
}

#[test]
fn the_image_of_a_server_that_booted_from_a_volume_leads_to_its_snapshot() {
    let (cinder, disk, folder) = (Cinder::start(), disk(), folder());
    let volume = cinder.volume(&disk);
    let snapshot = cinder.snapshot(&volume);
    let mapping = json!([
        {"boot_index": 0, "snapshot_id": snapshot, "source_type": "snapshot", "volume_size": 1},
        {"boot_index": -1, "snapshot_id": uuid(), "source_type": "snapshot", "volume_size": 1},
    ]);
    let image = Glance::default().of_a_server(folder.path(), "raw", &mapping.to_string());
    let two = ["making a volume", "uploading the volume"];
    copies(&cinder, flag::IMAGE_ID, &image.id, &disk, &two);
}

#[test]
fn a_check_makes_nothing() {
    let (cinder, folder, claim) = (Cinder::start(), folder(), uuid());
    let volume = cinder.volume(&disk());
    cinder.attach(&volume);
    let run = openstack_disk(flag::VOLUME_ID, &volume.id, &folder.path().join("target"))
        .flag(flag::OWNER_UID, &claim)
        .arg("--check")
        .spawn()
        .wait_within(COPY);
    assert_exit(&run, Exit::Success);
    assert!(
        run.output().contains("nothing was made"),
        "{}",
        run.output()
    );
    assert_eq!(cinder.named(&claim), [""; 0]);
}

#[test]
fn what_does_not_exist_is_missing() {
    let (_cinder, folder) = (Cinder::start(), folder());
    let target = folder.path().join("target");
    for (flag, words) in [
        (flag::VOLUME_ID, ["has no volume", "another project"]),
        (flag::SNAPSHOT_ID, ["has no snapshot", "another project"]),
    ] {
        let run = openstack_disk(flag, &uuid(), &target)
            .spawn()
            .wait_within(COPY);
        assert_failure(&run, Exit::SourceMissing, &words);
    }
    assert!(!target.exists());
}

/// As a user of the project `other`.
fn as_other(command: Command) -> Command {
    command
        .env(secret::USERNAME, "fork2")
        .env(secret::PROJECT_NAME, "other")
}

#[test]
fn room_in_a_quota_is_waited_for_unless_there_can_be_none() {
    let (cinder, folder, claim) = (Cinder::of_other(), folder(), uuid());
    let volume = cinder.volume(&disk());
    cinder.attach(&volume);
    let command = as_other(openstack_disk(
        flag::VOLUME_ID,
        &volume.id,
        &folder.path().join("target"),
    ))
    .flag(flag::OWNER_UID, &claim);
    cinder.limit(&json!({"snapshots": 0}));
    let run = command.spawn().wait_within(COPY);
    assert_failure(&run, Exit::SourceUnusable, &["quota", "Maximum number of"]);
    assert_eq!(cinder.named(&claim), [""; 0]);

    // There is no room for a volume beside the one that is copied.
    cinder.limit(&json!({"snapshots": 5, "volumes": 1}));
    let run = command.spawn().wait_within(COPY);
    assert_failure(&run, Exit::SourceUnusable, &["quota", "2 volumes"]);
    assert_eq!(cinder.named(&claim), [""; 0]);

    // Another one holds the room.
    cinder.limit(&json!({"volumes": 2}));
    let _other = cinder.volume(&disk());
    let running = command.spawn();
    let line = running.wait_for_line("waiting for room in a quota");
    assert!(line.contains("Maximum number of"), "{line}");
    cinder.limit(&json!({"volumes": 5}));
    let run = running.wait_within(COPY);
    assert_exit(&run, Exit::Success);
    assert_eq!(cinder.named(&claim), [""; 0]);
}

#[test]
fn a_role_that_may_only_look_is_refused() {
    let (cinder, folder, claim) = (Cinder::start(), folder(), uuid());
    let volume = cinder.volume(&disk());
    let run = openstack_disk(flag::VOLUME_ID, &volume.id, &folder.path().join("target"))
        .env(secret::USERNAME, "ro")
        .flag(flag::OWNER_UID, &claim)
        .spawn()
        .wait_within(COPY);
    assert_failure(
        &run,
        Exit::Permission,
        &["upload the volume", "role member"],
    );
    mover::assert_discreet(&run, [suite::glance::PASSWORD]);
    assert_eq!(cinder.named(&claim), [""; 0]);
}
