//! What is refused, and what goes wrong on the way.

use contract::{Exit, args::flag};
use serde_json::json;
use testkit::{Fault, LoopDevice, Reply, When};

use crate::{
    SNAPSHOTS, VOLUMES, ended,
    fake::{Fake, SNAPSHOT, VOLUME},
    in_use, run,
};

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
