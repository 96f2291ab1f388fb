//! The main job: a claim of each form, from each source, ends up bound to a volume with the disk's bytes.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::fs;

use e2e::{
    Kind, Mode, TestNamespace, mib,
    resource::{CLAIMS, PODS},
};
use populator_api::names::{annotation, event};
use serde_json::{Value, json};
use suite::{Glance, Image};
use testkit::{Disk, Qemu};

/// Data with holes, as disks are, and no multiple of a MiB.
fn disk(seed: u64) -> Disk {
    Disk::sparse(seed, mib(6) + 512, &[0..1 << 20, 3 << 20..(4 << 20) + 4096])
}

/// How a claim of a class that waits gets its node.
#[derive(Debug, Clone, Copy)]
enum Binding {
    /// The class does not wait.
    Immediate,
    /// A pod uses the claim.
    Consumer,
    /// No pod does: the annotation asks.
    Annotation(&'static str),
}

fn populate(kind: Kind, mode: Mode, binding: Binding) {
    let case = TestNamespace::new();
    let disk = disk(1);
    let source = case.source(kind, &disk);
    let claim = case.claim(&source).mode(mode);
    let claim = match binding {
        Binding::Immediate => claim.class("immediate").create(),
        Binding::Consumer => claim.class("wait").create(),
        Binding::Annotation(name) => claim.class("wait").annotation(name, "true").create(),
    };
    if matches!(binding, Binding::Consumer) {
        case.cluster
            .wait_for("the resource says that it waits", || {
                let status = case.status(&source);
                (status["conditions"][0]["reason"] == "WaitingForConsumer").then_some(())
            });
        assert!(claim.temporary().is_none());
        let consumer = case.pvcinit(&[&claim]);
        claim.wait_until_bound();
        case.cluster
            .wait_for("the consumer runs on the volume", || {
                let pod = case.get(PODS, &consumer)?;
                (pod["status"]["phase"] == "Running").then_some(())
            });
    }
    claim.assert_populated(&source, &disk);
    // With the pod's log the last thing of ours goes.
    case.delete(PODS, &claim.pod_name());
    case.wait_until_gone(CLAIMS, &claim.temporary_name());
    assert!(claim.is_bound());
    case.finish();
}

macro_rules! populated {
    ($($name:ident: $kind:ident $mode:ident $binding:expr;)*) => {$(
        #[test]
        fn $name() {
            populate(Kind::$kind, Mode::$mode, $binding);
        }
    )*};
}

populated! {
    ovirt_block: Ovirt Block Binding::Immediate;
    ovirt_block_with_a_consumer: Ovirt Block Binding::Consumer;
    ovirt_block_by_annotation: Ovirt Block Binding::Annotation(annotation::BIND_IMMEDIATELY);
    ovirt_filesystem: Ovirt Filesystem Binding::Immediate;
    ovirt_filesystem_with_a_consumer: Ovirt Filesystem Binding::Consumer;
    ovirt_filesystem_by_annotation: Ovirt Filesystem Binding::Annotation(annotation::CDI_BIND_IMMEDIATELY);
    openstack_block: Openstack Block Binding::Immediate;
    openstack_block_with_a_consumer: Openstack Block Binding::Consumer;
    openstack_block_by_annotation: Openstack Block Binding::Annotation(annotation::CDI_BIND_IMMEDIATELY);
    openstack_filesystem: Openstack Filesystem Binding::Immediate;
    openstack_filesystem_with_a_consumer: Openstack Filesystem Binding::Consumer;
    openstack_filesystem_by_annotation: Openstack Filesystem Binding::Annotation(annotation::BIND_IMMEDIATELY);
}

#[test]
fn a_claim_says_how_it_is_copied() {
    for kind in Kind::ALL {
        let case = TestNamespace::new();
        let disk = disk(3);
        let source = case.source(kind, &disk);
        let setting = |name: &str| format!("{}{name}", annotation::MOVER);
        let mut claim = case.claim(&source).class("immediate");
        let mut expected = Vec::new();
        for (name, value, argument) in [
            ("connections", "2", "2"),
            ("detect-zeroes", "off", "off"),
            ("log-format", "json", "json"),
            ("log-level", "debug", "debug"),
            ("no-progress-timeout", "1h30m", "5400s"),
            ("stall-timeout", "40s", "40s"),
            ("verify", "full", "full"),
        ] {
            claim = claim.annotation(&setting(name), value);
            expected.push(format!("--{name}={argument}"));
        }
        if kind == Kind::Ovirt {
            for (name, value) in [("inactivity-timeout", "90s"), ("locked-wait", "60s")] {
                claim = claim.annotation(&setting(name), value);
                expected.push(format!("--{name}={value}"));
            }
        }
        let claim = claim.create();
        claim.assert_populated(&source, &disk);
        let pod = claim.pod().unwrap();
        let arguments = pod["spec"]["containers"][0]["args"].as_array().unwrap();
        for argument in &expected {
            assert!(
                arguments.iter().any(|one| one == argument.as_str()),
                "{arguments:?}"
            );
        }
        case.finish();
    }
}

#[test]
fn a_setting_that_is_none_is_named_and_the_claim_goes_on_when_it_is_corrected() {
    let case = TestNamespace::new();
    let disk = disk(4);
    let source = case.source(Kind::Openstack, &disk);
    let name = format!("{}verify", annotation::MOVER);
    let claim = case.claim(&source).class("immediate");
    let claim = claim.annotation(&name, "ful").create();
    claim.wait_for_event(
        event::REFUSED,
        "mover-verify: \"ful\" is not one of auto, full, off",
    );
    case.wait_for_reason(&source, "Failed", "ClaimUnsupported");
    assert!(claim.pod().is_none());
    claim.annotate(&name, "off");
    claim.assert_populated(&source, &disk);
    case.finish();
}

#[test]
fn holes_read_as_zero_on_a_volume_that_was_not_blank() {
    holes_read_as_zero("dirty", false);
}

#[test]
fn holes_read_as_zero_on_a_volume_that_was_not_blank_and_waited_for_its_consumer() {
    holes_read_as_zero("wait-dirty", true);
}

/// The class's volumes hold 0xff until something is written.
fn holes_read_as_zero(class: &str, consumed: bool) {
    for kind in Kind::ALL {
        let case = TestNamespace::new();
        let disk = disk(2);
        let source = case.source(kind, &disk);
        let claim = case.claim(&source).class(class).create();
        if consumed {
            case.pvcinit(&[&claim]);
        }
        claim.assert_populated(&source, &disk);
        // The test does not look at the bytes behind the disk.
        let command = format!(
            "tail -c +{} /dev/target | head -c 4096 | sha256sum",
            disk.size() + 1
        );
        let behind = case.run_with(&claim, &command);
        let all_ff = case.run_with(
            &claim,
            "head -c 4096 /dev/zero | tr '\\000' '\\377' | sha256sum",
        );
        assert_eq!(behind, all_ff);
        case.finish();
    }
}

/// The cluster has one, and fills it in.
#[test]
fn a_claim_that_names_no_class_gets_the_default_one() {
    let case = TestNamespace::new();
    let disk = disk(6);
    let source = case.source(Kind::Openstack, &disk);
    let claim = case.claim(&source).with("storageClassName", Value::Null);
    let claim = claim.create();
    claim.assert_populated(&source, &disk);
    let class = claim.object().unwrap()["spec"]["storageClassName"].clone();
    assert_eq!(class, "immediate");
    case.finish();
}

#[test]
fn access_modes_and_sizes_are_those_of_the_claim() {
    let case = TestNamespace::new();
    let disk = disk(3);
    let source = case.source(Kind::Openstack, &disk);
    let modes = json!(["ReadWriteOncePod"]);
    let claim = case
        .claim(&source)
        .with("accessModes", modes.clone())
        .size("24Mi")
        .create();
    claim.assert_populated(&source, &disk);
    let volume = claim.wait_until_bound();
    assert_eq!(volume["spec"]["accessModes"], modes);
    assert_eq!(volume["spec"]["capacity"]["storage"], "24Mi");
    case.finish();
}

#[test]
fn one_resource_feeds_several_claims() {
    let case = TestNamespace::new();
    let disk = disk(4);
    let source = case.source(Kind::Openstack, &disk);
    let block = case.claim(&source).create();
    let file = case.claim(&source).mode(Mode::Filesystem).create();
    for claim in [&block, &file] {
        claim.wait_until_bound();
        case.assert_content(claim, &disk);
    }
    block.assert_populated(&source, &disk);
    let status = case.status(&source);
    let named = status["claims"].as_array().unwrap().iter();
    let mut named: Vec<_> = named.map(|claim| claim["name"].as_str().unwrap()).collect();
    named.sort_unstable();
    let mut wanted = [block.name.as_str(), file.name.as_str()];
    wanted.sort_unstable();
    assert_eq!(named, wanted, "{status}");
    case.finish();
}

/// A controller that looks a resource up by its name only would fill both from one disk.
#[test]
fn equal_names_in_two_namespaces_are_two_things() {
    let cases = [TestNamespace::new(), TestNamespace::new()];
    let made = [10, 11].map(disk);
    let mut claims = Vec::new();
    for (case, disk) in cases.iter().zip(&made) {
        let source = case.source(Kind::Ovirt, disk);
        let claim = case.claim(&source).named("root").create();
        claims.push((source, claim));
    }
    assert_eq!(claims[0].0.name, claims[1].0.name);
    for ((source, claim), disk) in claims.iter().zip(&made) {
        claim.assert_populated(source, disk);
    }
}

#[test]
fn a_name_that_is_no_label_and_one_that_is_long_go_through() {
    let case = TestNamespace::new();
    let disk = disk(5);
    let source = case.source(Kind::Openstack, &disk);
    let long = "n".repeat(200);
    for name in [&*long, "with.dots.and-dashes"] {
        let claim = case.claim(&source).named(name).create();
        claim.wait_until_bound();
        case.assert_content(&claim, &disk);
    }
    case.finish();
}

/// Claims of both modes get the disk that is in the image.
#[track_caller]
fn assert_arrives(case: &TestNamespace, image: &Image, disk: &Disk) {
    let source = case
        .prepare(Kind::Openstack, disk)
        .with_spec("imageId", &image.id);
    case.apply(&source);
    for mode in [Mode::Block, Mode::Filesystem] {
        let claim = case.claim(&source).mode(mode).create();
        claim.assert_populated(&source, disk);
    }
}

/// The volume holds the disk that is in the image, and not the image.
#[test]
fn the_disk_of_a_qcow2_image_is_populated() {
    let case = TestNamespace::new();
    let (qemu, disk) = (Qemu::new(), disk(5));
    let raw = qemu.path("disk.raw");
    disk.write_to(&raw);
    let image = Glance::default().upload(&qemu.convert(&raw, "qcow2", &["-c"]), "qcow2");
    assert_arrives(&case, &image, &disk);
    case.finish();
}

/// The size of a raw disk in a compressed file is known at its end only.
#[test]
fn the_disk_of_a_compressed_image_is_populated() {
    let case = TestNamespace::new();
    let (qemu, disk) = (Qemu::new(), disk(6));
    let raw = qemu.path("disk.raw");
    disk.write_to(&raw);
    let packed = qemu.pack("gzip", &["-c", "-1"], &fs::read(&raw).unwrap());
    let image = Glance::default().upload_compressed(&qemu.raw("packed", &packed), "raw");
    assert_arrives(&case, &image, &disk);
    case.finish();
}
