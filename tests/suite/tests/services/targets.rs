//! Every kind of target, from both sources.

use std::path::Path;

use contract::{Exit, args::flag};
use suite::{
    Engine, Glance, assert_exit, assert_untouched, folder, mover::assert_failure, openstack, ovirt,
};
use testkit::{Command, Disk, LoopDevice, Volume, image};

use crate::{MIB, mib};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Ovirt,
    Openstack,
}

const BOTH: [Source; 2] = [Source::Ovirt, Source::Openstack];

/// A mover from the given source, and a check of the source afterwards.
fn mover(source: Source, folder: &Path, disk: &Disk, target: &Path) -> (Command, Box<dyn Fn()>) {
    match source {
        Source::Ovirt => {
            let engine = Engine::default();
            let disk = engine.raw_disk(folder, disk);
            let command = ovirt(&disk, &engine.user(), target);
            (command, Box::new(move || disk.wait_until_tidy()))
        }
        Source::Openstack => {
            let image = Glance::default().image(folder, disk);
            (openstack(&image, target), Box::new(|| ()))
        }
    }
}

fn layout() -> Disk {
    let size = mib(24) + 3 * 512;
    let end = size as u64;
    Disk::sparse(1, size, &[4096..MIB, 5 * MIB..9 * MIB + 512, 20 * MIB..end])
}

#[test]
fn a_block_device_full_of_old_data() {
    for (source, sector) in BOTH
        .iter()
        .flat_map(|source| [(*source, 512), (*source, 4096)])
    {
        let (folder, disk) = (folder(), layout());
        let device = LoopDevice::new(25 * MIB, sector);
        let (command, check) = mover(source, folder.path(), &disk, device.path());
        assert_exit(&command.run(), Exit::Success);
        disk.assert_on(device.path());
        // A larger device is normal; the bytes behind the disk do not matter. A device writes whole
        // sectors, so the rest of the last one may be zeroed.
        assert_untouched(device.path(), disk.size().next_multiple_of(4096));
        check();
    }
}

#[test]
fn a_block_device_stays_thin() {
    for source in BOTH {
        let (folder, disk) = (
            folder(),
            Disk::sparse(2, mib(64), &[0..MIB, 63 * MIB..64 * MIB]),
        );
        let device = LoopDevice::new(64 * MIB, 512);
        let (command, check) = mover(source, folder.path(), &disk, device.path());
        assert_exit(&command.run(), Exit::Success);
        disk.assert_on(device.path());
        let occupied = device.allocated_bytes();
        assert!(
            occupied <= 4 * MIB,
            "{source:?}: {occupied} bytes for 2 MiB of data"
        );
        check();
    }
}

#[test]
fn a_device_that_is_too_small() {
    for source in BOTH {
        let (folder, disk) = (folder(), Disk::random(3, mib(8) + 512));
        let device = LoopDevice::new(8 * MIB, 512);
        let (command, check) = mover(source, folder.path(), &disk, device.path());
        let size = disk.size().to_string();
        assert_failure(&command.run(), Exit::TargetTooSmall, &[&size, "8388608"]);
        assert_untouched(device.path(), 0);
        check();
    }
}

#[test]
fn a_longer_old_file() {
    for source in BOTH {
        let (folder, disk) = (folder(), layout());
        let target = folder.path().join("target");
        suite::filled_file(&target, 40 * MIB);
        let (command, check) = mover(source, folder.path(), &disk, &target);
        assert_exit(&command.run(), Exit::TargetExists);
        assert_untouched(&target, 0);
        assert_eq!(image::size_of(&target), 40 * MIB);
        assert_exit(&command.arg("--force").run(), Exit::Success);
        disk.assert_on(&target);
        let occupied = image::allocated_bytes(&target);
        assert!(
            occupied <= disk.data_bytes() + 2 * MIB,
            "{source:?}: {occupied}"
        );
        check();
    }
}

#[test]
fn a_fresh_file_can_be_used_by_the_group_of_kubevirt() {
    use std::os::unix::fs::MetadataExt;
    for source in BOTH {
        let (folder, disk) = (folder(), Disk::random(4, mib(1)));
        let target = folder.path().join("target");
        let (command, _) = mover(source, folder.path(), &disk, &target);
        assert_exit(&command.run(), Exit::Success);
        let mode = std::fs::metadata(&target).unwrap().mode() & 0o777;
        assert_eq!(mode & 0o660, 0o660, "{source:?}: mode {mode:o}");
        assert_eq!(mode & 0o007, 0, "{source:?}: mode {mode:o}");
    }
}

#[test]
fn a_full_file_system() {
    for source in BOTH {
        for volume in [Volume::tmpfs(6 * MIB), Volume::ext4(8 * MIB)] {
            let (folder, disk) = (folder(), Disk::random(5, mib(16)));
            let (command, check) = mover(source, folder.path(), &disk, &volume.path("disk.img"));
            assert_exit(&command.run(), Exit::TargetFull);
            check();
        }
    }
}

#[test]
fn a_small_file_system_holds_a_large_sparse_disk() {
    for source in BOTH {
        let volume = Volume::ext4(16 * MIB);
        let (folder, disk) = (
            folder(),
            Disk::sparse(6, mib(96), &[0..2 * MIB, 90 * MIB..92 * MIB]),
        );
        let target = volume.path("disk.img");
        let (command, check) = mover(source, folder.path(), &disk, &target);
        assert_exit(&command.run(), Exit::Success);
        disk.assert_on(&target);
        check();
    }
}

#[test]
fn a_target_that_cannot_be_made() {
    for source in BOTH {
        let (folder, disk) = (folder(), Disk::random(7, mib(1)));
        let target = folder.path().join("no-such-folder/target");
        let (command, check) = mover(source, folder.path(), &disk, &target);
        let run = command.run();
        assert_exit(&run, Exit::TargetDenied);
        assert!(run.output().contains("no-such-folder"), "{}", run.output());
        check();
    }
}

#[test]
fn zeroes_inside_data_can_be_kept_as_data() {
    for source in BOTH {
        let (folder, disk) = (folder(), Disk::picture("A0B0", mib(4)));
        let target = folder.path().join("target");
        let (command, check) = mover(source, folder.path(), &disk, &target);
        let run = command.flag(flag::DETECT_ZEROES, "off").run();
        assert_exit(&run, Exit::Success);
        disk.assert_on(&target);
        check();
    }
}
