//! Certificates, handshakes and redirects.

use contract::Exit;
use testkit::{
    ConnectionFault, Cut, Reply, Server,
    fake::{Engine, engine::IMAGES},
    pki::{Authority, Identity, LOCAL},
};

use crate::bench::Bench;

/// The bench with another identity of both servers, and with what the secret calls its CA.
fn bench(identity: &Identity, cacert: &str) -> (Bench, testkit::Command) {
    let mut bench = Bench::new();
    bench.engine = Engine::start(&bench.disk, Some(&identity.server_config()));
    let command = bench.command().env("cacert", cacert);
    (bench, command)
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
        let (bench, command) = bench(&identity, &authority.pem());
        bench.fails_with(&command, Exit::Tls, &["certificate"]);
        assert!(bench.engine.api().requests().is_empty());
        let insecure = command.env("insecureSkipVerify", "1");
        bench.copies_with(&insecure);
    }
}

#[test]
fn a_host_whose_certificate_is_not_trusted() {
    let bench = Bench::new();
    let other = Authority::new("another").server(LOCAL).server_config();
    let fault = ConnectionFault::Identity(other);
    bench.engine.data().connection_faults_from(0, fault);
    bench.fails(Exit::Tls, &["certificate"]);
    assert!(bench.engine.data().requests().is_empty());
}

#[test]
fn a_self_signed_engine_that_calls_itself_an_authority() {
    let own = Identity::self_signed_authority(LOCAL);
    let (bench, command) = bench(&own, &own.pem());
    bench.copies_with(&command);
}

#[test]
fn handshakes_that_are_cut_are_tried_again() {
    let bench = Bench::new();
    let server = bench.engine.data();
    server.connection_fault(1, ConnectionFault::AbortHandshake(Cut::Reset));
    server.connection_fault(2, ConnectionFault::DropAfterHandshake(Cut::Orderly));
    bench
        .engine
        .api()
        .connection_fault(0, ConnectionFault::AbortHandshake(Cut::Fin));
    server.fault(
        crate::bench::request(0),
        testkit::Fault::cut(10, Cut::Reset),
    );
    bench.copies();
}

#[test]
fn the_password_does_not_follow_a_redirect() {
    let bench = Bench::new();
    let config = bench.authority.server(LOCAL).server_config();
    let elsewhere = Server::builder().tls(config).start();
    let location = elsewhere.url("/ovirt-engine/sso/oauth/token");
    let token = testkit::fake::engine::TOKEN;
    bench
        .engine
        .api()
        .route(token, move |_| Reply::redirect(307, &location));
    let run = bench.command().run();
    assert_ne!(run.code(), Some(0), "{}", run.output());
    let told = |request: &testkit::Request| {
        request.text().contains("password") || request.header("authorization").is_some()
    };
    assert!(!elsewhere.requests().iter().any(told));
}

#[test]
fn data_that_is_redirected_to_another_host() {
    let bench = Bench::new();
    let elsewhere = Server::builder().object("/", bench.disk.object()).start();
    let location = elsewhere.url("/blob");
    bench
        .engine
        .data()
        .route(IMAGES, move |_| Reply::redirect(302, &location));
    let run = bench.command().flag("patience", "2s").run();
    assert_ne!(run.code(), Some(0), "{}", run.output());
    assert!(elsewhere.requests().is_empty());
}
