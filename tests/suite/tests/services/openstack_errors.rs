//! OpenStack: what cannot be copied, and what goes wrong on the way.

use contract::{Exit, args::flag};
use suite::{
    Glance, assert_exit, eventually, folder, mover::assert_failure, openstack, uuid, variable,
};
use testkit::{Command, Disk, process::Signal};

use crate::{MIB, mib};

#[test]
fn an_unknown_image() {
    let folder = folder();
    let mut image = Glance::default().queued("raw");
    image.id = uuid();
    let run = openstack(&image, &folder.path().join("target")).run();
    assert_failure(&run, Exit::SourceMissing, &[&image.id]);
}

#[test]
fn an_image_of_another_project() {
    let folder = folder();
    let image = Glance::default().image(folder.path(), &Disk::random(1, mib(1)));
    let run = openstack(&image, &folder.path().join("target"))
        .env("username", "fork2")
        .env("projectName", "other")
        .run();
    assert_failure(&run, Exit::SourceMissing, &[&image.id]);
}

#[test]
fn a_role_that_may_only_look() {
    let folder = folder();
    let image = Glance::default().image(folder.path(), &Disk::random(1, mib(1)));
    let target = folder.path().join("target");
    let run = openstack(&image, &target).env("username", "ro").run();
    assert_failure(&run, Exit::Permission, &[&image.id]);
    // A preflight finds it, too.
    let run = openstack(&image, &target)
        .env("username", "ro")
        .arg("--check")
        .run();
    assert_exit(&run, Exit::Permission);
}

#[test]
fn a_deactivated_image() {
    let folder = folder();
    let image = Glance::default().image(folder.path(), &Disk::random(1, mib(1)));
    Glance::admin().deactivate(&image);
    let run = openstack(&image, &folder.path().join("target")).run();
    assert_failure(&run, Exit::SourceUnusable, &["deactivated"]);
}

#[test]
fn an_image_without_data() {
    let folder = folder();
    let image = Glance::default().queued("raw");
    let run = openstack(&image, &folder.path().join("target")).run();
    assert_failure(&run, Exit::SourceUnusable, &["queued"]);
}

/// What Nova makes of a server that was booted from a volume, and an upload of nothing: active
/// both, and Glance states the right hash of no bytes. This Glance takes none of another format
/// than raw.
#[test]
fn an_active_image_without_a_byte_is_no_disk() {
    const SNAPSHOT: &str = "9df0a5f6-5a70-4bd7-8e5d-2e2a2e7b1c11";
    // Two disks to boot from: the mover does not choose.
    let mapping = format!(
        r#"[{{"boot_index": 0, "snapshot_id": "{SNAPSHOT}", "source_type": "snapshot", "volume_size": 1}},
            {{"boot_index": 1, "snapshot_id": "second", "source_type": "snapshot", "volume_size": 1}}]"#
    );
    let folder = folder();
    let glance = Glance::default();
    let held = folder.path().join("held");
    suite::filled_file(&held, MIB);
    for (image, words) in [
        (
            glance.of_a_server(folder.path(), "raw", &mapping),
            &[
                SNAPSHOT,
                "snapshot second",
                "openstack volume create --snapshot",
            ][..],
        ),
        (
            glance.of_a_server(folder.path(), "raw", "no JSON"),
            &["booted from a volume", "openstack volume snapshot list"],
        ),
        (
            glance.image(folder.path(), &Disk::empty(0)),
            &["holds no data"],
        ),
    ] {
        let record = image.metadata();
        assert_eq!(
            (&record["status"], &record["size"]),
            (&"active".into(), &0.into())
        );
        assert!(record["os_hash_value"].is_string(), "{record}");
        for flags in [
            &[][..],
            &["--verbatim"],
            &["--check"],
            &["--check", "--verbatim"],
            &["--cr-name=c", "--owner-uid=u", "--pvc-size=1048576"],
            &["--cr-name=c", "--owner-uid=u", "--verbatim=true"],
            &["--cr-name=c", "--owner-uid=u", "--verbatim=false"],
        ] {
            let run = |target: &std::path::Path| {
                let command = openstack(&image, target).arg("--force");
                let run = flags.iter().fold(command, Command::arg).run();
                assert_failure(&run, Exit::SourceUnusable, words);
                assert!(!run.output().contains("--verbatim"), "{}", run.output());
            };
            run(&held);
            suite::assert_untouched(&held, 0);
            assert_eq!(testkit::image::size_of(&held), MIB);
            let target = folder.path().join("target");
            run(&target);
            assert!(!target.exists());
        }
    }
}

#[test]
fn an_image_whose_upload_was_refused() {
    let folder = folder();
    let (path, image) = (folder.path().join("raw"), Glance::default().queued("qcow2"));
    Disk::random(2, mib(1)).write_to(&path);
    // Raw bytes are no qcow2; the record goes back to queued, with the hashes of what was refused.
    image.put(&path).expect(415);
    let run = openstack(&image, &folder.path().join("target"))
        .arg("--verbatim")
        .run();
    assert_failure(&run, Exit::SourceUnusable, &["queued"]);
}

#[test]
fn a_blob_that_is_lost() {
    let folder = folder();
    let image = Glance::default().image(folder.path(), &Disk::random(3, mib(1)));
    image.lose_blob();
    // The answer decides, however slow it is.
    let run = openstack(&image, &folder.path().join("target")).run();
    assert_failure(&run, Exit::SourceUnusable, &[&image.id]);
}

#[test]
fn a_blob_that_is_too_short() {
    let folder = folder();
    let image = Glance::default().image(folder.path(), &Disk::random(4, mib(8)));
    image.truncate_blob(3 * MIB);
    let run = openstack(&image, &folder.path().join("target"))
        .flag(flag::NO_PROGRESS_TIMEOUT, "2s")
        .run();
    let code = run.code().and_then(Exit::from_code);
    // However often it is asked for, the rest does not come.
    let named = [
        Exit::SourceUnavailable,
        Exit::SourceProtocol,
        Exit::SourceUnusable,
    ];
    assert!(
        code.is_some_and(|exit| named.contains(&exit)),
        "{}",
        run.output()
    );
}

#[test]
fn a_blob_that_is_corrupt() {
    let (folder, disk) = (folder(), Disk::random(5, mib(8)));
    let image = Glance::default().image(folder.path(), &disk);
    image.corrupt_blob(5 * MIB);
    let target = folder.path().join("target");
    let wanted = image.metadata()["os_hash_value"]
        .as_str()
        .unwrap()
        .to_owned();
    let run = openstack(&image, &target).run();
    // Expected and computed.
    assert_failure(&run, Exit::HashMismatch, &["sha512", &wanted]);
    let run = openstack(&image, &target)
        .arg("--force")
        .flag(flag::VERIFY, "off")
        .run();
    assert_exit(&run, Exit::Success);
    assert!(disk.first_difference(&target).is_some());
}

#[test]
fn a_token_that_expires_on_the_way() {
    let (folder, disk) = (folder(), Disk::random(6, mib(64)));
    let image = Glance::default().image(folder.path(), &disk);
    let target = folder.path().join("target");
    // Tokens live for 10 s, and this takes 16 s; longer when another test reads slowly at the same
    // time. With two connections several ranges are asked for, the last ones after the token's life.
    let run = suite::mover::openstack_bare(&image.id, &variable("KEYSTONE_SHORT_URL"), &target)
        .flag(flag::CONNECTIONS, "2")
        .env("username", "fork")
        .env("password", suite::glance::PASSWORD)
        .env("domainName", "Default")
        .env("projectName", "migrate")
        .env("regionName", "RegionSlow")
        .run();
    assert_exit(&run, Exit::Success);
    // Were the copy quicker than a token's life, nothing would be tested.
    let renewal = "the token is no longer accepted";
    assert!(run.output().contains(renewal), "{}", run.output());
    disk.assert_on(&target);
}

#[test]
fn a_token_that_expires_and_cannot_be_renewed() {
    let (folder, disk) = (folder(), Disk::random(7, mib(64)));
    let image = Glance::default().image(folder.path(), &disk);
    let target = folder.path().join("target");
    let keystone = variable("KEYSTONE_SHORT_URL");
    let token =
        suite::glance::token_at(&keystone, "fork", suite::glance::PASSWORD, Some("migrate"));
    let run = suite::mover::openstack_bare(&image.id, &keystone, &target)
        .flag(flag::CONNECTIONS, "2")
        .env("authType", "token")
        .env("token", &token)
        .env("regionName", "RegionSlow")
        .run();
    assert_failure(&run, Exit::Credentials, &["token"]);
    suite::mover::assert_discreet(&run, [token.as_str()]);
}

#[test]
fn a_signal_during_the_copy() {
    for (signal, exit) in [
        (Signal::TERM, Exit::Terminated),
        (Signal::INT, Exit::Interrupted),
    ] {
        let (folder, disk) = (folder(), Disk::random(8, mib(64)));
        let image = Glance::default().image(folder.path(), &disk);
        let target = folder.path().join("target");
        let run = openstack(&image, &target)
            .flag(flag::CONNECTIONS, "1")
            .env("regionName", "RegionSlow")
            .spawn();
        eventually("something was written", || {
            target.exists() && testkit::image::allocated_bytes(&target) > 0
        });
        run.signal(signal);
        assert_exit(&run.wait(), exit);
    }
}
