//! The request for a token, and what its answers mean.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use net::Repeat;
use openstack_populator::keystone::{Availability, ManyRegions};
use secrecy::ExposeSecret;
use serde_json::json;
use support::{APPLICATION_CREDENTIAL, Cloud, PASSWORD, TOKEN, assert_discreet};
use testkit::{Fault, Reply, Server, When};
use transfer::Kind;

fn cloud() -> Cloud {
    Cloud::new(&json!({}), vec![1; 10])
}

#[tokio::test]
async fn one_request_gives_token_expiry_and_endpoint() {
    let cloud = cloud();
    for keys in [PASSWORD, TOKEN, APPLICATION_CREDENTIAL] {
        let before = cloud.tokens_given();
        let token = cloud
            .client(keys)
            .authenticate(Repeat::Never)
            .await
            .unwrap();
        assert_eq!(cloud.tokens_given(), before + 1);
        let number = before + 1;
        assert_eq!(token.id.expose_secret(), format!("gAAAAtoken-{number}"));
        assert_eq!(
            token.expires_at.unwrap().to_string(),
            "2026-11-23T09:00:00Z"
        );
        let catalog = token.catalog.as_ref().unwrap();
        let url = catalog
            .image_url(None, Availability::Public, ManyRegions::Refuse)
            .unwrap();
        assert_eq!(url.as_str(), cloud.glance.url("/v2"));
        assert!(token.headers().unwrap()["x-auth-token"].is_sensitive());
        assert_discreet(&format!("{token:?}"));
    }
    let request = &cloud.keystone.requests()[0];
    assert_eq!(request.path(), "/v3/auth/tokens");
    assert_eq!(request.header("content-type"), Some("application/json"));
    assert_eq!(
        request.json(),
        json!({"auth": {
            "identity": {"methods": ["password"], "password": {"user": {
                "name": "bob", "domain": {"name": "Users"}, "password": "pa55word",
            }}},
            "scope": {"project": {"id": "p1"}},
        }})
    );
}

#[tokio::test]
async fn refusals() {
    // Servers may repeat what they were sent; nothing of it may be repeated here.
    let echo = r#"{"error": {"message": "bob of Users with pa55word, app5ecret, gAAAAtoken-0"}}"#;
    for (status, kind, needle) in [
        (401, Kind::Credentials, "refuses the credentials"),
        (403, Kind::Permission, "forbids"),
        (400, Kind::Configuration, "keys"),
        (404, Kind::Configuration, "identity URL"),
        (405, Kind::Configuration, "identity URL"),
        (300, Kind::Configuration, "identity URL"),
        (409, Kind::Protocol, "409"),
        (204, Kind::Protocol, "204"),
        (429, Kind::Exhausted, "429"),
        (500, Kind::Exhausted, "500"),
        (503, Kind::Exhausted, "503"),
    ] {
        for keys in [PASSWORD, TOKEN, APPLICATION_CREDENTIAL] {
            let cloud = cloud();
            let reply = Reply::bytes(status, echo).header("X-OpenStack-Request-Id", "req-77");
            cloud.keystone.fault(When::any(), Fault::Answer(reply));
            let error = cloud
                .client(keys)
                .authenticate(Repeat::Never)
                .await
                .unwrap_err();
            let text = error.chain();
            assert_eq!(error.kind(), kind, "{text}");
            assert!(text.contains(needle) && text.contains("req-77"), "{text}");
            assert!(text.contains(&cloud.keystone.url("")), "{text}");
            testkit::plain::assert_plain(&text);
            assert_discreet(&format!("{text} {error:?}"));
        }
    }
}

#[tokio::test]
async fn a_404_of_keystone_itself_is_about_the_token() {
    for (body, kind, needle) in [
        (
            r#"{"error":{"code":404,"message":"Failed to validate token","title":"Not Found"}}"#,
            Kind::Credentials,
            "expired",
        ),
        (
            "<!doctype html><title>404 Not Found</title>",
            Kind::Configuration,
            "identity URL",
        ),
        (r#"{"error":"no"}"#, Kind::Configuration, "identity URL"),
    ] {
        let cloud = cloud();
        let reply = Reply::bytes(404, body);
        cloud.keystone.fault(When::any(), Fault::Answer(reply));
        let error = cloud
            .client(TOKEN)
            .authenticate(Repeat::Never)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), kind, "{}", error.chain());
        assert!(error.to_string().contains(needle), "{error}");
    }
}

/// What nginx and Apache say to http on a port of https.
#[tokio::test]
async fn a_400_that_is_not_keystones_hints_at_https() {
    let cloud = cloud();
    let page = "<html><title>400 The plain HTTP request was sent to HTTPS port</title></html>";
    cloud
        .keystone
        .fault(When::any(), Fault::Answer(Reply::bytes(400, page)));
    let error = cloud
        .client(PASSWORD)
        .authenticate(Repeat::Never)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Configuration);
    let text = error.chain();
    for needle in ["identity URL", "try https://"] {
        assert!(text.contains(needle), "{text}");
    }
    assert!(!text.contains("names, ids and domains"), "{text}");
    testkit::plain::assert_plain(&text);
}

#[tokio::test]
async fn answers_that_are_no_token() {
    for (reply, needle) in [
        (
            Reply::text(200, "<html>gAAAAtoken</html>"),
            "X-Subject-Token",
        ),
        (Reply::json(201, &json!({"token": {}})), "X-Subject-Token"),
        (
            Reply::text(201, "<html>gAAAAtoken</html>").header("X-Subject-Token", "gAAAAtoken-9"),
            "line 1, column 1",
        ),
        (
            Reply::json(201, &json!({"token": {"catalog": "gAAAAtoken"}}))
                .header("X-Subject-Token", "gAAAAtoken-9"),
            "line 1",
        ),
    ] {
        let cloud = cloud();
        cloud.keystone.fault(When::any(), Fault::Answer(reply));
        let error = cloud
            .client(PASSWORD)
            .authenticate(Repeat::Never)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), Kind::Protocol);
        assert!(error.chain().contains(needle), "{}", error.chain());
        assert_discreet(&format!("{} {error:?}", error.chain()));
    }
}

#[tokio::test]
async fn a_token_without_a_catalog_or_an_expiry_is_a_token() {
    let cloud = cloud();
    cloud.catalog(json!(null));
    let token = cloud
        .client(PASSWORD)
        .authenticate(Repeat::Never)
        .await
        .unwrap();
    assert!(token.catalog.is_none());

    let reply = Reply::json(
        201,
        &json!({"token": {"expires_at": "soon", "catalog": []}}),
    );
    let reply = reply.header("X-Subject-Token", "t");
    cloud.keystone.fault(When::any(), Fault::Answer(reply));
    let token = cloud
        .client(PASSWORD)
        .authenticate(Repeat::Never)
        .await
        .unwrap();
    assert_eq!((token.expires_at, token.catalog.is_some()), (None, true));
}

#[tokio::test]
async fn a_redirect_never_carries_the_password_away() {
    let elsewhere = Server::builder()
        .address("127.0.0.2".parse().unwrap())
        .route("/", |_| {
            Reply::status(201).header("X-Subject-Token", "stolen")
        })
        .start();
    for status in [301, 302, 303, 307, 308] {
        let cloud = cloud();
        let reply = Reply::redirect(status, &elsewhere.url("/v3/auth/tokens"));
        cloud.keystone.fault(When::any(), Fault::Answer(reply));
        let error = cloud
            .client(PASSWORD)
            .authenticate(Repeat::Never)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), Kind::Protocol, "{}", error.chain());
        assert!(error.chain().contains("127.0.0.2"), "{}", error.chain());
        assert_discreet(&error.chain());
    }
    assert_eq!(elsewhere.requests().len(), 0);
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again() {
    let cloud = cloud();
    cloud
        .keystone
        .fault(When::any(), Fault::NoAnswer(testkit::Cut::Reset));
    cloud
        .keystone
        .fault(When::any().skip(1), Fault::status(502));
    let retry = Repeat::Idempotent(std::time::Duration::from_mins(1));
    cloud.client(PASSWORD).authenticate(retry).await.unwrap();
    assert_eq!(cloud.tokens_given(), 3);
}

#[tokio::test]
async fn nobody_at_home() {
    let cloud = cloud();
    cloud.keystone.refuse();
    let error = cloud
        .client(PASSWORD)
        .authenticate(Repeat::Never)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Exhausted, "{}", error.chain());
    assert!(
        error.chain().contains(&cloud.keystone.url("")),
        "{}",
        error.chain()
    );
}
