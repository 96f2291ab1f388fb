//! Certificates, handshakes and redirects.

use contract::Exit;
use testkit::{
    ConnectionFault, Cut, Reply, Server,
    fake::engine::IMAGES,
    pki::{Authority, LOCAL},
};

use crate::fixture::{request, start};

#[test]
fn a_host_whose_certificate_is_not_trusted() {
    let fixture = start();
    let other = Authority::new("another").server(LOCAL).server_config();
    let fault = ConnectionFault::Identity(other);
    fixture.source.data().connection_faults_from(0, fault);
    fixture.fails(Exit::Tls, &["certificate"]);
    assert!(fixture.source.data().requests().is_empty());
}

#[test]
fn handshakes_that_are_cut_are_tried_again() {
    let fixture = start();
    let server = fixture.source.data();
    server.connection_fault(1, ConnectionFault::AbortHandshake(Cut::Reset));
    server.connection_fault(2, ConnectionFault::DropAfterHandshake(Cut::Orderly));
    fixture
        .source
        .api()
        .connection_fault(0, ConnectionFault::AbortHandshake(Cut::Fin));
    server.fault(request(0), testkit::Fault::cut(10, Cut::Reset));
    fixture.copies();
}

#[test]
fn data_that_is_redirected_to_another_host() {
    let fixture = start();
    let elsewhere = Server::builder().object("/", fixture.disk.object()).start();
    let location = elsewhere.url("/blob");
    fixture
        .source
        .data()
        .route(IMAGES, move |_| Reply::redirect(302, &location));
    let run = fixture.command().flag("no-progress-timeout", "2s").run();
    assert_ne!(run.code(), Some(0), "{}", run.output());
    assert!(elsewhere.requests().is_empty());
}
