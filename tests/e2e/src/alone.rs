//! Tests that change the one Deployment of the controller run one at a time.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use crate::{
    cluster::{CONTROLLER, NAMESPACE, cluster, is_ready, kubectl},
    resource::DEPLOYMENTS,
};

/// Our manifests with the images of this test.
const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../cluster/manifests");

/// An account, and what binds it to the controller's role for the whole cluster.
const WITHOUT_LEASES: &str = "without-leases";

/// The controller is this test's alone; afterwards it is deployed as the manifests say.
#[derive(Debug)]
pub struct Alone {
    _turn: MutexGuard<'static, ()>,
}

impl Alone {
    /// Waits for its turn, and for the controller.
    pub fn new() -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        cluster().wait_for_rollout();
        Self { _turn: turn }
    }

    /// So many replicas, all ready.
    #[track_caller]
    pub fn scale(&self, replicas: u32) {
        let patch = json!({ "spec": { "replicas": replicas } });
        cluster().change_controller(&patch);
        Self::wait_for_replicas(replicas);
    }

    #[track_caller]
    fn wait_for_replicas(replicas: u32) {
        cluster().wait_for("the replicas are there", || {
            let pods = cluster().controllers();
            let ready = pods.iter().all(is_ready);
            (ready && pods.len() == usize::try_from(replicas).ok()?).then_some(())
        });
    }

    /// Variables of the controller's environment.
    #[track_caller]
    pub fn set(&self, variables: &[(&str, &str)]) {
        let variables = variables.iter();
        let variables = variables.map(|(name, value)| json!({ "name": name, "value": value }));
        let variables: Vec<Value> = variables.collect();
        let container = json!({ "name": CONTROLLER, "env": variables });
        let pod = json!({ "spec": { "containers": [container] } });
        cluster().change_controller(&json!({ "spec": { "template": pod } }));
    }

    /// So many new replicas under an account of their own, which may not use leases: none is elected, and each of them acts.
    #[track_caller]
    pub fn scale_without_leases(&self, replicas: u32) {
        self.scale(0);
        let account = format!("--serviceaccount={NAMESPACE}:{WITHOUT_LEASES}");
        let role = format!("--clusterrole={CONTROLLER}");
        cluster().kubectl(&["create", "serviceaccount", "-n", NAMESPACE, WITHOUT_LEASES]);
        cluster().kubectl(&[
            "create",
            "clusterrolebinding",
            WITHOUT_LEASES,
            &role,
            &account,
        ]);
        let pod = json!({ "spec": { "serviceAccountName": WITHOUT_LEASES } });
        let patch = json!({ "spec": { "replicas": replicas, "template": pod } });
        cluster().patch(DEPLOYMENTS, NAMESPACE, CONTROLLER, &patch);
        Self::wait_for_replicas(replicas);
    }
}

impl Default for Alone {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Alone {
    /// A controller that is not deployed again would be the next test's failure.
    #[allow(clippy::print_stderr, reason = "a second panic would hide the first")]
    fn drop(&mut self) {
        match redeploy() {
            Ok(()) => {}
            Err(why) if std::thread::panicking() => eprintln!("{why}"),
            Err(why) => panic!("{why}"),
        }
    }
}

/// Replacing takes back what was added beside the manifests, which applying would leave.
fn redeploy() -> Result<(), String> {
    let delete = |kind, name| {
        let delete = ["delete", kind, "-n", NAMESPACE, name];
        [&delete[..], &["--wait=true", "--ignore-not-found"]].concat()
    };
    let apply = "apply --server-side --force-conflicts -k".split(' ');
    for arguments in [
        delete("deployment", CONTROLLER),
        delete("serviceaccount", WITHOUT_LEASES),
        delete("clusterrolebinding", WITHOUT_LEASES),
        apply.chain([MANIFESTS]).collect(),
    ] {
        let output = kubectl(&arguments);
        if !output.status.success() {
            let told = String::from_utf8_lossy(&output.stderr);
            return Err(format!("kubectl {arguments:?}: {told}"));
        }
    }
    Ok(())
}
