//! The record of an image, and what refusals of it mean.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use http::HeaderMap;
use net::Repeat;
use openstack_populator::glance::{Glance, Image};
use serde_json::json;
use support::{Cloud, IMAGE, PASSWORD, assert_discreet, rest};
use testkit::{Fault, Reply, Server, When};
use transfer::{Error, Kind};

async fn token(cloud: &Cloud) -> HeaderMap {
    let token = cloud
        .client(PASSWORD)
        .authenticate(Repeat::Never)
        .await
        .unwrap();
    token.headers().unwrap()
}

async fn show(cloud: &Cloud) -> Result<Image, Error> {
    let glance = Glance::new(rest(), cloud.glance.url("/v2").parse().unwrap());
    let token = token(cloud).await;
    glance
        .image(&IMAGE.parse().unwrap(), &token, Repeat::Never)
        .await
}

#[tokio::test]
async fn the_record_is_read_with_the_token_and_nothing_else_is_asked() {
    let cloud = Cloud::new(
        &json!({"os_hash_algo": "sha512", "stores": "fs", "x": {"y": 1}}),
        vec![0; 5],
    );
    let image = show(&cloud).await.unwrap();
    assert_eq!(
        (image.size, image.os_hash_algo.as_deref()),
        (Some(5), Some("sha512"))
    );
    let requests = cloud.glance.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].target, format!("/v2/images/{IMAGE}"));
    assert_eq!(requests[0].header("x-auth-token"), Some("gAAAAtoken-1"));
}

#[tokio::test]
async fn refusals() {
    for (status, kind, needle) in [
        (401, Kind::Credentials, "same cloud"),
        (403, Kind::Permission, "forbids"),
        (404, Kind::Missing, "another project"),
        (410, Kind::Missing, "another project"),
        (300, Kind::Protocol, "300"),
        (204, Kind::Protocol, "204"),
        (429, Kind::Exhausted, "429"),
        (503, Kind::Exhausted, "503"),
    ] {
        let cloud = Cloud::new(&json!({}), vec![0; 5]);
        cloud.glance.fault(
            When::any(),
            Fault::Answer(Reply::text(status, "gAAAAtoken-1")),
        );
        let error = show(&cloud).await.unwrap_err();
        let text = error.chain();
        assert_eq!(error.kind(), kind, "{text}");
        assert!(text.contains(needle), "{text}");
        assert_discreet(&format!("{text} {error:?}"));
    }
}

#[tokio::test]
async fn records_that_are_none() {
    for reply in [
        Reply::text(200, "<html>"),
        Reply::json(200, &json!([1, 2])),
        Reply::json(200, &json!({"status": "active", "size": "5"})),
        Reply::json(200, &json!({"status": "active", "size": -5})),
    ] {
        let cloud = Cloud::new(&json!({}), vec![0; 5]);
        cloud.glance.fault(When::any(), Fault::Answer(reply));
        let error = show(&cloud).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Protocol, "{}", error.chain());
    }
}

#[tokio::test]
async fn a_redirect_is_followed_without_the_token_elsewhere() {
    let elsewhere = Server::builder()
        .address("127.0.0.2".parse().unwrap())
        .route("/", |_| {
            Reply::json(200, &json!({"status": "active", "size": 7}))
        })
        .start();
    let cloud = Cloud::new(&json!({}), vec![0; 5]);
    let there = Reply::redirect(302, &elsewhere.url("/image"));
    cloud.glance.fault(When::any(), Fault::Answer(there));
    assert_eq!(show(&cloud).await.unwrap().size, Some(7));
    assert_eq!(elsewhere.requests().len(), 1);
    assert_eq!(elsewhere.requests()[0].header("x-auth-token"), None);

    // On the same server the token goes along.
    let here = Reply::redirect(302, &format!("/v2/images/{IMAGE}?again"));
    cloud.glance.fault(When::path("/v2"), Fault::Answer(here));
    assert_eq!(show(&cloud).await.unwrap().size, Some(5));
}
