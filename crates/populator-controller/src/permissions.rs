//! Permissions of the process: learned once at the start, so that a missing one is reported once
//! and clearly, and is not found by requests that fail again and again.

use std::time::Duration;

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::{Api, Client, api::PostParams};
use tokio::time;

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

/// Attempts to reach the API server, which may be starting too.
const TRIES: u32 = 5;
/// Between two attempts.
const PAUSE: Duration = Duration::from_secs(2);

struct Question {
    verb: &'static str,
    group: &'static str,
    resource: &'static str,
    subresource: Option<&'static str>,
}

impl Permissions {
    /// Asks the API server (`SelfSubjectAccessReview`, which every account may create by default).
    ///
    /// # Errors
    /// The API server did not answer, [`TRIES`] times in a row.
    pub async fn learn(client: &Client) -> kube::Result<Self> {
        let question = |verb, group, resource, subresource| Question {
            verb,
            group,
            resource,
            subresource,
        };
        let list_nodes = ask(client, question("list", "", "nodes", None)).await?;
        let watch_nodes = ask(client, question("watch", "", "nodes", None)).await?;
        let logs = ask(client, question("get", "", "pods", Some("log"))).await?;
        let group = "gateway.networking.k8s.io";
        let grants = ask(client, question("list", group, "referencegrants", None)).await?;
        Ok(Self {
            nodes: list_nodes && watch_nodes,
            logs,
            grants,
        })
    }

    /// A sentence for each missing permission: what does not work without it.
    #[must_use]
    pub fn warnings(&self) -> Vec<&'static str> {
        let missing = [
            (
                self.nodes,
                "nodes may not be read: a node that is gone or does not answer is not noticed, and a claim \
                 that waits for it continues to wait",
            ),
            (
                self.logs,
                "pods' logs may not be read: the progress of a pod whose metrics cannot be \
                 reached is unknown",
            ),
            (
                self.grants,
                "ReferenceGrants may not be read: a claim that refers to another namespace is refused",
            ),
        ];
        let missing = missing.into_iter().filter(|(granted, _)| !granted);
        missing.map(|(_, sentence)| sentence).collect()
    }
}

async fn ask(client: &Client, question: Question) -> kube::Result<bool> {
    let api: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
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
    let mut tries = 1;
    loop {
        match api.create(&PostParams::default(), &review).await {
            Ok(answer) => return Ok(answer.status.is_some_and(|status| status.allowed)),
            // The cluster does not let this account ask. Every one of these permissions is
            // optional, while a watch that is refused for ever would delay the first reconcile for
            // ever.
            Err(kube::Error::Api(status)) if status.code == 403 => return Ok(false),
            Err(error) if tries == TRIES => return Err(error),
            Err(error) => {
                tracing::warn!(
                    "the API server does not answer, and the request is retried: {error}"
                );
                tries += 1;
                time::sleep(PAUSE).await;
            }
        }
    }
}
