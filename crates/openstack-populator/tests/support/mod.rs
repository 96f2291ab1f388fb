//! A cloud of two scripted servers, Keystone and Glance, that record what they are asked.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test binary uses a part of it"
)]

pub mod run;
pub mod staged;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use mover::Redactor;
use net::{Cancel, Clock, Egress, Proxies, Rest, Settings, Timeouts, Trust};
use openstack_populator::keystone::{Credentials, Keystone, auth_url};
use secrecy::SecretString;
use serde_json::{Value, json};
use testkit::{Object, Reply, Request, Server};

/// The id of the one image.
pub const IMAGE: &str = "b815a36a-feef-49e0-85c6-ef61bc83c15f";
/// Passwords and secrets, none of which may show anywhere.
pub const SECRETS: [&str; 3] = ["pa55word", "app5ecret", "gAAAAtoken"];

/// Keystone gives `gAAAAtoken-1`, `gAAAAtoken-2` and so on; Glance takes the tokens from
/// [`Cloud::expire`] on.
pub struct Cloud {
    pub keystone: Server,
    pub glance: Server,
    valid_from: Arc<AtomicUsize>,
}

impl Cloud {
    /// A cloud whose image has this record (on top of an ordinary one) and this data.
    pub fn new(record: &Value, data: impl Into<Object>) -> Self {
        let object = data.into();
        let valid_from = Arc::new(AtomicUsize::new(1));
        let mut image = json!({
            "id": IMAGE, "status": "active", "size": object.size(), "disk_format": "raw",
            "container_format": "bare", "checksum": null, "os_hash_algo": null,
            "os_hash_value": null, "os_hidden": false, "file": format!("/v2/images/{IMAGE}/file"),
        });
        for (key, value) in record.as_object().unwrap() {
            image[key] = value.clone();
        }

        let accepts = {
            let valid_from = Arc::clone(&valid_from);
            move |request: &Request| {
                let number = request
                    .header("x-auth-token")
                    .and_then(|token| token.strip_prefix("gAAAAtoken-"))
                    .and_then(|number| number.parse::<usize>().ok());
                number.is_some_and(|number| number >= valid_from.load(Ordering::SeqCst))
            }
        };
        let unauthorized = || Reply::text(401, "<html>401</html>");
        let (show, file) = (
            format!("/v2/images/{IMAGE}"),
            format!("/v2/images/{IMAGE}/file"),
        );
        let accepts_too = accepts.clone();
        let glance = Server::builder()
            .route(&show, move |request| {
                if accepts(request) {
                    Reply::json(200, &image)
                } else {
                    unauthorized()
                }
            })
            .route(&file, move |request| {
                if accepts_too(request) {
                    Reply::object(request, &object)
                } else {
                    unauthorized()
                }
            })
            .start();

        let keystone = Server::builder().start();
        let cloud = Self {
            keystone,
            glance,
            valid_from,
        };
        cloud.catalog(json!([cloud.image_service("/")]));
        cloud
    }

    /// The catalog's entry of the image service, its endpoint at this path.
    pub fn image_service(&self, path: &str) -> Value {
        json!({"type": "image", "endpoints": [
            {"interface": "public", "region_id": "One", "region": "One", "url": self.glance.url(path)},
        ]})
    }

    /// From now on tokens come with this catalog; with `null`, without one.
    pub fn catalog(&self, catalog: Value) {
        let given = AtomicUsize::new(0);
        self.keystone.route("/v3/auth/tokens", move |request| {
            assert_eq!(request.method, "POST");
            let number = given.fetch_add(1, Ordering::SeqCst) + 1;
            let mut token =
                json!({"expires_at": "2026-11-23T09:00:00.000000Z", "methods": ["password"]});
            if !catalog.is_null() {
                token["catalog"] = catalog.clone();
            }
            Reply::json(201, &json!({"token": token}))
                .header("X-Subject-Token", &format!("gAAAAtoken-{number}"))
        });
    }

    /// Glance refuses the tokens given so far; the next one is good.
    pub fn expire(&self) {
        let given = self.tokens_given();
        self.valid_from.store(given + 1, Ordering::SeqCst);
    }

    /// How often Keystone was asked for a token.
    pub fn tokens_given(&self) -> usize {
        self.keystone.requests().len()
    }

    /// The identity URL.
    pub fn identity(&self) -> String {
        self.keystone.url("/v3")
    }

    /// A client of this Keystone.
    pub fn client(&self, keys: &[(&'static str, &str)]) -> Keystone {
        let url = auth_url("--endpoint", &self.identity()).unwrap();
        Keystone::new(rest(), url, credentials(keys), Redactor::new())
    }
}

/// A user with a password, on a project.
pub const PASSWORD: &[(&str, &str)] = &[
    ("username", "bob"),
    ("password", "pa55word"),
    ("userDomainName", "Users"),
    ("projectID", "p1"),
];
/// A token on a project.
pub const TOKEN: &[(&str, &str)] = &[
    ("authType", "token"),
    ("token", "gAAAAtoken-0"),
    ("projectID", "p1"),
];
/// An application credential by its id.
pub const APPLICATION_CREDENTIAL: &[(&str, &str)] = &[
    ("authType", "applicationcredential"),
    ("applicationCredentialID", "c1"),
    ("applicationCredentialSecret", "app5ecret"),
];

pub fn credentials(keys: &[(&'static str, &str)]) -> Credentials {
    Credentials::from_keys(|key| {
        keys.iter()
            .find(|(name, _)| *name == key)
            .map(|(_, value)| SecretString::from(*value))
    })
    .unwrap()
}

pub fn settings() -> Settings {
    Settings {
        trust: Trust::System,
        proxies: Proxies::none(),
        egress: Egress::anywhere(),
        timeouts: Timeouts::default(),
        user_agent: "test/0".into(),
    }
}

pub fn rest() -> Rest {
    Rest::new(&settings()).unwrap()
}

/// Fails if a text shows a secret.
pub fn assert_discreet(text: &str) {
    for secret in SECRETS {
        assert!(!text.contains(secret), "{secret} shows in: {text}");
    }
    for name in ["bob", "Users", "p1 ", "\"p1\""] {
        assert!(!text.contains(name), "{name} shows in: {text}");
    }
}

/// A clock on which every wait of a thread that copies is over at once.
#[derive(Debug, Default)]
pub struct Leap(AtomicU64);

impl Clock for Leap {
    fn now(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::SeqCst))
    }

    fn wait(&self, period: Duration, cancel: &Cancel) -> bool {
        let copies = std::thread::current()
            .name()
            .is_some_and(|name| name.starts_with("copy-"));
        if !copies {
            return cancel.wait(period);
        }
        let millis = u64::try_from(period.as_millis()).unwrap();
        self.0.fetch_add(millis, Ordering::SeqCst);
        cancel.is_cancelled()
    }
}
