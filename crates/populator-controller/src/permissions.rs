//! Permissions of the process: learned at the start and again while it runs, so that a missing one is
//! reported once and clearly, and is not found by requests that fail again and again.

use std::time::Duration;

use backoff::Backoff;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::{Api, Client, api::PostParams};
use tokio::{sync::watch, time};

use crate::namespaces::{Namespaces, Scope};

/// The optional permissions, without which some features are missing. Forklift's role grants none
/// of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permissions {
    /// List and watch nodes.
    pub nodes: bool,
    /// Read pods' logs.
    pub logs: bool,
    /// List `ReferenceGrant`s.
    pub grants: bool,
}

/// While the API server does not answer, which may be starting too.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
/// Between two warnings about that.
const WARN: Duration = Duration::from_mins(1);
/// A role that is granted or taken away is noticed after this long.
const AGAIN: Duration = Duration::from_mins(1);

struct Question {
    verb: &'static str,
    group: &'static str,
    resource: &'static str,
    subresource: Option<&'static str>,
}

impl Permissions {
    /// Asks the API server (`SelfSubjectAccessReview`, which every account may create by default). What is in
    /// namespaces must be granted in each of them.
    ///
    /// # Errors
    /// The API server did not answer.
    pub async fn learn(client: &Client, namespaces: &Namespaces) -> kube::Result<Self> {
        let question = |verb, group, resource, subresource| Question {
            verb,
            group,
            resource,
            subresource,
        };
        let list_nodes = question("list", "", "nodes", None);
        let watch_nodes = question("watch", "", "nodes", None);
        let nodes = ask(client, &Scope::ALL, &list_nodes).await?
            && ask(client, &Scope::ALL, &watch_nodes).await?;
        let (mut logs, mut grants) = (true, true);
        let read_logs = question("get", "", "pods", Some("log"));
        let list_grants = question("list", "gateway.networking.k8s.io", "referencegrants", None);
        for scope in namespaces.scopes() {
            logs &= ask(client, &scope, &read_logs).await?;
            grants &= ask(client, &scope, &list_grants).await?;
        }
        Ok(Self {
            nodes,
            logs,
            grants,
        })
    }

    /// Asks until the API server answers. A process that ended instead would be started again by the
    /// kubelet with a delay that grows, and would come back minutes after the API server.
    pub async fn wait_for(client: &Client, namespaces: &Namespaces) -> Self {
        let mut random = fastrand::Rng::new();
        let mut warned: Option<time::Instant> = None;
        let mut failures = 0_u32;
        loop {
            match Self::learn(client, namespaces).await {
                Ok(permissions) => return permissions,
                Err(error) if warned.is_none_or(|at| at.elapsed() >= WARN) => {
                    warned = Some(time::Instant::now());
                    tracing::warn!("the API server does not answer, and is asked again: {error}");
                }
                Err(_) => {}
            }
            failures = failures.saturating_add(1);
            time::sleep(BACKOFF.delay_from_half(failures, &mut random)).await;
        }
    }

    /// Asks again and again, and sends what has changed, until the future is dropped.
    pub async fn keep_learning(client: Client, namespaces: Namespaces, known: watch::Sender<Self>) {
        loop {
            time::sleep(AGAIN).await;
            let new = match Self::learn(&client, &namespaces).await {
                Ok(new) => new,
                Err(error) => {
                    tracing::debug!("the permissions cannot be learned again: {error}");
                    continue;
                }
            };
            let before = known.send_replace(new);
            let pairs = new.list().into_iter().zip(before.list());
            for ((granted, what, without), _) in
                pairs.filter(|((new, ..), (before, ..))| new != before)
            {
                if granted {
                    tracing::info!("{what} may be read now");
                } else {
                    tracing::warn!("{what} may not be read any more: {without}");
                }
            }
        }
    }

    /// A sentence for each missing permission: what does not work without it.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let missing = self.list().into_iter().filter(|(granted, ..)| !granted);
        missing
            .map(|(_, what, without)| format!("{what} may not be read: {without}"))
            .collect()
    }

    /// Whether each is granted, what it is for, and what does not work without it.
    const fn list(self) -> [(bool, &'static str, &'static str); 3] {
        [
            (
                self.nodes,
                "nodes",
                "a node that is gone or does not answer is not noticed, and a claim that waits for it continues \
                 to wait",
            ),
            (
                self.logs,
                "pods' logs",
                "the progress of a pod whose metrics cannot be reached is unknown",
            ),
            (
                self.grants,
                "ReferenceGrants",
                "a claim that refers to another namespace is refused",
            ),
        ]
    }
}

async fn ask(client: &Client, scope: &Scope, question: &Question) -> kube::Result<bool> {
    let api: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                namespace: scope.namespace().map(str::to_owned),
                verb: Some(question.verb.to_owned()),
                group: Some(question.group.to_owned()),
                resource: Some(question.resource.to_owned()),
                subresource: question.subresource.map(str::to_owned),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    match api.create(&PostParams::default(), &review).await {
        Ok(answer) => Ok(answer.status.is_some_and(|status| status.allowed)),
        // The cluster does not let this account ask. Every one of these permissions is optional,
        // while a watch that is refused for ever would delay the first reconcile for ever.
        Err(kube::Error::Api(status)) if status.code == 403 => Ok(false),
        Err(error) => Err(error),
    }
}
