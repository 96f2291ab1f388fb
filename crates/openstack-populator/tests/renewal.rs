//! A token that expires while several readers use it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::{
    sync::{Arc, Barrier},
    thread,
};

use http::HeaderMap;
use net::Repeat;
use openstack_populator::keystone::Session;
use serde_json::json;
use support::{APPLICATION_CREDENTIAL, Cloud, PASSWORD, TOKEN, assert_discreet};
use testkit::{Fault, Gate, Reply, When};
use tokio::runtime::{Builder, Runtime};
use transfer::{Kind, source::Authorization};

struct Rig {
    cloud: Cloud,
    session: Arc<Session>,
    /// Renewal runs on it; the tests' own threads do not.
    _runtime: Runtime,
}

fn rig(keys: &[(&'static str, &str)]) -> Rig {
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let cloud = Cloud::new(&json!({}), vec![1; 10]);
    let keystone = cloud.client(keys);
    let token = runtime
        .block_on(keystone.authenticate(Repeat::Never))
        .unwrap();
    let session = Session::new(keystone, &token, runtime.handle().clone()).unwrap();
    Rig {
        cloud,
        session: Arc::new(session),
        _runtime: runtime,
    }
}

fn token(headers: &HeaderMap) -> &str {
    headers["x-auth-token"].to_str().unwrap()
}

#[test]
fn many_refused_readers_ask_once() {
    const READERS: usize = 8;
    for keys in [PASSWORD, APPLICATION_CREDENTIAL, TOKEN] {
        let rig = rig(keys);
        let first = rig.session.headers().unwrap();
        assert_eq!(token(&first), "gAAAAtoken-1");
        let hold = Gate::new();
        rig.cloud
            .keystone
            .fault(When::any(), Fault::HoldHead(hold.clone()));

        let ready = Arc::new(Barrier::new(READERS));
        let readers: Vec<_> = (0..READERS)
            .map(|_| {
                let (session, ready, refused) =
                    (Arc::clone(&rig.session), Arc::clone(&ready), first.clone());
                thread::spawn(move || {
                    ready.wait();
                    session.renew(&refused).unwrap();
                    token(&session.headers().unwrap()).to_owned()
                })
            })
            .collect();
        rig.cloud.keystone.wait_for_held(1);
        // While Keystone thinks, the old token can still be had: others may be mid-body with it.
        assert_eq!(token(&rig.session.headers().unwrap()), "gAAAAtoken-1");
        hold.open();
        for reader in readers {
            assert_eq!(reader.join().unwrap(), "gAAAAtoken-2");
        }
        assert_eq!(
            rig.cloud.tokens_given(),
            2,
            "one at the start, one for all readers"
        );

        // The next expiry is a new one.
        let second = rig.session.headers().unwrap();
        rig.session.renew(&second).unwrap();
        assert_eq!(rig.cloud.tokens_given(), 3);
        // A straggler that was refused with the first token asks for no other.
        rig.session.renew(&first).unwrap();
        assert_eq!(rig.cloud.tokens_given(), 3);
    }
}

#[test]
fn a_token_that_has_expired_cannot_be_exchanged() {
    let rig = rig(TOKEN);
    let refused = rig.session.headers().unwrap();
    let unknown = json!({"error": {"code": 404, "message": "Failed to validate token"}});
    for reply in [Reply::json(404, &unknown), Reply::status(401)] {
        rig.cloud.keystone.clear_faults();
        rig.cloud.keystone.fault(When::any(), Fault::Answer(reply));
        let error = rig.session.renew(&refused).unwrap_err();
        assert_eq!(error.kind(), Kind::Credentials);
        assert_discreet(&error.chain());
        let text = error.to_string();
        assert!(
            text.contains("authType token") && text.contains("application credential"),
            "{text}"
        );
    }
}

#[test]
fn a_password_that_was_changed_ends_the_copy() {
    let rig = rig(PASSWORD);
    rig.cloud.keystone.fault(When::any(), Fault::status(401));
    let refused = rig.session.headers().unwrap();
    let error = rig.session.renew(&refused).unwrap_err();
    assert_eq!(error.kind(), Kind::Credentials);
    assert!(
        !error.chain().contains("authType token"),
        "{}",
        error.chain()
    );
    assert_discreet(&error.chain());
}

#[test]
fn a_keystone_that_is_away_is_asked_again_later() {
    let rig = rig(PASSWORD);
    let refused = rig.session.headers().unwrap();
    for fault in [Fault::status(503), Fault::NoAnswer(testkit::Cut::Reset)] {
        rig.cloud.keystone.fault(When::any(), fault);
        let error = rig.session.renew(&refused).unwrap_err();
        assert!(error.kind().is_transient(), "{}", error.chain());
        // The engine repeats, so this does not.
        rig.cloud.keystone.clear_faults();
    }
    assert_eq!(rig.cloud.tokens_given(), 3);
    rig.session.renew(&refused).unwrap();
    assert_ne!(token(&rig.session.headers().unwrap()), token(&refused));
}
