use clap::Parser;

use super::*;

#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    mover: Arguments,
}

/// A folder that is the home, the folder of the secret and of all files.
struct Scene {
    folder: tempfile::TempDir,
    variables: Vec<(String, String)>,
    flags: Vec<String>,
}

impl Scene {
    fn new(files: &[(&str, &str)], variables: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let home = folder.path().display().to_string();
        let own = variables.iter();
        let own = own.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Self {
            variables: own.chain([("HOME".to_owned(), home)]).collect(),
            folder,
            flags: vec!["mover".to_owned(), "--volume-path=/t".to_owned()],
        }
    }

    fn of_secret(files: &[(&str, &str)]) -> Self {
        let mut scene = Self::new(files, &[("OS_CLOUD", "not-looked-at")]);
        let folder = scene.folder.path().display();
        scene.flags.push(format!("--secret-dir={folder}"));
        scene
    }

    fn flag(mut self, flag: &str) -> Self {
        self.flags.push(flag.to_owned());
        self
    }

    fn find(&self, cloud: Option<&str>) -> Result<Secrets, Failure> {
        let arguments = Cli::try_parse_from(&self.flags).unwrap();
        let environment: Environment = self.variables.iter().cloned().collect();
        secrets(cloud, &arguments.mover, &environment)
    }
}

/// Fails unless exactly these keys are there.
#[track_caller]
fn assert_keys(secrets: &Secrets, expected: &[(&str, &str)]) {
    let found: Vec<_> = secret::ALL
        .iter()
        .filter_map(|key| Some((*key, secrets.text(key)?)))
        .collect();
    for pair in expected {
        assert!(found.contains(pair), "{pair:?}: {found:?}");
    }
    assert_eq!(found.len(), expected.len(), "{found:?}");
}

#[track_caller]
fn assert_refused(result: Result<Secrets, Failure>, words: &[&str]) {
    let failure = result.unwrap_err();
    assert_eq!(failure.exit(), Exit::Configuration);
    for word in words {
        assert!(failure.message().contains(word), "{word}: {failure}");
    }
    assert!(!failure.message().contains("hunter2"), "{failure}");
}

const FILE: &str = ".config/openstack/clouds.yaml";
const SECURE: &str = ".config/openstack/secure.yaml";

/// A file with one cloud, `lab`, of these lines.
fn lab(lines: &str) -> String {
    format!("clouds:\n  lab:\n{lines}")
}

fn in_lab(lines: &str) -> Result<Secrets, Failure> {
    Scene::new(&[(FILE, &lab(lines))], &[]).find(Some("lab"))
}

#[test]
fn the_words_of_a_cloud_become_keys() {
    let file = "\
common: &common
  region_name: RegionOne
  interface: internalURL
clouds:
  lab:
    <<: *common
    auth:
      auth-url: https://keystone:5000/v3
      username: demo
      password: 0123
      project_name: demo
      user_domain_name: Default
      default_domain_name: Other
    identity_api_version: 3
    image_api_version: 2
    verify: False
  other:
    auth: {}
";
    let secrets = Scene::new(&[(FILE, file)], &[]).find(Some("lab")).unwrap();
    assert_keys(
        &secrets,
        &[
            (secret::URL, "https://keystone:5000/v3"),
            (secret::AUTH_TYPE, "password"),
            (secret::USERNAME, "demo"),
            (secret::PASSWORD, "0123"),
            (secret::PROJECT_NAME, "demo"),
            (secret::USER_DOMAIN_NAME, "Default"),
            (secret::PROJECT_DOMAIN_NAME, "Other"),
            (secret::REGION_NAME, "RegionOne"),
            (secret::AVAILABILITY, "internal"),
            (secret::INSECURE_SKIP_VERIFY, "true"),
        ],
    );
}

#[test]
fn the_way_to_log_in_is_named_or_follows_from_what_is_there() {
    for (lines, auth_type) in [
        ("    auth: {username: a, password: hunter2}\n", "password"),
        ("    auth: {token: hunter2}\n", "token"),
        (
            "    auth_type: v3token\n    auth: {token: hunter2}\n",
            "token",
        ),
        (
            "    auth: {application_credential_id: a, application_credential_secret: hunter2}\n",
            "applicationcredential",
        ),
        (
            "    auth_type: v3applicationcredential\n    auth: {application_credential_secret: hunter2}\n",
            "applicationcredential",
        ),
    ] {
        let secrets = in_lab(lines).unwrap();
        assert_eq!(secrets.text(secret::AUTH_TYPE), Some(auth_type), "{lines}");
    }
}

#[test]
fn what_would_change_who_or_where_is_refused_by_name() {
    let auth = "    auth: {username: a, password: hunter2}\n";
    for (lines, word) in [
        ("    profile: vexxhost\n", "profile"),
        ("    regions: [a, b]\n", "regions"),
        ("    auth_type: v3oidcpassword\n", "v3oidcpassword"),
        ("    auth: {trust_id: x, password: hunter2}\n", "trust_id"),
        ("    auth: {unheard_of: x}\n", "unheard_of"),
        (
            "    image_endpoint_override: http://x\n",
            "image_endpoint_override",
        ),
        ("    identity_interface: admin\n", "identity_interface"),
        ("    cert: /x\n    key: /y\n", "\"cert\", \"key\""),
        ("    identity_api_version: 2.0\n", "identity_api_version"),
        ("    verify: perhaps\n", "perhaps"),
        ("    cacert: /no/file\n", "/no/file"),
    ] {
        let auth = if lines.contains("auth:") { "" } else { auth };
        assert_refused(in_lab(&format!("{auth}{lines}")), &[word, "lab"]);
    }
    // What is about other services, or unneeded, is no reason to refuse.
    let lines = "    region_name: a\n    regions: [a, b]\n    compute_endpoint_override: x\n    networks: [{name: x}]\n";
    in_lab(&format!("{auth}{lines}")).unwrap();
}

#[test]
fn what_cannot_be_read_is_named_by_its_place_alone() {
    for file in [
        "clouds:\n  lab:\n    auth: hunter2\n",
        "clouds:\n  lab:\n    auth:\n      password: [hunter2]\n",
        "clouds: {lab: {auth: {password: hunter2\n",
        "clouds:\n  lab:\n    password: hunter2\n    password: hunter2\n",
    ] {
        let scene = Scene::new(&[(FILE, file)], &[]);
        assert_refused(scene.find(Some("lab")), &["clouds.yaml", "line"]);
    }
    let scene = Scene::new(&[(FILE, "clouds: {a: {}, b: {}}")], &[]);
    assert_refused(scene.find(Some("lab")), &["\"lab\"", "\"a\", \"b\""]);
    let scene = Scene::new(&[], &[("OS_CLIENT_CONFIG_FILE", "/no/clouds")]);
    assert_refused(scene.find(Some("lab")), &["/no/clouds"]);
}

#[test]
fn the_secure_file_is_merged_and_wins() {
    let secure = "clouds: {lab: {auth: {password: right}, region_name: two}}";
    let file = lab("    auth: {username: a, password: wrong}\n    region_name: one\n");
    let scene = Scene::new(&[(FILE, &file), (SECURE, secure)], &[]);
    let secrets = scene.find(Some("lab")).unwrap();
    assert_keys(
        &secrets,
        &[
            (secret::AUTH_TYPE, "password"),
            (secret::USERNAME, "a"),
            (secret::PASSWORD, "right"),
            (secret::REGION_NAME, "two"),
        ],
    );
}

#[test]
fn one_source_wins_as_a_whole() {
    let clouds = "clouds: {one: {auth: {token: of-one}}, two: {auth: {token: of-two}}}";
    let variables = [
        ("token", "of-key"),
        ("OS_CLOUD", "two"),
        ("OS_TOKEN", "of-variable"),
    ];
    let token = |variables: &[(&str, &str)], cloud| {
        let found = Scene::new(&[(FILE, clouds)], variables).find(cloud);
        found.unwrap().text(secret::TOKEN).unwrap().to_owned()
    };
    assert_eq!(token(&variables, Some("one")), "of-one");
    assert_eq!(token(&variables, None), "of-key");
    assert_eq!(token(&variables[1..], None), "of-two");
    assert_eq!(token(&variables[2..], None), "of-variable");
}

#[test]
fn variables_are_a_cloud() {
    let variables = [
        ("OS_AUTH_URL", "https://keystone:5000/v3"),
        ("OS_USERNAME", "demo"),
        ("OS_PASSWORD", "p"),
        ("OS_TENANT_NAME", "old"),
        ("OS_PROJECT_NAME", "demo"),
        ("OS_INTERFACE", "public"),
        ("OS_CACERT", "~/ca.pem"),
        ("OS_COMPUTE_API_VERSION", "2"),
        ("proxy", "http://proxy:1"),
    ];
    let scene = Scene::new(&[("ca.pem", "authorities")], &variables);
    assert_keys(
        &scene.find(None).unwrap(),
        &[
            (secret::URL, "https://keystone:5000/v3"),
            (secret::AUTH_TYPE, "password"),
            (secret::USERNAME, "demo"),
            (secret::PASSWORD, "p"),
            (secret::PROJECT_NAME, "demo"),
            (secret::AVAILABILITY, "public"),
            (secret::CACERT, "authorities"),
            (secret::PROXY, "http://proxy:1"),
        ],
    );
    let refused = [&variables[..], &[("OS_TRUST_ID", "x")]].concat();
    assert_refused(Scene::new(&[], &refused).find(None), &["trust_id"]);
    // A controller's pod has an environment that its user did not choose.
    let found = scene.flag("--cr-name=x").find(None).unwrap();
    assert_keys(&found, &[(secret::PROXY, "http://proxy:1")]);
}

#[test]
fn a_secret_may_hold_clouds() {
    let two = "clouds: {one: {auth: {token: of-one}}, two: {auth: {token: of-two}, cacert: /x}}";
    let token = (secret::TOKEN, "of-two");
    let auth_type = (secret::AUTH_TYPE, "token");
    let cacert = ("cacert", "authorities");
    let of = |files: &[(&str, &str)], cloud| Scene::of_secret(files).find(cloud);
    let found = of(&[("clouds.yaml", two), ("cloud", "two\n"), cacert], None).unwrap();
    assert_keys(&found, &[token, auth_type, cacert]);
    let found = of(
        &[("clouds.yaml", two), ("cloud", "one"), cacert],
        Some("two"),
    )
    .unwrap();
    assert_keys(&found, &[token, auth_type, cacert]);
    let only = "clouds: {two: {auth: {token: of-two}}}";
    assert_keys(
        &of(&[("clouds.yaml", only)], None).unwrap(),
        &[token, auth_type],
    );

    assert_refused(
        of(&[("clouds.yaml", two)], None),
        &["\"one\", \"two\"", "key cloud"],
    );
    let path = of(&[("clouds.yaml", two), ("cloud", "two")], None);
    assert_refused(path, &["cacert is a path"]);
    assert_refused(of(&[("token", "x")], Some("two")), &["--os-cloud"]);
    // A login of the secret's own is what it meant before.
    let both = [("clouds.yaml", only), ("password", "hunter2")];
    let found = of(&both, None).unwrap();
    assert_eq!(found.text(secret::PASSWORD), Some("hunter2"));
    assert_eq!(found.text(secret::TOKEN), None);
    assert_refused(of(&both, Some("two")), &["password", "remove one"]);
}

#[test]
fn nothing_is_shown() {
    let clouds = Clouds::parse(&lab("    auth: {password: hunter2}\n"), "x").unwrap();
    let text = format!("{clouds:?}");
    assert!(
        text.contains("password") && !text.contains("hunter2"),
        "{text}"
    );
}
