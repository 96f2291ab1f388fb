//! OpenStack: what is in the image is what is in the target.

use std::{fs, path::Path};

use contract::{Exit, args::flag};
use serde_json::Value;
use suite::{
    Glance, Image, assert_exit, folder,
    glance::PASSWORD,
    mover::{assert_discreet, assert_failure},
    openstack, variable,
};
use testkit::{
    Command, Disk, Fault, Proxy, Reply, When, image,
    qemu::{self, Qemu},
};

use crate::{MIB, mib};

#[track_caller]
fn copied(disk: &Disk, region: &str) -> u64 {
    let folder = folder();
    let source = Glance::default().image(folder.path(), disk);
    let (target, message) = (folder.path().join("target"), folder.path().join("message"));
    let run = openstack(&source, &target)
        .env("regionName", region)
        .flag(flag::TERMINATION_LOG, &message)
        .run();
    assert_exit(&run, Exit::Success);
    disk.assert_on(&target);
    assert_discreet(&run, [PASSWORD]);
    let message: Value = serde_json::from_slice(&fs::read(&message).unwrap()).unwrap();
    let wanted = source.metadata()["os_hash_value"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(message["verified"], format!("sha512:{wanted}"), "{message}");
    assert_eq!(message["copiedBytes"], disk.size());
    image::allocated_bytes(&target)
}

#[test]
fn a_dense_image_over_http_and_https() {
    let disk = Disk::random(1, mib(24));
    for region in ["RegionOne", "RegionTLS"] {
        copied(&disk, region);
    }
}

#[test]
fn a_sparse_image_becomes_a_sparse_file() {
    let disk = Disk::sparse(
        2,
        mib(96),
        &[0..MIB, 40 * MIB..42 * MIB, 95 * MIB..96 * MIB],
    );
    let occupied = copied(&disk, "RegionOne");
    assert!(occupied <= 6 * MIB, "{occupied} bytes for 4 MiB of data");
}

#[test]
fn an_image_of_zeroes_occupies_nothing() {
    let occupied = copied(&Disk::empty(mib(32)), "RegionOne");
    assert!(occupied <= MIB, "{occupied} bytes for no data");
}

#[test]
fn sizes_of_any_number_of_bytes() {
    for size in [1, 511, 513, 4097, mib(8) - 1, mib(8) + 12_345] {
        copied(&Disk::random(3, size), "RegionOne");
    }
}

#[test]
fn many_tiny_extents() {
    copied(&Disk::tiny_extents(4, mib(8), 24), "RegionOne");
}

#[test]
fn one_connection_and_many() {
    let (folder, disk) = (folder(), Disk::random(5, mib(24) + 1));
    let source = Glance::default().image(folder.path(), &disk);
    for connections in ["1", "16"] {
        let target = folder.path().join(connections);
        let run = openstack(&source, &target)
            .flag(flag::CONNECTIONS, connections)
            .run();
        assert_exit(&run, Exit::Success);
        disk.assert_on(&target);
    }
}

#[test]
fn a_preflight_writes_nothing() {
    let (folder, disk) = (folder(), Disk::random(6, mib(1)));
    let source = Glance::default().image(folder.path(), &disk);
    let target = folder.path().join("target");
    let run = openstack(&source, &target).arg("--check").run();
    assert_exit(&run, Exit::Success);
    assert!(!target.exists());
    suite::filled_file(&target, 2 * MIB);
    let run = openstack(&source, &target)
        .arg("--check")
        .arg("--force")
        .run();
    assert_exit(&run, Exit::Success);
    suite::assert_untouched(&target, 0);
}

#[test]
fn the_disk_of_an_image_that_is_not_raw() {
    let (folder, qemu) = (folder(), Qemu::new());
    let bytes = qemu::disk(7, (6 << 20) + 512, 300_000);
    let raw = qemu.raw("raw", &bytes);
    for (name, format, arguments) in [
        ("qcow2", "qcow2", &[][..]),
        ("qcow2", "qcow2", &["-c"]),
        ("qcow2", "qcow2", &["-c", "-o", "compression_type=zstd"]),
        ("vmdk", "vmdk", &["-o", "subformat=streamOptimized"]),
        ("vdi", "vdi", &[]),
        ("vhd", "vpc", &["-o", "force_size=on"]),
        ("vhdx", "vhdx", &[]),
    ] {
        let path = qemu.convert(&raw, format, arguments);
        let expected = qemu.read(format, &path);
        let source = Glance::default().upload(&path, name);
        let target = folder.path().join("target");
        let run = openstack(&source, &target).arg("--force").run();
        assert_exit(&run, Exit::Success);
        let found = fs::read(&target).unwrap();
        assert!(found == expected, "{format} {arguments:?}");

        let run = openstack(&source, &target)
            .arg("--verbatim")
            .arg("--force")
            .run();
        assert_exit(&run, Exit::Success);
        image::assert_same(&path, &target, image::size_of(&path));
    }
}

/// Runs it with a scratch folder, in which nothing may be left, and compares target and hash.
#[track_caller]
fn staged(source: &Image, proxy: Option<&Proxy>, expected: &[u8]) {
    let folder = folder();
    let (scratch, target) = (folder.path().join("scratch"), folder.path().join("target"));
    fs::create_dir(&scratch).unwrap();
    let command = openstack(source, &target).flag(flag::SCRATCH_DIR, &scratch);
    arrives(source, command, &target, proxy, expected);
    assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0);
}

/// Runs it without one, and compares the same.
#[track_caller]
fn in_one_pass(source: &Image, proxy: Option<&Proxy>, expected: &[u8]) {
    let folder = folder();
    let target = folder.path().join("target");
    arrives(source, openstack(source, &target), &target, proxy, expected);
}

#[track_caller]
fn arrives(
    source: &Image,
    mut command: Command,
    target: &Path,
    proxy: Option<&Proxy>,
    expected: &[u8],
) {
    let message = target.with_extension("message");
    command = command.flag(flag::TERMINATION_LOG, &message);
    if let Some(proxy) = proxy {
        command = command.env("http_proxy", proxy.url());
    }
    let run = command.run();
    assert_exit(&run, Exit::Success);
    assert!(fs::read(target).unwrap() == expected);
    let message: Value = serde_json::from_slice(&fs::read(&message).unwrap()).unwrap();
    let wanted = source.metadata()["os_hash_value"].clone();
    let wanted = format!("sha512:{}", wanted.as_str().unwrap());
    assert_eq!(message["verified"], wanted, "{message}");
}

/// What Glance answers for a store without ranges is said by a proxy; the bytes are Glance's.
#[test]
fn the_disk_of_an_image_in_a_store_without_ranges() {
    let (qemu, proxy) = (Qemu::new(), Proxy::start());
    let answer = Fault::Answer(Reply::text(400, "requested image cannot be read in ranges"));
    proxy.server().fault(When::ranged().always(), answer);
    let bytes = qemu::disk(9, (6 << 20) + 512, 300_000);
    let raw = qemu.raw("raw", &bytes);
    for (name, format, arguments) in [
        ("qcow2", "qcow2", &["-c"][..]),
        ("vmdk", "vmdk", &["-o", "subformat=streamOptimized"]),
        ("vdi", "vdi", &[]),
        ("vhd", "vpc", &["-o", "force_size=on"]),
        ("vhdx", "vhdx", &[]),
    ] {
        let path = qemu.convert(&raw, format, arguments);
        let expected = qemu.read(format, &path);
        let source = Glance::default().upload(&path, name);
        for way in [in_one_pass, staged] {
            way(&source, Some(&proxy), &expected);
        }
    }
}

#[test]
fn the_disk_of_a_compressed_image() {
    let qemu = Qemu::new();
    let bytes = qemu::disk(10, (6 << 20) + 512, 300_000);
    let raw = qemu.raw("raw", &bytes);
    let qcow2 = fs::read(qemu.convert(&raw, "qcow2", &[])).unwrap();
    for (program, arguments) in [
        ("gzip", &["-c"][..]),
        ("xz", &["-c", "-0"]),
        ("zstd", &["-c", "-q"]),
        ("bzip2", &["-c"]),
    ] {
        for (format, file) in [("raw", &bytes), ("qcow2", &qcow2)] {
            let packed = qemu.raw("packed", &qemu.pack(program, arguments, file));
            let source = Glance::default().upload_compressed(&packed, format);
            for way in [in_one_pass, staged] {
                way(&source, None, &bytes);
            }
        }
    }
}

#[test]
fn the_hash_of_a_whole_image_is_verified_on_demand() {
    let (folder, qemu) = (folder(), Qemu::new());
    let bytes = qemu::disk(11, 6 << 20, 300_000);
    let raw = qemu.raw("raw", &bytes);
    let path = qemu.convert(&raw, "qcow2", &[]);
    let source = Glance::default().upload(&path, "qcow2");
    let (target, message) = (folder.path().join("target"), folder.path().join("message"));
    let command = openstack(&source, &target)
        .flag(flag::VERIFY, "full")
        .flag(flag::TERMINATION_LOG, &message);
    assert_exit(&command.run(), Exit::Success);
    assert!(fs::read(&target).unwrap() == bytes);
    let stated: Value = serde_json::from_slice(&fs::read(&message).unwrap()).unwrap();
    let verified = stated["verified"].as_str().unwrap();
    assert!(verified.starts_with("sha512:"), "{verified}");

    fs::remove_file(&target).unwrap();
    source.corrupt_blob(image::size_of(&path) - 1);
    assert_exit(&command.run(), Exit::HashMismatch);
    assert!(!target.exists());
}

/// It is an attack elsewhere: whoever converts by content would follow what a guest has written.
#[test]
fn an_image_that_poses_as_raw_is_refused() {
    let (folder, qemu) = (folder(), Qemu::new());
    let raw = qemu.raw("raw", &qemu::disk(8, 2 << 20, 300_000));
    let source = Glance::default().upload(&qemu.convert(&raw, "qcow2", &[]), "raw");
    let target = folder.path().join("target");
    let run = openstack(&source, &target).run();
    assert_failure(
        &run,
        Exit::SourceUnusable,
        &["those of qcow2", "--verbatim"],
    );
    // Nothing that looks like a disk may be left of a run that was refused.
    assert!(!target.exists() || image::allocated_bytes(&target) == 0);
}

#[test]
fn proxies_are_honoured_and_exempted() {
    let (folder, disk) = (folder(), Disk::random(8, mib(1)));
    let source = Glance::default().image(folder.path(), &disk);
    let target = folder.path().join("target");
    let proxied = openstack(&source, &target).env("http_proxy", "http://127.0.0.1:9");
    let run = proxied.clone().flag(flag::NO_PROGRESS_TIMEOUT, "1s").run();
    assert_exit(&run, Exit::SourceUnavailable);
    let run = proxied.env("no_proxy", "127.0.0.1").run();
    assert_exit(&run, Exit::Success);
    disk.assert_on(&target);
    assert!(variable("KEYSTONE_URL").contains("127.0.0.1"));
}
