//! The API server, `kubectl`, and the controller that is deployed there.

use std::{
    path::Path,
    process::{Command, Output},
    sync::{Arc, OnceLock},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use futures::AsyncReadExt;
use http::{HeaderValue, Request};
use k8s_openapi::api::core::v1::Pod;
use kube::api::LogParams;
use serde_json::{Value, json};
use suite::variable;
use tokio::runtime::Runtime;

use crate::resource::{DEPLOYMENTS, LEASES, PODS, Resource};

/// How long something may take before a test fails. Generous: reached only when something hangs.
pub const DEADLINE: Duration = Duration::from_mins(3);
/// Pace of questions to the API server while a test waits.
const PACE: Duration = Duration::from_millis(250);

/// Namespace, Deployment and account of the controller in `manifests/base`.
pub const NAMESPACE: &str = "volume-populators";
/// Name of the controller's Deployment, account and Lease.
pub const CONTROLLER: &str = "populator-controller";

/// The cluster, as an administrator or another user sees it.
pub struct Cluster {
    runtime: Arc<Runtime>,
    client: kube::Client,
    /// Impersonated in every request; `None` is the administrator of the kubeconfig.
    user: Option<&'static str>,
}

/// A request that the API server refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// HTTP status.
    pub code: u16,
    /// Why.
    pub message: String,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Cluster")
    }
}

/// The cluster, with the controller deployed by `kubectl apply -k` as a user would.
pub fn cluster() -> &'static Cluster {
    static DEPLOYED: OnceLock<Cluster> = OnceLock::new();
    DEPLOYED.get_or_init(|| {
        let cluster = Cluster::connect();
        cluster.deploy();
        cluster
    })
}

impl Cluster {
    /// The cluster that `KUBECONFIG` names, as it is.
    pub fn connect() -> Self {
        variable("KUBECONFIG");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let client = runtime.block_on(async { kube::Client::try_default().await.unwrap() });
        Self {
            runtime: Arc::new(runtime),
            client,
            user: None,
        }
    }

    /// The same cluster, where each request is another user's. Logs and watches stay the administrator's.
    pub fn impersonate(&self, user: &'static str) -> Self {
        Self {
            runtime: Arc::clone(&self.runtime),
            client: self.client.clone(),
            user: Some(user),
        }
    }

    /// Applies the manifests with the images of this test, and waits for the controller.
    pub fn deploy(&self) {
        let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cluster/manifests");
        let manifests = manifests.to_str().unwrap();
        self.kubectl(&[
            "apply",
            "--server-side",
            "--force-conflicts",
            "-k",
            manifests,
        ]);
        // The image's name is the same for every build, and the cluster may have been up before.
        let target = format!("deployment/{CONTROLLER}");
        self.kubectl(&["-n", NAMESPACE, "rollout", "restart", &target]);
        self.wait_for_rollout();
    }

    /// Waits until the controller's Deployment is as it was asked for, and one of its pods leads: the one before it
    /// does for some seconds more.
    #[track_caller]
    pub fn wait_for_rollout(&self) {
        let target = format!("deployment/{CONTROLLER}");
        self.kubectl(&[
            "-n",
            NAMESPACE,
            "rollout",
            "status",
            "--timeout=120s",
            &target,
        ]);
        self.wait_for("a controller of this rollout leads", || {
            let pods = self.controllers();
            let leader = self.leader();
            let leads = |pod: &Value| leader.as_deref() == pod["metadata"]["name"].as_str();
            (pods.is_empty() || pods.iter().any(leads)).then_some(())
        });
    }

    /// The holder of the controller's lease.
    pub fn leader(&self) -> Option<String> {
        let lease = self.get(LEASES, NAMESPACE, CONTROLLER)?;
        let holder = lease["spec"]["holderIdentity"].as_str()?;
        (!holder.is_empty()).then(|| holder.to_owned())
    }

    /// Runs a future to its end.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// The client, for watches.
    pub fn client(&self) -> kube::Client {
        self.client.clone()
    }

    /// An object; `None` when there is none.
    pub fn get(&self, resource: Resource, namespace: &str, name: &str) -> Option<Value> {
        match self.send("GET", &resource.path(namespace, name), "", None) {
            Ok(found) => Some(found),
            Err(refused) if refused.code == 404 => None,
            Err(refused) => panic!("{refused:?}"),
        }
    }

    /// All objects, of one namespace or (where it is empty) of all. `selector` is a query such as
    /// `labelSelector=a%3Db`.
    pub fn list(&self, resource: Resource, namespace: &str, selector: &str) -> Vec<Value> {
        let path = format!("{}?{selector}", resource.list(namespace));
        let list = self.send("GET", &path, "", None).unwrap();
        list["items"].as_array().unwrap().clone()
    }

    /// Makes an object, whose kind is filled in.
    pub fn create(
        &self,
        resource: Resource,
        namespace: &str,
        mut object: Value,
    ) -> Result<Value, Refused> {
        object["apiVersion"] = json!(resource.api);
        object["kind"] = json!(resource.kind);
        self.send(
            "POST",
            &resource.list(namespace),
            "application/json",
            Some(&object),
        )
    }

    /// A merge patch.
    #[track_caller]
    pub fn patch(&self, resource: Resource, namespace: &str, name: &str, patch: &Value) -> Value {
        self.try_patch(&resource.path(namespace, name), patch)
            .unwrap()
    }

    /// A merge patch of what is at the path, which may be a subresource.
    pub fn try_patch(&self, path: &str, change: &Value) -> Result<Value, Refused> {
        self.send("PATCH", path, "application/merge-patch+json", Some(change))
    }

    /// Deletes an object; whether it was there. `grace` are seconds.
    pub fn delete(
        &self,
        resource: Resource,
        namespace: &str,
        name: &str,
        grace: Option<u32>,
    ) -> bool {
        let options = json!({ "gracePeriodSeconds": grace, "propagationPolicy": "Background" });
        let path = resource.path(namespace, name);
        match self.send("DELETE", &path, "application/json", Some(&options)) {
            Ok(_) => true,
            Err(refused) if refused.code == 404 => false,
            Err(refused) => panic!("{refused:?}"),
        }
    }

    /// A pod's log; empty while there is none.
    pub fn log(&self, namespace: &str, pod: &str) -> String {
        let path = format!("{}/log", PODS.path(namespace, pod));
        let request = request("GET", &path, "", None);
        self.block_on(self.client.request_text(request))
            .unwrap_or_default()
    }

    /// A pod's log from its beginning to the end of its container, read by a thread from now on.
    #[track_caller]
    pub fn follow(&'static self, namespace: &str, pod: &str) -> JoinHandle<String> {
        let api = kube::Api::<Pod>::namespaced(self.client(), namespace);
        let parameters = LogParams {
            follow: true,
            ..LogParams::default()
        };
        let mut log = self.block_on(api.log_stream(pod, &parameters)).unwrap();
        std::thread::spawn(move || {
            let mut text = String::new();
            self.block_on(log.read_to_string(&mut text)).unwrap();
            text
        })
    }

    /// Sends any request.
    pub fn send(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: Option<&Value>,
    ) -> Result<Value, Refused> {
        let mut request = request(method, path, content_type, body);
        if let Some(user) = self.user {
            let headers = request.headers_mut();
            headers.insert("Impersonate-User", HeaderValue::from_static(user));
            let group = HeaderValue::from_static("system:authenticated");
            headers.insert("Impersonate-Group", group);
        }
        match self.block_on(self.client.request::<Value>(request)) {
            Ok(answer) => Ok(answer),
            Err(kube::Error::Api(status)) => Err(Refused {
                code: status.code,
                message: status.message,
            }),
            Err(error) => panic!("{method} {path}: {error}"),
        }
    }

    /// What `kubectl` says, which must succeed.
    #[track_caller]
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        let output = kubectl(arguments);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {arguments:?}: {told}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The controller's pods that are not being deleted, by age.
    pub fn controllers(&self) -> Vec<Value> {
        let selector = format!("labelSelector=app.kubernetes.io%2Fname%3D{CONTROLLER}");
        let mut pods = self.list(PODS, NAMESPACE, &selector);
        pods.retain(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        pods.sort_by_key(|pod| pod["metadata"]["creationTimestamp"].to_string());
        pods
    }

    /// Name of the one controller that is ready.
    pub fn controller(&self) -> String {
        self.wait_for("a controller is ready", || {
            let pod = self.controllers().into_iter().find(is_ready)?;
            Some(name_of(&pod))
        })
    }

    /// The end of the logs of all controllers.
    pub fn controller_logs(&self, lines: usize) -> String {
        let mut text = String::new();
        for pod in self.controllers() {
            let name = name_of(&pod);
            let log = self.log(NAMESPACE, &name);
            let skip = log.lines().count().saturating_sub(lines);
            text.extend(["--- ", &name, "\n"]);
            for line in log.lines().skip(skip) {
                text += line;
                text.push('\n');
            }
        }
        text
    }

    /// Changes the controller's Deployment and waits for the new pods. Lists that have keys, as containers and
    /// variables, are merged by them.
    #[track_caller]
    pub fn change_controller(&self, patch: &Value) {
        let target = DEPLOYMENTS.path(NAMESPACE, CONTROLLER);
        let strategic = "application/strategic-merge-patch+json";
        self.send("PATCH", &target, strategic, Some(patch)).unwrap();
        self.wait_for_rollout();
    }

    /// Repeats the question until it has an answer.
    #[track_caller]
    pub fn wait_for<T>(&self, what: &str, question: impl FnMut() -> Option<T>) -> T {
        self.within(DEADLINE, question)
            .unwrap_or_else(|| panic!("did not happen: {what}\n{}", self.controller_logs(60)))
    }

    /// The same with a bound of its own, and no answer when that is reached.
    pub fn within<T>(&self, bound: Duration, mut question: impl FnMut() -> Option<T>) -> Option<T> {
        let begun = Instant::now();
        loop {
            if let Some(answer) = question() {
                return Some(answer);
            }
            if begun.elapsed() > bound {
                return None;
            }
            self.block_on(async { tokio::time::sleep(PACE).await });
        }
    }
}

/// Runs the `kubectl` that `KUBECTL` names, or the one in PATH.
#[allow(
    clippy::disallowed_methods,
    reason = "the environment is how a test learns where programs are"
)]
pub fn kubectl(arguments: &[&str]) -> Output {
    let program = std::env::var("KUBECTL").unwrap_or_else(|_| "kubectl".to_owned());
    let mut command = Command::new(program);
    command
        .args(arguments)
        .output()
        .expect("kubectl is needed; set KUBECTL to its path")
}

/// Name of an object.
pub fn name_of(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap().to_owned()
}

/// UID of an object.
pub fn uid_of(object: &Value) -> String {
    object["metadata"]["uid"].as_str().unwrap().to_owned()
}

/// Whether a pod is ready.
pub fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

fn request(method: &str, path: &str, content_type: &str, body: Option<&Value>) -> Request<Vec<u8>> {
    let mut request = Request::builder().method(method).uri(path);
    if !content_type.is_empty() {
        request = request.header("Content-Type", content_type);
    }
    let body = body.map(|body| body.to_string().into_bytes());
    request.body(body.unwrap_or_default()).unwrap()
}
