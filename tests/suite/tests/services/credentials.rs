//! Files that users keep for the other clients of the same services: the movers and the unmodified clients log in
//! with the same ones, or are both refused.

use std::{fs, path::Path};

use contract::{
    Exit,
    args::{flag, secret},
};
use suite::{
    Engine, Glance, assert_exit, binary, folder,
    glance::PASSWORD,
    mover::{assert_discreet, assert_failure, authority},
    variable,
};
use tempfile::TempDir;
use testkit::{Command, Disk, Finished};

/// What the OpenStack client library makes of the image, with a cloud by name or what the variables say.
const SDK: &str = "
import sys, openstack
cloud, image = sys.argv[1:]
connection = openstack.connect(cloud=cloud or None)
print(connection.image.get_image(image).id)
";

/// Writes a file below the folder that is the home.
fn home(files: &[(&str, &str)]) -> TempDir {
    let folder = folder();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

fn in_home(program: impl Into<std::path::PathBuf>, home: &Path) -> Command {
    Command::new(program).env("HOME", home)
}

fn sdk(home: &Path, cloud: &str, image: &str) -> Command {
    in_home(variable("OPENSTACK_PYTHON"), home)
        .arg("-c")
        .arg(SDK)
        .arg(cloud)
        .arg(image)
}

fn populator(home: &Path, image: &str, target: &Path) -> Command {
    in_home(binary("openstack-populator"), home)
        .flag(flag::IMAGE_ID, image)
        .flag(flag::VOLUME_PATH, target)
}

#[track_caller]
fn assert_copied(run: &Finished, disk: &Disk, target: &Path) {
    assert_exit(run, Exit::Success);
    disk.assert_on(target);
    assert_discreet(run, [PASSWORD]);
    fs::remove_file(target).unwrap();
}

/// Clouds over HTTPS: good ones in different words, and one with a wrong password.
fn clouds(ca: &str, password: &str) -> String {
    let keystone = variable("KEYSTONE_TLS_URL");
    let project = variable("PROJECT_MIGRATE");
    let user = variable("USER_FORK");
    format!(
        "
common: &common
  region_name: RegionTLS
  cacert: {ca}
clouds:
  names:
    <<: *common
    auth: {{auth_url: {keystone}, username: fork, {password}
      user_domain_name: Default, project_name: migrate, project_domain_name: Default}}
  ids:
    <<: *common
    auth_type: v3password
    interface: public
    auth: {{auth_url: {keystone}, user_id: {user}, {password} project_id: {project}}}
  unchecked:
    region_name: RegionTLS
    verify: false
    auth: {{auth_url: {keystone}, username: fork, {password}
      default_domain_name: Default, project_name: migrate}}
  wrong:
    <<: *common
    auth: {{auth_url: {keystone}, username: fork, password: not-the-password,
      user_domain_name: Default, project_name: migrate, project_domain_name: Default}}
"
    )
}

#[test]
fn the_openstack_client_and_we_read_the_same_clouds() {
    let disk = Disk::random(1, 70_000);
    let work = folder();
    let image = Glance::default().image(work.path(), &disk);
    let target = work.path().join("target");
    let text = clouds("~/ca.pem", &format!("password: {PASSWORD},"));
    let home = home(&[
        (".config/openstack/clouds.yaml", &text),
        ("ca.pem", &authority()),
    ]);
    for cloud in ["names", "ids", "unchecked"] {
        let run = sdk(home.path(), cloud, &image.id).run();
        assert_eq!(run.stdout.trim(), image.id, "{cloud}: {}", run.output());
        let run = populator(home.path(), &image.id, &target)
            .flag(flag::OS_CLOUD, cloud)
            .run();
        assert_copied(&run, &disk, &target);
    }
    let run = populator(home.path(), &image.id, &target).env("OS_CLOUD", "ids");
    assert_copied(&run.run(), &disk, &target);

    let run = sdk(home.path(), "wrong", &image.id).run();
    assert!(run.output().contains("Unauthorized"), "{}", run.output());
    let run = populator(home.path(), &image.id, &target)
        .flag(flag::OS_CLOUD, "wrong")
        .run();
    assert_failure(&run, Exit::Credentials, &[]);
    assert_discreet(&run, ["not-the-password"]);

    let run = sdk(home.path(), "absent", &image.id).run();
    assert!(
        run.output().contains("absent was not found"),
        "{}",
        run.output()
    );
    let run = populator(home.path(), &image.id, &target)
        .flag(flag::OS_CLOUD, "absent")
        .run();
    assert_failure(&run, Exit::Configuration, &["absent", "names"]);
    assert!(!target.exists());
}

#[test]
fn passwords_may_stand_in_a_file_of_their_own() {
    let disk = Disk::random(2, 70_000);
    let work = folder();
    let image = Glance::default().image(work.path(), &disk);
    let target = work.path().join("target");
    let secure = format!("clouds: {{names: {{auth: {{password: {PASSWORD}}}}}}}");
    let home = home(&[
        (".config/openstack/clouds.yaml", &clouds("~/ca.pem", "")),
        (".config/openstack/secure.yaml", &secure),
        ("ca.pem", &authority()),
    ]);
    let run = sdk(home.path(), "names", &image.id).run();
    assert_eq!(run.stdout.trim(), image.id, "{}", run.output());
    let run = populator(home.path(), &image.id, &target)
        .flag(flag::OS_CLOUD, "names")
        .run();
    assert_copied(&run, &disk, &target);
}

#[test]
fn the_openstack_client_and_we_read_the_same_variables() {
    let disk = Disk::random(3, 70_000);
    let work = folder();
    let image = Glance::default().image(work.path(), &disk);
    let target = work.path().join("target");
    let home = home(&[("ca.pem", &authority())]);
    let ca = home.path().join("ca.pem");
    let with = |command: Command| {
        [
            ("OS_AUTH_URL", variable("KEYSTONE_TLS_URL").as_str()),
            ("OS_USERNAME", "fork"),
            ("OS_PASSWORD", PASSWORD),
            ("OS_USER_DOMAIN_NAME", "Default"),
            ("OS_PROJECT_NAME", "migrate"),
            ("OS_PROJECT_DOMAIN_ID", "default"),
            ("OS_REGION_NAME", "RegionTLS"),
            ("OS_INTERFACE", "public"),
            ("OS_IDENTITY_API_VERSION", "3"),
            ("OS_CACERT", ca.to_str().unwrap()),
        ]
        .into_iter()
        .fold(command, |command, (name, value)| command.env(name, value))
    };
    let run = with(sdk(home.path(), "", &image.id)).run();
    assert_eq!(run.stdout.trim(), image.id, "{}", run.output());
    let run = with(populator(home.path(), &image.id, &target)).run();
    assert_copied(&run, &disk, &target);
}

#[test]
fn a_secret_holds_clouds_as_cluster_api_has_it() {
    let disk = Disk::random(4, 70_000);
    let work = folder();
    let image = Glance::default().image(work.path(), &disk);
    let target = work.path().join("target");
    let text = clouds("/not/here", &format!("password: {PASSWORD},"));
    let secret = home(&[
        (secret::CLOUDS_YAML, &text),
        (secret::CLOUD, "names"),
        (secret::CACERT, &authority()),
    ]);
    // As the controller starts it: with an address, and without a say of the environment.
    let run = populator(work.path(), &image.id, &target)
        .flag(flag::ENDPOINT, variable("KEYSTONE_TLS_URL"))
        .flag(flag::SECRET_DIR, secret.path())
        .flag(flag::CR_NAME, "images")
        .flag(flag::METRICS_ADDRESS, "off")
        .flag(flag::TERMINATION_LOG, "off")
        .env("OS_CLOUD", "wrong")
        .run();
    assert_copied(&run, &disk, &target);
}

#[test]
fn ovirt_img_and_we_read_the_same_section() {
    let engine = Engine::default();
    let (user, disk) = (engine.user(), Disk::random(5, 1 << 20));
    let work = folder();
    let source = engine.raw_disk(work.path(), &disk);
    let target = work.path().join("target");
    let section = |name: &str, password: &str, trust: &str| {
        format!(
            "[{name}]\nengine_url = {}\nusername: {}\npassword = {password}\n{trust}\n\n",
            engine.url, user.name
        )
    };
    let home = home(&[("ca.pem", &authority())]);
    let ca = format!("cafile = {}", home.path().join("ca.pem").display());
    let text = [
        "# for ovirt-img\n[DEFAULT]\nlog_level = error\n\n".to_owned(),
        section("checked", &user.password, &ca),
        section("unchecked", &user.password, "secure = no"),
        section("wrong", "not;the#password", &ca),
    ]
    .concat();
    fs::create_dir(home.path().join(".config")).unwrap();
    fs::write(home.path().join(".config/ovirt-img.conf"), text).unwrap();
    let ovirt_img = |config: &str| {
        let downloaded = work.path().join(format!("{config}.ovirt-img"));
        let command = in_home(variable("OVIRT_IMG"), home.path());
        let run = command
            .env("PATH", variable("PATH"))
            .arg("download-disk")
            .flag("config", config)
            .flag("format", "raw")
            .arg(&source.id)
            .arg(&downloaded)
            .run();
        (run, downloaded)
    };
    let ours = |config: &str| {
        in_home(binary("ovirt-populator"), home.path())
            .flag(flag::CONFIG, config)
            .flag(flag::DISK_ID, &source.id)
            .flag(flag::VOLUME_PATH, &target)
            .run()
    };
    for config in ["checked", "unchecked"] {
        let (run, downloaded) = ovirt_img(config);
        assert_eq!(run.code(), Some(0), "{config}: {}", run.output());
        disk.assert_on(&downloaded);
        let run = ours(config);
        assert_exit(&run, Exit::Success);
        disk.assert_on(&target);
        assert_discreet(&run, [user.password.as_str()]);
        fs::remove_file(&target).unwrap();
    }
    let (run, _) = ovirt_img("wrong");
    assert_ne!(run.code(), Some(0), "{}", run.output());
    let run = ours("wrong");
    assert_failure(&run, Exit::Credentials, &[]);
    assert_discreet(&run, ["not;the#password"]);
    assert_failure(&ours("absent"), Exit::Configuration, &["absent", "checked"]);
}
