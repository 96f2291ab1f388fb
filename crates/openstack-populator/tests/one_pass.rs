//! Images whose file comes once, without a scratch folder: from a store without ranges, or compressed as a whole.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::{fs, sync::Arc};

use contract::Exit;
use mover::Done;
use serde_json::json;
use support::{
    IMAGE, PASSWORD,
    run::{Run, failure, image, run},
    staged::{downloads, rangeless, record, verified},
};
use testkit::{
    Cut, Fault, Gate, LoopDevice, When,
    qemu::{self, Qemu},
};

/// The programs that pack, and how.
const PROGRAMS: [(&str, &[&str]); 4] = [
    ("gzip", &["-c"]),
    ("xz", &["-c", "-0"]),
    ("zstd", &["-c", "-q"]),
    ("bzip2", &["-c", "-1"]),
];
const M: usize = 1 << 20;

/// A device on which nothing is zero.
fn dirty(size: usize) -> LoopDevice {
    let device = LoopDevice::new(size as u64, 512);
    fs::write(device.path(), vec![0xff; size]).unwrap();
    device
}

#[tokio::test(flavor = "multi_thread")]
async fn every_format_arrives_from_a_store_without_ranges() {
    let qemu = Qemu::new();
    let disk = qemu::disk(1, 20 * M + 512, 3_000_000);
    let raw = qemu.raw("disk.raw", &disk);
    for (name, format, arguments) in [
        ("qcow2", "qcow2", &[][..]),
        ("qcow2", "qcow2", &["-c"]),
        ("qcow2", "qcow2", &["-o", "cluster_size=512"]),
        ("qcow2", "qcow2", &["-o", "extended_l2=on"]),
        ("vmdk", "vmdk", &["-o", "subformat=streamOptimized"]),
        ("vmdk", "vmdk", &["-o", "subformat=monolithicSparse"]),
        ("vdi", "vdi", &[]),
        ("vhd", "vpc", &["-o", "force_size=on"]),
        ("vhdx", "vhdx", &[]),
    ] {
        let path = qemu.convert(&raw, format, arguments);
        let expected = qemu.read(format, &path);
        let bytes = fs::read(path).unwrap();
        let cloud = rangeless(&record(name, "bare", &bytes), &bytes);
        let (result, found) = run(&cloud, &[]).await;
        assert_eq!(result.unwrap(), verified(&bytes), "{format} {arguments:?}");
        assert!(found.unwrap() == expected, "{format} {arguments:?}");
        assert_eq!(downloads(&cloud), 1, "{format} {arguments:?}");

        let device = dirty(expected.len());
        let mut run = Run::new();
        run.device = Some(device.path().into());
        let result = run.go(&cloud, PASSWORD, &["--force"]).await;
        assert_eq!(result.unwrap(), verified(&bytes));
        assert!(
            fs::read(device.path()).unwrap() == expected,
            "{format} {arguments:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_files_arrive_as_the_disk_in_them() {
    let qemu = Qemu::new();
    let disk = qemu::disk(2, 6 * M + 512, 600_000);
    let raw = qemu.raw("disk.raw", &disk);
    let qcow2 = fs::read(qemu.convert(&raw, "qcow2", &[])).unwrap();
    for (program, arguments) in PROGRAMS {
        for (format, file) in [("raw", &disk), ("qcow2", &qcow2)] {
            let packed = qemu.pack(program, arguments, file);
            for (cloud, container) in [
                (image as fn(&_, &_) -> _, "compressed"),
                (rangeless, "compressed"),
                (image, "bare"),
            ] {
                if (format, container) == ("raw", "bare") {
                    // A guest may write such a file to a disk.
                    continue;
                }
                let cloud = cloud(&record(format, container, &packed), &packed[..]);
                let (result, found) = run(&cloud, &["--connections=4"]).await;
                assert_eq!(
                    result.unwrap(),
                    verified(&packed),
                    "{program} {format} {container}"
                );
                assert!(found.unwrap() == disk, "{program} {format} {container}");
                let (result, found) = run(&cloud, &["--verify=off"]).await;
                assert_eq!(result.unwrap(), Done::Copied { verified: None });
                assert!(found.unwrap() == disk, "{program} {format} {container}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn zeroes_are_holes_in_a_file_and_zero_on_a_device() {
    let qemu = Qemu::new();
    let mut disk = vec![0; 32 * M];
    disk[9 * M..10 * M].fill(9);
    let packed = qemu.pack("gzip", &["-c", "-1"], &disk);
    let cloud = image(&record("raw", "compressed", &packed), &packed);
    for (flag, is_dense) in [("--detect-zeroes=on", false), ("--detect-zeroes=off", true)] {
        let mut run = Run::new();
        run.go(&cloud, PASSWORD, &[flag]).await.unwrap();
        assert!(fs::read(run.target()).unwrap() == disk);
        let taken =
            std::os::unix::fs::MetadataExt::blocks(&fs::metadata(run.target()).unwrap()) * 512;
        assert_eq!(taken > 8 << 20, is_dense, "{taken}");

        let device = dirty(disk.len() + M);
        run.device = Some(device.path().into());
        run.go(&cloud, PASSWORD, &["--force", flag]).await.unwrap();
        let found = fs::read(device.path()).unwrap();
        assert!(found[..disk.len()] == disk);
        assert!(found[disk.len()..].iter().all(|byte| *byte == 0xff));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_does_not_fit_is_refused() {
    let qemu = Qemu::new();
    let raw = qemu.raw("disk.raw", &qemu::disk(3, 8 * M, 300_000));
    let disk = fs::read(&raw).unwrap();
    let qcow2 = fs::read(qemu.convert(&raw, "qcow2", &[])).unwrap();
    let packed = qemu.pack("gzip", &["-c"], &qcow2);
    let packed_raw = qemu.pack("gzip", &["-c"], &disk);
    let device = dirty(4 * M);
    let before = fs::read(device.path()).unwrap();
    for (cloud, is_written) in [
        (rangeless(&record("qcow2", "bare", &qcow2), &qcow2), false),
        (
            image(&record("qcow2", "compressed", &packed), &packed),
            false,
        ),
        // Its size is known at its end only.
        (
            image(&record("raw", "compressed", &packed_raw), &packed_raw),
            true,
        ),
    ] {
        let mut run = Run::new();
        run.device = Some(device.path().into());
        let result = run.go(&cloud, PASSWORD, &["--force"]).await;
        failure(result, Exit::TargetTooSmall, &["4194304", "request a"]);
        let found = fs::read(device.path()).unwrap();
        assert_eq!(found != before, is_written);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_pass_cannot_read_needs_the_folder() {
    let qemu = Qemu::new();
    let raw = qemu.raw("disk.raw", &qemu::disk(4, 3 * M, 100_000));
    let fixed = &["-o", "subformat=fixed,force_size=on"];
    let vhd = fs::read(qemu.convert(&raw, "vpc", fixed)).unwrap();
    // Its tables come behind the data that they name.
    let backwards = qemu.create("qcow2", "cluster_size=65536", 3 << 30);
    let writes: Vec<_> = [2_u64, 1, 0]
        .iter()
        .flat_map(|start| {
            (0..10).map(move |step| format!("write -P 7 {} 1M", (start << 30) + (step << 20)))
        })
        .collect();
    qemu::io("qcow2", &backwards, &writes);
    let backwards = fs::read(backwards).unwrap();
    for (name, file) in [("vhd", &vhd), ("qcow2", &backwards)] {
        let cloud = rangeless(&record(name, "bare", file), file);
        let (result, _) = run(&cloud, &[]).await;
        failure(
            result,
            Exit::SourceUnusable,
            &["--scratch-dir", "--verbatim"],
        );
    }
}

/// A guest decides how its fixed vhd begins, and must not decide what is taken for its disk.
#[tokio::test(flavor = "multi_thread")]
async fn a_vhd_that_a_guest_makes_a_compressed_file_is_refused() {
    let qemu = Qemu::new();
    let other = qemu.pack("gzip", &["-c"], &qemu::disk(12, M, 100_000));
    let qcow2 =
        fs::read(qemu.convert(&qemu.raw("x.raw", &qemu::disk(5, M, 9000)), "qcow2", &[])).unwrap();
    let raw = qemu.raw("disk.raw", &qemu::disk(13, 3 * M, 100_000));
    let fixed = &["-o", "subformat=fixed,force_size=on"];
    let vhd = fs::read(qemu.convert(&raw, "vpc", fixed)).unwrap();
    let dynamic = fs::read(qemu.convert(
        &qemu.raw("y.raw", &qemu::disk(8, M, 9000)),
        "vpc",
        &["-o", "force_size=on"],
    ))
    .unwrap();
    for start in [other, qcow2, dynamic] {
        let mut file = vhd.clone();
        let start = &start[..start.len().min(file.len() - 512)];
        file[..start.len()].copy_from_slice(start);
        let cloud = rangeless(&record("vhd", "bare", &file), &file);
        let (result, _) = run(&cloud, &[]).await;
        let failed = result.unwrap_err();
        assert_eq!(failed.exit(), Exit::SourceUnusable, "{failed}");
    }
    // Zstandard has frames that a decoder skips, so that the whole file is a compressed one.
    let mut file = vhd.clone();
    let other = qemu.pack("zstd", &["-c", "-q"], &qcow2_of(&qemu));
    let (frame, skipped) = file.split_at_mut(other.len());
    frame.copy_from_slice(&other);
    let (header, rest) = skipped.split_at_mut(8);
    header[..4].copy_from_slice(&0x184d_2a50_u32.to_le_bytes());
    header[4..].copy_from_slice(&u32::try_from(rest.len()).unwrap().to_le_bytes());
    let cloud = rangeless(&record("vhd", "bare", &file), &file);
    let (result, _) = run(&cloud, &[]).await;
    failure(result, Exit::SourceUnusable, &["fixed vhd", "two disks"]);
}

fn qcow2_of(qemu: &Qemu) -> Vec<u8> {
    let raw = qemu.raw("small.raw", &qemu::disk(6, M, 9000));
    fs::read(qemu.convert(&raw, "qcow2", &[])).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_a_compressed_file_is_judged_before_a_byte_is_written() {
    let qemu = Qemu::new();
    let raw = qemu.raw("disk.raw", &qemu::disk(4, 2 * M, 100_000));
    let qcow2 = fs::read(qemu.convert(&raw, "qcow2", &[])).unwrap();
    let inner = qemu.pack("xz", &["-c", "-0"], &qcow2);
    let empty = fs::read(qemu.create("qcow2", "cluster_size=65536", 0)).unwrap();
    for (disk_format, file, needles) in [
        ("raw", &qcow2[..], &["qcow2", "--verbatim"][..]),
        ("qcow2", &fs::read(&raw).unwrap(), &["no format"]),
        ("qcow2", &inner, &["xz", "compressed"]),
        ("raw", &[], &["no data"]),
        ("qcow2", &empty, &["no data"]),
    ] {
        let packed = qemu.pack("gzip", &["-c"], file);
        let cloud = image(&record(disk_format, "compressed", &packed), &packed);
        let (result, found) = run(&cloud, &[]).await;
        failure(result, Exit::SourceUnusable, needles);
        assert_eq!(found, None);
    }
    let cloud = image(&record("qcow2", "compressed", &qcow2), &qcow2);
    let (result, found) = run(&cloud, &[]).await;
    failure(result, Exit::SourceUnusable, &["gzip", "--verbatim"]);
    assert_eq!(found, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_the_images_fault() {
    let qemu = Qemu::new();
    let disk = qemu::disk(5, 4 * M, 100_000);
    for (program, arguments) in PROGRAMS {
        let packed = qemu.pack(program, arguments, &disk);
        let middle = packed.len() / 2;
        let mut flipped = packed.clone();
        flipped[middle] ^= 0x55;
        for damaged in [&packed[..middle], &flipped] {
            // The hash is that of the damaged file: the upload was damaged.
            let cloud = image(&record("raw", "compressed", damaged), damaged);
            let (result, _) = run(&cloud, &[]).await;
            failure(result, Exit::SourceUnusable, &[program, "unpacked"]);
        }
    }
    let raw = qemu.raw("disk.raw", &disk);
    let qcow2 = fs::read(qemu.convert(&raw, "qcow2", &[])).unwrap();
    let cut = &qcow2[..qcow2.len() / 2];
    let (result, _) = run(&rangeless(&record("qcow2", "bare", cut), cut), &[]).await;
    failure(result, Exit::SourceUnusable, &["qcow2", "upload"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_hash_is_noticed() {
    let qemu = Qemu::new();
    let disk = qemu::disk(6, 2 * M, 100_000);
    let packed = qemu.pack("gzip", &["-c"], &disk);
    let cloud = image(&record("raw", "compressed", b"other"), &packed);
    for flag in ["--verify=auto", "--verify=full"] {
        let (result, _) = run(&cloud, &[flag]).await;
        failure(result, Exit::HashMismatch, &["sha512"]);
    }
    let without = json!({"disk_format": "raw", "container_format": "compressed"});
    let (result, found) = run(&image(&without, &packed), &["--verify=full"]).await;
    failure(result, Exit::SourceUnusable, &["--verify=full"]);
    assert_eq!(found, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_is_survived() {
    let qemu = Qemu::new();
    let disk = qemu::disk(7, 16 * M, 100_000);
    let raw = qemu.raw("disk.raw", &disk);
    let qcow2 = fs::read(qemu.convert(&raw, "qcow2", &[])).unwrap();
    let packed = qemu.pack("gzip", &["-c", "-1"], &disk);
    let path = format!("/v2/images/{IMAGE}/file");
    for (cloud, file, looks) in [
        // Without ranges the next answer is read from its beginning.
        (
            rangeless(&record("qcow2", "bare", &qcow2), &qcow2),
            &qcow2,
            0,
        ),
        (
            rangeless(&record("raw", "compressed", &packed), &packed),
            &packed,
            0,
        ),
        // With them it goes on.
        (
            image(&record("raw", "compressed", &packed), &packed),
            &packed,
            1,
        ),
    ] {
        let lost = When::path(&path).skip(looks);
        cloud
            .glance
            .fault(lost, Fault::cut(file.len() as u64 / 2, Cut::Reset));
        let device = dirty(disk.len());
        let mut run = Run::new();
        run.device = Some(device.path().into());
        let result = run.go(&cloud, PASSWORD, &["--force"]).await;
        assert_eq!(result.unwrap(), verified(file));
        assert!(fs::read(device.path()).unwrap() == disk);
        assert_eq!(downloads(&cloud), looks + 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_reads_nothing_of_it() {
    let qemu = Qemu::new();
    let qcow2 = qcow2_of(&qemu);
    for container in ["bare", "compressed"] {
        let cloud = rangeless(&record("qcow2", container, &qcow2), &qcow2);
        let (result, found) = run(&cloud, &["--check"]).await;
        assert_eq!((result.unwrap(), found), (Done::Checked, None));
        assert_eq!(downloads(&cloud), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_stops_when_it_is_asked_to() {
    let qemu = Qemu::new();
    let raw = qemu.raw("disk.raw", &qemu::disk(11, 2 * M, 100_000));
    let qcow2 = fs::read(qemu.convert(&raw, "qcow2", &[])).unwrap();
    let cloud = Arc::new(rangeless(&record("qcow2", "bare", &qcow2), &qcow2));
    let gate = Gate::new();
    let path = format!("/v2/images/{IMAGE}/file");
    cloud
        .glance
        .fault(When::path(&path), Fault::stall(500_000, &gate));
    let mut run = Run::new();
    let job = run.job(&cloud, PASSWORD, &[]);
    let (result, ()) = tokio::join!(job, async {
        let watched = Arc::clone(&cloud);
        let held = tokio::task::spawn_blocking(move || watched.glance.wait_for_held(1));
        held.await.unwrap();
        run.stop.take().unwrap().pull();
    });
    failure(result, Exit::Terminated, &[]);
    gate.open();
}
