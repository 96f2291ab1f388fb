//! oVirt: what is on the disk is what is in the target.

use std::{fs, path::Path, process::Command};

use contract::{Exit, args::flag};
use serde_json::{Value, json};
use suite::{Engine, assert_exit, folder, mover::assert_discreet, ovirt};
use testkit::{Disk, image};

use crate::{MIB, mib};

/// Copies a raw disk into a fresh file, compares, and returns the bytes that the file occupies.
#[track_caller]
fn copied(disk: &Disk) -> u64 {
    let (engine, folder) = (Engine::default(), folder());
    let source = engine.raw_disk(folder.path(), disk);
    let target = folder.path().join("target");
    let user = engine.user();
    let run = ovirt(&source, &user, &target).run();
    assert_exit(&run, Exit::Success);
    disk.assert_on(&target);
    source.assert_tidy("finished_success");
    let tickets = source.tickets();
    let secrets = tickets.iter().map(String::as_str);
    assert_discreet(&run, secrets.chain([user.password.as_str()]));
    assert_eq!(user.state()["tokens"], 0, "logged out");
    image::allocated_bytes(&target)
}

#[test]
fn a_dense_disk() {
    copied(&Disk::random(1, mib(24)));
}

#[test]
fn a_sparse_disk_stays_sparse() {
    let data = [0..MIB, 40 * MIB..43 * MIB, 127 * MIB..128 * MIB];
    let occupied = copied(&Disk::sparse(2, mib(128), &data));
    assert!(occupied <= 6 * MIB, "{occupied} bytes for 5 MiB of data");
}

#[test]
fn an_empty_disk_occupies_nothing() {
    let occupied = copied(&Disk::empty(mib(64)));
    assert!(occupied <= MIB, "{occupied} bytes for no data");
}

#[test]
fn zeroes_that_the_source_stores_become_holes() {
    // Written zeroes are data for the source's extents: raw files know holes only.
    let disk = Disk::picture(&"A000000000000000".repeat(8), mib(1));
    let occupied = copied(&disk);
    assert!(occupied <= 10 * MIB, "{occupied} bytes for 8 MiB of data");
}

#[test]
fn sizes_of_any_number_of_sectors() {
    for size in [512, 4096, 4096 + 512, mib(8) - 512, mib(8) + 3 * 512] {
        copied(&Disk::random(3, size));
    }
}

#[test]
fn many_tiny_extents() {
    copied(&Disk::tiny_extents(4, mib(8), 24));
}

#[test]
fn a_qcow2_disk_on_a_backing_chain() {
    let (engine, folder) = (Engine::default(), folder());
    let disk = Disk::sparse(5, mib(64), &[MIB..3 * MIB, 30 * MIB..34 * MIB]);
    let base = folder.path().join("base.raw");
    disk.write_to(&base);
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    // A snapshot overwrites one part, zeroes another and leaves the rest to what is below.
    qemu_img(&[
        "convert",
        "-f",
        "raw",
        "-O",
        "qcow2",
        &path("base.raw"),
        &path("base.qcow2"),
    ]);
    qemu_img(&[
        "create",
        "-q",
        "-f",
        "qcow2",
        "-F",
        "qcow2",
        "-b",
        &path("base.qcow2"),
        &path("top.qcow2"),
    ]);
    let written = Command::new("qemu-io")
        .args([
            "-f",
            "qcow2",
            "-c",
            "write -P 0x5a 2M 64k",
            "-c",
            "write -z 31M 1M",
        ])
        .arg(path("top.qcow2"))
        .output()
        .unwrap();
    assert!(written.status.success(), "{written:?}");
    qemu_img(&[
        "convert",
        "-f",
        "qcow2",
        "-O",
        "raw",
        &path("top.qcow2"),
        &path("wanted"),
    ]);

    let source = engine.disk(Path::new(&path("top.qcow2")), "cow");
    let target = folder.path().join("target");
    let run = ovirt(&source, &engine.user(), &target).run();
    assert_exit(&run, Exit::Success);
    assert_eq!(image::size_of(&target), 64 * MIB);
    image::assert_same(Path::new(&path("wanted")), &target, 64 * MIB);
    let occupied = image::allocated_bytes(&target);
    assert!(occupied <= 8 * MIB, "{occupied} bytes for 6 MiB of data");
}

#[test]
fn one_connection_and_more_than_the_host_serves() {
    let (engine, folder) = (Engine::default(), folder());
    let disk = Disk::random(6, mib(24));
    for connections in ["1", "64"] {
        let source = engine.raw_disk(folder.path(), &disk);
        let target = folder.path().join(connections);
        let run = ovirt(&source, &engine.user(), &target)
            .flag(flag::CONNECTIONS, connections)
            .run();
        assert_exit(&run, Exit::Success);
        disk.assert_on(&target);
    }
}

#[test]
fn the_hosts_checksum_is_compared() {
    let (engine, folder) = (Engine::default(), folder());
    // Not a multiple of the hash's blocks of 4 MiB, and a whole block of zeroes.
    let disk = Disk::sparse(
        7,
        mib(21) + 512,
        &[0..5 * MIB, 13 * MIB..mib(21) as u64 + 512],
    );
    let source = engine.raw_disk(folder.path(), &disk);
    let (target, message) = (folder.path().join("target"), folder.path().join("message"));
    let run = ovirt(&source, &engine.user(), &target)
        .flag(flag::VERIFY, "full")
        .flag(flag::TERMINATION_LOG, &message)
        .run();
    assert_exit(&run, Exit::Success);
    disk.assert_on(&target);
    let message: Value = serde_json::from_slice(&fs::read(&message).unwrap()).unwrap();
    let verified = message["verified"].as_str().unwrap_or_default();
    assert!(verified.contains(':') && verified.len() > 64, "{message}");
    assert_eq!(message["exit"], "success");
    assert_eq!(message["sourceBytes"], disk.size());
    assert_eq!(message["copiedBytes"], disk.size());
    source.assert_tidy("finished_success");
}

#[test]
fn a_preflight_writes_nothing_and_makes_no_transfer() {
    let (engine, folder) = (Engine::default(), folder());
    let source = engine.raw_disk(folder.path(), &Disk::random(8, mib(2)));
    let target = folder.path().join("target");
    suite::filled_file(&target, 4 * MIB);
    let run = ovirt(&source, &engine.user(), &target)
        .arg("--check")
        .flag(flag::FORCE, "")
        .run();
    // `--force` takes no value; a flag that is wrong must not be swallowed by a preflight.
    assert_exit(&run, Exit::Usage);
    let run = ovirt(&source, &engine.user(), &target)
        .arg("--check")
        .arg("--force")
        .run();
    assert_exit(&run, Exit::Success);
    suite::assert_untouched(&target, 0);
    assert_eq!(image::size_of(&target), 4 * MIB);
    assert_eq!((source.posts(), source.phases().len()), (0, 0));
}

#[test]
fn a_preflight_does_not_even_create_the_file() {
    let (engine, folder) = (Engine::default(), folder());
    let source = engine.raw_disk(folder.path(), &Disk::random(8, mib(2)));
    let target = folder.path().join("target");
    let run = ovirt(&source, &engine.user(), &target).arg("--check").run();
    assert_exit(&run, Exit::Success);
    assert!(!target.exists());
}

#[test]
fn a_preflight_with_a_transfer_ends_it() {
    let (engine, folder) = (Engine::default(), folder());
    let source = engine.raw_disk(folder.path(), &Disk::random(8, mib(2)));
    let target = folder.path().join("target");
    let run = ovirt(&source, &engine.user(), &target)
        .arg("--check=transfer")
        .run();
    assert_exit(&run, Exit::Success);
    assert_eq!(source.posts(), 1);
    source.wait_until_tidy();
    assert!(!target.exists());
}

#[test]
fn the_secret_may_be_a_folder_of_files() {
    let (engine, folder) = (Engine::default(), folder());
    let disk = Disk::random(9, mib(1));
    let (source, user) = (engine.raw_disk(folder.path(), &disk), engine.user());
    let secret = folder.path().join("secret");
    fs::create_dir(&secret).unwrap();
    for (key, value) in [
        ("user", user.name.clone()),
        ("password", user.password.clone()),
        ("ca.crt", suite::mover::authority()),
        ("url", format!("{}/ovirt-engine/api", engine.url)),
    ] {
        fs::write(secret.join(key), value).unwrap();
    }
    let target = folder.path().join("target");
    let run = testkit::Command::new(suite::binary("ovirt-populator"))
        .flag(flag::SECRET_DIR, &secret)
        .flag(flag::DISK_ID, &source.id)
        .flag(flag::VOLUME_PATH, &target)
        .run();
    assert_exit(&run, Exit::Success);
    disk.assert_on(&target);
}

#[test]
fn trust_can_be_waived() {
    let (engine, folder) = (Engine::default(), folder());
    let disk = Disk::random(10, mib(1));
    let source = engine.raw_disk(folder.path(), &disk).with(&json!({}));
    let target = folder.path().join("target");
    let other = fs::read_to_string(suite::variable("SERVICES_OTHER_CA")).unwrap();
    let distrustful = ovirt(&source, &engine.user(), &target).env("cacert", &other);
    assert_exit(&distrustful.run(), Exit::Tls);
    assert_eq!(source.posts(), 0);
    let run = distrustful.env("insecureSkipVerify", "TRUE").run();
    assert_exit(&run, Exit::Success);
    disk.assert_on(&target);
}

fn qemu_img(arguments: &[&str]) {
    let output = Command::new("qemu-img").args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "qemu-img {arguments:?}: {output:?}"
    );
}
