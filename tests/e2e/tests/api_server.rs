//! The API server ends under a copy, and comes back. Everything else of the cluster misses it as well, so this phase has one
//! test.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use e2e::{Kind, TestNamespace, cluster, cluster::uid_of, mib, processes};
use http::Request;
use populator_api::names::annotation;
use rustix::process::Pid;
use testkit::Disk;

fn api_server() -> Option<Pid> {
    processes::find(|line| line[0].ends_with("/kube-apiserver"))
}

fn is_ready() -> bool {
    let ready = Request::get("/readyz").body(Vec::new()).unwrap();
    let client = cluster().client();
    cluster().block_on(client.request_text(ready)).is_ok()
}

#[test]
fn an_api_server_that_restarts_under_a_copy_is_waited_for() {
    let case = TestNamespace::new();
    let disk = Disk::random(81, mib(32));
    let (source, claim) = case.held(&disk);
    let late = case.prepare(Kind::Openstack, &Disk::random(82, mib(4)));
    case.apply(&late);
    let mover = uid_of(&claim.pod().unwrap());
    let first = api_server().unwrap();
    processes::kill(first);
    let back = || api_server().filter(|found| *found != first && is_ready());
    cluster()
        .within(cluster::DEADLINE, back)
        .expect("the API server did not come back");
    // The copy ended, as far as the mover knows, without anything that could say so.
    source.let_go();
    claim.assert_populated(&source, &disk);
    assert_eq!(uid_of(&claim.pod().unwrap()), mover);
    assert_eq!(source.engine_disk().posts(), 1, "the disk was read twice");
    assert_eq!(claim.annotation(annotation::RECREATIONS), None);
    // A change after the restart is seen.
    case.claim(&late).create().wait_until_bound();
    case.finish();
}
