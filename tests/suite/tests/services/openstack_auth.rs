//! OpenStack: every way to prove who one is, and every way to find the image service.

use contract::{Exit, args::secret};
use suite::{
    Glance, Image, assert_exit, folder,
    glance::{self, PASSWORD},
    mover::{assert_failure, openstack_bare},
    variable,
};
use testkit::{Command, Disk};

const DISK: usize = 70_000;

/// Copies a small image with these keys and at this identity service.
#[track_caller]
fn downloads(image: &Image, disk: &Disk, keystone: &str, keys: &[(&str, &str)]) {
    let folder = folder();
    let target = folder.path().join("target");
    let run = with(openstack_bare(&image.id, keystone, &target), keys).run();
    assert_eq!(run.code(), Some(0), "{keys:?}: {}", run.output());
    disk.assert_on(&target);
}

/// Must fail with these keys.
#[track_caller]
fn fails(image: &Image, keys: &[(&str, &str)], exit: Exit, words: &[&str]) {
    let folder = folder();
    let target = folder.path().join("target");
    let command = openstack_bare(&image.id, &variable("KEYSTONE_URL"), &target);
    assert_failure(&with(command, keys).run(), exit, words);
    assert!(!target.exists());
}

fn with(command: Command, keys: &[(&str, &str)]) -> Command {
    let mut keys = keys.iter();
    keys.try_fold(command, |command, (key, value)| {
        Some(command.env(key, value))
    })
    .unwrap()
}

fn image() -> (tempfile::TempDir, Disk, Image) {
    let (folder, disk) = (folder(), Disk::random(1, DISK));
    let image = Glance::default().image(folder.path(), &disk);
    (folder, disk, image)
}

fn fork() -> Vec<(&'static str, &'static str)> {
    vec![
        (secret::USERNAME, "fork"),
        (secret::PASSWORD, PASSWORD),
        (secret::USER_DOMAIN_NAME, "Default"),
        (secret::PROJECT_NAME, "migrate"),
        (secret::PROJECT_DOMAIN_NAME, "Default"),
        (secret::REGION_NAME, "RegionOne"),
    ]
}

#[test]
fn passwords() {
    let (_folder, disk, image) = image();
    let keystone = variable("KEYSTONE_URL");
    let (user, project) = (variable("USER_FORK"), variable("PROJECT_MIGRATE"));
    let region = (secret::REGION_NAME, "RegionOne");
    let password = (secret::PASSWORD, PASSWORD);
    for keys in [
        fork(),
        [fork(), vec![(secret::AUTH_TYPE, "password")]].concat(),
        vec![
            (secret::USER_ID, user.as_str()),
            password,
            (secret::PROJECT_ID, &project),
            region,
        ],
        vec![
            (secret::USERNAME, "fork"),
            (secret::USER_DOMAIN_ID, "default"),
            password,
            (secret::PROJECT_ID, &project),
            region,
        ],
        vec![
            (secret::USERNAME, "fork"),
            password,
            (secret::DEFAULT_DOMAIN, "default"),
            (secret::PROJECT_NAME, "migrate"),
            region,
        ],
        vec![
            (secret::USERNAME, "fork"),
            password,
            (secret::DOMAIN_ID, "default"),
            (secret::PROJECT_NAME, "migrate"),
            region,
        ],
        // Forklift's own provider writes the domain's name like this.
        vec![
            (secret::USERNAME, "fork"),
            password,
            (secret::DOMAIN_NAME, "Default"),
            (secret::PROJECT_NAME, "migrate"),
            region,
        ],
        // A user with a default project gets its scope without asking.
        vec![
            (secret::USERNAME, "fork"),
            password,
            (secret::USER_DOMAIN_NAME, "Default"),
            region,
        ],
    ] {
        downloads(&image, &disk, &keystone, &keys);
    }
}

#[test]
fn identity_urls() {
    let (_folder, disk, image) = image();
    for (url, region) in [
        (variable("KEYSTONE_URL"), "RegionOne"),
        (variable("KEYSTONE_TLS_URL"), "RegionTLS"),
    ] {
        let keys = [&fork()[..], &[(secret::REGION_NAME, region)]].concat();
        let root = url.strip_suffix("/v3").unwrap();
        for written in [
            root.to_owned(),
            format!("{root}/"),
            format!("{root}/v3"),
            format!("{root}/v3/"),
        ] {
            downloads(&image, &disk, &written, &keys);
        }
    }
}

#[test]
fn a_catalog_leaves_https_only_where_that_is_allowed() {
    let (folder, disk, image) = image();
    let target = folder.path().join("target");
    let keystone = variable("KEYSTONE_TLS_URL");
    let command = with(openstack_bare(&image.id, &keystone, &target), &fork());
    assert_failure(
        &command.run(),
        Exit::SourceProtocol,
        &["--allow-plain-http"],
    );
    assert!(!target.exists());
    assert_exit(&command.arg("--allow-plain-http").run(), Exit::Success);
    disk.assert_on(&target);
}

#[test]
fn regions_and_interfaces() {
    let (_folder, disk, image) = image();
    let keystone = variable("KEYSTONE_URL");
    for (region, availability) in [
        ("RegionOne", ""),
        ("RegionOne", "admin"),
        ("RegionTLS", "public"),
        ("RegionMixed", "public"),
        ("RegionMixed", "internal"),
    ] {
        let keys = [
            (secret::REGION_NAME, region),
            (secret::AVAILABILITY, availability),
        ];
        downloads(&image, &disk, &keystone, &[&fork()[..], &keys].concat());
    }
    for (region, availability, exit, words) in [
        ("RegionEmpty", "", Exit::Configuration, "RegionEmpty"),
        ("RegionNone", "", Exit::Configuration, "RegionNone"),
        ("RegionOne", "outernal", Exit::Configuration, "outernal"),
    ] {
        let keys = [
            (secret::REGION_NAME, region),
            (secret::AVAILABILITY, availability),
        ];
        fails(&image, &[&fork()[..], &keys].concat(), exit, &[words]);
    }
}

#[test]
fn an_endpoint_that_leads_nowhere() {
    let (folder, _disk, image) = image();
    let target = folder.path().join("target");
    let keys = [
        (secret::REGION_NAME, "RegionMixed"),
        (secret::AVAILABILITY, "admin"),
    ];
    let command = openstack_bare(&image.id, &variable("KEYSTONE_URL"), &target)
        .arg("--no-progress-timeout=1s");
    let run = with(command, &[&fork()[..], &keys].concat()).run();
    assert_failure(&run, Exit::SourceUnavailable, &["127.0.0.1:9"]);
}

#[test]
fn tokens() {
    let (_folder, disk, image) = image();
    let scoped = glance::password_token("fork", PASSWORD, Some("migrate"));
    let unscoped = glance::password_token("fork", PASSWORD, None);
    let region = (secret::REGION_NAME, "RegionOne");
    let kind = (secret::AUTH_TYPE, "token");
    let keystone = variable("KEYSTONE_URL");
    let project = [
        (secret::PROJECT_NAME, "migrate"),
        (secret::PROJECT_DOMAIN_NAME, "Default"),
    ];
    downloads(
        &image,
        &disk,
        &keystone,
        &[kind, (secret::TOKEN, &scoped), region],
    );
    downloads(
        &image,
        &disk,
        &keystone,
        &[&[kind, (secret::TOKEN, &unscoped), region], &project[..]].concat(),
    );
    fails(
        &image,
        &[kind, (secret::TOKEN, "gAAAAABn-not-a-token"), region],
        Exit::Credentials,
        &["token"],
    );
}

#[test]
fn application_credentials() {
    let (_folder, disk, image) = image();
    let keystone = variable("KEYSTONE_URL");
    let (id, name) = (
        variable("APP_CREDENTIAL_ID"),
        variable("APP_CREDENTIAL_NAME"),
    );
    let (user, word) = (variable("USER_FORK"), variable("APP_CREDENTIAL_SECRET"));
    let common = [
        (secret::AUTH_TYPE, "applicationcredential"),
        (secret::APPLICATION_CREDENTIAL_SECRET, word.as_str()),
        (secret::REGION_NAME, "RegionOne"),
    ];
    for keys in [
        vec![(secret::APPLICATION_CREDENTIAL_ID, id.as_str())],
        vec![
            (secret::APPLICATION_CREDENTIAL_NAME, name.as_str()),
            (secret::USER_ID, &user),
        ],
        vec![
            (secret::APPLICATION_CREDENTIAL_NAME, name.as_str()),
            (secret::USERNAME, "fork"),
            (secret::USER_DOMAIN_NAME, "Default"),
        ],
    ] {
        downloads(&image, &disk, &keystone, &[&common[..], &keys].concat());
    }
    let wrong = [
        (secret::AUTH_TYPE, "applicationcredential"),
        (secret::APPLICATION_CREDENTIAL_ID, id.as_str()),
        (secret::APPLICATION_CREDENTIAL_SECRET, "not-the-secret"),
    ];
    fails(&image, &wrong, Exit::Credentials, &[]);
}

#[test]
fn scopes_of_an_administrator() {
    let (_folder, disk, image) = image();
    let admin = [
        (secret::USERNAME, "admin"),
        (secret::PASSWORD, "adminpw"),
        (secret::USER_DOMAIN_NAME, "Default"),
        (secret::REGION_NAME, "RegionOne"),
    ];
    let project = [
        (secret::PROJECT_NAME, "admin"),
        (secret::PROJECT_DOMAIN_NAME, "Default"),
    ];
    let keystone = variable("KEYSTONE_URL");
    downloads(&image, &disk, &keystone, &[&admin[..], &project].concat());
    // Keystone gives these tokens and a catalog; Glance shows no image to a token without a
    // project.
    for scope in [
        (secret::DOMAIN_NAME, "Default"),
        (secret::DOMAIN_ID, "default"),
        (secret::SYSTEM_SCOPE, "all"),
    ] {
        let keys = [&admin[..], &[scope]].concat();
        fails(&image, &keys, Exit::SourceMissing, &["project"]);
    }
}

#[test]
fn domains_other_than_the_default() {
    let (folder, disk) = (folder(), Disk::random(2, DISK));
    // Only the administrator may hand an image to everybody.
    let image = Glance::admin().image(folder.path(), &disk);
    image.publish();
    let keystone = variable("KEYSTONE_URL");
    let (domain, project, user) = (
        variable("DOMAIN_ACME"),
        variable("PROJECT_VAULT"),
        variable("USER_ACME"),
    );
    let region = (secret::REGION_NAME, "RegionOne");
    let password = (secret::PASSWORD, PASSWORD);
    for keys in [
        vec![
            (secret::USERNAME, "acme"),
            (secret::USER_DOMAIN_NAME, "Acme"),
            (secret::PROJECT_NAME, "vault"),
            (secret::PROJECT_DOMAIN_NAME, "Acme"),
        ],
        vec![
            (secret::USERNAME, "acme"),
            (secret::DOMAIN_NAME, "Acme"),
            (secret::PROJECT_NAME, "vault"),
        ],
        vec![
            (secret::USERNAME, "acme"),
            (secret::DEFAULT_DOMAIN, &domain),
            (secret::PROJECT_NAME, "vault"),
        ],
        vec![
            (secret::USERNAME, "acme"),
            (secret::USER_DOMAIN_ID, &domain),
            (secret::PROJECT_ID, &project),
        ],
        vec![(secret::USER_ID, &user), (secret::PROJECT_ID, &project)],
    ] {
        downloads(
            &image,
            &disk,
            &keystone,
            &[&keys[..], &[password, region]].concat(),
        );
    }
}

#[test]
fn credentials_that_are_wrong() {
    let (_folder, _disk, image) = image();
    let replaced = |key: &str, value: &'static str| -> Vec<_> {
        let keys = fork().into_iter();
        keys.map(|(name, old)| (name, if name == key { value } else { old }))
            .collect()
    };
    fails(
        &image,
        &replaced(secret::PASSWORD, "not-the-password"),
        Exit::Credentials,
        &[],
    );
    fails(
        &image,
        &replaced(secret::USERNAME, "nobody"),
        Exit::Credentials,
        &[],
    );
    fails(
        &image,
        &replaced(secret::PROJECT_NAME, "no-such-project"),
        Exit::Credentials,
        &[],
    );
    fails(
        &image,
        &replaced(secret::PASSWORD, ""),
        Exit::Configuration,
        &[secret::PASSWORD],
    );
    fails(
        &image,
        &[&fork()[..], &[(secret::AUTH_TYPE, "kerberos")]].concat(),
        Exit::Configuration,
        &["kerberos"],
    );
}

#[test]
fn certificates() {
    let (folder, disk, image) = image();
    let keystone = variable("KEYSTONE_TLS_URL");
    let other = std::fs::read_to_string(variable("SERVICES_OTHER_CA")).unwrap();
    let target = folder.path().join("target");
    let distrustful =
        with(openstack_bare(&image.id, &keystone, &target), &fork()).env(secret::CACERT, &other);
    assert_exit(&distrustful.run(), Exit::Tls);
    // A bundle of several authorities is normal.
    let bundle = format!("{other}\n{}", suite::mover::authority());
    let keys = [
        (secret::CACERT, bundle.as_str()),
        (secret::REGION_NAME, "RegionTLS"),
    ];
    let keys = [&fork()[..], &keys].concat();
    downloads(&image, &disk, &keystone, &keys);
    let keys = [
        (secret::CACERT, other.as_str()),
        (secret::INSECURE_SKIP_VERIFY, "1"),
        (secret::REGION_NAME, "RegionTLS"),
    ];
    downloads(&image, &disk, &keystone, &[&fork()[..], &keys].concat());
}
