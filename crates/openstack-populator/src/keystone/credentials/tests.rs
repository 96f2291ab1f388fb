use serde_json::{Value, json};

use super::*;

fn read(keys: &[(&str, &str)]) -> Result<Credentials, Error> {
    Credentials::from_keys(|key| {
        keys.iter()
            .find(|(name, _)| *name == key)
            .map(|(_, value)| SecretString::from(*value))
    })
}

fn body(keys: &[(&str, &str)]) -> Value {
    read(keys).unwrap().body()["auth"].clone()
}

fn password(user: &Value) -> Value {
    let mut user = user.clone();
    user["password"] = "pw".into();
    json!({"methods": ["password"], "password": {"user": user}})
}

const BOB: [(&str, &str); 3] = [
    ("username", "bob"),
    ("password", "pw"),
    ("userDomainName", "Users"),
];

#[test]
fn user_of_a_password() {
    for (keys, user) in [
        (&[("userID", "u1")][..], json!({"id": "u1"})),
        (
            &[
                ("userID", "u1"),
                ("domainName", "D"),
                ("userDomainName", "ignored"),
                ("projectID", "p"),
            ],
            json!({"id": "u1"}),
        ),
        (
            &[("username", "bob"), ("userDomainName", "D")],
            json!({"name": "bob", "domain": {"name": "D"}}),
        ),
        (
            &[("username", "bob"), ("userDomainID", "d1")],
            json!({"name": "bob", "domain": {"id": "d1"}}),
        ),
        (
            &[("username", "bob"), ("domainName", "D"), ("projectID", "p")],
            json!({"name": "bob", "domain": {"name": "D"}}),
        ),
        (
            &[("username", "bob"), ("domainID", "d1"), ("projectID", "p")],
            json!({"name": "bob", "domain": {"id": "d1"}}),
        ),
        (
            &[("username", "bob"), ("defaultDomain", "default")],
            json!({"name": "bob", "domain": {"id": "default"}}),
        ),
        // What is said of the user wins over what is said of everything, whatever its form.
        (
            &[
                ("username", "bob"),
                ("userDomainName", "Own"),
                ("domainID", "d1"),
                ("defaultDomain", "x"),
            ],
            json!({"name": "bob", "domain": {"name": "Own"}}),
        ),
        (
            &[
                ("username", "bob"),
                ("domainName", "D"),
                ("defaultDomain", "x"),
                ("systemScope", "all"),
            ],
            json!({"name": "bob", "domain": {"name": "D"}}),
        ),
        // A line end is no part of a name.
        (
            &[
                ("username", "bob\n"),
                ("userDomainName", " D \n"),
                ("authType", ""),
            ],
            json!({"name": "bob", "domain": {"name": "D"}}),
        ),
    ] {
        for auth_type in ["", "password", "Password"] {
            let mut keys = keys.to_vec();
            keys.extend([("password", "pw"), ("authType", auth_type)]);
            assert_eq!(body(&keys)["identity"], password(&user), "{keys:?}");
        }
    }
}

#[test]
fn scope() {
    let project = |domain: Value| json!({"project": {"name": "P", "domain": domain}});
    for (keys, scope) in [
        (&[][..], Value::Null),
        (&[("projectID", "p1")], json!({"project": {"id": "p1"}})),
        // An id says it all.
        (
            &[
                ("projectID", "p1"),
                ("projectName", "P"),
                ("projectDomainName", "D"),
            ],
            json!({"project": {"id": "p1"}}),
        ),
        (
            &[("projectName", "P"), ("projectDomainName", "D")],
            project(json!({"name": "D"})),
        ),
        (
            &[
                ("projectName", "P"),
                ("projectDomainID", "d"),
                ("projectDomainName", "D"),
            ],
            project(json!({"id": "d"})),
        ),
        (
            &[("projectName", "P"), ("domainName", "D")],
            project(json!({"name": "D"})),
        ),
        (
            &[("projectName", "P"), ("domainID", "d")],
            project(json!({"id": "d"})),
        ),
        (
            &[("projectName", "P"), ("defaultDomain", "d")],
            project(json!({"id": "d"})),
        ),
        (
            &[
                ("projectName", "P"),
                ("projectDomainName", "D"),
                ("domainID", "x"),
                ("defaultDomain", "y"),
            ],
            project(json!({"name": "D"})),
        ),
        // Without a project, the general domain is the scope; the user's own is not.
        (&[("domainID", "d")], json!({"domain": {"id": "d"}})),
        (&[("domainName", "D")], json!({"domain": {"name": "D"}})),
        (
            &[("domainName", "D"), ("domainID", "d")],
            json!({"domain": {"id": "d"}}),
        ),
        (&[("defaultDomain", "d")], Value::Null),
        (&[("projectDomainName", "D")], Value::Null),
        // A project wins over the system, and the system over a domain.
        (&[("systemScope", "all")], json!({"system": {"all": true}})),
        (&[("systemScope", "True")], json!({"system": {"all": true}})),
        (&[("systemScope", "false")], Value::Null),
        (&[("systemScope", "")], Value::Null),
        (
            &[("systemScope", "all"), ("domainName", "D")],
            json!({"system": {"all": true}}),
        ),
        (
            &[("systemScope", "all"), ("projectID", "p1")],
            json!({"project": {"id": "p1"}}),
        ),
    ] {
        let with_password = [&BOB[..], keys].concat();
        assert_eq!(body(&with_password)["scope"], scope, "{keys:?}");
        let with_token = [&[("authType", "token"), ("token", "t")][..], keys].concat();
        assert_eq!(body(&with_token)["scope"], scope, "{keys:?}");
    }
}

#[test]
fn token() {
    let keys = [
        ("authType", "token"),
        ("token", "gAAAA"),
        ("username", "not sent"),
        ("password", "not sent"),
        ("projectID", "p1"),
    ];
    assert_eq!(
        body(&keys),
        json!({
            "identity": {"methods": ["token"], "token": {"id": "gAAAA"}},
            "scope": {"project": {"id": "p1"}},
        })
    );
    assert!(!read(&keys).unwrap().outlive_a_token());
    assert!(read(&BOB).unwrap().outlive_a_token());
}

#[test]
fn application_credential() {
    for (keys, credential) in [
        (
            &[("applicationCredentialID", "c1")][..],
            json!({"id": "c1"}),
        ),
        (
            &[
                ("applicationCredentialID", "c1"),
                ("applicationCredentialName", "dl"),
                ("username", "bob"),
            ],
            json!({"id": "c1"}),
        ),
        (
            &[("applicationCredentialName", "dl"), ("userID", "u1")],
            json!({"name": "dl", "user": {"id": "u1"}}),
        ),
        (
            &[
                ("applicationCredentialName", "dl"),
                ("userID", "u1"),
                ("username", "bob"),
            ],
            json!({"name": "dl", "user": {"id": "u1"}}),
        ),
        (
            &[
                ("applicationCredentialName", "dl"),
                ("username", "bob"),
                ("domainName", "D"),
            ],
            json!({"name": "dl", "user": {"name": "bob", "domain": {"name": "D"}}}),
        ),
        (
            &[
                ("applicationCredentialName", "dl"),
                ("username", "bob"),
                ("defaultDomain", "default"),
            ],
            json!({"name": "dl", "user": {"name": "bob", "domain": {"id": "default"}}}),
        ),
    ] {
        let mut keys = keys.to_vec();
        // Keystone refuses a scope here, so none may be sent, whatever the secret says.
        keys.extend([
            ("authType", "applicationcredential"),
            ("applicationCredentialSecret", "s"),
            ("projectID", "p1"),
            ("systemScope", "all"),
        ]);
        let mut credential = credential.clone();
        credential["secret"] = "s".into();
        assert_eq!(
            body(&keys),
            json!({"identity": {
                "methods": ["application_credential"],
                "application_credential": credential,
            }}),
            "{keys:?}"
        );
        assert!(read(&keys).unwrap().outlive_a_token());
    }
}

#[test]
fn what_is_missing_or_contradicts_is_named() {
    for (keys, named) in [
        (&[][..], &["username", "userID"][..]),
        (&[("authType", "kerberos")], &["authType", "kerberos"]),
        (&[("username", "bob"), ("userDomainID", "d")], &["password"]),
        (&[("userID", "u"), ("password", "")], &["password"]),
        (
            &[("username", "bob"), ("password", "hidden")],
            &["username", "userDomainName", "defaultDomain"],
        ),
        (
            &[("username", "bob"), ("userID", "u"), ("password", "hidden")],
            &["username", "userID", "not both"],
        ),
        (
            &[
                ("username", "bob"),
                ("userDomainID", "d"),
                ("userDomainName", "D"),
                ("password", "hidden"),
            ],
            &["userDomainID", "userDomainName", "not both"],
        ),
        (
            &[
                ("username", "bob"),
                ("domainID", "d"),
                ("domainName", "D"),
                ("password", "hidden"),
            ],
            &["domainID", "domainName", "not both"],
        ),
        (
            &[
                ("userID", "u"),
                ("password", "hidden"),
                ("projectName", "P"),
            ],
            &["projectName", "projectDomainName", "defaultDomain"],
        ),
        (
            &[
                ("userID", "u"),
                ("password", "hidden"),
                ("systemScope", "some"),
            ],
            &["systemScope", "some"],
        ),
        (&[("authType", "token")], &["token"]),
        (
            &[
                ("authType", "applicationcredential"),
                ("applicationCredentialSecret", "hidden"),
            ],
            &["applicationCredentialID", "applicationCredentialName"],
        ),
        (
            &[
                ("authType", "applicationcredential"),
                ("applicationCredentialID", "c"),
            ],
            &["applicationCredentialSecret"],
        ),
        (
            &[
                ("authType", "applicationcredential"),
                ("applicationCredentialName", "dl"),
                ("applicationCredentialSecret", "hidden"),
            ],
            &["username", "userID"],
        ),
    ] {
        let error = read(keys).unwrap_err();
        assert_eq!(error.kind(), Kind::Configuration, "{keys:?}");
        for part in named {
            assert!(error.to_string().contains(part), "{keys:?}: {error}");
        }
        assert!(!error.to_string().contains("hidden"), "{error}");
    }
}

#[test]
fn the_users_own_domain_settles_what_the_general_keys_leave_open() {
    let keys = [
        &BOB[..],
        &[("domainID", "d"), ("domainName", "D"), ("projectID", "p")],
    ]
    .concat();
    assert_eq!(
        body(&keys)["identity"],
        password(&json!({"name": "bob", "domain": {"name": "Users"}}))
    );
}

#[test]
fn debug_shows_nobody() {
    let shown = format!(
        "{:?}",
        read(&[&BOB[..], &[("projectID", "p1")]].concat()).unwrap()
    );
    for hidden in ["bob", "pw", "Users", "p1"] {
        assert!(!shown.contains(hidden), "{shown}");
    }
}
