//! Certificates, handshakes and redirects.

use contract::Exit;
use testkit::{
    ConnectionFault, Cut, Reply, Server,
    fake::{Engine, engine::IMAGES},
    pki::{Authority, Identity, LOCAL},
};

use crate::fixture::Fixture;

/// The fixture with another identity of both servers, and with what the secret calls its CA.
fn fixture(identity: &Identity, cacert: &str) -> (Fixture, testkit::Command) {
    let mut fixture = Fixture::new();
    fixture.engine = Engine::start(&fixture.disk, Some(&identity.server_config()));
    let command = fixture.command().env("cacert", cacert);
    (fixture, command)
}

#[test]
fn certificates_that_nobody_should_trust() {
    let authority = Authority::new("authority");
    for identity in [
        Authority::new("another").server(LOCAL),
        authority.server(&["engine.example"]),
        authority.expired(LOCAL),
        Identity::self_signed(LOCAL),
    ] {
        let (fixture, command) = fixture(&identity, &authority.pem());
        fixture.fails_with(&command, Exit::Tls, &["certificate"]);
        assert!(fixture.engine.api().requests().is_empty());
        let insecure = command.env("insecureSkipVerify", "1");
        fixture.copies_with(&insecure);
    }
}

#[test]
fn a_host_whose_certificate_is_not_trusted() {
    let fixture = Fixture::new();
    let other = Authority::new("another").server(LOCAL).server_config();
    let fault = ConnectionFault::Identity(other);
    fixture.engine.data().connection_faults_from(0, fault);
    fixture.fails(Exit::Tls, &["certificate"]);
    assert!(fixture.engine.data().requests().is_empty());
}

#[test]
fn a_self_signed_engine_that_calls_itself_an_authority() {
    let own = Identity::self_signed_authority(LOCAL);
    let (fixture, command) = fixture(&own, &own.pem());
    fixture.copies_with(&command);
}

#[test]
fn handshakes_that_are_cut_are_tried_again() {
    let fixture = Fixture::new();
    let server = fixture.engine.data();
    server.connection_fault(1, ConnectionFault::AbortHandshake(Cut::Reset));
    server.connection_fault(2, ConnectionFault::DropAfterHandshake(Cut::Orderly));
    fixture
        .engine
        .api()
        .connection_fault(0, ConnectionFault::AbortHandshake(Cut::Fin));
    server.fault(
        crate::fixture::request(0),
        testkit::Fault::cut(10, Cut::Reset),
    );
    fixture.copies();
}

#[test]
fn the_password_does_not_follow_a_redirect() {
    let fixture = Fixture::new();
    let config = fixture.authority.server(LOCAL).server_config();
    let elsewhere = Server::builder().tls(config).start();
    let location = elsewhere.url("/ovirt-engine/sso/oauth/token");
    let token = testkit::fake::engine::TOKEN;
    fixture
        .engine
        .api()
        .route(token, move |_| Reply::redirect(307, &location));
    let run = fixture.command().run();
    assert_ne!(run.code(), Some(0), "{}", run.output());
    let told = |request: &testkit::Request| {
        request.text().contains("password") || request.header("authorization").is_some()
    };
    assert!(!elsewhere.requests().iter().any(told));
}

#[test]
fn data_that_is_redirected_to_another_host() {
    let fixture = Fixture::new();
    let elsewhere = Server::builder().object("/", fixture.disk.object()).start();
    let location = elsewhere.url("/blob");
    fixture
        .engine
        .data()
        .route(IMAGES, move |_| Reply::redirect(302, &location));
    let run = fixture.command().flag("no-progress-timeout", "2s").run();
    assert_ne!(run.code(), Some(0), "{}", run.output());
    assert!(elsewhere.requests().is_empty());
}
