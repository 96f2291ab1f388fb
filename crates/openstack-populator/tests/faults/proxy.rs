//! The way through a proxy.

use contract::Exit;
use testkit::Proxy;

use crate::fixture::start;

const USER: &str = "proxy-user";
const PASSWORD: &str = "proxy-pass-word";
/// base64 of the two with a colon between.
const BASIC: &str = "cHJveHktdXNlcjpwcm94eS1wYXNzLXdvcmQ=";

#[test]
fn everything_goes_through_the_proxy() {
    let fixture = start();
    let proxy = Proxy::with_credentials(BASIC);
    let address = proxy.server().address();
    let with_user = format!("http://{USER}:{PASSWORD}@{address}");
    let run = fixture.command().env("HTTPS_PROXY", with_user).run();
    fixture.has_copied(&run);
    assert!(!run.output().contains(PASSWORD), "{}", run.output());
    let tunnels = proxy.server().requests();
    assert!(tunnels.len() >= 2, "{tunnels:?}");
    let target = fixture.source.server().address().to_string();
    assert!(
        tunnels
            .iter()
            .all(|it| it.method == "CONNECT" && it.target == target)
    );
}

#[test]
fn a_host_that_needs_no_proxy() {
    let fixture = start();
    let proxy = Proxy::start();
    let command = fixture.command().env("HTTPS_PROXY", proxy.url());
    let port = fixture.source.server().address().port();
    for exception in ["127.0.0.1".to_owned(), format!("127.0.0.1:{port}")] {
        fixture.copies_with(&command.clone().env("NO_PROXY", exception).arg("--force"));
    }
    assert!(proxy.server().requests().is_empty());
    fixture.copies_with(&command.env("NO_PROXY", "127.0.0.1:1").arg("--force"));
    assert!(!proxy.server().requests().is_empty());
}

#[test]
fn a_proxy_that_wants_credentials() {
    let fixture = start();
    let proxy = Proxy::with_credentials(BASIC);
    let address = proxy.server().address();
    let wrong = format!("http://{USER}:wrong-word@{address}");
    let run = fixture.command().env("HTTPS_PROXY", wrong).run();
    let message = fixture.ended(&run, Exit::Configuration).message;
    assert!(message.contains("407"), "{message}");
    assert!(!run.output().contains("wrong-word"), "{}", run.output());
    assert!(fixture.source.server().requests().is_empty());
}

#[test]
fn a_proxy_that_refuses() {
    let fixture = start();
    let proxy = Proxy::start();
    proxy.refuse_with(403);
    let command = fixture.command().env("HTTPS_PROXY", proxy.url());
    fixture.fails_with(&command, Exit::Configuration, &["proxy", "403", "no_proxy"]);
    assert!(fixture.source.server().requests().is_empty());
    proxy.refuse_with(503);
    let command = command.flag("no-progress-timeout", "2s");
    fixture.fails_with(&command, Exit::SourceUnavailable, &["proxy", "503"]);
}
