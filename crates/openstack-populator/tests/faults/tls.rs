//! Certificates and handshakes.

use std::{
    io::{Read, Write},
    net::TcpListener,
    thread,
};

use contract::Exit;
use testkit::{ConnectionFault, Cut, Fault, Reply, Server, When, pki::LOCAL};

use crate::fixture::start;

#[test]
fn a_system_without_authorities() {
    let fixture = start();
    let command = fixture
        .command()
        .env("cacert", "")
        .env("SSL_CERT_FILE", "/nonexistent")
        .env("SSL_CERT_DIR", "/nonexistent");
    fixture.fails_with(&command, Exit::Configuration, &["`cacert`"]);
    assert!(fixture.source.server().requests().is_empty());
}

#[test]
fn a_server_without_tls() {
    let fixture = start();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/v3", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let command = fixture.command_without_source(&fixture.target());
    let secret = fixture.source.secret().into_iter();
    let command = secret
        .fold(command, |command, (key, value)| command.env(key, value))
        .flag("endpoint", url)
        .flag("image-id", testkit::fake::glance::IMAGE);
    fixture.fails_with(&command, Exit::Tls, &["http or https"]);
}

#[test]
fn handshakes_that_are_cut_are_tried_again() {
    let fixture = start();
    let server = fixture.source.server();
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
    let fixture = start();
    let config = fixture.authority.server(LOCAL).server_config();
    let elsewhere = Server::builder()
        .tls(config)
        .object("/blob", fixture.disk.object())
        .start();
    let location = elsewhere.url("/blob?signature=1");
    let file = testkit::fake::glance::FILE;
    fixture
        .source
        .server()
        .route(file, move |_| Reply::redirect(302, &location));
    // Another request goes there directly.
    elsewhere.fault(When::any(), Fault::cut(100_000, Cut::Orderly));
    fixture.copies();
    let requests = elsewhere.requests();
    assert_eq!(requests.len(), 2);
    for request in requests {
        assert_eq!(request.header("x-auth-token"), None);
        assert_eq!(request.header("authorization"), None);
    }
}

#[test]
fn a_redirect_from_https_to_http_is_refused() {
    let fixture = start();
    let elsewhere = Server::builder()
        .object("/blob", fixture.disk.object())
        .start();
    let location = elsewhere.url("/blob");
    let file = testkit::fake::glance::FILE;
    fixture
        .source
        .server()
        .route(file, move |_| Reply::redirect(302, &location));
    fixture.fails(Exit::SourceProtocol, &[]);
    assert!(elsewhere.requests().is_empty());
}

#[test]
fn redirects_in_a_circle() {
    let fixture = start();
    let server = fixture.source.server();
    let file = testkit::fake::glance::FILE;
    let location = server.url(file);
    server.route(file, move |_| Reply::redirect(302, &location));
    fixture.fails(Exit::SourceProtocol, &["redirect"]);
    assert!(fixture.source.data_requests().len() < 50);
}
