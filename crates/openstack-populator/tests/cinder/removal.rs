//! What is removed, and what becomes of what cannot be.

use std::fs;

use contract::{Exit, Termination, args::flag};
use serde_json::{Value, json};
use testkit::{Fault, Reply, When};

use crate::{
    VOLUMES, ended,
    fake::{CLAIM, Fake, NAME, VOLUME},
    in_use,
};

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
    let said = folder.path().join("said");
    let command = fake
        .command(flag::VOLUME_ID, VOLUME, &target)
        .flag(flag::TERMINATION_LOG, &said);
    let words = [
        "left in the cloud: volume made-2",
        "Not yours",
        "--cleanup",
        NAME,
    ];
    ended(&command, Exit::Success, &words);
    fake.disk.assert_on(&target);
    assert_eq!(fake.made(), ["volumes/made-2"]);
    let text = fs::read_to_string(&said).unwrap();
    let said: Termination = serde_json::from_str(&text).unwrap();
    assert_eq!(said.exit, Exit::Success, "{text}");
    assert_eq!(said.source_bytes, Some(said.copied_bytes), "{text}");
    let warning = said.warning.unwrap();
    for word in words {
        assert!(warning.contains(word), "no {word:?} in {text}");
    }

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
