//! Runs with a scratch folder, and the images for them.

use std::{fs, path::Path};

use mover::{Done, Failure};
use serde_json::{Value, json};
use testkit::{Fault, When};
use transfer::{Algorithm, Digest};

use super::{
    Cloud, IMAGE,
    run::{image, run},
};

pub fn sha512(bytes: &[u8]) -> Digest {
    Digest::of(Algorithm::Sha512, bytes)
}

/// The record of an image of this file, with its hash.
pub fn record(disk_format: &str, container_format: &str, file: &[u8]) -> Value {
    json!({
        "disk_format": disk_format, "container_format": container_format,
        "os_hash_algo": "sha512", "os_hash_value": sha512(file).hex,
    })
}

/// A cloud with this file; its store has no ranges.
pub fn rangeless(record: &Value, file: &[u8]) -> Cloud {
    let cloud = image(record, file);
    cloud
        .glance
        .fault(When::ranged().always(), Fault::IgnoreRange);
    cloud
}

/// How often the file was asked for.
pub fn downloads(cloud: &Cloud) -> usize {
    let file = format!("/v2/images/{IMAGE}/file");
    let requests = cloud.glance.requests();
    requests
        .iter()
        .filter(|request| request.path() == file)
        .count()
}

/// How many files in the folder this process has open. They have no name: who looks there sees nothing of them.
pub fn open_files(folder: &Path) -> usize {
    let folder = folder.canonicalize().unwrap();
    let open = fs::read_dir("/proc/self/fd").unwrap();
    let targets = open.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    targets.filter(|target| target.starts_with(&folder)).count()
}

/// A run with a scratch folder, in which nothing may be left.
pub async fn staged(cloud: &Cloud, flags: &[&str]) -> (Result<Done, Failure>, Option<Vec<u8>>) {
    let scratch = tempfile::tempdir().unwrap();
    let flag = format!("--scratch-dir={}", scratch.path().display());
    let result = run(cloud, &[flags, &[&flag]].concat()).await;
    assert_eq!(open_files(scratch.path()), 0);
    result
}

pub fn verified(file: &[u8]) -> Done {
    Done::Copied {
        verified: Some(sha512(file)),
    }
}
