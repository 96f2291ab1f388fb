//! Started exactly as Forklift's controller does: its arguments, `envFrom` a secret, and a scrape.

use std::sync::{Mutex, PoisonError};

use contract::{Exit, metrics};
use serde_json::json;
use suite::{Engine, Glance, assert_exit, curl, eventually, folder, variable};
use testkit::{Command, Disk, image};

use crate::{MIB, mib};

const UID: &str = "0d9b3f0e-7c7e-4a43-9d52-0c5b6a6f8a10";

/// Forklift's port is fixed, so these take turns.
static PORT: Mutex<()> = Mutex::new(());

/// Percent done, read as Forklift does: `<name>\{ownerUID="<uid>"\} (\d+\.?\d*)`.
fn progress(name: &str) -> Option<f64> {
    let answer = curl::call("GET", "https://localhost:8443/metrics")
        .insecure()
        .send();
    if answer.status != 200 {
        return None;
    }
    let text = answer.text();
    let wanted = format!("{name}{{ownerUID=\"{UID}\"}} ");
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(&wanted))
        .unwrap_or_else(|| panic!("no {wanted:?} in {text}"));
    let plain = |c: char| c.is_ascii_digit() || c == '.';
    assert!(value.chars().all(plain), "{value:?} is no plain number");
    value.parse().ok()
}

/// Follows a run until it has ended; progress must move, never fall, and end with 100.
fn followed(command: &Command, name: &str) {
    let _turn = PORT.lock().unwrap_or_else(PoisonError::into_inner);
    let run = command.spawn();
    let mut seen = vec![];
    eventually("the progress is 100", || {
        seen.extend(progress(name));
        seen.last() == Some(&100.0)
    });
    assert_exit(&run.wait(), Exit::Success);
    assert!(seen.is_sorted(), "{seen:?}");
    let between = seen.iter().filter(|value| **value > 0.0 && **value < 100.0);
    assert!(between.count() > 2, "{seen:?}");
}

#[test]
fn ovirt() {
    let (engine, folder) = (Engine::default(), folder());
    let disk = Disk::random(1, mib(48));
    let source = engine
        .raw_disk(folder.path(), &disk)
        .with(&json!({ "bytes_per_second": 12 * MIB }));
    let user = engine.user();
    // A volume that was populated halfway before; a controller's volume may be overwritten.
    let target = folder.path().join("disk.img");
    suite::filled_file(&target, 64 * MIB);
    let command = Command::new(suite::binary("ovirt-populator"))
        .arg(format!("--volume-path={}", target.display()))
        .arg("--secret-name=plan-vm-secret")
        .arg(format!("--disk-id={}", source.id))
        .arg(format!("--engine-url={}", engine.url))
        .arg("--cr-name=vm-disk")
        .arg("--cr-namespace=target")
        .arg("--pvc-size=67108864")
        .arg(format!("--owner-uid={UID}"))
        .env("user", &user.name)
        .env("password", &user.password)
        .env("url", format!("{}/ovirt-engine/api", engine.url))
        .env("insecureSkipVerify", "false")
        .env("cacert", suite::mover::authority());
    followed(&command, metrics::OVIRT_PROGRESS);
    disk.assert_on(&target);
    source.assert_tidy("finished_success");
}

#[test]
fn openstack() {
    let folder = folder();
    let disk = Disk::random(2, mib(48));
    let source = Glance::default().image(folder.path(), &disk);
    let target = folder.path().join("disk.img");
    let command = openstack_as_forklift(&source.id, &target).env("regionName", "RegionSlow");
    followed(&command, metrics::OPENSTACK_PROGRESS);
    disk.assert_on(&target);
}

#[test]
fn openstack_with_an_image_that_is_converted_later() {
    let folder = folder();
    let (raw, qcow2) = (folder.path().join("raw"), folder.path().join("qcow2"));
    Disk::random(3, mib(2)).write_to(&raw);
    let converted = std::process::Command::new("qemu-img")
        .args(["convert", "-f", "raw", "-O", "qcow2"])
        .args([&raw, &qcow2])
        .status()
        .unwrap();
    assert!(converted.success());
    let source = Glance::default().upload(&qcow2, "qcow2");
    let target = folder.path().join("disk.img");
    let _turn = PORT.lock().unwrap_or_else(PoisonError::into_inner);
    let run = openstack_as_forklift(&source.id, &target)
        .arg("--metrics-linger=0s")
        .run();
    suite::mover::assert_failure(&run, Exit::Success, &["qcow2"]);
    image::assert_same(&qcow2, &target, image::size_of(&qcow2));
}

fn openstack_as_forklift(image: &str, target: &std::path::Path) -> Command {
    Command::new(suite::binary("openstack-populator"))
        .arg(format!("--volume-path={}", target.display()))
        .arg("--secret-name=plan-vm-secret")
        .arg(format!("--image-id={image}"))
        .arg(format!("--endpoint={}", variable("KEYSTONE_URL")))
        .arg("--cr-name=vm-disk")
        .arg("--cr-namespace=target")
        .arg("--pvc-size=67108864")
        .arg(format!("--owner-uid={UID}"))
        .env("authType", "password")
        .env("username", "fork")
        .env("password", suite::glance::PASSWORD)
        .env("domainName", "Default")
        .env("projectName", "migrate")
        .env("regionName", "RegionOne")
        .env("insecureSkipVerify", "")
        .env("cacert", suite::mover::authority())
        // Service links of Kubernetes and the like must not matter.
        .env("KUBERNETES_PORT", "tcp://10.96.0.1:443")
}
