//! [`transfer::sink::open`]: what is taken for which kind of target, and what is refused.

use std::{fs, os::unix::fs::symlink, path::Path};

use rustix::fs::{FileType, Mode, mknodat};
use testkit::LoopDevice;
use transfer::{
    Kind,
    sink::{self, Overwrite},
};

use crate::support::assert_fails;

fn refused(path: &Path, words: &[&str]) {
    assert_fails(
        sink::open(path, Overwrite::Allow),
        Kind::TargetDenied,
        words,
    );
}

#[test]
fn anything_but_devices_and_files_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    refused(folder.path(), &["a folder"]);
    refused(Path::new("/dev/null"), &["a character device"]);
    let pipe = folder.path().join("pipe");
    mknodat(rustix::fs::CWD, &pipe, FileType::Fifo, Mode::RUSR, 0).unwrap();
    refused(&pipe, &["a named pipe"]);
    refused(&folder.path().join(".."), &["a folder"]);
}

#[test]
fn a_missing_folder_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    refused(
        &missing.join("disk.img"),
        &["folder", missing.to_str().unwrap(), "does not exist"],
    );
    fs::write(&missing, "").unwrap();
    refused(&missing.join("disk.img"), &["is no folder"]);
}

#[test]
fn a_file_is_not_written_through_a_link() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("link");
    symlink(folder.path().join("gone"), &link).unwrap();
    refused(&link, &["symbolic link", "gone", "does not exist"]);
    assert!(!folder.path().join("gone").exists());

    for content in ["", "precious"] {
        fs::write(folder.path().join("gone"), content).unwrap();
        refused(&link, &["symbolic link", link.to_str().unwrap(), "itself"]);
        // Opened all the same, as if the link had taken the file's place meanwhile.
        let opened = sink::FileSink::open(&link, Overwrite::Allow);
        assert_fails(opened, Kind::TargetDenied, &["symbolic link"]);
        assert_eq!(
            fs::read_to_string(folder.path().join("gone")).unwrap(),
            content
        );
    }
    // One that takes the place of a file that is not there yet.
    let late = folder.path().join("late");
    let sink = sink::open(&late, Overwrite::Allow).unwrap();
    symlink(folder.path().join("gone"), &late).unwrap();
    assert_fails(sink.prepare(5), Kind::TargetDenied, &["symbolic link"]);
    assert_eq!(fs::read(folder.path().join("gone")).unwrap(), b"precious");
}

#[test]
fn a_link_to_a_device_is_followed_if_root_or_we_own_it() {
    let folder = tempfile::tempdir().unwrap();
    let device = LoopDevice::new(1 << 20, 512);
    let link = folder.path().join("device");
    symlink(device.path(), &link).unwrap();
    let sink = sink::open(&link, Overwrite::Refuse).unwrap();
    assert_eq!(sink.capacity(), 1 << 20);
    std::os::unix::fs::lchown(&link, Some(107), None).unwrap();
    refused(&link, &["symbolic link", "uid 107", "itself"]);
}

#[test]
fn a_link_to_itself_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("link");
    symlink(&link, &link).unwrap();
    refused(&link, &["link"]);
}
