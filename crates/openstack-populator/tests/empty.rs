//! An image without data is never a disk: whoever starts the mover, and whatever the target holds.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::{fs, path::Path};

use contract::{Exit, args::flag};
use serde_json::{Value, json};
use support::{Cloud, IMAGE, PASSWORD, assert_discreet};
use testkit::{Command, Fault, Finished, LoopDevice, Reply, When, image};

const SNAPSHOT: &str = "9df0a5f6-5a70-4bd7-8e5d-2e2a2e7b1c11";
/// `printf '' | sha512sum`
const HASH_OF_NOTHING: &str = "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e";

/// The arguments beside endpoint, image and target that the mover is started with.
const STARTS: &[&[&str]] = &[
    &[],
    &["--verbatim"],
    &["--verify=off"],
    &["--verify=full", "--verbatim=false"],
    // Forklift's controller.
    &[
        "--secret-name=s",
        "--cr-name=c",
        "--cr-namespace=n",
        "--pvc-size=1048576",
        "--owner-uid=u",
    ],
    // Ours, with and without a conversion afterwards.
    &[
        "--cr-name=c",
        "--cr-namespace=n",
        "--pvc-size=1048576",
        "--owner-uid=u",
        "--verbatim=true",
    ],
    &[
        "--cr-name=c",
        "--cr-namespace=n",
        "--pvc-size=1048576",
        "--owner-uid=u",
        "--verbatim=false",
    ],
    &["--check"],
    &["--check=transfer", "--verbatim"],
    &["--check", "--cr-name=c", "--owner-uid=u"],
];

/// The record that Nova makes of a server that was booted from a volume.
fn of_a_server(disk_format: &str) -> Value {
    let mapping = json!([{
        "boot_index": 0, "device_name": "/dev/vda", "snapshot_id": SNAPSHOT, "source_type": "snapshot",
        "destination_type": "volume", "volume_size": 10, "volume_id": null, "image_id": null,
    }]);
    json!({
        "size": 0, "disk_format": disk_format, "checksum": "d41d8cd98f00b204e9800998ecf8427e",
        "os_hash_algo": "sha512", "os_hash_value": HASH_OF_NOTHING, "bdm_v2": "True",
        "root_device_name": "/dev/vda", "block_device_mapping": mapping.to_string(),
    })
}

fn start(cloud: &Cloud, target: &Path, arguments: &[&str]) -> Finished {
    let command = Command::new(env!("CARGO_BIN_EXE_openstack-populator"))
        .flag(flag::ENDPOINT, cloud.identity())
        .flag(flag::IMAGE_ID, IMAGE)
        .flag(flag::VOLUME_PATH, target);
    let command = arguments.iter().fold(command, Command::arg);
    let keys = PASSWORD.iter();
    keys.fold(command, |command, (key, value)| command.env(key, value))
        .run()
}

#[track_caller]
fn refused(finished: &Finished, exit: Exit, needles: &[&str]) {
    let output = finished.output();
    assert_eq!(finished.code(), Some(exit.code().into()), "{output}");
    for needle in needles {
        assert!(output.contains(needle), "{needle}: {output}");
    }
    for wrong in ["--verbatim", "nothing wrong", "verified", "100 %"] {
        assert!(!output.contains(wrong), "{wrong}: {output}");
    }
    assert_discreet(&output);
}

#[test]
fn is_refused_however_the_mover_is_started() {
    for (record, needles) in [
        (of_a_server("raw"), &[SNAPSHOT, "--snapshot"][..]),
        (of_a_server("qcow2"), &[SNAPSHOT, "--snapshot"]),
        (
            json!({"size": 0, "checksum": "d41d8cd98f00b204e9800998ecf8427e"}),
            &["holds no data", "upload"],
        ),
        (
            json!({"size": 0, "disk_format": "qcow2", "container_format": "ova", "os_encrypt_key_id": "k"}),
            &["holds no data", "upload"],
        ),
        (json!({"size": null}), &["no size", "upload"]),
    ] {
        // Whether the server has data for a record that says there is none does not matter.
        let cloud = Cloud::new(&record, vec![7; 5]);
        for start_with in STARTS {
            let folder = tempfile::tempdir().unwrap();
            let target = folder.path().join("disk.img");
            refused(
                &start(&cloud, &target, start_with),
                Exit::SourceUnusable,
                needles,
            );
            assert!(!target.exists(), "{record} {start_with:?}");
        }
        let mut requests = cloud.glance.requests().into_iter();
        assert!(requests.all(|request| !request.path().ends_with("/file")));
    }
}

#[test]
fn leaves_every_target_as_it_was() {
    const SIZE: u64 = 1 << 20;
    let cloud = Cloud::new(&of_a_server("raw"), vec![]);
    let folder = tempfile::tempdir().unwrap();
    let (file, held) = (folder.path().join("file"), folder.path().join("held"));
    for path in [&file, &held] {
        fs::File::create(path).unwrap().set_len(SIZE).unwrap();
        image::fill(path, 0xFF);
    }
    let device = LoopDevice::new(SIZE, 512);
    for start_with in STARTS {
        let with_force = [start_with, &["--force"][..]].concat();
        for target in [file.as_path(), device.path()] {
            refused(
                &start(&cloud, target, &with_force),
                Exit::SourceUnusable,
                &[SNAPSHOT],
            );
            assert_eq!(image::size_of(target), SIZE);
            image::assert_same(&held, target, SIZE);
        }
    }
}

#[test]
fn says_so_in_the_termination_message() {
    let cloud = Cloud::new(&of_a_server("qcow2"), vec![]);
    let folder = tempfile::tempdir().unwrap();
    let message = folder.path().join("message");
    let told = format!("--termination-log={}", message.display());
    let finished = start(&cloud, &folder.path().join("disk.img"), &[&told]);
    refused(&finished, Exit::SourceUnusable, &[]);
    let message: Value = serde_json::from_slice(&fs::read(message).unwrap()).unwrap();
    assert_eq!(message["exit"], "source-unusable");
    assert_eq!(message["copiedBytes"], 0);
    assert!(message["verified"].is_null(), "{message}");
    // The text of an event has room for 1024 bytes.
    let text = message["message"].as_str().unwrap();
    assert!(text.contains(SNAPSHOT) && text.len() < 800, "{text}");
}

#[test]
fn rubbish_in_the_property_is_not_repeated() {
    for mapping in [
        "\u{1b}[31mrubbish\u{7}".to_owned(),
        "[".repeat(20_000),
        json!([{"snapshot_id": "rubbish; reboot", "boot_index": 0}]).to_string(),
        format!("[\"{}\"]", "rubbish".repeat(20_000)),
    ] {
        let cloud = Cloud::new(&json!({"size": 0, "block_device_mapping": mapping}), vec![]);
        let folder = tempfile::tempdir().unwrap();
        let finished = start(&cloud, &folder.path().join("disk.img"), &[]);
        refused(
            &finished,
            Exit::SourceUnusable,
            &["booted from a volume", "snapshot list"],
        );
        let output = finished.output();
        assert!(
            !output.contains("rubbish") && output.len() < 4000,
            "{output}"
        );
    }
}

/// The record says 5 bytes, the data says none. The retry budget ends what looks like an outage.
#[test]
fn data_that_is_empty_where_the_record_states_bytes() {
    let file = format!("/v2/images/{IMAGE}/file");
    let part = |range: &str| Reply::status(206).header("Content-Range", range);
    for (fault, exits) in [
        (Fault::status(204), &[Exit::SourceUnusable][..]),
        (Fault::status(200), &[Exit::SourceProtocol]),
        (Fault::Answer(part("bytes 0-0/0")), &[Exit::SourceProtocol]),
        (Fault::Answer(part("bytes */0")), &[Exit::SourceProtocol]),
        (
            Fault::Answer(Reply::status(416).header("Content-Range", "bytes */0")),
            &[Exit::SourceProtocol],
        ),
        // Without a length it looks like data that is cut off.
        (
            Fault::Answer(Reply::status(200).fault(Fault::UntilClose)),
            &[Exit::SourceUnavailable, Exit::SourceUnusable],
        ),
    ] {
        let record = json!({"size": 5, "checksum": "d41d8cd98f00b204e9800998ecf8427e"});
        let cloud = Cloud::new(&record, vec![]);
        cloud
            .glance
            .fault(When::path(&file).always(), fault.clone());
        for start_with in [
            &["--no-progress-timeout=1s"][..],
            &["--no-progress-timeout=1s", "--verbatim"],
        ] {
            let folder = tempfile::tempdir().unwrap();
            let finished = start(&cloud, &folder.path().join("disk.img"), start_with);
            let exit = finished.code().and_then(Exit::from_code);
            assert!(
                exit.is_some_and(|exit| exits.contains(&exit)),
                "{fault:?}: {}",
                finished.output()
            );
        }
    }
}

/// So that nothing above is refused for another reason.
#[test]
fn an_image_with_data_is_copied_by_the_same_commands() {
    // `printf '\7\7\7\7\7' | md5sum`
    let record = json!({"checksum": "04fc420c2daa8356b1f2dfc03858cc2c"});
    let cloud = Cloud::new(&record, vec![7; 5]);
    for start_with in STARTS {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("disk.img");
        let with = [start_with, &["--metrics-linger=0s"][..]].concat();
        let finished = start(&cloud, &target, &with);
        assert_eq!(finished.code(), Some(0), "{}", finished.output());
        let is_check = start_with.iter().any(|one| one.starts_with("--check"));
        assert_eq!(fs::read(&target).ok(), (!is_check).then(|| vec![7; 5]));
    }
}
