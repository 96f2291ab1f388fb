//! Redirects of [`transfer::source::HttpSource`]: whom they lead to, and when they are left.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use testkit::{Cut, Fault, Reply, Server, When, image::Disk};
use transfer::{Kind, source::HttpSource};

use crate::{
    http::{SIZE, Tokens, disk, open, probe, probe_url, serve, token},
    support::{assert_fails, read_all, read_range},
};

#[test]
fn redirects_are_followed_once_and_remembered_and_credentials_stay_at_home() {
    let disk = disk();
    let elsewhere = Server::builder()
        .address(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)))
        .object("/blob", disk.object())
        .start();
    let home = Server::builder().start();
    let to_blob = elsewhere.url("/blob?signature=secret");
    home.route("/disk", |_| Reply::redirect(302, "/moved"));
    home.route("/moved", move |_| Reply::redirect(307, &to_blob));

    let url = home.url("/disk");
    let source = probe_url(&url, SIZE as u64, Arc::new(Tokens::default())).unwrap();
    assert_eq!(read_all(&source, 30_000).unwrap(), disk.bytes());
    let asked: Vec<_> = home
        .requests()
        .iter()
        .map(|request| (request.target.clone(), token(request).map(str::to_owned)))
        .collect();
    let secret = Some("token-0".to_owned());
    assert_eq!(
        asked,
        [
            ("/disk".to_owned(), secret.clone()),
            ("/moved".to_owned(), secret)
        ]
    );
    assert_eq!(elsewhere.requests().len(), 5);
    assert!(
        elsewhere
            .requests()
            .iter()
            .all(|request| token(request).is_none())
    );

    // The signature has run out: the first URL gives a new one.
    for status in [401, 403, 404, 410] {
        elsewhere.fault(When::ranged(), Fault::status(status));
        let before = home.requests().len();
        assert_eq!(read_range(&source, 5, 50).unwrap(), disk.bytes()[5..50]);
        assert_eq!(home.requests().len(), before + 2);
    }
    // Refused there as well, it is a refusal.
    elsewhere.fault(When::ranged().always(), Fault::status(403));
    let (_, error) = read_range(&source, 5, 50).unwrap_err();
    let error = assert_fails::<()>(Err(error), Kind::Permission, &[]);
    assert!(!format!("{error:?} {source:?}").contains("secret"));
}

/// The first server leads to one of two stores, as the test says.
struct Redirected {
    disk: Disk,
    home: Server,
    stores: [Server; 2],
    chosen: Arc<AtomicUsize>,
}

impl Redirected {
    fn new() -> Self {
        let disk = disk();
        let store = || Server::builder().object("/blob", disk.object()).start();
        let stores = [store(), store()];
        let urls = [stores[0].url("/blob"), stores[1].url("/blob")];
        let chosen = Arc::new(AtomicUsize::new(0));
        let choice = Arc::clone(&chosen);
        let home = Server::builder()
            .route("/disk", move |_| {
                Reply::redirect(302, &urls[choice.load(Ordering::SeqCst)])
            })
            .start();
        Self {
            disk,
            home,
            stores,
            chosen,
        }
    }

    /// Opens it by way of the first store; from now on, the way leads to the second.
    fn open(&self) -> HttpSource {
        let source = open(&self.home);
        assert_eq!(read_range(&source, 0, 9).unwrap(), self.disk.bytes()[..9]);
        self.chosen.store(1, Ordering::SeqCst);
        source
    }
}

#[test]
fn a_store_that_fails_is_left_for_where_the_first_url_leads_now() {
    // Before the head, the same request goes on at once.
    for fault in [
        Fault::status(400),
        Fault::status(416),
        Fault::status(500),
        Fault::status(503),
        Fault::NoAnswer(Cut::Reset),
    ] {
        let setup = Redirected::new();
        let source = setup.open();
        setup.stores[0].fault(When::any().always(), fault);
        let read = read_range(&source, 5, 50).unwrap();
        assert_eq!(read, setup.disk.bytes()[5..50]);
        // And stays there.
        read_range(&source, 5, 50).unwrap();
        assert_eq!(setup.stores[1].requests().len(), 2);
        assert_eq!(setup.home.requests().len(), 2);
    }
    let setup = Redirected::new();
    let source = setup.open();
    setup.stores[0].refuse();
    setup.stores[0].drop_connections();
    assert_eq!(
        read_range(&source, 5, 50).unwrap(),
        setup.disk.bytes()[5..50]
    );

    // After it, the next one does.
    for fault in [Fault::cut(0, Cut::Fin), Fault::IgnoreRange, Fault::Shift(1)] {
        let setup = Redirected::new();
        let source = setup.open();
        setup.stores[0].fault(When::any().always(), fault);
        read_range(&source, 5, 50).unwrap_err();
        assert_eq!(
            read_range(&source, 5, 50).unwrap(),
            setup.disk.bytes()[5..50]
        );
    }
    // A body that has begun says that the store works.
    let setup = Redirected::new();
    let source = setup.open();
    setup.stores[0].fault(When::any(), Fault::cut(3, Cut::Fin));
    read_range(&source, 5, 50).unwrap_err();
    read_range(&source, 5, 50).unwrap();
    assert_eq!(setup.stores[1].requests().len(), 0);
}

#[test]
fn redirects_end() {
    let server = Server::builder()
        .route("/disk", |_| Reply::redirect(301, "/disk"))
        .start();
    assert_fails(
        probe(&server, 10),
        Kind::Protocol,
        &["more than 5 redirects"],
    );
    assert_eq!(server.requests().len(), 6);
}

#[test]
fn https_is_not_left() {
    let identity = testkit::pki::Identity::self_signed(testkit::pki::LOCAL);
    let plain = serve(&disk());
    let target = plain.url("/disk");
    let server = Server::builder()
        .tls(identity.server_config())
        .route("/disk", move |_| Reply::redirect(302, &target))
        .start();
    assert_fails(probe(&server, SIZE as u64), Kind::Protocol, &["https"]);
    assert_eq!(plain.requests(), []);
}
