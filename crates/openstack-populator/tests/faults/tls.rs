//! Certificates and handshakes.

use std::{
    io::{Read, Write},
    net::TcpListener,
    thread,
};

use contract::Exit;
use testkit::{
    ConnectionFault, Cut, Reply, Server,
    fake::Glance,
    pki::{Authority, Identity, LOCAL},
};

use crate::fixture::Fixture;

/// The fixture with another identity of the server, and with what the secret calls its CA.
fn fixture(identity: &Identity, cacert: &str) -> (Fixture, testkit::Command) {
    let mut fixture = Fixture::new();
    fixture.glance = Glance::start(&fixture.disk, Some(identity.server_config()));
    let command = fixture.command().env("cacert", cacert);
    (fixture, command)
}

#[test]
fn certificates_that_nobody_should_trust() {
    let authority = Authority::new("authority");
    let other = Authority::new("another");
    for (identity, cacert) in [
        (other.server(LOCAL), authority.pem()),
        (authority.server(&["glance.example"]), authority.pem()),
        (authority.expired(LOCAL), authority.pem()),
        (authority.not_yet_valid(LOCAL), authority.pem()),
        (Identity::self_signed(LOCAL), authority.pem()),
        (
            authority
                .intermediate("i")
                .server(LOCAL)
                .without_intermediates(),
            authority.pem(),
        ),
    ] {
        let (fixture, command) = fixture(&identity, &cacert);
        fixture.fails_with(&command, Exit::Tls, &["certificate"]);
        assert!(fixture.glance.server().requests().is_empty());
        let insecure = command.env("insecureSkipVerify", "true");
        fixture.copies_with(&insecure);
    }
}

#[test]
fn certificates_to_be_trusted() {
    let authority = Authority::new("authority");
    let bundle = format!("{}{}", Authority::new("another").pem(), authority.pem());
    let (own, small) = (
        Identity::self_signed(LOCAL),
        Identity::self_signed_authority(LOCAL),
    );
    let (own_pem, small_pem) = (own.pem(), small.pem());
    for (identity, cacert) in [
        (authority.intermediate("i").server(LOCAL), bundle),
        (own, own_pem),
        (small, small_pem),
    ] {
        let (fixture, command) = fixture(&identity, &cacert);
        fixture.copies_with(&command);
    }
}

#[test]
fn a_system_without_authorities() {
    let fixture = Fixture::new();
    let command = fixture
        .command()
        .env("cacert", "")
        .env("SSL_CERT_FILE", "/nonexistent")
        .env("SSL_CERT_DIR", "/nonexistent");
    fixture.fails_with(&command, Exit::Configuration, &["`cacert`"]);
    assert!(fixture.glance.server().requests().is_empty());
}

#[test]
fn a_server_without_tls() {
    let fixture = Fixture::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/v3", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let command = fixture.command_with(&url, &fixture.target());
    fixture.fails_with(&command, Exit::Tls, &["http or https"]);
}

#[test]
fn handshakes_that_are_cut_are_tried_again() {
    let fixture = Fixture::new();
    let server = fixture.glance.server();
    let faults = [
        ConnectionFault::AbortHandshake(Cut::Reset),
        ConnectionFault::AbortHandshake(Cut::Fin),
        ConnectionFault::DropAfterHandshake(Cut::Orderly),
        ConnectionFault::Drop(Cut::Reset),
    ];
    // The first connection is the control calls'; those after it carry data.
    for (number, fault) in faults.into_iter().enumerate() {
        server.connection_fault(number + 1, fault);
    }
    fixture.copies();
}

#[test]
fn a_redirect_to_another_host_carries_no_credentials() {
    let fixture = Fixture::new();
    let config = fixture.authority.server(LOCAL).server_config();
    let elsewhere = Server::builder()
        .tls(config)
        .object("/blob", fixture.disk.object())
        .start();
    let location = elsewhere.url("/blob?signature=1");
    let file = testkit::fake::glance::FILE;
    fixture
        .glance
        .server()
        .route(file, move |_| Reply::redirect(302, &location));
    fixture.copies();
    let requests = elsewhere.requests();
    assert!(requests.len() > 2);
    for request in requests {
        assert_eq!(request.header("x-auth-token"), None);
        assert_eq!(request.header("authorization"), None);
    }
}

#[test]
fn a_redirect_from_https_to_http_is_refused() {
    let fixture = Fixture::new();
    let elsewhere = Server::builder()
        .object("/blob", fixture.disk.object())
        .start();
    let location = elsewhere.url("/blob");
    let file = testkit::fake::glance::FILE;
    fixture
        .glance
        .server()
        .route(file, move |_| Reply::redirect(302, &location));
    fixture.fails(Exit::SourceProtocol, &[]);
    assert!(elsewhere.requests().is_empty());
}

#[test]
fn the_password_does_not_follow_a_redirect() {
    let fixture = Fixture::new();
    let config = fixture.authority.server(LOCAL).server_config();
    let elsewhere = Server::builder().tls(config).start();
    let location = elsewhere.url("/v3/auth/tokens");
    let tokens = testkit::fake::glance::TOKENS;
    let server = fixture.glance.server();
    server.route(tokens, move |_| Reply::redirect(307, &location));
    let run = fixture.command().run();
    assert_ne!(run.code(), Some(0), "{}", run.output());
    let told = |request: &testkit::Request| request.text().contains("password");
    assert!(!elsewhere.requests().iter().any(told));
}

#[test]
fn redirects_in_a_circle() {
    let fixture = Fixture::new();
    let server = fixture.glance.server();
    let file = testkit::fake::glance::FILE;
    let location = server.url(file);
    server.route(file, move |_| Reply::redirect(302, &location));
    fixture.fails(Exit::SourceProtocol, &["redirect"]);
    assert!(fixture.glance.data_requests().len() < 50);
}
