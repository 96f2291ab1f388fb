//! The CA bundle of an installation, for sources whose secrets name no authority.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use e2e::{Alone, Kind, TestNamespace, mib, resource};
use populator_api::{
    Reason,
    names::{annotation, event},
};
use serde_json::json;
use testkit::Disk;

#[test]
fn a_claim_is_filled_by_the_ca_bundle_of_its_namespace() {
    let alone = Alone::new();
    // The one that the admission policy of these tests knows.
    alone.set(&[("POPULATOR_CA_BUNDLE", "trusted-ca/roots.pem")]);
    let case = TestNamespace::new();
    let disk = Disk::random(61, mib(16));
    let source = |kind| {
        let mut source = case.prepare(kind, &disk);
        assert!(source.data.remove("cacert").is_some());
        case.apply(&source);
        source
    };
    // Without the ConfigMap the pod starts, and what it lacks is said where the user looks.
    let ovirt = source(Kind::Ovirt);
    let early = case.claim(&ovirt).create();
    let failed = early.wait_for_event(event::FAILED, "certificate");
    let words = format!(
        "no ConfigMap trusted-ca with the key roots.pem in the namespace {}",
        case.namespace
    );
    assert!(failed.message.contains(&words), "{}", failed.message);
    let condition = case.wait_for_condition(&ovirt, "Failed", "True");
    assert_eq!(
        condition["reason"],
        Reason::CertificateNotTrusted.to_string()
    );

    let data = json!({ "roots.pem": suite::mover::authority() });
    let object = json!({ "metadata": { "name": "trusted-ca" }, "data": data });
    case.create(resource::CONFIG_MAPS, object);
    early.annotate(annotation::RETRY, "1");
    early.assert_populated(&ovirt, &disk);
    let openstack = source(Kind::Openstack);
    let late = case.claim(&openstack).create();
    late.assert_populated(&openstack, &disk);
    case.finish();
}
