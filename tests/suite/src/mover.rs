//! Command lines of the movers.

use std::{fs, path::Path};

use contract::{
    Exit,
    args::{flag, secret},
};
use testkit::{Command, Finished};

use crate::{EngineDisk, Image, User, binary, glance, variable};

/// `ovirt-populator` for a disk, with the user's credentials in the environment.
#[track_caller]
pub fn ovirt(disk: &EngineDisk, user: &User, target: &Path) -> Command {
    Command::new(binary("ovirt-populator"))
        .flag(flag::ENGINE_URL, variable("ENGINE_URL"))
        .flag(flag::DISK_ID, &disk.id)
        .flag(flag::VOLUME_PATH, target)
        .env(secret::USER, &user.name)
        .env(secret::PASSWORD, &user.password)
        .env(secret::CACERT, authority())
}

/// `openstack-populator` for an image, as the user `fork` with project scope, over HTTP.
#[track_caller]
pub fn openstack(image: &Image, target: &Path) -> Command {
    openstack_disk(flag::IMAGE_ID, &image.id, target)
}

/// The same for the disk that a flag names.
#[track_caller]
pub fn openstack_disk(flag: &str, id: &str, target: &Path) -> Command {
    bare(flag, id, &variable("KEYSTONE_URL"), target)
        .env(secret::USERNAME, "fork")
        .env(secret::PASSWORD, glance::PASSWORD)
        .env(secret::PROJECT_NAME, "migrate")
        .env(secret::DOMAIN_NAME, "Default")
        .env(secret::REGION_NAME, "RegionOne")
}

/// `openstack-populator` without credentials.
#[track_caller]
pub fn openstack_bare(image: &str, keystone: &str, target: &Path) -> Command {
    bare(flag::IMAGE_ID, image, keystone, target)
}

#[track_caller]
fn bare(flag: &str, id: &str, keystone: &str, target: &Path) -> Command {
    Command::new(binary("openstack-populator"))
        .flag(flag::ENDPOINT, keystone)
        .flag(flag, id)
        .flag(flag::VOLUME_PATH, target)
        .env(secret::CACERT, authority())
}

/// The authority that signed every certificate of the services, in PEM.
pub fn authority() -> String {
    fs::read_to_string(variable("SERVICES_CA")).unwrap()
}

/// Fails unless the run ended as given, with all its output.
#[track_caller]
pub fn assert_exit(finished: &Finished, exit: Exit) {
    let code = finished.code();
    let found = code.and_then(Exit::from_code);
    assert_eq!(found, Some(exit), "{code:?}: {}", finished.output());
}

/// Fails unless the run ended as given and its output holds all the words.
#[track_caller]
pub fn assert_failure(finished: &Finished, exit: Exit, words: &[&str]) {
    assert_exit(finished, exit);
    let output = finished.output();
    for word in words {
        assert!(output.contains(word), "no {word:?} in: {output}");
    }
}

/// Fails when one of the secrets is in the output.
#[track_caller]
pub fn assert_discreet<'a>(finished: &Finished, secrets: impl IntoIterator<Item = &'a str>) {
    let output = finished.output();
    for secret in secrets {
        assert!(!output.contains(secret), "{secret} is told in: {output}");
    }
}
