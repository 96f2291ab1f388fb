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
fn links_are_followed_unless_they_lead_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("link");
    symlink(folder.path().join("gone"), &link).unwrap();
    refused(&link, &["symbolic link", "gone", "does not exist"]);
    assert!(!folder.path().join("gone").exists());

    fs::write(folder.path().join("gone"), "").unwrap();
    let sink = sink::open(&link, Overwrite::Refuse).unwrap();
    sink.prepare(5).unwrap();
    sink.close().unwrap();
    assert_eq!(fs::read(folder.path().join("gone")).unwrap(), [0; 5]);

    let device = LoopDevice::new(1 << 20, 512);
    let link = folder.path().join("device");
    symlink(device.path(), &link).unwrap();
    let sink = sink::open(&link, Overwrite::Refuse).unwrap();
    assert_eq!(sink.capacity(), 1 << 20);
}

#[test]
fn a_link_to_itself_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("link");
    symlink(&link, &link).unwrap();
    refused(&link, &["link"]);
}
