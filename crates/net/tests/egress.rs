//! Where a server may lead. Each through both clients.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{assert_kind, by_rest, connector, plain, url};
use http::HeaderMap;
use net::{Allow, Egress, Error, Kind, Proxies, Settings};
use testkit::{Reply, Server};

/// Follows redirects as a reader of data does.
fn by_connection(settings: &Settings, to: &str) -> Result<Vec<u8>, Error> {
    let connector = connector(settings);
    let mut at = url(to);
    loop {
        let mut connection = connector.connect(&at)?;
        let head = connection.get(&at, &HeaderMap::new())?;
        match connector.redirect_target(&at, head.status, &head.headers)? {
            Some(to) => at = to,
            None => return connection.read_to_end(1000),
        }
    }
}

type Fetch = fn(&Settings, &str) -> Result<Vec<u8>, Error>;
const BOTH: [Fetch; 2] = [by_rest, by_connection];

fn from(source: &str, allow: Allow) -> Settings {
    Settings {
        egress: Egress::from_source(&url(source), allow).unwrap(),
        ..plain()
    }
}

fn server() -> Server {
    Server::builder().object("/x", b"body".to_vec()).start()
}

#[test]
fn a_name_of_this_machine_is_not_connected_to_for_a_server_elsewhere() {
    let server = server();
    let by_name = server.url_as("localhost", "/x");
    for fetch in BOTH {
        let settings = from("http://source.example", Allow::default());
        let error = assert_kind(fetch(&settings, &by_name), Kind::Redirect);
        assert!(
            error.to_string().contains("--allow-local-targets"),
            "{error}"
        );
        assert!(!error.was_sent());
        assert_eq!(server.connections(), 0);
    }
    let allow = Allow {
        local_targets: true,
        ..Allow::default()
    };
    for fetch in BOTH {
        let settings = from("http://source.example", allow);
        assert_eq!(fetch(&settings, &by_name).unwrap(), b"body");
    }
}

#[test]
fn a_redirect_to_the_metadata_of_a_cloud_is_not_followed() {
    let server = server();
    for location in [
        "http://169.254.169.254/latest/user-data",
        "http://[::ffff:a9fe:a9fe]/latest/user-data",
        "http://[fd00:ec2::254]/latest/user-data",
        "http://2852039166/latest/user-data",
    ] {
        server.route("/away", move |_| Reply::redirect(302, location));
        for fetch in BOTH {
            let settings = from(&server.url(""), Allow::default());
            assert_kind(fetch(&settings, &server.url("/away")), Kind::Redirect);
        }
    }
}

#[test]
fn a_source_on_this_machine_leads_to_this_machine() {
    let (server, other) = (server(), server());
    let location = other.url("/x");
    server.route("/away", move |_| Reply::redirect(302, &location));
    for source in [server.url(""), server.url_as("localhost", "")] {
        for fetch in BOTH {
            let settings = from(&source, Allow::default());
            // The log-in.
            assert_eq!(fetch(&settings, &format!("{source}/x")).unwrap(), b"body");
            let body = fetch(&settings, &format!("{source}/away"));
            assert_eq!(body.unwrap(), b"body");
        }
    }
}

#[test]
fn a_proxy_is_not_asked_for_an_address_that_is_ruled_out() {
    let proxy = Server::builder()
        .object("http://", b"by proxy".to_vec())
        .start();
    let settings = Settings {
        proxies: Proxies::new(Some(&proxy.url("")), None, None),
        ..from("http://source.example", Allow::default())
    };
    for fetch in BOTH {
        for to in [
            "http://169.254.169.254/",
            "http://localhost/",
            "http://[::1]:80/",
        ] {
            assert_kind(fetch(&settings, to), Kind::Redirect);
        }
        assert!(proxy.requests().is_empty());
    }
    // The proxy itself may be on this machine.
    for fetch in BOTH {
        let body = fetch(&settings, "http://other.example/");
        assert_eq!(body.unwrap(), b"by proxy");
    }
}
