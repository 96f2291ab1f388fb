//! Images whose file is read to its end before the copy: into a scratch folder, unpacked there, or for its hash alone.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::{fs, os::unix::fs::MetadataExt, sync::Arc, time::Duration};

use contract::Exit;
use mover::Done;
use net::Clock;
use serde_json::{Value, json};
use support::{
    Cloud, IMAGE, Leap, PASSWORD,
    run::{Run, failure, image, run},
    staged::{downloads, open_files, rangeless, record, sha512, staged, verified},
};
use testkit::{
    Cut, Fault, Gate, LoopDevice, Object, Volume, When,
    qemu::{self, Qemu},
};

/// The programs that pack, and how.
const PROGRAMS: [(&str, &[&str]); 4] = [
    ("gzip", &["-c"]),
    ("xz", &["-c", "-0"]),
    ("zstd", &["-c", "-q"]),
    ("bzip2", &["-c", "-1"]),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_format_arrives_from_a_store_without_ranges() {
    let qemu = Qemu::new();
    let raw = qemu.raw("disk.raw", &qemu::disk(1, (3 << 20) + 512, 200_000));
    for (name, format, arguments) in [
        ("qcow2", "qcow2", &[][..]),
        ("qcow2", "qcow2", &["-c"]),
        ("vmdk", "vmdk", &["-o", "subformat=streamOptimized"]),
        ("vdi", "vdi", &[]),
        ("vhd", "vpc", &["-o", "force_size=on"]),
        ("vhd", "vpc", &["-o", "subformat=fixed,force_size=on"]),
        ("vhdx", "vhdx", &[]),
    ] {
        let path = qemu.convert(&raw, format, arguments);
        let expected = qemu.read(format, &path);
        let bytes = fs::read(path).unwrap();
        let cloud = rangeless(&record(name, "bare", &bytes), &bytes);
        let (result, found) = staged(&cloud, &[]).await;
        assert_eq!(result.unwrap(), verified(&bytes));
        assert!(found.unwrap() == expected, "{format} {arguments:?}");
        assert_eq!(downloads(&cloud), 1, "{format} {arguments:?}");
        let (result, found) = staged(&cloud, &["--verify=off"]).await;
        assert_eq!(result.unwrap(), Done::Copied { verified: None });
        assert!(found.unwrap() == expected, "{format} {arguments:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_files_arrive_as_the_disk_in_them() {
    let qemu = Qemu::new();
    let disk = qemu::disk(2, (4 << 20) + 512, 300_000);
    let raw = qemu.raw("disk.raw", &disk);
    let qcow2 = fs::read(qemu.convert(&raw, "qcow2", &[])).unwrap();
    for (program, arguments) in PROGRAMS {
        for (format, file) in [("raw", &disk), ("qcow2", &qcow2)] {
            let packed = qemu.pack(program, arguments, file);
            for cloud in [image, rangeless] {
                let cloud = cloud(&record(format, "compressed", &packed), &packed);
                let (result, found) = staged(&cloud, &[]).await;
                assert_eq!(result.unwrap(), verified(&packed), "{program}");
                assert!(found.unwrap() == disk, "{program} {format}");

                let (result, found) = staged(&cloud, &["--verbatim"]).await;
                assert_eq!(result.unwrap(), verified(&packed));
                assert!(found.unwrap() == packed);
            }
        }
    }
}

/// A sparse disk does not become dense by the way.
#[tokio::test(flavor = "multi_thread")]
async fn zeroes_in_a_compressed_file_become_holes() {
    let qemu = Qemu::new();
    let mut disk = vec![0; 32 << 20];
    disk[9 << 20..10 << 20].fill(9);
    let packed = qemu.pack("gzip", &["-c", "-1"], &disk);
    let cloud = image(&record("raw", "compressed", &packed), &packed);
    // The disk alone would not fit.
    let volume = Volume::tmpfs(8 << 20);
    let device = LoopDevice::new(32 << 20, 512);
    let mut run = Run::new();
    run.device = Some(device.path().into());
    let flag = format!("--scratch-dir={}", volume.path("").display());
    let result = run.go(&cloud, PASSWORD, &[&flag, "--force"]).await;
    assert_eq!(result.unwrap(), verified(&packed));
    assert!(fs::read(device.path()).unwrap() == disk);
}

/// What the user wants of the target's zeroes says nothing of the folder's.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_zeroes_is_sparse_in_the_folder() {
    let qemu = Qemu::new();
    let mut disk = vec![7; 6 << 20];
    disk[1 << 20..5 << 20].fill(0);
    // A frame that a decoder skips, of zeroes.
    let zeroes: u32 = 28 << 20;
    let mut packed = qemu.pack("zstd", &["-c", "-q"], &disk);
    packed.extend(0x184d_2a50_u32.to_le_bytes());
    packed.extend(zeroes.to_le_bytes());
    packed.resize(packed.len() + zeroes as usize, 0);
    let cloud = image(&record("raw", "compressed", &packed), &packed);
    // Room for the packed file, or for the other one, but not for both and the zeroes.
    let volume = Volume::tmpfs(29 << 20);
    let folder = format!("--scratch-dir={}", volume.path("").display());
    for (flag, is_dense) in [("--detect-zeroes=on", false), ("--detect-zeroes=off", true)] {
        let mut run = Run::new();
        let result = run.go(&cloud, PASSWORD, &[&folder, flag]).await;
        assert_eq!(result.unwrap(), verified(&packed));
        assert!(fs::read(run.target()).unwrap() == disk);
        let taken = fs::metadata(run.target()).unwrap().blocks() * 512;
        assert_eq!(taken >= 6 << 20, is_dense, "{flag}: {taken}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_turns_out_to_be_compressed_is_unpacked() {
    let qemu = Qemu::new();
    let disk = qemu::disk(3, 2 << 20, 100_000);
    let raw = qemu.raw("disk.raw", &disk);
    let qcow2 = fs::read(qemu.convert(&raw, "qcow2", &[])).unwrap();
    let packed = qemu.pack("zstd", &["-c", "-q"], &qcow2);
    let record = record("qcow2", "bare", &packed);
    for cloud in [image, rangeless] {
        let cloud = cloud(&record, &packed);
        let (result, found) = staged(&cloud, &[]).await;
        assert_eq!(result.unwrap(), verified(&packed));
        assert!(found.unwrap() == disk);
    }
}

/// A guest decides how its fixed vhd begins, and must not decide what is taken for its disk.
#[tokio::test(flavor = "multi_thread")]
async fn a_vhd_that_a_guest_makes_a_compressed_file_is_refused() {
    let qemu = Qemu::new();
    let other = qemu.pack("zstd", &["-c", "-q"], &qemu::disk(12, 1 << 20, 100_000));
    let raw = qemu.raw("disk.raw", &qemu::disk(13, 3 << 20, 100_000));
    let fixed = &["-o", "subformat=fixed,force_size=on"];
    let mut vhd = fs::read(qemu.convert(&raw, "vpc", fixed)).unwrap();
    // A frame, and one that a decoder skips, up to the end of the file.
    let (frame, skipped) = vhd.split_at_mut(other.len());
    frame.copy_from_slice(&other);
    let (header, rest) = skipped.split_at_mut(8);
    header[..4].copy_from_slice(&0x184d_2a50_u32.to_le_bytes());
    header[4..].copy_from_slice(&u32::try_from(rest.len()).unwrap().to_le_bytes());
    let record = record("vhd", "bare", &vhd);
    for cloud in [image, rangeless] {
        let cloud = cloud(&record, &vhd);
        for flags in [&[][..], &["--verify=full"], &["--verify=off"]] {
            let (result, found) = staged(&cloud, flags).await;
            failure(result, Exit::SourceUnusable, &["fixed vhd", "two disks"]);
            assert_eq!(found, None);
        }
    }
    let (result, _) = run(&image(&record, &vhd), &[]).await;
    failure(result, Exit::SourceUnusable, &["fixed vhd", "two disks"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_a_compressed_file_is_judged_like_a_file() {
    let qemu = Qemu::new();
    let raw = qemu.raw("disk.raw", &qemu::disk(4, 2 << 20, 100_000));
    let qcow2 = fs::read(qemu.convert(&raw, "qcow2", &[])).unwrap();
    let inner = qemu.pack("xz", &["-c", "-0"], &qcow2);
    for (disk_format, file, needles) in [
        ("raw", &qcow2[..], &["qcow2", "--verbatim"][..]),
        ("qcow2", &fs::read(&raw).unwrap(), &["no format"]),
        ("qcow2", &inner, &["xz", "compressed"]),
        ("qcow2", &qcow2[..qcow2.len() / 2], &["qcow2", "upload"]),
    ] {
        let packed = qemu.pack("gzip", &["-c"], file);
        let cloud = image(&record(disk_format, "compressed", &packed), &packed);
        let (result, found) = staged(&cloud, &[]).await;
        failure(result, Exit::SourceUnusable, needles);
        assert_eq!(found, None);
    }
    let cloud = image(&record("qcow2", "compressed", &qcow2), &qcow2);
    let (result, found) = staged(&cloud, &[]).await;
    failure(result, Exit::SourceUnusable, &["gzip", "--verbatim"]);
    assert_eq!(found, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_compressed_file_writes_nothing() {
    let qemu = Qemu::new();
    let disk = qemu::disk(5, 2 << 20, 100_000);
    for (program, arguments) in PROGRAMS {
        let packed = qemu.pack(program, arguments, &disk);
        let middle = packed.len() / 2;
        let mut flipped = packed.clone();
        flipped[middle] ^= 0x55;
        for damaged in [&packed[..middle], &flipped] {
            // The hash is that of the damaged file: the upload was damaged.
            let cloud = image(&record("raw", "compressed", damaged), damaged);
            let (result, found) = staged(&cloud, &[]).await;
            failure(result, Exit::SourceUnusable, &["unpacked", "decoded bytes"]);
            assert_eq!(found, None, "{program}");
        }
    }
}

/// The upload was damaged where no table shows it: the hash is that of the damaged file.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_cluster_is_the_images_fault() {
    let qemu = Qemu::new();
    let disk = qemu::disk(14, 4 << 20, 300_000);
    let raw = qemu.raw("disk.raw", &disk);
    let mut qcow2 = fs::read(qemu.convert(&raw, "qcow2", &["-c"])).unwrap();
    let packed = {
        let mut file = &qcow2[..];
        let image = formats::Image::open(&mut file).unwrap();
        let extents = image.extents(&mut file, 0..image.virtual_size());
        let offset = extents.filter_map(|extent| match extent.unwrap().content {
            formats::Content::Compressed { offset, .. } => Some(offset),
            _ => None,
        });
        offset.last().unwrap()
    };
    // A block of a type that deflate does not have.
    qcow2[usize::try_from(packed).unwrap()] = 7;
    let record = record("qcow2", "bare", &qcow2);
    for (cloud, is_local) in [
        (rangeless(&record, &qcow2), true),
        (image(&record, &qcow2), false),
    ] {
        let scratch = tempfile::tempdir().unwrap();
        let flag = format!("--scratch-dir={}", scratch.path().display());
        let clock = Arc::new(Leap::default());
        let mut run = Run::new();
        run.clock = Arc::clone(&clock) as _;
        let result = run.go(&cloud, PASSWORD, &[&flag, "--connections=1"]).await;
        let failed = result.unwrap_err();
        assert!(!failed.message().contains("lost"), "{failed}");
        failure(
            Err(failed),
            Exit::SourceUnusable,
            &["the image cannot be read"],
        );
        // A server is asked once more; a file says the same again.
        assert_eq!(clock.now() == Duration::ZERO, is_local, "{:?}", clock.now());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_hash_ends_it_before_anything_is_written() {
    let qemu = Qemu::new();
    let raw = qemu.raw("disk.raw", &qemu::disk(6, 2 << 20, 100_000));
    let qcow2 = fs::read(qemu.convert(&raw, "qcow2", &[])).unwrap();
    let packed = qemu.pack("gzip", &["-c"], &qcow2);
    for (container, file) in [("bare", &qcow2), ("compressed", &packed)] {
        let mut record = record("qcow2", container, file);
        record["os_hash_value"] = json!("00".repeat(64));
        let cloud = rangeless(&record, file);
        let (result, found) = staged(&cloud, &[]).await;
        failure(result, Exit::HashMismatch, &[&sha512(file).hex]);
        assert_eq!(found, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_is_survived() {
    let qemu = Qemu::new();
    let disk = qemu::disk(7, 16 << 20, 100_000);
    let raw = qemu.raw("disk.raw", &disk);
    let qcow2 = fs::read(qemu.convert(&raw, "qcow2", &[])).unwrap();
    let packed = qemu.pack("gzip", &["-c", "-1"], &disk);
    for (record, file) in [
        (record("qcow2", "bare", &qcow2), &qcow2),
        (record("raw", "compressed", &packed), &packed),
    ] {
        // The look at whether ranges are served; without them its answer is the one that is read.
        for (cloud, looks) in [(image(&record, file), 1), (rangeless(&record, file), 0)] {
            let path = format!("/v2/images/{IMAGE}/file");
            let (size, lost) = (file.len() as u64, When::path(&path).skip(looks));
            if looks == 0 {
                // What came before the loss is not used: the next answer is read from its beginning.
                cloud.glance.fault(lost.clone(), Fault::Corrupt(size / 8));
                cloud.glance.fault(lost, Fault::cut(size / 2, Cut::Orderly));
            } else {
                cloud.glance.fault(lost, Fault::cut(size / 2, Cut::Reset));
            }
            let (result, found) = staged(&cloud, &["--connections=1", "--verify=full"]).await;
            assert_eq!(result.unwrap(), verified(file));
            assert!(found.unwrap() == disk);
            assert_eq!(downloads(&cloud), looks + 2);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn marks_of_another_node_do_not_matter_where_the_hash_of_the_file_decides() {
    let qemu = Qemu::new();
    let disk = qemu::disk(16, 2 << 20, 100_000);
    let raw = qemu.raw("disk.raw", &disk);
    let qcow2 = fs::read(qemu.convert(&raw, "qcow2", &[])).unwrap();
    let packed = qemu.pack("gzip", &["-c"], &disk);
    let path = format!("/v2/images/{IMAGE}/file");
    let marked = |record: &Value, file: &[u8]| {
        let cloud = image(record, file);
        let mark = |when: When, value: &str| {
            let fault = Fault::Header("ETag", value.to_owned());
            cloud.glance.fault(when, fault);
        };
        mark(When::path(&path).times(1), "\"a\"");
        mark(When::path(&path).skip(1).always(), "\"b\"");
        cloud
    };
    for (record, file) in [
        (record("qcow2", "bare", &qcow2), &qcow2),
        (record("raw", "compressed", &packed), &packed),
    ] {
        let (result, found) = staged(&marked(&record, file), &["--verify=full"]).await;
        assert_eq!(result.unwrap(), verified(file));
        assert!(found.unwrap() == disk);
    }
    // No hash decides.
    for (result, _) in [
        run(&marked(&record("qcow2", "bare", &qcow2), &qcow2), &[]).await,
        staged(
            &marked(&record("raw", "compressed", &packed), &packed),
            &["--verify=off"],
        )
        .await,
    ] {
        failure(result, Exit::SourceProtocol, &["changed while it was read"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_little_room_is_found_before_the_download() {
    let qemu = Qemu::new();
    let raw = qemu.raw("disk.raw", &vec![5; 3 << 20]);
    let qcow2 = fs::read(qemu.convert(&raw, "qcow2", &[])).unwrap();
    let cloud = rangeless(&record("qcow2", "bare", &qcow2), &qcow2);
    let volume = Volume::tmpfs(1 << 20);
    let folder = volume.path("");
    let flag = format!("--scratch-dir={}", folder.display());
    for flags in [&[&*flag][..], &[&flag, "--check"]] {
        let (result, found) = run(&cloud, flags).await;
        let (size, folder) = (qcow2.len().to_string(), folder.display().to_string());
        let needles = ["--scratch-dir", &folder, "1048576 bytes free", &size];
        failure(result, Exit::Configuration, &needles);
        assert_eq!(found, None);
    }
    let (result, _) = run(&cloud, &["--scratch-dir=/does/not/exist"]).await;
    failure(result, Exit::Configuration, &["/does/not/exist"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_file_does_not_unpack_to_any_size() {
    let qemu = Qemu::new();
    let bomb = vec![0; 64 << 20];
    let packed = qemu.pack("xz", &["-c", "-0"], &bomb);
    let cloud = image(&record("raw", "compressed", &packed), &packed);
    // The target is a file: what the folder has free is the limit, although zeroes take no room there.
    let volume = Volume::tmpfs(32 << 20);
    let flag = format!("--scratch-dir={}", volume.path("").display());
    let (result, found) = run(&cloud, &[&flag]).await;
    failure(result, Exit::Configuration, &["unpacks to more", "zeroes"]);
    assert_eq!(found, None);

    // The target is a device.
    let device = LoopDevice::new(8 << 20, 512);
    let before = fs::read(device.path()).unwrap();
    let mut run = Run::new();
    run.device = Some(device.path().into());
    let result = run.go(&cloud, PASSWORD, &[&flag, "--force"]).await;
    failure(
        result,
        Exit::TargetTooSmall,
        &["unpacks to more", "8388608"],
    );
    assert!(fs::read(device.path()).unwrap() == before);
}

/// The record says what the bound is; the first bytes say it only where the record leaves it open.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_file_unpacks_to_is_bound_by_its_record() {
    let qemu = Qemu::new();
    let volume = Volume::tmpfs(8 << 20);
    let folder = format!("--scratch-dir={}", volume.path("").display());
    let starts: [(&[u8], Option<&str>); 4] = [
        (b"LUKS\xba\xbe", None),
        (b"\x1f\x8b\x08", None),
        (b"QFI\xfb", Some("first bytes are those of qcow2")),
        (b"vhdxfile", Some("first bytes are those of vhdx")),
    ];
    for (start, refusal) in starts {
        // More zeroes than the folder has room for.
        let mut disk = vec![0; 16 << 20];
        disk[..start.len()].copy_from_slice(start);
        let packed = qemu.pack("gzip", &["-c"], &disk);
        let cloud = image(&record("raw", "compressed", &packed), &packed);
        for (size, exit) in [
            (16 << 20, None),
            ((16 << 20) - 1024, Some(Exit::TargetTooSmall)),
        ] {
            let device = LoopDevice::new(size, 512);
            let mut run = Run::new();
            run.device = Some(device.path().into());
            let result = run.go(&cloud, PASSWORD, &[&folder, "--force"]).await;
            match (refusal, exit) {
                (Some(refusal), _) => failure(result, Exit::SourceUnusable, &[refusal]),
                (None, Some(exit)) => failure(result, exit, &["unpacks to more"]),
                (None, None) => {
                    assert_eq!(result.unwrap(), verified(&packed));
                    assert!(fs::read(device.path()).unwrap() == disk);
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_downloads_nothing() {
    let object = Object::new(1 << 40, |_, buffer| buffer.fill(0));
    let record = json!({"disk_format": "qcow2", "container_format": "compressed"});
    let cloud = Cloud::new(&record, object);
    let (result, found) = staged(&cloud, &["--check"]).await;
    let size = (1_u64 << 40).to_string();
    failure(result, Exit::Configuration, &[&size, "bytes free"]);
    assert_eq!(
        (found, downloads(&cloud)),
        (None, 1),
        "it asks for one byte"
    );

    let qemu = Qemu::new();
    let raw = qemu.raw("disk.raw", &qemu::disk(8, 2 << 20, 100_000));
    let qcow2 = fs::read(qemu.convert(&raw, "qcow2", &[])).unwrap();
    let cloud = rangeless(&self::record("qcow2", "bare", &qcow2), &qcow2);
    let (result, found) = staged(&cloud, &["--check"]).await;
    assert_eq!((result.unwrap(), found), (Done::Checked, None));
    assert_eq!(downloads(&cloud), 1);
}

/// What a check can see without the download, it sees with a folder too.
#[tokio::test(flavor = "multi_thread")]
async fn a_check_reads_the_tables_where_there_are_ranges() {
    let qemu = Qemu::new();
    let mut disk = qemu::disk(15, 2 << 20, 100_000);
    disk.resize(4 << 20, 0);
    let raw = qemu.raw("disk.raw", &disk);
    let qcow2 = fs::read(qemu.convert(&raw, "qcow2", &[])).unwrap();
    let cut = &qcow2[..qcow2.len() / 2];
    let (small, large) = (Volume::tmpfs(1 << 20), Volume::tmpfs(16 << 20));
    let device = LoopDevice::new(3 << 20, 512);
    for (file, volume, device, expected) in [
        (&qcow2[..], &large, None, Ok(())),
        (
            &qcow2,
            &small,
            None,
            Err((Exit::Configuration, "bytes free")),
        ),
        (cut, &large, None, Err((Exit::SourceUnusable, "qcow2"))),
        (
            &qcow2,
            &large,
            Some(&device),
            Err((Exit::TargetTooSmall, "4194304")),
        ),
    ] {
        let cloud = image(&record("qcow2", "bare", file), file);
        let folder = format!("--scratch-dir={}", volume.path("").display());
        let mut run = Run::new();
        run.device = device.map(|device| device.path().into());
        let flags = [&*folder, "--verify=full", "--check"];
        let result = run.go(&cloud, PASSWORD, &flags).await;
        match expected {
            Ok(()) => assert_eq!(result.unwrap(), Done::Checked),
            Err((exit, needle)) => failure(result, exit, &[needle]),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn full_verification_reads_the_whole_file() {
    let qemu = Qemu::new();
    let mut disk = qemu::disk(9, 6 << 20, 100_000);
    disk.resize(16 << 20, 0);
    let raw = qemu.raw("disk.raw", &disk);
    for arguments in [&[][..], &["-c"]] {
        let qcow2 = fs::read(qemu.convert(&raw, "qcow2", arguments)).unwrap();
        let cloud = image(&record("qcow2", "bare", &qcow2), &qcow2);
        for flags in [
            &["--verify=full"][..],
            &["--verify=full", "--connections=1"],
        ] {
            let (result, found) = run(&cloud, flags).await;
            assert_eq!(result.unwrap(), verified(&qcow2));
            assert!(found.unwrap() == disk);
        }
        let (result, found) = run(&cloud, &["--verify=full", "--check"]).await;
        assert_eq!((result.unwrap(), found), (Done::Checked, None));
        for flags in [&[][..], &["--verify=off"]] {
            let (result, _) = run(&cloud, flags).await;
            assert_eq!(result.unwrap(), Done::Copied { verified: None });
        }

        // A byte that no table names: nothing but the hash of the file knows of it.
        let mut padded = qcow2.clone();
        padded.resize(padded.len() + 65_536, 0);
        let record = record("qcow2", "bare", &padded);
        *padded.last_mut().unwrap() = 1;
        let cloud = image(&record, &padded);
        let (result, found) = run(&cloud, &["--verify=full"]).await;
        failure(result, Exit::HashMismatch, &[&sha512(&padded).hex]);
        assert_eq!(found, None);
        let (result, found) = staged(&cloud, &["--verify=full"]).await;
        failure(result, Exit::HashMismatch, &[&sha512(&padded).hex]);
        assert_eq!(found, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn full_verification_downloads_once_where_there_is_a_folder_for_it() {
    let qemu = Qemu::new();
    let disk = qemu::disk(10, 4 << 20, 100_000);
    let raw = qemu.raw("disk.raw", &disk);
    let qcow2 = fs::read(qemu.convert(&raw, "qcow2", &[])).unwrap();
    let cloud = image(&record("qcow2", "bare", &qcow2), &qcow2);
    let (result, found) = staged(&cloud, &["--verify=full", "--connections=1"]).await;
    assert_eq!(result.unwrap(), verified(&qcow2));
    assert!(found.unwrap() == disk);
    // The look at whether ranges are served, and the download.
    assert_eq!(downloads(&cloud), 2);

    let cloud = image(&json!({"disk_format": "qcow2"}), &qcow2);
    for flags in [&["--verify=full"][..], &["--verify=full", "--check"]] {
        let (result, found) = staged(&cloud, flags).await;
        failure(result, Exit::SourceUnusable, &["--verify=full"]);
        assert_eq!(found, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_stops_when_it_is_asked_to() {
    let qemu = Qemu::new();
    let raw = qemu.raw("disk.raw", &qemu::disk(11, 2 << 20, 100_000));
    let qcow2 = fs::read(qemu.convert(&raw, "qcow2", &[])).unwrap();
    let cloud = Arc::new(rangeless(&record("qcow2", "bare", &qcow2), &qcow2));
    let gate = Gate::new();
    let path = format!("/v2/images/{IMAGE}/file");
    cloud
        .glance
        .fault(When::path(&path), Fault::stall(500_000, &gate));
    let scratch = tempfile::tempdir().unwrap();
    let flag = format!("--scratch-dir={}", scratch.path().display());
    let mut run = Run::new();
    let job = run.job(&cloud, PASSWORD, &[&flag]);
    let (result, ()) = tokio::join!(job, async {
        let (watched, folder) = (Arc::clone(&cloud), scratch.path().to_owned());
        let held = tokio::task::spawn_blocking(move || {
            watched.glance.wait_for_held(1);
            // The server may be that far before the file is made.
            while open_files(&folder) == 0 {
                std::thread::yield_now();
            }
        });
        held.await.unwrap();
        run.stop.take().unwrap().pull();
    });
    failure(result, Exit::Terminated, &[]);
    gate.open();
    assert_eq!(open_files(scratch.path()), 0);
    assert!(!run.target().exists());
}
