//! Whom the clients trust. Every case goes through both: the data path and the REST client.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::{io::Write, net::TcpListener, thread};

use common::{answers, assert_kind, connect, connector, get, pki, read_head, texts, trusting, url};
use http::HeaderMap;
use net::{Error, Kind, Rest, Settings, Trust};
use testkit::{
    ConnectionFault, Server,
    pki::{Authority, Identity, LOCAL, Mark},
    plain::assert_plain,
};

fn by_rest(settings: &Settings, to: &str) -> Result<Vec<u8>, Error> {
    get(&Rest::new(settings).unwrap(), to)
}

fn by_connection(settings: &Settings, to: &str) -> Result<Vec<u8>, Error> {
    let mut connection = connect(settings, to)?;
    connection.get(&url(to), &HeaderMap::new())?;
    connection.read_to_end(1 << 20)
}

/// Fetches `to` over the data path and by the REST client, which must agree on success and kind.
fn fetch(settings: &Settings, to: &str) -> Result<Vec<u8>, Error> {
    let by_rest = by_rest(settings, to);
    let by_connection = by_connection(settings, to);
    match (&by_rest, &by_connection) {
        (Ok(body), Ok(other)) => assert_eq!(body, other),
        (Err(one), Err(other)) => {
            assert_eq!(
                one.kind(),
                other.kind(),
                "{} / {}",
                texts(one),
                texts(other)
            );
            assert_eq!(one.to_string(), other.to_string());
            assert!(!one.was_sent() && !other.was_sent());
        }
        _ => panic!("{by_rest:?} / {by_connection:?}"),
    }
    by_connection
}

fn serve(identity: &Identity) -> Server {
    Server::builder()
        .tls(identity.server_config())
        .object("/x", b"body".to_vec())
        .start()
}

#[track_caller]
fn trusted(settings: &Settings, server: &Server) {
    assert_eq!(fetch(settings, &server.url("/x")).unwrap(), b"body");
}

#[track_caller]
fn refused(settings: &Settings, to: &str, why: &str) {
    let error = assert_kind(fetch(settings, to), Kind::Certificate);
    let text = error.to_string();
    for part in [why, "https://", "`insecureSkipVerify`"] {
        assert!(text.contains(part), "{text}");
    }
    assert_plain(&error.chain());
}

#[test]
fn own_authority() {
    let (authority, identity) = pki();
    let server = serve(&identity);
    trusted(&trusting(&authority.pem()), &server);
    let by_name = server.url_as("localhost", "/x");
    assert_eq!(
        fetch(&trusting(&authority.pem()), &by_name).unwrap(),
        b"body"
    );
}

#[test]
fn chain_over_an_intermediate() {
    let root = Authority::new("root");
    let middle = root.intermediate("middle");
    let server = serve(&middle.server(LOCAL));
    trusted(&trusting(&root.pem()), &server);
    // The bundle may also hold the intermediate alone.
    trusted(&trusting(&middle.pem()), &server);
    let forgetful = serve(&middle.server(LOCAL).without_intermediates());
    refused(
        &trusting(&root.pem()),
        &forgetful.url("/x"),
        "unknown issuer",
    );
    trusted(&trusting(&(root.pem() + &middle.pem())), &forgetful);
}

#[test]
fn only_authorities_issue_certificates() {
    for (mark, issues) in [
        (Mark::Authority, true),
        (Mark::AuthorityWithoutUsage, true),
        (Mark::NotForSigning, false),
        (Mark::Leaf, false),
        (Mark::Nothing, false),
    ] {
        let issuer = Authority::marked("host.example", mark);
        let server = serve(&issuer.server(LOCAL));
        // Alone in the bundle, and beside an authority.
        for bundle in [
            issuer.pem(),
            issuer.pem() + &Authority::new("another").pem(),
        ] {
            if issues {
                trusted(&trusting(&bundle), &server);
            } else {
                let to = server.url("/x");
                refused(&trusting(&bundle), &to, "not marked as an authority");
            }
        }
    }
}

#[test]
fn the_key_of_a_trusted_server_issues_nothing() {
    // What a user trusts by its own certificate; its key makes another certificate, for any host.
    let host = Authority::marked("127.0.0.1", Mark::Leaf);
    let forged = host.intermediate("below").server(LOCAL);
    let server = serve(&forged);
    let error = assert_kind(
        fetch(&trusting(&host.pem()), &server.url("/x")),
        Kind::Certificate,
    );
    assert_plain(&error.chain());
}

#[test]
fn an_authority_of_version_1() {
    let authority = Authority::new("old root");
    let old = authority.version_1_pem();
    assert_ne!(old, authority.pem());
    trusted(&trusting(&old), &serve(&authority.server(LOCAL)));
    let below = authority.intermediate("middle").server(LOCAL);
    trusted(&trusting(&old), &serve(&below));
    let other = Authority::new("old root").server(LOCAL);
    assert_kind(
        fetch(&trusting(&old), &serve(&other).url("/x")),
        Kind::Certificate,
    );
}

#[test]
fn several_authorities_in_a_bundle_with_other_blocks() {
    let (authority, identity) = pki();
    let other = Authority::new("another");
    let bundle = format!(
        "comment\n{}{}\n{}",
        other.pem(),
        identity.key_pem(),
        authority.pem()
    );
    trusted(&trusting(&bundle), &serve(&identity));
    trusted(&trusting(&bundle), &serve(&other.server(LOCAL)));
}

#[test]
fn self_signed_as_its_own_authority() {
    for identity in [
        Identity::self_signed(LOCAL),
        Identity::self_signed_authority(LOCAL),
    ] {
        let server = serve(&identity);
        trusted(&trusting(&identity.pem()), &server);
        let stranger = trusting(&Authority::new("other").pem());
        assert_kind(fetch(&stranger, &server.url("/x")), Kind::Certificate);
    }
}

#[test]
fn self_signed_for_another_host_is_refused_though_given() {
    for identity in [
        Identity::self_signed(&["other.example"]),
        Identity::self_signed_authority(&["other.example"]),
    ] {
        let server = serve(&identity);
        refused(
            &trusting(&identity.pem()),
            &server.url("/x"),
            "not for this host",
        );
    }
}

#[test]
fn wrong_host() {
    let authority = Authority::new("ca");
    let server = serve(&authority.server(&["other.example", "127.0.0.9"]));
    let settings = trusting(&authority.pem());
    refused(&settings, &server.url("/x"), "not for this host");
    refused(
        &settings,
        &server.url_as("localhost", "/x"),
        "other.example",
    );
}

#[test]
fn a_common_name_alone_counts_for_a_certificate_that_the_bundle_vouches_for() {
    let authority = Authority::new("ca");
    let named = authority.server_without_names("127.0.0.1");
    let server = serve(&named);
    trusted(&trusting(&authority.pem()), &server);
    trusted(&trusting(&named.pem()), &server);
    let settings = trusting(&authority.pem());
    let other = server.url_as("localhost", "/x");
    refused(
        &settings,
        &other,
        "its common name is \"127.0.0.1\", not this host",
    );
    refused(&trusting(&named.pem()), &other, "have it issued again");
    refused(
        &trusting(&Authority::new("other").pem()),
        &server.url("/x"),
        "unknown issuer",
    );
    // Names count where there are some.
    let both = authority.server(&["other.example"]);
    refused(
        &settings,
        &serve(&both).url("/x"),
        "it is for other.example, not for this host",
    );
}

#[test]
fn a_handshake_that_fails_twice_may_be_damage_on_the_way() {
    let (authority, identity) = pki();
    let server = serve(&identity);
    for fault in [
        ConnectionFault::NotTls,
        ConnectionFault::Identity(Authority::new("other").server(LOCAL).server_config()),
    ] {
        let settings = trusting(&authority.pem());
        for first in [0, 1] {
            // Both clients begin with two connections that fail.
            let from = server.connections();
            for connection in [from, from + 1] {
                server.connection_fault(connection, fault.clone());
            }
            let fetched = if first == 0 {
                by_rest(&settings, &server.url("/x"))
            } else {
                by_connection(&settings, &server.url("/x"))
            };
            assert_eq!(fetched.unwrap(), b"body");
            assert_eq!(server.connections(), from + 3);
        }
    }
    // A third one is believed.
    let from = server.connections();
    server.connection_faults_from(from, ConnectionFault::NotTls);
    let settings = trusting(&authority.pem());
    assert_kind(by_connection(&settings, &server.url("/x")), Kind::Tls);
    assert_kind(by_rest(&settings, &server.url("/x")), Kind::Tls);
    assert_eq!(server.connections(), from + 6);
}

#[test]
fn outside_its_dates() {
    let authority = Authority::new("ca");
    let settings = trusting(&authority.pem());
    let expired = authority.expired(LOCAL);
    refused(&settings, &serve(&expired).url("/x"), "expired");
    // Also when the certificate itself is in the bundle.
    refused(
        &trusting(&expired.pem()),
        &serve(&expired).url("/x"),
        "expired",
    );
    let early = authority.not_yet_valid(LOCAL);
    refused(&settings, &serve(&early).url("/x"), "not valid yet");
    refused(
        &trusting(&early.pem()),
        &serve(&early).url("/x"),
        "not valid yet",
    );
}

#[test]
fn wrong_authority() {
    let (_, identity) = pki();
    let server = serve(&identity);
    refused(
        &trusting(&Authority::new("other").pem()),
        &server.url("/x"),
        "unknown issuer",
    );
    // What was given already is not advised again.
    let settings = trusting(&Authority::new("other").pem());
    let error = fetch(&settings, &server.url("/x")).unwrap_err().to_string();
    assert!(error.contains("none of the 1 in `cacert`"), "{error}");
    assert!(error.contains("issuer \"CN=an authority\""), "{error}");
    // The same name with another key, as after a reinstallation.
    let namesake = Authority::new("an authority");
    let error = assert_kind(
        fetch(&trusting(&namesake.pem()), &server.url("/x")),
        Kind::Certificate,
    );
    assert!(error.to_string().contains("`cacert`"), "{error}");
}

#[test]
fn system_authorities_do_not_trust_a_private_one() {
    let (authority, identity) = pki();
    let server = serve(&identity);
    let settings = Settings {
        trust: Trust::System,
        ..trusting(&authority.pem())
    };
    let error = fetch(&settings, &server.url("/x")).unwrap_err();
    // A machine without any authorities says so instead.
    assert!(
        matches!(error.kind(), Kind::Certificate | Kind::Settings),
        "{}",
        texts(&error)
    );
    assert!(error.to_string().contains("`cacert`"), "{error}");
}

/// Trust in the system's authorities, none of which has issued these certificates, and in a bundle.
fn beside_the_system(pem: &str) -> Settings {
    Settings {
        trust: Trust::system_and("--bundle=/some/file", pem.as_bytes()).unwrap(),
        ..trusting(pem)
    }
}

#[test]
fn what_counts_beside_the_system_counts_as_in_a_bundle() {
    let (authority, identity) = pki();
    trusted(&beside_the_system(&authority.pem()), &serve(&identity));
    let own = Identity::self_signed(LOCAL);
    trusted(&beside_the_system(&own.pem()), &serve(&own));
    let settings = beside_the_system(&authority.pem());
    for (identity, why) in [
        (
            authority.server(&["other.example"]),
            "it is for other.example",
        ),
        (authority.expired(LOCAL), "it has expired"),
    ] {
        refused(&settings, &serve(&identity).url("/x"), why);
    }
    // A server's own certificate issues nothing here either.
    let host = Authority::marked("127.0.0.1", Mark::Leaf);
    let forged = serve(&host.intermediate("below").server(LOCAL));
    let settings = beside_the_system(&host.pem());
    let error = assert_kind(fetch(&settings, &forged.url("/x")), Kind::Certificate);
    assert!(error.to_string().contains("unknown issuer"), "{error}");
}

#[test]
fn a_server_that_neither_vouches_for_is_refused_with_both_named() {
    let (_, identity) = pki();
    let server = serve(&identity);
    let settings = beside_the_system(&Authority::new("other").pem());
    for words in [
        "none of the 1 in --bundle=/some/file and none of the system's authorities",
        "add the certificate of its issuer \"CN=an authority\" to --bundle=/some/file, give it in `cacert`",
    ] {
        refused(&settings, &server.url("/x"), words);
    }
}

#[test]
fn insecure_accepts_every_certificate() {
    let authority = Authority::new("unknown");
    let settings = Settings {
        trust: Trust::Insecure,
        ..trusting(&authority.pem())
    };
    for identity in [
        authority.server(LOCAL),
        authority.server(&["other.example"]),
        authority.expired(LOCAL),
        Identity::self_signed_authority(LOCAL),
    ] {
        trusted(&settings, &serve(&identity));
    }
}

#[test]
fn both_versions_of_tls() {
    let (authority, identity) = pki();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let server = Server::builder()
            .tls(identity.server_config_with(&[version]))
            .object("/x", b"body".to_vec())
            .start();
        trusted(&trusting(&authority.pem()), &server);
    }
}

/// What such a server answers: the alert `protocol_version`, in a TLS 1.1 record.
const ALERT: &[u8] = b"\x15\x03\x02\x00\x02\x02\x46";
/// A `ServerHello` of version 3.2, which is TLS 1.1.
const HELLO: &[u8] = b"\x16\x03\x02\x00\x2a\x02\x00\x00\x26\x03\x02\
    aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\x00\xc0\x14\x00";

#[test]
fn a_server_that_only_speaks_old_tls() {
    let settings = trusting(&Authority::new("ca").pem());
    let to = format!("https://127.0.0.1:{}/x", answers(ALERT));
    let error = assert_kind(connect(&settings, &to), Kind::Tls);
    assert!(error.to_string().contains("TLS 1.2"), "{error}");
    // One that chooses TLS 1.1 regardless.
    let to = format!("https://127.0.0.1:{}/x", answers(HELLO));
    assert_kind(connect(&settings, &to), Kind::Tls);
}

#[test]
fn a_server_that_does_not_speak_tls() {
    let settings = trusting(&Authority::new("ca").pem());
    let to = format!(
        "https://127.0.0.1:{}/x",
        answers(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    );
    let error = assert_kind(connect(&settings, &to), Kind::Tls);
    assert!(error.to_string().contains("http or https"), "{error}");
    let silent = format!("https://127.0.0.1:{}/x", answers(b""));
    assert!(
        assert_kind(connect(&settings, &silent), Kind::Closed)
            .kind()
            .is_transient()
    );
}

#[test]
fn handshakes_that_are_refused_and_handshakes_that_are_broken_off() {
    let settings = trusting(&Authority::new("ca").pem());
    for (alert, kind, words) in [
        (40, Kind::Tls, "cipher"),
        (116, Kind::Tls, "client's certificate"),
        (112, Kind::Tls, "handshake failed"),
        (80, Kind::Closed, "broken off"),
        (0, Kind::Closed, "broken off"),
    ] {
        let record: &'static [u8] = vec![0x15, 3, 3, 0, 2, 2, alert].leak();
        let to = format!("https://127.0.0.1:{}/x", answers(record));
        let error = assert_kind(connect(&settings, &to), kind);
        assert!(error.to_string().contains(words), "{alert}: {error}");
        assert!(!error.was_sent());
    }
}

#[test]
fn sessions_are_resumed() {
    let (authority, identity) = pki();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = identity.server_config_with(&[version]);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = format!("https://{}/x", listener.local_addr().unwrap());
        let serving = thread::spawn(move || {
            [(); 2].map(|()| {
                let (stream, _) = listener.accept().unwrap();
                let tls = rustls::ServerConnection::new(config.clone()).unwrap();
                let mut stream = rustls::StreamOwned::new(tls, stream);
                read_head(&mut stream);
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                stream.write_all(answer).unwrap();
                stream.flush().unwrap();
                stream.conn.handshake_kind()
            })
        });
        let connector = connector(&trusting(&authority.pem()));
        for _ in 0..2 {
            let mut connection = connector.connect(&url(&to)).unwrap();
            connection.get(&url(&to), &HeaderMap::new()).unwrap();
            assert_eq!(connection.read_to_end(9).unwrap(), b"ok");
        }
        let [first, second] = serving.join().unwrap();
        assert_ne!(first, Some(rustls::HandshakeKind::Resumed));
        assert_eq!(second, Some(rustls::HandshakeKind::Resumed));
    }
}
