//! Where Keystone and Glance may lead.

use contract::{Exit, args::environment};
use serde_json::json;
use testkit::{
    Fault, Reply, Server, When,
    fake::{
        Glance,
        glance::{FILE, RECORD, TOKEN_PREFIX, TOKENS},
    },
    mover::Fixture,
};

use crate::fixture::start;

/// Keystone's catalog leads to this URL from now on.
fn lead_to(fixture: &Fixture<Glance>, url: &str) {
    let token = json!({"token": {"expires_at": "2999-01-01T00:00:00Z", "catalog": [
        {"type": "image", "endpoints": [{"interface": "public", "region_id": "RegionOne", "url": url}]}
    ]}});
    let answer = Reply::json(201, &token).header("X-Subject-Token", &format!("{TOKEN_PREFIX}1"));
    let server = fixture.source.server();
    server.fault(When::path(TOKENS).always(), Fault::Answer(answer));
}

/// A Glance with the fixture's image, over plain http.
fn plain_glance(fixture: &Fixture<Glance>) -> Server {
    let image = json!({"status": "active", "disk_format": "raw", "container_format": "bare",
                       "size": fixture.disk.size()});
    Server::builder()
        .route(RECORD, move |_| Reply::json(200, &image))
        .object(FILE, fixture.disk.object())
        .start()
}

#[test]
fn a_catalog_that_leaves_https_gets_no_token() {
    let fixture = start();
    let glance = plain_glance(&fixture);
    lead_to(&fixture, &glance.url("/"));
    fixture.fails(Exit::SourceProtocol, &["plain http", "--allow-plain-http"]);
    assert!(glance.requests().is_empty());
    assert_eq!(glance.connections(), 0);
    assert!(!fixture.target().exists());
}

#[test]
fn a_catalog_may_leave_https_where_that_is_allowed() {
    for by_environment in [false, true] {
        let fixture = start();
        let glance = plain_glance(&fixture);
        lead_to(&fixture, &glance.url("/"));
        let command = fixture.command();
        let command = if by_environment {
            command.env(environment::ALLOW_PLAIN_HTTP, "1")
        } else {
            command.arg("--allow-plain-http")
        };
        let run = command.run();
        fixture.has_copied(&run);
        let warnings = run.output().matches("is plain http").count();
        assert_eq!(warnings, 1, "{}", run.output());
    }
}

#[test]
fn one_warning_says_that_no_certificate_is_checked() {
    let fixture = start();
    let run = fixture.command().env("insecureSkipVerify", "true").run();
    fixture.has_copied(&run);
    let warnings = run.output().matches("no certificate is checked").count();
    assert_eq!(warnings, 1, "{}", run.output());
}

#[test]
fn nothing_is_fetched_from_the_metadata_of_a_cloud() {
    for location in [
        "https://169.254.169.254/latest/user-data",
        "https://[fd00:ec2::254]/latest/user-data",
    ] {
        let fixture = start();
        let server = fixture.source.server();
        server.route(FILE, move |_| Reply::redirect(302, location));
        fixture.fails(Exit::SourceProtocol, &["--allow-local-targets"]);
        assert!(!fixture.target().exists());
    }
    let fixture = start();
    lead_to(&fixture, "https://169.254.169.254/");
    fixture.fails(Exit::SourceProtocol, &["--allow-local-targets"]);
    assert!(!fixture.target().exists());
}

#[test]
fn user_information_in_what_keystone_and_glance_state_is_refused() {
    let fixture = start();
    lead_to(&fixture, "https://joe:hunter2@127.0.0.1/");
    fixture.fails(Exit::SourceProtocol, &["user name or a password"]);
    let fixture = start();
    let location = "https://joe:hunter2@127.0.0.1/blob";
    let server = fixture.source.server();
    server.route(FILE, move |_| Reply::redirect(302, location));
    fixture.fails(Exit::SourceProtocol, &["user name or a password"]);
}
