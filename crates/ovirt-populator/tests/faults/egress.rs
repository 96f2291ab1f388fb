//! Where the engine may lead.

use contract::{Exit, args::environment};
use serde_json::json;
use testkit::{
    Fault, Reply, Server, When,
    fake::{Engine, engine::TRANSFERS},
    mover::Fixture,
};

use crate::fixture::start;

/// The engine's next transfer is at this URL, which also its proxy has.
fn lead_to(fixture: &Fixture<Engine>, url: &str) {
    let transfer = json!({"id": "7b0e55d1-0000-4000-8000-0000000000ff", "phase": "transferring",
                          "transfer_url": url, "proxy_url": url});
    let api = fixture.source.api();
    let when = When::path(TRANSFERS).method("POST");
    api.fault(when, Fault::Answer(Reply::json(201, &transfer)));
}

#[test]
fn a_ticket_that_leaves_https_is_not_used() {
    let fixture = start();
    let daemon = Server::builder().start();
    lead_to(&fixture, &daemon.url("/images/a-ticket"));
    fixture.fails(Exit::SourceProtocol, &["plain http", "--allow-plain-http"]);
    assert_eq!(daemon.connections(), 0);
    assert!(!fixture.target().exists());
}

#[test]
fn a_ticket_may_leave_https_where_that_is_allowed() {
    let fixture = start();
    let daemon = Server::builder()
        .object("/images/", fixture.disk.object())
        .start();
    for asks in [
        fixture.command().arg("--allow-plain-http"),
        fixture.command().env(environment::ALLOW_PLAIN_HTTP, "true"),
    ] {
        lead_to(&fixture, &daemon.url("/images/a-ticket"));
        let before = daemon.requests().len();
        let run = asks.flag("no-progress-timeout", "1s").arg("--force").run();
        assert!(daemon.requests().len() > before, "{}", run.output());
        let warnings = run.output().matches("is plain http").count();
        assert_eq!(warnings, 1, "{}", run.output());
    }
}

#[test]
fn a_ticket_at_the_metadata_of_a_cloud_is_not_used() {
    for url in [
        "https://169.254.169.254/images/x",
        "https://[::ffff:169.254.169.254]/images/x",
        "https://0.0.0.0/images/x",
    ] {
        let fixture = start();
        lead_to(&fixture, url);
        fixture.fails(Exit::SourceProtocol, &["--allow-local-targets"]);
        assert!(!fixture.target().exists());
    }
}

#[test]
fn a_ticket_with_user_information_is_refused() {
    let fixture = start();
    lead_to(&fixture, "https://joe:hunter2@127.0.0.1/images/x");
    fixture.fails(Exit::SourceProtocol, &["user name or a password"]);
    let run = fixture.command().run();
    assert!(!run.output().contains("hunter2"), "{}", run.output());
}
