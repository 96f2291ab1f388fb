//! Tests that change the one Deployment of the controller run one at a time.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use crate::cluster::{CONTROLLER, NAMESPACE, cluster, is_ready, kubectl};

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
}

impl Default for Alone {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        // Replacing takes back what was added beside the manifests, which applying would leave.
        let deployment = [
            "-n",
            NAMESPACE,
            "delete",
            "deployment",
            CONTROLLER,
            "--wait=true",
        ];
        kubectl(&deployment);
        let manifests = concat!(env!("CARGO_MANIFEST_DIR"), "/../cluster/manifests");
        kubectl(&[
            "apply",
            "--server-side",
            "--force-conflicts",
            "-k",
            manifests,
        ]);
    }
}
